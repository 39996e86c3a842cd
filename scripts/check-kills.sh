#!/usr/bin/env bash
# Kills training processes at random moments of every phase, resumes each run, and compares the final checkpoints byte
# for byte with those of an undisturbed run: the test of that name with more kills than usual.
#
#   scripts/check-kills.sh [NUMBER]        200 by default; about 2 s each
set -euo pipefail
cd "$(dirname "$0")/.."
export CAPTION_TRAIN_KILLS="${1:-200}"
cargo test --release --test integration kills:: -- --nocapture
