//! Files that say what is to be left out: a list of images, and scores of captions.

use std::collections::{BTreeSet, HashMap};
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::prepared::clean_caption;
use base::bounded_file::{self, MAX_CAPTIONS_BYTES};
use base::digest::{Hasher, sha256};
use base::error::{WithHint as _, failure};

/// A line with the probabilities of all tokens of a caption is far shorter.
const MAX_LINE_BYTES: u64 = 1 << 24;

/// Names or ids of images.
#[derive(Debug)]
pub(super) struct IdList {
    pub(super) names: BTreeSet<String>,
    /// SHA-256 of the file.
    pub(super) digest: String,
}

impl IdList {
    /// A text with one name or id on each line; blank lines are skipped.
    ///
    /// # Errors
    /// A file that cannot be read, is no UTF-8 text or names nothing.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        const HINT: &str = "give a text file with the name or id of an image on each line";
        let text = bounded_file::read_text(path, MAX_CAPTIONS_BYTES)
            .with_context(|| format!("cannot read {}", path.display()))
            .hint(|| HINT)?;
        let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim);
        let names: BTreeSet<String> = lines.filter(|line| !line.is_empty()).map(str::to_owned).collect();
        if names.is_empty() {
            return Err(failure(format!("{} names no image", path.display()), HINT));
        }
        Ok(Self { names, digest: sha256(text.as_bytes()) })
    }
}

/// Scores of captions.
#[derive(Debug)]
pub(super) struct ScoreList {
    /// By image and caption: the mean log-probability of the caption's tokens; the higher where a pair is there twice.
    scores: HashMap<String, HashMap<String, f64>>,
    /// SHA-256 of the file.
    pub(super) digest: String,
}

impl ScoreList {
    /// The JSON Lines that `caption-train score-pairs` writes. A line with an error gives no score.
    ///
    /// # Errors
    /// A file that cannot be read, or with a line of another form.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        #[derive(Deserialize)]
        struct Line {
            image: String,
            caption: String,
            mean_log_probability: Option<f64>,
            error: Option<IgnoredAny>,
        }
        const HINT: &str = "give what `caption-train score-pairs --data DIR --output FILE` writes";
        let cannot = || format!("cannot read {}", path.display());
        let mut reader = BufReader::new(bounded_file::open(path).with_context(cannot).hint(|| HINT)?);
        let (mut hasher, mut bytes) = (Hasher::new(), Vec::new());
        let mut scores: HashMap<String, HashMap<String, f64>> = HashMap::new();
        for number in 1.. {
            bytes.clear();
            let length = (&mut reader).take(MAX_LINE_BYTES).read_until(b'\n', &mut bytes).with_context(cannot)?;
            if length == 0 {
                break;
            }
            hasher.update(&bytes);
            let odd = |reason: String| {
                failure(format!("line {number} of {} is no score of a caption: {reason}", path.display()), HINT)
            };
            if length as u64 == MAX_LINE_BYTES && bytes.last() != Some(&b'\n') {
                return Err(odd(format!("it has more than {MAX_LINE_BYTES} bytes")));
            }
            if bytes.trim_ascii().is_empty() {
                continue;
            }
            let line: Line = serde_json::from_slice(&bytes).map_err(|error| odd(error.to_string()))?;
            match line.mean_log_probability {
                Some(score) => {
                    let of_image = scores.entry(line.image).or_default();
                    let kept = of_image.entry(clean_caption(&line.caption).0).or_insert(score);
                    *kept = kept.max(score);
                }
                None if line.error.is_some() => {}
                None => return Err(odd("it has neither mean_log_probability nor error".to_owned())),
            }
        }
        if scores.is_empty() {
            return Err(failure(format!("{} has no score", path.display()), HINT));
        }
        Ok(Self { scores, digest: hasher.finish() })
    }

    /// The scores of an image that has one of these names.
    pub(super) fn of<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Option<&HashMap<String, f64>> {
        names.into_iter().find_map(|name| self.scores.get(name))
    }

    /// An image that it names.
    pub(super) fn first_image(&self) -> &str {
        self.scores.keys().min().map_or("", String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use base::error::describe;

    fn file(text: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list");
        fs::write(&path, text).unwrap();
        (folder, path)
    }

    #[test]
    fn a_list_has_a_name_on_each_line() {
        let (_folder, path) = file("\u{feff}a.jpg\r\n\n  b 1.jpg \n17\na.jpg".as_bytes());
        let names = IdList::read(&path).unwrap().names;
        assert_eq!(names.iter().map(String::as_str).collect::<Vec<_>>(), ["17", "a.jpg", "b 1.jpg"]);
        let (_folder, path) = file(b" \n");
        assert!(describe(&IdList::read(&path).unwrap_err()).contains("names no image"));
        assert!(describe(&IdList::read(Path::new("absent")).unwrap_err()).contains("hint: give a text file"));
    }

    #[test]
    fn scores_are_those_of_pairs_and_a_line_with_an_error_gives_none() {
        let text = r#"{"image":"a.jpg","caption":"A dog.","log_probability":-9.0,"mean_log_probability":-3.0,"x":1}
{"image":"a.jpg","caption":"A cat.","error":"too long"}

{"image":"b/c.jpg","prompt":"it is","caption":"two","mean_log_probability":-1.5}
{"image":"a.jpg","caption":"A dog.","mean_log_probability":-2.0}"#;
        let (_folder, path) = file(text.as_bytes());
        let list = ScoreList::read(&path).unwrap();
        assert_eq!(list.of(["x", "a.jpg"]).unwrap().get("A dog."), Some(&-2.0));
        assert_eq!(list.of(["a.jpg"]).unwrap().get("A cat."), None);
        assert_eq!(list.of(["b/c.jpg"]).unwrap().get("two"), Some(&-1.5));
        assert!(list.of(["c.jpg"]).is_none());
        assert_eq!(list.first_image(), "a.jpg");
    }

    #[test]
    fn a_line_of_another_form_is_named() {
        for (text, expected) in [
            ("{\"image\":\"a\",\"caption\":\"b\",\"error\":\"x\"}\n{\"image\":\"a\"}", "line 2 of"),
            ("a.jpg\tA dog.", "line 1 of"),
            ("{\"image\":\"a\",\"caption\":\"b\"}", "neither mean_log_probability nor error"),
            ("\n\n", "has no score"),
        ] {
            let (_folder, path) = file(text.as_bytes());
            let text = describe(&ScoreList::read(&path).unwrap_err());
            assert!(text.contains(expected) && text.contains("hint: give what `caption-train score-pairs"), "{text}");
        }
    }
}
