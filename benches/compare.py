#!/usr/bin/env python3
"""Times this program and PyTorch in turn on one machine and prints a table of ratios.

    pip install torch==2.14.0 torchvision==0.29.0 transformers==5.24.0 pillow==11.3.0 numpy==2.4.6
    python benches/compare.py [--runs 5] [--quick] [ROW...]

ROW is a part of a row's name; without one, all rows are measured. --quick leaves out those that take minutes a run.

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
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import transformers
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
STEPS = ["--steps", "5", "--warmup", "2"]


@dataclass
class Row:
    """One line of the table: what runs on each side, and the highest ratio of the times that is asked for."""

    name: str
    bench: str
    ours: list
    peer: str
    theirs: list
    most: float
    is_slow: bool = False


def step(name, most, shared, ours=(), theirs=(), is_slow=False):
    """A row of whole training steps; its times are for each caption."""
    ours, theirs = [*shared, *ours, *STEPS], [*shared, *theirs, *STEPS]
    return Row(name, "train_step", ours, "torch_step.py", theirs, most, is_slow)


CACHED = ["--encoder", "cached", "--vit", "base"]
BLIP = ["--model", "blip", "--encoder", "train", "--batch", "4", "--seq", "20", "--dropout", "0"]
SMALL_DECODER = ["--vit", "base", "--dim", "256", "--heads", "4", "--layers", "4", "--ff", "1024"]
ROWS = [
    step("ViT-S trained, batch 8, f32", 0.90, ["--encoder", "train", "--vit", "small"]),
    step("ViT-B trained, batch 8, f32", 0.92, ["--encoder", "train", "--vit", "base"]),
    step(
        "ViT-B trained, batch 8, bf16",
        0.80,
        ["--encoder", "train", "--vit", "base"],
        ["--precision", "bf16"],
        ["--amp"],
    ),
    step("decoder on cached ViT-B, batch 32, f32", 0.85, [*CACHED, "--batch", "32"]),
    step(
        "the same by image, 5 captions each, per caption",
        0.60,
        CACHED,
        ["--batch", "40", "--captions-per-image", "5"],
        ["--batch", "32"],
    ),
    step(
        "decoder on cached ViT-B, batch 32, captions of real lengths (padded there), f32",
        0.60,
        [*CACHED, "--batch", "32", "--real-lengths"],
    ),
    step(
        "the same by image, 5 captions each, per caption, real lengths",
        0.45,
        [*CACHED, "--real-lengths"],
        ["--batch", "40", "--captions-per-image", "5"],
        ["--batch", "32"],
    ),
    step(
        "trained ViT-B by image, 5 captions each, against one pair after the other, real lengths",
        0.18,
        ["--encoder", "train", "--vit", "base", "--real-lengths"],
        ["--batch", "40", "--captions-per-image", "5"],
        ["--batch", "8"],
    ),
    step(
        "features from disk for ViT-B frozen + decoder 256/4, batch 64",
        0.045,
        [*SMALL_DECODER, "--batch", "64"],
        ["--encoder", "stored"],
        ["--encoder", "frozen"],
    ),
    step(
        "the same by image, 5 captions each (batch 65), per caption",
        0.035,
        SMALL_DECODER,
        ["--encoder", "stored", "--batch", "65", "--captions-per-image", "5"],
        ["--encoder", "frozen", "--batch", "64"],
    ),
    step("BLIP base on 384 pixels, trained in full, batch 4, f32", 1.00, BLIP, is_slow=True),
    step(
        "BLIP base on 384 pixels, trained in full, batch 4, bf16",
        1.00,
        BLIP,
        ["--precision", "bf16"],
        ["--amp"],
        is_slow=True,
    ),
    Row(
        "one step of self-critical training on cached ViT-B, 10 images, 5 samples each, rewards in the process",
        "train_step",
        [*CACHED, "--batch", "10", "--samples", "5", "--real-lengths", *STEPS],
        "torch_scst.py",
        [*CACHED, "--batch", "10", "--samples", "5", "--real-lengths", *STEPS],
        0.25,
    ),
    Row("clip and AdamW, 27 M parameters, default", "update", [], "torch_update.py", [], 0.35),
    Row("clip and AdamW, 27 M parameters, fused", "update", [], "torch_update.py", ["--fused"], 1.0),
    Row("640 x 480 JPEG to tensor, one core", "image_to_tensor", ["JPEG"], "image_to_tensor.py", ["JPEG"], 0.60),
]


def seconds(result):
    """Of a training step, for each caption: the batches of the two sides may differ."""
    return result["seconds"] if "seconds" in result else result["step_s"] / result["batch"]


def run(command):
    threads = {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2", "RAYON_NUM_THREADS": "2"}
    done = subprocess.run(command, cwd=ROOT, env=os.environ | threads, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode != 0 or not lines:
        sys.exit(f"{command} failed:\n{done.stderr[-2000:]}")
    return json.loads(lines[-1])


def compare(row, program, jpeg, runs):
    def arguments(words):
        return [jpeg if word == "JPEG" else word for word in words]

    ratios, here, there = [], [], []
    for _ in range(runs):
        here.append(run([program, *arguments(row.ours)]))
        there.append(run([sys.executable, f"benches/peers/{row.peer}", *arguments(row.theirs)]))
        ratios.append(seconds(here[-1]) / seconds(there[-1]))
    memory = [a["peak_rss_mb"] / b["peak_rss_mb"] for a, b in zip(here, there) if "peak_rss_mb" in a]
    times = [1e3 * statistics.median(seconds(result) for result in side) for side in [here, there]]
    return ratios, times, f"{statistics.median(memory):.2f}" if memory else ""


def photograph(folder):
    """A picture with the detail of a photograph: noise that is smooth on several scales."""
    generator = np.random.default_rng(0)
    pixels = np.zeros((480, 640, 3))
    for scale in [4, 16, 64]:
        coarse = generator.uniform(0, 85, (480 // scale + 1, 640 // scale + 1, 3)).astype(np.uint8)
        pixels += np.asarray(Image.fromarray(coarse).resize((640, 480), Image.Resampling.BICUBIC))
    path = Path(folder) / "photograph.jpg"
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=90)
    return str(path)


def build():
    """The path of each bench."""
    command = ["cargo", "build", "--release", "--locked", "--benches", "--message-format", "json"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    artifacts = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    benches = [a for a in artifacts if "bench" in a.get("target", {}).get("kind", []) and a.get("executable")]
    return {artifact["target"]["name"]: artifact["executable"] for artifact in benches}


def cpu():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("rows", nargs="*")
    arguments = parser.parse_args()
    rows = [row for row in ROWS if not arguments.rows or any(part in row.name for part in arguments.rows)]
    rows = [row for row in rows if not (arguments.quick and row.is_slow)]
    if not rows:
        sys.exit("no row has such a name; there are:\n" + "\n".join(row.name for row in ROWS))
    programs = build()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    print(f"{datetime.date.today()}, {cpu()}, 2 threads, commit {commit}, {versions}, {arguments.runs} runs\n")
    print("| work | ours, ms | PyTorch, ms | ratio | range | at most | memory |\n|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        jpeg = photograph(folder)
        for row in rows:
            ratios, (here, there), memory = compare(row, programs[row.bench], jpeg, arguments.runs)
            spread = f"{min(ratios):.2f}-{max(ratios):.2f}"
            ratio = statistics.median(ratios)
            print(f"| {row.name} | {here:.2f} | {there:.2f} | {ratio:.2f} | {spread} | {row.most:.2f} | {memory} |", flush=True)


if __name__ == "__main__":
    main()
