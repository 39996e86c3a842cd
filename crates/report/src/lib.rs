//! A self-contained HTML report of a run: its course, scores, captions and attention; and one of several runs beside
//! each other. And the page of a data set, to look at before training.
//!
//! Plain data in, text out: no file is read or written here, and no model is run. The page needs neither a network nor
//! a server. Its Content-Security-Policy allows only its own script and style, by their hashes, so that nothing in a
//! caption or a config can run.

mod addresses;
mod axis;
mod charts;
mod comparison;
mod curves;
mod data;
mod downsample;
mod embedding;
mod epochs;
mod filling;
mod gallery;
mod histogram;
mod look;
mod page;
mod scores;
mod summary;
#[cfg(test)]
mod testing;
mod text;

pub use comparison::{COMPARISON_GENERATOR, render_comparison};
pub use data::{
    CaptionedImage, CaptionedSplit, ComparedCaptions, ComparedPicture, ComparisonData, FileLink, GalleryImage,
    ReportData, ScoreRow, SplitScores, Status, Word,
};
pub use look::{
    LOOK_GENERATOR, LookCaption, LookData, LookImage, LookPair, LookPairs, OddCaptions, OddListed, RepeatedCaption,
    SplitCounts, WordCount, render_look,
};
pub use page::{GENERATOR, render};
