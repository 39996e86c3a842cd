"""Makes tests/fixtures/models/: small random captioners in the Hub's format and what PyTorch computes with them.

    pip install torch==2.14.0 transformers==5.24.0 tokenizers==0.23.3 safetensors==0.8.0 pillow==11.3.0 numpy==2.4.6
    python tests/reference/models.py

Folders as `save_pretrained` writes them: `vit_gpt2` and `clip_gpt2` (VisionEncoderDecoderModel), `clip` (a whole
CLIPModel), `gpt2` (a plain GPT2LMHeadModel). Every weight, biases and LayerNorms too, is drawn with the standard deviation
0.25, and positions, heads and what reads the picture with 1, so that captions are more than one token repeated: with first
values as the libraries draw them a wrong activation or a dropped bias would pass any tolerance.

Beside each: `expected_NAME.safetensors` (computed in float64 from the float32 weights) and `expected_NAME.json`.
"""

import json
import shutil
from pathlib import Path

import numpy
import torch
import tokenizers
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import ByteLevelBPETokenizer, Tokenizer
from torch.nn.functional import cross_entropy
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    VisionEncoderDecoderModel,
    ViTConfig,
    ViTImageProcessorPil,
    ViTModel,
    get_linear_schedule_with_warmup,
)

assert torch.__version__.startswith("2.14.0"), torch.__version__
assert transformers.__version__ == "5.24.0", transformers.__version__
assert tokenizers.__version__ == "0.23.3", tokenizers.__version__

FOLDER = Path(__file__).resolve().parent.parent / "fixtures" / "models"
CAPTIONS = [
    "A kite hangs over the harbour wall .",
    "Two foxes sleep below the harbour wall",
    "A grey kite , a red kite and a fox .",
    "The fox looks at the kites over the wall .",
    "A baker carries seven loaves over the bridge .",
    "Below the bridge two bakers share a loaf",
]
IGNORED = -100
END_OF_TEXT = "<|endoftext|>"


def is_norm(name):
    layer = ("." + name).split(".")[-2].lower()
    return layer.startswith("ln_") or "norm" in layer or "layrnorm" in layer


def randomise(model, seed):
    """Draws every parameter: 0.25 x normal, LayerNorm weights around 1."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        # Positions and pictures weigh more, so that greedy captions are not one token repeated.
        is_strong = any(part in name for part in ["wpe", "crossattention.c_proj", "lm_head"])
        values = (1.0 if is_strong else 0.25) * torch.randn(parameter.shape, generator=generator)
        if is_norm(name):
            values += 1.0
        parameter.data.copy_(values)
    model.tie_weights()


def gpt2_tokenizer():
    """A byte-level vocabulary with one special token, the last one, as GPT-2's."""
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(CAPTIONS, vocab_size=330, min_frequency=2, show_progress=False)
    document = json.loads(trained.to_str())
    document["model"]["vocab"][END_OF_TEXT] = len(document["model"]["vocab"])
    tokenizer = Tokenizer.from_str(json.dumps(document))
    tokenizer.add_special_tokens([END_OF_TEXT])
    special = dict.fromkeys(["bos_token", "eos_token", "pad_token", "unk_token"], END_OF_TEXT)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


def own_tokenizer():
    """Four special tokens at the front and lower-casing, as this project trains it."""
    special = {"pad_token": "<pad>", "bos_token": "<start>", "eos_token": "<end>", "unk_token": "<unk>"}
    trained = ByteLevelBPETokenizer(lowercase=True)
    trained.train_from_iterator(
        CAPTIONS, vocab_size=330, min_frequency=2, show_progress=False, special_tokens=list(special.values())
    )
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(trained.to_str()), **special)


def captioner(encoder, decoder_config, tokenizer, seed):
    decoder = GPT2LMHeadModel(decoder_config)
    model = VisionEncoderDecoderModel(encoder=encoder, decoder=decoder)
    for config in [model.config, model.generation_config]:
        config.decoder_start_token_id = tokenizer.bos_token_id
        config.bos_token_id = tokenizer.bos_token_id
        config.eos_token_id = tokenizer.eos_token_id
        config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.max_length = None
    model.generation_config.max_new_tokens = decoder_config.n_positions
    model.config._attn_implementation = "eager"
    randomise(model, seed)
    return model.eval()


def vit_gpt2():
    """Three ViT layers of width 12, patches of 14 in an image of 42; one decoder layer of width 8; pad = end = start."""
    tokenizer = gpt2_tokenizer()
    encoder = ViTModel(
        ViTConfig(
            hidden_size=12,
            num_hidden_layers=3,
            num_attention_heads=3,
            intermediate_size=20,
            image_size=42,
            patch_size=14,
        )
    )
    decoder = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=24,
        n_embd=8,
        n_layer=1,
        n_head=2,
        n_inner=18,
        add_cross_attention=True,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )
    processor = ViTImageProcessorPil(size={"height": 42, "width": 42})
    return captioner(encoder, decoder, tokenizer, seed=857), tokenizer, processor


def clip_gpt2():
    """One CLIP layer of width 6, patches of 32 in an image of 64; three decoder layers of width 6; an untied head."""
    tokenizer = own_tokenizer()
    encoder = CLIPVisionModel(
        CLIPVisionConfig(
            hidden_size=6,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=10,
            image_size=64,
            patch_size=32,
            projection_dim=5,
        )
    )
    decoder = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=20,
        n_embd=6,
        n_layer=3,
        n_head=3,
        add_cross_attention=True,
        tie_word_embeddings=False,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )
    processor = CLIPImageProcessorPil(size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64})
    return captioner(encoder, decoder, tokenizer, seed=9), tokenizer, processor


def frame(tokenizer, caption, length):
    """Start, caption, end; cut to `length` + 1 tokens, of which the last is always the end."""
    ids = tokenizer(caption, add_special_tokens=False)["input_ids"]
    return [tokenizer.bos_token_id, *ids[: length - 1], tokenizer.eos_token_id]


def collate(tokenizer, frames):
    """Decoder input padded with the pad token, labels padded with an ignore mark."""
    length = max(len(ids) for ids in frames) - 1
    input_ids = torch.full((len(frames), length), tokenizer.pad_token_id)
    labels = torch.full((len(frames), length), IGNORED)
    for row, ids in enumerate(frames):
        input_ids[row, : len(ids) - 1] = torch.tensor(ids[:-1])
        labels[row, : len(ids) - 1] = torch.tensor(ids[1:])
    return input_ids, labels


def smooth_pixels(side):
    """A picture that Rust computes as well, so that it need not be stored: (1, 3, side, side)."""
    index = torch.arange(3 * side * side, dtype=torch.float64)
    return torch.sin(index * 0.37).reshape(1, 3, side, side)


def resampled(model, remainder=0):
    """Hidden states for other image sizes than the model's, larger and smaller; `remainder` is what fills no patch."""
    states = {}
    # A DINOv2 takes any size unasked.
    asked = {} if model.config.encoder.model_type.startswith("dinov2") else {"interpolate_pos_encoding": True}
    for patches in [2, 5]:
        pixel_values = smooth_pixels(patches * model.config.encoder.patch_size + remainder)
        with torch.no_grad():
            found = model.encoder(pixel_values=pixel_values, **asked).last_hidden_state
        states[f"resampled.{patches}"] = found
    return states


def loss_sum(logits, labels, label_smoothing=0.0):
    return cross_entropy(
        logits.flatten(0, 1),
        labels.flatten(),
        ignore_index=IGNORED,
        reduction="sum",
        label_smoothing=label_smoothing,
    )


def file_names(model):
    """The parameters under the names of the file, which are others than those in memory: found by their values."""
    saved = load_file(Path(model.name_or_path) / "model.safetensors")
    names = {}
    for parameter in model.parameters():
        # The model may have become float64 since, which changes no value.
        equal = [
            name
            for name, tensor in saved.items()
            if tensor.shape == parameter.shape and torch.equal(tensor, parameter.detach().float())
        ]
        assert len(equal) == 1, equal
        names[equal[0]] = parameter
    assert len(names) == len(saved)
    return names


def forward_and_gradients(model, parameters, tokenizer, pixel_values, frames):
    input_ids, labels = collate(tokenizer, frames)
    model.zero_grad()
    encoded = model.encoder(pixel_values=pixel_values).last_hidden_state
    logits = model(pixel_values=pixel_values, decoder_input_ids=input_ids).logits
    count = int((labels != IGNORED).sum())
    loss = loss_sum(logits, labels) / count
    # The library's own loss: labels in, everything else made by it.
    own = model(pixel_values=pixel_values, labels=labels).loss
    assert abs((own - loss).item()) < 1e-12, (own.item(), loss.item())
    loss.backward()
    gradients = {name: p.grad.clone() for name, p in parameters.items() if p.grad is not None}
    smoothed = loss_sum(logits, labels, 0.1).item() / count
    return encoded.detach(), logits.detach(), loss.item(), smoothed, gradients


def greedy(model, pixel_values, tokenizer, limit):
    """Token by token, by the library: without the start, up to and without the end."""
    rows = model.generate(pixel_values, do_sample=False, num_beams=1, max_new_tokens=limit)
    captions = []
    for row in rows.tolist():
        tokens = row[1:]
        if tokenizer.eos_token_id in tokens:
            tokens = tokens[: tokens.index(tokenizer.eos_token_id)]
        captions.append(tokens)
    return captions


# The run of 20 updates.
RUN = {
    "learning_rate": 5e-3,
    "encoder_learning_rate": 2e-3,
    "layer_decay": 0.8,
    "betas": [0.9, 0.98],
    "eps": 1e-7,
    "weight_decay": 0.05,
    "max_grad_norm": 1.0,
    "warmup_steps": 4,
    "num_updates": 20,
    "label_smoothing": 0.05,
}


def group_of(name, num_blocks):
    """Learning rate and decay of a parameter of a captioner whose encoder has this many blocks."""
    rate = RUN["learning_rate"]
    if name.startswith("encoder."):
        if name.startswith("encoder.embeddings."):
            above = num_blocks + 1
        elif name.startswith("encoder.encoder.layer."):
            above = num_blocks - int(name.split(".")[3])
        else:
            above = 0
        rate = RUN["encoder_learning_rate"] * RUN["layer_decay"] ** above
    is_free = name.endswith((".bias", ".lambda1")) or is_norm(name)
    return rate, 0.0 if is_free else RUN["weight_decay"]


def train(model, parameters, tokenizer, images, frames, group_of=group_of):
    """20 updates of two micro-batches each, the sum of the losses divided by all targets of the update."""
    unused = ("encoder.pooler.", "encoder.embeddings.mask_token")
    parameters = {name: p for name, p in parameters.items() if not name.startswith(unused)}
    groups = []
    for name, p in parameters.items():
        rate, decay = group_of(name, model.config.encoder.num_hidden_layers)
        groups.append({"params": [p], "lr": rate, "weight_decay": decay})
    optimizer = torch.optim.AdamW(groups, betas=tuple(RUN["betas"]), eps=RUN["eps"])
    schedule = get_linear_schedule_with_warmup(optimizer, RUN["warmup_steps"], RUN["num_updates"])
    generator = numpy.random.default_rng(5)
    updates, losses, norms, after = [], [], [], {}
    for update in range(RUN["num_updates"]):
        # The second batch is smaller and its captions are others: a mean of means would differ.
        batches = [generator.integers(0, len(frames), size).tolist() for size in [3, 2]]
        total = sum(len(frames[index]) - 1 for batch in batches for index in batch)
        optimizer.zero_grad()
        loss = 0.0
        for batch in batches:
            input_ids, labels = collate(tokenizer, [frames[index] for index in batch])
            pixel_values = images[[index % len(images) for index in batch]]
            logits = model(pixel_values=pixel_values, decoder_input_ids=input_ids).logits
            part = loss_sum(logits, labels, RUN["label_smoothing"]) / total
            part.backward()
            loss += part.item()
        norms.append(float(torch.nn.utils.clip_grad_norm_(parameters.values(), RUN["max_grad_norm"])))
        optimizer.step()
        schedule.step()
        updates.append(batches)
        losses.append(loss)
        # The first update has the learning rate 0: the second is the first that changes anything.
        if update == 1:
            after = {f"after_2.{name}": p.detach().clone() for name, p in parameters.items()}
    return {**RUN, "updates": updates, "losses": losses, "grad_norms": norms}, after


def write(name, model, tokenizer, processor, with_run, with_sizes=False, remainder=0, captions=CAPTIONS):
    folder = FOLDER / name
    model.save_pretrained(folder)
    model.name_or_path = str(folder)
    tokenizer.save_pretrained(folder)
    processor.save_pretrained(folder)
    side = model.config.encoder.image_size
    generator = torch.Generator().manual_seed(1)
    images = torch.randn((3 if with_run else 2, 3, side, side), generator=generator)
    length = model.config.decoder.n_positions
    frames = [frame(tokenizer, caption, length) for caption in captions]
    assert len({len(ids) for ids in frames}) > 2
    model = model.double()
    parameters = file_names(model)
    # Two pictures, two captions of different lengths.
    used = [frames[0], frames[2]]
    encoded, logits, loss, smoothed, gradients = forward_and_gradients(
        model, parameters, tokenizer, images[:2].double(), used
    )
    written = greedy(model, images.double(), tokenizer, length)
    print(name, "loss", loss, "greedy", written)
    tensors = {"pixel_values": images, "encoder_hidden_states": encoded, "logits": logits}
    tensors.update({f"gradient.{name}": gradient for name, gradient in gradients.items()})
    facts = {"frames": used, "loss": loss, "smoothed_loss": smoothed, "greedy": written, "captions": captions}
    facts["texts"] = [tokenizer.decode(ids, skip_special_tokens=True) for ids in written]
    facts["ids"] = [tokenizer(caption, add_special_tokens=False)["input_ids"] for caption in captions]
    if with_run or with_sizes:
        tensors.update(resampled(model, remainder))
    if with_run:
        # The run changes the parameters.
        run, after = train(model, parameters, tokenizer, images.double(), frames)
        facts["run"] = {**run, "frames": frames}
        tensors.update(after)
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(tensors, FOLDER / f"expected_{name}.safetensors")
    text = json.dumps(facts, ensure_ascii=False, separators=(",", ":"))
    (FOLDER / f"expected_{name}.json").write_text(text + "\n", encoding="utf-8")


def write_clip():
    """Both towers, the projections and the temperature; only the image tower is wanted."""
    config = CLIPConfig(
        text_config=dict(
            vocab_size=20,
            hidden_size=6,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=10,
            max_position_embeddings=7,
        ),
        vision_config=dict(
            hidden_size=8,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=12,
            image_size=28,
            patch_size=14,
        ),
        projection_dim=4,
    )
    model = CLIPModel(config).eval()
    randomise(model, 4)
    model.save_pretrained(FOLDER / "clip")
    CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}).save_pretrained(
        FOLDER / "clip"
    )
    images = torch.randn((2, 3, 28, 28), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        states = model.double().vision_model(images.double()).last_hidden_state
    save_file(
        {"pixel_values": images, "encoder_hidden_states": states.contiguous()}, FOLDER / "expected_clip.safetensors"
    )


def write_gpt2():
    """A plain language model in its oldest form: vocab.json and merges.txt, tensors without a prefix, masks stored."""
    tokenizer = gpt2_tokenizer()
    config = GPT2Config(vocab_size=len(tokenizer), n_positions=20, n_embd=8, n_layer=2, n_head=2)
    config.bos_token_id = config.eos_token_id = tokenizer.eos_token_id
    model = GPT2LMHeadModel(config).eval()
    randomise(model, 5)
    folder = FOLDER / "gpt2"
    folder.mkdir()
    config.architectures = ["GPT2LMHeadModel"]
    config.save_pretrained(folder)
    tensors = {
        name.removeprefix("transformer."): tensor.contiguous()
        for name, tensor in model.state_dict().items()
        if name != "lm_head.weight"
    }
    for layer in range(config.n_layer):
        tensors[f"h.{layer}.attn.bias"] = torch.ones(1, 1, 20, 20).tril()
    save_file(tensors, folder / "model.safetensors")
    tokenizer.backend_tokenizer.model.save(str(folder))
    input_ids, _ = collate(tokenizer, [frame(tokenizer, CAPTIONS[0], 20), frame(tokenizer, CAPTIONS[1], 20)])
    with torch.no_grad():
        logits = model.double()(input_ids).logits
    save_file({"input_ids": input_ids, "logits": logits.contiguous()}, FOLDER / "expected_gpt2.safetensors")


def make_room(*names):
    """Removes the fixtures of these names, and nothing that another script made."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.rmtree(FOLDER / name, ignore_errors=True)
        for suffix in ["safetensors", "json"]:
            (FOLDER / f"expected_{name}.{suffix}").unlink(missing_ok=True)


def main():
    torch.set_grad_enabled(True)
    make_room("vit_gpt2", "clip_gpt2", "clip", "gpt2")
    write("vit_gpt2", *vit_gpt2(), with_run=True)
    write("clip_gpt2", *clip_gpt2(), with_run=False)
    write_clip()
    write_gpt2()
    total = sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file())
    print(f"{total} bytes in {FOLDER}")


if __name__ == "__main__":
    main()
