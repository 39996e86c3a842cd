//! Expands `~` at the start of a path to the home folder. A shell does so for a word that begins with `~`, but not in a
//! config file and not after the `=` of `--option=~/x`.

use std::ffi::OsStr;
use std::fs;
use std::path::{Component, Path, PathBuf};

use super::error::usage_error;
use super::visible;

/// The variable that names the home folder.
const VARIABLE: &str = if cfg!(windows) { "USERPROFILE" } else { "HOME" };

/// The path with `~` expanded; any other path unchanged.
///
/// # Errors
/// A usage error for `~user`, for `~` if the environment names no home folder, and for a path through a folder that
/// does not exist.
pub fn expand(path: &Path) -> anyhow::Result<PathBuf> {
    let whole = expand_with(path, std::env::var_os(VARIABLE).as_deref())?;
    refuse_detour(&whole)?;
    Ok(whole)
}

/// Refuses `absent/../folder`: it leads nowhere until `absent` is created, and then to a folder that was never checked.
fn refuse_detour(path: &Path) -> anyhow::Result<()> {
    let mut before = PathBuf::new();
    for part in path.components() {
        if part == Component::ParentDir && !before.as_os_str().is_empty() && fs::symlink_metadata(&before).is_err() {
            return Err(usage_error(
                format!("{} leads through {}, which does not exist", shown(path), shown(&before)),
                "write the path without the detour",
            ));
        }
        before.push(part);
    }
    Ok(())
}

fn shown(path: &Path) -> String {
    visible::line(&path.to_string_lossy()).into_owned()
}

fn expand_with(path: &Path, home: Option<&OsStr>) -> anyhow::Result<PathBuf> {
    let Some(rest) = path.as_os_str().as_encoded_bytes().strip_prefix(b"~") else { return Ok(path.to_owned()) };
    let written = || shown(path);
    if rest.first().is_some_and(|&byte| !std::path::is_separator(char::from(byte))) {
        return Err(usage_error(
            format!("{} names the home folder of another user, which is not supported", written()),
            format!("write the full path; if the file name itself begins with ~, write ./{}", written()),
        ));
    }
    let Some(home) = home.filter(|home| !home.is_empty()) else {
        return Err(usage_error(
            format!("cannot expand {}: {VARIABLE} is not set", written()),
            format!("write the full path, or set {VARIABLE}"),
        ));
    };
    // Joined part by part: a rest such as //x would replace the home folder.
    Ok(path.components().skip(1).fold(PathBuf::from(home), |whole, part| whole.join(part)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{describe, is_usage_error};

    fn expanded(path: &str) -> PathBuf {
        expand_with(Path::new(path), Some(OsStr::new("/home/ann"))).unwrap()
    }

    fn refusal(path: &str, home: Option<&str>) -> String {
        let error = expand_with(Path::new(path), home.map(OsStr::new)).unwrap_err();
        assert!(is_usage_error(&error));
        describe(&error)
    }

    #[test]
    fn a_way_through_a_folder_that_is_not_there_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("there")).unwrap();
        for (path, is_refused) in
            [("absent/../there", true), ("there/x/../../there", true), ("there/../there", false), ("absent", false)]
        {
            let found = refuse_detour(&folder.path().join(path));
            assert_eq!(found.is_err_and(|error| is_usage_error(&error)), is_refused, "{path}");
        }
        assert!(refuse_detour(Path::new("../x")).is_ok() && refuse_detour(Path::new("./../x")).is_ok());
    }

    #[test]
    fn a_tilde_at_the_beginning_is_the_home_folder() {
        for (path, expected) in [
            ("~", "/home/ann"),
            ("~/", "/home/ann"),
            ("~/runs", "/home/ann/runs"),
            ("~//runs/a b", "/home/ann/runs/a b"),
            ("~/../bob", "/home/ann/../bob"),
            ("~/~", "/home/ann/~"),
        ] {
            assert_eq!(expanded(path), Path::new(expected), "{path}");
        }
    }

    #[test]
    fn any_other_path_stays() {
        for path in ["", "runs", "./~", "./~/runs", "a~", "a/~/b", "/~", " ~"] {
            assert_eq!(expanded(path), Path::new(path));
            assert_eq!(expand_with(Path::new(path), None).unwrap(), Path::new(path), "needs no home folder");
        }
    }

    #[test]
    fn the_home_of_another_user_and_a_home_that_nobody_names_are_refused() {
        insta::assert_snapshot!(refusal("~bob/runs", Some("/home/ann")), @r"
        ~bob/runs names the home folder of another user, which is not supported
          hint: write the full path; if the file name itself begins with ~, write ./~bob/runs
        ");
        for home in [None, Some("")] {
            assert!(refusal("~/runs", home).starts_with("cannot expand ~/runs: "));
        }
        assert!(refusal("~\u{1b}[31m", None).starts_with("~\\u{1b}[31m names"));
    }
}
