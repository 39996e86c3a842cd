"""Makes tests/fixtures/models/expected_decoding.json: what `generate` of transformers writes about the pictures of the
model fixtures under many settings.

    pip install torch==2.14.0 transformers==5.24.0 safetensors==0.8.0
    python tests/reference/decoding.py

For each model, each end token and each setting: the captions of all pictures (tokens without the start token, up to and
without the end), those of a picture together, the best first, with the scores of a beam search; and for one caption of
each picture how much its tokens look at each patch, as a mean over heads and blocks. Computed in float64 from the float32
weights. Random weights seldom end a caption by themselves: tokens out of the middle of captions are end tokens
too, so that captions end early, late and not at all.
"""

import json
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file
from transformers import VisionEncoderDecoderModel

assert torch.__version__.startswith("2.14.0"), torch.__version__
assert transformers.__version__ == "5.24.0", transformers.__version__

FOLDER = Path(__file__).resolve().parent.parent / "fixtures" / "models"
SETTINGS = [
    {},
    {"no_repeat_ngram_size": 1},
    {"no_repeat_ngram_size": 2},
    {"min_new_tokens": 5},
    {"num_beams": 2},
    {"num_beams": 3, "num_return_sequences": 3},
    {"num_beams": 5, "num_return_sequences": 2},
    {"num_beams": 4, "length_penalty": 0.0},
    {"num_beams": 4, "length_penalty": 2.0},
    {"num_beams": 4, "length_penalty": -1.0},
    {"num_beams": 4, "early_stopping": True, "num_return_sequences": 4},
    {"num_beams": 4, "early_stopping": True, "length_penalty": 0.0},
    {"num_beams": 4, "early_stopping": "never"},
    {"num_beams": 4, "early_stopping": "never", "length_penalty": 2.0, "num_return_sequences": 4},
    {"num_beams": 4, "early_stopping": "never", "length_penalty": -0.5},
    {"num_beams": 3, "no_repeat_ngram_size": 2},
    {"num_beams": 3, "min_new_tokens": 4},
    {"num_beams": 5, "no_repeat_ngram_size": 3, "min_new_tokens": 3, "length_penalty": 0.7},
    {"num_beams": 3, "max_new_tokens": 3},
]


def captions(model, pixel_values, end, setting):
    limit = model.config.decoder.n_positions
    arguments = {"max_new_tokens": limit, "do_sample": False, "num_beams": 1, "eos_token_id": end, **setting}
    found = model.generate(pixel_values, return_dict_in_generate=True, output_scores=True, **arguments)
    tokens = []
    for row in found.sequences.tolist():
        row = row[1:]
        tokens.append(row[: row.index(end)] if end in row else row)
    scores = found.sequences_scores.tolist() if arguments["num_beams"] > 1 else None
    per_image = arguments.get("num_return_sequences", 1)
    group = lambda values: [values[i : i + per_image] for i in range(0, len(values), per_image)]
    return {"end": end, "setting": setting, "captions": group(tokens), "scores": group(scores) if scores else None}


def attention(model, pixel_values, tokens):
    """One caption for each picture, the start token included, and its weights (pictures, tokens, patches)."""
    found = model(pixel_values=pixel_values, decoder_input_ids=torch.tensor(tokens), output_attentions=True)
    weights = torch.stack(found.cross_attentions).mean(dim=(0, 2))  # (blocks, pictures, heads, tokens, patches)
    return {"tokens": tokens, "weights": [[[round(w, 9) for w in row] for row in rows] for rows in weights.tolist()]}


def main():
    result, watched = {}, {}
    for name in ["vit_gpt2", "clip_gpt2"]:
        model = VisionEncoderDecoderModel.from_pretrained(FOLDER / name, attn_implementation="eager").double().eval()
        pixel_values = load_file(FOLDER / f"expected_{name}.safetensors")["pixel_values"].double()
        with torch.no_grad():
            own = model.config.eos_token_id
            longest = max((c for image in captions(model, pixel_values, own, {})["captions"] for c in image), key=len)
            ends = [own, longest[4], longest[9], longest[14]]
            result[name] = [captions(model, pixel_values, end, setting) for end in ends for setting in SETTINGS]
            tokens = [[model.config.decoder_start_token_id, 7 + picture, 50, 9, 30 + picture] for picture in range(len(pixel_values))]
            watched[name] = attention(model, pixel_values, tokens)
        for entry in result[name]:
            print(name, entry["end"], entry["setting"], [len(c) for image in entry["captions"] for c in image])
    text = json.dumps({"captions": result, "attention": watched}, separators=(",", ":"))
    (FOLDER / "expected_decoding.json").write_text(text + "\n", encoding="utf-8")


main()
