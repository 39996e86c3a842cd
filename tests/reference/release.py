"""Draws the pictures from which the fixtures of a release are made. Then, with that release, in an empty folder:

    python release.py source
    caption-train prepare-data --source source --output data --test-fraction 0.1
    caption-train --config run.toml      # the one in the fixture
    caption-train export --checkpoint runs/run/checkpoints/last.safetensors --output export
    caption-train caption --json --num-beams 3 --checkpoint runs/run/checkpoints/last.safetensors \\
        data/images/{00,01,07,11}.png > captions.jsonl
    caption-train --resume runs/run --set training.num_epochs=42      # on a copy; its new lines are resumed.jsonl

release_0_1 was made at commit a527e9d, without samples.jpg, the report and lock files.
"""
import random, struct, sys, zlib
from pathlib import Path
COLORS = {"red": (200, 40, 40), "green": (40, 180, 60), "blue": (50, 60, 210), "yellow": (220, 210, 50)}
def png(path, pixels, side):
    raw = b"".join(b"\0" + bytes(v for p in pixels[y*side:(y+1)*side] for v in p) for y in range(side))
    def chunk(k, d): return struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b""))
out = Path(sys.argv[1]); (out/"images").mkdir(parents=True)
rng = random.Random(1); side = 32; lines = []
for n in range(40):
    name, color = rng.choice(sorted(COLORS.items())); where = rng.choice(["left", "right"])
    x0 = 4 if where == "left" else 18; y0 = rng.randrange(2, 20)
    px = [color if x0 <= i % side < x0 + 10 and y0 <= i // side < y0 + 10 else (230, 230, 230) for i in range(side*side)]
    png(out/"images"/f"{n:02}.png", px, side)
    for text in (f"a {name} square on the {where}", f"on the {where} there is a {name} square"): lines.append((f"{n:02}.png", text))
(out/"captions.txt").write_text("image,caption\n" + "".join(f"{a},{b}\n" for a, b in lines))
