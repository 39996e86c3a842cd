#!/usr/bin/env bash
# Compares the predictions of `plan` with a run: peak memory within 20 %, time per update within 30 %.
#
#   scripts/check-plan.sh SECONDS CONFIG [ARGUMENT...]
#
# Trains CONFIG for SECONDS and stops. The machine should be idle otherwise.
set -euo pipefail

seconds=$1
config=$(realpath "$2")
shift 2
program=$(realpath "$(dirname "$0")/..")/target/release/caption-train
runs=$(mktemp -d)
trap 'rm -rf "$runs"' EXIT

plan=$("$program" plan --config "$config" "$@")
predicted_memory=$(sed -n 's/^memory *\([0-9.]*\) GB.*/\1/p' <<<"$plan")
predicted_time=$(sed -n 's/^time *\([0-9.]*\) s per update.*/\1/p' <<<"$plan")

code=0
timeout --signal=TERM "$seconds" "$program" --config "$config" "$@" \
    --set output_dir="$runs" --set name=run --set training.log_interval=1 2>"$runs/log" || code=$?
[ "$code" = 0 ] || [ "$code" = 124 ] || [ "$code" = 130 ] || { cat "$runs/log" >&2; exit 1; }
memory=$(sed -n 's/^peak memory \([0-9.]*\) GB.*/\1/p' "$runs/log")
pairs=$(sed -n 's/^updates .* epochs of \([0-9]*\) pairs.*/\1/p' "$runs/log")
# The median over the updates, without the first ones.
time=$(grep '"kind":"step"' "$runs/run/metrics.jsonl" | tail -n +4 |
    sed 's/.*"images_per_second":\([0-9.]*\).*/\1/' | sort -n |
    awk -v pairs="$pairs" '{ rate[NR] = $1 } END { print pairs / rate[int((NR + 1) / 2)] }')

awk -v pm="$predicted_memory" -v m="$memory" -v pt="$predicted_time" -v t="$time" 'BEGIN {
    dm = pm / m - 1; dt = pt / t - 1
    printf "memory: predicted %.2f GB, found %.2f GB (%+.0f %%)\n", pm, m, 100 * dm
    printf "update: predicted %.3f s, found %.3f s (%+.0f %%)\n", pt, t, 100 * dt
    exit !(dm > -0.2 && dm < 0.2 && dt > -0.3 && dt < 0.3)
}'
