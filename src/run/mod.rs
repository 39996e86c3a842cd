//! What a run leaves on disk and how it is put together: folder, checkpoints, metrics, console.

pub mod agreement;
pub mod capacity;
pub mod captioning_model;
pub mod checkpoint;
pub mod checkpoint_names;
mod continued_model;
pub mod ensemble;
pub mod environment;
pub mod export;
pub mod gpus;
pub mod image_cache;
pub mod initial_model;
mod kept_tokenizer;
mod markdown;
pub mod model_card;
pub mod processes;
pub mod report;
pub mod run_directory;
mod self_critical;
pub mod session;
pub mod setup;
pub mod split_evaluation;
mod split_scores;
pub mod status;
pub mod tracking;
