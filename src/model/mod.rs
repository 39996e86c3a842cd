//! Layer 2: the image encoders, the caption decoder and their parameters. Knows no captions and no learning rates.
//!
//! Shapes in this layer: B batch, L caption length, N patches + class token, D hidden size, V vocabulary.

pub mod caption_decoder;
pub mod captioner;
pub mod clip_vision;
pub mod encoder;
pub mod export_config;
pub mod generation_defaults;
pub mod initialization;
pub mod key_value_cache;
pub mod parameters;
pub mod position_table;
pub mod pretrained_captioner;
pub mod pretrained_decoder;
pub mod pretrained_encoder;
pub mod vision_block;
pub mod vision_transformer;
pub mod weight_files;
pub mod weight_fit;
pub mod weight_names;
