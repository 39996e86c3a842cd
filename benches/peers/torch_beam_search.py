"""PyTorch's side of benches/beam_search.rs: `generate` of transformers on an exported model.

    python torch_beam_search.py --model EXPORT --make-features IMAGE_FOLDER DATASET_JSON NUMBER --features FILE
    python torch_beam_search.py --model EXPORT --features FILE [--captions FILE]
    python torch_beam_search.py --model EXPORT --images IMAGE_FOLDER DATASET_JSON NUMBER

The first writes the encoder's outputs of validation images, from which both sides begin. The second prints one line of
JSON; `--captions` gets the tokens of each caption, without start and end. The third begins from the pictures' files.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoImageProcessor, VisionEncoderDecoderModel
from transformers.modeling_outputs import BaseModelOutput

parser = argparse.ArgumentParser()
parser.add_argument("--model", required=True)
parser.add_argument("--features")
parser.add_argument("--make-features", nargs=3)
parser.add_argument("--images", nargs=3)
parser.add_argument("--captions")
parser.add_argument("--batch", type=int, default=50)
parser.add_argument("--num-beams", type=int, default=5)
parser.add_argument("--device", default="cpu")
parser.add_argument("--amp", action="store_true", help="bf16 autocast")
arguments = parser.parse_args()
if arguments.device == "cpu":
    torch.set_num_threads(2)
device = torch.device(arguments.device)
model = VisionEncoderDecoderModel.from_pretrained(arguments.model).eval().to(device)


@torch.no_grad()
def encoder_outputs(folder, dataset, number):
    """Of validation images, a batch at a time."""
    images = [image for image in json.loads(Path(dataset).read_text())["images"] if image["split"] == "val"]
    images = images[: int(number)]
    processor = AutoImageProcessor.from_pretrained(arguments.model)
    for first in range(0, len(images), arguments.batch):
        names = [image["filename"] for image in images[first : first + arguments.batch]]
        pictures = [Image.open(Path(folder) / name).convert("RGB") for name in names]
        pixel_values = processor(pictures, return_tensors="pt").pixel_values.to(device)
        yield model.encoder(pixel_values=pixel_values).last_hidden_state


@torch.no_grad()
def captions(features):
    end = model.generation_config.eos_token_id
    found = []
    for first in range(0, len(features), arguments.batch):
        outputs = BaseModelOutput(last_hidden_state=features[first : first + arguments.batch])
        with torch.autocast(device.type, torch.bfloat16, enabled=arguments.amp):
            rows = model.generate(encoder_outputs=outputs, num_beams=arguments.num_beams, do_sample=False)
        for row in rows.tolist():
            row = row[1:]
            found.append(row[: row.index(end)] if end in row else row)
    return found


if arguments.make_features:
    states = torch.cat([states.cpu() for states in encoder_outputs(*arguments.make_features)])
    save_file({"encoder_hidden_states": states.contiguous()}, arguments.features)
elif arguments.images:
    started = time.perf_counter()
    number = sum(len(captions(states)) for states in encoder_outputs(*arguments.images))
    print(json.dumps({"seconds": time.perf_counter() - started, "images": number}))
else:
    features = load_file(arguments.features)["encoder_hidden_states"].to(device)
    captions(features[: arguments.batch])
    started = time.perf_counter()
    found = captions(features)
    seconds = time.perf_counter() - started
    if arguments.captions:
        Path(arguments.captions).write_text(json.dumps(found))
    print(json.dumps({"seconds": seconds, "images": len(features)}))
