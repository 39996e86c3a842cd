//! How good a model is: its loss on held-out captions, and its own captions compared with the references.

pub mod caption_files;
pub mod caption_match;
pub mod caption_words;
pub mod captioning;
pub mod degeneration;
pub mod description;
pub mod image_features;
pub mod pair_scores;
pub mod teacher_forcing;
pub mod token_loss;
