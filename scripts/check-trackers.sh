#!/usr/bin/env bash
# Compares trackers and uploads with the official clients: the requests that a Weights & Biases server gets, `wandb
# sync` of our offline runs, TensorBoard's reader on our event files, and the requests of an upload to the Hub.
# Everything stays on this machine.
#
#   PYTHON=VENV/bin/python scripts/check-trackers.sh
#
# PYTHON has wandb==0.31.0, pyyaml, tensorboard and huggingface_hub==2.4.0.
set -euo pipefail

python=${PYTHON:?set PYTHON to an interpreter with wandb, pyyaml, tensorboard and huggingface_hub}
python=$(realpath -s "$python")
cd "$(dirname "$0")/.."

# The program that cargo builds from such a test target.
program() {
    cargo test --release --no-run --test "$1" --message-format=json 2>/dev/null |
        "$python" -c 'import json, sys
found = [m["executable"] for m in map(json.loads, sys.stdin) if m.get("executable") and m["target"]["name"] == sys.argv[1]]
print(found[-1])' "$1"
}
small_run=$(program log_small_run)
small_events=$(program write_small_events)

"$python" tests/reference/tensorboard_reads.py --check "$small_events"
"$python" tests/reference/wandb_compare.py "$small_run"
"$python" tests/reference/wandb_sync.py "$small_run"
"$python" tests/reference/hub_upload_compare.py "$(program upload_folder)" "{folder}" "{repo}" "{message}"
echo "all checks passed"
