//! Turns what you have into a prepared data set: finds images and captions, decodes and stores the images, settles the
//! split, looks for what would spoil scores later, writes `dataset.json` and last `preparation.json`.
//!
//! A preparation can be stopped at any moment; the same command continues it. A finished one does nothing when it is
//! asked for again, unless its source has changed.
//!
//! Imports go down: `near_duplicates` < `filters`, `name_index` < `split_forms` < `split_file` < `request` <
//! `image_files`, `images`, `guessed_splits`, `splitting` < `gather`, `differences` < `changes` < `already` < `pipeline`;
//! `shards` is above them.

mod already;
mod changes;
mod contact_sheet;
mod differences;
mod filters;
mod gather;
mod guessed_splits;
mod image_files;
mod images;
mod links;
mod name_index;
pub(crate) mod near_duplicates;
mod old_report;
mod origins;
mod pipeline;
mod request;
pub mod shards;
mod split_file;
mod split_forms;
mod splitting;
mod summary;
#[cfg(test)]
mod tests;

pub use already::source_changes;
pub use filters::FilterRequest;
pub use origins::together;
pub use pipeline::{ensure_dataset, is_there, prepare};
pub use request::{Done, Outcome, Request, check_options};
pub use summary::{lack_of_images, lack_of_limit, next_step, summary};
