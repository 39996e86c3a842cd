#!/usr/bin/env python3
"""Makes tests/fixtures/image_processor/: drawn pictures and what transformers makes of them.

Run it with Python 3.11 or later and

    pip install transformers==5.24.0 pillow==11.3.0 numpy==2.4.6

(no torch: the PIL backend of the image processors is used; Pillow 13 changes the order of the two passes).

cases.json holds the configs and, for each, the picture that goes in and what comes out: the pixels before rescaling
and normalising as a PNG (exact up to 1 of 255, since the resizers round differently), or the normalised values
where nothing is resized (exact up to the rounding of 32-bit floats).
"""

import json
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from transformers import (
    BitImageProcessorPil,
    BlipImageProcessorPil,
    CLIPImageProcessorPil,
    DeiTImageProcessorPil,
    SiglipImageProcessorPil,
    ViTImageProcessorPil,
)

FOLDER = Path(__file__).resolve().parent.parent / "fixtures" / "image_processor"

# (width, height): landscape, portrait, long and narrow, smaller than the output, odd, just the size of the output.
PICTURES = {
    "landscape": (97, 61),
    "portrait": (50, 83),
    "narrow": (150, 14),
    "small": (13, 10),
    "odd": (41, 37),
    "exact": (8, 8),
}

PIXELS = {"do_rescale": False, "do_normalize": False}
VIT = {"image_processor_type": "ViTImageProcessor", "resample": 2, "size": {"height": 32, "width": 32}}
CLIP = {
    "image_processor_type": "CLIPImageProcessor",
    "resample": 3,
    "size": {"shortest_edge": 32},
    "crop_size": {"height": 32, "width": 32},
}
BLIP = {"image_processor_type": "BlipImageProcessor", "size": {"height": 32, "width": 32}}

# As in the folders of SigLIP, of DINOv2 and of DeiT.
SIGLIP = {"image_processor_type": "SiglipImageProcessor", "resample": 3, "size": {"height": 32, "width": 32}}
BIT = CLIP | {
    "image_processor_type": "BitImageProcessor",
    "size": {"shortest_edge": 37},
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}
DEIT = {
    "image_processor_type": "DeiTImageProcessor",
    "resample": 3,
    "size": {"height": 37, "width": 37},
    "crop_size": {"height": 32, "width": 32},
}
CLASSES = {
    "ViT": ViTImageProcessorPil,
    "CLIP": CLIPImageProcessorPil,
    "Siglip": SiglipImageProcessorPil,
    "Bit": BitImageProcessorPil,
    "Blip": BlipImageProcessorPil,
    "DeiT": DeiTImageProcessorPil,
}

# name: (config, pictures)
PIXEL_CASES = {
    "vit": (VIT | PIXELS, ["landscape", "portrait", "narrow", "small", "odd"]),
    "vit_oblong": (VIT | PIXELS | {"size": {"height": 20, "width": 45}}, ["landscape", "portrait", "small"]),
    "vit_lanczos": (VIT | PIXELS | {"resample": 1}, ["landscape"]),
    "clip": (CLIP | PIXELS, ["landscape", "portrait", "narrow", "small", "odd"]),
    "clip_larger_edge": (CLIP | PIXELS | {"size": {"shortest_edge": 37}}, ["landscape", "portrait"]),
    "siglip": (SIGLIP | PIXELS, ["odd"]),
    "bit": (BIT | PIXELS, ["odd"]),
    "deit": (DEIT | PIXELS, ["landscape", "small"]),
    # A file as it was written before image processors existed; one number means the short side.
    "clip_old": (
        {"feature_extractor_type": "CLIPFeatureExtractor", "resample": 3, "size": 32, "crop_size": 32} | PIXELS,
        ["odd"],
    ),
    "blip": (BLIP | PIXELS, ["landscape", "small"]),
    # Zeros are filled in around a picture that is smaller. Where an odd number is missing the two backends of
    # transformers differ by one pixel, so all sides here are even.
    "crop_only": (CLIP | PIXELS | {"do_resize": False}, ["landscape", "exact"]),
}

VALUE_CASES = {
    "vit_values": VIT | {"size": {"height": 8, "width": 8}},
    "clip_values": CLIP | {"size": {"shortest_edge": 8}, "crop_size": {"height": 8, "width": 8}},
    "blip_values": BLIP | {"size": {"height": 8, "width": 8}},
    "siglip_values": SIGLIP | {"size": {"height": 8, "width": 8}},
    "bit_values": BIT | {"size": {"shortest_edge": 8}, "crop_size": {"height": 8, "width": 8}},
    "deit_values": DEIT | {"size": {"height": 8, "width": 8}, "crop_size": {"height": 8, "width": 8}},
    "rescaled_alone": VIT | {"size": {"height": 8, "width": 8}, "do_normalize": False, "rescale_factor": 0.01},
}


def draw(name: str, width: int, height: int) -> Image.Image:
    """Colour ramps, hard edges and, for the antialiasing, a fine grid and noise in a corner."""
    rng = np.random.default_rng(len(name) * 1000 + width)
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    pixels = np.stack([x, y, 255 - (x + y) / 2], axis=-1).astype(np.uint8)
    image = Image.fromarray(pixels)
    pen = ImageDraw.Draw(image)
    pen.ellipse([width * 0.2, height * 0.2, width * 0.7, height * 0.8], outline=(255, 255, 255), fill=(200, 30, 60))
    pen.line([0, height, width, 0], fill=(0, 0, 0), width=1)
    pixels = np.array(image)
    pixels[::2, : width // 4] = 255
    noisy = pixels[height // 2 :, width * 3 // 4 :]
    noisy[...] = rng.integers(0, 256, noisy.shape, dtype=np.uint8)
    return Image.fromarray(pixels)


def process(config: dict, picture: str) -> np.ndarray:
    """What transformers makes of a drawn picture under a config that is read from a file: (3, height, width)."""
    kind = config.get("image_processor_type") or config.get("feature_extractor_type")
    processor_class = next(found for start, found in CLASSES.items() if kind.startswith(start))
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "preprocessor_config.json").write_text(json.dumps(config))
        processor = processor_class.from_pretrained(folder)
    image = Image.open(FOLDER / f"{picture}.png").convert("RGB")
    return np.asarray(processor(image)["pixel_values"][0])


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for old in FOLDER.iterdir():
        old.unlink()
    for name, (width, height) in PICTURES.items():
        draw(name, width, height).save(FOLDER / f"{name}.png", optimize=True)
    cases = []
    for name, (config, pictures) in PIXEL_CASES.items():
        for picture in pictures:
            pixels = process(config, picture)
            assert pixels.dtype == np.uint8, pixels.dtype
            expected = f"{name}_{picture}.png"
            Image.fromarray(pixels.transpose(1, 2, 0)).save(FOLDER / expected, optimize=True)
            cases.append({"name": name, "config": config, "picture": f"{picture}.png", "pixels": expected})
    for name, config in VALUE_CASES.items():
        values = [float(f"{value:.8g}") for value in process(config, "exact").astype(np.float32).ravel()]
        cases.append({"name": name, "config": config, "picture": "exact.png", "values": values})
    (FOLDER / "cases.json").write_text(json.dumps(cases, indent=1) + "\n")
    total = sum(file.stat().st_size for file in FOLDER.iterdir())
    print(f"{len(cases)} cases, {total} bytes")


if __name__ == "__main__":
    main()
