//! What every family of image encoders provides to the rest of the program.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use candle_core::Tensor;
use serde_json::Value;

use crate::model::builder::Builder;
use crate::model::limits::{MAX_LAYERS, MAX_SIZE, check_sizes};
use crate::model::position_table::{self, PositionFilter};
use crate::model::role::EncoderTraining;
use crate::model::stages::Stages;
use crate::model::weight_names::Renamed;
use pixels::image_processor::ImageProcessor;

pub trait ImageEncoder: Debug + Send + Sync {
    /// `pixel_values` (B, 3, image, image), normalised, to hidden states (B, N, D), each block a
    /// stage.
    ///
    /// # Errors
    /// Pixels of another shape; those of `stages`.
    fn forward(&self, pixel_values: &Tensor, stages: &mut dyn Stages) -> candle_core::Result<Tensor>;
}

/// The numbers that every vision transformer has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VisionSizes {
    /// Side of the square image in pixels.
    pub image_size: usize,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Width.
    pub hidden_size: usize,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Number of attention heads.
    pub num_attention_heads: usize,
    /// Inner width of the MLP.
    pub intermediate_size: usize,
    /// Added to the variance in every LayerNorm.
    pub layer_norm_eps: f64,
    /// Standard deviation of the first weights; 0.02 in a family that has no such field.
    pub initializer_range: f64,
}

/// What a family's config says: everything that decides the encoder's parameters and arithmetic.
pub trait EncoderFamily {
    fn sizes(&self) -> VisionSizes;

    /// Changes the side of the image. The position table then has another length: see [`fit_positions`].
    fn set_image_size(&mut self, image_size: usize);

    /// Tokens of the output before the patches: the class token, registers.
    fn num_prefix_tokens(&self) -> usize;

    /// Those of them that have no row in the table of positions: registers.
    fn num_registers(&self) -> usize {
        0
    }

    /// The name of the table of learned positions, whose rows are prefix tokens without the registers, and patches, row
    /// by row.
    fn position_table(&self) -> Option<&'static str>;

    /// How this table is resampled for another image size.
    fn position_filter(&self) -> PositionFilter {
        PositionFilter::Bicubic
    }

    /// Whether a picture may be larger than its patches cover. The rest at the right and at the bottom is cut off.
    fn cuts_remainder(&self) -> bool {
        false
    }

    /// Whether transformers resamples the table for whatever picture it gets, so that the image processor decides the
    /// image size and not the config.
    fn takes_any_image_size(&self) -> bool {
        false
    }

    /// The encoder, on what `builder` hands out.
    ///
    /// # Errors
    /// As [`Builder::tensor`].
    fn build(&self, builder: &Builder<'_>) -> anyhow::Result<Arc<dyn ImageEncoder>>;

    /// The `config.json` of transformers.
    fn to_hf(&self) -> Value;

    /// Translates the names of a pretrained file, and notes in the config which optional parts the file has.
    ///
    /// # Errors
    /// Tensors of another kind of model; two tensors of one name.
    fn take_names(&mut self, tensors: BTreeMap<String, Tensor>) -> anyhow::Result<Renamed>;

    /// Names and shapes of what transformers would draw at random at every load because the model lacks it: exported as
    /// zeros.
    fn exported_zeros(&self) -> Vec<(&'static str, Vec<usize>)> {
        Vec::new()
    }

    /// The path of a layer in the memory of transformers, where adapters are found, by its name in files.
    fn module_path(&self, layer: &str) -> String {
        layer.to_owned()
    }

    /// How images become its input where no file says so.
    fn image_processor(&self) -> ImageProcessor {
        ImageProcessor::plain(self.image_size())
    }

    /// Layer scales in a block, each of which keeps its input for the backward pass.
    fn num_layer_scales(&self) -> usize {
        0
    }

    /// Fields that older versions wrote for this family. They count in the names of caches, which would otherwise not
    /// be found again.
    fn retired_fields(&self) -> Value {
        Value::Null
    }

    /// Side of the square image in pixels.
    fn image_size(&self) -> usize {
        self.sizes().image_size
    }

    /// Side of a patch in pixels.
    fn patch_size(&self) -> usize {
        self.sizes().patch_size
    }

    /// Width.
    fn hidden_size(&self) -> usize {
        self.sizes().hidden_size
    }

    /// Number of blocks.
    fn num_layers(&self) -> usize {
        self.sizes().num_hidden_layers
    }

    /// Patches along one side.
    fn grid(&self) -> usize {
        self.image_size() / self.patch_size()
    }

    /// Side in pixels of the part of the picture that the patches cover.
    fn covered_side(&self) -> usize {
        self.grid() * self.patch_size()
    }

    /// Length of the output: prefix tokens and patches.
    fn sequence_length(&self) -> usize {
        self.num_prefix_tokens() + self.grid() * self.grid()
    }

    /// Checks what the layers rely on.
    ///
    /// # Errors
    /// A size of 0 or beyond any model; heads that do not divide the width; an image size below that of the patch, or
    /// that is not a multiple of it where nothing is cut off.
    fn validate(&self) -> anyhow::Result<()> {
        let VisionSizes { image_size, patch_size, hidden_size, num_attention_heads, .. } = self.sizes();
        let sizes = [
            ("image_size", image_size, MAX_SIZE),
            ("patch_size", patch_size, MAX_SIZE),
            ("hidden_size", hidden_size, MAX_SIZE),
            ("num_hidden_layers", self.num_layers(), MAX_LAYERS),
            ("num_attention_heads", num_attention_heads, MAX_SIZE),
            ("intermediate_size", self.sizes().intermediate_size, MAX_SIZE),
        ];
        check_sizes("encoder", &sizes)?;
        if self.num_registers() > MAX_SIZE {
            bail!("the encoder has {} register tokens; expected 0 to {MAX_SIZE}", self.num_registers());
        }
        if !hidden_size.is_multiple_of(num_attention_heads) {
            bail!(
                "the encoder's hidden_size {hidden_size} is not a multiple of its num_attention_heads \
                 {num_attention_heads}"
            );
        }
        if image_size < patch_size {
            bail!("the encoder's image_size {image_size} is below its patch_size {patch_size}");
        }
        if !self.cuts_remainder() && !image_size.is_multiple_of(patch_size) {
            bail!("the encoder's image_size {image_size} is not a multiple of its patch_size {patch_size}");
        }
        Ok(())
    }

    /// Values that live while a batch is encoded and nothing is kept for a backward pass: the pixels, as they are and
    /// as patches, and the block at work.
    fn inference_values(&self, batch: usize) -> usize {
        let (states, inner) = state_values(self.sizes(), self.sequence_length(), batch);
        pixel_values(self.sizes(), batch) + 8 * states + 2 * inner
    }

    /// Values that live when the backward pass of a batch begins; with `recompute`, when that of the last block does.
    fn training_values(&self, batch: usize, training: EncoderTraining, recompute: bool) -> usize {
        let (states, inner) = state_values(self.sizes(), self.sequence_length(), batch);
        let pixels = pixel_values(self.sizes(), batch);
        // LayerNorms, query, key, value, attention, sums, the copy that the next segment begins with; and the MLP
        // before its activation.
        let block = (11 + self.num_layer_scales()) * states + inner;
        match training {
            EncoderTraining::Frozen => self.inference_values(batch),
            // Nothing is kept of the blocks that are frozen.
            EncoderTraining::LastBlocks(count) if recompute => pixels + (count + 1) * states + block,
            EncoderTraining::LastBlocks(count) => pixels + (count + 1) * block,
            EncoderTraining::Full if recompute => pixels + self.num_layers() * states + block + 4 * states + 2 * inner,
            EncoderTraining::Full => pixels + self.num_layers() * block + 4 * states + 2 * inner,
        }
    }
}

/// Values of a batch's hidden states, and of the MLP's.
fn state_values(sizes: VisionSizes, sequence_length: usize, batch: usize) -> (usize, usize) {
    let tokens = batch * sequence_length;
    (tokens * sizes.hidden_size, tokens * sizes.intermediate_size)
}

/// Values of a batch of pixels, twice.
fn pixel_values(sizes: VisionSizes, batch: usize) -> usize {
    2 * 3 * batch * sizes.image_size * sizes.image_size
}

/// Resamples the position table in `tensors` from the grid that `source` describes to that of `target`.
///
/// # Errors
/// A table that is missing or has another length than `source` says.
pub fn fit_positions(
    source: &dyn EncoderFamily,
    target: &dyn EncoderFamily,
    tensors: &mut BTreeMap<String, Tensor>,
) -> anyhow::Result<()> {
    let Some(name) = target.position_table() else { return Ok(()) };
    let table = tensors.get(name).with_context(|| format!("the file contains no tensor {name}"))?;
    let rank = table.rank();
    let flat = table.flatten_to(rank.saturating_sub(2))?;
    let (expected, rows) = (source.sequence_length() - source.num_registers(), flat.dim(0)?);
    if rows != expected {
        bail!("{name} has {rows} rows, but the image_size in config.json requires {expected}");
    }
    let num_prefix_rows = target.num_prefix_tokens() - target.num_registers();
    let resampled = position_table::resample(&flat, num_prefix_rows, target.grid(), target.position_filter())?;
    let resampled = if rank == 3 { resampled.unsqueeze(0)? } else { resampled };
    tensors.insert(name.to_owned(), resampled);
    Ok(())
}
