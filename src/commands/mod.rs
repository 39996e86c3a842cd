//! One file for each command. Below here there are only paths: a Hub id becomes a folder here.

pub mod average;
pub mod caption;
pub mod dataset_source;
pub mod decoding_args;
pub mod device;
pub mod evaluate;
pub mod export;
pub(crate) mod given_paths;
mod hub_uploads;
pub mod inspect;
pub mod look;
pub mod model_source;
mod picture_files;
pub mod plan;
pub mod prepare_data;
mod prepare_filters;
pub(crate) mod processes;
pub mod report;
pub mod score;
pub mod score_pairs;
#[cfg(feature = "serve")]
pub mod serve;
mod shards;
mod signals;
pub mod train;
pub mod upload;
pub mod version;
