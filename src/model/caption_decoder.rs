//! `GPT2LMHeadModel` of transformers with `add_cross_attention`: the decoder that writes a caption token by token.
//!
//! Padding stands behind the caption, so the causal mask alone keeps it out of every real position.

use anyhow::{Result, bail};
use candle_core::{D, DType, Tensor};
use serde::{Deserialize, Serialize};

use crate::model::encoder::{HiddenActivation, MAX_LAYERS, check_sizes};
use crate::model::initialization::Initializer;
use crate::model::key_value_cache::KeyValueCache;
use crate::model::parameters::{Declaration, ParameterView};
use crate::model::vision_block::LayerNorm;
use ops::{self, AttentionOptions, Dropout, DropoutSite, Gelu, LinearOptions, Precision, Weight, WeightLayout};

/// Everything that decides the decoder's parameters and arithmetic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecoderShape {
    /// Tokens.
    pub vocab_size: usize,
    /// Width.
    pub hidden_size: usize,
    /// Number of blocks.
    pub num_layers: usize,
    /// Attention heads.
    pub num_heads: usize,
    /// Inner width of the MLP.
    pub intermediate_size: usize,
    /// Rows of the position table.
    pub num_positions: usize,
    /// Activation of the MLP.
    pub hidden_act: HiddenActivation,
    /// Dropout while training.
    pub dropout: f64,
    /// Added to the variance in every LayerNorm.
    pub layer_norm_eps: f64,
    /// Standard deviation of the first weights.
    pub initializer_range: f64,
    /// The head is the token embedding.
    pub tie_word_embeddings: bool,
}

/// Most of a size that a file may name: far above any model, far below what overflows.
const MAX_SIZE: usize = 1 << 24;

impl DecoderShape {
    /// Checks what the layers rely on.
    ///
    /// # Errors
    /// A size of 0, heads that do not divide the width, a dropout outside of 0 to below 1.
    pub fn validate(&self) -> Result<()> {
        let sizes = [
            ("vocabulary", self.vocab_size, MAX_SIZE),
            ("width", self.hidden_size, MAX_SIZE),
            ("number of layers", self.num_layers, MAX_LAYERS),
            ("number of heads", self.num_heads, MAX_SIZE),
            ("inner width", self.intermediate_size, MAX_SIZE),
            ("number of positions", self.num_positions, MAX_SIZE),
        ];
        check_sizes("decoder", &sizes)?;
        if !self.hidden_size.is_multiple_of(self.num_heads) {
            bail!("the decoder's width {} is not a multiple of its {} heads", self.hidden_size, self.num_heads);
        }
        if !(0.0..1.0).contains(&self.dropout) {
            bail!("the decoder's dropout is {}; expected 0 to below 1", self.dropout);
        }
        Ok(())
    }
}

/// Whether the forward pass drops values.
#[derive(Clone, Copy, Debug)]
pub enum Mode {
    /// Training, with the masks of this update.
    Train(Dropout),
    /// Validation and decoding: nothing is dropped.
    Eval,
}

/// Where a mask acts; each place in the model has a number of its own, so that no two masks are alike.
const SITES_PER_BLOCK: u64 = 5;
const EMBEDDING_SITE: u64 = 0;

/// GPT-2's `Conv1D`: a dense layer with the weight `[in, out]`.
#[derive(Clone, Debug)]
struct Conv1D {
    weight: Weight,
    bias: Tensor,
    precision: Precision,
}

impl Conv1D {
    fn declare(declaration: &mut Declaration<'_>, input: usize, output: usize, weight: Initializer) {
        declaration.add("weight", &[input, output], weight);
        declaration.add("bias", &[output], Initializer::Zeros);
    }

    fn build(view: &ParameterView<'_>) -> Result<Self> {
        Ok(Self { weight: view.weight("weight")?, bias: view.get("bias")?, precision: view.precision() })
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        self.forward_activated(x, None)
    }

    fn forward_activated(&self, x: &Tensor, activation: Option<Gelu>) -> candle_core::Result<Tensor> {
        let options = LinearOptions { layout: WeightLayout::InOut, precision: self.precision, activation };
        ops::linear(x, &self.weight, Some(&self.bias), &options)
    }
}

#[derive(Clone, Debug)]
struct Block {
    ln_1: LayerNorm,
    self_qkv: Conv1D,
    self_output: Conv1D,
    ln_cross_attn: LayerNorm,
    cross_query: Conv1D,
    cross_key_value: Conv1D,
    cross_output: Conv1D,
    ln_2: LayerNorm,
    mlp_in: Conv1D,
    mlp_out: Conv1D,
    activation: Gelu,
    num_heads: usize,
    precision: Precision,
    first_site: u64,
}

impl Block {
    fn declare(shape: &DecoderShape, declaration: &mut Declaration<'_>) {
        let (hidden, inner) = (shape.hidden_size, shape.intermediate_size);
        let normal = Initializer::Normal(shape.initializer_range);
        // GPT-2 scales what is added to the residual stream by the number of additions.
        let residual = Initializer::Normal(shape.initializer_range / (2.0 * shape.num_layers as f64).sqrt());
        for name in ["ln_1", "ln_cross_attn", "ln_2"] {
            LayerNorm::declare(&mut declaration.under(name), hidden);
        }
        Conv1D::declare(&mut declaration.under("attn.c_attn"), hidden, 3 * hidden, normal);
        Conv1D::declare(&mut declaration.under("attn.c_proj"), hidden, hidden, residual);
        Conv1D::declare(&mut declaration.under("crossattention.q_attn"), hidden, hidden, normal);
        Conv1D::declare(&mut declaration.under("crossattention.c_attn"), hidden, 2 * hidden, normal);
        Conv1D::declare(&mut declaration.under("crossattention.c_proj"), hidden, hidden, residual);
        Conv1D::declare(&mut declaration.under("mlp.c_fc"), hidden, inner, normal);
        Conv1D::declare(&mut declaration.under("mlp.c_proj"), inner, hidden, residual);
    }

    fn build(shape: &DecoderShape, index: usize, view: &ParameterView<'_>) -> Result<Self> {
        let norm = |name: &str| LayerNorm::build(&view.under(name), shape.layer_norm_eps);
        let dense = |name: &str| Conv1D::build(&view.under(name));
        Ok(Self {
            ln_1: norm("ln_1")?,
            self_qkv: dense("attn.c_attn")?,
            self_output: dense("attn.c_proj")?,
            ln_cross_attn: norm("ln_cross_attn")?,
            cross_query: dense("crossattention.q_attn")?,
            cross_key_value: dense("crossattention.c_attn")?,
            cross_output: dense("crossattention.c_proj")?,
            ln_2: norm("ln_2")?,
            mlp_in: dense("mlp.c_fc")?,
            mlp_out: dense("mlp.c_proj")?,
            activation: shape.hidden_act.gelu(),
            num_heads: shape.num_heads,
            precision: view.precision(),
            first_site: EMBEDDING_SITE + 1 + SITES_PER_BLOCK * index as u64,
        })
    }

    /// (B, L, D) and the images' keys and values (B, N, 2 D) to (B, L, D).
    fn forward(&self, x: &Tensor, key_values: &Tensor, mode: Mode) -> candle_core::Result<Tensor> {
        let drop = |x, offset| self.drop(x, offset, mode);
        let x = self.attend_to_caption(x, mode)?;
        let options = self.attention_options(false, 2, mode);
        let attended = ops::cross_attention(&self.cross_query(&x)?, key_values, &options)?;
        let x = (&x + drop(self.cross_output.forward(&attended)?, 3)?)?;
        &x + drop(self.mlp(&x)?, 4)?
    }

    /// The first part of a block: (B, L, D) to (B, L, D).
    fn attend_to_caption(&self, x: &Tensor, mode: Mode) -> candle_core::Result<Tensor> {
        let qkv = self.self_qkv.forward(&self.ln_1.forward(x)?)?; // (B, L, 3 D)
        let attended = ops::self_attention(&qkv, &self.attention_options(true, 0, mode))?;
        x + self.drop(self.self_output.forward(&attended)?, 1, mode)?
    }

    fn site(&self, offset: u64, mode: Mode) -> Option<DropoutSite> {
        match mode {
            Mode::Train(dropout) => Some(dropout.site(self.first_site + offset)),
            Mode::Eval => None,
        }
    }

    fn drop(&self, x: Tensor, offset: u64, mode: Mode) -> candle_core::Result<Tensor> {
        match self.site(offset, mode) {
            Some(site) => ops::dropout(&x, &site),
            None => Ok(x),
        }
    }

    fn attention_options(&self, causal: bool, offset: u64, mode: Mode) -> AttentionOptions {
        let (num_heads, precision) = (self.num_heads, self.precision);
        AttentionOptions { num_heads, causal, dropout: self.site(offset, mode), precision }
    }

    /// How much each token looks at each patch, as a mean over the heads: states before the block (B, L, D) and the
    /// images' keys and values (B, N, 2 D) to (B, L, N), of sum 1 over N.
    fn cross_attention_weights(&self, x: &Tensor, key_values: &Tensor) -> candle_core::Result<Tensor> {
        let query = self.cross_query(&self.attend_to_caption(x, Mode::Eval)?)?;
        let (batch, length, hidden) = query.dims3()?;
        let (_, patches, _) = key_values.dims3()?;
        let size = hidden / self.num_heads;
        let heads = |x: Tensor, rows| x.reshape((batch, rows, self.num_heads, size))?.transpose(1, 2)?.contiguous();
        let query = heads(query, length)?; // (B, H, L, K)
        let keys = heads(key_values.narrow(2, 0, hidden)?.contiguous()?, patches)?; // (B, H, N, K)
        let scores = (query.matmul(&keys.t()?)? / (size as f64).sqrt())?; // (B, H, L, N)
        candle_nn::ops::softmax(&scores, D::Minus1)?.mean(1)
    }

    /// [`Self::forward`] for the next token of S captions of each image: (B, S, D) to (B, S, D).
    fn step(&self, x: &Tensor, index: usize, cache: &mut KeyValueCache) -> candle_core::Result<Tensor> {
        let options = self.attention_options(false, 0, Mode::Eval);
        let (batch, captions, hidden) = x.dims3()?;
        let rows = batch * captions;

        let qkv = self.self_qkv.forward(&self.ln_1.forward(x)?)?.reshape((rows, 1, 3 * hidden))?;
        let past = cache.append(index, &qkv.narrow(2, hidden, 2 * hidden)?)?; // (B S, length, 2 D)
        let attended = ops::cross_attention(&qkv.narrow(2, 0, hidden)?, past, &options)?;
        let x = (x + self.self_output.forward(&attended.reshape((batch, captions, hidden))?)?)?;

        // The captions of an image are so many queries to it.
        let attended = ops::cross_attention(&self.cross_query(&x)?, cache.images(index), &options)?;
        let x = (&x + self.cross_output.forward(&attended)?)?;
        &x + self.mlp(&x)?
    }

    /// What is asked of the images: (B, L, D) to (B, L, D).
    fn cross_query(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        self.cross_query.forward(&self.ln_cross_attn.forward(x)?)
    }

    fn mlp(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let inner = self.mlp_in.forward(&self.ln_2.forward(x)?)?;
        self.mlp_out.forward_activated(&inner, Some(self.activation))
    }
}

/// The decoder.
#[derive(Clone, Debug)]
pub struct CaptionDecoder {
    token_embedding: Tensor,
    position_embedding: Tensor,
    blocks: Vec<Block>,
    ln_f: LayerNorm,
    head: Weight,
    precision: Precision,
}

impl CaptionDecoder {
    /// Declares the parameters.
    pub fn declare(shape: &DecoderShape, declaration: &mut Declaration<'_>) {
        let (vocabulary, hidden) = (shape.vocab_size, shape.hidden_size);
        let normal = Initializer::Normal(shape.initializer_range);
        declaration.add("transformer.wte.weight", &[vocabulary, hidden], normal);
        declaration.add("transformer.wpe.weight", &[shape.num_positions, hidden], normal);
        for index in 0..shape.num_layers {
            Block::declare(shape, &mut declaration.under(&format!("transformer.h.{index}")));
        }
        LayerNorm::declare(&mut declaration.under("transformer.ln_f"), hidden);
        if !shape.tie_word_embeddings {
            declaration.add("lm_head.weight", &[vocabulary, hidden], normal);
        }
    }

    /// Builds the decoder.
    ///
    /// # Errors
    /// A parameter that was not declared.
    pub fn build(shape: &DecoderShape, view: &ParameterView<'_>) -> Result<Self> {
        let blocks = (0..shape.num_layers)
            .map(|index| Block::build(shape, index, &view.under(&format!("transformer.h.{index}"))));
        let token_embedding = view.get("transformer.wte.weight")?;
        let head = if shape.tie_word_embeddings { "transformer.wte.weight" } else { "lm_head.weight" };
        Ok(Self {
            position_embedding: view.get("transformer.wpe.weight")?,
            blocks: blocks.collect::<Result<_>>()?,
            ln_f: LayerNorm::build(&view.under("transformer.ln_f"), shape.layer_norm_eps)?,
            token_embedding,
            head: view.weight(head)?,
            precision: view.precision(),
        })
    }

    /// Tokens of the longest caption.
    pub fn num_positions(&self) -> usize {
        self.position_embedding.dims()[0]
    }

    /// Keys and values of the images for every block: (B, N, D) to one (B, N, 2 D) for each block.
    ///
    /// # Errors
    /// States of another width.
    pub fn cross_key_values(&self, encoder_hidden_states: &Tensor) -> candle_core::Result<Vec<Tensor>> {
        self.blocks.iter().map(|block| block.cross_key_value.forward(encoder_hidden_states)).collect()
    }

    /// Hidden states before the head: `input_ids` (B, L) of u32 and the images' keys and values to (B, L, D).
    ///
    /// # Errors
    /// More positions than the table has; an id outside the vocabulary.
    pub fn hidden_states(&self, input_ids: &Tensor, key_values: &[Tensor], mode: Mode) -> candle_core::Result<Tensor> {
        let mut x = self.embed(input_ids)?;
        if let Mode::Train(dropout) = mode {
            x = ops::dropout(&x, &dropout.site(EMBEDDING_SITE))?;
        }
        for (block, key_values) in self.blocks.iter().zip(key_values) {
            x = block.forward(&x, key_values, mode)?;
        }
        self.ln_f.forward(&x)
    }

    /// How much each position of captions looks at each patch, as a mean over the heads of all blocks: `input_ids` (B, L)
    /// of u32 and the images' keys and values to (B, L, N), of sum 1 over N. Position l writes the token behind it.
    ///
    /// # Errors
    /// As [`Self::hidden_states`].
    pub fn cross_attention_weights(&self, input_ids: &Tensor, key_values: &[Tensor]) -> candle_core::Result<Tensor> {
        let mut x = self.embed(input_ids)?;
        let mut weights = Vec::with_capacity(self.blocks.len());
        for (block, key_values) in self.blocks.iter().zip(key_values) {
            weights.push(block.cross_attention_weights(&x, key_values)?);
            x = block.forward(&x, key_values, Mode::Eval)?;
        }
        Tensor::stack(&weights, 0)?.mean(0)
    }

    /// Embedded tokens with their positions: (B, L) to (B, L, D).
    fn embed(&self, input_ids: &Tensor) -> candle_core::Result<Tensor> {
        let (_, length) = input_ids.dims2()?;
        let positions = self.position_embedding.narrow(0, 0, length)?; // (L, D)
        ops::embedding(&input_ids.to_dtype(DType::U32)?, &self.token_embedding)?.broadcast_add(&positions)
    }

    /// Hidden states of the next token of S captions of each image, whose past is in `cache`: `input_ids` (B, S) of u32
    /// to (B, S, D). The same numbers as [`Self::hidden_states`] of whole captions, up to rounding.
    ///
    /// # Errors
    /// More positions than the table has; an id outside the vocabulary; a cache of other captions.
    pub fn next_hidden_states(&self, input_ids: &Tensor, cache: &mut KeyValueCache) -> candle_core::Result<Tensor> {
        let position = self.position_embedding.narrow(0, cache.length(), 1)?; // (1, D)
        let mut x =
            ops::embedding(&input_ids.to_dtype(DType::U32)?, &self.token_embedding)?.broadcast_add(&position)?;
        for (index, block) in self.blocks.iter().enumerate() {
            x = block.step(&x, index, cache)?;
        }
        cache.advance();
        self.ln_f.forward(&x)
    }

    /// Logits of hidden states: (.., D) to (.., V).
    ///
    /// # Errors
    /// States of another width.
    pub fn logits(&self, hidden_states: &Tensor) -> candle_core::Result<Tensor> {
        let options = LinearOptions { layout: WeightLayout::OutIn, precision: self.precision, activation: None };
        ops::linear(hidden_states, &self.head, None, &options)
    }
}
