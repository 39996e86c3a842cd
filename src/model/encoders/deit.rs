//! `DeiTModel` of transformers, a ViT with a distillation token after the class token. A DeiT without it is a plain ViT.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use candle_core::Tensor;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::builder::Builder;
use crate::model::encoders::family::{EncoderFamily, ImageEncoder, VisionSizes};
use crate::model::encoders::timm::Architecture;
use crate::model::encoders::vision_transformer::Rows;
use crate::model::encoders::vit::VitConfig;
use crate::model::hf_fields::model_type;
use crate::model::initialization::Initializer;
use crate::model::weight_names::Renamed;

/// The config of a DeiT, whose fields are those of a ViT.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeitConfig(VitConfig);

impl DeitConfig {
    /// The `model_type`s of transformers.
    pub const MODEL_TYPES: &'static [&'static str] = &["deit"];

    /// Whether a `config.json` is that of a DeiT with a distillation token, of transformers or of timm.
    pub fn describes(config: &Value) -> bool {
        match Architecture::of(config) {
            Some(architecture) => architecture.is_plain() && architecture.has("distilled"),
            None => Self::MODEL_TYPES.contains(&model_type(config)),
        }
    }

    /// Reads a `config.json`. Absent fields take the defaults of `DeiTConfig`, which are those of `ViTConfig`.
    ///
    /// # Errors
    /// Values of another type.
    pub fn from_hf(config: &Value) -> Result<Self> {
        VitConfig::from_hf(config).map(Self)
    }
}

impl EncoderFamily for DeitConfig {
    fn sizes(&self) -> VisionSizes {
        self.0.sizes()
    }

    fn set_image_size(&mut self, image_size: usize) {
        self.0.set_image_size(image_size);
    }

    fn num_prefix_tokens(&self) -> usize {
        2
    }

    fn position_table(&self) -> Option<&'static str> {
        self.0.position_table()
    }

    /// First values as `DeiTPreTrainedModel._init_weights` has them: tokens and positions are zeros.
    fn build(&self, builder: &Builder<'_>) -> Result<Arc<dyn ImageEncoder>> {
        let mut anatomy = self.0.anatomy();
        let shape = vec![1, 1, self.hidden_size()];
        anatomy.tokens.push(Rows { name: "embeddings.distillation_token", shape, initializer: Initializer::Zeros });
        anatomy.positions.shape = vec![1, self.sequence_length(), self.hidden_size()];
        for rows in anatomy.tokens.iter_mut().chain([&mut anatomy.positions]) {
            rows.initializer = Initializer::Zeros;
        }
        self.0.build_as(&anatomy, builder)
    }

    fn module_path(&self, layer: &str) -> String {
        self.0.module_path(layer)
    }

    fn to_hf(&self) -> Value {
        let mut config = self.0.to_hf();
        config["model_type"] = "deit".into();
        config
    }

    fn take_names(&mut self, tensors: BTreeMap<String, Tensor>) -> Result<Renamed> {
        self.0.take_names(tensors)
    }

    fn exported_zeros(&self) -> Vec<(&'static str, Vec<usize>)> {
        self.0.exported_zeros()
    }
}
