//! A self-contained HTML report of a run: its course, scores, captions and attention.
//!
//! Plain data in, text out: no file is read or written here, and no model is run. The page needs neither a network nor
//! a server. Its Content-Security-Policy allows only its own script and style, by their hashes, so that nothing in a
//! caption or a config can run.

mod axis;
mod charts;
mod curves;
mod data;
mod downsample;
mod embedding;
mod epochs;
mod gallery;
mod histogram;
mod page;
mod scores;
mod summary;
mod text;

pub use data::{
    CaptionedImage, CaptionedSplit, FileLink, GalleryImage, ReportData, ScoreRow, SplitScores, Status, Word,
};

/// In the head of each page: distinguishes a report from other files.
pub const GENERATOR: &str = "<meta name=\"generator\" content=\"caption-train\">";

/// The page, as HTML.
///
/// Sections without data say what is missing. Values that are not finite, lists of unequal length and arbitrary texts
/// are not errors.
///
/// # Errors
/// A template that cannot be filled: a bug of this crate.
pub fn render(data: &ReportData) -> anyhow::Result<String> {
    page::render(data)
}
