"""PyTorch's side of benches/beam_search.rs: `generate` of transformers on an exported model.

    python torch_beam_search.py --model EXPORT --make-features IMAGE_FOLDER DATASET_JSON NUMBER --features FILE
    python torch_beam_search.py --model EXPORT --features FILE [--captions FILE]

The first writes the encoder's outputs of validation images, from which both sides begin. The second prints one line of
JSON; `--captions` gets the tokens of each caption, without start and end.
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
parser.add_argument("--features", required=True)
parser.add_argument("--make-features", nargs=3)
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
def make_features(folder, dataset, number):
    images = [image for image in json.loads(Path(dataset).read_text())["images"] if image["split"] == "val"]
    processor = AutoImageProcessor.from_pretrained(arguments.model)
    states = []
    for first in range(0, min(int(number), len(images)), 50):
        batch = [Image.open(Path(folder) / image["filename"]).convert("RGB") for image in images[first : first + 50]]
        pixel_values = processor(batch, return_tensors="pt").pixel_values
        states.append(model.encoder(pixel_values=pixel_values.to(device)).last_hidden_state.cpu())
    save_file({"encoder_hidden_states": torch.cat(states)[: int(number)].contiguous()}, arguments.features)


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
    make_features(*arguments.make_features)
else:
    features = load_file(arguments.features)["encoder_hidden_states"].to(device)
    captions(features[: arguments.batch])
    started = time.perf_counter()
    found = captions(features)
    seconds = time.perf_counter() - started
    if arguments.captions:
        Path(arguments.captions).write_text(json.dumps(found))
    print(json.dumps({"seconds": seconds, "images": len(features)}))
