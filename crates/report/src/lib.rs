//! One self-contained HTML page of a run: how it went, what the model learned, what it writes and where it looks.
//!
//! Plain data in, text out: no file is read or written here, no model is run. The page needs no network and no server, it
//! opens from a disk. Its own script and style are named by their hashes in its Content-Security-Policy, so that nothing
//! that a caption or a config says can run.

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

/// In the head of each page: by it a report is told from a file of somebody's.
pub const GENERATOR: &str = "<meta name=\"generator\" content=\"caption-train\">";

/// The page, as HTML.
///
/// Parts for which there are no data say what is missing. Values that are not finite, lists of unequal length and texts
/// of any content are no errors.
///
/// # Errors
/// A template that cannot be filled: a fault of this module.
pub fn render(data: &ReportData) -> anyhow::Result<String> {
    page::render(data)
}
