//! `GPT2LMHeadModel` of transformers with `add_cross_attention`: the decoder that writes a caption token by token.
//!
//! Padding follows the caption, so the causal mask is enough to keep it out of every real position.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use candle_core::Tensor;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::model::builder::Builder;
use crate::model::decoders::block::{BlockAttention, Pass, embed, positions};
use crate::model::decoders::family::{Captions, DecoderFamily, DecoderSizes, Mode, TextDecoder};
use crate::model::decoders::key_value_cache::KeyValueCache;
use crate::model::hf_fields::{activation, boolean, model_type, real_number, whole_number};
use crate::model::initialization::Initializer;
use crate::model::layers::{HiddenActivation, LayerNorm};
use crate::model::stages::Stages;
use crate::model::weight_names::{Renamed, is_equal};
use base::error::failure;
use ops::{self, Gelu, LinearOptions, Precision, Weight, WeightLayout};

const TOKENS: &str = "transformer.wte.weight";
const POSITIONS: &str = "transformer.wpe.weight";
const HEAD: &str = "lm_head.weight";

/// The config of a GPT-2 with cross-attention.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gpt2Config {
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

impl Gpt2Config {
    /// The `model_type`s of transformers.
    pub const MODEL_TYPES: &'static [&'static str] = &["gpt2"];

    /// Whether a `config.json` is that of a GPT-2.
    pub fn describes(config: &Value) -> bool {
        Self::MODEL_TYPES.contains(&model_type(config))
    }

    /// Reads a `config.json`. Absent fields take the defaults of `GPT2Config`.
    ///
    /// # Errors
    /// An option that changes the arithmetic and is not supported; values of another type or that no model has.
    pub fn from_hf(config: &Value) -> Result<Self> {
        if !boolean(config, "scale_attn_weights", true)? || boolean(config, "scale_attn_by_inverse_layer_idx", false)? {
            return Err(failure(
                "a GPT-2 with scale_attn_weights = false or scale_attn_by_inverse_layer_idx = true is not supported",
                "use one with ordinary attention, such as gpt2 or distilgpt2",
            ));
        }
        let hidden_act = activation(config, "activation_function", HiddenActivation::GeluNew)?;
        let hidden_size = whole_number(config, "n_embd", 768)?;
        let found = Self {
            vocab_size: whole_number(config, "vocab_size", 50_257)?,
            hidden_size,
            num_layers: whole_number(config, "n_layer", 12)?,
            num_heads: whole_number(config, "n_head", 12)?,
            intermediate_size: whole_number(config, "n_inner", hidden_size.saturating_mul(4))?,
            num_positions: whole_number(config, "n_positions", 1024)?,
            hidden_act,
            dropout: real_number(config, "resid_pdrop", 0.1)?,
            layer_norm_eps: real_number(config, "layer_norm_epsilon", 1e-5)?,
            initializer_range: real_number(config, "initializer_range", 0.02)?,
            tie_word_embeddings: boolean(config, "tie_word_embeddings", true)?,
        };
        found.validate()?;
        Ok(found)
    }
}

impl DecoderFamily for Gpt2Config {
    fn family(&self) -> &'static str {
        "GPT-2"
    }

    fn sizes(&self) -> DecoderSizes {
        DecoderSizes {
            vocab_size: self.vocab_size,
            hidden_size: self.hidden_size,
            num_layers: self.num_layers,
            num_heads: self.num_heads,
            intermediate_size: self.intermediate_size,
            num_positions: self.num_positions,
            dropout: self.dropout,
            layer_norm_eps: self.layer_norm_eps,
            initializer_range: self.initializer_range,
            tie_word_embeddings: self.tie_word_embeddings,
        }
    }

    fn set_training_options(&mut self, dropout: Option<f64>, initializer_range: Option<f64>) {
        self.dropout = dropout.unwrap_or(self.dropout);
        self.initializer_range = initializer_range.unwrap_or(self.initializer_range);
    }

    fn build(&self, builder: &Builder<'_>) -> Result<Arc<dyn TextDecoder>> {
        Ok(Arc::new(Gpt2::new(self, builder)?))
    }

    /// As `GPT2Config` writes itself, with cross-attention.
    fn to_hf(&self) -> Value {
        json!({
            "model_type": "gpt2",
            "is_decoder": true,
            "add_cross_attention": true,
            "activation_function": self.hidden_act,
            "vocab_size": self.vocab_size,
            "n_positions": self.num_positions,
            "n_embd": self.hidden_size,
            "n_layer": self.num_layers,
            "n_head": self.num_heads,
            "n_inner": self.intermediate_size,
            "embd_pdrop": self.dropout,
            "attn_pdrop": self.dropout,
            "resid_pdrop": self.dropout,
            "layer_norm_epsilon": self.layer_norm_eps,
            "initializer_range": self.initializer_range,
            "tie_word_embeddings": self.tie_word_embeddings,
        })
    }

    /// Files have `h.0...` or `transformer.h.0...`. A head that is tied to the token embedding is left out, and so are
    /// the masks that old files store.
    fn take_names(&self, tensors: BTreeMap<String, Tensor>) -> Result<Renamed> {
        let mut renamed = Renamed::default();
        let embedding = tensors.iter().find(|(name, _)| name.ends_with("wte.weight")).map(|(_, tensor)| tensor.clone());
        for (source, tensor) in tensors {
            let is_mask = ["attn.bias", "attn.masked_bias", "crossattention.bias", "crossattention.masked_bias"]
                .iter()
                .any(|end| source.ends_with(&format!(".{end}")));
            let inner = source.strip_prefix("transformer.").unwrap_or(&source);
            let is_body = ["wte.", "wpe.", "h.", "ln_f."].iter().any(|part| inner.starts_with(part));
            if source == HEAD && self.tie_word_embeddings {
                if !embedding.as_ref().is_some_and(|embedding| is_equal(embedding, &tensor)) {
                    return Err(failure(
                        format!("{HEAD} is not the token embedding, although config.json ties the two"),
                        "write \"tie_word_embeddings\": false for the decoder into its config.json",
                    ));
                }
                continue;
            }
            if is_mask {
                continue;
            }
            if is_body {
                renamed.insert(format!("transformer.{inner}"), tensor, &source)?;
            } else if source == HEAD {
                renamed.insert(source.clone(), tensor, &source)?;
            } else {
                renamed.unused.push(source);
            }
        }
        Ok(renamed)
    }

    /// In a block: three LayerNorms, qkv, query, two attentions with their outputs, dropouts and sums, the MLP before
    /// its activation, and the keys and values of the images.
    fn block_values(&self, tokens: usize, states: usize) -> usize {
        19 * tokens * self.hidden_size + tokens * self.intermediate_size + 2 * states * self.hidden_size
    }
}

/// GPT-2's `Conv1D`: a dense layer with the weight `[in, out]`.
#[derive(Clone, Debug)]
struct Conv1D {
    weight: Weight,
    bias: Tensor,
    precision: Precision,
}

impl Conv1D {
    fn new(builder: &Builder<'_>, input: usize, output: usize, weight: Initializer) -> Result<Self> {
        Ok(Self {
            weight: builder.weight_in_out("weight", &[input, output], weight)?,
            bias: builder.bias("bias", output, Initializer::Zeros)?,
            precision: builder.precision(),
        })
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
    attention: BlockAttention,
}

impl Block {
    fn new(config: &Gpt2Config, index: usize, builder: &Builder<'_>) -> Result<Self> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let normal = Initializer::Normal(config.initializer_range);
        // GPT-2 scales what is added to the residual stream by the number of additions.
        let residual = Initializer::Normal(config.initializer_range / (2.0 * config.num_layers as f64).sqrt());
        let cross = builder.connecting();
        let norm =
            |builder: &Builder<'_>, name: &str| LayerNorm::new(&builder.under(name), hidden, config.layer_norm_eps);
        let dense = |builder: &Builder<'_>, name: &str, input, output, first| {
            Conv1D::new(&builder.under(name), input, output, first)
        };
        Ok(Self {
            ln_1: norm(builder, "ln_1")?,
            ln_cross_attn: norm(&cross, "ln_cross_attn")?,
            ln_2: norm(builder, "ln_2")?,
            self_qkv: dense(builder, "attn.c_attn", hidden, 3 * hidden, normal)?,
            self_output: dense(builder, "attn.c_proj", hidden, hidden, residual)?,
            cross_query: dense(&cross, "crossattention.q_attn", hidden, hidden, normal)?,
            cross_key_value: dense(&cross, "crossattention.c_attn", hidden, 2 * hidden, normal)?,
            cross_output: dense(&cross, "crossattention.c_proj", hidden, hidden, residual)?,
            mlp_in: dense(builder, "mlp.c_fc", hidden, inner, normal)?,
            mlp_out: dense(builder, "mlp.c_proj", inner, hidden, residual)?,
            activation: config.hidden_act.gelu(),
            attention: BlockAttention::new(index, config.num_heads, builder.precision()),
        })
    }

    /// States (B, L, D), or (T, D) of packed captions, and the images' keys and values (B, N, 2 D) to states.
    fn forward(&self, x: &Tensor, key_values: &Tensor, pass: &Pass) -> candle_core::Result<Tensor> {
        let drop = |x, offset| self.attention.drop(x, offset, pass);
        let x = self.attend_to_caption(x, pass)?;
        let options = self.attention.options(false, 2, pass);
        let attended = ops::cross_attention(&self.cross_query(&x)?, key_values, &options)?;
        let x = (&x + drop(self.cross_output.forward(&attended)?, 3)?)?;
        &x + drop(self.mlp(&x)?, 4)?
    }

    /// The first part of a block: states to states.
    fn attend_to_caption(&self, x: &Tensor, pass: &Pass) -> candle_core::Result<Tensor> {
        let qkv = self.self_qkv.forward(&self.ln_1.forward(x)?)?; // (B, L, 3 D) or (T, 3 D)
        let attended = ops::self_attention(&qkv, &self.attention.options(true, 0, pass))?;
        x + self.attention.drop(self.self_output.forward(&attended)?, 1, pass)?
    }

    /// How much each token looks at each patch, as a mean over the heads: states before the block (B, L, D) and the
    /// images' keys and values (B, N, 2 D) to (B, L, N), of sum 1 over N.
    fn cross_attention_weights(&self, x: &Tensor, key_values: &Tensor) -> candle_core::Result<Tensor> {
        let query = self.cross_query(&self.attend_to_caption(x, &Pass::eval())?)?;
        self.attention.mean_weights(&query, &key_values.narrow(2, 0, query.dim(2)?)?)
    }

    /// [`Self::forward`] for the next token of S captions of each image: (B, S, D) to (B, S, D).
    fn step(&self, x: &Tensor, index: usize, cache: &mut KeyValueCache) -> candle_core::Result<Tensor> {
        let options = self.attention.options(false, 0, &Pass::eval());
        let (batch, captions, hidden) = x.dims3()?;
        let rows = batch * captions;

        let qkv = self.self_qkv.forward(&self.ln_1.forward(x)?)?.reshape((rows, 1, 3 * hidden))?;
        let past = cache.append(index, &qkv.narrow(2, hidden, 2 * hidden)?)?; // (B S, length, 2 D)
        let attended = ops::cross_attention(&qkv.narrow(2, 0, hidden)?, past, &options)?;
        let x = (x + self.self_output.forward(&attended.reshape((batch, captions, hidden))?)?)?;

        // Each caption of an image is one query to it.
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

/// A GPT-2.
#[derive(Clone, Debug)]
pub struct Gpt2 {
    token_embedding: Tensor,
    position_embedding: Tensor,
    blocks: Vec<Arc<Block>>,
    ln_f: LayerNorm,
    head: Weight,
    precision: Precision,
}

impl Gpt2 {
    fn new(config: &Gpt2Config, builder: &Builder<'_>) -> Result<Self> {
        let (vocabulary, hidden) = (config.vocab_size, config.hidden_size);
        let normal = Initializer::Normal(config.initializer_range);
        let token_embedding = builder.embedding(TOKENS, &[vocabulary, hidden], normal)?;
        let position_embedding = builder.embedding(POSITIONS, &[config.num_positions, hidden], normal)?;
        let block = |index: usize| {
            let builder = builder.under(&format!("transformer.h.{index}"));
            Block::new(config, index, &builder.at_depth(index + 1)).map(Arc::new)
        };
        let blocks = (0..config.num_layers).map(block).collect::<Result<_>>()?;
        let after = builder.at_depth(config.num_layers + 1);
        let ln_f = LayerNorm::new(&after.under("transformer.ln_f"), hidden, config.layer_norm_eps)?;
        let head = if config.tie_word_embeddings {
            builder.shared_weight(TOKENS)?
        } else {
            after.weight(HEAD, &[vocabulary, hidden], normal)?
        };
        Ok(Self { token_embedding, position_embedding, blocks, ln_f, head, precision: builder.precision() })
    }

    /// Embedded tokens with their positions: (B, L, D) or (T, D).
    fn embed(&self, captions: &Captions) -> candle_core::Result<Tensor> {
        let positions = positions(&self.position_embedding, captions)?;
        embed(&self.token_embedding, captions)?.broadcast_add(&positions)
    }
}

impl TextDecoder for Gpt2 {
    fn num_positions(&self) -> usize {
        self.position_embedding.dims()[0]
    }

    fn cross_key_values(&self, encoder_hidden_states: &Tensor) -> candle_core::Result<Vec<Tensor>> {
        self.blocks.iter().map(|block| block.cross_key_value.forward(encoder_hidden_states)).collect()
    }

    fn hidden_states_in(
        &self,
        captions: &Captions,
        key_values: &[Tensor],
        mode: Mode,
        stages: &mut dyn Stages,
    ) -> candle_core::Result<Tensor> {
        let pass = Pass::new(captions, mode);
        let mut x = pass.drop_embedded(self.embed(captions)?)?;
        for (block, key_values) in self.blocks.iter().zip(key_values) {
            let (block, pass) = (Arc::clone(block), pass.clone());
            let stage = move |inputs: &[Tensor]| block.forward(&inputs[0], &inputs[1], &pass);
            x = stages.run(&[x, key_values.clone()], Box::new(stage))?;
        }
        self.ln_f.forward(&x)
    }

    fn cross_attention_weights(&self, input_ids: &Tensor, key_values: &[Tensor]) -> candle_core::Result<Tensor> {
        let mut x = self.embed(&Captions::padded(input_ids))?;
        let mut weights = Vec::with_capacity(self.blocks.len());
        for (block, key_values) in self.blocks.iter().zip(key_values) {
            weights.push(block.cross_attention_weights(&x, key_values)?);
            x = block.forward(&x, key_values, &Pass::eval())?;
        }
        Tensor::stack(&weights, 0)?.mean(0)
    }

    fn next_hidden_states(&self, input_ids: &Tensor, cache: &mut KeyValueCache) -> candle_core::Result<Tensor> {
        // The tokens of one step are the S captions of an image, all at one position.
        let position = self.position_embedding.narrow(0, cache.length(), 1)?; // (1, D)
        let mut x = embed(&self.token_embedding, &Captions::padded(input_ids))?.broadcast_add(&position)?;
        for (index, block) in self.blocks.iter().enumerate() {
            x = block.step(&x, index, cache)?;
        }
        cache.advance();
        self.ln_f.forward(&x)
    }

    fn logits(&self, hidden_states: &Tensor) -> candle_core::Result<Tensor> {
        let options = LinearOptions { layout: WeightLayout::OutIn, precision: self.precision, activation: None };
        ops::linear(hidden_states, &self.head, None, &options)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    fn gpt2(field: &str, value: Value) -> Result<Gpt2Config> {
        Gpt2Config::from_hf(&json!({ "model_type": "gpt2", field: value }))
    }

    #[test]
    fn sizes_that_no_model_has_are_errors() {
        let text = |name: &str, size: u64| gpt2(name, size.into()).unwrap_err().to_string();
        assert!(text("n_embd", u64::MAX).contains("width is 18446744073709551615"));
        assert!(text("n_embd", (1 << 62) + 1).contains("width is 4611686018427387905"), "four times that does not fit");
        assert!(text("n_layer", 1025).contains("number of layers is 1025; expected 1 to 1024"));
    }

    #[test]
    fn what_is_written_is_read_back_as_the_same_config() {
        let config = Gpt2Config {
            vocab_size: 99,
            hidden_size: 6,
            num_layers: 2,
            num_heads: 3,
            intermediate_size: 11,
            num_positions: 17,
            hidden_act: HiddenActivation::Gelu,
            dropout: 0.2,
            layer_norm_eps: 1e-6,
            initializer_range: 0.03,
            tie_word_embeddings: false,
        };
        assert_eq!(Gpt2Config::from_hf(&config.to_hf()).unwrap(), config);
    }

    #[test]
    fn a_tied_head_is_left_out_when_it_is_the_embedding_and_refused_when_it_is_not() {
        let ones = Tensor::ones((3, 2), DType::F32, &Device::Cpu).unwrap();
        let with_head = |head: Tensor| {
            BTreeMap::from([("wte.weight".to_owned(), ones.clone()), ("lm_head.weight".to_owned(), head)])
        };
        let config = |tied: bool| gpt2("tie_word_embeddings", tied.into()).unwrap();
        let renamed = config(true).take_names(with_head(ones.clone())).unwrap();
        assert_eq!(renamed.tensors.into_keys().collect::<Vec<_>>(), ["transformer.wte.weight"]);
        let other = (&ones * 2.0).unwrap();
        let error = config(true).take_names(with_head(other.clone())).unwrap_err();
        assert!(base::error::describe(&error).contains("although config.json ties the two"), "{error:?}");
        assert_eq!(config(false).take_names(with_head(other)).unwrap().tensors.len(), 2);
    }
}
