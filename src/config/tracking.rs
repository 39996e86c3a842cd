//! The sections `[tracking]` and `[hub]`: where a run is logged, and where its model is uploaded.

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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WandbConfig {
    /// Where the run is logged. Absent: `WANDB_MODE`, else online if there is a key, else offline.
    pub mode: Option<WandbMode>,
    /// Project. Absent: `WANDB_PROJECT`, else `caption-train`.
    pub project: Option<String>,
    /// User or team. Absent: `WANDB_ENTITY`, else the owner of the key.
    pub entity: Option<String>,
    /// The run's name. Absent: `WANDB_NAME`, else that of the run's folder.
    pub name: Option<String>,
    pub tags: Vec<String>,
    /// Whether it gets pictures of the validation split, with the captions that the model writes.
    pub images: bool,
    /// Whether it gets the console output.
    pub console: bool,
    /// Whether it gets the command line.
    pub command: bool,
    /// Whether it gets the name of the machine.
    pub host: bool,
    /// Whether it gets paths of the machine: those in the config, the command line and the console output.
    pub paths: bool,
    /// Whether it gets the hardware and its load.
    pub system: bool,
    /// Whether it gets the config.
    pub config: bool,
}

impl Default for WandbConfig {
    fn default() -> Self {
        Self {
            mode: None,
            project: None,
            entity: None,
            name: None,
            tags: Vec::new(),
            images: true,
            console: true,
            command: true,
            host: true,
            paths: true,
            system: true,
            config: true,
        }
    }
}

impl WandbConfig {
    /// Whether the command line is sent, which contains paths.
    pub fn sends_command(&self) -> bool {
        self.command && self.paths
    }

    /// Whether the console is sent, which shows paths.
    pub fn sends_console(&self) -> bool {
        self.console && self.paths
    }
}

/// Where a run is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WandbMode {
    /// To the server, and a file in the run's folder.
    Online,
    /// Only to the file.
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
    /// Whether a new repository is private.
    pub private: bool,
    /// When the model is uploaded.
    pub upload: HubUpload,
    /// Whether the checkpoint, from which training can resume, is uploaded too.
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
