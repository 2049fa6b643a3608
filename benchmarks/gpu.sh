#!/usr/bin/env bash
# What a training step of each method costs on a GPU with 80 GB, from anywhere, after `make install`:
#     bash benchmarks/gpu.sh
# Each line leaves a JSON and a CSV file in results/benchmarks.
set -eu
cd "$(dirname "$0")/.."
steps() { .venv/bin/python benchmarks/steps.py --device cuda --out "results/benchmarks/$1.json" "${@:2}"; }
steps voc_cuda --recipe voc_classic_92 --batch 8
steps voc_cuda_fast --recipe voc_classic_92 --batch 8 --precision bfloat16 --fast
steps cityscapes_cuda --recipe cityscapes_186 --batch 2 --precision bfloat16 --fast
