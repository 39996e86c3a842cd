//! What the card of a dataset says of its files: the front matter of `README.md`, in YAML.

use serde::Deserialize;
use serde_json::Value;

use base::visible;

/// Bytes of a card: those of large data sets list the features of hundreds of configs.
pub(super) const MAX_CARD_BYTES: u64 = 16 << 20;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Card {
    /// As the Hub abbreviates them, such as `cc-by-4.0`; empty if none is named.
    pub(super) licence: String,
    /// Those that say which files are theirs.
    pub(super) configs: Vec<Config>,
}

/// Files that are loaded together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Config {
    pub(super) name: String,
    pub(super) is_default: bool,
    /// Splits, if they are named, and the patterns of their files.
    pub(super) files: Vec<(Option<String>, Vec<String>)>,
}

#[derive(Deserialize)]
struct Front {
    license: Option<Value>,
    license_name: Option<Value>,
    configs: Option<Vec<Entry>>,
}

#[derive(Deserialize)]
struct Entry {
    config_name: Option<String>,
    default: Option<bool>,
    data_files: Option<Value>,
    data_dir: Option<String>,
}

impl Card {
    /// The card with this text.
    ///
    /// # Errors
    /// YAML that cannot be read or has another form: why.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let Some(front) = front_matter(text) else { return Ok(Self::default()) };
        let front: Front = serde_saphyr::from_str(front).map_err(|error| error.to_string())?;
        let mut configs = Vec::new();
        for entry in front.configs.unwrap_or_default() {
            let name = entry.config_name.unwrap_or_else(|| "default".to_owned());
            let folder = entry.data_dir.as_deref().map(|folder| folder.trim_matches('/').trim_start_matches("./"));
            let files = match &entry.data_files {
                Some(files) => {
                    patterns(files).ok_or_else(|| format!("the data_files of {name} have an unknown form"))?
                }
                None if folder.is_some() => vec![(None, vec!["**".to_owned()])],
                None => continue,
            };
            let below = |pattern: String| {
                let pattern = pattern.trim_start_matches("./").trim_start_matches('/');
                folder.map_or_else(|| pattern.to_owned(), |folder| format!("{folder}/{pattern}"))
            };
            let files =
                files.into_iter().map(|(split, patterns)| (split, patterns.into_iter().map(below).collect())).collect();
            configs.push(Config { name, is_default: entry.default.unwrap_or(false), files });
        }
        let licence = words(front.license.as_ref());
        let licence = if licence == "other" { words(front.license_name.as_ref()) } else { licence };
        Ok(Self { licence, configs })
    }
}

/// What stands between two lines of three dashes, of which the first is the first of the text.
fn front_matter(text: &str) -> Option<&str> {
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let rest = text.strip_prefix("---")?;
    let rest = rest.strip_prefix('\r').unwrap_or(rest).strip_prefix('\n')?;
    let mut at = 0;
    for line in rest.split_inclusive('\n') {
        if line.trim_end() == "---" {
            return Some(&rest[..at]);
        }
        at += line.len();
    }
    None
}

/// `data_files` in each of its forms: a pattern, a list of patterns, a list of splits with patterns, a mapping from split
/// to patterns.
fn patterns(files: &Value) -> Option<Vec<(Option<String>, Vec<String>)>> {
    match files {
        Value::Object(splits) => {
            splits.iter().map(|(split, files)| Some((Some(split.clone()), texts(files)?))).collect()
        }
        Value::Array(entries) if entries.iter().any(Value::is_object) => {
            let of = |entry: &Value| {
                let split = entry.get("split").map(|split| split.as_str().map(str::to_owned));
                Some((split.flatten(), texts(entry.get("path")?)?))
            };
            entries.iter().map(of).collect()
        }
        files => Some(vec![(None, texts(files)?)]),
    }
}

fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(text) => Some(vec![text.clone()]),
        Value::Array(texts) => texts.iter().map(|text| text.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

/// A text, or a list of texts, as one line.
fn words(value: Option<&Value>) -> String {
    let words = value.and_then(texts).unwrap_or_default().join(", ");
    visible::cut(&visible::line(&words), 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(front: &str) -> Card {
        Card::parse(&format!("---\n{front}---\n# A data set\n")).unwrap()
    }

    fn files(front: &str) -> Vec<(Option<String>, Vec<String>)> {
        card(front).configs.remove(0).files
    }

    fn expected(files: &[(&str, &[&str])]) -> Vec<(Option<String>, Vec<String>)> {
        let split = |split: &str| Some(split.to_owned()).filter(|split| !split.is_empty());
        files.iter().map(|(name, all)| (split(name), all.iter().map(|one| (*one).to_owned()).collect())).collect()
    }

    #[test]
    fn files_are_named_in_each_of_the_forms_that_cards_have() {
        for (front, files_of_it) in [
            ("configs:\n- data_files: a.csv\n", expected(&[("", &["a.csv"])])),
            ("configs:\n- data_files: [a.csv, ./b/*.csv]\n", expected(&[("", &["a.csv", "b/*.csv"])])),
            (
                "configs:\n- config_name: x\n  data_files:\n  - split: train\n    path: data/train-*\n  - split: test\n    \
                 path:\n    - t1\n    - t2\n",
                expected(&[("train", &["data/train-*"]), ("test", &["t1", "t2"])]),
            ),
            ("configs:\n- data_files:\n    train: a.csv\n", expected(&[("train", &["a.csv"])])),
            ("configs:\n- data_dir: ./x/\n", expected(&[("", &["x/**"])])),
            ("configs:\n- data_dir: x\n  data_files: '*.csv'\n", expected(&[("", &["x/*.csv"])])),
        ] {
            assert_eq!(files(front), files_of_it, "{front}");
        }
        let two = card("configs:\n- config_name: a\n  data_dir: a\n  default: true\n- config_name: b\n  data_dir: b\n");
        assert_eq!(
            two.configs.iter().map(|of| (&*of.name, of.is_default)).collect::<Vec<_>>(),
            [("a", true), ("b", false)]
        );
        assert!(card("configs:\n- config_name: a\n").configs.is_empty());
    }

    #[test]
    fn the_licence_is_a_word_or_several() {
        assert_eq!(card("license: cc-by-4.0\n").licence, "cc-by-4.0");
        assert_eq!(card("license:\n- mit\n- other\ntags: [x]\n").licence, "mit, other");
        assert_eq!(card("license: other\nlicense_name: own-terms\n").licence, "own-terms");
        assert_eq!(card("tags: [x]\n").licence, "");
    }

    #[test]
    fn a_card_without_front_matter_says_nothing_and_one_that_is_damaged_says_why() {
        for text in ["", "# A data set\n", "---\nlicense: mit\n", "--- license\n---\n"] {
            assert_eq!(Card::parse(text), Ok(Card::default()), "{text}");
        }
        for front in
            ["configs: [", "configs: x", "configs:\n- data_files: 3\n", "a: &a [*a]\nlicense: *b\n", "license: {\n"]
        {
            assert!(Card::parse(&format!("---\n{front}\n---\n")).is_err(), "{front}");
        }
    }

    #[test]
    fn a_card_that_multiplies_itself_is_an_error() {
        let mut front = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for level in 1..12 {
            let before = format!("*a{}", level - 1);
            front.push_str(&format!("a{level}: &a{level} [{}]\n", vec![before; 10].join(",")));
        }
        assert!(Card::parse(&format!("---\n{front}license: *a11\n---\n")).is_err());
    }
}
