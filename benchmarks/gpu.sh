#!/usr/bin/env bash
# Everything that is owed from a GPU, in at most nine minutes, most valuable first:
#     bash benchmarks/gpu.sh                      # records in results/benchmarks/gpu
#     bash benchmarks/gpu.sh --minutes 4 --out /tmp/records
# PYTHON names another interpreter than that of `make install`. For part (c) make benchmarks/carry first: benchmarks/pack.py.
set -eu
cd "$(dirname "$0")/.."
exec "${PYTHON:-.venv/bin/python}" -u benchmarks/gpu.py "$@"
