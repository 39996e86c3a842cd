//! Which files of a repository are a data set, by its card and by the names of the files.
//!
//! Parquet files come first: those of the card's config, else those whose names are of one config; the caller may look
//! for them on another branch before it takes archives, captions and loose images, and adds these to Parquet files that
//! have no images.

use std::collections::{BTreeMap, BTreeSet};

use glob::{MatchOptions, Pattern};

use super::card::{Card, Config};
use crate::requests::{FileRole, Reading};
use base::error::{failure, usage_error};

/// What a config is called that has no name.
const DEFAULT: &str = "default";
/// The folder that says nothing about a config.
const DATA: &str = "data";
/// More are not listed in a message.
const MAX_LISTED: usize = 40;

/// Files that belong together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Chosen {
    /// Its name, if there are configs.
    pub(super) config: Option<String>,
    /// Paths, each once.
    pub(super) files: Vec<ChosenFile>,
    /// What the user should know of their splits.
    pub(super) notes: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ChosenFile {
    pub(super) path: String,
    /// The split that the card names.
    pub(super) split: Option<String>,
}

impl Chosen {
    /// The first Parquet file; `None` if there is none.
    pub(super) fn parquet(&self, reading: &Reading) -> Option<&str> {
        self.files.iter().map(|file| file.path.as_str()).find(|path| (reading.role_of)(path) == FileRole::Parquet)
    }

    pub(super) fn has_images_apart(&self, reading: &Reading) -> bool {
        self.files.iter().any(|file| is_of_images(&file.path, reading))
    }
}

/// Whether a file is an image or may have some, Parquet aside.
fn is_of_images(path: &str, reading: &Reading) -> bool {
    matches!((reading.role_of)(path), FileRole::Archive | FileRole::Picture)
}

/// The archives and images of a repository.
pub(super) fn images_of(paths: &[&str], reading: &Reading) -> impl Iterator<Item = ChosenFile> {
    let images = paths.iter().filter(|path| is_of_images(path, reading));
    images.map(|path| ChosenFile { path: (*path).to_owned(), split: None })
}

/// The files of the config `wanted` of the card, or of its only or default one; `None` if the card names no files.
pub(super) fn by_card(
    id: &str,
    card: &Card,
    paths: &[&str],
    wanted: Option<&str>,
    reading: &Reading,
) -> anyhow::Result<Option<Chosen>> {
    if card.configs.is_empty() {
        return Ok(None);
    }
    let names: Vec<&str> = card.configs.iter().map(|config| config.name.as_str()).collect();
    let default = card.configs.iter().find(|config| config.is_default).map(|config| config.name.as_str());
    let name = config_of(id, &names, default, wanted)?;
    let Some(config) = card.configs.iter().find(|config| config.name == name) else { return Ok(None) };
    let (mut files, notes) = of_config(id, config, paths, reading)?;
    // Captions alone, whose images the data set's own program would find.
    if files.iter().all(|file| (reading.role_of)(&file.path) == FileRole::Text) {
        files.extend(images_of(paths, reading));
    }
    Ok(Some(Chosen { config: Some(name.to_owned()), files, notes }))
}

/// The config that is meant, of several.
fn config_of<'a>(
    id: &str,
    names: &[&'a str],
    default: Option<&'a str>,
    wanted: Option<&str>,
) -> anyhow::Result<&'a str> {
    let list = || {
        let more = if names.len() > MAX_LISTED { ", ..." } else { "" };
        format!("{}{more}", names.iter().take(MAX_LISTED).copied().collect::<Vec<_>>().join(", "))
    };
    let named = |wanted: &str| names.iter().copied().find(|name| *name == wanted);
    match (wanted, names) {
        (Some(wanted), _) => named(wanted).ok_or_else(|| {
            usage_error(format!("{id} has no config {wanted} (--config-name)"), format!("its configs: {}", list()))
        }),
        (None, [only]) => Ok(only),
        (None, _) => default.or_else(|| named(DEFAULT)).ok_or_else(|| {
            usage_error(
                format!("{id} has {} configs: {}", names.len(), list()),
                "choose one with `caption-train prepare-data --config-name NAME`",
            )
        }),
    }
}

/// The files of a config, and what is to be said of their splits.
fn of_config(
    id: &str,
    config: &Config,
    paths: &[&str],
    reading: &Reading,
) -> anyhow::Result<(Vec<ChosenFile>, Vec<String>)> {
    let (mut files, mut seen): (Vec<ChosenFile>, BTreeMap<&str, usize>) = Default::default();
    let mut shared = SharedFiles::default();
    for (split, patterns) in &config.files {
        for pattern in patterns {
            let matches = matching(pattern, paths).map_err(|reason| {
                let message =
                    format!("the card of {id} names files of config {} that cannot be found: {reason}", config.name);
                failure(message, "download the files yourself and give their folder with `--source`")
            })?;
            let known: Vec<&str> =
                matches.into_iter().filter(|path| (reading.role_of)(path) != FileRole::Other).collect();
            if known.is_empty() {
                let message =
                    format!("the card of {id} names {pattern} for config {}: no file that can be read", config.name);
                return Err(failure(message, "choose another config with `--config-name`, or an earlier revision"));
            }
            for path in known {
                if let Some(&at) = seen.get(path) {
                    shared.settle(&mut files[at], split.as_deref(), reading);
                    continue;
                }
                seen.insert(path, files.len());
                files.push(ChosenFile { path: path.to_owned(), split: split.clone() });
            }
        }
    }
    let splits: BTreeSet<&str> = files.iter().filter_map(|file| file.split.as_deref()).collect();
    let notes = shared.note(id).into_iter().chain(unknown_splits(id, splits, reading)).collect();
    Ok((files, notes))
}

/// Files that several splits of a card claim.
#[derive(Default)]
struct SharedFiles {
    num: usize,
    first: Option<String>,
}

impl SharedFiles {
    /// Leaves the file to the split that is kept from training: `train: data/*` often stands beside `test: data/test-*`.
    fn settle(&mut self, file: &mut ChosenFile, other: Option<&str>, reading: &Reading) {
        let meaning = |split: Option<&str>| split.and_then(|split| (reading.split_of)(split));
        let rank = |split| match meaning(split) {
            None | Some("train") => 0,
            Some("test") => 2,
            Some(_) => 1,
        };
        let own = file.split.clone();
        let (Some(one), Some(another)) = (own.as_deref(), other) else { return };
        if rank(own.as_deref()) == rank(other) {
            return;
        }
        if rank(other) > rank(own.as_deref()) {
            file.split = other.map(str::to_owned);
        }
        let counts_as = file.split.as_deref().unwrap_or_default();
        self.num += 1;
        self.first
            .get_or_insert_with(|| format!("{} for {one} and for {another}, and it counts as {counts_as}", file.path));
    }

    fn note(self, id: &str) -> Option<String> {
        let first = self.first?;
        let more = if self.num > 1 { format!("; so it is with {} more files", self.num - 1) } else { String::new() };
        Some(format!("the card of {id} names {first}{more}"))
    }
}

/// What is to be said of splits whose names mean nothing to the program.
pub(super) fn unknown_splits<'a>(
    id: &str,
    splits: impl IntoIterator<Item = &'a str>,
    reading: &Reading,
) -> Option<String> {
    let unknown: BTreeSet<&str> = splits.into_iter().filter(|split| (reading.split_of)(split).is_none()).collect();
    if unknown.is_empty() {
        return None;
    }
    let more = if unknown.len() > MAX_LISTED { ", ..." } else { "" };
    let names = unknown.into_iter().take(MAX_LISTED).collect::<Vec<_>>().join(", ");
    Some(format!(
        "{id} has splits that are neither for training, validation nor testing by their names: {names}{more}; their \
         images are for training unless their files or rows say otherwise"
    ))
}

/// The paths that a pattern of a card means: those that match, that path itself, or those below that folder.
fn matching<'a>(pattern: &str, paths: &[&'a str]) -> Result<Vec<&'a str>, String> {
    if pattern.contains("://") {
        return Err(format!("{pattern} is not in the repository"));
    }
    let options =
        MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: false };
    let compiled = Pattern::new(pattern).map_err(|error| format!("the pattern {pattern}: {error}"))?;
    let below = format!("{}/", pattern.trim_end_matches('/'));
    let is_meant = |path: &&&str| compiled.matches_with(path, options) || path.starts_with(&below);
    Ok(paths.iter().filter(is_meant).copied().collect())
}

/// The Parquet files of the config `wanted`, or of the only one, by their names: a folder for each config, in which
/// names or further folders say the split. `None` if there are none.
pub(super) fn parquet_by_names(
    id: &str,
    paths: &[&str],
    wanted: Option<&str>,
    reading: &Reading,
) -> anyhow::Result<Option<Chosen>> {
    let parquet: Vec<&str> =
        paths.iter().copied().filter(|path| (reading.role_of)(path) == FileRole::Parquet).collect();
    if parquet.is_empty() {
        return Ok(None);
    }
    let config = |path: &str| -> String {
        let folder = path.split_once('/').map(|(folder, _)| folder);
        let names_config = |folder: &&str| *folder != DATA && (reading.split_of)(folder).is_none();
        folder.filter(names_config).unwrap_or(DEFAULT).to_owned()
    };
    let configs: BTreeSet<String> = parquet.iter().map(|path| config(path)).collect();
    let names: Vec<&str> = configs.iter().map(String::as_str).collect();
    let name = config_of(id, &names, None, wanted)?;
    let files = parquet.into_iter().filter(|path| config(path) == name);
    let files = files.map(|path| ChosenFile { path: path.to_owned(), split: None }).collect();
    let is_named = names.len() > 1 || name != DEFAULT;
    Ok(Some(Chosen { config: is_named.then(|| name.to_owned()), files, notes: Vec::new() }))
}

/// Whether a path of the converted branch is of a data set of which only the first part was converted.
pub(super) fn is_partial(path: &str) -> bool {
    path.split('/').any(|folder| folder.starts_with("partial-"))
}

/// Everything that is read from a folder.
pub(super) fn others(id: &str, paths: &[&str], wanted: Option<&str>, reading: &Reading) -> anyhow::Result<Chosen> {
    if let Some(wanted) = wanted {
        let message = format!("{id} has no config {wanted} (--config-name): neither its card nor its files name any");
        return Err(usage_error(message, "leave out --config-name"));
    }
    let read = paths.iter().filter(|path| (reading.role_of)(path) != FileRole::Other);
    let files: Vec<ChosenFile> = read.map(|path| ChosenFile { path: (*path).to_owned(), split: None }).collect();
    if files.is_empty() {
        let such = paths
            .iter()
            .find(|path| !path.starts_with('.'))
            .map_or_else(String::new, |path| format!(", such as {path}"));
        let message = format!(
            "{id} has no Parquet files, archives, captions or images that can be read; it has {} other files{such}",
            paths.len()
        );
        return Err(failure(message, "download and convert them yourself, and give their folder with `--source`"));
    }
    Ok(Chosen { config: None, files, notes: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::READING;
    use base::error::{describe, is_usage_error};

    fn config(name: &str, files: &[(&str, &str)]) -> Config {
        let split = |split: &str| Some(split.to_owned()).filter(|split| !split.is_empty());
        let files = files.iter().map(|(name, pattern)| (split(name), vec![(*pattern).to_owned()])).collect();
        Config { name: name.to_owned(), is_default: false, files }
    }

    fn card(configs: Vec<Config>) -> Card {
        Card { licence: String::new(), configs }
    }

    fn shown(chosen: &Chosen) -> Vec<String> {
        let split = |file: &ChosenFile| file.split.clone().map_or_else(String::new, |split| format!(" {split}"));
        chosen.files.iter().map(|file| format!("{}{}", file.path, split(file))).collect()
    }

    const PATHS: [&str; 6] =
        ["README.md", "data/test-00000.parquet", "data/train-00000.parquet", "en/a.parquet", "en/x/b.parquet", "i.zip"];

    fn of_card(configs: Vec<Config>, wanted: Option<&str>) -> anyhow::Result<Chosen> {
        by_card("o/n", &card(configs), &PATHS, wanted, &READING).map(Option::unwrap)
    }

    #[test]
    fn patterns_of_a_card_mean_files_and_splits() {
        for (pattern, files) in [
            ("data/train-*", vec!["data/train-00000.parquet fit"]),
            ("data/*.parquet", vec!["data/test-00000.parquet fit", "data/train-00000.parquet fit"]),
            ("en/*", vec!["en/a.parquet fit"]),
            ("en/**", vec!["en/a.parquet fit", "en/x/b.parquet fit"]),
            ("en", vec!["en/a.parquet fit", "en/x/b.parquet fit"]),
            ("**/b.parquet", vec!["en/x/b.parquet fit"]),
            ("en/[ab].parquet", vec!["en/a.parquet fit"]),
        ] {
            let chosen = of_card(vec![config("c", &[("fit", pattern)])], None).unwrap();
            assert_eq!(
                (shown(&chosen), chosen.config.as_deref()),
                (files.iter().map(|file| (*file).to_owned()).collect(), Some("c")),
                "{pattern}"
            );
        }
        for pattern in ["data/val-*", "https://example.org/x", "hf://datasets/o/other/*", "data/**x", "README.md"] {
            let text = describe(&of_card(vec![config("c", &[("fit", pattern)])], None).unwrap_err());
            assert!(text.contains("the card of o/n names") && text.contains("hint: "), "{pattern}: {text}");
        }
    }

    #[test]
    fn a_file_that_two_splits_claim_is_kept_from_training() {
        for splits in [[("train", "data/*"), ("test", "data/test-*")], [("test", "data/test-*"), ("train", "data/*")]] {
            let chosen = of_card(vec![config("c", &splits)], None).unwrap();
            let mut files = shown(&chosen);
            files.sort();
            assert_eq!(files, ["data/test-00000.parquet test", "data/train-00000.parquet train"]);
            let [note] = &chosen.notes[..] else { panic!("{:?}", chosen.notes) };
            assert!(note.contains("data/test-00000.parquet for") && note.ends_with("it counts as test"), "{note}");
        }
        // Each file is read once, whatever the splits are called.
        let chosen = of_card(vec![config("c", &[("train", "data/*"), ("train-full", "data/*")])], None).unwrap();
        assert!(chosen.files.len() == 2 && chosen.notes.is_empty(), "{chosen:?}");
    }

    #[test]
    fn splits_whose_names_mean_nothing_are_named() {
        let splits = [("train", "data/train-*"), ("preview", "en/a*"), ("de", "en/x")];
        let chosen = of_card(vec![config("c", &splits)], None).unwrap();
        let [note] = &chosen.notes[..] else { panic!("{:?}", chosen.notes) };
        assert!(note.contains("by their names: de, preview; "), "{note}");
        let chosen = of_card(vec![config("c", &[("train", "data/train-*"), ("", "en/a*")])], None).unwrap();
        assert!(chosen.notes.is_empty(), "{chosen:?}");
    }

    #[test]
    fn one_of_several_configs_is_asked_for_unless_one_is_the_default() {
        let two = || vec![config("data", &[("", "data/*")]), config("en", &[("", "en/*")])];
        let error = of_card(two(), None).unwrap_err();
        let text = describe(&error);
        assert!(
            is_usage_error(&error) && text.contains("2 configs: data, en") && text.contains("--config-name"),
            "{text}"
        );
        assert_eq!(shown(&of_card(two(), Some("en")).unwrap()), ["en/a.parquet"]);
        let text = describe(&of_card(two(), Some("de")).unwrap_err());
        assert!(text.contains("no config de") && text.contains("its configs: data, en"), "{text}");
        let mut with_default = two();
        with_default[1].is_default = true;
        assert_eq!(of_card(with_default, None).unwrap().config.as_deref(), Some("en"));
        let mut named_default = two();
        named_default[0].name = "default".to_owned();
        assert_eq!(of_card(named_default, None).unwrap().config.as_deref(), Some("default"));
    }

    #[test]
    fn captions_of_a_card_bring_the_images_of_the_repository_along() {
        let paths = ["README.md", "captions.csv", "images.zip", "x.py"];
        let card = card(vec![config("c", &[("", "*.csv")])]);
        let chosen = by_card("o/n", &card, &paths, None, &READING).unwrap().unwrap();
        assert_eq!(shown(&chosen), ["captions.csv", "images.zip"]);
    }

    #[test]
    fn without_a_card_folders_are_configs_unless_they_are_splits() {
        let of = |paths: &[&str], wanted: Option<&str>| parquet_by_names("o/n", paths, wanted, &READING);
        for (paths, wanted, config, num_files) in [
            (&["data/train-0.parquet", "data/test-0.parquet"][..], None, None, 2),
            (&["train-0.parquet", "x.csv"], None, None, 1),
            (&["train/0.parquet", "test/0.parquet"], None, None, 2),
            (&["default/train/0.parquet"], None, None, 1),
            (&["en/train/0.parquet", "en/test/0.parquet"], None, Some("en"), 2),
            (&["en/train/0.parquet", "de/train/0.parquet"], Some("de"), Some("de"), 1),
            (&["default/train/0.parquet", "de/train/0.parquet"], None, Some("default"), 1),
        ] {
            let chosen = of(paths, wanted).unwrap().unwrap();
            assert_eq!((chosen.config.as_deref(), chosen.files.len()), (config, num_files), "{paths:?}");
        }
        assert_eq!(of(&["a.csv"], None).unwrap(), None);
        let text = describe(&of(&["en/0.parquet", "de/0.parquet"], None).unwrap_err());
        assert!(text.contains("2 configs: de, en"), "{text}");
    }

    #[test]
    fn what_is_not_read_from_a_folder_is_not_taken() {
        let chosen = others("o/n", &["README.md", "a.jpg", "c.csv", "load.py", "x.7z"], None, &READING).unwrap();
        assert_eq!(shown(&chosen), ["a.jpg", "c.csv"]);
        let text = describe(&others("o/n", &[".gitattributes", "model.safetensors"], None, &READING).unwrap_err());
        assert!(text.contains("2 other files, such as model.safetensors"), "{text}");
        assert!(is_usage_error(&others("o/n", &["a.jpg"], Some("x"), &READING).unwrap_err()));
    }
}
