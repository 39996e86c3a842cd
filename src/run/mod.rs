//! Layer 5: what a run leaves on disk and how it is put together: folder, checkpoints, metrics, console.

pub mod captioning_model;
pub mod checkpoint;
pub mod environment;
mod gallery;
pub mod image_cache;
pub mod initial_model;
mod markdown;
pub mod model_card;
pub mod report_data;
pub mod room;
pub mod run_directory;
pub mod setup;
pub mod split_evaluation;
mod split_scores;
pub mod tracking;
