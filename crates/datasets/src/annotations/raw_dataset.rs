//! The result of reading annotations: images and captions, and notes on everything that was repaired or left out.

use serde::{Deserialize, Serialize};

use crate::caption_extras::CaptionExtras;
use crate::image_id::ImageId;
use crate::prepared::Split;

/// Images and captions as a reader found them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawDataset {
    pub name: String,
    pub images: Vec<RawImage>,
    /// The names of the images are their paths below the source: a file of that name elsewhere is another one.
    pub has_paths: bool,
    /// Columns and keys that the user names and no file has.
    pub missing_columns: Vec<String>,
    /// For each split that names of files or folders speak of the first such name.
    pub split_names: Vec<(Split, String)>,
    pub repairs: Vec<Repair>,
    pub rejects: Vec<Reject>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawImage {
    /// Its file: as the annotations write it, and once the file is found, the name inside `images/`.
    pub filename: String,
    /// Captions, trimmed; at least one, none empty.
    pub captions: Vec<String>,
    /// What each caption has beside its text; none where no caption of the image has anything.
    pub extras: Vec<CaptionExtras>,
    /// What the annotations say it is for, if they say it.
    pub split: Option<Split>,
    pub split_from: SplitFrom,
    /// What the annotations call it, if they give ids.
    pub cocoid: Option<ImageId>,
}

/// Where annotations say what an image is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SplitFrom {
    /// They say it of the image, in a list or beside its name.
    #[default]
    Annotations,
    /// The name of a file or folder has a word for a split.
    Name {
        /// As [`NamedSplit::is_sure`].
        is_sure: bool,
    },
}

/// Something that was mended, or a circumstance to know about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repair {
    pub what: String,
    pub repair: String,
}

impl Repair {
    pub fn new(what: impl Into<String>, repair: impl Into<String>) -> Self {
        Self { what: what.into(), repair: repair.into() }
    }
}

/// Something that was left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reject {
    /// The image, caption or number of them.
    pub what: String,
    pub reason: String,
}

impl Reject {
    pub fn new(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { what: what.into(), reason: reason.into() }
    }
}
