//! The config file of a run, with what `--set` changes.

use base::error::{describe, is_usage_error};
use caption_train::config::{apply_safe_overrides, first_unsafe_difference, parse, to_toml};

/// Text: lines that start with `--set ` are overrides, the others are the file.
pub fn config(data: &[u8]) {
    // A file that is not UTF-8 is refused where it is read.
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (overrides, file): (Vec<&str>, Vec<&str>) = text.split('\n').partition(|line| line.starts_with("--set "));
    let overrides: Vec<String> = overrides.iter().map(|line| line["--set ".len()..].to_owned()).collect();
    let file = file.join("\n");
    check(&file, &[]);
    if !overrides.is_empty() {
        check(&file, &overrides);
    }
}

fn check(text: &str, overrides: &[String]) {
    let config = match parse(text, "run.toml", overrides) {
        Ok(config) => config,
        Err(error) => {
            assert!(is_usage_error(&error), "a mistake in a config is a mistake of usage: {error:?}");
            assert!(describe(&error).contains("\n  hint: "), "every mistake has a way out: {error:?}");
            return;
        }
    };
    let written = to_toml(&config);
    let read = parse(&written, "config.resolved.toml", &[]).expect("a config that was written can be read");
    assert!(read == config, "a config survives its own text:\n{written}");
    assert_eq!(to_toml(&read), written);
    assert_eq!(first_unsafe_difference(&read, &config), None);
    assert!(apply_safe_overrides(&config, &[]).expect("a config can be resumed with") == config);
}
