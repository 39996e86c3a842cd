//! What of a data set was to be left out, and how much that was, as a preparation records it.

use serde::{Deserialize, Serialize};

/// Filters of a preparation; by default there are none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FilterOptions {
    /// SHA-256 of the list of images to leave out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drop_ids_sha256: Option<String>,
    /// SHA-256 of the file of scores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scores_sha256: Option<String>,
    /// Least mean log-probability of a caption.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_score: Option<f64>,
    /// Full names of Unicode scripts, sorted. Most letters of a caption are of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scripts: Vec<String>,
    /// Fewest words of a caption.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_words: Option<usize>,
    /// Most words of a caption.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_words: Option<usize>,
    /// Least short side of an image, in pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_side: Option<u32>,
    /// Greatest long side of an image, in short sides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_aspect: Option<f64>,
    /// Which pictures are there once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drop_duplicates: Option<Sameness>,
}

/// When two pictures count as the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sameness {
    /// Their files are equal.
    Exact,
    /// Their files are equal, or at most 4 of the 64 bits of their difference hashes differ.
    Near,
}

/// What a filter left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilterCount {
    /// Its option, such as `--min-words 3`.
    pub filter: String,
    /// Images that it left out, those included whose last caption it took.
    pub images: usize,
    /// Captions, those of the images included.
    pub captions: usize,
}

impl FilterCount {
    /// `1 image and 2 captions`.
    pub(crate) fn amount(&self) -> String {
        let counted = |count: usize, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
        format!("{} and {}", counted(self.images, "image"), counted(self.captions, "caption"))
    }
}

impl FilterOptions {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
