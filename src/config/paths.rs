//! The keys of a config that contain paths, in one list: before a run starts, `~` in them is replaced by the home
//! folder.

use std::path::{Path, PathBuf};

use super::RunConfig;

/// The path that a key holds.
pub enum PathKey<'a> {
    Path(&'a mut PathBuf),
    /// A folder, or the id of a repository.
    FolderOrId(&'a mut String),
}

impl PathKey<'_> {
    pub fn path(&self) -> &Path {
        match self {
            Self::Path(path) => path,
            Self::FolderOrId(name) => Path::new(name.as_str()),
        }
    }

    /// Replaces the path.
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
            ("training.scst.checkpoint", self.training.scst.as_mut().map(|scst| &mut scst.checkpoint)),
            ("evaluation.meteor_resources", self.evaluation.meteor_resources.as_mut()),
        ];
        let model = &mut self.model;
        let folders = [
            ("model.init_from", model.init_from.as_mut()),
            ("model.encoder.name", model.encoder.name.as_mut()),
            ("model.decoder.name", model.decoder.name.as_mut()),
        ];
        let shards = self.data.shards.iter_mut().map(|path| ("data.shards", Some(path)));
        let paths = paths.into_iter().chain(shards).filter_map(|(key, path)| Some((key, PathKey::Path(path?))));
        let folders = folders.into_iter().filter_map(|(key, name)| Some((key, PathKey::FolderOrId(name?))));
        paths.chain(folders).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ScstConfig, to_toml};
    use super::*;

    #[test]
    fn the_list_has_every_path_of_the_config() {
        let sources =
            [include_str!("mod.rs"), include_str!("data.rs"), include_str!("training.rs"), include_str!("scst.rs")];
        let fields = sources.iter().flat_map(|source| source.lines()).map(str::trim);
        let fields = fields.filter(|line| line.starts_with("pub ") && line.contains(": ") && line.contains("PathBuf"));
        let mut config = RunConfig::default();
        config.data.directory = Some("a".into());
        config.data.source = Some("b".into());
        config.data.shards = vec!["h".into()];
        config.data.cache_directory = Some("c".into());
        config.tokenizer.directory = Some("d".into());
        config.training.resume_from = Some("e".into());
        config.training.scst = Some(ScstConfig::default());
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
        config.data.shards = vec!["x".into(), "x".into()];
        config.data.cache_directory = Some("x".into());
        config.tokenizer.directory = Some("x".into());
        config.training.resume_from = Some("x".into());
        config.training.scst = Some(ScstConfig { checkpoint: "x".into(), ..ScstConfig::default() });
        config.evaluation.meteor_resources = Some("x".into());
        for (key, path) in config.paths_mut() {
            path.replace(key.to_owned());
        }
        let whole = toml::Value::Table(toml::from_str(&to_toml(&config)).unwrap());
        for (key, _) in config.paths_mut() {
            let value = key.split('.').try_fold(&whole, |table, part| table.get(part));
            let texts =
                value.map_or(&[][..], |value| value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice));
            assert!(!texts.is_empty() && texts.iter().all(|text| text.as_str() == Some(key)), "{key}");
        }
    }
}
