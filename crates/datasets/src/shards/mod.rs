//! Images that are trained on where they lie, in tar files and Parquet files: an index says where each is.

pub mod place;
