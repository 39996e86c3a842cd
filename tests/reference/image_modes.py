"""Makes tests/fixtures/image_modes/: pictures in every mode that people's files have, and the RGB that Pillow makes of them.

    pip install pillow==11.3.0 numpy==2.4.6
    python tests/reference/image_modes.py

NAME.EXT goes in, NAME.rgb.png comes out: `ImageOps.exif_transpose(image).convert("RGB")`, which is what a transformers
script does with a file.
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

FOLDER = Path(__file__).resolve().parent.parent / "fixtures" / "image_modes"
SIZE = (24, 16)
ORIENTATION = 0x0112


def picture():
    """Ramps with a bright corner: no two edges and no two channels are alike."""
    x, y = np.meshgrid(np.linspace(0, 230, SIZE[0]), np.linspace(10, 250, SIZE[1]))
    pixels = np.stack([x, y, 255 - (x + y) / 2], axis=-1)
    pixels[:5, :7] = [250, 240, 20]
    return Image.fromarray(pixels.astype(np.uint8))


def with_alpha(image):
    alpha = np.linspace(0, 255, image.width, dtype=np.uint8)
    image.putalpha(Image.fromarray(np.tile(alpha, (image.height, 1))))
    return image


def sixteen_bits():
    values = np.linspace(0, 2000, SIZE[0] * SIZE[1]).reshape(SIZE[1], SIZE[0])
    return Image.fromarray(values.astype(np.uint16))


def shifted(folder):
    """A GIF whose frame leaves a part of its canvas free, and lies beyond it on one side."""
    path = folder / "plain.gif"
    picture().quantize(16).save(path, interlace=0)
    content = bytearray(path.read_bytes())
    path.unlink()
    content[6:10] = (30).to_bytes(2, "little") + (18).to_bytes(2, "little")
    descriptor = content.index(b"\x2c\0\0\0\0\x18\0\x10\0")
    content[descriptor + 1 : descriptor + 5] = (2).to_bytes(2, "little") + (5).to_bytes(2, "little")
    return content


def oriented(orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    for old in FOLDER.iterdir():
        old.unlink()
    rgb = picture()
    files = {
        "rgb.png": (rgb, {}),
        "gray.png": (rgb.convert("L"), {}),
        "gray_alpha.png": (with_alpha(rgb.convert("L")), {}),
        "rgba.png": (with_alpha(rgb.copy()), {}),
        "palette.png": (rgb.quantize(16), {}),
        "palette_transparent.png": (rgb.quantize(16), {"transparency": 3}),
        "one_bit.png": (rgb.convert("1"), {}),
        "sixteen_bit_gray.png": (sixteen_bits(), {}),
        "rgb.jpg": (rgb, {"quality": 95, "subsampling": 0}),
        "gray.jpg": (rgb.convert("L"), {"quality": 95}),
        "cmyk.jpg": (rgb.convert("CMYK"), {"quality": 95}),
        "rgb.webp": (rgb, {"lossless": True}),
        "rgba.webp": (with_alpha(rgb.copy()), {"lossless": True, "exact": True}),
    }
    for orientation in range(1, 9):
        exif = {"exif": oriented(orientation)}
        files[f"orientation_{orientation}.png"] = (rgb, exif)
    files["orientation_6.jpg"] = (rgb, {"quality": 95, "subsampling": 0, "exif": oriented(6)})
    # Of animations the first frame counts.
    frames = {"save_all": True, "append_images": [rgb.rotate(180), rgb.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]}
    files["animated.png"] = (rgb, frames)
    files["animated.webp"] = (rgb, {"lossless": True, **frames})
    files |= {
        "one_bit.bmp": (rgb.convert("1"), {}),
        "gray.bmp": (rgb.convert("L"), {}),
        "palette.bmp": (rgb.quantize(16), {}),
        "rgb.bmp": (rgb, {}),
        "rgba.bmp": (with_alpha(rgb.copy()), {}),
        "gray.gif": (rgb.convert("L"), {}),
        "palette.gif": (rgb.quantize(16), {"interlace": 0}),
        "interlaced.gif": (rgb.quantize(16), {"interlace": 1}),
        "transparent.gif": (rgb.quantize(16), {"transparency": 3}),
        "animated.gif": (rgb.quantize(16), frames),
        "shifted.gif": (None, {}),
        "one_bit.tiff": (rgb.convert("1"), {}),
        "fax.tiff": (rgb.convert("1"), {"compression": "group4"}),
        "gray.tiff": (rgb.convert("L"), {}),
        "sixteen_bit_gray.tiff": (sixteen_bits(), {}),
        "rgb.tiff": (rgb, {}),
        "rgba.tiff": (with_alpha(rgb.copy()), {}),
        "cmyk.tiff": (rgb.convert("CMYK"), {}),
        "lzw.tiff": (rgb, {"compression": "tiff_lzw"}),
        "deflate.tiff": (rgb, {"compression": "tiff_adobe_deflate"}),
        "packbits.tiff": (rgb, {"compression": "packbits"}),
        "orientation_6.tiff": (rgb, {"tiffinfo": {ORIENTATION: 6}}),
        "pages.tiff": (rgb, frames),
    }
    for name, (image, options) in files.items():
        path = FOLDER / name
        if image:
            image.save(path, **options)
        else:
            path.write_bytes(shifted(FOLDER))
        read = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
        read.save(FOLDER / f"{name}.rgb.png", optimize=True)
    total = sum(file.stat().st_size for file in FOLDER.iterdir())
    print(f"{len(files)} pictures, {total} bytes")


if __name__ == "__main__":
    main()
