"""Makes tests/fixtures/jpeg_kinds/: one JPEG of each kind that decoders are known to get wrong, and the RGB of Pillow.

    apt-get install libjpeg-turbo-progs
    pip install pillow==13.0.0 numpy==2.4.6
    python tests/reference/jpeg_kinds.py

A choice of what scripts/check-jpegs.py makes in thousands; NAME.jpg goes in, NAME.jpg.rgb.png comes out.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT.parent / "scripts"))
check_jpegs = __import__("check-jpegs")

FOLDER = ROOT / "fixtures" / "jpeg_kinds"
# The coding, the sampling and the size of each.
KINDS = [
    ("baseline", "1x1", (17, 9)),
    ("baseline", "2x1", (20, 11)),
    ("baseline", "1x2", (11, 20)),
    ("baseline", "2x2", (20, 12)),
    ("baseline", "2x2", (3, 21)),
    ("baseline", "3x1", (17, 9)),
    ("baseline", "4x2", (35, 9)),
    ("baseline", "1x1,2x2,2x2", (17, 18)),
    ("baseline", "1x1,2x1,2x1", (18, 9)),
    ("baseline", "2x1,1x2,1x1", (17, 18)),
    ("restart-1", "2x2", (40, 24)),
    ("rgb", "1x1", (17, 9)),
    ("a-scan-each", "2x2", (20, 21)),
    ("a-scan-each", "1x2", (17, 21)),
    ("a-scan-each", "1x1,2x2,2x2", (17, 18)),
    ("backwards", "2x2", (20, 21)),
    ("y-then-cbcr", "2x2", (20, 21)),
    ("ycb-then-cr", "2x1", (20, 11)),
    ("a-scan-each-restart-3B", "2x1", (40, 12)),
    ("progressive", "2x2", (20, 12)),
    ("progressive", "1x1,2x2,2x2", (17, 18)),
    ("refined", "2x1", (20, 11)),
    ("arithmetic", "2x2", (20, 12)),
    ("arithmetic-a-scan-each", "1x1", (17, 9)),
    ("arithmetic-progressive", "2x1", (20, 11)),
]


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    for old in FOLDER.iterdir():
        old.unlink()
    with tempfile.TemporaryDirectory() as scratch:
        source, script = Path(scratch) / "picture.ppm", Path(scratch) / "scans.txt"
        for coding, sampling, size in KINDS:
            check_jpegs.picture(*size).save(source)
            options, scans = check_jpegs.CODINGS[coding]
            if scans:
                script.write_text(scans)
                options = [*options, "-scans", script]
            path = FOLDER / f"{coding}_{sampling.replace(',', '-')}_{size[0]}x{size[1]}.jpg"
            subprocess.run(["cjpeg", "-quality", "80", *options, "-sample", sampling, "-outfile", path, source], check=True)
    check_jpegs.picture(17, 9).convert("CMYK").save(FOLDER / "cmyk_17x9.jpg", quality=80)
    check_jpegs.picture(20, 12).convert("CMYK").save(FOLDER / "cmyk-progressive_20x12.jpg", quality=80, progressive=True)
    for path in list(FOLDER.glob("*.jpg")):
        Image.open(path).convert("RGB").save(FOLDER / f"{path.name}.rgb.png", optimize=True)
    total = sum(file.stat().st_size for file in FOLDER.iterdir())
    print(f"{len(KINDS) + 2} pictures, {total} bytes")


if __name__ == "__main__":
    main()
