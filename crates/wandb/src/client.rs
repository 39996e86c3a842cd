//! Requests to a Weights & Biases server, each made once, and which failures may be retried.
//!
//! The operations and their variables are those of the official client (`core/api/graphql`,
//! `core/internal/filestream`). No answer is trusted: a missing value is an error or a default.

use std::io::Read as _;
use std::time::Duration;

use anyhow::Context as _;
use reqwest::blocking::{Client as Http, RequestBuilder, Response};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{StatusCode, Url};
use serde_json::{Value, json};

use crate::follower::{AtServer, Offsets};
use crate::history::HistoryTail;
use crate::settings::Settings;

/// Of requests that carry data.
const MIN_DATA_TIMEOUT: Duration = Duration::from_secs(180);
const MAX_ANSWER_BYTES: u64 = 16 << 20;
const MAX_EXPLANATION_CHARACTERS: usize = 300;
const MAX_ASKED_WAIT: Duration = Duration::from_secs(60);

const UPSERT: &str = "mutation UpsertBucket($id: String, $name: String, $project: String, $entity: String, \
    $groupName: String, $description: String, $displayName: String, $notes: String, $commit: String, \
    $config: JSONString, $host: String, $debug: Boolean, $program: String, $repo: String, $jobType: String, \
    $state: String, $sweep: String, $tags: [String!], $summaryMetrics: JSONString) { \
    upsertBucket(input: {id: $id, name: $name, groupName: $groupName, modelName: $project, entityName: $entity, \
    description: $description, displayName: $displayName, notes: $notes, config: $config, commit: $commit, \
    host: $host, debug: $debug, jobProgram: $program, jobRepo: $repo, jobType: $jobType, state: $state, \
    sweep: $sweep, tags: $tags, summaryMetrics: $summaryMetrics}) { \
    bucket { id name displayName historyLineCount project { name entity { name } } } inserted } }";

const RESUME: &str = "query RunResumeStatus($project: String, $entity: String, $name: String!) { \
    model(name: $project, entityName: $entity) { id name entity { id name } \
    bucket(name: $name, missingOk: true) { id name summaryMetrics displayName logLineCount historyLineCount \
    eventsLineCount historyTail eventsTail config tags wandbConfig(keys: [\"t\"]) } } }";

const CREATE_FILES: &str = "mutation CreateRunFiles($entity: String!, $project: String!, $run: String!, \
    $files: [String!]!) { createRunFiles(input: {entityName: $entity, projectName: $project, runName: $run, \
    files: $files}) { runID uploadHeaders files { name uploadUrl } } }";

/// Why a request failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A retry may help, after `wait` if the server asked for it.
    Passing { message: String, wait: Option<Duration> },
    /// A retry does not help.
    Final { message: String, status: Option<StatusCode> },
}

impl Failure {
    fn last(message: impl Into<String>) -> Self {
        Self::Final { message: message.into(), status: None }
    }

    pub(crate) fn message(&self) -> &str {
        match self {
            Self::Passing { message, .. } | Self::Final { message, .. } => message,
        }
    }

    /// Makes the failure passing if its status is `wanted`.
    fn passing_if(self, wanted: StatusCode) -> Self {
        match self {
            Self::Final { message, status: Some(status) } if status == wanted => Self::Passing { message, wait: None },
            other => other,
        }
    }
}

/// What the server learns about a run that starts or resumes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Description {
    pub(crate) id: String,
    /// The config as JSON text.
    pub(crate) config: String,
    pub(crate) host: String,
    pub(crate) program: String,
    /// Names and labels are only sent for a new run: afterwards they belong to the user of the server's page.
    pub(crate) is_new: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) entity: String,
    pub(crate) project: String,
    pub(crate) run: String,
}

/// Where to upload a file.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) name: String,
    url: Url,
    headers: HeaderMap,
}

pub(crate) struct Client {
    http: Http,
    settings: Settings,
    authorization: HeaderValue,
}

impl Client {
    pub(crate) fn new(settings: &Settings) -> anyhow::Result<Self> {
        let agent = format!("{}/{}", base::PROGRAM, base::VERSION);
        // reqwest brings no cryptography. An error says that one was chosen already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // A redirect would send the run's data, or the key, to whatever host an answer names.
        let http = Http::builder().user_agent(agent).redirect(Policy::none());
        let http = http.connect_timeout(settings.http_timeout).build();
        let key = settings.api_key.as_ref().context("no API key for Weights & Biases")?;
        let mut authorization = HeaderValue::from_str(&key.authorization()).context(
            "the key for Weights & Biases contains characters \
                                                                 that cannot be sent",
        )?;
        authorization.set_sensitive(true);
        Ok(Self { http: http.context("cannot set up requests")?, settings: settings.clone(), authorization })
    }

    /// Creates the run, or reports that it resumes.
    pub(crate) fn upsert(&self, run: &Description) -> Result<Place, Failure> {
        let settings = &self.settings;
        let mut variables = json!({
            "name": run.id,
            "project": settings.project,
            "entity": settings.entity,
            "config": run.config,
            "host": run.host,
            "program": run.program,
        });
        if run.is_new {
            variables["displayName"] = json!(settings.name);
            variables["notes"] = json!(settings.notes);
            variables["groupName"] = json!(settings.group);
            variables["jobType"] = json!(settings.job_type);
            variables["tags"] = json!(settings.tags);
        }
        let answer = self.ask("UpsertBucket", UPSERT, &variables);
        // Two processes that create a project at the same moment get this answer.
        let answer = answer.map_err(|failure| failure.passing_if(StatusCode::CONFLICT))?;
        let bucket = &answer["upsertBucket"]["bucket"];
        let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let project = &bucket["project"];
        let entity = text(&project["entity"]["name"]).or_else(|| settings.entity.clone());
        Ok(Place {
            entity: entity.ok_or_else(|| Failure::last("the server's answer does not name the owner of the run"))?,
            project: text(&project["name"]).unwrap_or_else(|| settings.project.clone()),
            run: text(&bucket["name"]).unwrap_or_else(|| run.id.clone()),
        })
    }

    /// What the server has of the run; `None` if it does not know the run.
    pub(crate) fn at_server(&self, id: &str) -> Result<Option<AtServer>, Failure> {
        let variables = json!({ "project": self.settings.project, "entity": self.settings.entity, "name": id });
        let answer = self.ask("RunResumeStatus", RESUME, &variables)?;
        let bucket = &answer["model"]["bucket"];
        if !bucket.is_object() {
            return Ok(None);
        }
        let count = |name: &str| bucket[name].as_u64().unwrap_or(0);
        let history = count("historyLineCount");
        let offsets = Offsets { history, events: count("eventsLineCount"), lines: count("logLineCount") };
        let tail = if history > 0 { end_of_history(bucket)? } else { HistoryTail::default() };
        Ok(Some(AtServer { offsets, tail }))
    }

    /// Where to upload files.
    pub(crate) fn targets(&self, place: &Place, names: &[String]) -> Result<Vec<Target>, Failure> {
        let variables = json!({ "entity": place.entity, "project": place.project, "run": place.run, "files": names });
        let answer = self.ask("CreateRunFiles", CREATE_FILES, &variables)?;
        let created = &answer["createRunFiles"];
        let headers = upload_headers(&created["uploadHeaders"]);
        let files = created["files"].as_array().map(Vec::as_slice).unwrap_or_default();
        let target = |file: &Value| {
            // A self-hosted server may give an address without a host.
            let url = self.settings.base_url.join(file["uploadUrl"].as_str()?).ok()?;
            let name = file["name"].as_str()?.to_owned();
            ["http", "https"].contains(&url.scheme()).then(|| Target { name, url, headers: headers.clone() })
        };
        Ok(files.iter().filter_map(target).collect())
    }

    /// Uploads a file to where the server said. The storage is another server and does not get the key.
    pub(crate) fn upload(&self, target: &Target, content: Vec<u8>) -> Result<(), Failure> {
        let request = self.http.put(target.url.clone()).headers(target.headers.clone());
        let request = request.timeout(self.settings.http_timeout.max(MIN_DATA_TIMEOUT));
        send(request.body(content)).map(drop)
    }

    /// Sends lines; returns whether the user pressed Stop.
    pub(crate) fn stream(&self, place: &Place, body: Vec<u8>) -> Result<bool, Failure> {
        let path = ["files", &place.entity, &place.project, &place.run, "file_stream"];
        let answer = self.post(&path, body, self.settings.http_timeout.max(MIN_DATA_TIMEOUT))?;
        // An answer that is not JSON says nothing; the lines have arrived anyway.
        let answer: Value = read(answer).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        Ok(answer["stopped"].as_bool().unwrap_or(false))
    }

    fn ask(&self, operation: &str, query: &str, variables: &Value) -> Result<Value, Failure> {
        let body = json!({ "operationName": operation, "query": query, "variables": variables });
        let bytes = read(self.post(&["graphql"], body.to_string().into_bytes(), self.settings.http_timeout)?)?;
        let answer: Value = serde_json::from_slice(&bytes)
            .map_err(|_| Failure::last(format!("the server's answer to {operation} is not JSON")))?;
        if let Some(errors) = answer["errors"].as_array().filter(|errors| !errors.is_empty()) {
            let messages: Vec<&str> = errors.iter().filter_map(|error| error["message"].as_str()).collect();
            return Err(Failure::last(format!("the server refuses {operation}: {}", printable(&messages.join("; ")))));
        }
        Ok(answer["data"].clone())
    }

    /// Posts JSON to the server, with the key.
    fn post(&self, path: &[&str], body: Vec<u8>, timeout: Duration) -> Result<Response, Failure> {
        let url = address(&self.settings.base_url, path)?;
        let request = self.http.post(url).header(AUTHORIZATION, self.authorization.clone());
        send(request.header(CONTENT_TYPE, "application/json").body(body).timeout(timeout))
    }
}

/// The address of a run's page.
pub(crate) fn page(app_url: &Url, place: &Place) -> Option<String> {
    address(app_url, &[&place.entity, &place.project, "runs", &place.run]).ok().map(String::from)
}

/// Each of `parts` is one part of the path, whatever it contains.
fn address(base: &Url, parts: &[&str]) -> Result<Url, Failure> {
    let mut url = base.clone();
    match url.path_segments_mut() {
        Ok(mut path) => path.pop_if_empty().extend(parts),
        Err(()) => return Err(Failure::last("WANDB_BASE_URL is not the address of a server")),
    };
    Ok(url)
}

/// The last lines of the history, which the server gives as JSON in JSON, or the summary's step.
fn end_of_history(bucket: &Value) -> Result<HistoryTail, Failure> {
    let lines: Option<Value> = bucket["historyTail"].as_str().and_then(|text| serde_json::from_str(text).ok());
    let mut tail = HistoryTail::default();
    for line in lines.as_ref().and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default() {
        // Rows with NaN are not JSON, but can be read with null in its place.
        let row = line.as_str().and_then(parse_row);
        let Some(row) = row.as_ref().and_then(Value::as_object) else { continue };
        if let Some(step) = row.get("_step").and_then(step_of) {
            tail.add(step, row.keys().map(String::as_str));
        }
    }
    let summary = bucket["summaryMetrics"].as_str().and_then(parse_row);
    let summary_step = summary.as_ref().and_then(|summary| step_of(&summary["_step"]));
    match (tail.step(), summary_step) {
        (Some(step), Some(later)) if later > step => Ok(HistoryTail::through(later)),
        (Some(_), _) => Ok(tail),
        (None, Some(step)) => Ok(HistoryTail::through(step)),
        // Continuing would write the history twice.
        (None, None) => Err(Failure::last("the server has a history of the run but does not give its last step")),
    }
}

fn step_of(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_f64().filter(|step| *step >= 0.0).map(|step| step as u64))
}

/// A line of the server as JSON, with null for NaN and infinities.
fn parse_row(text: &str) -> Option<Value> {
    if let Ok(value) = serde_json::from_str(text) {
        return Some(value);
    }
    let mut plain = String::with_capacity(text.len());
    let (mut in_text, mut rest) = (false, text);
    while let Some(c) = rest.chars().next() {
        let word = ["-Infinity", "Infinity", "NaN"].into_iter().find(|word| !in_text && rest.starts_with(word));
        let (taken, written) = match (word, c) {
            (Some(word), _) => (word.len(), "null"),
            (None, '\\') => {
                let length = 1 + rest.chars().nth(1).map_or(0, char::len_utf8);
                (length, &rest[..length])
            }
            (None, _) => {
                in_text ^= c == '"';
                (c.len_utf8(), &rest[..c.len_utf8()])
            }
        };
        plain.push_str(written);
        rest = &rest[taken..];
    }
    serde_json::from_str(&plain).ok()
}

/// `["Name:Value", ...]`, as the server lists them.
fn upload_headers(list: &Value) -> HeaderMap {
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    let pair = |header: &Value| {
        let (name, value) = header.as_str()?.split_once(':')?;
        Some((HeaderName::try_from(name.trim()).ok()?, HeaderValue::from_str(value.trim()).ok()?))
    };
    list.iter().filter_map(pair).collect()
}

fn send(request: RequestBuilder) -> Result<Response, Failure> {
    // The error is not shown with its address: one of the storage carries a key.
    let answer = request.send().map_err(|error| {
        let what = match () {
            () if error.is_timeout() => "the server did not answer in time",
            () if error.is_connect() => "no connection to the server",
            () if error.is_builder() => return Failure::last("the address cannot be requested"),
            () => "the connection was cut",
        };
        Failure::Passing { message: what.to_owned(), wait: None }
    })?;
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    if status.is_redirection() {
        return Err(Failure::last(redirected(&answer)));
    }
    let wait = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let wait = wait.map(|seconds| Duration::from_secs(seconds).min(MAX_ASKED_WAIT));
    let message = match read(answer).ok().and_then(|body| explanation(&body)) {
        Some(explanation) => format!("the server answered {status}: {explanation}"),
        None => format!("the server answered {status}"),
    };
    match status.as_u16() {
        400 | 401 | 403 | 404 | 409 | 410 | 413 | 422 | 501 => Err(Failure::Final { message, status: Some(status) }),
        _ => Err(Failure::Passing { message, wait }),
    }
}

/// Names the host that an answer redirects to. The rest of the address may contain a password or a signature.
fn redirected(answer: &Response) -> String {
    let (status, from) = (answer.status(), origin(answer.url()));
    let location = answer.headers().get(LOCATION).and_then(|value| answer.url().join(value.to_str().ok()?).ok());
    match location.filter(|url| url.has_host()) {
        Some(url) => {
            let to = printable(&origin(&url));
            format!(
                "{from} redirects to {to} ({status}), and data are not sent on to another address; if the server of \
                 Weights & Biases has moved, set WANDB_BASE_URL to its new address"
            )
        }
        None => format!("{from} redirects ({status}) without a readable address"),
    }
}

/// Scheme, host and port.
fn origin(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}", url.scheme(), url.host_str().unwrap_or_default())
}

fn read(answer: Response) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    match answer.take(MAX_ANSWER_BYTES).read_to_end(&mut bytes) {
        Ok(_) => Ok(bytes),
        Err(_) => Err(Failure::Passing { message: "the connection was cut".to_owned(), wait: None }),
    }
}

/// `{"errors": [{"message": ...}]}` or `{"error": ...}`.
fn explanation(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let text = body["errors"][0]["message"].as_str().or_else(|| body["error"].as_str())?;
    Some(printable(text)).filter(|text| !text.is_empty())
}

/// A server's text on one line, safe for a terminal.
fn printable(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.take(MAX_EXPLANATION_CHARACTERS).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Item;

    #[test]
    fn the_end_of_the_history_is_read_from_what_the_server_keeps() {
        let lines = json!([r#"{"_step": 129, "loss": 1}"#, r#"{"_step": 130, "loss": NaN, "text": "a \"NaN"}"#]);
        let bucket = json!({ "historyTail": lines.to_string(), "summaryMetrics": "{\"_step\": 130}" });
        let tail = end_of_history(&bucket).unwrap();
        assert_eq!(tail.step(), Some(130));
        assert!(tail.is_new(130, "val") && !tail.is_new(130, "text") && !tail.is_new(129, "val"));
        let later = json!({ "historyTail": lines.to_string(), "summaryMetrics": "{\"_step\": 140}" });
        assert_eq!(end_of_history(&later).unwrap().step(), Some(140));
        assert_eq!(end_of_history(&json!({ "summaryMetrics": "{\"_step\": 7.0}" })).unwrap(), HistoryTail::through(7));
        assert!(end_of_history(&json!({ "historyTail": "[1, \"x\", null]", "summaryMetrics": 3 })).is_err());
    }

    #[test]
    fn rows_with_bare_words_are_read() {
        let parsed = parse_row(r#"{"a": NaN, "b": -Infinity, "c": [Infinity], "d": "NaN \\", "e": 1}"#).unwrap();
        assert_eq!(parsed, json!({"a": null, "b": null, "c": [null], "d": "NaN \\", "e": 1}));
        for broken in ["", "{", "NaN\\", "\"\\", "{\"ä\": NaN"] {
            let _ = parse_row(broken);
        }
        assert_eq!(Item::new("a", &json!("NaN")).json, "NaN");
    }

    #[test]
    fn an_address_keeps_the_servers_path_and_escapes_names() {
        let base = Url::parse("https://host/wandb/").unwrap();
        let url = address(&base, &["files", "a team", "p?", "r"]).unwrap();
        assert_eq!(url.as_str(), "https://host/wandb/files/a%20team/p%3F/r");
    }
}
