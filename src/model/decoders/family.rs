//! What every family of text decoders provides to the rest of the program.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use anyhow::bail;
use candle_core::Tensor;
use serde_json::Value;

use crate::model::builder::Builder;
use crate::model::decoders::key_value_cache::KeyValueCache;
use crate::model::limits::{MAX_DECODER_SIZE, MAX_LAYERS, check_sizes};
use crate::model::stages::{Stages, Uncut};
use crate::model::weight_names::Renamed;
use ops::{Dropout, Packing};

/// Whether the forward pass drops values.
#[derive(Clone, Copy, Debug)]
pub enum Mode {
    /// Training, with the masks of this update.
    Train(Dropout),
    /// Validation and decoding: nothing is dropped.
    Eval,
}

/// Captions that a decoder reads.
#[derive(Clone, Debug)]
pub struct Captions {
    /// Ids of their tokens, u32: (B, L), each caption padded at its end to the longest; or packed, (T), one after the
    /// other without padding.
    pub ids: Tensor,
    /// Where the packed captions lie, and their images.
    pub packing: Option<Arc<Packing>>,
}

impl Captions {
    /// Ids (B, L).
    pub fn padded(ids: &Tensor) -> Self {
        Self { ids: ids.clone(), packing: None }
    }

    /// Ids (T).
    pub fn packed(ids: Tensor, packing: Packing) -> Self {
        Self { ids, packing: Some(Arc::new(packing)) }
    }
}

/// A decoder that writes a caption token by token, with cross-attention to the encoder's states.
pub trait TextDecoder: Debug + Send + Sync {
    /// Tokens of the longest caption.
    fn num_positions(&self) -> usize;

    /// Keys and values of the images for every block: (B, N, width of the cross-attention) to one (B, N, 2 D) or two
    /// (B, N, D) for each block.
    ///
    /// # Errors
    /// States of another width.
    fn cross_key_values(&self, encoder_hidden_states: &Tensor) -> candle_core::Result<Vec<Tensor>>;

    /// Hidden states before the head: captions and the images' keys and values to (B, L, D), or (T, D) where the captions
    /// are packed. A padded caption looks at the image in its row, a packed one at its own among them.
    ///
    /// # Errors
    /// More positions than the table has; an id outside the vocabulary.
    fn hidden_states(&self, captions: &Captions, key_values: &[Tensor], mode: Mode) -> candle_core::Result<Tensor> {
        self.hidden_states_in(captions, key_values, mode, &mut Uncut)
    }

    /// [`Self::hidden_states`] in stages, a block each.
    ///
    /// # Errors
    /// As [`Self::hidden_states`]; those of `stages`.
    fn hidden_states_in(
        &self,
        captions: &Captions,
        key_values: &[Tensor],
        mode: Mode,
        stages: &mut dyn Stages,
    ) -> candle_core::Result<Tensor>;

    /// How much each position of captions looks at each of the encoder's states, as a mean over the heads of all
    /// blocks: `input_ids` (B, L) of u32 and the images' keys and values to (B, L, N), of sum 1 over N. Position l
    /// writes the token after it.
    ///
    /// # Errors
    /// As [`Self::hidden_states`].
    fn cross_attention_weights(&self, input_ids: &Tensor, key_values: &[Tensor]) -> candle_core::Result<Tensor>;

    /// Hidden states of the next token of S captions of each image, whose past is in `cache`: `input_ids` (B, S) of u32
    /// to (B, S, D). The same numbers as [`Self::hidden_states`] of whole captions, up to rounding.
    ///
    /// # Errors
    /// More positions than the table has; an id outside the vocabulary; a cache of other captions.
    fn next_hidden_states(&self, input_ids: &Tensor, cache: &mut KeyValueCache) -> candle_core::Result<Tensor>;

    /// Logits of hidden states: (.., D) to (.., V).
    ///
    /// # Errors
    /// States of another width.
    fn logits(&self, hidden_states: &Tensor) -> candle_core::Result<Tensor>;
}

/// The numbers that every decoder has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DecoderSizes {
    /// Tokens.
    pub vocab_size: usize,
    /// Width.
    pub hidden_size: usize,
    /// Number of blocks.
    pub num_layers: usize,
    /// Number of attention heads.
    pub num_heads: usize,
    /// Inner width of the MLP.
    pub intermediate_size: usize,
    /// Tokens of the longest caption.
    pub num_positions: usize,
    /// Dropout while training.
    pub dropout: f64,
    /// Added to the variance in every LayerNorm.
    pub layer_norm_eps: f64,
    /// Standard deviation of the first weights.
    pub initializer_range: f64,
    /// The head is the token embedding.
    pub tie_word_embeddings: bool,
}

/// What a family's config says: everything that decides the decoder's parameters and arithmetic.
pub trait DecoderFamily {
    /// The family's name in texts.
    fn family(&self) -> &'static str;

    fn sizes(&self) -> DecoderSizes;

    /// Number of tokens.
    fn vocab_size(&self) -> usize {
        self.sizes().vocab_size
    }

    /// Width.
    fn hidden_size(&self) -> usize {
        self.sizes().hidden_size
    }

    /// Number of blocks.
    fn num_layers(&self) -> usize {
        self.sizes().num_layers
    }

    /// Number of attention heads.
    fn num_heads(&self) -> usize {
        self.sizes().num_heads
    }

    /// Tokens of the longest caption.
    fn num_positions(&self) -> usize {
        self.sizes().num_positions
    }

    /// Dropout while training.
    fn dropout(&self) -> f64 {
        self.sizes().dropout
    }

    /// Width of the image states that its cross-attention takes. States of another width are projected to it.
    fn cross_attention_width(&self) -> usize {
        self.hidden_size()
    }

    /// Changes what a pretrained decoder leaves free: dropout, and the deviation of the first weights that are new.
    fn set_training_options(&mut self, dropout: Option<f64>, initializer_range: Option<f64>);

    /// Checks what the layers rely on.
    ///
    /// # Errors
    /// A size of 0 or beyond any model; heads that do not divide the width; a dropout outside of 0 to below 1.
    fn validate(&self) -> anyhow::Result<()> {
        let DecoderSizes { hidden_size, num_heads, dropout, .. } = self.sizes();
        let sizes = [
            ("vocabulary", self.vocab_size(), MAX_DECODER_SIZE),
            ("width", hidden_size, MAX_DECODER_SIZE),
            ("number of layers", self.num_layers(), MAX_LAYERS),
            ("number of heads", num_heads, MAX_DECODER_SIZE),
            ("inner width", self.sizes().intermediate_size, MAX_DECODER_SIZE),
            ("number of positions", self.num_positions(), MAX_DECODER_SIZE),
            ("width of image states", self.cross_attention_width(), MAX_DECODER_SIZE),
        ];
        check_sizes("decoder", &sizes)?;
        if !hidden_size.is_multiple_of(num_heads) {
            bail!("the decoder's width {hidden_size} is not a multiple of its {num_heads} heads");
        }
        if !(0.0..1.0).contains(&dropout) {
            bail!("the decoder's dropout is {dropout}; expected 0 to below 1");
        }
        Ok(())
    }

    /// The decoder, on what `builder` hands out.
    ///
    /// # Errors
    /// As [`Builder::tensor`].
    fn build(&self, builder: &Builder<'_>) -> anyhow::Result<Arc<dyn TextDecoder>>;

    /// The `config.json` of transformers, as a part of a captioner's.
    fn to_hf(&self) -> Value;

    /// Translates the names of a pretrained file.
    ///
    /// # Errors
    /// Two tensors of one name; tensors that contradict the config.
    fn take_names(&self, tensors: BTreeMap<String, Tensor>) -> anyhow::Result<Renamed>;

    /// The path of a layer in the memory of transformers, where adapters are found, by its name in files.
    fn module_path(&self, layer: &str) -> String {
        layer.to_owned()
    }

    /// Values of one block that live when the backward pass begins, for this many tokens of captions and states of
    /// images.
    fn block_values(&self, tokens: usize, states: usize) -> usize;
}
