//! From RGB pixels to what an encoder reads, as `preprocessor_config.json` says. Reading image files is in
//! `image_file`. Imports go down: `resize` < `processor` < `preprocessor_config`.

mod preprocessor_config;
mod processor;
mod resize;
#[cfg(test)]
mod tests;

pub use preprocessor_config::FolderProcessing;
pub use processor::ImageProcessor;
pub use resize::{resize_rgb, shrink_rgb};
