//! What a parameter is: freezing, weight decay and learning rates ask this, never its name.

use serde::{Deserialize, Serialize};

use crate::model::initialization::Initializer;
use ops::WeightLayout;

/// The part of a captioner that a parameter belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The image encoder.
    Encoder,
    /// Between the widths of encoder and decoder.
    Projection,
    /// The text decoder.
    Decoder,
}

/// What a parameter does in its layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Weight of a matrix product.
    Weight,
    /// Added to a product.
    Bias,
    /// Weight or bias of a normalisation; a layer scale.
    Norm,
    /// A table of tokens or positions, a class token.
    Embedding,
    /// A factor of the product of low rank beside a weight; it is always trained.
    Adapter,
}

/// Everything about a parameter that decides how it is trained and where its first values come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Role {
    /// Part of the model.
    pub part: Part,
    /// 0 before the first block of its part, 1 to n in the n blocks, n + 1 after the last.
    pub depth: usize,
    /// What it does.
    pub kind: Kind,
    /// Whether the forward pass uses it. One that it does not use (a pooler) is stored and exported, gets no gradient,
    /// and may be missing in a pretrained file.
    pub used: bool,
    /// Whether it connects encoder and decoder, so that a model of only text or only images lacks it.
    pub connects: bool,
}

/// A parameter that a layer needs.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterSpec {
    /// Name, as in the files of transformers.
    pub name: String,
    pub shape: Vec<usize>,
    /// Its first values where nothing is loaded.
    pub initializer: Initializer,
    /// What it is.
    pub role: Role,
    /// The order of the dimensions of a weight.
    pub layout: WeightLayout,
}

/// Which parameters of the encoder are trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EncoderTraining {
    /// None; each image is then encoded once.
    Frozen,
    /// All that have a gradient.
    Full,
    /// The last blocks, this many, and the final normalisation.
    LastBlocks(usize),
}

impl EncoderTraining {
    /// Whether a parameter of a captioner whose encoder has `num_blocks` blocks is trained.
    pub fn trains(self, role: Role, num_blocks: usize) -> bool {
        match (role.part, self) {
            (Part::Projection | Part::Decoder, _) | (Part::Encoder, Self::Full) => true,
            (Part::Encoder, Self::Frozen) => false,
            (Part::Encoder, Self::LastBlocks(count)) => role.depth + count > num_blocks,
        }
    }
}

/// What is trained of a captioner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trained {
    /// Of the encoder, unless it is adapted.
    pub encoder: EncoderTraining,
    /// With an adapter, the parts that it is in.
    pub adapted: Option<AdaptedParts>,
}

/// The parts that have an adapter: of their own parameters none are trained but those that are new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdaptedParts {
    pub encoder: bool,
    /// The decoder, and a projection that comes with it.
    pub decoder: bool,
    /// Whether what connects encoder and decoder is new: no file had both.
    pub has_new_connections: bool,
}

impl Trained {
    /// Whether a parameter of a captioner whose encoder has `num_blocks` blocks is trained.
    pub fn trains(self, role: Role, num_blocks: usize) -> bool {
        if role.kind == Kind::Adapter {
            return true;
        }
        match (role.part, self.adapted) {
            (Part::Encoder, Some(AdaptedParts { encoder: true, .. })) => false,
            (Part::Projection | Part::Decoder, Some(AdaptedParts { decoder: true, has_new_connections, .. })) => {
                role.connects && has_new_connections
            }
            _ => self.encoder.trains(role, num_blocks),
        }
    }
}

impl From<EncoderTraining> for Trained {
    fn from(encoder: EncoderTraining) -> Self {
        Self { encoder, adapted: None }
    }
}
