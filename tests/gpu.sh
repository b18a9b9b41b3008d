#!/usr/bin/env bash
# Everything that a GPU is asked for, most wanted first: whether it plays what a CPU plays, then how fast. Within ten
# minutes; what fails or hangs does not keep the rest from it.
# From a checkout, with torch, transformers, sentencepiece and numpy alone; nothing needs to be built.
#     tests/gpu.sh [FOLDER]    one JSON file a measurement in FOLDER (default: gpu-figures)
set -uo pipefail
cd "$(dirname "$0")/.."
folder=${1:-gpu-figures}
mkdir -p "$folder"
weights=$(mktemp -d)
trap 'rm -rf "$weights"' EXIT
export HF_HUB_OFFLINE=1
within() { # SECONDS NAME COMMAND …
  local most=$1 name=$2
  shift 2
  echo "== $name, at $SECONDS s" >&2
  timeout "$most" "$@" || echo "failed: $name" >&2
}
write() { # SHAPE [stereo]: random weights, which measurements share
  within 120 "weights of $1${2:+, $2}" python -c '
import sys, pathlib
from bridge.comparison import write_random_checkpoint
write_random_checkpoint(sys.argv[1], len(sys.argv) > 3, pathlib.Path(sys.argv[2]))' "$1" "$weights/$1${2:-}" ${2:+"$2"}
}
bench() { # NAME OPTION …
  local name=$1
  shift
  within 120 "$name" python -c 'import sys; from bridge.cli.main import main; sys.exit(main(sys.argv[1:]))' \
    bench --json --device cuda "$@" > "$folder/$name.json"
}
within 150 check python -m tests.gpu_check | tee "$folder/check.txt"
write musicgen-small
bench small --model "$weights/musicgen-small" --precision fp16 --seconds 34 --curve
bench sessions --model "$weights/musicgen-small" --precision fp16 --seconds 8 --sessions 160
write musicgen-large
bench large --model "$weights/musicgen-large" --precision fp16 --seconds 34
bench pocket --seconds 20 --sessions 256
bench against --model "$weights/musicgen-small" --precision fp16 --seconds 10 --against transformers
write musicgen-small stereo
bench stereo --model "$weights/musicgen-smallstereo" --precision fp16 --seconds 34
echo "== done, at $SECONDS s" >&2
