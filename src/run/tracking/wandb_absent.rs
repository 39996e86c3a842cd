//! Weights & Biases in a build without the feature `wandb`.

use crate::config::WandbMode;
use crate::run::tracking::tracker::TrackerKind;
use base::error::usage_error;

pub(super) const KIND: TrackerKind = TrackerKind {
    name: "Weights & Biases",
    check: |config| match config.tracking.wandb.mode {
        None | Some(WandbMode::Disabled) => Ok(()),
        Some(WandbMode::Online | WandbMode::Offline) => Err(usage_error(
            "tracking.wandb.mode is set, and this program was built without the feature wandb",
            "remove it, or build with `--features wandb`",
        )),
    },
    start: |_| Ok(None),
};
