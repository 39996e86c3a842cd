//! From shards, tar files and Parquet files whose images stay where they are, to an index of their images.
//! Imports go down: `scan` < `list`.

pub mod list;
pub mod scan;
#[cfg(test)]
mod tests;
