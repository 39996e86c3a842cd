//! From shards, tar files and Parquet files whose images stay where they are, to an index of their images.
//! Imports go down: `scan` < `list`, `parts`, `notes`, `splits` < `build`.

pub mod build;
pub mod list;
mod notes;
mod parts;
pub mod scan;
mod splits;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
