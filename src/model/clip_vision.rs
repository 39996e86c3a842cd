//! `CLIPVisionModel` of transformers: the last hidden state before `post_layernorm`, class token included.
//!
//! `post_layernorm` acts on the pooled output alone; it is stored and exported, and gets no gradient.

use anyhow::Result;
use candle_core::Tensor;

use crate::model::encoder::EncoderShape;
use crate::model::initialization::Initializer;
use crate::model::parameters::{Declaration, ParameterView};
use crate::model::vision_block::{
    BlockNames, BlockShape, Cut, LayerNorm, PatchEmbedding, VisionBlock, add_class_and_positions,
};

const NAMES: BlockNames = BlockNames {
    norm_before: "layer_norm1",
    attention: ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj"],
    norm_after: "layer_norm2",
    mlp: ["mlp.fc1", "mlp.fc2"],
};
const PATCHES: &str = "embeddings.patch_embedding";

/// CLIP's image tower.
#[derive(Clone, Debug)]
pub struct ClipVision {
    patches: PatchEmbedding,
    class: Tensor,
    positions: Tensor,
    norm_before: LayerNorm,
    blocks: Vec<VisionBlock>,
}

impl ClipVision {
    /// Declares the parameters.
    pub fn declare(shape: &EncoderShape, declaration: &mut Declaration<'_>) {
        let mut declaration = declaration.under("vision_model");
        let hidden = shape.hidden_size;
        let embedding = Initializer::Normal(shape.initializer_range);
        declaration.add("embeddings.class_embedding", &[hidden], Initializer::Normal((hidden as f64).powf(-0.5)));
        declaration.add("embeddings.position_embedding.weight", &[shape.sequence_length(), hidden], embedding);
        PatchEmbedding::declare(&mut declaration.under(PATCHES), hidden, shape.patch_size, embedding, false);
        // The spelling is that of the published files.
        LayerNorm::declare(&mut declaration.under("pre_layrnorm"), hidden);
        for index in 0..shape.num_hidden_layers {
            VisionBlock::declare(
                &block_shape(shape),
                &NAMES,
                &mut declaration.under(&format!("encoder.layers.{index}")),
            );
        }
        declaration.add_unused("post_layernorm.weight", &[hidden], Initializer::Ones);
        declaration.add_unused("post_layernorm.bias", &[hidden], Initializer::Zeros);
    }

    /// Builds the model.
    ///
    /// # Errors
    /// A parameter that was not declared.
    pub fn build(shape: &EncoderShape, view: &ParameterView<'_>) -> Result<Self> {
        let view = view.under("vision_model");
        let blocks = (0..shape.num_hidden_layers).map(|index| {
            VisionBlock::build(&block_shape(shape), &NAMES, &view.under(&format!("encoder.layers.{index}")))
        });
        Ok(Self {
            patches: PatchEmbedding::build(&view.under(PATCHES), shape.patch_size, false)?,
            class: view.get("embeddings.class_embedding")?,
            positions: view.get("embeddings.position_embedding.weight")?,
            norm_before: LayerNorm::build(&view.under("pre_layrnorm"), shape.layer_norm_eps)?,
            blocks: blocks.collect::<Result<_>>()?,
        })
    }

    /// (B, 3, image, image) to (B, N, D); `cut` gets the states before each block.
    ///
    /// # Errors
    /// Pixels of another shape.
    pub fn forward(&self, pixel_values: &Tensor, cut: Cut<'_>) -> candle_core::Result<Tensor> {
        let embedded = add_class_and_positions(&self.patches.forward(pixel_values)?, &self.class, &self.positions)?;
        let mut states = self.norm_before.forward(&embedded)?;
        for block in &self.blocks {
            states = block.forward(&cut(states)?)?;
        }
        Ok(states)
    }
}

/// First values as `CLIPPreTrainedModel._init_weights` draws them, with `initializer_factor` 1.
fn block_shape(shape: &EncoderShape) -> BlockShape {
    let hidden = shape.hidden_size as f64;
    let depth = (2.0 * shape.num_hidden_layers as f64).powf(-0.5);
    let into = Initializer::Normal(hidden.powf(-0.5) * depth);
    BlockShape {
        hidden_size: shape.hidden_size,
        num_attention_heads: shape.num_attention_heads,
        intermediate_size: shape.intermediate_size,
        activation: shape.hidden_act.gelu(),
        layer_norm_eps: shape.layer_norm_eps,
        qkv_bias: true,
        initializers: [
            into,
            Initializer::Normal(hidden.powf(-0.5)),
            Initializer::Normal((2.0 * hidden).powf(-0.5)),
            into,
        ],
    }
}
