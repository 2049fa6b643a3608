"""Figures 5, 7 and 8 of the paper from the logs of runs, and the command that draws every figure"""

import json
from pathlib import Path
from typing import NamedTuple
import pandas as pd
from matplotlib import pyplot as plt
from corrmatch.engine.config import Config, from_dict
from reproduction.pictures import fig3, fig4, fig6, fig9
from reproduction.step_picture import fig2
from reproduction.runs import ALONE, RUNS, change, recipes_here, row_config, run_row
from corrmatch.engine.runs import read_log


class Logged(NamedTuple):
    "The files of a run."

    folder: Path
    config: Config
    log: pd.DataFrame
    scores: pd.DataFrame
    counts: pd.DataFrame | None  # pseudo_labels.csv; None: an old run, or a method without pseudo-labels

    @property
    def kind(self) -> str:
        m = self.config.method
        if m.name != "corrmatch":
            return m.name
        if m.threshold == "fixed":
            return "fixed"
        if not m.pixel:
            return "without matching"
        return "ours" if m.threshold == "dynamic" and m.region else "another row of a table"


def logged(
    run,  # run folder; its text files suffice
) -> Logged:
    "Read the files of a run."
    run = Path(run)
    if not (run / "config.json").exists():
        raise FileNotFoundError(f"{run}: there is no config.json; give the folder of a run")
    config = from_dict(Config, json.loads((run / "config.json").read_text(encoding="utf-8")))
    return Logged(
        run,
        config,
        read_log(run),
        read_log(run, "scores.csv"),
        read_log(run, "pseudo_labels.csv") if (run / "pseudo_labels.csv").exists() else None,
    )


def of_kind(
    runs: list[Logged],
    kind: str,
    figure: str,
) -> Logged:
    "The first run of a kind."
    found = [r for r in runs if r.kind == kind]
    if not found:
        raise ValueError(
            f"{figure} needs a run of the kind '{kind}'; given are "
            f"{', '.join(f'{r.folder} ({r.kind})' for r in runs) or 'none'}"
        )
    return found[0]


def need_counts(run: Logged) -> pd.DataFrame:
    "The pseudo-labels that the run would give to its validation images, counted."
    if run.counts is None:
        raise ValueError(
            f"{run.folder}: there is no pseudo_labels.csv, so the run was made by an earlier version; train it "
            "again under another --name"
        )
    return run.counts


# how a kind of run is drawn, in all figures
LINES = {"ours": {"color": "#d1495b", "lw": 1.8}, "without matching": {"color": "#30638e", "lw": 1.5}}


def shade(i: int, n: int):
    "The colour of line i of n."
    return plt.cm.viridis(0.85 * i / max(n - 1, 1))


def finish_axes(fig, ylabels: list[str]):
    "Labels, letters and legends of a row of panels."
    for ax, letter, ylabel in zip(fig.axes, "abcd", ylabels):
        ax.set(xlabel=ax.get_xlabel() or "step", ylabel=ylabel)
        ax.set_title(f"({letter}) " * (len(fig.axes) > 1) + ax.get_title(), fontsize=8)
        ax.tick_params(labelsize=7)
        ax.xaxis.label.set_size(8)
        ax.yaxis.label.set_size(8)
        if ax.get_legend_handles_labels()[1]:
            ax.legend(fontsize=6, framealpha=0.7)
    fig.tight_layout(pad=0.6)
    return fig


def fig7(
    runs,  # run folders: one with matching, one without
    root=None,
    which="last",  # not used: the logs say it all
):
    "Figure 7: selection ratio, pixel accuracy, and confident and right pixels, with and without matching."
    read = [logged(r) for r in runs]
    fig, axes = plt.subplots(1, 3, figsize=(9, 2.7))
    for kind, name in (("ours", "with matching"), ("without matching", "without")):
        r = of_kind(read, kind, "fig7")
        t = need_counts(r)
        for ax, column in zip(axes, (t["mask_ratio"], r.scores["accuracy"], t["correct_ratio"])):
            ax.plot(column.index, 100 * column, "o-", ms=3, label=name, **LINES[kind])
    for ax, title in zip(axes, ("selection ratio", "pixel accuracy", "confident and right")):
        ax.set_title(title)
    return finish_axes(fig, ["% of the validation pixels"] * 3)


def fig8(
    runs,  # run folders: ours, and some with fixed thresholds
    root=None,
    which="last",
):
    "Figure 8: share of confident pixels over the training, for fixed thresholds and ours, a panel for each split."
    read = [r for r in map(logged, runs) if r.kind in ("ours", "fixed")]
    of_kind(read, "ours", "fig8"), of_kind(read, "fixed", "fig8")
    splits = list(dict.fromkeys(r.config.data.labelled for r in read))
    fig, axes = plt.subplots(1, len(splits), figsize=(max(4.5, 3 * len(splits)), 2.9), squeeze=False)
    for ax, split in zip(axes[0], splits):
        lines = sorted(
            (r for r in read if r.config.data.labelled == split),
            key=lambda r: (r.kind == "ours", r.config.method.threshold_init),
        )
        for i, r in enumerate(lines):
            style = LINES["ours"] if r.kind == "ours" else {"color": shade(i, len(lines)), "lw": 1.2}
            ax.plot(
                100 * r.log["confident_ratio"].rolling(5, min_periods=1).mean(),
                label="ours" if r.kind == "ours" else f"fixed {r.config.method.threshold_init:g}",
                **style,
            )
        ax.set(title=f"labelled: {split}" if len(splits) > 1 else "mask ratio", ylim=(0, 102))
    return finish_axes(fig, ["confident, % of the unlabelled pixels"] + [""] * 3)


def panel_a(ax, read: list[Logged]):
    "Thresholds from different initial values."
    lines = sorted((r for r in read if r.kind == "ours"), key=lambda r: r.config.method.threshold_init)
    for i, r in enumerate(lines):
        m = r.config.method
        start = pd.concat([pd.Series({0: m.threshold_init}), r.log["tau"]])
        ax.plot(
            start,
            label=f"from {m.threshold_init:g}, λ={m.threshold_momentum:g}",
            color=shade(i, len(lines)),
            lw=1.4,
            ls="-" if m.threshold_momentum < 0.999 else "--",
        )
    ax.set_title("threshold τ")


def panel_b(ax, read: list[Logged]):
    "Shares of the pixels that supervise, in the training."
    smooth = lambda column: 100 * column.rolling(5, min_periods=1).mean()
    ours, without = of_kind(read, "ours", "fig5"), of_kind(read, "without matching", "fig5")
    ax.plot(smooth(ours.log["mask_ratio"]), label="with, after regions", **LINES["ours"])
    ax.plot(smooth(ours.log["confident_ratio"]), label="with, pixels alone", **LINES["ours"] | {"ls": ":"})
    ax.plot(smooth(without.log["confident_ratio"]), label="without", **LINES["without matching"])
    ax.set_title("mask ratio, unlabelled images")


def panel_c(ax, read: list[Logged]):
    "Pseudo-label accuracy."
    for kind, name in (("ours", "with matching"), ("without matching", "without")):
        t = need_counts(of_kind(read, kind, "fig5"))
        ax.plot(100 * (t["correct_ratio"] / t["mask_ratio"]), "o-", ms=3, label=name, **LINES[kind])
    ax.set_title("pseudo-label accuracy, validation")


def panel_d(ax, read: list[Logged]):
    "Fixed thresholds against ours."
    bars = {
        f"{r.config.method.threshold_init:g}": r
        for r in sorted((r for r in read if r.kind == "fixed"), key=lambda r: r.config.method.threshold_init)
    }
    bars["ours"] = of_kind(read, "ours", "fig5")
    values = [100 * r.scores["miou"].iloc[-1] for r in bars.values()]
    marks = ax.bar(list(bars), values, color=["0.65"] * (len(bars) - 1) + [LINES["ours"]["color"]])
    ax.bar_label(marks, fmt="%.1f", fontsize=7)
    ax.set(xlabel="fixed threshold", ylim=(0, 1.15 * max(values)))
    ax.set_title("fixed against ours")


def fig5(
    runs,  # run folders: ours first, then others of ours with other starts, one without matching, some with fixed thresholds
    root=None,
    which="last",
):
    "Figure 5: the threshold from different starts, what is selected and right, fixed thresholds against ours."
    read = [logged(r) for r in runs]
    kinds, main = [r.kind for r in read], of_kind(read, "ours", "fig5")
    pair = "without matching" in kinds
    panels = [
        (panel_a, "τ", kinds.count("ours") > 1),
        (panel_b, "% of the pixels", pair),
        (
            panel_c,
            "% of the confident pixels",
            pair and all(r.counts is not None for r in read if r in (main,) or r.kind == "without matching"),
        ),
        (panel_d, "mIoU, %", "fixed" in kinds),
    ]
    drawn = [(panel, ylabel) for panel, ylabel, there in panels if there]
    if not drawn:
        raise ValueError(
            f"fig5 needs more than {runs[0]}: runs that start elsewhere (a), one without matching (b, c), "
            "or some with fixed thresholds (d)"
        )
    rows = 1 + (len(drawn) > 3)
    fig, axes = plt.subplots(
        rows, -(-len(drawn) // rows), figsize=(9 if len(drawn) > 1 else 4.5, 2.9 * rows), squeeze=False
    )
    for ax, (panel, _) in zip(axes.flat, drawn):
        panel(ax, read)
    return finish_axes(fig, [ylabel for _, ylabel in drawn])


FIGURES = {f.__name__: f for f in (fig2, fig3, fig4, fig5, fig6, fig7, fig8, fig9)}  # name -> function of run folders

STARTS, FIXED = (0.5, 0.95), (0.7, 0.9)
OWN_RUNS = {
    **{f"init_{t:.2f}": {"method.threshold_init": t, "method.threshold_momentum": 0.99} for t in STARTS},
    **{f"weak_to_strong_{t:.2f}": ALONE | {"method.threshold": "fixed", "method.threshold_init": t} for t in FIXED},
}
FIXED_RUNS = (*(f"weak_to_strong_{t:.2f}" for t in FIXED), "fixed_weak_to_strong")
NEEDS = {name: ("corrmatch",) for name in FIGURES} | {
    "fig5": ("corrmatch", "momentum_0.99", *(f"init_{t:.2f}" for t in STARTS), "weak_to_strong", *FIXED_RUNS),
    "fig7": ("corrmatch", "weak_to_strong"),
    "fig8": ("corrmatch", *FIXED_RUNS),
}


def figure_config(
    recipe: str,
    run: str,  # a name in NEEDS
    **options,  # of row_config
) -> Config:
    "The settings of one run that a figure needs."
    config = row_config(recipe, run if run in RUNS else "corrmatch", **options)
    return config if run in RUNS else change(config, OWN_RUNS[run] | {"name": config.name.replace("corrmatch", run)})


def reproduce_figure(
    name: str,  # fig2 to fig9
    runs=(),  # run folders; none: those that the figure needs are trained
    out=None,  # the PNG; None: HOME/figures/NAME.png, where it replaces an earlier one
    scale: str = "toy",  # toy, camvid or voc: what is trained
    steps: int | None = None,  # fewer steps, to try it out
    root=None,  # folder of the dataset
    which: str = "last",  # last or best checkpoint
    home="runs",  # folder of runs and figures
    progress: bool = False,
) -> Path:
    "Draw a figure of the paper; train the runs that it needs, or go on with them, unless some are given."
    if name not in FIGURES:
        raise ValueError(
            f"there is no figure {name!r} here; choose one of {', '.join(FIGURES)} (fig1 belongs to the tables)"
        )
    if out and Path(out).exists():
        raise FileExistsError(f"{out}: there is such a file already; choose another --out")
    if not runs:
        recipe = "voc_classic_1464" if scale == "voc" else recipes_here("table6", scale)[0]
        folder = Path(home) / ("reproduce" if steps is None else f"reproduce_{steps}_steps")
        runs = [
            run_row(figure_config(recipe, run, out=folder, root=root, steps=steps), progress=progress)
            for run in NEEDS[name]
        ]
    path = Path(out or Path(home) / "figures" / f"{name}.png")
    fig = FIGURES[name](runs, root=root, which=which)
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, dpi=90, bbox_inches="tight")
    plt.close(fig)
    return path
