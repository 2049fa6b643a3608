"""Time whole training steps on a GPU: seconds, images per second and peak memory for ResNet-101 at the crops of the paper.

    python results/gpu.py                        crops 321 and 513 with 16 + 16 images, 801 with 8 + 8; writes results/gpu.csv
    python results/gpu.py --device cpu --encoder resnet18 --width 4 --crops 65 --batches 4 --steps 2 --out -      to try it out

Random images and random weights: the time of a step does not depend on them, but for the regions that are accepted (here few).
"""
import statistics
import time
from dataclasses import dataclass, replace
import pandas as pd
import torch
import tyro
from corrmatch.config import ModelConfig, SystemConfig
from corrmatch.processes import Processes
from corrmatch.recipes import voc_classic_92
from corrmatch.runs import environment
from corrmatch.state import TrainState, update


@dataclass
class Arguments:
    device: str = "cuda"
    encoder: str = "resnet101"
    width: int = 64
    crops: tuple[int, ...] = (321, 513, 801)
    batches: tuple[int, ...] = (16, 16, 8)      # labelled images a step, one number for each crop
    steps: int = 10                             # timed, after three that are not
    out: str = "results/gpu.csv"                # "-": only print


SYSTEMS = {"float32": {}, "tf32": {"precision": "tf32"}, "bfloat16": {"precision": "bfloat16", "channels_last": True, "fused": True},
           "bfloat16, compiled": {"precision": "bfloat16", "channels_last": True, "fused": True, "compile": True}}


def random_batch(b: int, crop: int, device, channels_last: bool) -> dict:
    image = lambda: torch.randn(b, 3, crop, crop, device=device).to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    box = torch.zeros(b, crop, crop, dtype=torch.bool, device=device); box[:, crop // 4:crop // 2, crop // 4:crop // 2] = True
    return {"image_x": image(), "labels_x": torch.randint(21, (b, crop, crop), device=device), "image_w": image(), "image_s": image(), "valid_u": ~torch.zeros_like(box), "box": box}


def measure(a: Arguments, crop: int, batch: int, system: dict) -> dict:
    device = torch.device(a.device)
    config = replace(voc_classic_92(), batch=batch, model=ModelConfig(a.encoder, width=a.width, weights=None), system=SystemConfig(a.device, **system))
    sync = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    if device.type == "cuda": torch.cuda.empty_cache(); torch.cuda.reset_peak_memory_stats()
    state, data, times = TrainState(config, 21, Processes(device=device)), random_batch(batch, crop, device, config.system.channels_last), []
    for _ in range(a.steps + 3):
        sync(); start = time.perf_counter()
        update(state, data, config, 10**6)
        sync(); times.append(time.perf_counter() - start)
    seconds = statistics.median(times[3:])
    return {"crop": crop, "images": f"{batch} + {batch}", "seconds per step": round(seconds, 4), "images per second": round(2 * batch / seconds, 1),
            "peak memory, GB": round(torch.cuda.max_memory_allocated() / 1e9, 2) if device.type == "cuda" else float("nan")}


def main():
    a = tyro.cli(Arguments, description=__doc__)
    rows = []
    for crop, batch in zip(a.crops, a.batches):
        for name, system in SYSTEMS.items():
            try: rows.append({"setting": name} | measure(a, crop, batch, system))
            except torch.OutOfMemoryError: rows.append({"setting": name, "crop": crop, "images": f"{batch} + {batch}", "seconds per step": "out of memory"})
            print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    print(environment(), table.to_string(), sep="\n")
    if a.out != "-": table.assign(**{k: environment()[k] for k in ("device", "torch", "commit")}).to_csv(a.out, index=False)


if __name__ == "__main__": main()
