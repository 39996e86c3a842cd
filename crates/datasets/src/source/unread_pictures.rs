//! Pictures of formats that are not read: they are counted, so that nobody looks for them in vain.

use std::collections::BTreeMap;
use std::fmt::{self, Display};

use pixels::picture_formats::{how_to_convert_file, unread_format_of_name};

/// Pictures of one format that is not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadPictures {
    /// The format.
    pub format: &'static str,
    /// How many there are.
    pub count: usize,
    /// The path of the first one.
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

    /// Why they are left out, with a way out.
    pub fn reason(&self) -> String {
        format!(
            "the format {} is not read, such as {}; {}",
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
}
