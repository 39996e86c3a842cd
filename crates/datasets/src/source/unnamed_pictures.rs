//! Pictures that are not called like pictures: without an ending, or with one that no format has. They are counted, so that
//! nobody looks for them in vain.

use std::fmt::{self, Display};

use crate::annotations::may_hold_captions;
use crate::source::Source;
use pixels::picture_formats::{format_of_content, is_image_name};

/// Bytes that tell whether a file is a picture.
pub const START: u64 = 64;

/// Files that are pictures by their content alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnnamedPictures {
    /// How many there are.
    pub count: usize,
    /// The path of the first one.
    pub first: String,
}

impl UnnamedPictures {
    /// Those among the files of these paths; `start` gives the first bytes of one.
    pub fn among<P: AsRef<str>>(paths: impl IntoIterator<Item = P>, start: impl Fn(&P) -> Vec<u8>) -> Option<Self> {
        /// Files that are looked into.
        const MOST: usize = 10_000;
        let unnamed = paths.into_iter().filter(|path| !is_image_name(path.as_ref())).take(MOST);
        let mut found = unnamed.filter(|path| format_of_content(&start(path)).is_some());
        let first = found.next()?.as_ref().to_owned();
        Some(Self { count: 1 + found.count(), first })
    }
}

impl Source {
    /// Files that are pictures by their content alone, but for those that hold texts by their names and those for which
    /// `is_known` holds.
    pub fn unnamed_pictures(&self, is_known: impl Fn(usize) -> bool) -> Option<UnnamedPictures> {
        struct Path<'a>(usize, &'a str);
        impl AsRef<str> for Path<'_> {
            fn as_ref(&self) -> &str {
                self.1
            }
        }
        let paths = self.files().iter().enumerate().map(|(file, of)| Path(file, &of.path));
        let open = paths.filter(|Path(file, path)| !is_known(*file) && !may_hold_captions(path));
        UnnamedPictures::among(open, |Path(file, _)| self.peek(*file, START).unwrap_or_default())
    }
}

impl Display for UnnamedPictures {
    /// `2 files are pictures by their content and not by their names, such as a/img`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let are = if self.count == 1 { "file is a picture" } else { "files are pictures" };
        let its =
            if self.count == 1 { "its content and not by its name" } else { "their content and not by their names" };
        write!(formatter, "{} {are} by {its}, such as {}", self.count, self.first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_told_by_their_content_where_their_names_say_nothing() {
        let content = |path: &&str| match *path {
            "img" | "a/1.photo" | "b.jpg" => b"\xff\xd8\xff\xe0".to_vec(),
            _ => b"words".to_vec(),
        };
        let found = UnnamedPictures::among(["b.jpg", "img", "notes", "a/1.photo"], content).unwrap();
        assert_eq!(found.to_string(), "2 files are pictures by their content and not by their names, such as img");
        assert_eq!(UnnamedPictures::among(["b.jpg", "notes"], content), None);
    }
}
