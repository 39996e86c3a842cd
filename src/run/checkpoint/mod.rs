//! Checkpoints: one safetensors file that is enough to resume a run, or to caption an image; and means of them.

pub mod adapter_base;
pub mod average;
mod digests;
pub mod find_latest;
pub mod keeper;
pub mod layout;
pub mod reader;
pub mod retention;
pub mod writer;
