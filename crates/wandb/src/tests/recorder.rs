//! A server that does with a run what Weights & Biases does, and misbehaves on request.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex};

use serde_json::{Value, json};
use test_server::{Faults, serve};

pub(super) const ENTITY: &str = "someone";

/// What is done with a request instead of serving it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Answers with this status.
    Status(u16),
    /// Redirects with this status to the address of `Recorder::redirect_to`.
    Redirect(u16),
    /// Closes the connection at once.
    Cut,
    /// Serves the request and closes the connection without an answer.
    Unanswered,
    /// Serves the request once `Recorder::release` is called.
    Hold,
}

#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) path: String,
    pub(super) authorization: Option<String>,
    server: String,
    pub(super) body: Vec<u8>,
}

impl Request {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

#[derive(Default)]
struct State {
    requests: Vec<Request>,
    /// What is known of each run: the lines of its streams by offset, its config.
    runs: BTreeMap<String, BTreeMap<String, BTreeMap<u64, String>>>,
    configs: BTreeMap<String, Value>,
    uploads: BTreeMap<String, Vec<u8>>,
    /// Of requests by the end of their path.
    faults: Faults<&'static str, Fault>,
    redirect_to: String,
    is_stopped: bool,
    is_released: bool,
}

#[derive(Clone)]
pub(super) struct Recorder {
    state: Arc<(Mutex<State>, Condvar)>,
    pub(super) url: String,
}

impl Recorder {
    pub(super) fn start() -> Self {
        let state = Arc::<(Mutex<State>, Condvar)>::default();
        let served = Self { state: Arc::clone(&state), url: String::new() };
        Self { state, url: serve(move |request| served.serve(request)) }
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state.0.lock().unwrap());
        self.state.1.notify_all();
        result
    }

    pub(super) fn fault_next(&self, path: &'static str, faults: &[Fault]) {
        self.with(|state| state.faults.next(path, faults.iter().copied()));
    }

    pub(super) fn fault_always(&self, path: &'static str, fault: Fault) {
        self.with(|state| state.faults.always(path, fault));
    }

    pub(super) fn behave(&self) {
        self.with(|state| state.faults.clear());
    }

    pub(super) fn redirect_to(&self, address: &str) {
        self.with(|state| state.redirect_to = address.to_owned());
    }

    pub(super) fn release(&self) {
        self.with(|state| state.is_released = true);
    }

    pub(super) fn press_stop(&self) {
        self.with(|state| state.is_stopped = true);
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        self.with(|state| state.requests.clone())
    }

    pub(super) fn operations(&self, name: &str) -> Vec<Value> {
        let all = self.requests().into_iter().map(|request| request.json());
        all.filter(|body| body["operationName"] == name).map(|body| body["variables"].clone()).collect()
    }

    pub(super) fn uploads(&self) -> BTreeMap<String, Vec<u8>> {
        self.with(|state| state.uploads.clone())
    }

    /// The lines of a stream; panics where one is missing.
    pub(super) fn lines(&self, run: &str, stream: &str) -> Vec<String> {
        let lines = self.with(|state| state.runs.get(run).and_then(|run| run.get(stream)).cloned()).unwrap_or_default();
        let offsets: Vec<u64> = lines.keys().copied().collect();
        assert_eq!(offsets, (0..lines.len() as u64).collect::<Vec<_>>(), "{stream} has a hole");
        lines.into_values().collect()
    }

    /// The steps of the history, in the order of its lines.
    pub(super) fn steps(&self, run: &str) -> Vec<u64> {
        let rows = self.lines(run, "wandb-history.jsonl");
        rows.iter().map(|row| parse(row)["_step"].as_u64().unwrap()).collect()
    }

    /// Puts lines there as an earlier session would have.
    pub(super) fn keep(&self, run: &str, stream: &str, lines: &[String]) {
        self.with(|state| {
            let kept = state.runs.entry(run.to_owned()).or_default().entry(stream.to_owned()).or_default();
            kept.extend((0..).zip(lines.iter().cloned()));
        });
    }

    fn serve(&self, asked: &mut test_server::Request) -> io::Result<()> {
        let authorization = asked.header("authorization").map(str::to_owned);
        let request = Request { path: asked.path.clone(), authorization, server: asked.server(), body: asked.body()? };
        let (fault, location) = self.with(|state| {
            state.requests.push(request.clone());
            (state.faults.take(|path| request.path.ends_with(path)), state.redirect_to.clone())
        });
        match fault {
            Some(Fault::Cut) => return Ok(()),
            Some(Fault::Redirect(status)) => {
                return asked.reply(&format!("{status} x"), &format!("Location: {location}\r\n"), "{}");
            }
            Some(Fault::Status(status)) => {
                return asked.reply(&format!("{status} x"), "", json!({ "error": "as requested" }).to_string());
            }
            Some(Fault::Unanswered) => {
                self.answer(&request);
                return Ok(());
            }
            Some(Fault::Hold) => {
                let held = self.state.0.lock().unwrap();
                drop(self.state.1.wait_while(held, |state| !state.is_released).unwrap());
            }
            None => {}
        }
        asked.reply("200 OK", "", self.answer(&request).to_string())
    }

    fn answer(&self, request: &Request) -> Value {
        self.with(|state| {
            let body = request.json();
            let parts: Vec<&str> = request.path.trim_start_matches('/').split('/').collect();
            match &parts[..] {
                ["files", _, _, run, "file_stream"] => state.stream(run, &body),
                ["storage", name @ ..] => {
                    state.uploads.insert(name.join("/"), request.body.clone());
                    json!({})
                }
                _ => json!({ "data": state.graphql(&body, &request.server) }),
            }
        })
    }
}

impl State {
    fn stream(&mut self, run: &str, body: &Value) -> Value {
        let kept = self.runs.entry(run.to_owned()).or_default();
        for (name, part) in body["files"].as_object().into_iter().flatten() {
            let lines = part["content"].as_array().unwrap().iter().map(|line| line.as_str().unwrap().to_owned());
            kept.entry(name.clone()).or_default().extend((part["offset"].as_u64().unwrap()..).zip(lines));
        }
        if self.is_stopped { json!({ "stopped": true }) } else { json!({ "exitcode": null }) }
    }

    fn graphql(&mut self, body: &Value, server: &str) -> Value {
        let variables = &body["variables"];
        let name = variables["name"].as_str().unwrap_or_default();
        match body["operationName"].as_str().unwrap_or_default() {
            "UpsertBucket" => {
                self.runs.entry(name.to_owned()).or_default();
                let config = serde_json::from_str(variables["config"].as_str().unwrap()).unwrap();
                self.configs.insert(name.to_owned(), config);
                let project = json!({ "name": variables["project"], "entity": { "name": ENTITY } });
                json!({ "upsertBucket": { "bucket": { "id": "1", "name": name, "project": project }, "inserted": true } })
            }
            "RunResumeStatus" => {
                let Some(run) = self.runs.get(name) else { return json!({ "model": { "bucket": null } }) };
                let count = |stream: &str| run.get(stream).map_or(0, BTreeMap::len);
                let history = run.get("wandb-history.jsonl");
                let tail: Vec<&String> = history.iter().flat_map(|lines| lines.values()).collect();
                let tail = &tail[tail.len().saturating_sub(1)..];
                json!({ "model": { "bucket": {
                    "id": "1",
                    "name": name,
                    "historyLineCount": count("wandb-history.jsonl"),
                    "eventsLineCount": count("wandb-events.jsonl"),
                    "logLineCount": count("output.log"),
                    "historyTail": json!(tail).to_string(),
                    "summaryMetrics": "{}",
                } } })
            }
            "CreateRunFiles" => {
                let names = variables["files"].as_array().unwrap().iter().map(|name| name.as_str().unwrap());
                let file = |name| json!({ "name": name, "uploadUrl": format!("{server}/storage/{name}") });
                let files: Vec<Value> = names.map(file).collect();
                json!({ "createRunFiles": { "runID": "1", "uploadHeaders": ["X-Test: yes"], "files": files } })
            }
            other => panic!("an unknown operation: {other:?}"),
        }
    }
}

/// A row; NaN is not JSON.
fn parse(row: &str) -> Value {
    serde_json::from_str(&row.replace(":NaN", ":null")).unwrap()
}
