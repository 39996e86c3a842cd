//! The lines of a run's `metrics.jsonl`: what an update, an epoch, a validation and an evaluation leave.

pub mod caption_fit;
pub mod caption_lengths;
pub mod metrics_log;
pub mod record;
