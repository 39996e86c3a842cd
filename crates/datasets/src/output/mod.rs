//! What a preparation writes: the files beside the images, and whose the folder is.
//!
//! Imports go down: `caption_statistics`, `filter_options`, `source_record`, `write` < `preparation` < `ownership` < `finish`.

pub mod caption_statistics;
mod filter_options;
mod finish;
pub mod ownership;
mod preparation;
mod source_record;
mod write;

pub use filter_options::{FilterCount, FilterOptions, Sameness};
pub use finish::finish;
pub use preparation::{
    About, Counts, FileDigest, Options, Origin, Preparation, finished, read as read_preparation, summarize,
};
pub(crate) use preparation::{FORMAT_VERSION, LOOSE_CAPTIONS, LOOSE_IMAGES, read};
pub(crate) use source_record::{FileRecord, SourceRecord, Use, place_of};
pub(crate) use write::{explain_write, wait};
