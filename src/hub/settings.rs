//! Where the Hub is and where its cache is, from the environment; and how an address of it may be shown.

use std::path::PathBuf;

use anyhow::Context as _;
use hf_hub::HFClient;

/// Where to download from and to.
pub(super) struct Settings {
    /// Absent: `HF_ENDPOINT`, else huggingface.co.
    pub(super) endpoint: Option<String>,
    /// Absent: `HF_HUB_CACHE`, else the folder `hub` in `HF_HOME`, else `~/.cache/huggingface/hub`.
    pub(super) cache: Option<PathBuf>,
    /// The cache alone.
    pub(super) offline: bool,
}

impl Settings {
    /// As the Hub's own tools; `hf-hub` reads all but `HF_HUB_OFFLINE` by itself.
    pub(super) fn from_environment() -> Self {
        let offline = std::env::var("HF_HUB_OFFLINE").is_ok_and(|value| is_true(&value));
        Self { endpoint: None, cache: None, offline }
    }

    /// The address of the Hub.
    pub(super) fn endpoint(&self) -> String {
        let written = self.endpoint.clone().or_else(|| std::env::var("HF_ENDPOINT").ok());
        written.unwrap_or_else(|| "https://huggingface.co".to_owned())
    }

    /// The folder of the Hub's cache.
    pub(super) fn cache(&self) -> PathBuf {
        self.cache.clone().unwrap_or_else(hf_hub::resolve_cache_dir)
    }

    /// A client with these settings.
    pub(super) fn client(&self, retries: usize) -> anyhow::Result<HFClient> {
        let mut builder = HFClient::builder().retry_max_attempts(retries);
        if let Some(endpoint) = &self.endpoint {
            builder = builder.endpoint(endpoint);
        }
        if let Some(cache) = &self.cache {
            builder = builder.cache_dir(cache);
        }
        builder.build().context("cannot set up downloads from the Hub; is HF_ENDPOINT a URL?")
    }
}

/// The token that `hf-hub` sends, which it does not tell: `HF_TOKEN`, else the file that `HF_TOKEN_PATH` names, else the
/// one that the Hub's command line wrote; none when `HF_HUB_DISABLE_IMPLICIT_TOKEN` is set.
pub(super) fn token() -> Option<String> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    if variable("HF_HUB_DISABLE_IMPLICIT_TOKEN").is_some() {
        return None;
    }
    let files = [variable("HF_TOKEN_PATH").map(PathBuf::from), Some(hf_hub::hf_home().join("token"))];
    let mut written = files.into_iter().flatten().filter_map(|path| std::fs::read_to_string(path).ok());
    let token = variable("HF_TOKEN").or_else(|| written.find(|token| !token.trim().is_empty()))?;
    Some(token.trim().to_owned())
}

/// The spellings that `huggingface_hub` takes for true.
fn is_true(value: &str) -> bool {
    ["1", "on", "yes", "true"].contains(&value.to_ascii_lowercase().as_str())
}

/// An address as it may be shown: a mirror's may carry `user:password@`.
pub(super) fn without_password(address: &str) -> String {
    match (address.split_once("://"), address.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        _ => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_in_an_address_is_not_shown() {
        assert_eq!(without_password("https://me:secret@mirror.example/hub"), "https://mirror.example/hub");
        assert_eq!(without_password("https://huggingface.co"), "https://huggingface.co");
    }

    #[test]
    fn offline_is_spelled_as_the_hub_spells_it() {
        assert!(["1", "ON", "yes", "True"].into_iter().all(is_true));
        assert!(!["0", "", "false"].into_iter().any(is_true));
    }
}
