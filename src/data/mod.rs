//! Layer 2: from archives and annotation files to batches of pixels and token ids.

pub mod annotations;
pub mod augmentation;
pub mod batch;
pub mod caption_lengths;
pub mod collate;
pub mod dataset;
pub mod feature_store;
pub mod image_file;
pub mod image_id;
pub mod image_processor;
pub mod image_source;
pub mod loader;
mod name_forms;
pub mod picture_formats;
pub mod prepare;
pub mod sampler;
pub mod shapes;
pub mod source;
pub mod split;
mod write;
