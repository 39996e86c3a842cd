//! Image encoders, text decoders and their parameters. Knows no captions and no learning rates.
//!
//! Shapes in this layer: B batch, L caption length, N prefix tokens + patches, D hidden size, V vocabulary.

pub mod builder;
pub mod captioner;
pub mod decoders;
pub mod encoders;
pub mod hf_fields;
pub mod initialization;
pub mod layers;
pub mod limits;
pub mod lora;
pub mod parameters;
pub mod position_table;
pub mod role;
pub mod stages;
pub mod tensor_file;
pub mod unfit;
pub mod weight_fit;
pub mod weight_names;
