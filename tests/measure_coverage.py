"""Lines and branches of the package that the notebooks and the tests run: `make coverage`.

Each notebook is run by as_module.py, so that its tests count for the module that it exports; then the tests, without those that look at the
repository and not at the package. What runs in processes of its own is counted too. The table goes to results/coverage.csv.
"""

import csv
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from frame import ROOT, notebooks

TABLE = ROOT / "results" / "coverage.csv"
# they do not run the package
APART = ("test_sync", "test_docs", "test_collection", "test_package", "test_browser", "test_lint")
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1", "PYTHONPATH": str(ROOT)}


def coverage(*words) -> bool:
    seconds = lambda: (r := resource.getrusage(resource.RUSAGE_CHILDREN)).ru_utime + r.ru_stime
    start = seconds()
    done = subprocess.run(
        [sys.executable, "-m", "coverage", *map(str, words)], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True
    )
    failed = done.returncode not in (0, 5)  # 5: all tests of the file are long drills
    print(
        f"{seconds() - start:5.0f} s of a processor  {words[-1] if words[0] == 'run' else words[0]}: "
        f"{'FAILED' if failed else 'done'}",
        flush=True,
    )
    if failed:
        print(done.stdout[-3000:], done.stderr[-3000:])
    return failed


def table() -> list[dict]:
    "A row for each module, from the combined data."
    subprocess.run([sys.executable, "-m", "coverage", "json", "-q", "-o", ".coverage.json"], cwd=ROOT, check=True)
    found = json.loads((ROOT / ".coverage.json").read_text())
    (ROOT / ".coverage.json").unlink()

    def module(file):
        path = Path(file).with_suffix("")
        return ".".join(path.parts[path.parts.index("corrmatch") + 1 :])

    def row(name, s):
        return {
            "module": name,
            "lines": s["num_statements"],
            "run": s["covered_lines"],
            "branches": s["num_branches"],
            "taken": s["covered_branches"],
            "percent": round(s["percent_covered"], 1),
        }

    return [*(row(module(f), d["summary"]) for f, d in sorted(found["files"].items())), row("all", found["totals"])]


def main(only):
    if not only:
        coverage("erase")
    bad = 0
    for path in notebooks():
        if not only or path.stem in only:
            bad += coverage("run", "tests/as_module.py", path.relative_to(ROOT))
    tests = [
        p for p in sorted((ROOT / "tests").glob("test_*.py")) if p.stem not in APART and (not only or p.stem in only)
    ]
    for path in tests:
        bad += coverage("run", "-m", "pytest", "-p", "no:cacheprovider", path.relative_to(ROOT))
    coverage("combine", "--append", "-q")
    rows = table()
    for r in rows:
        print(
            "{module:32} {run:4} of {lines:4} lines, {taken:4} of {branches:4} branches, {percent:5.1f} %".format(**r)
        )
    if not only:
        with open(TABLE, "w", newline="", encoding="utf-8") as f:
            writer = csv.DictWriter(f, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    return bad


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
