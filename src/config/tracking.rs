//! The sections `[tracking]` and `[hub]`: who is told of a run, and where its model goes.

use serde::{Deserialize, Serialize};

/// Section `[tracking]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrackingConfig {
    /// Whether event files of TensorBoard are written.
    pub tensorboard: bool,
    /// Weights & Biases.
    pub wandb: WandbConfig,
}

impl Default for TrackingConfig {
    fn default() -> Self {
        Self { tensorboard: true, wandb: WandbConfig::default() }
    }
}

/// Section `[tracking.wandb]`. The key comes from `WANDB_API_KEY` or netrc, never from a config.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WandbConfig {
    /// Where the run is told to. Absent: `WANDB_MODE`, else online where there is a key, else offline.
    pub mode: Option<WandbMode>,
    /// Project. Absent: `WANDB_PROJECT`, else `caption-train`.
    pub project: Option<String>,
    /// User or team. Absent: `WANDB_ENTITY`, else the key's own.
    pub entity: Option<String>,
    /// The run's name. Absent: `WANDB_NAME`, else that of the run's folder.
    pub name: Option<String>,
    /// Its tags.
    pub tags: Vec<String>,
}

/// Where a run is told to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WandbMode {
    /// To the server, and a file in the run's folder.
    Online,
    /// To the file alone.
    Offline,
    /// Nowhere.
    Disabled,
}

/// Section `[hub]`. The token comes from `HF_TOKEN` or the Hub's own tools, never from a config.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HubConfig {
    /// Repository of the model: `owner/name`, or `name` in the token's own account.
    pub repo: Option<String>,
    /// Whether a repository that is made is private.
    pub private: bool,
    /// When the model is uploaded.
    pub upload: HubUpload,
    /// Whether the checkpoint goes along, from which the training can be gone on with.
    pub include_checkpoint: bool,
}

impl Default for HubConfig {
    fn default() -> Self {
        Self { repo: None, private: true, upload: HubUpload::Never, include_checkpoint: false }
    }
}

/// When the best model is uploaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HubUpload {
    /// Not at all.
    Never,
    /// Each time that a validation finds a better one, and at the end.
    Best,
    /// At the end of the run.
    End,
}
