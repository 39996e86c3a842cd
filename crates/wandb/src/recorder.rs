//! A small HTTP server for tests that does what Weights & Biases does with a run, and misbehaves when told to.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use serde_json::{Value, json};

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
    /// Faults of the next requests whose path ends so.
    faults: VecDeque<(&'static str, Fault)>,
    /// A fault of all requests whose path ends so.
    lasting: Option<(&'static str, Fault)>,
    redirect_to: String,
    is_stopped: bool,
    is_released: bool,
    port: u16,
}

#[derive(Clone)]
pub(super) struct Recorder {
    state: Arc<(Mutex<State>, Condvar)>,
    pub(super) url: String,
}

impl Recorder {
    pub(super) fn start() -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    pub(super) fn on(listener: TcpListener) -> Self {
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new((Mutex::new(State { port, ..State::default() }), Condvar::new()));
        let recorder = Self { state, url: format!("http://127.0.0.1:{port}") };
        let served = recorder.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let recorder = served.clone();
                thread::spawn(move || recorder.serve(&stream));
            }
        });
        recorder
    }

    /// An address at which nobody listens.
    pub(super) fn dead_url() -> String {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        format!("http://127.0.0.1:{port}")
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state.0.lock().unwrap());
        self.state.1.notify_all();
        result
    }

    pub(super) fn fault_next(&self, path: &'static str, faults: &[Fault]) {
        self.with(|state| state.faults.extend(faults.iter().map(|fault| (path, *fault))));
    }

    pub(super) fn fault_always(&self, path: &'static str, fault: Option<Fault>) {
        self.with(|state| state.lasting = fault.map(|fault| (path, fault)));
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

    fn serve(&self, stream: &TcpStream) {
        let mut reader = BufReader::new(stream);
        while let Some(request) = read_request(&mut reader) {
            let fault = self.with(|state| {
                state.requests.push(request.clone());
                let next = state.faults.iter().position(|(path, _)| request.path.ends_with(path));
                let next = next.and_then(|index| state.faults.remove(index));
                let lasting = state.lasting.filter(|(path, _)| request.path.ends_with(path));
                next.or(lasting).map(|(_, fault)| fault)
            });
            let mut location = String::new();
            let answer = match fault {
                Some(Fault::Cut) => return,
                Some(Fault::Redirect(status)) => {
                    location = self.with(|state| format!("Location: {}\r\n", state.redirect_to));
                    (status, json!({}))
                }
                Some(Fault::Status(status)) => (status, json!({ "error": "as told" })),
                Some(Fault::Unanswered) => {
                    self.answer(&request);
                    return;
                }
                Some(Fault::Hold) => {
                    let held = self.state.0.lock().unwrap();
                    drop(self.state.1.wait_while(held, |state| !state.is_released).unwrap());
                    (200, self.answer(&request))
                }
                None => (200, self.answer(&request)),
            };
            let body = answer.1.to_string();
            let head = format!("HTTP/1.1 {} x\r\n{location}Content-Length: {}\r\n\r\n", answer.0, body.len());
            if (&mut &*stream).write_all(format!("{head}{body}").as_bytes()).is_err() {
                return;
            }
        }
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
                _ => json!({ "data": state.graphql(&body) }),
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

    fn graphql(&mut self, body: &Value) -> Value {
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
                let port = self.port;
                let file =
                    |name| json!({ "name": name, "uploadUrl": format!("http://127.0.0.1:{port}/storage/{name}") });
                let files: Vec<Value> = names.map(file).collect();
                json!({ "createRunFiles": { "runID": "1", "uploadHeaders": ["X-Test: yes"], "files": files } })
            }
            other => panic!("an operation that this server does not know: {other:?}"),
        }
    }
}

/// A row, in which NaN is no JSON.
fn parse(row: &str) -> Value {
    serde_json::from_str(&row.replace(":NaN", ":null")).unwrap()
}

/// `None` at the end of the connection.
fn read_request(reader: &mut BufReader<&TcpStream>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
    let path = line.split(' ').nth(1)?.to_owned();
    let (mut length, mut authorization) = (0, None);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok().filter(|length| *length > 0)?;
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().ok()?,
            "authorization" => authorization = Some(value.to_owned()),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { path, authorization, body })
}
