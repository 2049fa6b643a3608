#!/usr/bin/env bash
# The figures that need a GPU with 80 GB: about a quarter of an hour. From the root of the repository, after `make install`:
#     bash results/bench/gpu.sh
# Each line leaves a JSON file and a picture in results/bench. Remove old ones first: nothing is overwritten.
set -eu
cd "$(dirname "$0")/../.."
run() { echo "== $1"; .venv/bin/corrmatch bench --device cuda --out "results/bench/$1.json" --picture "results/bench/$1.png" "${@:2}"; }

# ResNet-101, crop 321, 16 + 16 images: float32 as it stands, and with everything that a GPU likes.
# In both: Algorithm 1 beside its literal loop (128 shapes, 21 classes), and where the host waits.
run gpu_float32 --encoder resnet101 --crop 321 --batch 16 --steps 10
run gpu_bf16 --encoder resnet101 --crop 321 --batch 16 --steps 10 --precision bfloat16 --channels-last --compile --fused

# Cityscapes: peak memory of the correlation, in chunks and with the whole map (2 + 2 images).
run gpu_801 --encoder resnet101 --crop 801 --batch 2 --classes 19 --steps 3 --precision bfloat16 --channels-last --fused

.venv/bin/python - <<'PYTHON'
import json
from corrmatch.bench import utilisation
read = lambda name: json.load(open(f"results/bench/{name}.json"))
full, half, big = read("gpu_float32"), read("gpu_bf16"), read("gpu_801")
seconds = lambda report: report["whole"]["step in parts"]
region, corr = half["references"]["region propagation"], big["references"]["correlation and shapes"]
print(f"step: float32 {1e3 * seconds(full):.0f} ms, bfloat16 + channels last + compile {1e3 * seconds(half):.0f} ms: {seconds(full) / seconds(half):.1f} times faster")
print(f"utilisation: {utilisation(half):.0%} of a large bfloat16 product ({half['speed']['flops'] / 1e12:.0f} TFLOP/s)")
print(f"peak memory of a step: {full['memory']['peak'] / 1e9:.1f} and {half['memory']['peak'] / 1e9:.1f} GB, by formula {full['memory']['predicted'] / 1e9:.1f} and {half['memory']['predicted'] / 1e9:.1f} GB")
print(f"region propagation: {1e3 * region['seconds']:.1f} ms, literal loop {1e3 * region['literal_seconds']:.0f} ms; agreement {region['agreement']:.0%}")
print(f"correlation and shapes at crop 801: peak {corr['peak'] / 1e9:.2f} GB in chunks, {corr['literal_peak'] / 1e9:.2f} GB with the whole map")
print(f"waits of a step: {', '.join(half['waits'])}")
PYTHON
