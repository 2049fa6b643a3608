"""Everything that is owed from a GPU, in at most nine minutes, most valuable first; each part writes its record at once.

    bash benchmarks/gpu.sh
    python benchmarks/gpu.py --device cpu --tiny --minutes 5      # the rehearsal, on any machine

steps     one real training step of `voc_classic_92` (16 + 16 images, ResNet-101): tf32 and bfloat16, eager and compiled
regions   Algorithm 1: the loop over shapes against the batched version, one image and sixteen
animals   VOC animals, three methods and one seed, as many steps as fit; curves (needs the folder that benchmarks/pack.py makes)
two       two processes, on a card each, train as one does
resume    a run that is killed and continued ends as one that was not

A part is a process of its own with a time limit: one that fails or hangs is recorded as such, and the next one starts.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]
CARRY = ROOT / "benchmarks" / "carry"
# seconds that a part may take, of nine minutes
LIMITS = {"steps": 165, "regions": 30, "animals": 225, "two": 60, "resume": 60}
TINY = "--model.encoder resnet18 --model.width 8 --model.channels 16 --model.low-channels 8 --model.weights None --data.crop 33"


def command(*words) -> list[str]:
    "A command of the package, with this interpreter."
    return [sys.executable, "-m", "corrmatch", *map(str, words)]


def run(words, limit: float, **kw) -> tuple[int, str]:
    "Status and the end of what a command printed; it is killed, children and all, when its time is up."
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    child = subprocess.Popen(
        list(map(str, words)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        start_new_session=True,
        **kw,
    )
    try:
        out, _ = child.communicate(timeout=max(limit, 1))
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        out, _ = child.communicate()
        return 124, out[-2000:]
    return child.returncode, out[-2000:]


def losses_of(folder: Path) -> dict[int, float]:
    "Step -> total loss, from the log of a run."
    lines = (folder / "log.csv").read_text().splitlines()
    names = lines[0].split(",")
    rows = [dict(zip(names, line.split(","))) for line in lines[1:]]
    return {int(row["step"]): float(row["total"]) for row in rows}


def apart(a: Path, b: Path) -> dict:
    "How far the losses of two runs are apart."
    one, two = losses_of(a), losses_of(b)
    return {
        "steps": len(one),
        "same_steps": one.keys() == two.keys(),
        "largest": max(abs(one[s] - two[s]) for s in one),
    }


def toy_run(place: Path, name: str, a, *more) -> list:
    "The words of a short run on the toy, the same on every call but for its name."
    tiny = TINY.split() if a.tiny else []
    words = ["train", "toy", "--method", "corrmatch", "--out", place, "--name", name, "--data.root", place / "toy"]
    words += ["--log-every", 5, "--save-every", 2, "--data.val", "None"]  # a checkpoint lies between two rows
    return [*words, *tiny, "--steps", a.toy_steps, *more]


# The parts; each returns a record, and has `limit` seconds


def steps(a, limit: float, out: Path) -> dict:
    "Supervised and CorrMatch, each way to compute."
    end, found = time.monotonic() + limit, {}
    recipe = ["--recipe", "toy" if a.tiny else "voc_classic_92"]
    shape = ["--crop", "33", "--batch", "2"] if a.tiny else ["--batch", "16"]
    ways = [("bfloat16", False), ("tf32", False), ("bfloat16", True), ("tf32", True), ("float32", False)]
    for precision, fast in ways[:1] if a.tiny else ways:
        name = f"{precision}_{'fast' if fast else 'eager'}"
        words = [sys.executable, ROOT / "benchmarks" / "steps.py", *recipe, *shape, "--device", a.device]
        words += [
            "--precision",
            precision,
            "--seconds",
            "0.05" if a.tiny else "4",
            "--methods",
            "corrmatch",
            "supervised",
        ]
        status, text = run([*words, *["--fast"] * fast, "--out", out / f"steps_{name}.json"], end - time.monotonic())
        found[name] = {"status": status} | ({} if status == 0 else {"end": text})
        if end - time.monotonic() < 10:
            break
    return found


def regions(a, limit: float, out: Path) -> dict:
    "Milliseconds of Algorithm 1 on shapes like those of a trained network, and whether both versions agree."
    words = [sys.executable, __file__, "--device", a.device, "--only-regions", out / "regions_times.json"]
    status, text = run([*words, *["--tiny"] * a.tiny], limit)
    file = out / "regions_times.json"
    return {"status": status} | ({"rows": json.loads(file.read_text())} if status == 0 else {"end": text})


def time_regions(a):
    "The work of `regions`, in a process of its own."
    import torch
    from torch.utils.benchmark import Timer
    from corrmatch.methods.corrmatch.propagation import propagate_regions, propagate_regions_reference

    rows, size, count, classes = [], 33 if a.tiny else 321, 8 if a.tiny else 128, 21
    for images in (1, 2) if a.tiny else (1, 4, 16):
        g = torch.Generator().manual_seed(0)
        y, x = torch.arange(size)[:, None], torch.arange(size)
        centres, radii = (
            torch.randint(0, size, (images, count, 2), generator=g),
            torch.randint(4, size // 3, (images, count), generator=g),
        )
        near = (y - centres[..., :1, None]).abs().maximum((x - centres[..., 1:, None]).abs())  # (B,S,H,W)
        shapes = near < radii[..., None, None]
        labels = ((y // 40 + x // 40) % classes).expand(images, -1, -1).contiguous()
        confident = torch.rand(images, size, size, generator=g) < 0.9
        given = [t.to(a.device) for t in (shapes, labels, confident)]
        row = {"images": images}
        ways = {
            "loop": lambda: propagate_regions_reference(*given, 0.8),
            "ours": lambda: propagate_regions(*given, 0.8, classes),
        }
        found = {name: way() for name, way in ways.items()}
        row["equal"] = all(torch.equal(p, q) for p, q in zip(found["loop"], found["ours"]))
        for name, way in ways.items():
            timer = Timer("way()", globals={"way": way})
            row[f"{name}_ms"] = 1000 * timer.blocked_autorange(min_run_time=0.01 if a.tiny else 1.0).median
        rows.append(row)
        a.only_regions.write_text(json.dumps(rows, indent=1))


def animals(a, limit: float, out: Path) -> dict:
    "Three methods, one seed, the same number of steps: as many as the slowest of them makes in a third of the time."
    data, weights = CARRY / "voc_animals", CARRY / "lite0.pt"
    if not data.exists() and not a.tiny:
        return {"skipped": f"{data} is not there; python benchmarks/pack.py --root VOC_ANIMALS makes it"}
    start, names = time.monotonic(), ("corrmatch", "fixmatch", "supervised")
    with TemporaryDirectory() as folder:
        place, found = Path(folder), {}

        def words(method, steps, name):
            line = [
                "train",
                "toy" if a.tiny else "voc_animals_104",
                "--method",
                method,
                "--steps",
                steps,
                "--name",
                name,
            ]
            line += ["--out", place, "--system.device", a.device, "--log-every", 5]
            if a.tiny:
                return command(*line, "--data.root", place / "toy", *TINY.split())
            line += ["--data.root", data, "--data.unlabelled", "unlabelled", "--model.weights", weights]
            return command(*line, "--data.workers", 12)

        if a.tiny:
            make_toy_data(place)
        begun, probe = time.monotonic(), 3 if a.tiny else 25
        status, text = run(words("corrmatch", probe, "probe"), limit / 3)
        if status:
            return {"status": status, "end": text}
        each = (time.monotonic() - begun) / probe  # start-up included: a rate that is kept
        left = limit - (time.monotonic() - start) - 15
        count = 4 if a.tiny else max(25, int(left / len(names) / each))
        for name in names:
            left = limit - (time.monotonic() - start)
            status, text = run(words(name, count, name), left)
            found[name] = {"status": status} | ({} if status == 0 else {"end": text})
            for kind in ("log", "scores"):
                if (file := place / name / f"{kind}.csv").exists():
                    (out / f"animals_{name}_{kind}.csv").write_bytes(file.read_bytes())
        return {"steps": count, "seconds a step of the probe": each, "methods": found}


def unsound(record) -> bool:
    "Whether a part broke: it has an error, or it or a run of it the end of an output, which is kept of failures alone."
    inner = any(unsound(value) for value in record.values() if isinstance(value, dict))
    return inner or "error" in record or "end" in record


def make_toy_data(place: Path):
    "The drawn scenes, before several runs ask for them."
    from corrmatch.data.toy import make_toy

    make_toy(place / "toy", labelled=4, unlabelled=8, val=2, size=64)


def number_of_cards(device: str) -> int:
    "How many processes could have one each; 0 on a CPU, which they share."
    import torch

    return torch.cuda.device_count() if device.startswith("cuda") else 0


def two(a, limit: float, out: Path) -> dict:
    "Losses of one process beside those of two, on a card each, whose batch together is as large."
    if number_of_cards(a.device) == 1:
        return {"skipped": "each process needs a card of its own, and there is one"}
    with TemporaryDirectory() as folder:
        place, end = Path(folder), time.monotonic() + limit
        make_toy_data(place)
        device = [
            "--system.device",
            a.device,
            "--batch",
            4,
            "--data.unlabelled",
            "unlabelled",
        ]
        one = run(command(*toy_run(place, "one", a, *device)), end - time.monotonic())
        launch = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node",
            2,
            "-m",
            "corrmatch",
        ]
        both = run([*launch, *toy_run(place, "both", a, *device)], end - time.monotonic())
        record = {"status": [one[0], both[0]]}
        if one[0] or both[0]:
            return record | {"end": [one[1], both[1]]}
        return record | apart(place / "one", place / "both")


def resume(a, limit: float, out: Path) -> dict:
    "A run killed in the middle, and continued, beside one that was left alone."
    with TemporaryDirectory() as folder:
        place, end = Path(folder), time.monotonic() + limit
        make_toy_data(place)
        device = ["--system.device", a.device, "--batch", 4, "--data.unlabelled", "unlabelled"]
        whole = run(command(*toy_run(place, "whole", a, *device)), end - time.monotonic())
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        killed = subprocess.Popen(
            list(map(str, command(*toy_run(place, "killed", a, *device)))),
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        log = place / "killed" / "log.csv"
        while killed.poll() is None and time.monotonic() < end:
            if log.exists() and len(log.read_text().splitlines()) > 1 and (place / "killed" / "last.pt").exists():
                break
            time.sleep(0.01)
        if killed.poll() is None:
            os.killpg(killed.pid, signal.SIGKILL)
        killed.wait()
        again = run(command(*toy_run(place, "killed", a, *device, "--resume")), end - time.monotonic())
        record = {"status": [whole[0], killed.returncode, again[0]]}
        if whole[0] or again[0]:
            return record | {"end": [whole[1], again[1]]}
        return record | apart(place / "whole", place / "killed")


PARTS = {f.__name__: f for f in (steps, regions, animals, two, resume)}


def device_name(device: str) -> dict:
    "What the records were made on."
    import torch

    found = {"torch": torch.__version__, "python": sys.version.split()[0]}
    if device.startswith("cuda"):
        free, total = torch.cuda.mem_get_info()
        found |= {"name": torch.cuda.get_device_name(), "memory": total, "cuda": torch.version.cuda}
    return found


def main(words=None) -> int:
    "Run the parts one after the other; 0 if none of them failed."
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--minutes", type=float, default=9.0, help="for everything together")
    p.add_argument("--parts", nargs="*", default=list(PARTS), choices=list(PARTS))
    p.add_argument("--device", default="cuda")
    p.add_argument("--out", type=Path, default=ROOT / "results" / "benchmarks" / "gpu")
    p.add_argument("--tiny", action="store_true", help="small networks: to see that it runs")
    p.add_argument("--only-regions", type=Path, help=argparse.SUPPRESS)
    a = p.parse_args(words)
    sys.path.insert(0, str(ROOT))
    a.toy_steps = 20
    if a.only_regions:
        time_regions(a)
        return 0
    import torch

    if a.device.startswith("cuda") and not torch.cuda.is_available():
        p.error("no GPU is there; --device cpu --tiny rehearses")
    a.out.mkdir(parents=True, exist_ok=True)
    start, failed = time.monotonic(), []
    total, share = 60 * a.minutes, 60 * a.minutes / sum(LIMITS[name] for name in LIMITS)
    (a.out / "machine.json").write_text(json.dumps(device_name(a.device), indent=1) + "\n")
    for name in a.parts:
        left = total - (time.monotonic() - start)
        limit, begun = min(left, LIMITS[name] * share), time.monotonic()
        print(f"{name}: at most {limit:.0f} s of the {left:.0f} s left", flush=True)
        try:
            record = PARTS[name](a, limit, a.out) if left > 5 else {"skipped": "no time was left"}
        except Exception as error:  # a part that breaks must not take the others with it
            record = {"error": f"{type(error).__name__}: {error}"}
        record = {"seconds": round(time.monotonic() - begun, 1)} | record
        (a.out / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
        print(json.dumps(record)[:600], flush=True)
        failed += [name] * unsound(record)
    print(
        f"{time.monotonic() - start:.0f} s; records in {a.out}" + (f"; failed: {', '.join(failed)}" if failed else "")
    )
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
