//! Layer 6: one file for each command. Below here there are only paths: a Hub id becomes a folder here.

pub mod caption;
pub mod device;
pub mod encoder_source;
pub mod inspect;
pub mod plan;
pub mod prepare_data;
pub mod train;
pub mod version;
