//! `ViTModel` of transformers: the last hidden state after the final LayerNorm, class token included.

use anyhow::Result;
use candle_core::Tensor;

use crate::model::encoder::EncoderShape;
use crate::model::initialization::Initializer;
use crate::model::parameters::{Declaration, ParameterView};
use crate::model::vision_block::{
    BlockNames, BlockShape, Cut, LayerNorm, PatchEmbedding, VisionBlock, add_class_and_positions,
};

const NAMES: BlockNames = BlockNames {
    norm_before: "layernorm_before",
    attention: [
        "attention.attention.query",
        "attention.attention.key",
        "attention.attention.value",
        "attention.output.dense",
    ],
    norm_after: "layernorm_after",
    mlp: ["intermediate.dense", "output.dense"],
};
const PATCHES: &str = "embeddings.patch_embeddings.projection";

/// A ViT.
#[derive(Clone, Debug)]
pub struct VisionTransformer {
    patches: PatchEmbedding,
    class: Tensor,
    positions: Tensor,
    blocks: Vec<VisionBlock>,
    norm: LayerNorm,
}

impl VisionTransformer {
    /// Declares the parameters.
    pub fn declare(shape: &EncoderShape, declaration: &mut Declaration<'_>) {
        let hidden = shape.hidden_size;
        let initial = initializer(shape);
        declaration.add("embeddings.cls_token", &[1, 1, hidden], initial);
        declaration.add("embeddings.position_embeddings", &[1, shape.sequence_length(), hidden], initial);
        PatchEmbedding::declare(&mut declaration.under(PATCHES), hidden, shape.patch_size, initial, true);
        for index in 0..shape.num_hidden_layers {
            VisionBlock::declare(
                &block_shape(shape),
                &NAMES,
                &mut declaration.under(&format!("encoder.layer.{index}")),
            );
        }
        LayerNorm::declare(&mut declaration.under("layernorm"), hidden);
        if shape.pooler {
            declaration.add_unused("pooler.dense.weight", &[hidden, hidden], initial);
            declaration.add_unused("pooler.dense.bias", &[hidden], Initializer::Zeros);
        }
    }

    /// Builds the model.
    ///
    /// # Errors
    /// A parameter that was not declared.
    pub fn build(shape: &EncoderShape, view: &ParameterView<'_>) -> Result<Self> {
        let blocks = (0..shape.num_hidden_layers).map(|index| {
            VisionBlock::build(&block_shape(shape), &NAMES, &view.under(&format!("encoder.layer.{index}")))
        });
        Ok(Self {
            patches: PatchEmbedding::build(&view.under(PATCHES), shape.patch_size, true)?,
            class: view.get("embeddings.cls_token")?,
            positions: view.get("embeddings.position_embeddings")?,
            blocks: blocks.collect::<Result<_>>()?,
            norm: LayerNorm::build(&view.under("layernorm"), shape.layer_norm_eps)?,
        })
    }

    /// (B, 3, image, image) to (B, N, D); `cut` gets the states before each block.
    ///
    /// # Errors
    /// Pixels of another shape.
    pub fn forward(&self, pixel_values: &Tensor, cut: Cut<'_>) -> candle_core::Result<Tensor> {
        let mut states = add_class_and_positions(&self.patches.forward(pixel_values)?, &self.class, &self.positions)?;
        for block in &self.blocks {
            states = block.forward(&cut(states)?)?;
        }
        self.norm.forward(&states)
    }
}

fn initializer(shape: &EncoderShape) -> Initializer {
    Initializer::TruncatedNormal(shape.initializer_range)
}

fn block_shape(shape: &EncoderShape) -> BlockShape {
    BlockShape {
        hidden_size: shape.hidden_size,
        num_attention_heads: shape.num_attention_heads,
        intermediate_size: shape.intermediate_size,
        activation: shape.hidden_act.gelu(),
        layer_norm_eps: shape.layer_norm_eps,
        qkv_bias: shape.qkv_bias,
        initializers: [initializer(shape); 4],
    }
}
