//! The section `[training.scst]`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Section `[training.scst]`: self-critical training (Rennie et al. 2017), which rewards captions that the model samples by
/// their CIDEr-D.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScstConfig {
    /// What training begins from: a checkpoint file, or a run's folder, whose best checkpoint is taken.
    pub checkpoint: PathBuf,
    /// Captions sampled of each image: at least 2.
    pub samples: usize,
    /// Divides the logits in sampling; above 0.
    pub temperature: f64,
    /// What a reward is compared with.
    pub baseline: Baseline,
    /// Share of the loss, from 0 to below 1, that is the cross-entropy of the references.
    pub cross_entropy: f64,
    /// Updates between two validations. The first comes before any update.
    pub validate_every: usize,
}

impl Default for ScstConfig {
    fn default() -> Self {
        Self {
            checkpoint: PathBuf::new(),
            samples: 5,
            temperature: 1.0,
            baseline: Baseline::Others,
            cross_entropy: 0.0,
            validate_every: 200,
        }
    }
}

/// What the reward of a sampled caption is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Baseline {
    /// The mean reward of the other samples of the image (Luo 2020).
    Others,
    /// The reward of the caption that greedy search writes.
    Greedy,
}

impl ScstConfig {
    /// How the reward was counted, for signatures of scores: two models compare if it is the same (SacreEOS, Hu et al.
    /// 2023).
    pub fn reward_signature(&self) -> String {
        let baseline = match self.baseline {
            Baseline::Others => "average",
            Baseline::Greedy => "greedy",
        };
        format!("reward:cider-D,sigma6,eos,df=training,{baseline},samples{}", self.samples)
    }
}
