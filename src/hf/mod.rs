//! Model folders in the layout of the Hugging Face Hub, in and out: config, weights, tokenizer, image processing and
//! generation settings. Nothing is downloaded here.

pub mod adapter;
pub mod companions;
pub mod export;
pub mod folder;
pub mod generation_config;
pub mod layouts;
pub mod notes;
pub mod read;
pub mod token_ids;
pub mod weights;
