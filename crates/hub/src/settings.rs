//! The addresses of the Hub and of its cache, from the environment, and how an address may be shown.

use std::path::PathBuf;

use hf_hub::Cache;
use reqwest::Url;

use base::credentials;
use base::error::usage_error;

const PUBLIC_HUB: &str = "https://huggingface.co";

pub(super) struct Settings {
    /// Absent: `HF_ENDPOINT`, else huggingface.co.
    pub(super) endpoint: Option<String>,
    /// Absent: `HF_HUB_CACHE`, else `HUGGINGFACE_HUB_CACHE`, else the folder `hub` in [`home`].
    pub(super) cache: Option<PathBuf>,
    /// Whether to use only the cache.
    pub(super) offline: bool,
}

impl Settings {
    /// As in the Hub's own tools.
    pub(super) fn from_environment() -> Self {
        let offline = std::env::var("HF_HUB_OFFLINE").is_ok_and(|value| is_true(&value));
        Self { endpoint: None, cache: None, offline }
    }

    /// The address of the Hub.
    pub(super) fn endpoint(&self) -> anyhow::Result<Url> {
        let written = self.endpoint.clone().or_else(|| variable("HF_ENDPOINT"));
        let url = Url::parse(written.as_deref().unwrap_or(PUBLIC_HUB).trim()).ok();
        let url = url.filter(|url| ["http", "https"].contains(&url.scheme()) && url.has_host());
        if let Some(password) = url.as_ref().and_then(Url::password) {
            credentials::keep(password);
        }
        // The value is not shown: it may contain a password.
        url.ok_or_else(|| {
            usage_error("HF_ENDPOINT is not the address of a server", format!("use one like {PUBLIC_HUB}"))
        })
    }

    pub(super) fn cache(&self) -> PathBuf {
        let named = || variable("HF_HUB_CACHE").or_else(|| variable("HUGGINGFACE_HUB_CACHE")).map(PathBuf::from);
        self.cache.clone().or_else(named).unwrap_or_else(|| home(&variable).join("hub"))
    }
}

/// An address without its secrets: that of a mirror may contain `user:password@`, or a key in its query.
pub(super) fn shown(address: &Url) -> String {
    let mut address = address.clone();
    // Only an address without a host refuses these.
    let _ = address.set_username("");
    let _ = address.set_password(None);
    address.set_query(None);
    address.set_fragment(None);
    address.as_str().trim_end_matches('/').to_owned()
}

/// The folder of the Hub's tools: `HF_HOME`, else `huggingface` in `XDG_CACHE_HOME` or `~/.cache`.
fn home(variable: &dyn Fn(&str) -> Option<String>) -> PathBuf {
    if let Some(home) = variable("HF_HOME") {
        return PathBuf::from(home);
    }
    let caches = variable("XDG_CACHE_HOME").map(PathBuf::from);
    // Without a home folder, the one of temporary files.
    let caches =
        caches.unwrap_or_else(|| std::env::home_dir().map_or_else(std::env::temp_dir, |home| home.join(".cache")));
    caches.join("huggingface")
}

/// A variable that is set and not blank.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.trim().is_empty())
}

/// The token: `HF_TOKEN`, else the file that `HF_TOKEN_PATH` names, else the one that the Hub's command line wrote;
/// none if `HF_HUB_DISABLE_IMPLICIT_TOKEN` is set.
#[expect(clippy::disallowed_methods, reason = "the user's own token, which may come through a pipe")]
pub(super) fn token() -> Option<String> {
    if variable("HF_HUB_DISABLE_IMPLICIT_TOKEN").is_some() {
        return None;
    }
    let files =
        [variable("HF_TOKEN_PATH").map(PathBuf::from), Some(Cache::new(home(&variable).join("hub")).token_path())];
    let mut written = files.into_iter().flatten().filter_map(|path| std::fs::read_to_string(path).ok());
    let token = variable("HF_TOKEN").or_else(|| written.find(|token| !token.trim().is_empty()))?;
    credentials::keep(token.trim());
    Some(token.trim().to_owned())
}

/// The spellings of true in `huggingface_hub`.
fn is_true(value: &str) -> bool {
    ["1", "on", "yes", "true"].contains(&value.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use base::error::describe;

    fn settings(endpoint: &str) -> Settings {
        Settings { endpoint: Some(endpoint.to_owned()), cache: None, offline: false }
    }

    #[test]
    fn the_folder_is_the_one_of_the_hub_s_own_tools() {
        let home_with = |set: &[(&str, &str)]| {
            home(&|name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
        };
        assert_eq!(home_with(&[("HF_HOME", "/data/hf"), ("XDG_CACHE_HOME", "/x")]), Path::new("/data/hf"));
        assert_eq!(home_with(&[("XDG_CACHE_HOME", "/x")]), Path::new("/x/huggingface"));
        assert!(home_with(&[]).ends_with(".cache/huggingface") || std::env::home_dir().is_none());
    }

    #[test]
    fn no_key_or_password_in_an_address_is_shown() {
        for (address, expected) in [
            ("https://me:SECRET@mirror.example/hub", "https://mirror.example/hub"),
            ("https://SECRET@mirror.example:8080/", "https://mirror.example:8080"),
            ("https://:SECRET@mirror.example", "https://mirror.example"),
            ("https://me:a@SECRET@mirror.example//", "https://mirror.example"),
            ("https:/me:SECRET@mirror.example", "https://mirror.example"),
            ("https://mirror.example/a?token=SECRET", "https://mirror.example/a"),
            ("https://mirror.example/a#SECRET", "https://mirror.example/a"),
            (" https://huggingface.co ", "https://huggingface.co"),
        ] {
            assert_eq!(shown(&settings(address).endpoint().unwrap()), expected);
        }
    }

    #[test]
    fn what_is_not_an_address_of_a_server_is_refused_and_not_shown() {
        for address in [
            "me:SECRET@mirror.example",
            "SECRET",
            "file:///SECRET",
            "https://",
            "https://me:SECRET/x@host",
            "//me:SECRET@x",
        ] {
            let text = describe(&settings(address).endpoint().unwrap_err());
            assert!(text.starts_with("HF_ENDPOINT is not") && !text.contains("SECRET"), "{address}: {text}");
        }
    }

    #[test]
    fn offline_is_spelled_as_the_hub_spells_it() {
        assert!(["1", "ON", "yes", "True"].into_iter().all(is_true));
        assert!(!["0", "", "false"].into_iter().any(is_true));
    }
}
