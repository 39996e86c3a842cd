//! How a source may differ from what a data set was prepared from.

use std::fmt;

use crate::annotations::may_hold_captions;
use crate::source::{is_archive_name, is_packed_name, is_parquet_name};
use pixels::picture_formats::is_image_name;

/// How a source relates to a data set that was prepared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// The data set was prepared from it.
    Same,
    /// It has changed since: how.
    Changed(String),
    /// The data set was prepared from another one: from which, and how they differ.
    Other(String),
}

/// Files of one kind of difference.
#[derive(Debug, Default)]
struct Files {
    count: usize,
    first: String,
    /// All of them are texts, which may be captions or not.
    are_texts: bool,
}

impl Files {
    /// `is_text`: reading the captions again shows whether the file matters.
    fn add(&mut self, path: &str, is_text: bool) {
        if self.count == 0 {
            (self.first, self.are_texts) = (path.to_owned(), true);
        }
        self.count += 1;
        self.are_texts &= is_text;
    }
}

#[derive(Debug, Default)]
pub(super) struct Differences {
    changed: Files,
    added: Files,
    removed: Files,
    /// Files of which nothing is in the data set.
    changed_beside: Files,
    removed_beside: Files,
}

impl Differences {
    /// A file with another content.
    pub(super) fn changed(&mut self, path: &str) {
        self.changed.add(path, false);
    }

    /// A file with another content, of which nothing is in the data set.
    pub(super) fn changed_beside(&mut self, path: &str) {
        self.changed_beside.add(path, is_text(path));
    }

    /// A file that was not there.
    pub(super) fn added(&mut self, path: &str) {
        self.added.add(path, is_text(path));
    }

    /// A file that is no longer there.
    pub(super) fn removed(&mut self, path: &str) {
        self.removed.add(path, false);
    }

    /// A file that is no longer there, of which nothing is in the data set.
    pub(super) fn removed_beside(&mut self, path: &str) {
        self.removed_beside.add(path, is_text(path));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all().iter().all(|(files, _)| files.count == 0)
    }

    pub(super) fn are_texts_alone(&self) -> bool {
        !self.is_empty() && self.all().iter().all(|(files, _)| files.count == 0 || files.are_texts)
    }

    fn all(&self) -> [(&Files, &'static str); 5] {
        [
            (&self.changed, "changed"),
            (&self.added, "added"),
            (&self.removed, "removed"),
            (&self.changed_beside, "changed"),
            (&self.removed_beside, "removed"),
        ]
    }
}

impl fmt::Display for Differences {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |(files, what): (&Files, &str)| match files.count {
            0 => None,
            1 => Some(format!("1 file was {what} ({})", files.first)),
            count => Some(format!("{count} files were {what} (such as {})", files.first)),
        };
        // What is in the data set says enough.
        let num_kinds = if self.changed.count + self.removed.count > 0 { 3 } else { 5 };
        let parts: Vec<String> = self.all().into_iter().take(num_kinds).filter_map(part).collect();
        formatter.write_str(&parts.join(", "))
    }
}

/// Whether a file has nothing but texts, which may be captions.
fn is_text(path: &str) -> bool {
    !is_image_name(path) && !is_archive_name(path) && !is_parquet_name(path)
}

/// Whether a new file may change what is prepared from a source.
pub(super) fn may_matter(path: &str) -> bool {
    is_image_name(path) || is_archive_name(path) || is_packed_name(path) || may_hold_captions(path)
}
