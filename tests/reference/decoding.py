"""Makes tests/fixtures/models/expected_decoding_NAME.json: what `generate` of transformers writes about the pictures of the
model fixtures under many settings.

    pip install torch==2.14.0 transformers==5.24.0 safetensors==0.8.0
    python tests/reference/decoding.py

For each model, each end token and each setting: the captions of all pictures (tokens without the start token, up to and
without the end), those of a picture together, the best first, with the scores of a beam search; and for one caption of
each picture how much its tokens look at each patch, as a mean over heads and blocks. Computed in float64 from the float32
weights. Random weights seldom end a caption by themselves: tokens out of the middle of captions are end tokens
too, so that captions end early, late and not at all. What BLIP writes after a prompt is under `prompts`, without the
prompt's tokens in the captions.
"""

import json
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file
from transformers import BlipForConditionalGeneration, VisionEncoderDecoderModel

from blip import AsCaptioner

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


NAMES = ["vit_gpt2", "clip_gpt2", "blip", "vit_bert"]
# Tokens after the start token of BLIP.
PROMPTS = [[7, 63], [66, 7, 63, 50]]


def limit_of(model):
    """Tokens of the longest caption, without a prompt."""
    if isinstance(model, AsCaptioner):
        return model.config.text_config.max_position_embeddings
    decoder = model.config.decoder
    return decoder.n_positions if decoder.model_type == "gpt2" else decoder.max_position_embeddings


def captions(model, pixel_values, end, setting, prompt=()):
    arguments = {"max_new_tokens": limit_of(model) - len(prompt), "do_sample": False, "num_beams": 1, "eos_token_id": end}
    arguments.update(setting)
    if prompt:
        arguments["prompt"] = prompt
    found = model.generate(pixel_values, return_dict_in_generate=True, output_scores=True, **arguments)
    tokens = []
    for row in found.sequences.tolist():
        assert row[1 : 1 + len(prompt)] == list(prompt)
        row = row[1 + len(prompt) :]
        tokens.append(row[: row.index(end)] if end in row else row)
    scores = [round(score, 8) for score in found.sequences_scores.tolist()] if arguments["num_beams"] > 1 else None
    per_image = arguments.get("num_return_sequences", 1)
    group = lambda values: [values[i : i + per_image] for i in range(0, len(values), per_image)]
    return {"end": end, "setting": setting, "captions": group(tokens), "scores": group(scores) if scores else None}


def attention(model, pixel_values, tokens):
    """One caption for each picture, the start token included, and its weights (pictures, tokens, patches)."""
    if isinstance(model, AsCaptioner):
        found = model.cross_attentions(pixel_values, torch.tensor(tokens))
    else:
        found = model(pixel_values=pixel_values, decoder_input_ids=torch.tensor(tokens), output_attentions=True)
        found = found.cross_attentions
    weights = torch.stack(found).mean(dim=(0, 2))  # (blocks, pictures, heads, tokens, patches)
    return {"tokens": tokens, "weights": [[[round(w, 9) for w in row] for row in rows] for rows in weights.tolist()]}


def read(name):
    """The model, and its start and end token."""
    if name == "blip":
        model = BlipForConditionalGeneration.from_pretrained(FOLDER / name, attn_implementation="eager").double().eval()
        return AsCaptioner(model), model.config.text_config.bos_token_id, model.config.text_config.sep_token_id
    model = VisionEncoderDecoderModel.from_pretrained(FOLDER / name, attn_implementation="eager").double().eval()
    return model, model.config.decoder_start_token_id, model.config.eos_token_id


def write(name):
    model, start, own = read(name)
    pixel_values = load_file(FOLDER / f"expected_{name}.safetensors")["pixel_values"].double()
    longest = max((c for image in captions(model, pixel_values, own, {})["captions"] for c in image), key=len)
    # The search does not know the family: for the later models one more end token is enough.
    others = [longest[4], longest[9], longest[14]] if "gpt2" in name else [max(longest, key=longest.index)]
    found = [captions(model, pixel_values, end, setting) for end in [own, *others] for setting in SETTINGS]
    for entry in found:
        print(name, entry["end"], entry["setting"], [len(c) for image in entry["captions"] for c in image])
    tokens = [[start, 7 + picture, 50, 9, 30 + picture] for picture in range(len(pixel_values))]
    facts = {"captions": found, "attention": attention(model, pixel_values, tokens)}
    if name == "blip":
        facts["prompts"] = [
            {"prompt": prompt, **captions(model, pixel_values, own, setting, prompt)}
            for prompt in PROMPTS
            for setting in SETTINGS[:6]
        ]
        # Its own way of beginning after a prompt: the first token is replaced and the last left out.
        words = torch.tensor([[2, *PROMPTS[0], 3]] * len(pixel_values))
        rows = model.model.generate(pixel_values, words, max_new_tokens=5, num_beams=1, do_sample=False).tolist()
        ours = captions(model, pixel_values, own, {"max_new_tokens": 5}, PROMPTS[0])["captions"]
        assert [row[3:] for row in rows] == [image[0] for image in ours], (rows, ours)
    text = json.dumps(facts, separators=(",", ":"))
    (FOLDER / f"expected_decoding_{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    with torch.no_grad():
        for name in NAMES:
            write(name)
