"""Holds an exported model against transformers: loads it, compares captions, and sends it there and back again.

    pip install torch==2.14.0 transformers==5.24.0 tokenizers==0.23.3 safetensors==0.8.0 pillow==11.3.0 numpy==2.4.6
    python tests/reference/check_export.py PROGRAM CHECKPOINT EXPORTED IMAGE...

EXPORTED is the folder to export to. PROGRAM is the caption-train binary; CHECKPOINT what its `--checkpoint` takes. The images are brought to the model's size
first, so that both sides see the same pixels: JPEG decoders and resizes differ in the last bit. What must hold:
- loading reports no missing, unexpected or mismatched key, whichever class fits: VisionEncoderDecoderModel or BLIP;
- tokens of the captions, greedy or by the beam search that the folder names, are equal, and so are their log-probabilities and the texts;
- EXPORTED/check/logits.safetensors holds the logits of those captions, for tests/real_data;
- exported, loaded and saved by transformers, and exported from there again, every tensor is bit for bit the same.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from PIL import Image, ImageOps
from safetensors.torch import load_file, save_file
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    BlipForConditionalGeneration,
    BlipProcessor,
    VisionEncoderDecoderModel,
)

# Both sides compute in f32.
LOG_PROBABILITY = 1e-4


def run(program, *arguments):
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def captions_here(program, checkpoint, images):
    lines = run(program, "caption", "--checkpoint", checkpoint, "--json", *images).splitlines()
    return [json.loads(line) for line in lines]


def is_blip(folder):
    return json.loads((folder / "config.json").read_text())["model_type"] == "blip"


def model_class(folder):
    return BlipForConditionalGeneration if is_blip(folder) else VisionEncoderDecoderModel


def captions_there(folder, images):
    model, report = model_class(folder).from_pretrained(folder, output_loading_info=True)
    assert not any(report[key] for key in ["missing_keys", "unexpected_keys", "mismatched_keys"]), report
    processor = AutoImageProcessor.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    search, end = model.generation_config, model.generation_config.eos_token_id
    if is_blip(folder):
        whole = BlipProcessor.from_pretrained(folder)
        assert type(whole.tokenizer) is type(tokenizer), (whole.tokenizer, tokenizer)
        assert end == model.config.text_config.sep_token_id
    captions, inputs = [], []
    for path in images:
        pixel_values = processor(Image.open(path), return_tensors="pt").pixel_values
        made = model.generate(
            pixel_values, generation_config=search, output_logits=True, return_dict_in_generate=True
        )
        tokens = made.sequences[0, 1:].tolist()
        text = tokenizer.decode(tokens, skip_special_tokens=True).strip()
        tokens = tokens[: tokens.index(end) + 1] if end in tokens else tokens
        log_probabilities = log_probabilities_of(model, pixel_values, made.sequences[:, : len(tokens)], tokens)
        captions.append((tokens[:-1] if tokens[-1] == end else tokens, log_probabilities, text))
        inputs.append((pixel_values, made.sequences[0, : len(tokens)]))
    write_logits(model, inputs, folder / "check")
    return captions


def logits_of(model, pixel_values, input_ids):
    if isinstance(model, BlipForConditionalGeneration):
        return model(pixel_values=pixel_values, input_ids=input_ids).logits
    return model(pixel_values=pixel_values, decoder_input_ids=input_ids).logits


def log_probabilities_of(model, pixel_values, input_ids, tokens):
    with torch.no_grad():
        logits = logits_of(model, pixel_values, input_ids)[0]
    return torch.log_softmax(logits.double(), -1)[torch.arange(len(tokens)), torch.tensor(tokens)].tolist()


def write_logits(model, inputs, folder):
    """Padding comes after the captions, where it changes nothing before it."""
    pixel_values = torch.cat([pixels for pixels, _ in inputs])
    input_ids = torch.nn.utils.rnn.pad_sequence([ids for _, ids in inputs], batch_first=True)
    with torch.no_grad():
        logits = logits_of(model, pixel_values, input_ids)
    tensors = {"pixel_values": pixel_values, "input_ids": input_ids, "logits": logits}
    folder.mkdir()
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "logits.safetensors")


def in_size(exported, images, work):
    """Square PNG files of the side that the encoder reads."""
    config = json.loads((exported / "config.json").read_text())
    side = config["vision_config" if is_blip(exported) else "encoder"]["image_size"]
    paths = []
    for index, path in enumerate(images):
        picture = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
        paths.append(work / f"{index}.png")
        ImageOps.fit(picture, (side, side)).save(paths[-1])
    return paths


def there_and_back(program, exported, work):
    model_class(exported).from_pretrained(exported).save_pretrained(work / "resaved")
    for name in ["tokenizer", "processor"]:
        source = AutoTokenizer if name == "tokenizer" else AutoImageProcessor
        source.from_pretrained(exported).save_pretrained(work / "resaved")
    run(program, "export", "--checkpoint", work / "resaved", "--output", work / "again")
    first, second = (load_file(folder / "model.safetensors") for folder in [exported, work / "again"])
    assert first.keys() == second.keys(), first.keys() ^ second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name
    return len(first)


def main(program, checkpoint, exported, images):
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        run(program, "export", "--checkpoint", checkpoint, "--output", exported)
        images = in_size(exported, images, work)
        largest = 0.0
        for path, here, there in zip(
            images, captions_here(program, checkpoint, images), captions_there(exported, images), strict=True
        ):
            tokens, log_probabilities, text = there
            assert here["tokens"] == tokens, (path, here, there)
            assert here["caption"] == text, (path, here["caption"], text)
            pairs = zip(here["token_log_probabilities"], log_probabilities, strict=True)
            difference = max(abs(a - b) for a, b in pairs)
            assert difference <= LOG_PROBABILITY, (path, difference)
            largest = max(largest, difference)
        count = there_and_back(program, exported, work)
    print(f"{len(images)} captions equal, log-probabilities within {largest:.1e}; {count} tensors there and back")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4:])
