//! `Dinov2Model` and `Dinov2WithRegistersModel` of transformers: the last hidden state after the final LayerNorm, class
//! token and registers included. timm's DINOv2 are read too.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use candle_core::Tensor;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::model::builder::Builder;
use crate::model::encoders::family::{EncoderFamily, ImageEncoder, VisionSizes};
use crate::model::encoders::names::{Names, Spelling};
use crate::model::encoders::timm::{Architecture, TimmSizes};
use crate::model::encoders::vision_block::{BlockNames, BlockShape, check_channels};
use crate::model::encoders::vision_transformer::{Anatomy, Rows, VisionTransformer};
use crate::model::hf_fields::{activation, boolean, model_type, real_number, whole_number};
use crate::model::initialization::Initializer;
use crate::model::layers::HiddenActivation;
use crate::model::position_table::PositionFilter;
use crate::model::weight_names::Renamed;
use base::error::failure;

const NAMES: BlockNames = BlockNames {
    norm_before: "norm1",
    attention: [
        "attention.attention.query",
        "attention.attention.key",
        "attention.attention.value",
        "attention.output.dense",
    ],
    norm_after: "norm2",
    mlp: ["mlp.fc1", "mlp.fc2"],
};
/// In transformers 5 in memory; before it, [`NAMES`] and [`FILE_NAMES`].
const IN_MEMORY: Spelling = Spelling {
    block: "encoder.layer.",
    outside: &[],
    inside: &[
        ("attention.q_proj.", "attention.attention.query."),
        ("attention.k_proj.", "attention.attention.key."),
        ("attention.v_proj.", "attention.attention.value."),
        ("attention.o_proj.", "attention.output.dense."),
        // The rest is as it was. What is not known is refused by its name in the model.
        ("", ""),
    ],
    fused: &[],
    refused: &[],
};
const TIMM: Spelling = Spelling {
    block: "blocks.",
    outside: &[
        ("cls_token", "embeddings.cls_token"),
        ("reg_token", REGISTERS),
        ("pos_embed", POSITIONS),
        ("patch_embed.proj.", "embeddings.patch_embeddings.projection."),
        ("norm.", "layernorm."),
    ],
    inside: &[
        ("norm1.", "norm1."),
        ("norm2.", "norm2."),
        ("attn.proj.", "attention.output.dense."),
        ("mlp.fc1.", "mlp.fc1."),
        ("mlp.fc2.", "mlp.fc2."),
        ("ls1.gamma", "layer_scale1.lambda1"),
        ("ls2.gamma", "layer_scale2.lambda1"),
    ],
    fused: &[("attn.qkv.", ["attention.attention.query.", "attention.attention.key.", "attention.attention.value."])],
    refused: &["norm_pre."],
};
const FILE_NAMES: Names = Names {
    prefixes: &["dinov2.", "dinov2_with_registers.", "encoder."],
    under: "",
    roots: &["embeddings.", "encoder.layer.", "layernorm."],
    // It belongs to masked pretraining.
    dropped: &[MASK_TOKEN],
    block: "encoder.layer.",
    spellings: &[IN_MEMORY, TIMM],
};
const MASK_TOKEN: &str = "embeddings.mask_token";
const POSITIONS: &str = "embeddings.position_embeddings";
const REGISTERS: &str = "embeddings.register_tokens";
const WITH_REGISTERS: &str = "dinov2_with_registers";
const LAYER_NORM_EPS: f64 = 1e-6;

/// The config of a DINOv2. Absent fields have the defaults of `Dinov2Config`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dinov2Config {
    /// Side of the square image in pixels. What is left of a multiple of the patch is cut off.
    pub image_size: usize,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Width.
    pub hidden_size: usize,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Number of attention heads; divides `hidden_size`.
    pub num_attention_heads: usize,
    /// Inner width of the MLP, in widths.
    #[serde(default = "mlp_ratio")]
    pub mlp_ratio: usize,
    /// Activation of the MLP.
    #[serde(default = "gelu")]
    pub hidden_act: HiddenActivation,
    /// Added to the variance in every LayerNorm.
    #[serde(default = "layer_norm_eps")]
    pub layer_norm_eps: f64,
    /// Standard deviation of the first weights.
    #[serde(default = "initializer_range")]
    pub initializer_range: f64,
    /// Whether query, key and value have biases.
    #[serde(default = "qkv_bias")]
    pub qkv_bias: bool,
    /// First value of the layer scales.
    #[serde(default = "layerscale_value")]
    pub layerscale_value: f64,
    /// Tokens between the class token and the patches.
    #[serde(default)]
    pub num_register_tokens: usize,
}

fn mlp_ratio() -> usize {
    4
}

fn gelu() -> HiddenActivation {
    HiddenActivation::Gelu
}

fn layer_norm_eps() -> f64 {
    LAYER_NORM_EPS
}

fn initializer_range() -> f64 {
    0.02
}

fn qkv_bias() -> bool {
    true
}

fn layerscale_value() -> f64 {
    1.0
}

impl Dinov2Config {
    /// The `model_type`s of transformers.
    pub const MODEL_TYPES: &'static [&'static str] = &["dinov2", WITH_REGISTERS];

    /// Whether a `config.json` is that of a DINOv2, of transformers or of timm.
    pub fn describes(config: &Value) -> bool {
        match Architecture::of(config) {
            Some(architecture) => architecture.is_dinov2(),
            None => Self::MODEL_TYPES.contains(&model_type(config)),
        }
    }

    /// Reads a `config.json`. Absent fields take the defaults of `Dinov2Config` or `Dinov2WithRegistersConfig`.
    ///
    /// # Errors
    /// Values of another type; an MLP with a gate.
    pub fn from_hf(config: &Value) -> Result<Self> {
        if let Some(architecture) = Architecture::of(config) {
            return Self::from_timm(&architecture);
        }
        let has_registers = model_type(config) == WITH_REGISTERS;
        if boolean(config, "use_swiglu_ffn", false)? {
            return Err(failure(
                "use_swiglu_ffn is true: a DINOv2 whose MLP has a gate, as the giant one, is not supported",
                "use a small, base or large one, such as facebook/dinov2-base",
            ));
        }
        let hidden_act = activation(config, "hidden_act", HiddenActivation::Gelu)?;
        check_channels(config)?;
        let (patch_size, num_registers) = if has_registers { (16, 4) } else { (14, 0) };
        Ok(Self {
            image_size: whole_number(config, "image_size", 224)?,
            patch_size: whole_number(config, "patch_size", patch_size)?,
            hidden_size: whole_number(config, "hidden_size", 768)?,
            num_hidden_layers: whole_number(config, "num_hidden_layers", 12)?,
            num_attention_heads: whole_number(config, "num_attention_heads", 12)?,
            mlp_ratio: whole_number(config, "mlp_ratio", mlp_ratio())?,
            hidden_act,
            layer_norm_eps: real_number(config, "layer_norm_eps", LAYER_NORM_EPS)?,
            initializer_range: real_number(config, "initializer_range", initializer_range())?,
            qkv_bias: boolean(config, "qkv_bias", true)?,
            layerscale_value: real_number(config, "layerscale_value", layerscale_value())?,
            num_register_tokens: match has_registers {
                true => whole_number(config, "num_register_tokens", num_registers)?,
                false => 0,
            },
        })
    }

    fn from_timm(architecture: &Architecture<'_>) -> Result<Self> {
        let TimmSizes { image_size, patch_size, hidden_size, num_hidden_layers, num_attention_heads } =
            architecture.sizes()?;
        Ok(Self {
            image_size,
            patch_size,
            hidden_size,
            num_hidden_layers,
            num_attention_heads,
            mlp_ratio: mlp_ratio(),
            hidden_act: gelu(),
            layer_norm_eps: LAYER_NORM_EPS,
            initializer_range: initializer_range(),
            qkv_bias: true,
            layerscale_value: layerscale_value(),
            num_register_tokens: if architecture.has("reg4") { 4 } else { 0 },
        })
    }

    /// 0 where it fits no number: a size that [`EncoderFamily::validate`] refuses.
    fn intermediate_size(&self) -> usize {
        self.hidden_size.checked_mul(self.mlp_ratio).unwrap_or(0)
    }

    /// First values as `Dinov2PreTrainedModel._init_weights` draws them. torch cuts its normal distribution off at 2, not
    /// at two deviations.
    fn anatomy(&self) -> Anatomy {
        let (hidden, initializer) = (self.hidden_size, Initializer::Normal(self.initializer_range));
        let registers =
            Rows { name: REGISTERS, shape: vec![1, self.num_register_tokens, hidden], initializer: Initializer::Zeros };
        let rows = self.sequence_length() - self.num_register_tokens;
        Anatomy {
            patch_size: self.patch_size,
            patches: "embeddings.patch_embeddings.projection",
            patch_initializer: initializer,
            patch_bias: true,
            tokens: vec![Rows { name: "embeddings.cls_token", shape: vec![1, 1, hidden], initializer }],
            registers: (self.num_register_tokens > 0).then_some(registers),
            positions: Rows { name: POSITIONS, shape: vec![1, rows, hidden], initializer },
            norm_before: None,
            blocks: "encoder.layer",
            num_blocks: self.num_hidden_layers,
            block_names: &NAMES,
            block_shape: BlockShape {
                hidden_size: hidden,
                num_attention_heads: self.num_attention_heads,
                intermediate_size: self.intermediate_size(),
                activation: self.hidden_act.gelu(),
                layer_norm_eps: self.layer_norm_eps,
                qkv_bias: self.qkv_bias,
                initializers: [initializer; 4],
                mlp_bias: Initializer::Zeros,
                layer_scale: Some(self.layerscale_value),
            },
            norm_after: Some("layernorm"),
        }
    }
}

impl EncoderFamily for Dinov2Config {
    fn sizes(&self) -> VisionSizes {
        VisionSizes {
            image_size: self.image_size,
            patch_size: self.patch_size,
            hidden_size: self.hidden_size,
            num_hidden_layers: self.num_hidden_layers,
            num_attention_heads: self.num_attention_heads,
            intermediate_size: self.intermediate_size(),
            layer_norm_eps: self.layer_norm_eps,
            initializer_range: self.initializer_range,
        }
    }

    fn set_image_size(&mut self, image_size: usize) {
        self.image_size = image_size;
    }

    fn num_prefix_tokens(&self) -> usize {
        1 + self.num_register_tokens
    }

    fn num_registers(&self) -> usize {
        self.num_register_tokens
    }

    fn position_table(&self) -> Option<&'static str> {
        Some(POSITIONS)
    }

    fn position_filter(&self) -> PositionFilter {
        match self.num_register_tokens {
            0 => PositionFilter::Bicubic,
            _ => PositionFilter::AntialiasedBicubic,
        }
    }

    fn cuts_remainder(&self) -> bool {
        true
    }

    fn takes_any_image_size(&self) -> bool {
        true
    }

    fn num_layer_scales(&self) -> usize {
        2
    }

    fn build(&self, builder: &Builder<'_>) -> Result<Arc<dyn ImageEncoder>> {
        Ok(Arc::new(VisionTransformer::new(&self.anatomy(), builder)?))
    }

    /// Since version 5 of transformers, layers have other names in memory than in files.
    fn module_path(&self, layer: &str) -> String {
        IN_MEMORY.of_layer(&FILE_NAMES, layer)
    }

    fn to_hf(&self) -> Value {
        let mut config = json!({
            "model_type": "dinov2",
            "hidden_act": self.hidden_act,
            "hidden_size": self.hidden_size,
            "image_size": self.image_size,
            "initializer_range": self.initializer_range,
            "layer_norm_eps": self.layer_norm_eps,
            "layerscale_value": self.layerscale_value,
            "mlp_ratio": self.mlp_ratio,
            "num_attention_heads": self.num_attention_heads,
            "num_channels": 3,
            "num_hidden_layers": self.num_hidden_layers,
            "patch_size": self.patch_size,
            "qkv_bias": self.qkv_bias,
            "use_swiglu_ffn": false,
            // Dropout that transformers has for an encoder and this program does not.
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
            "drop_path_rate": 0.0,
        });
        if self.num_register_tokens > 0 {
            config["model_type"] = WITH_REGISTERS.into();
            config["num_register_tokens"] = self.num_register_tokens.into();
        }
        config
    }

    fn take_names(&mut self, tensors: BTreeMap<String, Tensor>) -> Result<Renamed> {
        let mut renamed = FILE_NAMES.take(tensors)?;
        // With registers timm adds the class token's position to the token.
        let is_square = |rows: usize| rows.isqrt().pow(2) == rows;
        let lacks_class = |table: &&mut Tensor| match *table.dims() {
            [1, rows, _] => rows > 1 && is_square(rows) && !is_square(rows - 1),
            _ => false,
        };
        if let Some(table) = renamed.tensors.get_mut(POSITIONS).filter(lacks_class) {
            let none = table.narrow(1, 0, 1)?.zeros_like()?;
            *table = Tensor::cat(&[&none, &*table], 1)?;
        }
        Ok(renamed)
    }

    /// transformers builds a DINOv2 with a mask token.
    fn exported_zeros(&self) -> Vec<(&'static str, Vec<usize>)> {
        vec![(MASK_TOKEN, vec![1, self.hidden_size])]
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use base::error::describe;

    fn config(json: Value) -> Dinov2Config {
        Dinov2Config::from_hf(&json).unwrap()
    }

    #[test]
    fn absent_fields_take_the_defaults_of_transformers() {
        let plain = config(json!({ "model_type": "dinov2", "num_register_tokens": 9 }));
        assert_eq!((plain.patch_size, plain.num_register_tokens, plain.sequence_length()), (14, 0, 257));
        assert_eq!((plain.layer_norm_eps, plain.hidden_act, plain.mlp_ratio), (1e-6, HiddenActivation::Gelu, 4));
        let registers = config(json!({ "model_type": "dinov2_with_registers" }));
        assert_eq!((registers.patch_size, registers.num_register_tokens), (16, 4));
        assert_eq!((registers.num_prefix_tokens(), registers.sequence_length()), (5, 201));
    }

    #[test]
    fn what_is_written_is_read_back_as_the_same_config() {
        for num_register_tokens in [0, 3] {
            let dinov2 = Dinov2Config { mlp_ratio: 3, num_register_tokens, ..config(json!({})) };
            assert_eq!(config(dinov2.to_hf()), dinov2);
            assert_eq!(serde_json::from_value::<Dinov2Config>(json!(dinov2)).unwrap(), dinov2);
        }
    }

    #[test]
    fn an_mlp_with_a_gate_is_refused_with_what_is_taken() {
        let error = Dinov2Config::from_hf(&json!({ "model_type": "dinov2", "use_swiglu_ffn": true })).unwrap_err();
        let text = describe(&error);
        assert!(text.contains("use_swiglu_ffn") && text.contains("facebook/dinov2-base"), "{text}");
    }

    #[test]
    fn a_ratio_that_fits_no_number_is_refused() {
        assert!(Dinov2Config { mlp_ratio: usize::MAX, ..config(json!({})) }.validate().is_err());
        assert!(Dinov2Config { mlp_ratio: 0, ..config(json!({})) }.validate().is_err());
    }

    #[test]
    fn names_of_every_spelling_become_those_of_files() {
        let mut dinov2 = config(json!({ "model_type": "dinov2_with_registers", "image_size": 32, "hidden_size": 2 }));
        let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
        let mut names = |sources: &[(&str, &[usize])]| {
            let tensors = sources.iter().map(|(name, shape)| ((*name).to_owned(), zeros(shape))).collect();
            dinov2.take_names(tensors).unwrap().tensors
        };
        let timm = names(&[
            ("blocks.3.ls1.gamma", &[2]),
            ("blocks.3.attn.qkv.bias", &[6]),
            ("reg_token", &[1, 4, 2]),
            ("pos_embed", &[1, 4, 2]),
        ]);
        let expected = [
            "embeddings.position_embeddings",
            "embeddings.register_tokens",
            "encoder.layer.3.attention.attention.key.bias",
            "encoder.layer.3.attention.attention.query.bias",
            "encoder.layer.3.attention.attention.value.bias",
            "encoder.layer.3.layer_scale1.lambda1",
        ];
        assert_eq!(timm.keys().collect::<Vec<_>>(), expected);
        assert_eq!(timm[POSITIONS].dims(), [1, 5, 2], "a class token without a position of its own");
        for prefix in ["", "dinov2_with_registers.", "encoder."] {
            let found = names(&[
                (&format!("{prefix}encoder.layer.3.attention.k_proj.bias"), &[2]),
                (&format!("{prefix}encoder.layer.3.layer_scale1.lambda1"), &[2]),
                (&format!("{prefix}embeddings.mask_token"), &[1, 2]),
            ]);
            assert_eq!(found.keys().collect::<Vec<_>>(), [expected[2], expected[5]], "with the prefix {prefix:?}");
        }
    }
}
