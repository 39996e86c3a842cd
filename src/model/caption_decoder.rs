//! `GPT2LMHeadModel` of transformers with `add_cross_attention`: the decoder that writes a caption token by token.
//!
//! Padding stands behind the caption, so the causal mask alone keeps it out of every real position.

use anyhow::{Result, bail};
use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};

use crate::model::encoder::{HiddenActivation, MAX_LAYERS};
use crate::model::initialization::Initializer;
use crate::model::parameters::{Declaration, ParameterView};
use crate::model::vision_block::LayerNorm;
use crate::ops::{self, AttentionOptions, Dropout, Gelu, LinearOptions, Precision, Weight, WeightLayout};

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

impl DecoderShape {
    /// Checks what the layers rely on.
    ///
    /// # Errors
    /// A size of 0, heads that do not divide the width, a dropout outside of 0 to below 1.
    pub fn validate(&self) -> Result<()> {
        let sizes = [
            ("vocabulary", self.vocab_size),
            ("width", self.hidden_size),
            ("number of layers", self.num_layers),
            ("number of heads", self.num_heads),
            ("inner width", self.intermediate_size),
            ("number of positions", self.num_positions),
        ];
        for (name, size) in sizes {
            let most = if name == "number of layers" { MAX_LAYERS } else { 1 << 24 };
            if size == 0 || size > most {
                bail!("the decoder's {name} is {size}; expected 1 to {most}");
            }
        }
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
            first_site: EMBEDDING_SITE + 1 + SITES_PER_BLOCK * index as u64,
        })
    }

    /// (B, L, D) and the images' keys and values (B, N, 2 D) to (B, L, D).
    fn forward(&self, x: &Tensor, key_values: &Tensor, mode: Mode) -> candle_core::Result<Tensor> {
        let site = |offset: u64| match mode {
            Mode::Train(dropout) => Some(dropout.site(self.first_site + offset)),
            Mode::Eval => None,
        };
        let drop = |x: Tensor, offset: u64| match site(offset) {
            Some(site) => ops::dropout(&x, &site),
            None => Ok(x),
        };
        let options = |causal, offset| AttentionOptions { num_heads: self.num_heads, causal, dropout: site(offset) };

        let qkv = self.self_qkv.forward(&self.ln_1.forward(x)?)?; // (B, L, 3 D)
        let attended = self.self_output.forward(&ops::self_attention(&qkv, &options(true, 0))?)?;
        let x = (x + drop(attended, 1)?)?;

        let query = self.cross_query.forward(&self.ln_cross_attn.forward(&x)?)?; // (B, L, D)
        let attended = self.cross_output.forward(&ops::cross_attention(&query, key_values, &options(false, 2))?)?;
        let x = (&x + drop(attended, 3)?)?;

        let inner = self.mlp_in.forward(&self.ln_2.forward(&x)?)?;
        &x + drop(self.mlp_out.forward_activated(&inner, Some(self.activation))?, 4)?
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
        let (_, length) = input_ids.dims2()?;
        let positions = self.position_embedding.narrow(0, 0, length)?; // (L, D)
        let mut x =
            ops::embedding(&input_ids.to_dtype(DType::U32)?, &self.token_embedding)?.broadcast_add(&positions)?;
        if let Mode::Train(dropout) = mode {
            x = ops::dropout(&x, &dropout.site(EMBEDDING_SITE))?;
        }
        for (block, key_values) in self.blocks.iter().zip(key_values) {
            x = block.forward(&x, key_values, mode)?;
        }
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
