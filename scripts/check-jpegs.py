#!/usr/bin/env python3
"""Makes JPEGs of every kind with libjpeg-turbo's cjpeg and compares the program's pixels with Pillow's.

    apt-get install libjpeg-turbo-progs
    pip install pillow==13.0.0 numpy==2.4.6
    python scripts/check-jpegs.py [--sizes 33x17,100x75] [--keep FOLDER]

Every combination that cjpeg accepts of a coding (baseline, progressive, arithmetic; components in one scan or several;
restart markers), a sampling of the components and a size, and some kinds that only Pillow writes. Prints a line per
coding: the files, how many have exactly Pillow's pixels, the largest difference of a sample and the largest mean of a
file (of 255), and how many are refused or panic. Fails if a file that Pillow opens is refused or differs by more than
MAX_MEAN or MAX, and if one that Pillow refuses is called damaged.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
MAX_MEAN, MAX = 1.0, 8
SIZES = "1x1,7x5,8x8,16x16,17x33,33x17,64x48,100x75,1x64,200x1,161x121"
# Columns and rows of samples of Y, Cb and Cr in a unit; 1x1 if omitted. Includes chroma finer than luma.
SAMPLINGS = """
    1x1 2x1 1x2 2x2 4x1 1x4 4x2 2x4 4x4 3x1 1x3 3x3 3x2 2x1,1x2,1x1 2x2,2x1,1x1 2x2,1x2,2x1 2x2,2x1,1x2 2x2,2x2,1x1
    2x2,1x1,2x2 1x1,2x1,2x1 1x1,1x2,1x2 1x1,2x2,2x2 1x2,2x1,2x1 2x1,1x2,1x2 1x1,2x2,1x1 1x1,1x1,2x4 4x2,2x1,1x2
    2x2,4x2,1x1 3x2,1x2,1x1 4x1,2x1,1x1 2x2,2x2,2x2 2x1,2x1,2x1 1x2,1x2,1x2
""".split()
GRAY_SAMPLINGS = ["1x1", "2x2", "2x1", "1x3"]
REFINED = (
    "0:0-0,0,1;1:0-0,0,1;2:0-0,0,1;0:1-5,0,2;1:1-63,0,1;2:1-63,0,1;0:6-63,0,2;0:1-63,2,1;"
    "0:0-0,1,0;1:0-0,1,0;2:0-0,1,0;0:1-63,1,0;1:1-63,1,0;2:1-63,1,0;"
)
# Options of cjpeg and the script of its scans.
CODINGS = {
    "baseline": ([], None),
    "optimized": (["-optimize"], None),
    "restart-1": (["-restart", "1"], None),
    "restart-3B": (["-restart", "3B"], None),
    "rgb": (["-rgb"], None),
    "a-scan-each": ([], "0;1;2;"),
    "backwards": ([], "2;1;0;"),
    "y-then-cbcr": ([], "0;1,2;"),
    "ycb-then-cr": ([], "0,1;2;"),
    "a-scan-each-restart-1": (["-restart", "1"], "0;1;2;"),
    "a-scan-each-restart-3B": (["-restart", "3B"], "0;1;2;"),
    "progressive": (["-progressive"], None),
    "progressive-restart-1": (["-progressive", "-restart", "1"], None),
    "spectral": ([], "0,1,2:0-0,0,0;0:1-63,0,0;1:1-63,0,0;2:1-63,0,0;"),
    "refined": ([], REFINED),
    "arithmetic": (["-arithmetic"], None),
    "arithmetic-restart-1": (["-arithmetic", "-restart", "1"], None),
    "arithmetic-a-scan-each": (["-arithmetic"], "0;1;2;"),
    "arithmetic-progressive": (["-arithmetic", "-progressive"], None),
}


def picture(width, height):
    """Noise that is smooth on several scales, as in a photograph, and bright shapes with sharp edges."""
    generator = np.random.default_rng(width * 1000 + height)
    pixels = np.zeros((height, width, 3))
    for scale in [4, 16, 64]:
        coarse = generator.uniform(0, 85, (height // scale + 1, width // scale + 1, 3)).astype(np.uint8)
        pixels += np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    y, x = np.mgrid[0:height, 0:width]
    pixels[(x // 9 + y // 7) % 5 == 0] = [230, 20, 40]
    pixels[(x * 2 + y) % 31 < 4] = [10, 40, 220]
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def make(folder, scratch, sizes):
    """Writes the files; cjpeg refuses samplings that a coding has no room for."""
    for size in sizes:
        image = picture(*size)
        name = f"{size[0]}x{size[1]}"
        colour, gray, script = scratch / "colour.ppm", scratch / "gray.pgm", scratch / "scans.txt"
        image.save(colour)
        image.convert("L").save(gray)
        for coding, (options, scans) in CODINGS.items():
            if scans:
                script.write_text(scans)
                options = [*options, "-scans", str(script)]
            runs = [(sampling, [], colour) for sampling in SAMPLINGS]
            if not scans and coding != "rgb":
                runs += [(sampling, ["-grayscale"], gray) for sampling in GRAY_SAMPLINGS]
            for sampling, more, source in runs:
                kind = "gray-" if more else ""
                path = folder / f"{coding}_{kind}{sampling.replace(',', '-')}_{name}.jpg"
                command = ["cjpeg", "-quality", "92", *more, *options, "-sample", sampling, "-outfile", path, source]
                if subprocess.run(command, stderr=subprocess.DEVNULL).returncode != 0:
                    path.unlink(missing_ok=True)
        for progressive in [False, True]:
            for subsampling in [0, 1, 2]:
                end = f"{subsampling}{'-progressive' if progressive else ''}_{name}.jpg"
                options = {"quality": 92, "progressive": progressive, "subsampling": subsampling}
                image.convert("CMYK").save(folder / f"pillow_cmyk-{end}", **options)
                image.save(folder / f"pillow_rgb-{end}", keep_rgb=subsampling == 0, **options)


def pixels_of(folder, scratch):
    """What the program reads of each file: pixels or the text of an error."""
    command = ["cargo", "build", "--release", "--locked", "--test", "write_pixels", "--message-format", "json"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    artifacts = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    [program] = [a["executable"] for a in artifacts if a.get("target", {}).get("name") == "write_pixels"]
    output = scratch / "pixels"
    subprocess.run([program, folder, output], check=True)
    for path in sorted(folder.iterdir()):
        pixels, error = output / f"{path.name}.ppm", output / f"{path.name}.error"
        yield path, Image.open(pixels) if pixels.exists() else error.read_text()


def compare(folder, scratch):
    """The rows of the table, and what is wrong."""
    rows, wrong = defaultdict(lambda: defaultdict(float)), []
    for path, found in pixels_of(folder, scratch):
        row = rows[path.name.split("_")[0]]
        row["files"] += 1
        if isinstance(found, str):
            row["panics" if "the decoder failed" in found else "refused"] += 1
        try:
            expected = np.asarray(Image.open(path).convert("RGB")).astype(int)
        except OSError:
            if not isinstance(found, str) or "not supported" not in found:
                wrong.append(f"{path.name}: Pillow refuses it, expected the message that it is not supported: {found}")
            continue
        if isinstance(found, str):
            wrong.append(f"{path.name}: {' '.join(found.split())}")
            continue
        difference = np.abs(np.asarray(found).astype(int) - expected)
        most, mean = difference.max(), difference.mean()
        row["exact"] += most == 0
        row["most"], row["mean"] = max(row["most"], most), max(row["mean"], mean)
        if most > MAX or mean > MAX_MEAN:
            wrong.append(f"{path.name}: off by {most}, on the mean by {mean:.2f}")
    return rows, wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default=SIZES)
    parser.add_argument("--keep", type=Path, help="a folder to make the files in")
    arguments = parser.parse_args()
    sizes = [tuple(int(side) for side in size.split("x")) for size in arguments.sizes.split(",")]
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.keep or Path(scratch) / "jpegs"
        folder.mkdir(parents=True, exist_ok=True)
        make(folder, Path(scratch), sizes)
        rows, wrong = compare(folder, Path(scratch))
    print("| coding | files | exact | most | mean | refused | panics |\n|---|---|---|---|---|---|---|")
    for coding, row in rows.items():
        counts = [f"{row[key]:.0f}" for key in ["files", "exact", "most"]]
        print(f"| {coding} | {' | '.join(counts)} | {row['mean']:.2f} | {row['refused']:.0f} | {row['panics']:.0f} |")
    print(*wrong[:50], sep="\n")
    total = sum(row["files"] for row in rows.values())
    print(f"{total:.0f} files, {sum(row['exact'] for row in rows.values()):.0f} exact, {len(wrong)} wrong")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
