#!/usr/bin/env bash
# Kills training processes at random moments of every phase, goes on with each run, and compares the final checkpoints
# byte for byte with those of an undisturbed run: the test of that name with more kills than the ordinary ones make.
#
#   scripts/check-kills.sh [NUMBER]        200 when not given; about 2 s for each
set -euo pipefail
cd "$(dirname "$0")/.."
export CAPTION_TRAIN_KILLS="${1:-200}"
cargo test --release --test integration kills:: -- --nocapture
