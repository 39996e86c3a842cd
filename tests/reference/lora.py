"""Makes tests/fixtures/lora/: an adapter of PEFT for the model `vit_gpt2` of tests/fixtures/models, and what PEFT computes.

    pip install -r the versions of models.py, and peft==0.21.2
    python tests/reference/models.py && python tests/reference/lora.py

`adapter/` is what `save_pretrained` writes. `expected.safetensors` and `expected.json` have, computed in float64: logits,
loss and the gradients of all A and B, greedy captions, and a run of AdamW over A and B alone.
"""

import json
import shutil
from pathlib import Path

import peft
import torch
from models import FOLDER as MODELS
from models import collate, frame, greedy, loss_sum
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, VisionEncoderDecoderModel

assert peft.__version__ == "0.21.2", peft.__version__

FOLDER = MODELS.parent / "lora"
NAME = "vit_gpt2"
# Layers of both kinds, before and after an activation, with equal and with different widths.
TARGETS = (
    r"encoder\.layers\.\d+\.(attention\.(q_proj|v_proj)|mlp\.fc2)"
    r"|decoder\.transformer\.h\.\d+\.(attn\.c_attn|crossattention\.(c_attn|q_attn)|mlp\.c_proj)"
)
RUN = {"learning_rate": 1e-2, "betas": [0.9, 0.98], "eps": 1e-7, "weight_decay": 0.05, "num_updates": 4}
CAPTIONS = ["A grey kite , a red kite and a fox .", "Below the bridge two bakers share a loaf"]


def plain(name):
    return name.replace(".default", "").removeprefix("base_model.model.")


def randomise(model):
    generator = torch.Generator().manual_seed(3)
    trained = {plain(name): p for name, p in model.named_parameters() if p.requires_grad}
    for parameter in trained.values():
        parameter.data.copy_(0.25 * torch.randn(parameter.shape, generator=generator))
    return trained


def main():
    tokenizer = AutoTokenizer.from_pretrained(MODELS / NAME)
    base = VisionEncoderDecoderModel.from_pretrained(MODELS / NAME).eval()
    config = LoraConfig(r=3, lora_alpha=5, lora_dropout=0.0, target_modules=TARGETS, fan_in_fan_out=True)
    model = get_peft_model(base, config).eval()
    trained = randomise(model)
    model.peft_config["default"].base_model_name_or_path = NAME
    shutil.rmtree(FOLDER, ignore_errors=True)
    model.save_pretrained(FOLDER / "adapter")
    (FOLDER / "adapter" / "README.md").unlink(missing_ok=True)
    model.double()
    pixel_values = load_file(MODELS / f"expected_{NAME}.safetensors")["pixel_values"].double()
    frames = [frame(tokenizer, caption, base.config.decoder.n_positions) for caption in CAPTIONS]
    input_ids, labels = collate(tokenizer, frames)

    def loss():
        logits = model(pixel_values=pixel_values[:2], decoder_input_ids=input_ids).logits
        return logits, loss_sum(logits, labels) / int((labels != -100).sum())

    logits, first = loss()
    first.backward()
    tensors = {"logits": logits.detach()[:, :2].contiguous()}
    tensors |= {f"gradient.{name}": p.grad.clone() for name, p in trained.items()}
    tokens = greedy(base, pixel_values, tokenizer, base.config.decoder.n_positions)
    assert len({tuple(row) for row in tokens}) > 1, tokens
    optimizer = torch.optim.AdamW(
        trained.values(), lr=RUN["learning_rate"], betas=tuple(RUN["betas"]), eps=RUN["eps"],
        weight_decay=RUN["weight_decay"],
    )
    losses = []
    for _ in range(RUN["num_updates"]):
        optimizer.zero_grad()
        _, value = loss()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    tensors |= {f"after.{name}": p.detach().clone() for name, p in trained.items()}
    save_file(tensors, FOLDER / "expected.safetensors")
    facts = {"frames": frames, "loss": first.item(), "greedy": tokens, "run": {**RUN, "losses": losses}}
    (FOLDER / "expected.json").write_text(json.dumps(facts, indent=1) + "\n")


main()
