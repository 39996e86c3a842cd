#!/usr/bin/env python3
"""Times this program and PyTorch in turn on one machine and prints a table of ratios.

    pip install torch==2.14.0 transformers==5.23.0 numpy==2.4.6
    python benches/compare.py [--runs 5] [ROW...]

Both sides get 2 threads. A ratio is our time over theirs of neighbouring runs; the table has the median and the range.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
STEP = ["--steps", "5", "--warmup", "2"]

# name: (our arguments, theirs, highest ratio asked for)
ROWS = {
    "ViT-S trained, batch 8, f32": (["--encoder", "train", "--vit", "small"], [], 0.85),
    "ViT-B trained, batch 8, f32": (["--encoder", "train", "--vit", "base"], [], 0.80),
    "ViT-B trained, batch 8, bf16": (["--encoder", "train", "--vit", "base", "--precision", "bf16"], ["--amp"], 0.95),
    "decoder on cached ViT-B, batch 32, f32": (["--encoder", "cached", "--vit", "base", "--batch", "32"], [], 0.85),
    "the same by image, 5 captions each, per caption": (
        ["--encoder", "cached", "--vit", "base", "--batch", "40", "--captions-per-image", "5"],
        [],
        0.60,
    ),
}
OURS_ALONE = ["--precision", "--captions-per-image"]


def peer_arguments(ours, extra):
    """What both sides understand; pairs by image are a plain batch over there."""
    arguments, skip = [], False
    for argument in ours:
        if skip:
            skip = False
        elif argument in OURS_ALONE:
            skip = True
        else:
            arguments.append("32" if argument == "40" else argument)
    return arguments + extra


def run(command):
    threads = {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2", "RAYON_NUM_THREADS": "2"}
    done = subprocess.run(command, cwd=ROOT, env=os.environ | threads, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode != 0 or not lines:
        sys.exit(f"{command} failed:\n{done.stderr[-2000:]}")
    return json.loads(lines[-1])


def per_caption(result):
    return result["step_s"] / result["batch"]


def compare(bench, ours, extra, runs):
    ratios, here, there = [], [], []
    for _ in range(runs):
        here.append(run([bench, *ours, *STEP]))
        theirs = peer_arguments(ours, extra)
        there.append(run([sys.executable, "benches/peers/torch_step.py", *theirs, *STEP]))
        ratios.append(per_caption(here[-1]) / per_caption(there[-1]))
    memory = statistics.median(a["peak_rss_mb"] / b["peak_rss_mb"] for a, b in zip(here, there))
    return ratios, [statistics.median(result["step_s"] for result in side) for side in [here, there]], memory


def build():
    command = ["cargo", "build", "--release", "--locked", "--bench", "train_step", "--message-format", "json"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    artifacts = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return next(a["executable"] for a in artifacts if a.get("target", {}).get("name") == "train_step" and a.get("executable"))


def cpu():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("rows", nargs="*")
    arguments = parser.parse_args()
    bench = build()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    print(f"{datetime.date.today()}, {cpu()}, 2 threads, commit {commit}, torch {torch.__version__}, {arguments.runs} runs\n")
    print("| work | ours, s | PyTorch, s | ratio | range | at most | memory |\n|---|---|---|---|---|---|---|")
    for name, (ours, extra, most) in ROWS.items():
        if arguments.rows and name not in arguments.rows:
            continue
        ratios, (here, there), memory = compare(bench, ours, extra, arguments.runs)
        spread = f"{min(ratios):.2f}-{max(ratios):.2f}"
        ratio = statistics.median(ratios)
        print(f"| {name} | {here:.3f} | {there:.3f} | {ratio:.2f} | {spread} | {most:.2f} | {memory:.2f} |", flush=True)


if __name__ == "__main__":
    main()
