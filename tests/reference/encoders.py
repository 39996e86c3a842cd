"""Makes the fixtures of tests/fixtures/models/ whose encoder is neither a ViT nor a CLIP: as models.py, of which it uses
the helpers.

    pip install torch==2.14.0 transformers==5.24.0 tokenizers==0.23.3 safetensors==0.8.0 pillow==11.3.0 numpy==2.4.6
    python tests/reference/encoders.py

Captioners: `siglip_gpt2` (pictures with pixels that fill no patch), `dinov2_gpt2`, `registers_gpt2` (with a run of
updates), `deit_gpt2`. Encoders inside of the models that train them: `siglip` (both towers, pooling head), `vit_mae` and
`vit_msn`; their hidden states are those of all patches in order.
"""

import torch
from safetensors.torch import save_file
from tokenizers import ByteLevelBPETokenizer, Tokenizer
from tokenizers.trainers import BpeTrainer
from transformers import (
    BitImageProcessorPil,
    DeiTConfig,
    DeiTImageProcessorPil,
    DeiTModel,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    GPT2Config,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
    SiglipVisionConfig,
    SiglipVisionModel,
    ViTImageProcessorPil,
    ViTMAEConfig,
    ViTMAEForPreTraining,
    ViTMSNConfig,
    ViTMSNForImageClassification,
)

from models import FOLDER, captioner, make_room, randomise, write

# Short, and so are the tensors that depend on their length.
SHORT = ["A kite .", "Two foxes sleep", "The red kite", "a fox", "Seven loaves", "The harbour wall"]
SIZES = dict(hidden_size=6, num_hidden_layers=2, num_attention_heads=2, patch_size=3)
ONE_BLOCK = SIZES | dict(num_hidden_layers=1)


def small_tokenizer():
    """Four special tokens and little beside the letters of the captions."""
    special = {"pad_token": "<pad>", "bos_token": "<start>", "eos_token": "<end>", "unk_token": "<unk>"}
    made = ByteLevelBPETokenizer(lowercase=True)
    trainer = BpeTrainer(vocab_size=50, min_frequency=2, show_progress=False, special_tokens=list(special.values()))
    # The letters of the sentence that a tokenizer is tried with.
    made._tokenizer.train_from_iterator([*SHORT, "a man, two dogs"], trainer=trainer)
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(made.to_str()), **special)


def with_decoder(encoder, width, seed):
    """A captioner with one decoder layer."""
    tokenizer = small_tokenizer()
    decoder = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=16,
        n_embd=width,
        n_layer=1,
        n_head=2,
        n_inner=7,
        add_cross_attention=True,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )
    return captioner(encoder, decoder, tokenizer, seed), tokenizer


def square(side):
    return {"height": side, "width": side}


def write_captioners():
    siglip = SiglipVisionModel(SiglipVisionConfig(**SIZES, intermediate_size=9, image_size=11, vision_use_head=False))
    processor = SiglipImageProcessorPil(size=square(11))
    write(
        "siglip_gpt2",
        *with_decoder(siglip, 6, seed=9),
        processor,
        with_run=False,
        with_sizes=True,
        remainder=2,
        captions=SHORT,
    )

    sizes = dict(shortest_edge=11), square(9)
    dinov2 = Dinov2Model(Dinov2Config(**SIZES, mlp_ratio=2, image_size=9))
    processor = BitImageProcessorPil(size=sizes[0], crop_size=sizes[1])
    write("dinov2_gpt2", *with_decoder(dinov2, 4, seed=18), processor, with_run=False, with_sizes=True, captions=SHORT)

    registers = Dinov2WithRegistersModel(
        Dinov2WithRegistersConfig(**SIZES, mlp_ratio=1, num_register_tokens=3, image_size=9, qkv_bias=False)
    )
    write("registers_gpt2", *with_decoder(registers, 6, seed=16), processor, with_run=True, captions=SHORT)

    deit = DeiTModel(DeiTConfig(**SIZES, intermediate_size=9, image_size=9))
    processor = DeiTImageProcessorPil(size=square(11), crop_size=square(9))
    write("deit_gpt2", *with_decoder(deit, 6, seed=2), processor, with_run=False, with_sizes=True, captions=SHORT)


def write_encoder(name, model, processor, states, side):
    """`states` computes the hidden states of pictures with the model, in float64."""
    randomise(model, len(name))
    model.eval().save_pretrained(FOLDER / name)
    processor.save_pretrained(FOLDER / name)
    images = torch.randn((2, 3, side, side), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        found = states(model.double(), images.double()).last_hidden_state
    save_file(
        {"pixel_values": images, "encoder_hidden_states": found.contiguous()}, FOLDER / f"expected_{name}.safetensors"
    )


def write_encoders():
    text = dict(
        vocab_size=9,
        hidden_size=6,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=7,
        max_position_embeddings=5,
    )
    siglip = SiglipModel(SiglipConfig(text_config=text, vision_config=dict(**ONE_BLOCK, intermediate_size=9, image_size=7)))
    write_encoder(
        "siglip",
        siglip,
        SiglipImageProcessorPil(size=square(7)),
        lambda model, images: model.vision_model(images),
        7,
    )
    processor = ViTImageProcessorPil(size=square(9))
    mae = ViTMAEForPreTraining(
        ViTMAEConfig(
            **ONE_BLOCK,
            intermediate_size=9,
            image_size=9,
            decoder_num_attention_heads=1,
            decoder_hidden_size=4,
            decoder_num_hidden_layers=1,
            decoder_intermediate_size=5,
        )
    )

    def all_patches(model, images):
        # Nothing is masked, and the noise has the order of the patches.
        model.config.mask_ratio = 0.0
        return model.vit(images, noise=torch.arange(9.0).repeat(len(images), 1))

    write_encoder("vit_mae", mae, processor, all_patches, 9)
    msn = ViTMSNForImageClassification(ViTMSNConfig(**ONE_BLOCK, intermediate_size=9, image_size=9, num_labels=2))
    write_encoder("vit_msn", msn, processor, lambda model, images: model.vit(images), 9)


def main():
    make_room("siglip_gpt2", "dinov2_gpt2", "registers_gpt2", "deit_gpt2", "siglip", "vit_mae", "vit_msn")
    write_captioners()
    write_encoders()


if __name__ == "__main__":
    main()
