//! The keys of a config that hold paths, in one list: who starts a run puts the home folder in place of `~` there.

use std::path::{Path, PathBuf};

use super::RunConfig;
use super::validate::{Checked, violation};

/// The path that a key holds.
pub enum PathKey<'a> {
    /// A path.
    Path(&'a mut PathBuf),
    /// A folder, or the id of a repository.
    FolderOrId(&'a mut String),
}

impl PathKey<'_> {
    /// The path.
    pub fn path(&self) -> &Path {
        match self {
            Self::Path(path) => path,
            Self::FolderOrId(name) => Path::new(name.as_str()),
        }
    }

    /// Puts another path in its place.
    pub fn replace(self, text: String) {
        match self {
            Self::Path(path) => *path = PathBuf::from(text),
            Self::FolderOrId(name) => *name = text,
        }
    }
}

impl RunConfig {
    /// The paths that are set, each with its dotted key.
    pub fn paths_mut(&mut self) -> Vec<(&'static str, PathKey<'_>)> {
        let paths = [
            ("output_dir", Some(&mut self.output_dir)),
            ("data.directory", self.data.directory.as_mut()),
            ("data.source", self.data.source.as_mut()),
            ("data.cache_directory", self.data.cache_directory.as_mut()),
            ("tokenizer.directory", self.tokenizer.directory.as_mut()),
            ("training.resume_from", self.training.resume_from.as_mut()),
            ("evaluation.meteor_resources", self.evaluation.meteor_resources.as_mut()),
        ];
        let model = &mut self.model;
        let folders = [
            ("model.init_from", model.init_from.as_mut()),
            ("model.encoder.name", model.encoder.name.as_mut()),
            ("model.decoder.name", model.decoder.name.as_mut()),
        ];
        let paths = paths.into_iter().filter_map(|(key, path)| Some((key, PathKey::Path(path?))));
        let folders = folders.into_iter().filter_map(|(key, name)| Some((key, PathKey::FolderOrId(name?))));
        paths.chain(folders).collect()
    }
}

/// Finds paths whose backslashes TOML has read as line breaks and tabs, such as `"C:\new"` and `"data\bench"`: a path
/// with control characters is hardly ever meant.
pub(super) fn check_paths(config: &RunConfig) -> Checked {
    for (key, path) in config.clone().paths_mut() {
        let text = path.path().to_string_lossy();
        // A model may be an id of the Hub as well, and is looked up before anything is made of its name.
        if text.contains(char::is_control) && (!key.starts_with("model.") || has_lost_backslash(&text)) {
            return violation(
                key,
                format!("holds a line break, a tab or the like: {text:?}"),
                "a backslash in \"...\" begins an escape: write a path of Windows in single quotes, such as \
                 'C:\\data\\new', or with forward slashes",
            );
        }
    }
    Ok(())
}

/// Whether it begins as a path of Windows does.
fn has_lost_backslash(text: &str) -> bool {
    let has_drive =
        text.as_bytes().first().is_some_and(u8::is_ascii_alphabetic) && text.as_bytes().get(1) == Some(&b':');
    let follows_dots = text.trim_start_matches('.').starts_with(char::is_control) && text.starts_with('.');
    has_drive || follows_dots || text.starts_with('\\')
}

#[cfg(test)]
mod tests {
    use super::super::to_toml;
    use super::*;

    #[test]
    fn the_list_has_every_path_of_the_config() {
        let sources = [include_str!("mod.rs"), include_str!("data.rs"), include_str!("training.rs")];
        let fields = sources.iter().flat_map(|source| source.lines()).map(str::trim);
        let fields = fields.filter(|line| line.starts_with("pub ") && line.contains(": ") && line.contains("PathBuf"));
        let mut config = RunConfig::default();
        config.data.directory = Some("a".into());
        config.data.source = Some("b".into());
        config.data.cache_directory = Some("c".into());
        config.tokenizer.directory = Some("d".into());
        config.training.resume_from = Some("e".into());
        config.evaluation.meteor_resources = Some("f".into());
        let paths = config.paths_mut().into_iter().filter(|(_, path)| matches!(path, PathKey::Path(_)));
        assert_eq!(fields.count(), paths.count());
    }

    #[test]
    fn a_key_of_the_list_is_that_of_its_value() {
        let mut config = RunConfig::default();
        config.model.init_from = Some("x".to_owned());
        config.model.encoder.name = Some("x".to_owned());
        config.model.decoder.name = Some("x".to_owned());
        config.data.directory = Some("x".into());
        config.data.source = Some("x".into());
        config.data.cache_directory = Some("x".into());
        config.tokenizer.directory = Some("x".into());
        config.training.resume_from = Some("x".into());
        config.evaluation.meteor_resources = Some("x".into());
        for (key, path) in config.paths_mut() {
            path.replace(key.to_owned());
        }
        let whole = toml::Value::Table(toml::from_str(&to_toml(&config)).unwrap());
        for (key, _) in config.paths_mut() {
            let value = key.split('.').try_fold(&whole, |table, part| table.get(part));
            assert_eq!(value.and_then(toml::Value::as_str), Some(key));
        }
    }

    #[test]
    fn a_path_with_control_characters_was_misread_and_is_refused() {
        let checked = |text: &str| check_paths(&RunConfig { output_dir: text.into(), ..RunConfig::default() });
        for text in ["C:\new", "\\server\new", ".\new", "..\table", "wr\new", "data\u{8}ench", "runs\u{7f}"] {
            assert!(checked(text).is_err(), "{text:?}");
        }
        let mut named = RunConfig::default();
        for (name, is_refused) in [("C:\new", true), ("owner/\u{1b}[2J", false)] {
            named.model.encoder.name = Some(name.to_owned());
            assert_eq!(check_paths(&named).is_err(), is_refused, "{name:?}");
        }
        for text in ["C:\\new", "C:/new", "my runs", "data\\bench", ".hidden", "..", "катя/кот 🐈"] {
            assert!(checked(text).is_ok(), "{text:?}");
        }
    }
}
