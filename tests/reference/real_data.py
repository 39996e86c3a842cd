"""What Python computes on real data, for tests/real_data: an encoder's hidden states, and a tokenizer's ids.

    pip install torch==2.14.0 transformers==5.24.0 tokenizers==0.23.3 safetensors==0.8.0 pillow==11.3.0 numpy==2.4.6
    python tests/reference/real_data.py ENCODER_FOLDER PREPARED_DATA_SET OUTPUT_FOLDER [DINOV2_FOLDER]

Of a DINOv2 also OUTPUT_FOLDER/dinov2_resampled: the same model for the pictures that its image processor gives, with the
positions that transformers resamples in every pass.
"""

import json
import sys
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import save_file
from tokenizers import ByteLevelBPETokenizer
from transformers import AutoImageProcessor, AutoModel

NUM_IMAGES = 16
NUM_CAPTIONS = 5000


def states(encoder, paths, output):
    """Hidden states of pictures, to the file `output`."""
    processor = AutoImageProcessor.from_pretrained(encoder)
    pixel_values = processor([Image.open(path).convert("RGB") for path in paths], return_tensors="pt").pixel_values
    tensors = {"pixel_values": pixel_values.contiguous()}
    model = AutoModel.from_pretrained(encoder)
    with torch.no_grad():
        for name, dtype in [("f32", torch.float32), ("f64", torch.float64)]:
            states = model.to(dtype)(pixel_values=pixel_values.to(dtype)).last_hidden_state
            tensors[f"encoder_hidden_states.{name}"] = states.contiguous()
    save_file(tensors, output)


def resampled(encoder, output):
    """A DINOv2 with the table of positions for the pictures that its image processor gives."""
    model, processor = AutoModel.from_pretrained(encoder).float(), AutoImageProcessor.from_pretrained(encoder)
    side = processor.crop_size["height"]
    tokens = torch.zeros(1, 1 + (side // model.config.patch_size) ** 2, model.config.hidden_size)
    table = model.embeddings.interpolate_pos_encoding(tokens, side, side)
    model.embeddings.position_embeddings = torch.nn.Parameter(table.detach().contiguous())
    model.config.image_size = side
    model.save_pretrained(output)
    processor.save_pretrained(output)


def tokens(captions, output):
    tokenizer = ByteLevelBPETokenizer(lowercase=True)
    special = ["<pad>", "<start>", "<end>", "<unk>"]
    tokenizer.train_from_iterator(captions, vocab_size=4096, min_frequency=2, special_tokens=special)
    # From all over the data set.
    some = captions[:: max(1, len(captions) // NUM_CAPTIONS)][:NUM_CAPTIONS]
    facts = {"training": captions, "captions": some, "ids": [tokenizer.encode(caption).ids for caption in some]}
    (output / "tokenizer.json").write_text(json.dumps(facts), encoding="utf-8")


def main(encoder, dataset, output, dinov2=None):
    output.mkdir(parents=True, exist_ok=True)
    images = json.loads((dataset / "dataset.json").read_text(encoding="utf-8"))["images"]
    chosen = images[:: len(images) // NUM_IMAGES][:NUM_IMAGES]
    paths = [dataset / "images" / image["filename"] for image in chosen]
    states(encoder, paths, output / "encoder.safetensors")
    if dinov2:
        states(dinov2, paths, output / "dinov2.safetensors")
        resampled(dinov2, output / "dinov2_resampled")
    training = [image for image in images if image["split"] == "train"]
    tokens([sentence["raw"] for image in training for sentence in image["sentences"]], output)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), *sys.argv[4:])
