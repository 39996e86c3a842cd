//! Every file in `configs/` is a config that this program accepts.

use std::path::{Path, PathBuf};

use base::error::{describe, is_usage_error};
use caption_train::config::{RunConfig, load, parse, to_toml};

fn configs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("configs")
}

/// What the reference leaves open because no default could fit.
fn needed() -> Vec<String> {
    vec!["data.dataset=shapes".to_owned(), "model.encoder.name=a/b".to_owned()]
}

#[test]
fn every_file_in_configs_is_accepted() {
    let mut count = 0;
    for entry in std::fs::read_dir(configs()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "toml") {
            continue;
        }
        let overrides = if path.ends_with("reference.toml") { needed() } else { Vec::new() };
        let config = load(&path, &overrides).unwrap_or_else(|error| panic!("{}: {}", path.display(), describe(&error)));
        assert_eq!(parse(&to_toml(&config), "its own text", &[]).unwrap(), config);
        count += 1;
    }
    assert!(count > 0, "configs/ is empty");
}

#[test]
fn the_reference_gives_the_defaults() {
    let config = load(&configs().join("reference.toml"), &needed()).unwrap();
    let mut expected = RunConfig::default();
    expected.data.dataset = Some("shapes".to_owned());
    expected.model.encoder.name = Some("a/b".to_owned());
    assert_eq!(config, expected);
}

#[test]
fn an_empty_config_says_what_is_missing_first() {
    let error = parse("", "run.toml", &[]).unwrap_err();
    assert!(is_usage_error(&error));
    insta::assert_snapshot!(describe(&error), @r#"
    data.dataset and data.directory are both missing: the run has no data in run.toml
      hint: write dataset = "flickr8k", or directory = "FOLDER" of a prepared data set, under [data]
    "#);
}
