"""Break the core modules on purpose, one small change at a time, and see whether a test notices: `make mutants`.

Each mutant replaces one text in a module and in its notebook, in a copy of the tree. Its notebook is run, and if it passes the
quick tests of the module; both in a process of their own, forked from one that has loaded PyTorch. What survives is explained in EQUAL, or a test is
missing. The result is written to tests/mutants.csv.

    python tests/mutants.py              all of them
    python tests/mutants.py losses       those of a module
    python tests/mutants.py missing      those that are not in the table
"""

import contextlib
import csv
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
import hypothesis  # noqa: F401  what the forked processes need, loaded once
import matplotlib.pyplot  # noqa: F401
import nbformat
import pandas  # noqa: F401
import pytest
import safetensors.torch  # noqa: F401
import torch
import torchvision.transforms.v2  # noqa: F401
import as_module

ROOT = Path(__file__).resolve().parents[1]
TABLE = Path(__file__).with_suffix(".csv")
MODULES = {  # part -> its module, its notebook, the file of its tests
    "correlation": ("methods/corrmatch/correlation", "book/06_correlation", "test_golden_correlation"),
    "propagation": ("methods/corrmatch/propagation", "book/07_propagation", "test_golden_propagation"),
    "threshold": ("methods/corrmatch/threshold", "book/08_threshold", "test_golden_threshold"),
    "losses": ("nn/losses", "book/05_consistency", "test_golden_losses"),
    "objective": ("methods/corrmatch/method", "book/09_objective", "test_golden_losses"),
    "evaluation": ("engine/evaluation", "book/11_evaluation", "test_golden_evaluation"),
}
METHODS = [  # methods with a page of their own: their tests are those of all methods, with this name
    "supervised",
    "fixmatch",
    "unimatch",
    "mean_teacher",
    "cutmix_seg",
    "augseg",
    "cps",
    "ccvc",
    "gta",
    "fst",
    "ps_mt",
    "st_plus_plus",
    "cac",
    "u2pl",
    "pcr",
    "pc2seg",
    "cct",
    "gct",
    "eln",
    "pseudoseg",
    "ael",
]
MODULES |= {name: (f"methods/{name}", f"methods/{name}", "test_methods") for name in METHODS}
MUTANTS = [  # part, what stands there, what is put there
    ("correlation", "(w1[:, :, index] / w1.shape[1] ** 0.5)", "(w1[:, :, index] / w1.shape[1])"),
    ("correlation", "return scores.softmax(-1)", "return scores.softmax(-2)"),
    ("correlation", "        w1, w2 = at_least_float32(w1, w2)\n", ""),
    (
        "correlation",
        'up[:, None], tuple(size), mode="bilinear", align_corners=True)',
        'up[:, None], tuple(size), mode="bilinear", align_corners=False)',
    ),
    ("correlation", "half = ((high - low) / 2)", "half = ((high - low) / 3)"),
    ("correlation", "torch.gt(up.sub_(low), half, out=shape)", "torch.ge(up.sub_(low), half, out=shape)"),
    ("correlation", "rounding = 16 *", "rounding = 0 *"),
    ("correlation", "torch.randint(positions, (count,)", "torch.randint(positions - 1, (count,)"),
    ("correlation", "correlation_map(w1, w2)))", "correlation_map(w2, w1)))"),
    ("correlation", "at_least_float32(logits.detach())", "at_least_float32(logits)"),
    (
        "correlation",
        "w1[shapes_of].detach(), w2[shapes_of].detach(),",
        "w2[shapes_of].detach(), w1[shapes_of].detach(),",
    ),
    ("correlation", "0 <= index.min() <= index.max() < positions", "0 <= index.min() <= index.max() <= positions"),
    ("propagation", "return logits @ corr_map", "return logits @ corr_map.mT"),
    ("propagation", "eight in shapes.split(8, 1)", "eight in shapes.flip(1).split(8, 1)"),
    ("propagation", "pattern + offset, one", "pattern + 0 * offset, one"),
    ("propagation", "return (rest + counted).flatten(1)", "return rest.flatten(1)"),
    ("propagation", "(confident > 0) & (total / area.float()", "(confident >= 0) & (total / area.float()"),
    ("propagation", "(total / area.float() >= threshold)", "(total / area.float() > threshold)"),
    ("propagation", "(total / area.float() >= threshold)", "(total / (area.float() + 1) >= threshold)"),
    ("propagation", "~(least.float() / total > threshold)", "~(least.float() / total >= threshold)"),
    ("propagation", "single = float(np.float32(float(threshold)))", "single = float(threshold)"),
    ("propagation", "need.T[:, :, None] - 1, (0", "need.T[:, :, None], (0"),
    ("propagation", "votes[:, :, -1] = need", "votes[:, :, -1] = need + 1"),
    ("propagation", "scatter_add_(1, group, counted)[:, None]", "scatter_add_(1, group, counted * 0 + 1)[:, None]"),
    ("propagation", "now = groups.gather(1, group)", "groups.gather(1, group)"),
    ("propagation", "mask = confident | (", "mask = ("),
    (
        "threshold",
        "return confidence.masked_fill(~valid, -torch.inf), labels",
        "return confidence.masked_fill(~valid, 0.), labels",
    ),
    ("threshold", 'rows, "amax").amax(0)', 'rows, "amax").amin(0)'),
    ("threshold", "self.momentum * old + (1 - self.momentum) * new", "(1 - self.momentum) * old + self.momentum * new"),
    (
        "threshold",
        "self.value = self.average(self.value, maxima.mean().item())",
        "self.value = self.average(self.value, maxima.max().item())",
    ),
    (
        "threshold",
        "self.value = self.average(self.value, maxima.max().item())",
        "self.value = self.average(self.value, maxima.mean().item())",
    ),
    ("threshold", "return maxima[maxima > -torch.inf]", "return maxima[maxima >= -torch.inf]"),
    (
        "threshold",
        "        if count:\n            self.value = self.average(self.value, total / count)",
        "        self.value = self.average(self.value, total / max(count, 1))",
    ),
    ("threshold", "self.value = torch.where(count > 0,", "self.value = torch.where(count >= 0,"),
    ("threshold", "local / local.max().clamp(min=1e-12) * self.overall", "local / local.max().clamp(min=1e-12)"),
    ("threshold", "if maxima.isnan().any():", "if False:"),
    ("threshold", "local[seen] = self.average(local[seen], maxima)", "local[seen] = maxima"),
    ("threshold", 'if state.get("kind") != type(self).__name__:', "if False:"),
    ("losses", 'ignore_index=IGNORE, reduction="none")', 'ignore_index=-100, reduction="none")'),
    ("losses", "n = valid.sum() if count is None", "n = mask.sum() if count is None"),
    ("losses", "return values.masked_fill(~mask, 0).sum() /", "return values.sum() /"),
    ("losses", "/ n.where(n > 0, 1)", "/ n"),
    (
        "losses",
        "student_logits.log_softmax(1), teacher.log_softmax(1),",
        "teacher.log_softmax(1), student_logits.log_softmax(1),",
    ),
    ("losses", "distance = -(teacher.softmax(1)", "distance = (teacher.softmax(1)"),
    ("losses", "teacher = teacher_logits.detach()", "teacher = teacher_logits"),
    ("losses", "valid & (p <= kth", "valid & (p < kth"),
    ("losses", "kth.clamp(min=self.threshold)", "kth.clamp(max=self.threshold)"),
    ("losses", "return mean_over(losses, keep, keep, count)", "return mean_over(losses, keep, valid, count)"),
    (
        "objective",
        'terms["unsup_hard"] = masked_cross_entropy(s.logits, p.labels, p.mask,',
        'terms["unsup_hard"] = masked_cross_entropy(s.logits, p.labels, p.confident,',
    ),
    (
        "objective",
        "masked_cross_entropy(w.perturbed, p.labels_w, p.confident_w, p.valid_w",
        "masked_cross_entropy(w.perturbed, p.labels, p.mask, p.valid",
    ),
    ("objective", "soft_loss(s.logits, w.logits, p.confident,", "soft_loss(s.logits, w.logits, p.mask,"),
    ("objective", 'terms["unsup_corr"] = sum(parts.values()) / 2', 'terms["unsup_corr"] = sum(parts.values())'),
    ("objective", "cls(unsup_hard=hard / 2, unsup_fp=hard / 2,", "cls(unsup_hard=hard, unsup_fp=hard,"),
    ("evaluation", "(rows * num_classes + columns)", "(columns * num_classes + rows)"),
    ("evaluation", ".masked_fill(~known, num_classes**2)", ".masked_fill(~known, 0)"),
    ("evaluation", "(self.matrix.sum(0) + self.matrix.sum(1) - hit)", "(self.matrix.sum(0) + self.matrix.sum(1))"),
    ("evaluation", "return self.iou.nanmean().item()", "return self.iou.nan_to_num(0).mean().item()"),
    ("evaluation", "step = max(size * 2 // 3, 1)", "step = max(size, 1)"),
    (
        "evaluation",
        "p = logits.softmax(1, dtype=torch.promote_types(logits.dtype, torch.float32))",
        "p = logits.to(torch.promote_types(logits.dtype, torch.float32))",
    ),
    ("evaluation", "total[..., y : y + h, x : x + w] += p", "total[..., y : y + h, x : x + w] = p"),
    ("evaluation", "max((side - size) // 2, 0)", "max(side - size, 0)"),
    ("evaluation", "                module.training = False\n", ""),
    (
        "evaluation",
        "            module.training = training",
        "            module.training = True",
    ),
    (
        "evaluation",
        'item["labels"].masked_fill(item["labels"] == classes.ignore_index, matrix.ignore_index)',
        'item["labels"]',
    ),
    ("evaluation", "(labels < 0) | (labels >= num_classes)", "(labels < 0) | (labels > num_classes)"),
    ("evaluation", "if logits.isnan().any():", "if False:"),
    (
        "evaluation",
        "[0 if v == 255 else round(255 * alpha) for v in range(256)]",
        "[round(255 * alpha) for v in range(256)]",
    ),
    ("supervised", "return self.supervised_alone(batch, clock)", "return self.supervised_alone(batch, clock, 2.0)"),
    ("fixmatch", "(confidence >= self.config.threshold) & valid", "(confidence < self.config.threshold) & valid"),
    ("fixmatch", "logits_s, labels, confident, valid, clock", "logits_s, labels, confident, confident, clock"),
    ("fixmatch", 'self.net(mix(batch["image_s"], batch["image_s_mix"], batch["box"]))', 'self.net(batch["image_s"])'),
    ("fixmatch", 'mix(batch["valid_u"], batch["valid_mix"], box)', 'batch["valid_u"]'),
    ("unimatch", "for box in boxes]", "for box in boxes[::-1]]"),
    ("unimatch", "masked_cross_entropy(perturbed[1],", "masked_cross_entropy(perturbed[0],"),
    ("unimatch", '"unsup_s2": c.strong, "unsup_fp": c.fp}', '"unsup_s2": c.fp, "unsup_fp": c.strong}'),
    ("mean_teacher", 'self.net(batch["image_w"])]).softmax(1)', 'self.net(batch["image_w"])]).softmax(2)'),
    ("mean_teacher", "self.net, self.config.momentum)", "self.net, self.config.momentum, buffers=True)"),
    ("mean_teacher", "self.net, self.config.momentum)", "self.net, 1 - self.config.momentum)"),
    ("cutmix_seg", ".square().sum(1)", ".square().mean(1)"),
    ("cutmix_seg", "target.amax(1) >= c.threshold", "target.amax(1) < c.threshold"),
    ("cutmix_seg", "else share * loss, share", "else loss, share"),
    ("cutmix_seg", "self.config.momentum, buffers=True)", "self.config.momentum)"),
    ("augseg", 'batch["draw_x"] > self.score(logits)', 'batch["draw_x"] < self.score(logits)'),
    ("augseg", "confident, torch.ones_like(confident)", "confident, confident"),
    ("augseg", "clock.epoch < self.config.copy_epochs", "clock.epoch <= self.config.copy_epochs"),
    ("augseg", "* (1 - entropy)", "* entropy"),
    ("cps", "pixel_cross_entropy(logits[0], labels[1])", "pixel_cross_entropy(logits[0], labels[0])"),
    ("cps", "[mix(label(n, image), label(n, second), box)", "[label(n, image)"),
    ("ccvc", "zip(logits, labels.flip(1)", "zip(logits, labels"),
    ("ccvc", "a.detach(), b).mean()", "a, b).mean()"),
    ("ccvc", "torch.where(conflict & certain,", "torch.where(conflict,"),
    ("ccvc", "with eval_mode(self):", "with torch.no_grad():"),
    ("gta", "weights.masked_fill(~valid, 0).sum()", "weights.masked_fill(~kept, 0).sum()"),
    ("gta", "if name not in self.net.last_layers:", "if name in self.net.last_layers:"),
    ("gta", "pseudo_label(self.teacher(images)[b:])", "pseudo_label(frozen_logits(self.teacher, images)[b:])"),
    ("gta", "warm_momentum(done, c.representation)", "warm_momentum(done + 1, c.representation)"),
    ("fst", "            self.now.restore()\n", ""),
    (
        "fst",
        'else ())\n            self.inner.after("main", clock)\n',
        "else ())\n",
    ),
    ("fst", "t.roll(-1, 0)", "t.roll(1, 0)"),
    ("fst", "(1 - clock.epoch * clock.per_epoch / clock.total)", "clock.epoch * clock.per_epoch / clock.total"),
    ("ps_mt", 'features["high"] + r}', 'features["high"]}'),
    ("ps_mt", "loss = confidence * pixel_cross_entropy", "loss = pixel_cross_entropy"),
    ("ps_mt", "return clock.epoch % 2, 1 - clock.epoch % 2", "return 0, 1"),
    ("ps_mt", "with eval_mode(self.teachers):", "if True:"),
    ("ps_mt", "mean_over(loss, confident, confident, clock", "mean_over(loss, confident, valid, clock"),
    ("st_plus_plus", 'count((batch["labels_u"] != IGNORE).sum())', 'count((batch["labels_u"] >= 0).sum())'),
    ("st_plus_plus", "self.config.weight * count(", "count("),
    ("st_plus_plus", "self.share if self.select else 1.0", "1.0 if self.select else self.share"),
    ("cac", "(own[:, -1] < other[:, -1])", "(own[:, -1] > other[:, -1])"),
    ("cac", "other[chosen].detach()", "other[chosen]"),
    ("cac", "negatives[:, -1] != a[:, -2:-1]", "negatives[:, -1] == a[:, -2:-1]"),
    ("cac", "(clock.dist.world * clock.parts), 1)", "clock.dist.world, 1)"),
    ("u2pl", "(rank >= c.low_rank) & (rank < c.high_rank)", "(rank < c.low_rank)"),
    ("u2pl", "centre = F.normalize(features[found], dim=1), F", "centre = F.normalize(against[found], dim=1), F"),
    ("u2pl", "pseudo, kept, kept, clock", "pseudo, kept, valid, clock"),
    ("u2pl", "warm_momentum(done, ", "warm_momentum(clock.step, "),
    ("pcr", "kept = kept & (confidence >= c.threshold)", "kept = kept"),
    ("pcr", "labels.masked_fill(~kept, IGNORE)", "labels"),
    ("pcr", "labels = self.prototypes.known(labels)\n", "pass\n"),
    ("pcr", "self.config.momentum, buffers=True)", "self.config.momentum)"),
    ("pc2seg", "logits_w.detach().softmax(1)", "logits_w.softmax(1)"),
    ("pc2seg", "(others != known[:, None])", "(others == known[:, None])"),
    ("pc2seg", ".square().sum(1), valid", ".square().mean(1), valid"),
    ("cct", 'stages["classifier"].detach()', 'stages["classifier"]'),
    ("cct", "for z in seen) / len(kinds)", "for z in seen)"),
    ("cct", "(-losses.detach()).exp() < threshold", "(-losses.detach()).exp() > threshold"),
    ("cct", '"context": lambda decoder: features * objects', '"context": lambda decoder: features * ~objects'),
    ("gct", "(p[0], p[1], used[1] < used[0])", "(p[0], p[1], used[1] > used[0])"),
    ("gct", "(both * f**2).mean()", "(both * f).mean()"),
    ("gct", "frozen(self.detector, images, q)", "self.detector(images, q)"),
    ("gct", "torch.where(better[:, None], other, q).detach()", "torch.where(better[:, None], other, q)"),
    ("gct", "<= floor, 0)", "< floor, 0)"),
    ("eln", "(n_right / n_wrong.where(n_wrong > 0, 1))", "(n_wrong / n_right.where(n_right > 0, 1))"),
    ("eln", "known = {name: f[: len(x)].detach() for", "known = {name: f[: len(x)] for"),
    ("eln", "bool(auxiliary >= gate * main)", "bool(auxiliary < gate * main)"),
    ("eln", "follow(self.net, self.teacher, 0.0)", "follow(self.net, self.teacher, 1.0)"),
    ("pseudoseg", "2 - maps.amax(1, keepdim=True)", "2 + maps.amax(1, keepdim=True)"),
    ("pseudoseg", "sigmoid() >= 0.5", "sigmoid() < 0.5"),
    ("pseudoseg", "target, kept, kept,", 'target, kept, batch["valid_u"],'),
    ("pseudoseg", "third.detach(), high.detach()", "third, high"),
    ("ael", "gap / gap.max()", "bank / bank.max()"),
    ("ael", "self.drawable((1 - self.bank).sqrt())", "self.drawable(1 - self.bank)"),
    ("ael", "1 - self.config.bank_momentum", "self.config.bank_momentum"),
    ("ael", "self.teacher(torch.cat([batch[name]", "self.net(torch.cat([batch[name]"),
    ("ael", "allowed[i] &= not same", "allowed[i] &= True"),
]
EQUAL = {  # mutants that no test can tell apart, and why
    ("propagation", "(confident >= 0) & (total / area.float()"): "at threshold 0 a shape without votes needs one and "
    "has none",
}


def copy_everything(target: Path):
    "A copy without environment, runs and history."
    skip = shutil.ignore_patterns(".*", "runs", "_build", "__pycache__", "results", "index_files")
    return Path(shutil.copytree(ROOT, target / "tree", ignore=skip))


def places(tree: Path, part: str) -> tuple[Path, Path]:
    "Module and notebook of a part."
    module, book, _ = MODULES[part]
    return tree / "corrmatch" / f"{module}.py", tree / "nbs" / f"{book}.ipynb"


def mutate(tree: Path, part: str, old: str, new: str):
    "Put the change into the module and into the exported cell of its notebook."
    module, book = places(tree, part)
    text, nb = module.read_text(), nbformat.read(book, 4)
    cells = [
        c
        for c in nb.cells
        if c.cell_type == "code" and c.source.lstrip().startswith("#| export") and old in c.source + "\n"
    ]
    if text.count(old) != 1 or len(cells) != 1:
        raise SystemExit(
            f"{part}: {old!r} stands {text.count(old)} times in the module and in {len(cells)} cells; it has to be once"
        )
    module.write_text(text.replace(old, new))
    cells[0]["source"] = (cells[0].source + "\n").replace(old, new).removesuffix("\n")
    nbformat.write(nb, book)
    return book


def fails(tree: Path, call, limit: float = 1200) -> str:
    "Run a call in a process of its own, on the copy; what it printed if it failed, else nothing."
    log = tree / "log.txt"
    if not (pid := os.fork()):
        with open(log, "w") as f, contextlib.redirect_stdout(f), contextlib.redirect_stderr(f):
            try:
                sys.path[:] = [
                    str(tree),
                    str(tree / "tests"),
                    *(p for p in sys.path if Path(p).resolve() not in (ROOT, ROOT / "tests")),
                ]
                code = call()
            except BaseException as error:
                print(repr(error))
                code = 1
        os._exit(code or 0)
    end = time.time() + limit
    while time.time() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return log.read_text() or "?" if status else ""
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "it did not end"


def run_book(tree: Path, book: Path):
    os.chdir(book.parent)
    as_module.ROOT = tree
    as_module.run(book)


def noticed(tree: Path, part: str, book: Path) -> str:
    "Who notices: the notebook, a test, or nobody."
    if fails(tree, lambda: run_book(tree, book)):
        return "notebook"
    names = [MODULES[part][2]] + (["test_edges", "test_twenty_steps"] if part not in METHODS else [])
    tests = [f"tests/{name}.py" for name in names if (tree / "tests" / f"{name}.py").exists()]
    tests += ["-k", f"{part} and not supervised_one"] if part in METHODS else []
    said = fails(tree, lambda: (os.chdir(tree), pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests]))[1])
    return (
        next(
            (
                line.split("::")[1].split(" ")[0].split("[")[0]
                for line in said.splitlines()
                if line.startswith("FAILED")
            ),
            "a test",
        )
        if said
        else "nobody"
    )


def read_table() -> list[dict]:
    "What is known of the mutants that there still are."
    known = list(csv.DictReader(open(TABLE, encoding="utf-8"))) if TABLE.exists() else []
    place = {key(*m): i for i, m in enumerate(MUTANTS)}
    return sorted((r for r in known if tuple(r.values())[:3] in place), key=lambda r: place[tuple(r.values())[:3]])


def key(part, old, new):
    return part, old.strip(), new.strip() or "(nothing)"


def write_table(rows):
    with open(TABLE, "w", newline="", encoding="utf-8") as f:
        writer = csv.DictWriter(
            f, ["module", "stands there", "mutant", "noticed by", "explanation"], lineterminator="\n"
        )
        writer.writeheader()
        writer.writerows(rows)


def main(words):
    torch.set_num_threads(1)
    start, known = time.time(), {tuple(r.values())[:3] for r in read_table()}
    chosen = [m for m in MUTANTS if (key(*m) not in known if words == ["missing"] else not words or m[0] in words)]
    with TemporaryDirectory() as folder:
        tree = copy_everything(Path(folder))
        for part in sorted({m[0] for m in chosen}):
            if said := fails(tree, lambda: run_book(tree, places(tree, part)[1])):
                raise SystemExit(f"{part} fails without any change: {said[-2000:]}")
            print(f"{time.time() - start:6.0f} s  {part}: unchanged", flush=True)
        for part, old, new in chosen:
            module, book = places(tree, part)
            before = module.read_bytes(), book.read_bytes()
            by = noticed(tree, part, mutate(tree, part, old, new))
            module.write_bytes(before[0]), book.write_bytes(before[1])
            row = dict(zip(("module", "stands there", "mutant"), key(part, old, new))) | {
                "noticed by": by,
                "explanation": EQUAL.get((part, new), "") if by == "nobody" else "",
            }
            write_table([r for r in read_table() if tuple(r.values())[:3] != key(part, old, new)] + [row])
            print(
                f"{time.time() - start:6.0f} s  {part}: {old.strip()[:60]} -> {new.strip()[:60] or '(nothing)'}: {by}",
                flush=True,
            )
    rows = read_table()
    write_table(rows)
    unnoticed = [r for r in rows if r["noticed by"] == "nobody"]
    survivors = [r for r in unnoticed if not r["explanation"]]
    print(
        f"{len(rows)} of {len(MUTANTS)} mutants tried: {len(rows) - len(unnoticed)} noticed, "
        f"{len(unnoticed) - len(survivors)} equal by explanation, {len(survivors)} survive"
    )
    return bool(survivors)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
