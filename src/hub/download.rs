//! Downloads through `hf-hub` into the Hub's ordinary cache, and its failures in words that say what to do.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Mutex;

use anyhow::Context as _;
use hf_hub::progress::{DownloadEvent, ProgressEvent, ProgressHandler};
use hf_hub::repository::RepoTypeModel;
use hf_hub::{HFError, HFRepositorySync};

use super::meter::Meter;
use super::settings::{Settings, without_password};
use super::{LOCAL_FOLDER, ModelKind, hints};
use crate::base::fault::fault;

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// The same weights in the format that is a program, which is never read.
const PICKLED: [&str; 2] = ["pytorch_model.bin", "pytorch_model.bin.index.json"];

/// Retries after a first failure; the waits are 0.2, 0.4 and 0.8 seconds.
const RETRIES: usize = 3;

/// See [`super::model_folder`].
pub(super) fn model(id: &str, kind: ModelKind, settings: &Settings) -> anyhow::Result<PathBuf> {
    let mut source = Source::open(id, settings)?;
    let config = match source.get(CONFIG)? {
        Some(path) => path,
        None => {
            return Err(fault(
                format!("the Hub has no {CONFIG} in a repository {id}"),
                "check the id; it must be a model with weights for transformers",
            ));
        }
    };
    let folder = config.parent().context("a downloaded file lies in a folder")?.to_owned();
    // The folder is named after the commit: from here on all files are of one version.
    source.revision = folder.file_name().and_then(|name| name.to_str()).map(str::to_owned);
    for name in kind.files() {
        source.get(name)?;
    }
    if source.get(WEIGHTS)?.is_none() {
        match source.get(INDEX)? {
            Some(index) => source.get_shards(&index)?,
            None => return Err(source.no_weights(kind)),
        }
    }
    Ok(folder)
}

/// One repository.
struct Source<'a> {
    id: &'a str,
    offline: bool,
    endpoint: String,
    cache: PathBuf,
    repository: HFRepositorySync<RepoTypeModel>,
    /// A commit; absent: the newest on `main`.
    revision: Option<String>,
}

impl<'a> Source<'a> {
    fn open(id: &'a str, settings: &Settings) -> anyhow::Result<Self> {
        let client = settings.client(RETRIES)?;
        let (endpoint, cache) = (without_password(client.endpoint()), client.cache_dir().to_owned());
        let client = hf_hub::HFClientSync::from_inner(client).context("cannot set up downloads from the Hub")?;
        let (owner, name) = hf_hub::split_id(id);
        let repository = client.model(owner, name);
        Ok(Self { id, offline: settings.offline, endpoint, cache, repository, revision: None })
    }

    /// The local path of a file, downloaded when it is not in the cache; `None` when the repository does not have it.
    fn get(&self, name: &str) -> anyhow::Result<Option<PathBuf>> {
        let shown =
            hf_hub::progress::Progress::new(Shown { title: format!("{} {name}", self.id), state: Mutex::new(None) });
        let request = self.repository.download_file().filename(name).maybe_revision(self.revision.clone());
        match request.local_files_only(self.offline).progress(shown).send() {
            Ok(path) => Ok(Some(path)),
            Err(HFError::EntryNotFound { .. }) => Ok(None),
            // Without a network nobody knows what else the repository has; what is needed is asked for by name.
            Err(HFError::LocalEntryNotFound { .. }) if name != CONFIG => Ok(None),
            // The weights come last: where they are, whatever else the repository has was asked for before.
            Err(HFError::Request { .. }) if name != CONFIG && self.has_weights() => Ok(None),
            Err(error) => Err(self.explain(name, error)),
        }
    }

    /// Whether the cache has weights of this version.
    fn has_weights(&self) -> bool {
        [WEIGHTS, INDEX].into_iter().any(|name| {
            let request = self.repository.download_file().filename(name).maybe_revision(self.revision.clone());
            request.local_files_only(true).send().is_ok()
        })
    }

    fn get_shards(&self, index: &std::path::Path) -> anyhow::Result<()> {
        let text = std::fs::read_to_string(index).with_context(|| format!("cannot read {}", index.display()))?;
        for shard in shard_names(&text).with_context(|| format!("{} of {} is damaged", INDEX, self.id))? {
            if self.get(&shard)?.is_none() {
                return Err(self.missing(&shard));
            }
        }
        Ok(())
    }

    fn no_weights(&self, kind: ModelKind) -> anyhow::Error {
        if self.offline {
            return self.missing(WEIGHTS);
        }
        let pickled = |name: &&&str| self.repository.file_exists().filename(name).send().unwrap_or(false);
        if let Some(name) = PICKLED.iter().find(pickled) {
            return fault(
                format!("{} has its weights as {name} alone, a format that can run code when it is read", self.id),
                kind.conversion(),
            );
        }
        fault(format!("{} has neither {WEIGHTS} nor {INDEX}", self.id), "choose a repository with safetensors weights")
    }

    /// A file that must be there and is not.
    fn missing(&self, name: &str) -> anyhow::Error {
        if self.offline {
            return hints::not_cached(format!("{name} of {}", self.id), &self.cache, LOCAL_FOLDER);
        }
        fault(format!("{} has no file {name}, which its {INDEX} names", self.id), "choose another repository")
    }

    fn explain(&self, name: &str, error: HFError) -> anyhow::Error {
        let id = self.id;
        let hint = match &error {
            HFError::LocalEntryNotFound { .. } => return self.missing(name),
            HFError::RepoNotFound { .. } | HFError::AuthRequired { .. } | HFError::Forbidden { .. } => {
                hints::NOT_SHOWN.to_owned()
            }
            HFError::RateLimited { .. } => hints::TOO_MANY.to_owned(),
            HFError::Io(_) | HFError::CacheLockTimeout { .. } => hints::check_cache(&self.cache),
            HFError::Request { .. } => hints::check_network(LOCAL_FOLDER),
            _ => hints::later(LOCAL_FOLDER),
        };
        let what = match &error {
            HFError::Request { .. } => format!("cannot reach {} to get {name} of {id}", self.endpoint),
            _ => format!("cannot get {name} of {id} from {}", self.endpoint),
        };
        anyhow::Error::new(error).context(what).context(format!("hint: {hint}"))
    }
}

/// The files that a `model.safetensors.index.json` names, each once and none of them a path.
fn shard_names(index: &str) -> anyhow::Result<BTreeSet<String>> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: std::collections::HashMap<String, String>,
    }
    let index: Index = serde_json::from_str(index).context("expected {\"weight_map\": {\"tensor\": \"file\"}}")?;
    let names: BTreeSet<String> = index.weight_map.into_values().collect();
    if let Some(name) = names.iter().find(|name| name.contains(['/', '\\']) || !name.ends_with(".safetensors")) {
        anyhow::bail!("{name:?} is not the name of a safetensors file");
    }
    anyhow::ensure!(!names.is_empty(), "it names no file");
    Ok(names)
}

/// Shows a download once it turns out to be a large one.
struct Shown {
    title: String,
    state: Mutex<Option<Meter>>,
}

impl ProgressHandler for Shown {
    fn on_progress(&self, event: &ProgressEvent) {
        let ProgressEvent::Download(event) = event else { return };
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let bytes = match event {
            DownloadEvent::Start { total_bytes, .. } => {
                *state = Meter::start(&self.title, *total_bytes, 0);
                return;
            }
            DownloadEvent::Progress { files } => files.iter().map(|file| file.bytes_completed).max().unwrap_or(0),
            DownloadEvent::AggregateProgress { bytes_completed, .. } => *bytes_completed,
            DownloadEvent::Complete => {
                *state = None;
                return;
            }
        };
        if let Some(meter) = state.as_mut() {
            meter.reach(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::path::Path;

    use super::*;
    use crate::base::fault::describe;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    /// A Hub on this machine with one repository of these files; the address it answers at.
    fn hub(files: &'static [(&'static str, &'static str)]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                answer(&stream.unwrap(), files);
            }
        });
        address
    }

    fn answer(mut stream: &TcpStream, files: &[(&str, &str)]) {
        let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
        let request = lines.next().unwrap_or_default();
        for _ in lines.take_while(|line| !line.is_empty()) {}
        let path = request.split(' ').nth(1).unwrap_or_default();
        let file = files
            .iter()
            .find(|(name, _)| path.starts_with("/owner/name/resolve/") && path.ends_with(&format!("/{name}")));
        let (status, body) = match file {
            Some((_, body)) => ("200 OK", *body),
            None if path.contains("/private/") => ("401 Unauthorized", ""),
            None => ("404 Not Found", ""),
        };
        let tag = crate::base::digest::sha256(body.as_bytes());
        let head = format!(
            "HTTP/1.1 {status}\r\nETag: \"{tag}\"\r\nX-Repo-Commit: {COMMIT}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        let body = if request.starts_with("HEAD") { "" } else { body };
        // A client that went away is its own affair.
        let _ = stream.write_all(format!("{head}{body}").as_bytes());
    }

    fn settings(endpoint: &str, cache: &Path, offline: bool) -> Settings {
        Settings { endpoint: Some(endpoint.to_owned()), cache: Some(cache.to_owned()), offline }
    }

    #[test]
    fn files_are_downloaded_once_and_then_found_without_a_network() {
        let cache = tempfile::tempdir().unwrap();
        let address = hub(&[
            ("config.json", "{}"),
            ("preprocessor_config.json", "[]"),
            ("merges.txt", "a b"),
            ("model.safetensors", "weights"),
        ]);
        let kind = ModelKind::WithTokenizer;
        let folder = model("owner/name", kind, &settings(&address, cache.path(), false)).unwrap();
        let texts = [(CONFIG, "{}"), ("preprocessor_config.json", "[]"), ("merges.txt", "a b"), (WEIGHTS, "weights")];
        for (name, text) in texts {
            assert_eq!(std::fs::read_to_string(folder.join(name)).unwrap(), text);
        }
        let offline = settings("http://127.0.0.1:9", cache.path(), true);
        assert_eq!(model("owner/name", kind, &offline).unwrap(), folder);
    }

    #[test]
    fn shards_are_downloaded_by_their_index() {
        let cache = tempfile::tempdir().unwrap();
        let address = hub(&[
            ("config.json", "{}"),
            (
                "model.safetensors.index.json",
                r#"{"weight_map":{"a":"1.safetensors","b":"2.safetensors","c":"1.safetensors"}}"#,
            ),
            ("1.safetensors", "one"),
            ("2.safetensors", "two"),
        ]);
        let folder = model("owner/name", ModelKind::Encoder, &settings(&address, cache.path(), false)).unwrap();
        assert_eq!(std::fs::read_to_string(folder.join("2.safetensors")).unwrap(), "two");
    }

    #[test]
    fn weights_that_are_a_program_are_refused_with_the_way_to_convert_them() {
        let cache = tempfile::tempdir().unwrap();
        let address = hub(&[("config.json", "{}"), ("pytorch_model.bin", "pickle")]);
        let error = model("owner/name", ModelKind::Encoder, &settings(&address, cache.path(), false)).unwrap_err();
        let text = describe(&error);
        assert!(text.contains("pytorch_model.bin alone") && text.contains("hint: convert it"), "{text}");
    }

    #[test]
    fn a_repository_that_is_not_there_or_not_shown_is_a_clear_error() {
        let cache = tempfile::tempdir().unwrap();
        let address = hub(&[]);
        let refusal =
            |id: &str| describe(&model(id, ModelKind::Encoder, &settings(&address, cache.path(), false)).unwrap_err());
        assert!(refusal("owner/absent").starts_with("the Hub has no config.json in a repository owner/absent"));
        let private = refusal("private/name");
        assert!(
            private.contains("cannot get config.json of private/name") && private.contains("HF_TOKEN"),
            "{private}"
        );
    }

    #[test]
    fn offline_without_a_cached_copy_is_an_error_that_says_so() {
        let cache = tempfile::tempdir().unwrap();
        let offline = settings("http://127.0.0.1:9", cache.path(), true);
        let text = describe(&model("owner/name", ModelKind::Encoder, &offline).unwrap_err())
            .replace(&cache.path().display().to_string(), "CACHE");
        insta::assert_snapshot!(text, @r"
        config.json of owner/name is not in the cache CACHE, and HF_HUB_OFFLINE is set
          hint: unset HF_HUB_OFFLINE to download it, or get the repository's files on a machine with a network and give their folder in place of the id
        ");
    }

    #[test]
    fn a_hub_that_cannot_be_reached_is_named() {
        let cache = tempfile::tempdir().unwrap();
        // Nothing listens on the port of a listener that was closed.
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let text = describe(
            &model("owner/name", ModelKind::Encoder, &settings(&format!("http://{closed}"), cache.path(), false))
                .unwrap_err(),
        );
        assert!(text.starts_with(&format!("cannot reach http://{closed} to get config.json of owner/name")), "{text}");
        assert!(text.contains("hint: check the network; without one set HF_HUB_OFFLINE=1"), "{text}");
    }

    #[test]
    fn an_index_names_files_of_its_own_folder_only() {
        assert!(shard_names(r#"{"weight_map":{"a":"../x.safetensors"}}"#).is_err());
        assert!(shard_names(r#"{"weight_map":{"a":"pytorch_model.bin"}}"#).is_err());
        assert!(shard_names(r#"{"weight_map":{}}"#).is_err());
        assert!(shard_names("{}").is_err());
    }
}
