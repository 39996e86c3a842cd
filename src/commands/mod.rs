//! Layer 6: one file for each command. Below here there are only paths: a Hub id becomes a folder here.

pub mod caption;
pub mod device;
pub mod export;
pub mod inspect;
pub mod model_source;
pub mod plan;
pub mod prepare_data;
pub mod train;
pub mod version;
