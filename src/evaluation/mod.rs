//! Layer 3: what a model is worth: its loss on held-out captions, and its own captions beside the references.

pub mod caption_files;
pub mod caption_match;
pub mod caption_words;
pub mod captioning;
pub mod degeneration;
pub mod description;
pub mod image_features;
pub mod teacher_forcing;
pub mod token_loss;
