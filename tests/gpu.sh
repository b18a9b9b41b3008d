#!/usr/bin/env bash
# Everything that a GPU is asked for, in one go: whether it plays what a CPU plays, then how fast.
# From a checkout, with torch, transformers, sentencepiece and numpy; the measurements take some ten minutes.
#     tests/gpu.sh [FOLDER]    one JSON file a measurement in FOLDER (default: gpu-figures)
set -uo pipefail
folder=${1:-gpu-figures}
mkdir -p "$folder"
export HF_HUB_OFFLINE=1
bench() {
  local name=$1
  shift
  echo "== $name"
  python -c 'import sys; from bridge.cli.main import main; sys.exit(main(sys.argv[1:]))' \
    bench --json --device cuda "$@" > "$folder/$name.json" || echo "failed: $name"
}
python -m tests.gpu_check | tee "$folder/check.txt"
bench small --shape musicgen-small --precision fp16 --seconds 62 --curve --against transformers
bench sessions --shape musicgen-small --precision fp16 --seconds 20 --sessions 160
bench large --shape musicgen-large --precision fp16 --seconds 34
bench stereo --shape musicgen-small --stereo --precision fp16 --seconds 34
bench pocket --sessions 256 --seconds 20
