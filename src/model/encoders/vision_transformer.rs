//! A pre-LayerNorm vision transformer, put together as a family's table says.

use std::sync::Arc;

use anyhow::Result;
use candle_core::{D, Tensor};

use crate::model::builder::Builder;
use crate::model::encoders::family::ImageEncoder;
use crate::model::encoders::vision_block::{BlockNames, BlockShape, PatchEmbedding, VisionBlock};
use crate::model::initialization::Initializer;
use crate::model::layers::LayerNorm;
use crate::model::stages::Stages;

/// A learned row or table of rows: its name in files, its shape there and its first values.
pub struct Rows {
    pub name: &'static str,
    /// The last size is the width.
    pub shape: Vec<usize>,
    pub initializer: Initializer,
}

/// The parts of a family's transformer.
pub struct Anatomy {
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// What the layer that reads patches is called.
    pub patches: &'static str,
    /// First values of its weight.
    pub patch_initializer: Initializer,
    /// Whether it has a bias.
    pub patch_bias: bool,
    /// Tokens before the patches that have positions: class token, distillation token.
    pub tokens: Vec<Rows>,
    /// Tokens between these and the patches that have none.
    pub registers: Option<Rows>,
    /// A row for each of `tokens`, and for each patch, row by row.
    pub positions: Rows,
    /// The LayerNorm before the blocks.
    pub norm_before: Option<&'static str>,
    /// What stands before the number of a block.
    pub blocks: &'static str,
    pub num_blocks: usize,
    pub block_names: &'static BlockNames,
    pub block_shape: BlockShape,
    /// The LayerNorm of all tokens after the last block.
    pub norm_after: Option<&'static str>,
}

/// A vision transformer.
#[derive(Clone, Debug)]
pub struct VisionTransformer {
    patches: PatchEmbedding,
    tokens: Vec<Tensor>,
    registers: Option<Tensor>,
    positions: Tensor,
    norm_before: Option<LayerNorm>,
    blocks: Vec<Arc<VisionBlock>>,
    norm_after: Option<LayerNorm>,
}

impl VisionTransformer {
    /// The transformer that `anatomy` describes.
    ///
    /// # Errors
    /// As [`Builder::tensor`].
    pub fn new(anatomy: &Anatomy, builder: &Builder<'_>) -> Result<Self> {
        let BlockShape { hidden_size, layer_norm_eps, .. } = anatomy.block_shape;
        let rows = |rows: &Rows| builder.embedding(rows.name, &rows.shape, rows.initializer);
        let norm = |builder: &Builder<'_>, name: Option<&'static str>| {
            name.map(|name| LayerNorm::new(&builder.under(name), hidden_size, layer_norm_eps)).transpose()
        };
        let block = |index: usize| {
            let builder = builder.under(&format!("{}.{index}", anatomy.blocks));
            VisionBlock::new(&anatomy.block_shape, anatomy.block_names, &builder.at_depth(index + 1)).map(Arc::new)
        };
        Ok(Self {
            tokens: anatomy.tokens.iter().map(rows).collect::<Result<_>>()?,
            registers: anatomy.registers.as_ref().map(rows).transpose()?,
            positions: rows(&anatomy.positions)?,
            patches: PatchEmbedding::new(
                &builder.under(anatomy.patches),
                hidden_size,
                anatomy.patch_size,
                anatomy.patch_initializer,
                anatomy.patch_bias,
            )?,
            norm_before: norm(builder, anatomy.norm_before)?,
            blocks: (0..anatomy.num_blocks).map(block).collect::<Result<_>>()?,
            norm_after: norm(&builder.at_depth(anatomy.num_blocks + 1), anatomy.norm_after)?,
        })
    }

    /// (B, 3, H, W) to what the blocks read, without a LayerNorm: (B, N, D).
    fn embed(&self, pixel_values: &Tensor) -> candle_core::Result<Tensor> {
        let patches = self.patches.forward(pixel_values)?; // (B, patches, D)
        let (batch, _, hidden) = patches.dims3()?;
        let in_batch = |rows: &Tensor| {
            let rows = rows.reshape((1, (), hidden))?;
            let count = rows.dim(1)?;
            rows.broadcast_as((batch, count, hidden))
        };
        let mut parts = self.tokens.iter().chain(&self.registers).map(in_batch).collect::<Result<Vec<_>, _>>()?;
        parts.push(patches);
        let states = if parts.len() == 1 { parts.swap_remove(0) } else { Tensor::cat(&parts, D::Minus2)? }; // (B, N, D)
        states.broadcast_add(&self.spread_positions(hidden)?)
    }

    /// The position of each token of the sequence, registers with zeros: (1, N, D).
    fn spread_positions(&self, hidden: usize) -> candle_core::Result<Tensor> {
        let positions = self.positions.reshape((1, (), hidden))?;
        let Some(registers) = &self.registers else { return Ok(positions) };
        let (rows, num_tokens) = (positions.dim(1)?, self.tokens.len());
        let none = registers.reshape((1, (), hidden))?.zeros_like()?;
        let (of_tokens, of_patches) =
            (positions.narrow(1, 0, num_tokens)?, positions.narrow(1, num_tokens, rows - num_tokens)?);
        Tensor::cat(&[of_tokens, none, of_patches], 1)
    }
}

impl ImageEncoder for VisionTransformer {
    fn forward(&self, pixel_values: &Tensor, stages: &mut dyn Stages) -> candle_core::Result<Tensor> {
        let mut states = self.embed(pixel_values)?;
        if let Some(norm) = &self.norm_before {
            states = norm.forward(&states)?;
        }
        for block in &self.blocks {
            let block = Arc::clone(block);
            states = stages.run(&[states], Box::new(move |states| block.forward(&states[0])))?;
        }
        match &self.norm_after {
            Some(norm) => norm.forward(&states),
            None => Ok(states),
        }
    }
}
