//! `BertLMHeadModel` of transformers with `add_cross_attention`, and `BlipTextLMHeadModel`, BLIP's text decoder: a
//! causal BERT, with LayerNorm after each sum. BLIP's has no token types, and its cross-attention takes image states of
//! the encoder's width.
//!
//! Padding follows the caption, so the causal mask is enough to keep it out of every real position.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use candle_core::Tensor;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::model::builder::Builder;
use crate::model::decoders::block::{BlockAttention, Pass, embed, positions};
use crate::model::decoders::family::{Captions, DecoderFamily, DecoderSizes, Mode, TextDecoder};
use crate::model::decoders::key_value_cache::KeyValueCache;
use crate::model::hf_fields::{activation, boolean, model_type, real_number, whole_number};
use crate::model::initialization::Initializer;
use crate::model::layers::{HiddenActivation, LayerNorm, Linear};
use crate::model::role::Kind;
use crate::model::stages::Stages;
use crate::model::weight_names::{Renamed, is_equal};
use base::error::failure;
use ops::{self, Gelu, LinearOptions, Precision, Weight, WeightLayout};

const TOKENS: &str = "bert.embeddings.word_embeddings.weight";
const POSITIONS: &str = "bert.embeddings.position_embeddings.weight";
const TOKEN_TYPES: &str = "bert.embeddings.token_type_embeddings.weight";
/// The head's own weight, or a second name of the token embedding.
const HEAD: &str = "cls.predictions.decoder.weight";
const BIAS: &str = "cls.predictions.bias";
/// A second name of [`BIAS`]; with an untied head a parameter of its own, and the one that counts.
const HEAD_BIAS: &str = "cls.predictions.decoder.bias";
/// The `model_type` of BLIP's text decoder.
const BLIP_TEXT: &str = "blip_text_model";

/// The config of a BERT with cross-attention.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BertConfig {
    /// Tokens.
    pub vocab_size: usize,
    /// Width.
    pub hidden_size: usize,
    /// Width of the image states that the cross-attention takes: of a `bert` its own.
    pub encoder_hidden_size: usize,
    /// Number of blocks.
    pub num_layers: usize,
    /// Attention heads.
    pub num_heads: usize,
    /// Inner width of the MLP.
    pub intermediate_size: usize,
    /// Rows of the position table.
    pub num_positions: usize,
    /// Rows of the table of token types, of which captions use the first. 0: there is none, which makes it the text
    /// decoder of a BLIP.
    pub type_vocab_size: usize,
    /// Activation of the MLP and of the head.
    pub hidden_act: HiddenActivation,
    /// Dropout while training, of states and of attention.
    pub dropout: f64,
    /// The dropout of attention that the model's folder names, where it is another: written back, and not followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attention_dropout: Option<f64>,
    /// Added to the variance in every LayerNorm.
    pub layer_norm_eps: f64,
    /// Standard deviation of the first weights.
    pub initializer_range: f64,
    /// The head is the token embedding.
    pub tie_word_embeddings: bool,
}

impl BertConfig {
    /// The `model_type`s of transformers.
    pub const MODEL_TYPES: &'static [&'static str] = &["bert", BLIP_TEXT];

    /// Whether a `config.json` is that of a BERT or of BLIP's text decoder.
    pub fn describes(config: &Value) -> bool {
        Self::MODEL_TYPES.contains(&model_type(config))
    }

    /// Reads a `config.json`. Absent fields take the defaults of `BertConfig`, or of `BlipTextConfig`.
    ///
    /// # Errors
    /// An option that changes the arithmetic and is not supported; values of another type or that no model has.
    pub fn from_hf(config: &Value) -> Result<Self> {
        let positions = config.get("position_embedding_type").and_then(Value::as_str).unwrap_or("absolute");
        if positions != "absolute" {
            return Err(failure(
                format!("a BERT with position_embedding_type = {positions:?} is not supported"),
                "use one with absolute positions, such as bert-base-uncased",
            ));
        }
        let is_blip = model_type(config) == BLIP_TEXT;
        let hidden_size = whole_number(config, "hidden_size", 768)?;
        let cross_attention = whole_number(config, "cross_attention_hidden_size", hidden_size)?;
        if !is_blip && cross_attention != hidden_size {
            return Err(failure(
                format!("a BERT with cross_attention_hidden_size = {cross_attention} is not supported"),
                format!("its cross-attention takes states of its own width: {hidden_size}"),
            ));
        }
        let encoder_hidden_size = if is_blip { whole_number(config, "encoder_hidden_size", 768)? } else { hidden_size };
        let type_vocab_size = if is_blip { 0 } else { whole_number(config, "type_vocab_size", 2)? };
        if !is_blip && type_vocab_size == 0 {
            return Err(failure("type_vocab_size is 0; a BERT has at least one token type", "write 1 or more"));
        }
        let default_dropout = if is_blip { 0.0 } else { 0.1 };
        let dropout = real_number(config, "hidden_dropout_prob", default_dropout)?;
        let attention_dropout = real_number(config, "attention_probs_dropout_prob", default_dropout)?;
        let found = Self {
            vocab_size: whole_number(config, "vocab_size", if is_blip { 30_524 } else { 30_522 })?,
            hidden_size,
            encoder_hidden_size,
            num_layers: whole_number(config, "num_hidden_layers", 12)?,
            num_heads: whole_number(config, "num_attention_heads", if is_blip { 8 } else { 12 })?,
            intermediate_size: whole_number(config, "intermediate_size", 3072)?,
            num_positions: whole_number(config, "max_position_embeddings", 512)?,
            type_vocab_size,
            hidden_act: activation(config, "hidden_act", HiddenActivation::Gelu)?,
            dropout,
            attention_dropout: Some(attention_dropout).filter(|&of_attention| of_attention != dropout),
            layer_norm_eps: real_number(config, "layer_norm_eps", 1e-12)?,
            initializer_range: real_number(config, "initializer_range", 0.02)?,
            tie_word_embeddings: boolean(config, "tie_word_embeddings", true)?,
        };
        found.validate()?;
        Ok(found)
    }

    /// Reads the text decoder out of the `config.json` of a whole BLIP, of model type `blip`, as `BlipConfig` does: the
    /// encoder's width decides that of the cross-attention, and a head is tied if either config says so.
    ///
    /// # Errors
    /// As [`Self::from_hf`]; a config without `text_config`.
    pub fn from_blip(config: &Value) -> Result<Self> {
        let text = config.get("text_config").context("a BLIP config without text_config")?;
        let vision = config.get("vision_config").unwrap_or(&Value::Null);
        let is_tied = boolean(config, "tie_word_embeddings", true)? || boolean(text, "tie_word_embeddings", true)?;
        let mut fields = text.as_object().context("text_config: expected an object")?.clone();
        fields.insert("model_type".to_owned(), BLIP_TEXT.into());
        fields.insert("encoder_hidden_size".to_owned(), whole_number(vision, "hidden_size", 768)?.into());
        fields.insert("tie_word_embeddings".to_owned(), is_tied.into());
        Self::from_hf(&Value::Object(fields))
    }

    /// Whether it is the text decoder of a BLIP.
    pub fn is_blip(&self) -> bool {
        self.type_vocab_size == 0
    }
}

impl DecoderFamily for BertConfig {
    fn family(&self) -> &'static str {
        if self.is_blip() { "BLIP" } else { "BERT" }
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

    fn cross_attention_width(&self) -> usize {
        self.encoder_hidden_size
    }

    fn set_training_options(&mut self, dropout: Option<f64>, initializer_range: Option<f64>) {
        if let Some(dropout) = dropout {
            (self.dropout, self.attention_dropout) = (dropout, None);
        }
        self.initializer_range = initializer_range.unwrap_or(self.initializer_range);
    }

    fn build(&self, builder: &Builder<'_>) -> Result<Arc<dyn TextDecoder>> {
        Ok(Arc::new(Bert::new(self, builder)?))
    }

    /// As `BertConfig` writes itself, with cross-attention, or `BlipTextConfig`.
    fn to_hf(&self) -> Value {
        let mut config = json!({
            "model_type": if self.is_blip() { BLIP_TEXT } else { "bert" },
            "is_decoder": true,
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "num_hidden_layers": self.num_layers,
            "num_attention_heads": self.num_heads,
            "intermediate_size": self.intermediate_size,
            "max_position_embeddings": self.num_positions,
            "hidden_act": self.hidden_act,
            "hidden_dropout_prob": self.dropout,
            "attention_probs_dropout_prob": self.attention_dropout.unwrap_or(self.dropout),
            "layer_norm_eps": self.layer_norm_eps,
            "initializer_range": self.initializer_range,
            "tie_word_embeddings": self.tie_word_embeddings,
        });
        if self.is_blip() {
            config["encoder_hidden_size"] = self.encoder_hidden_size.into();
        } else {
            config["add_cross_attention"] = true.into();
            config["type_vocab_size"] = self.type_vocab_size.into();
        }
        config
    }

    /// A head that is tied is left out, and so are position ids, which old files store. LayerNorms of the oldest files
    /// have gamma and beta.
    fn take_names(&self, mut tensors: BTreeMap<String, Tensor>) -> Result<Renamed> {
        if self.tie_word_embeddings {
            drop_second_name(&mut tensors, HEAD, TOKENS)?;
            drop_second_name(&mut tensors, HEAD_BIAS, BIAS)?;
        } else if let (Some(bias), false) = (tensors.get(BIAS).cloned(), tensors.contains_key(HEAD_BIAS)) {
            // Files hold a tensor with two names once, and until version 5 the biases were always one.
            tensors.insert(HEAD_BIAS.to_owned(), bias);
        }
        let mut renamed = Renamed::default();
        for (source, tensor) in tensors {
            match self.own_name(&source) {
                Name::Taken(name) => renamed.insert(name, tensor, &source)?,
                Name::Buffer => {}
                Name::Other => renamed.unused.push(source),
            }
        }
        Ok(renamed)
    }

    /// In a block: query, key, value, two attentions with their outputs, dropouts, sums and LayerNorms, the query of
    /// the second, the MLP before its activation and after it, and the keys and values of the images.
    fn block_values(&self, tokens: usize, states: usize) -> usize {
        18 * tokens * self.hidden_size + tokens * self.intermediate_size + 2 * states * self.hidden_size
    }
}

/// What a tensor of a file is here.
enum Name {
    Taken(String),
    /// Nothing that is learned.
    Buffer,
    /// Part of another model.
    Other,
}

impl BertConfig {
    fn own_name(&self, source: &str) -> Name {
        if source.ends_with("embeddings.position_ids") || source.ends_with("embeddings.token_type_ids") {
            return Name::Buffer;
        }
        let inner = source.strip_prefix("bert.").unwrap_or(source);
        let is_body = ["embeddings.", "encoder.layer."].iter().any(|part| inner.starts_with(part));
        let is_head = source.starts_with("cls.predictions.");
        if !is_body && !is_head || self.is_blip() && inner.starts_with("embeddings.token_type_embeddings.") {
            return Name::Other;
        }
        let name = if is_body { format!("bert.{inner}") } else { source.to_owned() };
        Name::Taken(match name.rsplit_once('.') {
            Some((layer, "gamma")) => format!("{layer}.weight"),
            Some((layer, "beta")) => format!("{layer}.bias"),
            _ => name,
        })
    }
}

/// Of a parameter with two names keeps the one of the model.
fn drop_second_name(tensors: &mut BTreeMap<String, Tensor>, second: &str, name: &str) -> Result<()> {
    let Some(tensor) = tensors.remove(second) else { return Ok(()) };
    // A file without the prefix of the whole model.
    let bare = name.strip_prefix("bert.").unwrap_or(name);
    match tensors.get(name).or_else(|| tensors.get(bare)) {
        Some(kept) if is_equal(kept, &tensor) => {}
        Some(_) => {
            return Err(failure(
                format!("{second} is not {name}, although config.json ties the two"),
                "write \"tie_word_embeddings\": false for the decoder into its config.json",
            ));
        }
        None => drop(tensors.insert(name.to_owned(), tensor)),
    }
    Ok(())
}

/// What every part of a block is built with.
struct Parts<'a> {
    config: &'a BertConfig,
    builder: &'a Builder<'a>,
}

impl Parts<'_> {
    fn dense(&self, name: &str, input: usize, output: usize) -> Result<Linear> {
        let normal = Initializer::Normal(self.config.initializer_range);
        Linear::new(&self.builder.under(name), input, output, normal, Some(Initializer::Zeros))
    }

    fn norm(&self, name: &str) -> Result<LayerNorm> {
        LayerNorm::new(&self.builder.under(name), self.config.hidden_size, self.config.layer_norm_eps)
    }
}

/// A dense layer whose output is added to the states before it, with a LayerNorm of the sum.
#[derive(Clone, Debug)]
struct Output {
    dense: Linear,
    norm: LayerNorm,
}

impl Output {
    fn new(parts: &Parts<'_>, name: &str, input: usize) -> Result<Self> {
        let dense = parts.dense(&format!("{name}.dense"), input, parts.config.hidden_size)?;
        Ok(Self { dense, norm: parts.norm(&format!("{name}.LayerNorm"))? })
    }
}

/// Query, keys, values and output of an attention.
#[derive(Clone, Debug)]
struct Attention {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Output,
}

impl Attention {
    /// `states`: the width of what keys and values are made of.
    fn new(parts: &Parts<'_>, name: &str, states: usize) -> Result<Self> {
        let hidden = parts.config.hidden_size;
        let dense = |part: &str, input| parts.dense(&format!("{name}.self.{part}"), input, hidden);
        Ok(Self {
            query: dense("query", hidden)?,
            key: dense("key", states)?,
            value: dense("value", states)?,
            output: Output::new(parts, &format!("{name}.output"), hidden)?,
        })
    }
}

#[derive(Clone, Debug)]
struct Block {
    caption: Attention,
    image: Attention,
    mlp_in: Linear,
    mlp_out: Output,
    activation: Gelu,
    attention: BlockAttention,
}

impl Block {
    fn new(config: &BertConfig, index: usize, builder: &Builder<'_>) -> Result<Self> {
        let parts = Parts { config, builder };
        let cross = Parts { config, builder: &builder.connecting() };
        Ok(Self {
            caption: Attention::new(&parts, "attention", config.hidden_size)?,
            image: Attention::new(&cross, "crossattention", config.encoder_hidden_size)?,
            mlp_in: parts.dense("intermediate.dense", config.hidden_size, config.intermediate_size)?,
            mlp_out: Output::new(&parts, "output", config.intermediate_size)?,
            activation: config.hidden_act.gelu(),
            attention: BlockAttention::new(index, config.num_heads, builder.precision()),
        })
    }

    /// States (B, L, D), or (T, D) of packed captions, and the images' keys and values (B, N, D) to states.
    fn forward(&self, x: &Tensor, [keys, values]: [&Tensor; 2], pass: &Pass) -> candle_core::Result<Tensor> {
        let x = self.attend_to_caption(x, pass)?;
        let options = self.attention.options(false, 2, pass);
        let attended = ops::attention(&self.image.query.forward(&x)?, keys, values, &options)?;
        let x = self.add(&x, &self.image.output, &attended, None, (3, pass))?;
        self.mlp(&x, pass)
    }

    /// The first part of a block: states to states.
    fn attend_to_caption(&self, x: &Tensor, pass: &Pass) -> candle_core::Result<Tensor> {
        let Attention { query, key, value, output } = &self.caption;
        let options = self.attention.options(true, 0, pass);
        let attended = ops::attention(&query.forward(x)?, &key.forward(x)?, &value.forward(x)?, &options)?;
        self.add(x, output, &attended, None, (1, pass))
    }

    fn mlp(&self, x: &Tensor, pass: &Pass) -> candle_core::Result<Tensor> {
        let inner = self.mlp_in.forward(x)?;
        self.add(x, &self.mlp_out, &inner, Some(self.activation), (4, pass))
    }

    /// `LayerNorm(x + dropout(dense(activation(inner))))`.
    fn add(
        &self,
        x: &Tensor,
        output: &Output,
        inner: &Tensor,
        activation: Option<Gelu>,
        (offset, pass): (u64, &Pass),
    ) -> candle_core::Result<Tensor> {
        let made = output.dense.forward_activated(inner, activation)?;
        output.norm.forward(&(x + self.attention.drop(made, offset, pass)?)?)
    }

    /// [`Self::forward`] for the next token of S captions of each image: (B, S, D) to (B, S, D).
    fn step(&self, x: &Tensor, index: usize, cache: &mut KeyValueCache) -> candle_core::Result<Tensor> {
        let pass = &Pass::eval();
        let options = self.attention.options(false, 0, pass);
        let (batch, captions, hidden) = x.dims3()?;
        let rows = |x: Tensor| x.reshape((batch * captions, 1, hidden));
        let [for_keys, for_values] = places(index);

        let Attention { query, key, value, output } = &self.caption;
        let keys = cache.append(for_keys, &rows(key.forward(x)?)?)?.clone(); // (B S, length, D)
        let values = cache.append(for_values, &rows(value.forward(x)?)?)?; // (B S, length, D)
        let attended = ops::attention(&rows(query.forward(x)?)?, &keys, values, &options)?;
        let x = self.add(x, output, &attended.reshape((batch, captions, hidden))?, None, (1, pass))?;

        // Each caption of an image is one query to it.
        let (keys, values) = (cache.images(for_keys), cache.images(for_values));
        let attended = ops::attention(&self.image.query.forward(&x)?, keys, values, &options)?;
        let x = self.add(&x, &self.image.output, &attended, None, (3, pass))?;
        self.mlp(&x, pass)
    }
}

/// Where the keys and the values of a block are among those of all blocks.
fn places(block: usize) -> [usize; 2] {
    [2 * block, 2 * block + 1]
}

/// A BERT.
#[derive(Clone, Debug)]
pub struct Bert {
    token_embedding: Tensor,
    position_embedding: Tensor,
    /// (1, D).
    token_type: Option<Tensor>,
    embedding_norm: LayerNorm,
    blocks: Vec<Arc<Block>>,
    transform: Linear,
    activation: Gelu,
    transform_norm: LayerNorm,
    head: Weight,
    head_bias: Tensor,
    precision: Precision,
}

impl Bert {
    fn new(config: &BertConfig, builder: &Builder<'_>) -> Result<Self> {
        let (vocabulary, hidden) = (config.vocab_size, config.hidden_size);
        let normal = Initializer::Normal(config.initializer_range);
        let token_embedding = builder.embedding(TOKENS, &[vocabulary, hidden], normal)?;
        let position_embedding = builder.embedding(POSITIONS, &[config.num_positions, hidden], normal)?;
        let token_type = if config.is_blip() {
            None
        } else {
            Some(builder.embedding(TOKEN_TYPES, &[config.type_vocab_size, hidden], normal)?.narrow(0, 0, 1)?)
        };
        let embedding_norm = Parts { config, builder }.norm("bert.embeddings.LayerNorm")?;
        let block = |index: usize| {
            let builder = builder.under(&format!("bert.encoder.layer.{index}"));
            Block::new(config, index, &builder.at_depth(index + 1)).map(Arc::new)
        };
        let blocks = (0..config.num_layers).map(block).collect::<Result<_>>()?;
        let after = builder.at_depth(config.num_layers + 1);
        let parts = Parts { config, builder: &after };
        let bias = |name: &str| after.bias(name, vocabulary, Initializer::Zeros);
        let (head, head_bias) = if config.tie_word_embeddings {
            (builder.shared_weight(TOKENS)?, bias(BIAS)?)
        } else {
            after.store(BIAS, &[vocabulary], Initializer::Zeros, Kind::Bias);
            (after.weight(HEAD, &[vocabulary, hidden], normal)?, bias(HEAD_BIAS)?)
        };
        Ok(Self {
            token_embedding,
            position_embedding,
            token_type,
            embedding_norm,
            blocks,
            transform: parts.dense("cls.predictions.transform.dense", hidden, hidden)?,
            activation: config.hidden_act.gelu(),
            transform_norm: parts.norm("cls.predictions.transform.LayerNorm")?,
            head,
            head_bias,
            precision: builder.precision(),
        })
    }

    /// Embedded tokens at `positions`: (B, L, D) or (T, D).
    fn embed(&self, captions: &Captions, mut positions: Tensor) -> candle_core::Result<Tensor> {
        if let Some(token_type) = &self.token_type {
            positions = positions.broadcast_add(token_type)?;
        }
        self.embedding_norm.forward(&embed(&self.token_embedding, captions)?.broadcast_add(&positions)?)
    }
}

impl TextDecoder for Bert {
    fn num_positions(&self) -> usize {
        self.position_embedding.dims()[0]
    }

    fn cross_key_values(&self, encoder_hidden_states: &Tensor) -> candle_core::Result<Vec<Tensor>> {
        let layers = self.blocks.iter().flat_map(|block| [&block.image.key, &block.image.value]);
        layers.map(|layer| layer.forward(encoder_hidden_states)).collect()
    }

    fn hidden_states_in(
        &self,
        captions: &Captions,
        key_values: &[Tensor],
        mode: Mode,
        stages: &mut dyn Stages,
    ) -> candle_core::Result<Tensor> {
        let pass = Pass::new(captions, mode);
        let positions = positions(&self.position_embedding, captions)?;
        let mut x = pass.drop_embedded(self.embed(captions, positions)?)?;
        for (index, block) in self.blocks.iter().enumerate() {
            let (block, pass) = (Arc::clone(block), pass.clone());
            let stage = move |inputs: &[Tensor]| block.forward(&inputs[0], [&inputs[1], &inputs[2]], &pass);
            let [keys, values] = places(index).map(|place| key_values[place].clone());
            x = stages.run(&[x, keys, values], Box::new(stage))?;
        }
        Ok(x)
    }

    fn cross_attention_weights(&self, input_ids: &Tensor, key_values: &[Tensor]) -> candle_core::Result<Tensor> {
        let captions = Captions::padded(input_ids);
        let mut x = self.embed(&captions, positions(&self.position_embedding, &captions)?)?;
        let mut weights = Vec::with_capacity(self.blocks.len());
        for (index, block) in self.blocks.iter().enumerate() {
            let [keys, values] = places(index).map(|place| &key_values[place]);
            let query = block.image.query.forward(&block.attend_to_caption(&x, &Pass::eval())?)?;
            weights.push(block.attention.mean_weights(&query, keys)?);
            x = block.forward(&x, [keys, values], &Pass::eval())?;
        }
        Tensor::stack(&weights, 0)?.mean(0)
    }

    fn next_hidden_states(&self, input_ids: &Tensor, cache: &mut KeyValueCache) -> candle_core::Result<Tensor> {
        // The tokens of one step are the S captions of an image, all at one position.
        let position = self.position_embedding.narrow(0, cache.length(), 1)?; // (1, D)
        let mut x = self.embed(&Captions::padded(input_ids), position)?;
        for (index, block) in self.blocks.iter().enumerate() {
            x = block.step(&x, index, cache)?;
        }
        cache.advance();
        Ok(x)
    }

    fn logits(&self, hidden_states: &Tensor) -> candle_core::Result<Tensor> {
        let transformed = ops::gelu(&self.transform.forward(hidden_states)?, self.activation)?;
        let transformed = self.transform_norm.forward(&transformed)?;
        let options = LinearOptions { layout: WeightLayout::OutIn, precision: self.precision, activation: None };
        ops::linear(&transformed, &self.head, Some(&self.head_bias), &options)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn of(config: Value) -> BertConfig {
        BertConfig::from_hf(&config).unwrap()
    }

    fn tensor(value: f32, shape: &[usize]) -> Tensor {
        Tensor::full(value, shape, &Device::Cpu).unwrap()
    }

    fn tensors(values: &[(&str, f32)]) -> BTreeMap<String, Tensor> {
        values.iter().map(|(name, value)| ((*name).to_owned(), tensor(*value, &[3]))).collect()
    }

    #[test]
    fn absent_fields_take_the_defaults_of_the_class() {
        let bert = of(json!({ "model_type": "bert" }));
        assert_eq!((bert.vocab_size, bert.num_heads, bert.dropout, bert.type_vocab_size), (30_522, 12, 0.1, 2));
        let blip = of(json!({ "model_type": "blip_text_model" }));
        assert_eq!((blip.vocab_size, blip.num_heads, blip.dropout, blip.type_vocab_size), (30_524, 8, 0.0, 0));
        assert_eq!((blip.layer_norm_eps, blip.num_positions, blip.tie_word_embeddings), (1e-12, 512, true));
    }

    #[test]
    fn what_is_written_is_read_back_as_the_same_config() {
        let bert = BertConfig {
            vocab_size: 99,
            hidden_size: 6,
            encoder_hidden_size: 6,
            num_layers: 2,
            num_heads: 3,
            intermediate_size: 11,
            num_positions: 17,
            type_vocab_size: 4,
            hidden_act: HiddenActivation::GeluNew,
            dropout: 0.2,
            attention_dropout: Some(0.3),
            layer_norm_eps: 1e-6,
            initializer_range: 0.03,
            tie_word_embeddings: false,
        };
        let blip = BertConfig { type_vocab_size: 0, encoder_hidden_size: 10, ..bert.clone() };
        for config in [bert, blip] {
            assert_eq!(of(config.to_hf()), config);
            assert_eq!(serde_json::from_value::<BertConfig>(json!(config)).unwrap(), config);
        }
    }

    #[test]
    fn a_dropout_of_attention_of_its_own_is_kept_until_another_is_chosen() {
        let dropouts = json!({ "model_type": "bert", "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.4 });
        let mut bert = of(dropouts);
        let written = |bert: &BertConfig| {
            let config = bert.to_hf();
            ["hidden_dropout_prob", "attention_probs_dropout_prob"].map(|key| config[key].as_f64().unwrap())
        };
        assert_eq!((bert.dropout, bert.attention_dropout, written(&bert)), (0.0, Some(0.4), [0.0, 0.4]));
        bert.set_training_options(None, None);
        assert_eq!(written(&bert), [0.0, 0.4]);
        bert.set_training_options(Some(0.2), None);
        assert_eq!(written(&bert), [0.2, 0.2]);
        assert_eq!(of(json!({ "model_type": "bert" })).attention_dropout, None);
    }

    #[test]
    fn in_a_whole_blip_the_encoder_decides_the_width_of_the_cross_attention() {
        let config = json!({
            "model_type": "blip",
            "text_config": { "hidden_size": 12, "num_attention_heads": 3, "encoder_hidden_size": 768 },
            "vision_config": { "hidden_size": 10 },
        });
        let blip = BertConfig::from_blip(&config).unwrap();
        assert_eq!((blip.hidden_size, blip.cross_attention_width(), blip.is_blip()), (12, 10, true));
        let untied = |whole: bool, text: bool| {
            let mut config = config.clone();
            config["tie_word_embeddings"] = whole.into();
            config["text_config"]["tie_word_embeddings"] = text.into();
            BertConfig::from_blip(&config).unwrap().tie_word_embeddings
        };
        assert_eq!([untied(false, false), untied(true, false), untied(false, true)], [false, true, true]);
    }

    #[test]
    fn arithmetic_that_is_not_here_is_refused_by_name() {
        let text = |field: &str, value: Value| {
            base::error::describe(&BertConfig::from_hf(&json!({ "model_type": "bert", field: value })).unwrap_err())
        };
        let found = text("position_embedding_type", "relative_key".into());
        assert!(found.contains("position_embedding_type = \"relative_key\" is not supported"), "{found}");
        assert!(text("cross_attention_hidden_size", 5.into()).contains("cross_attention_hidden_size = 5"));
        assert!(text("type_vocab_size", 0.into()).contains("type_vocab_size is 0"));
        assert!(text("hidden_act", "relu".into()).contains("not one of gelu"));
        assert!(text("num_attention_heads", 7.into()).contains("not a multiple of its 7 heads"));
    }

    #[test]
    fn second_names_are_left_out_when_they_are_equal_and_refused_when_they_are_not() {
        let config = of(json!({ "model_type": "bert" }));
        let both = |head: f32, bias: f32| tensors(&[(TOKENS, 1.0), (BIAS, 2.0), (HEAD, head), (HEAD_BIAS, bias)]);
        let names = |file| config.take_names(file).map(|renamed| renamed.tensors.into_keys().collect::<Vec<_>>());
        assert_eq!(names(both(1.0, 2.0)).unwrap(), [TOKENS, BIAS]);
        for (file, name) in [(both(3.0, 2.0), HEAD), (both(1.0, 3.0), HEAD_BIAS)] {
            let text = base::error::describe(&names(file).unwrap_err());
            assert!(text.contains(&format!("{name} is not")) && text.contains("although config.json ties"), "{text}");
        }
        // A file that holds each once, under the other name.
        assert_eq!(names(tensors(&[(HEAD, 1.0), (HEAD_BIAS, 2.0)])).unwrap(), [TOKENS, BIAS]);
    }

    #[test]
    fn an_untied_head_has_a_bias_of_its_own() {
        let config = of(json!({ "model_type": "bert", "tie_word_embeddings": false }));
        let bias = |file| {
            let found = config.take_names(file).unwrap().tensors;
            assert_eq!(found.keys().collect::<Vec<_>>(), [BIAS, HEAD_BIAS, HEAD]);
            found[HEAD_BIAS].to_vec1::<f32>().unwrap()[0]
        };
        assert_eq!(bias(tensors(&[(HEAD, 1.0), (BIAS, 2.0), (HEAD_BIAS, 3.0)])), 3.0);
        assert_eq!(bias(tensors(&[(HEAD, 1.0), (BIAS, 2.0)])), 2.0, "stored once by older versions");
    }

    #[test]
    fn names_of_old_and_of_other_files_are_told_apart() {
        let file = tensors(&[
            ("bert.embeddings.LayerNorm.gamma", 1.0),
            ("bert.embeddings.LayerNorm.beta", 1.0),
            ("bert.embeddings.position_ids", 1.0),
            ("bert.embeddings.token_type_embeddings.weight", 1.0),
            ("encoder.layer.0.output.dense.bias", 1.0),
            ("bert.pooler.dense.weight", 1.0),
            ("cls.seq_relationship.weight", 1.0),
        ]);
        let names = |config: Value| {
            let renamed = of(config).take_names(file.clone()).unwrap();
            (renamed.tensors.into_keys().collect::<Vec<_>>(), renamed.unused)
        };
        let types = "bert.embeddings.token_type_embeddings.weight";
        let mut taken = vec![
            "bert.embeddings.LayerNorm.bias",
            "bert.embeddings.LayerNorm.weight",
            types,
            "bert.encoder.layer.0.output.dense.bias",
        ];
        let mut unused = vec!["bert.pooler.dense.weight".to_owned(), "cls.seq_relationship.weight".to_owned()];
        let (found, left) = names(json!({ "model_type": "bert" }));
        assert_eq!((found, left), (taken.iter().map(|&name| name.to_owned()).collect(), unused.clone()));
        // BLIP's text decoder has no place for token types.
        let (found, left) = names(json!({ "model_type": "blip_text_model" }));
        taken.remove(2);
        unused.insert(0, types.to_owned());
        assert_eq!((found, left), (taken.iter().map(|&name| name.to_owned()).collect(), unused));
    }
}
