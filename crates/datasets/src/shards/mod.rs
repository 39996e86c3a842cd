//! Images that are trained on where they lie, in tar files and Parquet files: an index says where each is.
//!
//! Imports go down: `place` < `unpack` < `read` < `files` < `index`.

pub mod files;
pub(crate) mod index;
pub mod place;
pub mod read;
pub(crate) mod unpack;
