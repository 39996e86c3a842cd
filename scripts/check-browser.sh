#!/usr/bin/env bash
# Opens the report of a run, the page of `serve` with the run's newest checkpoint, and the page of a data set of 8,000
# images, in headless Chromium and uses them with mouse, touch and keyboard. Takes a minute on two cores.
#
#   scripts/check-browser.sh RUN_FOLDER [SCREENSHOT_FOLDER]
#
# Run it in the folder the run was started in, with a run whose model already writes captions. Needs Python and
# Chromium; CHROMIUM names it if it is not on the path. CAPTION_TRAIN names a program other than the one in
# target/release.
set -euo pipefail

scripts=$(realpath "$(dirname "$0")")
run=$(realpath "$1")
screenshots=$(realpath -m "${2:-$(mktemp -d)}")
program=$(realpath "${CAPTION_TRAIN:-$scripts/../target/release/caption-train}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$program" --quiet report "$run" --output "$work/report.html"
python3 -B "$scripts/browser/check_report.py" "$work/report.html" "$screenshots"
python3 -B "$scripts/browser/check_page.py" "$program" "$run/checkpoints/last.safetensors" "$screenshots"
python3 -B "$scripts/browser/check_look.py" "$program" "$screenshots"
echo "all checks passed"
