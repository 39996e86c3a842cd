//! Checkpoints: one safetensors file that is enough to go on with a run, or to caption an image.

pub mod layout;
pub mod newest;
pub mod reader;
pub mod retention;
pub mod writer;
