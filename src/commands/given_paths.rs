//! Paths in a config or on the command line: a `~` at their start is the home folder. A run stores the full path, so
//! that it is the same for every resume of the run.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::builder::{PathBufValueParser, TypedValueParser};

use crate::config::RunConfig;
use base::error::{one_line, usage_error};
use base::home::expand;

/// Expands `~` in the paths of a config. Paths that equal those of `checkpoint`, whose run resumes, stay as they are.
///
/// # Errors
/// A usage error for `~user`, an unknown home folder, and a path that a config cannot hold.
pub(super) fn expand_config(config: &mut RunConfig, checkpoint: Option<&RunConfig>) -> Result<()> {
    expand_with(config, checkpoint, expand)
}

fn expand_with(
    config: &mut RunConfig,
    checkpoint: Option<&RunConfig>,
    expand: impl Fn(&Path) -> Result<PathBuf>,
) -> Result<()> {
    let mut checkpoint = checkpoint.cloned();
    let known = checkpoint.as_mut().map(RunConfig::paths_mut).unwrap_or_default();
    for (key, path) in config.paths_mut() {
        if known.iter().any(|(known, other)| *known == key && other.path() == path.path()) {
            continue;
        }
        let whole = expand(path.path()).and_then(in_a_config).with_context(|| format!("cannot use {key}"))?;
        path.replace(whole);
    }
    Ok(())
}

/// The path as text.
fn in_a_config(path: PathBuf) -> Result<String> {
    path.into_os_string().into_string().map_err(|path| {
        usage_error(
            format!("{} is not UTF-8, which a config needs", Path::new(&path).display()),
            "use another path, such as that of a link to it",
        )
    })
}

/// Parses the path of an option: a shell does not expand the `~` of `--option=~/x`.
pub(crate) fn path_argument() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| expand(&path).map_err(|error| one_line(&error)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::error::{describe, is_usage_error};

    /// As [`expand`] with a home folder that is known here.
    fn at_home(path: &Path) -> Result<PathBuf> {
        Ok(path.strip_prefix("~").map_or_else(|_| path.to_owned(), |rest| Path::new("/home/ann").join(rest)))
    }

    #[test]
    fn every_path_of_a_config_begins_at_the_home_folder() {
        let mut config = RunConfig { output_dir: "~/runs".into(), ..RunConfig::default() };
        config.data.directory = Some("~/set".into());
        config.tokenizer.directory = Some("tokenizer/~".into());
        config.model.encoder.name = Some("~/vit".to_owned());
        config.model.decoder.name = Some("owner/name".to_owned());
        expand_with(&mut config, None, at_home).unwrap();
        let home = Path::new("/home/ann");
        assert_eq!(config.output_dir, home.join("runs"));
        assert_eq!(config.data.directory, Some(home.join("set")));
        assert_eq!(config.tokenizer.directory.as_deref(), Some(Path::new("tokenizer/~")));
        assert_eq!(config.model.encoder.name.as_deref().map(Path::new), Some(home.join("vit").as_path()));
        assert_eq!(config.model.decoder.name.as_deref(), Some("owner/name"));
    }

    #[test]
    fn what_a_checkpoint_says_stays_and_what_replaces_it_does_not() {
        let checkpoint = RunConfig { output_dir: "~/runs".into(), ..RunConfig::default() };
        let mut config = checkpoint.clone();
        config.data.directory = Some("~/set".into());
        expand_with(&mut config, Some(&checkpoint), at_home).unwrap();
        assert_eq!(config.output_dir, Path::new("~/runs"));
        assert_eq!(config.data.directory.as_deref(), Some(Path::new("/home/ann/set")));
    }

    #[test]
    fn a_home_folder_that_is_not_looked_up_names_the_key() {
        let mut config = RunConfig::default();
        config.data.source = Some("~ann/archives".into());
        let error = expand_config(&mut config, None).unwrap_err();
        assert!(is_usage_error(&error));
        let text = describe(&error);
        assert!(text.starts_with("cannot use data.source\n  caused by: ~ann/archives names the home folder"), "{text}");
    }
}
