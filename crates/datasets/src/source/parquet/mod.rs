//! Parquet files, as the Hub keeps data sets and `datasets` writes them: their columns, their rows in groups, and the
//! images that are in them. A row group is read page by page, so that no more than two pages of a column are in memory.
//! Imports go down: `hybrid`, `snappy`, `thrift` < `footer` < `first_rows`, `pages` < `blocks`, `values` < `table` <
//! `images` < `places`.

mod blocks;
mod first_rows;
mod footer;
mod hybrid;
mod images;
mod pages;
mod places;
mod snappy;
mod table;
#[cfg(test)]
mod tests;
mod thrift;
mod values;
#[cfg(test)]
pub(crate) mod writing;

pub use first_rows::{FirstRows, first_rows};
pub(crate) use footer::{Leaf, ValueKind};
pub(crate) use images::share;
pub(super) use images::{ImageReader, open};
pub(super) use places::places;
pub(crate) use table::{ImageColumn, NoImage, Table};
pub(crate) use values::Values;
