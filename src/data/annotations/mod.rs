//! What is known about data sets as people have them: their names, and one reader for each format.
//!
//! A reader turns annotation files into a [`RawDataset`]. It decides nothing in silence: what it mended is a
//! [`Repair`], what it left out is a [`Reject`]. Archives, folders and pixels are the business of `data::prepare`.

pub mod flickr8k;

use serde::{Deserialize, Serialize};

use crate::base::fault::{fault, usage};
use crate::data::dataset::Split;

/// A data set that a person may ask for by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KnownDataset {
    /// Flickr8k, from the two archives it is distributed as.
    Flickr8k,
    /// Flickr30k.
    Flickr30k,
    /// COCO captions.
    Coco,
    /// Any images with a `dataset_*.json` in Karpathy's schema.
    Karpathy,
    /// The synthetic data set that the program draws itself.
    Shapes,
}

impl KnownDataset {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Flickr8k, Self::Flickr30k, Self::Coco, Self::Karpathy, Self::Shapes];

    /// The name on the command line and in `data.dataset`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Flickr8k => "flickr8k",
            Self::Flickr30k => "flickr30k",
            Self::Coco => "coco",
            Self::Karpathy => "karpathy",
            Self::Shapes => "shapes",
        }
    }

    /// How to prepare it; `None` while that is not possible yet.
    pub fn call(self) -> Option<&'static str> {
        match self {
            Self::Flickr8k => Some("caption-train prepare-data --dataset flickr8k --source DIR"),
            Self::Shapes => Some("caption-train prepare-data --dataset shapes"),
            Self::Flickr30k | Self::Coco | Self::Karpathy => None,
        }
    }

    /// The data set called `name`, if it can be prepared.
    ///
    /// # Errors
    /// A name that is not known (a mistake of usage) and a data set that cannot be prepared yet; both say what can.
    pub fn ready(name: &str) -> anyhow::Result<Self> {
        let calls: Vec<String> =
            Self::ALL.iter().filter_map(|known| known.call()).map(|call| format!("`{call}`")).collect();
        let way_out = format!("these can be prepared: {}", calls.join(" and "));
        match Self::ALL.into_iter().find(|known| known.name() == name) {
            None => Err(usage(format!("data set {name:?} is not known"), way_out)),
            Some(known) if known.call().is_none() => {
                Err(fault(format!("data set {name} cannot be prepared yet"), way_out))
            }
            Some(known) => Ok(known),
        }
    }
}

/// Images and captions as a reader found them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawDataset {
    /// Name of the data set.
    pub name: String,
    /// Images in the order of the annotations.
    pub images: Vec<RawImage>,
    /// What was mended or noticed.
    pub repairs: Vec<Repair>,
    /// What was left out.
    pub rejects: Vec<Reject>,
}

/// One image of a [`RawDataset`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawImage {
    /// File name, without a folder.
    pub filename: String,
    /// Captions, trimmed; at least one, none empty.
    pub captions: Vec<String>,
    /// What the annotations say it is for, if they say it.
    pub split: Option<Split>,
}

/// Something that was mended, or a circumstance to know about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repair {
    /// The file, image or line.
    pub what: String,
    /// What was done about it.
    pub repair: String,
}

impl Repair {
    /// A repair of `what`.
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
    /// Why.
    pub reason: String,
}

impl Reject {
    /// A reject of `what`.
    pub fn new(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { what: what.into(), reason: reason.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::fault::{describe, is_usage};

    #[test]
    fn a_data_set_that_is_not_ready_names_those_that_are() {
        for name in ["flickr30k", "coco", "karpathy"] {
            let error = KnownDataset::ready(name).unwrap_err();
            let text = describe(&error);
            assert!(text.contains("cannot be prepared yet") && !is_usage(&error), "{text}");
            assert!(text.contains("--dataset flickr8k --source DIR") && text.contains("--dataset shapes"), "{text}");
        }
    }

    #[test]
    fn an_unknown_name_is_a_mistake_of_usage() {
        assert!(is_usage(&KnownDataset::ready("flickr9k").unwrap_err()));
        assert_eq!(KnownDataset::ready("shapes").unwrap(), KnownDataset::Shapes);
    }
}
