#!/usr/bin/env bash
# The figures that need a GPU with 80 GB: about half an hour. From anywhere, after `make install`:
#     bash results/bench/gpu.sh
# Each run leaves a JSON file and a picture in results/bench; then the figures that are owed are printed. What is there already is not run again.
set -eu
cd "$(dirname "$0")/../.."
run() {
    [ -e "results/bench/$1.json" ] && { echo "== $1: is there"; return; }
    echo "== $1"
    .venv/bin/corrmatch bench --device cuda --out "results/bench/$1.json" --picture "results/bench/$1.png" "${@:2}" || echo "== $1 failed"
}
fast=(--precision bfloat16 --channels-last --fused --compile)

# ResNet-101, crop 321, 16 + 16 images: float32 as it stands, and with everything that a GPU likes.
# In both: Algorithm 1 beside its literal loop (128 shapes, 21 classes), and where the host waits.
run gpu_float32 --encoder resnet101 --crop 321 --batch 16 --steps 10
run gpu_tf32 --encoder resnet101 --crop 321 --batch 16 --steps 10 --precision tf32 --skip-literal
run gpu_bf16 --encoder resnet101 --crop 321 --batch 16 --steps 10 "${fast[@]}"
run gpu_513 --encoder resnet101 --crop 513 --batch 16 --steps 10 "${fast[@]}" --skip-literal

# Cityscapes: peak memory of the correlation (2 + 2 images), and of a step of 8 + 8 images.
run gpu_801 --encoder resnet101 --crop 801 --batch 2 --classes 19 --steps 3 "${fast[@]}"
run gpu_801_8 --encoder resnet101 --crop 801 --batch 8 --classes 19 --steps 3 "${fast[@]}" --skip-literal

.venv/bin/python - <<'PYTHON'
import json
from pathlib import Path
from corrmatch.benchmarks.bench import utilisation
reports = {p.stem: json.loads(p.read_text()) for p in sorted(Path("results/bench").glob("gpu_*.json"))}
seconds = {name: r["whole"]["step in parts"] for name, r in reports.items()}
for name, r in reports.items():
    print(f"{name}: step {1e3 * seconds[name]:.0f} ms; {utilisation(r):.0%} of a large product ({r['speed']['flops'] / 1e12:.0f} TFLOP/s); peak memory {r['memory']['peak'] / 1e9:.1f} GB, by formula {r['memory']['predicted'] / 1e9:.1f} GB; {len(r['waits'])} waits")
    if found := r["references"].get("region propagation"):
        print(f"    region propagation {1e3 * found['seconds']:.1f} ms, {found['seconds'] / seconds[name]:.1%} of the step; literal loop {found['literal_seconds'] / found['seconds']:.0f} times as long; agreement {found['agreement']:.0%}")
    if found := r["references"].get("correlation and shapes"):
        print(f"    correlation and shapes: peak {found['peak'] / 1e9:.2f} GB, literal {found['literal_peak'] / 1e9:.2f} GB")
if {"gpu_float32", "gpu_bf16"} <= set(reports):
    print(f"bfloat16, channels last, compiled: {seconds['gpu_float32'] / seconds['gpu_bf16']:.1f} times faster than float32")
PYTHON
