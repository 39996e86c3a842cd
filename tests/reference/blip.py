"""Adds captioners with a BERT decoder to tests/fixtures/models/: small random ones, and what PyTorch computes with them.

    pip install torch==2.14.0 transformers==5.24.0 tokenizers==0.23.3 safetensors==0.8.0 pillow==11.3.0 numpy==2.4.6
    python tests/reference/blip.py

`blip` is a BlipForConditionalGeneration whose decoder is wider than its encoder; `vit_bert` a VisionEncoderDecoderModel
with a ViT and a BERT. Both have a WordPiece vocabulary of their own. Weights are drawn as in models.py, and what the
files beside the folders hold is the same: parameters of BLIP are called there as in a VisionEncoderDecoderModel, `encoder.`
for `vision_model.` and `decoder.` for `text_decoder.`.
"""

import json
import shutil

import torch
from safetensors.torch import load_file, save_file
from tokenizers import BertWordPieceTokenizer
from transformers import (
    BertConfig,
    BertLMHeadModel,
    BertTokenizerFast,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessorPil,
    BlipTextConfig,
    BlipVisionConfig,
    VisionEncoderDecoderModel,
    ViTConfig,
    ViTImageProcessorPil,
    ViTModel,
)

from models import (
    CAPTIONS,
    FOLDER,
    IGNORED,
    RUN,
    collate,
    file_names,
    forward_and_gradients,
    frame,
    greedy,
    is_norm,
    randomise,
    smooth_pixels,
    train,
)


def tokenizer(with_decoder_tokens):
    """The five special tokens of BERT in front, and those of BLIP behind the words."""
    trained = BertWordPieceTokenizer(lowercase=True)
    trained.train_from_iterator(CAPTIONS, vocab_size=80, min_frequency=1, show_progress=False)
    found = BertTokenizerFast(vocab=trained.get_vocab(), do_lower_case=True)
    if with_decoder_tokens:
        found.add_special_tokens({"bos_token": "[DEC]", "additional_special_tokens": ["[ENC]"]})
    return found


class Frames:
    """What `frame` and `collate` of models.py ask of a tokenizer: captions begin with `start` and end with [SEP]."""

    def __init__(self, tokenizer, start):
        self.tokenizer = tokenizer
        self.bos_token_id = start
        self.eos_token_id = tokenizer.sep_token_id
        self.pad_token_id = tokenizer.pad_token_id

    def __call__(self, caption, **arguments):
        return self.tokenizer(caption, **arguments)


def strengthen(model):
    """Positions and pictures weigh more, so that greedy captions are not one token repeated."""
    for name, parameter in model.named_parameters():
        if name.endswith("decoder.bert.embeddings.position_embeddings.weight"):
            parameter.data *= 4.0
        elif "crossattention.output.dense" in name:
            parameter.data *= 2.0
    model.tie_weights()


class AsCaptioner:
    """A BLIP with the calls of a VisionEncoderDecoderModel."""

    def __init__(self, model):
        self.model = model
        self.encoder = model.vision_model
        self.start = model.config.text_config.bos_token_id
        self.pad = model.config.text_config.pad_token_id

    def __getattr__(self, name):
        return getattr(self.model, name)

    def __call__(self, pixel_values, decoder_input_ids=None, labels=None):
        if labels is None:
            return self.model(pixel_values=pixel_values, input_ids=decoder_input_ids)
        # BLIP shifts the labels itself: they are whole captions.
        rows = len(labels)
        input_ids = torch.cat([torch.full((rows, 1), self.start), labels.masked_fill(labels == IGNORED, self.pad)], 1)
        labels = torch.cat([torch.full((rows, 1), IGNORED), labels], 1)
        return self.model(pixel_values=pixel_values, input_ids=input_ids, labels=labels)

    def generate(self, pixel_values, eos_token_id=None, prompt=(), **arguments):
        """As BLIP's own `generate`, which would not take another end token."""
        encoded = self.encoder(pixel_values=pixel_values).last_hidden_state
        return self.model.text_decoder.generate(
            input_ids=torch.tensor([[self.start, *prompt]] * len(pixel_values)),
            eos_token_id=self.model.config.text_config.sep_token_id if eos_token_id is None else eos_token_id,
            pad_token_id=self.pad,
            encoder_hidden_states=encoded,
            encoder_attention_mask=torch.ones(encoded.shape[:-1], dtype=torch.long),
            **arguments,
        )

    def cross_attentions(self, pixel_values, input_ids):
        encoded = self.encoder(pixel_values=pixel_values).last_hidden_state
        return self.model.text_decoder(
            input_ids, encoder_hidden_states=encoded, output_attentions=True
        ).cross_attentions


def blip():
    """Two layers of width 10 that see patches of 5 in an image of 15; two decoder layers of width 12."""
    words = tokenizer(with_decoder_tokens=True)
    vision = BlipVisionConfig(
        hidden_size=10,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=11,
        image_size=15,
        patch_size=5,
    )
    text = BlipTextConfig(
        vocab_size=len(words),
        hidden_size=12,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=17,
        max_position_embeddings=24,
        bos_token_id=words.bos_token_id,
        sep_token_id=words.sep_token_id,
        pad_token_id=words.pad_token_id,
    )
    model = BlipForConditionalGeneration(BlipConfig(text_config=text.to_dict(), vision_config=vision.to_dict()))
    randomise(model, seed=76)
    strengthen(model)
    return model.eval(), words, BlipImageProcessorPil(size={"height": 15, "width": 15})


def vit_bert():
    """One ViT layer of width 6, patches of 4 in an image of 8; one decoder layer of width 8 with token types."""
    words = tokenizer(with_decoder_tokens=False)
    encoder = ViTModel(
        ViTConfig(
            hidden_size=6,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=10,
            image_size=8,
            patch_size=4,
        )
    )
    decoder = BertLMHeadModel(
        BertConfig(
            vocab_size=len(words),
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=14,
            max_position_embeddings=20,
            type_vocab_size=2,
            is_decoder=True,
            add_cross_attention=True,
        )
    )
    model = VisionEncoderDecoderModel(encoder=encoder, decoder=decoder)
    for config in [model.config, model.generation_config]:
        config.decoder_start_token_id = words.cls_token_id
        config.eos_token_id = words.sep_token_id
        config.pad_token_id = words.pad_token_id
    model.generation_config.max_length = None
    model.generation_config.max_new_tokens = 20
    model.config._attn_implementation = "eager"
    randomise(model, seed=100)
    strengthen(model)
    return model.eval(), words, ViTImageProcessorPil(size={"height": 8, "width": 8})


def own_name(name):
    """The name of a parameter of BLIP in a VisionEncoderDecoderModel."""
    return name.replace("vision_model.", "encoder.", 1).replace("text_decoder.", "decoder.", 1)


def group_of(name):
    """Learning rate and decay of a parameter of `blip`."""
    rate = RUN["learning_rate"]
    if name.startswith("encoder."):
        if name.startswith("encoder.embeddings."):
            above = 3
        elif name.startswith("encoder.encoder.layers."):
            above = 2 - int(name.split(".")[3])
        else:
            above = 0
        rate = RUN["encoder_learning_rate"] * RUN["layer_decay"] ** above
    return rate, 0.0 if name.endswith(".bias") or is_norm(name) else RUN["weight_decay"]


def write(name, model, words, processor, with_run):
    folder = FOLDER / name
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    model.name_or_path = str(folder)
    words.save_pretrained(folder)
    processor.save_pretrained(folder)
    is_blip = isinstance(model, BlipForConditionalGeneration)
    start = words.bos_token_id if is_blip else words.cls_token_id
    side = (model.config.vision_config if is_blip else model.config.encoder).image_size
    length = model.config.text_config.max_position_embeddings if is_blip else model.config.decoder.max_position_embeddings
    captioner = Frames(words, start)
    model = model.double()
    parameters = {own_name(name): parameter for name, parameter in file_names(model).items()}
    model = AsCaptioner(model) if is_blip else model
    images = torch.randn((3, 3, side, side), generator=torch.Generator().manual_seed(1))
    frames = [frame(captioner, caption, length) for caption in CAPTIONS]
    assert len({len(ids) for ids in frames}) > 2
    used = [frames[0], frames[2]]
    encoded, logits, loss, smoothed, gradients = forward_and_gradients(
        model, parameters, captioner, images[:2].double(), used
    )
    captions = greedy(model, images.double(), captioner, length)
    print(name, "loss", loss, "greedy", captions)
    tensors = {"pixel_values": images, "encoder_hidden_states": encoded, "logits": logits}
    assert set(gradients) == {name for name in parameters if ".pooler." not in name}, set(parameters) - set(gradients)
    tensors.update({f"gradient.{name}": gradient for name, gradient in gradients.items()})
    facts = {"frames": used, "loss": loss, "smoothed_loss": smoothed, "greedy": captions, "captions": CAPTIONS}
    facts["start"], facts["end"], facts["pad"] = captioner.bos_token_id, captioner.eos_token_id, captioner.pad_token_id
    facts["texts"] = [words.decode(ids, skip_special_tokens=True) for ids in captions]
    facts["ids"] = [words(caption, add_special_tokens=False)["input_ids"] for caption in CAPTIONS]
    if with_run:
        patch = model.config.vision_config.patch_size
        for patches in [2, 5]:
            pixel_values = smooth_pixels(patches * patch)
            with torch.no_grad():
                found = model.encoder(pixel_values=pixel_values, interpolate_pos_encoding=True).last_hidden_state
            tensors[f"resampled.{patches}"] = found
        run, _ = train(model, parameters, captioner, images.double(), frames, group_of)
        facts["run"] = {**run, "frames": frames}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, FOLDER / f"expected_{name}.safetensors")
    text = json.dumps(facts, ensure_ascii=False, separators=(",", ":"))
    (FOLDER / f"expected_{name}.json").write_text(text + "\n", encoding="utf-8")


def main():
    write("blip", *blip(), with_run=True)
    write("vit_bert", *vit_bert(), with_run=False)
    files = [path for name in ["blip", "vit_bert"] for path in FOLDER.rglob(f"*{name}*") if path.is_file()]
    files += [path for name in ["blip", "vit_bert"] for path in (FOLDER / name).iterdir()]
    print(sum(path.stat().st_size for path in files), "bytes")


if __name__ == "__main__":
    main()
