//! The settings of Weights & Biases, from the config file, the environment and netrc.
//!
//! As in the official client, the config takes precedence over the environment, like an argument of `wandb.init`, and
//! the environment over the defaults. The key comes only from the environment or from netrc and is never shown.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::bail;
use base64::Engine as _;
use reqwest::Url;

use crate::netrc;
use base::bounded_file::{self, MAX_DESCRIPTION_BYTES};
use base::credentials;
use base::error::{WithHint as _, usage_error};

/// The official client whose protocol and files these are. The server's pages show it as the client's version.
pub(super) const CLIENT_VERSION: &str = "0.31.0";
const DEFAULT_SERVER: &str = "https://api.wandb.ai";
const DEFAULT_PROJECT: &str = "caption-train";
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
const MIN_KEY_CHARACTERS: usize = 40;
/// The official client's bounds for names of projects and runs.
const MAX_NAME_CHARACTERS: usize = 128;
const FORBIDDEN: [char; 6] = ['/', '\\', '#', '?', '%', ':'];
const RUN_ID_DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
const RUN_ID_LENGTH: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Log to the server and to a log on disk.
    Online,
    /// Log only to disk, for `wandb sync`.
    Offline,
    Disabled,
}

/// What the program may set, like the arguments of `wandb.init`. Absent values are taken from the environment.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Default: `WANDB_MODE`, else online if there is a key.
    pub mode: Option<Mode>,
    /// `WANDB_PROJECT`.
    pub project: Option<String>,
    /// User or team: `WANDB_ENTITY`.
    pub entity: Option<String>,
    /// Name of the run: `WANDB_NAME`.
    pub name: Option<String>,
    /// `WANDB_TAGS`.
    pub tags: Vec<String>,
}

/// Whether the run may exist on the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// Resume or start it.
    Allow,
    /// It must exist.
    Must,
    /// It must not exist.
    Never,
}

/// The API key of an account. It is shown nowhere, not even by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

impl ApiKey {
    /// The value of the header `Authorization`.
    pub(crate) fn authorization(&self) -> String {
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("api:{}", self.0)))
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(hidden)")
    }
}

#[derive(Clone, Debug)]
pub struct Settings {
    pub mode: Mode,
    /// Present if `mode` is online.
    pub api_key: Option<ApiKey>,
    /// The address of the server's API.
    pub base_url: Url,
    /// The address of the server's pages.
    pub app_url: Url,
    pub project: String,
    /// The owner of the project; the server has a default.
    pub entity: Option<String>,
    /// The run's id, if the user chose it.
    pub run_id: Option<String>,
    pub resume: Resume,
    /// The name that is shown for the run.
    pub name: Option<String>,
    pub notes: Option<String>,
    pub tags: Vec<String>,
    pub group: Option<String>,
    pub job_type: Option<String>,
    /// The folder that contains `wandb/`.
    pub dir: PathBuf,
    /// Only warnings are shown.
    pub silent: bool,
    pub http_timeout: Duration,
}

impl Settings {
    /// Combines config, environment and defaults. `environment` looks up a variable; `default_dir` is the folder in
    /// which `wandb/` is created unless `WANDB_DIR` names another.
    ///
    /// # Errors
    /// An invalid mode, address, key, project or id; online without a key.
    pub fn resolve(
        config: &Options,
        default_dir: &Path,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> anyhow::Result<Self> {
        let variable = |name: &str| environment(name).map(|value| value.trim().to_owned()).filter(|v| !v.is_empty());
        let base_url = server(variable("WANDB_BASE_URL"))?;
        let app_url = match variable("WANDB_APP_URL") {
            Some(address) => address_of("WANDB_APP_URL", &address)?,
            None => people_address(&base_url),
        };
        let wanted = match (config.mode, variable("WANDB_MODE")) {
            (Some(mode), _) => Some(mode),
            (None, name) => name.map(|name| mode(&name)).transpose()?,
        };
        // A key that is not needed is not checked.
        let api_key = match wanted {
            Some(Mode::Offline | Mode::Disabled) => None,
            Some(Mode::Online) | None => api_key(&variable, &base_url)?,
        };
        let default = if api_key.is_some() { Mode::Online } else { Mode::Offline };
        let mode = wanted.unwrap_or(default);
        if mode == Mode::Online && api_key.is_none() {
            return Err(usage_error(
                format!("Weights & Biases is set to online, but there is no API key for {}", host(&base_url)),
                "set WANDB_API_KEY, or run `wandb login`, or use the mode offline",
            ));
        }
        let project = config.project.clone().or_else(|| variable("WANDB_PROJECT"));
        let project = project.unwrap_or_else(|| DEFAULT_PROJECT.to_owned());
        check_project(&project)?;
        let run_id = variable("WANDB_RUN_ID");
        if let Some(id) = &run_id {
            check_run_id(id).hint(|| "change WANDB_RUN_ID")?;
        }
        let tags = if config.tags.is_empty() { words(variable("WANDB_TAGS")) } else { config.tags.clone() };
        Ok(Self {
            mode,
            api_key,
            base_url,
            app_url,
            project,
            entity: config.entity.clone().or_else(|| variable("WANDB_ENTITY")),
            run_id,
            resume: resume(variable("WANDB_RESUME"))?,
            name: config.name.clone().or_else(|| variable("WANDB_NAME")),
            notes: variable("WANDB_NOTES"),
            tags,
            group: variable("WANDB_RUN_GROUP"),
            job_type: variable("WANDB_JOB_TYPE"),
            dir: variable("WANDB_DIR").map_or_else(|| default_dir.to_owned(), PathBuf::from),
            silent: variable("WANDB_SILENT").is_some_and(|value| is_true(&value)),
            http_timeout: timeout(variable("WANDB_HTTP_TIMEOUT"))?,
        })
    }
}

fn mode(name: &str) -> anyhow::Result<Mode> {
    match name.to_ascii_lowercase().as_str() {
        "online" | "run" => Ok(Mode::Online),
        "offline" | "dryrun" => Ok(Mode::Offline),
        "disabled" => Ok(Mode::Disabled),
        _ => Err(usage_error(format!("WANDB_MODE is {name:?}"), "use online, offline or disabled")),
    }
}

fn resume(name: Option<String>) -> anyhow::Result<Resume> {
    match name.as_deref().map(str::to_ascii_lowercase).as_deref() {
        None | Some("allow" | "auto") => Ok(Resume::Allow),
        Some("must") => Ok(Resume::Must),
        Some("never") => Ok(Resume::Never),
        Some(other) => Err(usage_error(format!("WANDB_RESUME is {other:?}"), "use allow, must, never or auto")),
    }
}

fn timeout(seconds: Option<String>) -> anyhow::Result<Duration> {
    let Some(seconds) = seconds else { return Ok(DEFAULT_TIMEOUT) };
    let parsed = seconds.parse().ok().filter(|seconds: &f64| *seconds > 0.0);
    let duration = parsed.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    duration.ok_or_else(|| {
        usage_error(format!("WANDB_HTTP_TIMEOUT is {seconds:?}"), "give a number of seconds, such as 30")
    })
}

fn server(address: Option<String>) -> anyhow::Result<Url> {
    let url = address_of("WANDB_BASE_URL", address.as_deref().unwrap_or(DEFAULT_SERVER))?;
    // The addresses of the pages, which users copy from their browser, have no API.
    match url.host_str() {
        Some("wandb.ai" | "www.wandb.ai" | "app.wandb.ai") => address_of("WANDB_BASE_URL", DEFAULT_SERVER),
        _ => Ok(url),
    }
}

fn address_of(variable: &str, address: &str) -> anyhow::Result<Url> {
    let url = Url::parse(address).ok().filter(|url| ["http", "https"].contains(&url.scheme()));
    let url = url.filter(|url| url.host_str().is_some() && url.username().is_empty() && url.password().is_none());
    // The address is not shown: it may contain a password.
    url.ok_or_else(|| {
        usage_error(format!("{variable} is not the address of a server"), format!("use one like {DEFAULT_SERVER}"))
    })
}

fn people_address(base: &Url) -> Url {
    let mut address = base.clone();
    if base.host_str() == Some("api.wandb.ai") && address.set_host(Some("wandb.ai")).is_err() {
        return base.clone();
    }
    address
}

/// Host and port, as in netrc and messages.
fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn api_key(variable: &dyn Fn(&str) -> Option<String>, base_url: &Url) -> anyhow::Result<Option<ApiKey>> {
    let (key, source) = match variable("WANDB_API_KEY") {
        Some(key) => (key, "WANDB_API_KEY"),
        None => match netrc_key(variable, base_url) {
            Some(key) => (key, "the key in netrc"),
            None => return Ok(None),
        },
    };
    let characters = key.chars().count();
    if characters < MIN_KEY_CHARACTERS {
        return Err(usage_error(
            format!("{source} has {characters} characters, expected at least {MIN_KEY_CHARACTERS}"),
            "copy the key again from the server's page /authorize",
        ));
    }
    if key.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(usage_error(
            format!("{source} contains a space"),
            "copy the key again from the server's page /authorize",
        ));
    }
    credentials::keep(&key);
    Ok(Some(ApiKey(key)))
}

fn netrc_key(variable: &dyn Fn(&str) -> Option<String>, base_url: &Url) -> Option<String> {
    let home = variable("HOME").or_else(|| variable("USERPROFILE")).map(PathBuf::from);
    let files = match (variable("NETRC"), home) {
        (Some(path), Some(home)) => {
            vec![path.strip_prefix("~/").map_or_else(|| PathBuf::from(&path), |p| home.join(p))]
        }
        (Some(path), None) => vec![PathBuf::from(path)],
        (None, Some(home)) => vec![home.join(".netrc"), home.join("_netrc")],
        (None, None) => Vec::new(),
    };
    // An unreadable file is ignored: the user has not named it.
    let text = files.iter().find_map(|path| bounded_file::read_text(path, MAX_DESCRIPTION_BYTES).ok())?;
    netrc::password(&text, &[&host(base_url), base_url.host_str()?])
}

fn check_project(name: &str) -> anyhow::Result<()> {
    if name.chars().count() > MAX_NAME_CHARACTERS || name.contains(FORBIDDEN) {
        let bounds = format!("use at most {MAX_NAME_CHARACTERS} characters and none of / \\ # ? % :");
        return Err(usage_error(format!("the project name {name:?} is not allowed"), bounds));
    }
    Ok(())
}

fn words(list: Option<String>) -> Vec<String> {
    let list = list.unwrap_or_default();
    list.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn is_true(value: &str) -> bool {
    ["1", "true", "yes", "on"].contains(&value.to_ascii_lowercase().as_str())
}

/// A run id from random bits, one of 2.8 trillion; the bias of the division is below 1e-6.
pub(crate) fn random_run_id(mut bits: u64) -> String {
    let mut name = String::with_capacity(RUN_ID_LENGTH);
    for _ in 0..RUN_ID_LENGTH {
        name.push(char::from(RUN_ID_DIGITS[(bits % 36) as usize]));
        bits /= 36;
    }
    name
}

/// Refuses a run id that the server or the file system would refuse.
pub(crate) fn check_run_id(name: &str) -> anyhow::Result<()> {
    if name.is_empty() || name.trim() != name {
        bail!("a run id must not be empty and must not begin or end with a space");
    }
    if name.chars().count() > MAX_NAME_CHARACTERS {
        bail!("a run id has at most {MAX_NAME_CHARACTERS} characters, {name} has {}", name.chars().count());
    }
    if let Some(found) = name.chars().find(|c| FORBIDDEN.contains(c) || c.is_control()) {
        bail!("a run id must not contain the character {found:?}");
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef01234567";

    /// Settings from variables only.
    pub(crate) fn resolved(config: &Options, dir: &Path, variables: &[(&str, &str)]) -> anyhow::Result<Settings> {
        let look_up = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        Settings::resolve(config, dir, &look_up)
    }

    fn from_variables(variables: &[(&str, &str)]) -> anyhow::Result<Settings> {
        resolved(&Options::default(), Path::new("runs/a"), variables)
    }

    #[test]
    fn without_a_key_the_run_is_offline_and_with_one_online() {
        let settings = from_variables(&[]).unwrap();
        assert_eq!((settings.mode, settings.project.as_str()), (Mode::Offline, "caption-train"));
        assert_eq!(settings.dir, Path::new("runs/a"));
        assert_eq!(settings.base_url.as_str(), "https://api.wandb.ai/");
        assert_eq!(settings.app_url.as_str(), "https://wandb.ai/");
        assert_eq!(from_variables(&[("WANDB_API_KEY", KEY)]).unwrap().mode, Mode::Online);
        assert_eq!(from_variables(&[("WANDB_API_KEY", " ")]).unwrap().mode, Mode::Offline);
    }

    #[test]
    fn the_environment_sets_everything() {
        let settings = from_variables(&[
            ("WANDB_API_KEY", KEY),
            ("WANDB_MODE", "dryrun"),
            ("WANDB_BASE_URL", "http://localhost:8080/"),
            ("WANDB_PROJECT", "p"),
            ("WANDB_ENTITY", "e"),
            ("WANDB_RUN_ID", "abc"),
            ("WANDB_RESUME", "must"),
            ("WANDB_NAME", "n"),
            ("WANDB_NOTES", "some notes"),
            ("WANDB_TAGS", "x, y,"),
            ("WANDB_RUN_GROUP", "g"),
            ("WANDB_JOB_TYPE", "train"),
            ("WANDB_DIR", "/elsewhere"),
            ("WANDB_SILENT", "true"),
            ("WANDB_HTTP_TIMEOUT", "2.5"),
        ])
        .unwrap();
        assert_eq!((settings.mode, settings.resume, settings.silent), (Mode::Offline, Resume::Must, true));
        assert_eq!(settings.app_url.as_str(), "http://localhost:8080/");
        assert_eq!((settings.project.as_str(), settings.entity.as_deref()), ("p", Some("e")));
        assert_eq!((settings.run_id.as_deref(), settings.name.as_deref()), (Some("abc"), Some("n")));
        assert_eq!((settings.notes.as_deref(), settings.tags), (Some("some notes"), vec!["x".into(), "y".to_owned()]));
        assert_eq!((settings.group.as_deref(), settings.job_type.as_deref()), (Some("g"), Some("train")));
        assert_eq!(settings.http_timeout, Duration::from_millis(2500));
        assert_eq!(settings.dir, Path::new("/elsewhere"));
    }

    #[test]
    fn the_config_beats_the_environment() {
        let config = Options {
            mode: Some(Mode::Disabled),
            project: Some("config".to_owned()),
            tags: vec!["t".to_owned()],
            ..Options::default()
        };
        let variables = [("WANDB_MODE", "online"), ("WANDB_PROJECT", "p"), ("WANDB_TAGS", "x"), ("WANDB_ENTITY", "e")];
        let settings = resolved(&config, Path::new("."), &variables).unwrap();
        assert_eq!((settings.mode, settings.project.as_str()), (Mode::Disabled, "config"));
        assert_eq!((settings.tags, settings.entity.as_deref()), (vec!["t".to_owned()], Some("e")));
    }

    #[test]
    fn a_key_from_netrc_is_that_of_the_server() {
        let folder = tempfile::tempdir().unwrap();
        let text = format!("machine api.wandb.ai login user password {KEY}\nmachine localhost:1 password short");
        std::fs::write(folder.path().join("_netrc"), text).unwrap();
        let home = folder.path().to_str().unwrap();
        assert_eq!(from_variables(&[("HOME", home)]).unwrap().mode, Mode::Online);
        let other = [("HOME", home), ("WANDB_BASE_URL", "http://localhost:2")];
        assert_eq!(from_variables(&other).unwrap().mode, Mode::Offline);
        let named = [("HOME", home), ("NETRC", "~/_netrc"), ("WANDB_BASE_URL", "https://wandb.ai")];
        assert_eq!(from_variables(&named).unwrap().api_key, Some(ApiKey(KEY.to_owned())));
        assert!(from_variables(&[("HOME", home), ("WANDB_BASE_URL", "http://localhost:1")]).is_err());
    }

    #[test]
    fn mistakes_are_reported_without_the_key() {
        let secret = "secret".to_owned() + &KEY[..20];
        let cases: &[&[(&str, &str)]] = &[
            &[("WANDB_MODE", "offlin")],
            &[("WANDB_MODE", "online")],
            &[("WANDB_RESUME", "maybe")],
            &[("WANDB_BASE_URL", "ftp://secret.example")],
            &[("WANDB_BASE_URL", "https://me:secret@mirror.example")],
            &[("WANDB_HTTP_TIMEOUT", "-1")],
            &[("WANDB_PROJECT", "a/b")],
            &[("WANDB_RUN_ID", "a/b")],
            &[("WANDB_API_KEY", &secret)],
            &[("WANDB_API_KEY", "secret 789 123456789 123456789 123456789 123456789")],
        ];
        for variables in cases {
            let text = base::error::describe(&from_variables(variables).unwrap_err());
            assert!(text.contains("hint: ") && !text.contains("secret"), "{text}");
        }
        let settings = from_variables(&[("WANDB_API_KEY", KEY)]).unwrap();
        assert!(!format!("{settings:?}").contains(&KEY[..8]));
        assert_eq!(&settings.api_key.unwrap().authorization()[..10], "Basic YXBp");
    }

    #[test]
    fn names_are_eight_base_36_characters() {
        assert_eq!(random_run_id(0), "00000000");
        assert_eq!(random_run_id(35 + 36 * 10), "za000000");
        for bits in [1, u64::MAX, 0x0123_4567_89ab_cdef] {
            let name = random_run_id(bits);
            assert!(name.len() == 8 && name.bytes().all(|byte| RUN_ID_DIGITS.contains(&byte)), "{name}");
            check_run_id(&name).unwrap();
        }
    }

    #[test]
    fn names_that_would_leave_the_folder_or_the_address_are_refused() {
        for name in ["", " a", "a/b", "..\\a", "a?b", "a#b", "50%", "a:b", "a\nb", &"a".repeat(129)] {
            assert!(check_run_id(name).is_err(), "{name:?}");
        }
        check_run_id("my run-3.b").unwrap();
    }
}
