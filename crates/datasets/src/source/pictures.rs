//! Pictures that are skipped, counted so that the user does not look for them in vain: those of formats that are not
//! read, and those whose names are not those of pictures.

use std::collections::BTreeMap;
use std::fmt::{self, Display};

use pixels::picture_formats::{format_of_content, how_to_convert_file, is_image_name, unread_format_of_name};

/// Pictures of one format that is not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadPictures {
    pub format: &'static str,
    pub count: usize,
    pub first: String,
}

impl UnreadPictures {
    /// Those among the files of these paths, format by format.
    pub fn among<'a>(paths: impl IntoIterator<Item = &'a str>) -> Vec<Self> {
        let mut found: BTreeMap<&'static str, Self> = BTreeMap::new();
        for path in paths {
            if let Some(format) = unread_format_of_name(path) {
                let new = || Self { format, count: 0, first: path.to_owned() };
                found.entry(format).or_insert_with(new).count += 1;
            }
        }
        found.into_values().collect()
    }

    /// Why they are left out, and what to do about it.
    pub fn reason(&self) -> String {
        format!(
            "the format {} is not supported, such as {}; {}",
            self.format,
            self.first,
            how_to_convert_file(&self.first, self.format)
        )
    }
}

impl Display for UnreadPictures {
    /// `3 HEIC pictures, such as a/b.heic`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.count == 1 { "" } else { "s" };
        write!(formatter, "{} {} picture{plural}, such as {}", self.count, self.format, self.first)
    }
}

/// Bytes needed to recognize a picture.
pub const START: u64 = 64;

/// Files that are pictures by their content only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnnamedPictures {
    pub count: usize,
    pub first: String,
}

impl UnnamedPictures {
    /// Those among the files of these paths; `start` returns the first bytes of one.
    pub fn among<P: AsRef<str>>(paths: impl IntoIterator<Item = P>, start: impl Fn(&P) -> Vec<u8>) -> Option<Self> {
        /// Files that are looked into.
        const MAX_LOOKED_INTO: usize = 10_000;
        let unnamed = paths.into_iter().filter(|path| !is_image_name(path.as_ref())).take(MAX_LOOKED_INTO);
        let mut found = unnamed.filter(|path| format_of_content(&start(path)).is_some());
        let first = found.next()?.as_ref().to_owned();
        Some(Self { count: 1 + found.count(), first })
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
    fn formats_are_counted_apart_with_their_first_file() {
        let found = UnreadPictures::among(["b/2.heic", "a.jpg", "1.HEIF", "c.psd", "notes.txt"]);
        let texts: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["2 HEIC pictures, such as b/2.heic", "1 Photoshop picture, such as c.psd"]);
        assert!(found[0].reason().contains("`magick a.heic a.png`"), "{}", found[0].reason());
    }

    #[test]
    fn pictures_are_known_by_their_content_where_their_names_say_nothing() {
        let content = |path: &&str| match *path {
            "img" | "a/1.photo" | "b.jpg" => b"\xff\xd8\xff\xe0".to_vec(),
            _ => b"words".to_vec(),
        };
        let found = UnnamedPictures::among(["b.jpg", "img", "notes", "a/1.photo"], content).unwrap();
        assert_eq!(found.to_string(), "2 files are pictures by their content and not by their names, such as img");
        assert_eq!(UnnamedPictures::among(["b.jpg", "notes"], content), None);
    }
}
