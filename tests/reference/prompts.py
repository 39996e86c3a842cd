"""Makes tests/fixtures/prompts/expected.json: what transformers generates after prompts, and what PyTorch computes for
captions with prompts and weights, with the model in tests/fixtures/models/vit_gpt2.

    pip install torch==2.14.0 transformers==5.24.0 safetensors==0.8.0
    python tests/reference/prompts.py

Computed in float64 from the float32 weights. Captions have neither start token nor prompt, up to and without the end. The
loss of a batch is the sum of the targets' losses, each times the weight of its caption, over the sum of these weights;
targets are the tokens after the prompt. Of each gradient there is its product with sin(0.37 index), summed.
"""

import json
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy
from transformers import VisionEncoderDecoderModel

from models import FOLDER, IGNORED, file_names

assert torch.__version__.startswith("2.14.0"), torch.__version__
assert transformers.__version__ == "5.24.0", transformers.__version__

OUTPUT = FOLDER.parent / "prompts" / "expected.json"
PROMPTS = [[50], [24, 24, 167], [7, 50, 9, 30, 9]]
SETTINGS = [
    {},
    {"no_repeat_ngram_size": 2, "min_new_tokens": 5},
    {"max_new_tokens": 4, "min_new_tokens": 2},
    {"num_beams": 3, "num_return_sequences": 2},
    {"num_beams": 4, "length_penalty": 2.0, "no_repeat_ngram_size": 2},
    {"num_beams": 4, "early_stopping": "never", "length_penalty": 0.5, "min_new_tokens": 4},
    {"num_beams": 3, "early_stopping": True, "length_penalty": -1.0, "max_new_tokens": 5},
]
# Of the two captions: tokens of the prompt after the start token, and weight.
CASES = [([0, 0], [1.0, 1.0]), ([3, 0], [1.0, 1.0]), ([4, 2], [0.5, 2.25]), ([0, 7], [3.0, 0.0])]


def generated(model, pixel_values, prompt, end, setting):
    start = torch.tensor([[model.config.decoder_start_token_id, *prompt]] * len(pixel_values))
    limit = model.config.decoder.n_positions - len(prompt)
    arguments = {"max_new_tokens": limit, "do_sample": False, "num_beams": 1, "eos_token_id": end, **setting}
    captions = []
    for row in model.generate(pixel_values, decoder_input_ids=start, **arguments).tolist():
        assert row[: start.shape[1]] == start[0].tolist()
        row = row[start.shape[1] :]
        captions.append(row[: row.index(end)] if end in row else row)
    per_image = arguments.get("num_return_sequences", 1)
    captions = [captions[i : i + per_image] for i in range(0, len(captions), per_image)]
    return {"prompt": prompt, "end": end, "setting": setting, "captions": captions}


def losses(model, parameters, pixel_values, frames, prompt_lengths, weights, label_smoothing):
    """The mean loss, the log-probabilities of the targets of each caption, and the products of the gradients."""
    length = max(len(ids) for ids in frames) - 1
    input_ids = torch.zeros((len(frames), length), dtype=torch.long)
    labels = torch.full((len(frames), length), IGNORED)
    for row, (ids, prompt_length) in enumerate(zip(frames, prompt_lengths)):
        input_ids[row, : len(ids) - 1] = torch.tensor(ids[:-1])
        labels[row, prompt_length : len(ids) - 1] = torch.tensor(ids[1 + prompt_length :])
    model.zero_grad()
    logits = model(pixel_values=pixel_values, decoder_input_ids=input_ids).logits
    each = cross_entropy(
        logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none", label_smoothing=label_smoothing
    ).reshape(labels.shape)
    factors = torch.tensor(weights, dtype=torch.float64)[:, None] * (labels != IGNORED)
    loss = (factors * each).sum() / factors.sum()
    loss.backward()
    products = {}
    for name, parameter in parameters.items():
        if parameter.grad is not None:
            index = torch.arange(parameter.numel(), dtype=torch.float64)
            products[name] = (parameter.grad.flatten() * torch.sin(0.37 * index)).sum().item()
    chosen = logits.log_softmax(-1).gather(2, labels.clamp(min=0)[:, :, None])[:, :, 0]
    probabilities = [row[mask].tolist() for row, mask in zip(chosen, labels != IGNORED)]
    return loss.item(), probabilities, products


def main():
    folder = FOLDER / "vit_gpt2"
    model = VisionEncoderDecoderModel.from_pretrained(folder).double().eval()
    model.name_or_path = str(folder)
    pixel_values = load_file(FOLDER / "expected_vit_gpt2.safetensors")["pixel_values"].double()
    frames = json.loads((FOLDER / "expected_vit_gpt2.json").read_text(encoding="utf-8"))["frames"]
    captions = []
    with torch.no_grad():
        for prompt in PROMPTS:
            found = generated(model, pixel_values, prompt, model.config.eos_token_id, {})["captions"]
            longest = max((caption for image in found for caption in image), key=len)
            for end in [model.config.eos_token_id, longest[6]]:
                captions += [generated(model, pixel_values, prompt, end, setting) for setting in SETTINGS]
    for entry in captions:
        print(entry["prompt"], entry["end"], entry["setting"], [len(c) for image in entry["captions"] for c in image])
    parameters, cases = file_names(model), []
    for prompt_lengths, weights in CASES:
        case = {"prompt_lengths": prompt_lengths, "weights": weights}
        arguments = [model, parameters, pixel_values[:2], frames, prompt_lengths, weights]
        case["loss"], probabilities, _ = losses(*arguments, 0.0)
        case["smoothed_loss"], _, products = losses(*arguments, 0.1)
        if prompt_lengths == [4, 2]:
            case["log_probabilities"], case["smoothed_gradients"] = probabilities, products
        print(case)
        cases.append(case)
    OUTPUT.parent.mkdir(exist_ok=True)
    text = json.dumps({"frames": frames, "captions": captions, "losses": cases}, separators=(",", ":"))
    OUTPUT.write_text(text + "\n", encoding="utf-8")
    print(OUTPUT.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
