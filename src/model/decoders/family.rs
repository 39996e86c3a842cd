//! What every family of text decoders provides to the rest of the program.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use candle_core::Tensor;
use serde_json::Value;

use crate::model::builder::Builder;
use crate::model::decoders::key_value_cache::KeyValueCache;
use crate::model::weight_names::Renamed;
use ops::Dropout;

/// Whether the forward pass drops values.
#[derive(Clone, Copy, Debug)]
pub enum Mode {
    /// Training, with the masks of this update.
    Train(Dropout),
    /// Validation and decoding: nothing is dropped.
    Eval,
}

/// A decoder that writes a caption token by token, with cross-attention to the encoder's states.
pub trait TextDecoder: Debug + Send + Sync {
    /// Tokens of the longest caption.
    fn num_positions(&self) -> usize;

    /// Keys and values of the images for every block: (B, N, D) to one (B, N, 2 D) for each block.
    ///
    /// # Errors
    /// States of another width.
    fn cross_key_values(&self, encoder_hidden_states: &Tensor) -> candle_core::Result<Vec<Tensor>>;

    /// Hidden states before the head: `input_ids` (B, L) of u32 and the images' keys and values to (B, L, D).
    ///
    /// # Errors
    /// More positions than the table has; an id outside the vocabulary.
    fn hidden_states(&self, input_ids: &Tensor, key_values: &[Tensor], mode: Mode) -> candle_core::Result<Tensor>;

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

/// What a family's config says: everything that decides the decoder's parameters and arithmetic.
pub trait DecoderFamily {
    /// The family's name in texts.
    fn family(&self) -> &'static str;

    /// Number of tokens.
    fn vocab_size(&self) -> usize;

    /// Width.
    fn hidden_size(&self) -> usize;

    /// Number of blocks.
    fn num_layers(&self) -> usize;

    /// Number of attention heads.
    fn num_heads(&self) -> usize;

    /// Tokens of the longest caption.
    fn num_positions(&self) -> usize;

    /// Dropout while training.
    fn dropout(&self) -> f64;

    /// Changes what a pretrained decoder leaves free: dropout, and the deviation of the first weights that are new.
    fn set_training_options(&mut self, dropout: Option<f64>, initializer_range: Option<f64>);

    /// Checks what the layers rely on.
    ///
    /// # Errors
    /// A size of 0 or beyond any model; heads that do not divide the width; a dropout outside of 0 to below 1.
    fn validate(&self) -> anyhow::Result<()>;

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
