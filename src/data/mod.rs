//! From a prepared data set to batches of pixels and token ids.

pub mod augmentation;
pub mod batch;
pub mod collate;
pub mod example_files;
pub mod example_list;
pub mod examples;
pub mod feature_store;
pub mod image_source;
pub mod loader;
pub mod pieces;
pub mod prompts;
pub mod resized_image;
pub mod sampler;
pub mod split;
