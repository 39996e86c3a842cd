//! What the user wants to be left out of a data set: images by name, size or duplicate, captions by score, script or
//! length. An image whose last caption is left out is left out too.
//!
//! Filters work in a fixed order, and what one leaves out the next does not see: first those that need no pixels
//! (`--drop-ids`, `--min-score`, `--script`, `--min-words`, `--max-words`), then, of the images that `--limit` keeps,
//! `--min-side`, `--max-aspect` and `--drop-duplicates`. Splits are drawn last.
//!
//! Imports go down: `lists`, `scripts`, `duplicates`, `tally` < `request`.

mod duplicates;
mod lists;
mod request;
mod scripts;
mod tally;
#[cfg(test)]
mod tests;

pub use request::FilterRequest;
pub(super) use request::{Filters, Names};
pub(super) use tally::{Filter, Tally};
