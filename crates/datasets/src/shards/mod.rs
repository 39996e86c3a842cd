//! Images that are trained on where they lie, in tar files and Parquet files: an index says where each is.
//!
//! Imports go down: `place` < `unpack` < `read` < `index`.

pub(crate) mod index;
pub mod place;
pub mod read;
pub(crate) mod unpack;
