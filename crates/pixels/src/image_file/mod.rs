//! From a file or its bytes to RGB pixels, whatever its format, and back; formats are recognized by content.
//!
//! What the decoders accept silently and should not (a truncated JPEG) is an error here. All decoding goes through
//! [`guard`], and takes memory from [`budget`] before a decoder does. Resizing and normalization are in
//! `image_processor`. Imports go down: `guard`, `budget` < `decoded` < a file for each decoder < `load`.

pub mod budget;
mod decoded;
mod encode;
mod gif;
pub mod guard;
mod jpeg;
mod library;
mod load;
mod not_an_image;
#[cfg(test)]
mod tests;
mod tiff;
mod webp;

pub use decoded::MAX_PIXELS;
pub use encode::encode;
pub use load::{DECODER_VERSION, Picture, decode_jpeg_both_ways, decode_rgb, inspect, load_known_rgb, load_rgb};
