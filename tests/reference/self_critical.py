"""Makes tests/fixtures/models/expected_self_critical.json: the loss of self-critical training as its paper writes it.

    pip install torch==2.15.0 transformers==5.24.0 safetensors==0.8.0
    python tests/reference/self_critical.py

Fixed samples and rewards for the two pictures of `vit_gpt2`, in float64: the loss -sum(mask * log p * advantage) /
sum(mask), where the mask ends with the first end token, and of the gradient of every parameter its norm and its product
with cos(0), cos(1), ... For the baseline that is the mean of the other samples, for that of a greedy caption, and with a
share of cross-entropy, in which the references of a picture weigh together as much as its samples have tokens.
"""

import json
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file
from transformers import VisionEncoderDecoderModel

assert torch.__version__.startswith("2.15.0"), torch.__version__
assert transformers.__version__ == "5.24.0", transformers.__version__

FOLDER = Path(__file__).resolve().parent.parent / "fixtures" / "models"
SAMPLES = [
    # Tokens, whether they are followed by the end, reward.
    [([7, 250, 31], True, 1.25), ([4, 4], True, 0.0), ([90, 12, 200, 7, 55], False, 0.4)],
    [([], True, 0.0), ([33, 260], False, 2.5), ([8, 9, 10, 11], True, 0.75)],
]
GREEDY = [0.5, 1.0]
REFERENCES = [[([7, 250, 30, 2], 1.0), ([5], 0.5)], [([33, 260, 1], 2.0)]]
SHARE = 0.25


def file_names(model, folder):
    """The parameters by their names in the file, found by their values."""
    saved = load_file(folder / "model.safetensors")
    names = {}
    for _, parameter in model.named_parameters():
        equal = [n for n, t in saved.items() if t.shape == parameter.shape and torch.equal(t.double(), parameter.detach())]
        assert len(equal) == 1, equal
        names[equal[0]] = parameter
    return names


def log_probabilities(model, pixels, tokens, start):
    """Of each of `tokens`, teacher-forced."""
    ids = torch.tensor([[start, *tokens[:-1]]])
    logits = model(pixel_values=pixels[None], decoder_input_ids=ids).logits[0]
    return torch.log_softmax(logits, -1)[torch.arange(len(tokens)), tokens]


def self_critical(model, pixels, start, end, greedy, share):
    loss, count = 0.0, 0
    for picture, samples in enumerate(SAMPLES):
        rewards = [reward for _, _, reward in samples]
        num_tokens = 0
        for tokens, ended, reward in samples:
            baseline = GREEDY[picture] if greedy else (sum(rewards) - reward) / (len(rewards) - 1)
            tokens = tokens + [end] * ended
            loss = loss - (1 - share) * (reward - baseline) * log_probabilities(model, pixels[picture], tokens, start).sum()
            num_tokens += len(tokens)
        count += num_tokens
        if share:
            references = [(tokens + [end], weight) for tokens, weight in REFERENCES[picture]]
            total = sum(weight * len(tokens) for tokens, weight in references)
            for tokens, weight in references:
                entropy = -log_probabilities(model, pixels[picture], tokens, start).sum()
                loss = loss + share * num_tokens * weight / total * entropy
    return loss / count


def main():
    folder = FOLDER / "vit_gpt2"
    # The eager attention computes its softmax in float32.
    model = VisionEncoderDecoderModel.from_pretrained(folder, attn_implementation="sdpa").double().eval()
    pixels = load_file(FOLDER / "expected_vit_gpt2.safetensors")["pixel_values"].double()
    start, end = model.config.decoder_start_token_id, model.config.eos_token_id
    parameters = file_names(model, folder)
    cases = []
    for greedy, share in [(False, 0.0), (True, 0.0), (False, SHARE)]:
        model.zero_grad()
        loss = self_critical(model, pixels, start, end, greedy, share)
        loss.backward()
        gradients = {}
        for name, parameter in sorted(parameters.items()):
            if parameter.grad is None:
                continue
            values = parameter.grad.flatten()
            wave = torch.cos(torch.arange(len(values), dtype=torch.float64))
            gradients[name] = [values.norm().item(), (values * wave).sum().item()]
        cases.append({"greedy": greedy, "share": share, "loss": loss.item(), "gradients": gradients})
    facts = {"samples": SAMPLES, "greedy": GREEDY, "references": REFERENCES, "cases": cases}
    (FOLDER / "expected_self_critical.json").write_text(json.dumps(facts, separators=(",", ":")) + "\n")
    print([case["loss"] for case in cases])


if __name__ == "__main__":
    main()
