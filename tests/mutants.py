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
    ("losses", "valid & (p <= kth.clamp(min=self.threshold))", "valid & (p < kth.clamp(min=self.threshold))"),
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
    ("evaluation", "        if modes:\n            model.eval()\n", ""),
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
    ("evaluation", "if path.exists() and not overwrite:", "if False:"),
    ("evaluation", "if logits.isnan().any():", "if False:"),
    (
        "evaluation",
        "[0 if v == 255 else round(255 * alpha) for v in range(256)]",
        "[round(255 * alpha) for v in range(256)]",
    ),
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
    tests = [
        f"tests/{name}.py"
        for name in (MODULES[part][2], "test_edges", "test_twenty_steps")
        if (tree / "tests" / f"{name}.py").exists()
    ]
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
