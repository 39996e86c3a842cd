//! Uploads to a Hub on this machine that speaks the protocol of the real one, keeps what it gets, and misbehaves when
//! told to.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::*;
use crate::UploadStopped;
use crate::testing::git_blob;
use base::digest::sha256;
use base::error::{describe, is_usage_error};
use test_server::{Faults, Request, closed_address, serve};

const TOKEN: &str = "hf_secret";
const ID: &str = "owner/name";
/// The model's large files: one is more than a piece, the other three parts.
const WHOLE_BYTES: usize = 250_000;
const PARTED_BYTES: usize = 400_001;

/// Which request an answer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum To {
    Account,
    Create,
    Card,
    Head,
    Preupload,
    Batch,
    Put,
    Complete,
    Verify,
    Commit,
}

const EACH: [To; 10] = [
    To::Account,
    To::Create,
    To::Card,
    To::Head,
    To::Preupload,
    To::Batch,
    To::Put,
    To::Complete,
    To::Verify,
    To::Commit,
];

/// What the Hub does instead of the right thing.
#[derive(Clone, Copy, Debug)]
enum Answer {
    /// A status, headers that end in `\r\n`, and a body.
    Status(&'static str, &'static str, &'static str),
    /// These bytes and nothing else.
    Raw(&'static [u8]),
    /// The connection ends after this many bytes of what is sent.
    Cut(usize),
    /// No more than this many bytes of what is sent are read.
    Stall(usize),
    /// The right thing, and then not a word.
    Mute,
}

const UNAUTHORIZED: Answer = Answer::Status("401 Unauthorized", "", r#"{"error":"Invalid credentials"}"#);
const FORBIDDEN: Answer = Answer::Status("403 Forbidden", "", r#"{"error":"You have no rights here"}"#);
const TROUBLE: Answer = Answer::Status("500 Internal Server Error", "", "");

type Hook = Box<dyn FnMut(&mut State) + Send>;

#[derive(Default)]
struct State {
    /// Whether the repository is private; `None` before there is one.
    is_private: Option<bool>,
    num_commits: usize,
    /// Paths in the repository; the name of the content and the content.
    files: BTreeMap<String, (String, Vec<u8>)>,
    storage: BTreeMap<String, Vec<u8>>,
    parts: BTreeMap<String, BTreeMap<usize, Vec<u8>>>,
    /// The message of each commit, and the paths in it.
    commits: Vec<(String, Vec<String>)>,
    verified: Vec<Value>,
    requests: Vec<String>,
    faults: Faults<To, Answer>,
    /// Done when the next request of a kind has come.
    hook: Option<(To, Hook)>,
    ignored: &'static str,
    /// A content of more bytes goes to the storage in parts, and of how many each.
    most_at_once: usize,
    part_bytes: usize,
}

impl State {
    fn commit(&self) -> String {
        format!("{:040x}", self.num_commits)
    }
}

/// A Hub and its storage, which is another server.
struct Hub {
    address: String,
    state: Arc<Mutex<State>>,
}

impl Hub {
    fn new() -> Self {
        let state = State { most_at_once: 300_000, part_bytes: 200_000, ..State::default() };
        let state = Arc::new(Mutex::new(state));
        let storage = start(&state, String::new());
        Self { address: start(&state, storage), state }
    }

    fn with_repository() -> Self {
        let hub = Self::new();
        {
            let mut state = hub.state();
            (state.is_private, state.num_commits) = (Some(true), 1);
        }
        hub
    }

    fn next(self, to: To, answers: impl IntoIterator<Item = Answer>) -> Self {
        self.state().faults.next(to, answers);
        self
    }

    fn always(self, to: To, answer: Answer) -> Self {
        self.state().faults.always(to, answer);
        self
    }

    fn hook(self, to: To, hook: impl FnMut(&mut State) + Send + 'static) -> Self {
        self.state().hook = Some((to, Box::new(hook)));
        self
    }

    fn behave(&self) {
        let mut state = self.state();
        state.faults.clear();
        state.requests.clear();
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Those that begin so.
    fn requests(&self, beginning: &str) -> Vec<String> {
        self.state().requests.iter().filter(|request| request.starts_with(beginning)).cloned().collect()
    }

    /// How many commits were made by uploads.
    fn made(&self) -> usize {
        self.state().commits.len()
    }

    fn head(&self) -> String {
        self.state().commit()
    }

    fn assert_has(&self, files: &[(String, PathBuf)]) {
        let state = self.state();
        let names: Vec<&String> = state.files.keys().collect();
        assert_eq!(names.len(), files.len(), "{names:?}");
        for (name, path) in files {
            assert!(state.files[name].1 == fs::read(path).unwrap(), "{name} is another one");
        }
    }
}

/// Bytes that repeat nowhere near.
fn bytes(length: usize, seed: u32) -> Vec<u8> {
    let mut value = seed;
    let mut next = || {
        value = value.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (value >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}

fn start(state: &Arc<Mutex<State>>, storage: String) -> String {
    let state = Arc::clone(state);
    serve(move |request| respond(request, &state, &storage))
}

fn kind(method: &str, path: &str) -> Option<To> {
    Some(match path {
        "/api/whoami-v2" => To::Account,
        "/api/repos/create" => To::Create,
        "/api/validate-yaml" => To::Card,
        _ if path.ends_with("/revision/main") => To::Head,
        _ if path.ends_with("/preupload/main") => To::Preupload,
        _ if path.ends_with("/commit/main") => To::Commit,
        _ if path.ends_with(".git/info/lfs/objects/batch") => To::Batch,
        _ if path.starts_with("/complete/") => To::Complete,
        "/verify" => To::Verify,
        _ if method == "PUT" => To::Put,
        _ => return None,
    })
}

fn respond(request: &mut Request, state: &Mutex<State>, storage: &str) -> io::Result<()> {
    let (method, path) = (request.method.clone(), request.path.clone());
    assert!(request.header("transfer-encoding").is_none(), "the storage takes no chunks");
    let to = kind(&method, &path);
    let (answer, hook) = {
        let mut state = state.lock().unwrap();
        let token = request.header("authorization").map_or(String::new(), |token| format!(" with {token}"));
        state.requests.push(format!("{method} {path}{token}"));
        (state.faults.take(|kind| Some(kind) == to), state.hook.take_if(|(kind, _)| Some(*kind) == to))
    };
    if let Some((_, mut hook)) = hook {
        hook(&mut state.lock().unwrap());
    }
    match answer {
        Some(Answer::Cut(bytes)) => return request.read_some(bytes),
        Some(Answer::Stall(bytes)) => {
            request.read_some(bytes)?;
            std::thread::sleep(Duration::from_secs(20));
            return Ok(());
        }
        _ => {}
    }
    let body = request.body()?;
    let (status, headers, reply) = match answer {
        Some(Answer::Raw(bytes)) => return request.send(bytes),
        Some(Answer::Status(status, headers, body)) => return request.reply(status, headers, body),
        _ if path.contains("/old/") => {
            let headers = format!("Location: {}\r\n", path.replace("/old/", "/name/"));
            return request.reply("307 Temporary Redirect", &headers, "");
        }
        _ => handle(to, &path, &body, &mut state.lock().unwrap(), &request.server(), storage),
    };
    if let Some(Answer::Mute) = answer {
        return Ok(());
    }
    request.reply(&status, &headers, reply)
}

type Reply = (String, String, String);

fn ok(body: Value) -> Reply {
    ("200 OK".to_owned(), "Content-Type: application/json\r\n".to_owned(), body.to_string())
}

fn refuse(status: &str, error: &str) -> Reply {
    (status.to_owned(), String::new(), json!({"error": error}).to_string())
}

fn handle(to: Option<To>, path: &str, body: &[u8], state: &mut State, own: &str, storage: &str) -> Reply {
    let parsed: Value = serde_json::from_slice(body).unwrap_or_default();
    match to {
        Some(To::Account) => ok(json!({"type": "user", "name": "owner", "orgs": []})),
        Some(To::Create) if state.is_private.is_some() => {
            let error = json!({"error": "You already created this model repo", "url": format!("{own}/owner/name")});
            ("409 Conflict".to_owned(), String::new(), error.to_string())
        }
        Some(To::Create) => {
            let expected = |private: &str| json!({"name": "name", "organization": "owner", "type": "model", "visibility": private});
            assert!(parsed == expected("private") || parsed == expected("public"), "{parsed}");
            (state.is_private, state.num_commits) = (Some(parsed["visibility"] == "private"), 1);
            ok(json!({"url": format!("{own}/owner/name")}))
        }
        Some(To::Card) => match parsed["content"].as_str().unwrap() {
            card if card.contains("bad") => {
                let errors = json!({"errors": [{"message": "\"license\" must be one of [mit]"}], "warnings": []});
                ("400 Bad Request".to_owned(), String::new(), errors.to_string())
            }
            _ => ok(json!({"errors": [], "warnings": [{"message": "empty or missing yaml metadata"}]})),
        },
        _ if state.is_private.is_none() && !path.starts_with("/stored/") => {
            ("404 Not Found".to_owned(), "X-Error-Code: RepoNotFound\r\n".to_owned(), String::new())
        }
        Some(To::Head) => ok(json!({"id": ID, "private": state.is_private, "sha": state.commit(), "siblings": []})),
        Some(To::Preupload) => {
            let verdict = |file: &Value| {
                let name = file["path"].as_str().unwrap();
                assert!(STANDARD.decode(file["sample"].as_str().unwrap()).unwrap().len() <= 512);
                let is_large = name.ends_with(".safetensors");
                let mut verdict = json!({
                    "path": name,
                    "uploadMode": if is_large { "lfs" } else { "regular" },
                    "shouldIgnore": name == state.ignored,
                });
                if let Some((oid, _)) = state.files.get(name) {
                    verdict["oid"] = oid.as_str().into();
                }
                verdict
            };
            ok(json!({"files": parsed["files"].as_array().unwrap().iter().map(verdict).collect::<Vec<_>>()}))
        }
        Some(To::Batch) => ok(json!({
            "transfer": "basic",
            "objects": parsed["objects"].as_array().unwrap().iter()
                .map(|object| object_for(object, state, own, storage)).collect::<Vec<_>>(),
        })),
        Some(To::Put) => {
            let (oid, part) = path.strip_prefix("/stored/").unwrap().split_once('/').unwrap();
            if part == "whole" {
                state.storage.insert(oid.to_owned(), body.to_vec());
            } else {
                state.parts.entry(oid.to_owned()).or_default().insert(part.parse().unwrap(), body.to_vec());
            }
            ("200 OK".to_owned(), format!("ETag: \"{}\"\r\n", sha256(body)), String::new())
        }
        Some(To::Complete) => {
            let oid = path.strip_prefix("/complete/").unwrap();
            let Some(parts) = state.parts.remove(oid) else { return refuse("404 Not Found", "no such upload") };
            let tag = |(number, part): (&usize, &Vec<u8>)| json!({"partNumber": number, "etag": format!("\"{}\"", sha256(part))});
            let tags: Vec<Value> = parts.iter().map(tag).collect();
            assert_eq!(parsed, json!({"oid": oid, "parts": tags}));
            state.storage.insert(oid.to_owned(), parts.into_values().flatten().collect());
            ok(json!({"success": true}))
        }
        Some(To::Verify) => {
            state.verified.push(parsed);
            ok(json!({}))
        }
        Some(To::Commit) => commit(body, state),
        None => refuse("404 Not Found", "no such thing"),
    }
}

fn object_for(object: &Value, state: &State, own: &str, storage: &str) -> Value {
    let (oid, size) = (object["oid"].as_str().unwrap(), object["size"].as_u64().unwrap() as usize);
    if state.storage.contains_key(oid) {
        return object.clone();
    }
    let upload = if size > state.most_at_once {
        let mut header = json!({"chunk_size": state.part_bytes.to_string()});
        for part in 1..=size.div_ceil(state.part_bytes) {
            header[format!("{part:05}")] = format!("{storage}/stored/{oid}/{part}").into();
        }
        json!({"href": format!("{own}/complete/{oid}"), "header": header})
    } else {
        json!({"href": format!("{storage}/stored/{oid}/whole")})
    };
    json!({"oid": oid, "size": size, "actions": {"upload": upload, "verify": {"href": format!("{own}/verify")}}})
}

fn commit(body: &[u8], state: &mut State) -> Reply {
    let lines = std::str::from_utf8(body).unwrap().lines().map(|line| serde_json::from_str(line).unwrap());
    let lines: Vec<Value> = lines.collect();
    assert_eq!(lines[0]["key"], "header");
    if lines[0]["value"]["parentCommit"] != state.commit().as_str() {
        return refuse("412 Precondition Failed", "A commit has happened since. Please refresh and try again.");
    }
    let mut paths = Vec::new();
    for line in &lines[1..] {
        let value = &line["value"];
        let path = value["path"].as_str().unwrap().to_owned();
        let content = match line["key"].as_str().unwrap() {
            "file" => {
                assert_eq!(value["encoding"], "base64");
                let content = STANDARD.decode(value["content"].as_str().unwrap()).unwrap();
                (git_blob(&content), content)
            }
            "lfsFile" => {
                let oid = value["oid"].as_str().unwrap().to_owned();
                let Some(content) = state.storage.get(&oid).filter(|content| sha256(content) == oid) else {
                    return refuse("400 Bad Request", "LFS pointer pointed to a file that does not exist");
                };
                assert_eq!(
                    (value["algo"].as_str(), value["size"].as_u64()),
                    (Some("sha256"), Some(content.len() as u64))
                );
                (oid, content.clone())
            }
            key => panic!("unknown key {key}"),
        };
        state.files.insert(path.clone(), content);
        paths.push(path);
    }
    state.num_commits += 1;
    state.commits.push((lines[0]["value"]["summary"].as_str().unwrap().to_owned(), paths));
    let commit = state.commit();
    ok(
        json!({"success": true, "commitOid": commit, "commitUrl": format!("https://huggingface.co/{ID}/commit/{commit}")}),
    )
}

fn conditions() -> Conditions {
    let patience = Patience {
        retries: 3,
        retries_unreached: 1,
        first_wait: Duration::from_millis(1),
        max_wait: Duration::from_secs(5),
        connecting: Duration::from_secs(20),
        silence: Duration::from_secs(20),
    };
    Conditions { token: Some(TOKEN.to_owned()), patience }
}

fn settings(address: &str) -> Settings {
    Settings { endpoint: Some(address.to_owned()), cache: None, offline: false }
}

fn request(files: Vec<(String, PathBuf)>) -> Upload {
    Upload { repo: ID.to_owned(), private: true, message: "A \"first\" model".to_owned(), files }
}

fn on_disk(folder: &Path, name: &str, content: &[u8]) -> (String, PathBuf) {
    let path = folder.join(name.replace('/', "_"));
    fs::write(&path, content).unwrap();
    (name.to_owned(), path)
}

/// A card, a small file, a large one in one piece and a large one in parts.
fn model(folder: &Path) -> Vec<(String, PathBuf)> {
    vec![
        on_disk(folder, "README.md", b"---\nlicense: mit\n---\n"),
        on_disk(folder, "tokenizer/vocab.json", b"{}\n"),
        on_disk(folder, "model.safetensors", &bytes(WHOLE_BYTES, 1)),
        on_disk(folder, "other.safetensors", &bytes(PARTED_BYTES, 2)),
    ]
}

fn upload(hub: &Hub, request: &Upload) -> anyhow::Result<Uploaded> {
    run(request, &settings(&hub.address), &conditions(), &StopFlag::default())
}

/// The text of the failure of an upload of a model.
fn refusal(hub: &Hub) -> String {
    let folder = tempfile::tempdir().unwrap();
    let text = describe(&upload(hub, &request(model(folder.path()))).unwrap_err()).replace(&hub.address, "HUB");
    assert!(!text.contains(TOKEN) && text.contains("hint: "), "{text}");
    text
}

#[test]
fn files_of_every_kind_arrive_byte_for_byte_in_one_commit() {
    let (hub, folder) = (Hub::new(), tempfile::tempdir().unwrap());
    let mut files = model(folder.path());
    files.push(on_disk(folder.path(), "empty.txt", b""));
    files.push(on_disk(folder.path(), "empty.safetensors", b""));
    // More than a piece, and not a multiple of three.
    files.push(on_disk(folder.path(), "a/b c/\u{fc} \"q\".json", &bytes(400_001, 3)));
    files.push(on_disk(folder.path(), "exact.json", &bytes(3 << 16, 4)));
    let request = request(files);
    let uploaded = upload(&hub, &request).unwrap();
    hub.assert_has(&request.files);
    let state = hub.state();
    assert_eq!(uploaded, Uploaded { url: format!("{}/{ID}", hub.address), commit: state.commit() });
    let names: Vec<String> = request.files.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(state.commits, [("A \"first\" model".to_owned(), names)]);
    assert_eq!((state.is_private, state.verified.len(), state.storage.len()), (Some(true), 2, 2));
    let (one, parted) = (sha256(&bytes(WHOLE_BYTES, 1)), sha256(&bytes(PARTED_BYTES, 2)));
    let with = format!(" with Bearer {TOKEN}");
    let expected = [
        format!("POST /api/repos/create{with}"),
        format!("POST /api/validate-yaml{with}"),
        format!("GET /api/models/owner/name/revision/main{with}"),
        format!("POST /api/models/owner/name/preupload/main{with}"),
        format!("POST /owner/name.git/info/lfs/objects/batch{with}"),
        format!("PUT /stored/{one}/whole"),
        format!("POST /verify{with}"),
        format!("PUT /stored/{parted}/1"),
        format!("PUT /stored/{parted}/2"),
        format!("PUT /stored/{parted}/3"),
        format!("POST /complete/{parted}"),
        format!("POST /verify{with}"),
        format!("POST /api/models/owner/name/commit/main{with}"),
    ];
    assert_eq!(state.requests, expected, "the storage does not get the token");
}

#[test]
fn a_second_upload_sends_what_changed_and_a_third_one_nothing() {
    let (hub, folder) = (Hub::new(), tempfile::tempdir().unwrap());
    let mut wanted = request(model(folder.path()));
    upload(&hub, &wanted).unwrap();
    hub.behave();
    wanted.files[1] = on_disk(folder.path(), "tokenizer/vocab.json", b"{\"a\": 0}\n");
    wanted.files[3] = on_disk(folder.path(), "other.safetensors", &bytes(1_000, 5));
    let second = upload(&hub, &wanted).unwrap();
    hub.assert_has(&wanted.files);
    let changed = ["tokenizer/vocab.json".to_owned(), "other.safetensors".to_owned()];
    assert_eq!(hub.state().commits[1].1, changed);
    assert_eq!(hub.requests("PUT ").len(), 1);
    hub.behave();
    assert_eq!(upload(&hub, &wanted).unwrap(), second);
    assert_eq!((hub.made(), hub.requests("").len()), (2, 4), "{:?}", hub.requests(""));
}

#[test]
fn a_name_alone_is_one_of_the_tokens_owner() {
    let (hub, folder) = (Hub::new(), tempfile::tempdir().unwrap());
    let wanted = Upload { repo: "name".to_owned(), private: false, ..request(model(folder.path())) };
    assert_eq!(upload(&hub, &wanted).unwrap().url, format!("{}/owner/name", hub.address));
    assert_eq!(hub.state().is_private, Some(false));
    assert!(hub.state().requests[0].starts_with("GET /api/whoami-v2 with "));
}

#[test]
fn a_repository_that_is_there_is_used_also_where_the_token_may_not_make_one_or_it_was_renamed() {
    for (repo, answers) in [(ID, vec![]), (ID, vec![FORBIDDEN]), ("owner/old", vec![])] {
        let (hub, folder) = (Hub::with_repository().next(To::Create, answers), tempfile::tempdir().unwrap());
        let wanted = Upload { repo: repo.to_owned(), ..request(model(folder.path())) };
        assert_eq!(upload(&hub, &wanted).unwrap().url, format!("{}/{ID}", hub.address));
        hub.assert_has(&wanted.files);
    }
}

#[test]
fn two_creations_at_once_are_waited_out() {
    let busy = r#"{"error":"Cannot create repo: another conflicting operation is in progress"}"#;
    let hub = Hub::new().next(To::Create, [Answer::Status("409 Conflict", "", busy); 2]);
    let folder = tempfile::tempdir().unwrap();
    upload(&hub, &request(model(folder.path()))).unwrap();
    assert_eq!(hub.requests("POST /api/repos/create").len(), 3);
}

#[test]
fn nothing_private_goes_into_a_public_repository() {
    let hub = Hub::with_repository();
    hub.state().is_private = Some(false);
    insta::assert_snapshot!(refusal(&hub), @r"
    owner/name already exists and is public, but a private repository was requested
      hint: make it private at HUB/owner/name/settings, choose another name, or upload it as public
    ");
    assert!(hub.requests("POST /api/models").is_empty());
}

#[test]
fn a_token_that_is_not_accepted_or_may_not_write_is_reported_with_the_way_out() {
    insta::assert_snapshot!(refusal(&Hub::new().always(To::Create, UNAUTHORIZED)), @r"
    cannot create the model owner/name: HUB does not accept the token
      caused by: the server answered 401 Unauthorized: Invalid credentials
      hint: log in again with `hf auth login`, or set HF_TOKEN to a token from HUB/settings/tokens
    ");
    insta::assert_snapshot!(refusal(&Hub::new().always(To::Create, FORBIDDEN)), @r"
    the token has no permission to create the model owner/name at HUB
      caused by: the server answered 403 Forbidden: You have no rights here
      hint: check that the owner is you or an organization of yours, and that the token has write access: HUB/settings/tokens
    ");
    for to in [To::Head, To::Preupload, To::Batch] {
        for (answer, text) in
            [(UNAUTHORIZED, "does not accept the token"), (FORBIDDEN, "no permission to upload to the model")]
        {
            let hub = Hub::with_repository().always(to, answer);
            assert!(refusal(&hub).contains(text), "{to:?}");
            assert!(hub.requests("PUT ").is_empty() && hub.made() == 0);
        }
    }
    assert!(
        refusal(&Hub::new().always(To::Commit, FORBIDDEN))
            .starts_with("the token has no permission to commit to the model")
    );
}

#[test]
fn what_arrived_before_a_failure_is_not_sent_again() {
    let (hub, folder) = (Hub::new().next(To::Commit, [FORBIDDEN]), tempfile::tempdir().unwrap());
    let wanted = request(model(folder.path()));
    upload(&hub, &wanted).unwrap_err();
    hub.behave();
    upload(&hub, &wanted).unwrap();
    hub.assert_has(&wanted.files);
    assert!(hub.requests("PUT ").is_empty());
}

#[test]
fn trouble_of_the_server_is_tried_again_until_it_stays() {
    let gone = Answer::Status("503 Service Unavailable", "", "<html>");
    let busy = Answer::Status("429 Too Many Requests", "Retry-After: 0\r\n", "");
    let folder = tempfile::tempdir().unwrap();
    let mut wanted = request(model(folder.path()));
    wanted.repo = "name".to_owned();
    let mut hub = Hub::new();
    for to in EACH {
        hub = hub.next(to, [TROUBLE, gone, busy]);
    }
    upload(&hub, &wanted).unwrap();
    hub.assert_has(&wanted.files);
    assert_eq!(hub.made(), 1);
    // A card is judged with the commit at the latest.
    for to in EACH.into_iter().filter(|to| *to != To::Card) {
        let hub = Hub::new().always(to, TROUBLE);
        let text = describe(&upload(&hub, &wanted).unwrap_err());
        assert!(text.contains("caused by: the server answered 500 Internal Server Error"), "{to:?}: {text}");
        assert!(text.contains("hint: try again later; run the same command to continue"), "{to:?}: {text}");
        assert!(hub.made() == 0);
    }
}

#[test]
fn a_wait_that_the_server_asks_for_is_kept_unless_it_is_too_long() {
    let (hub, folder) = (Hub::new(), tempfile::tempdir().unwrap());
    let hub = hub.next(To::Put, [Answer::Status("429 Too Many Requests", "Retry-After: 1\r\n", "")]);
    upload(&hub, &request(model(folder.path()))).unwrap();
    let hub = Hub::new().always(To::Preupload, Answer::Status("429 Too Many Requests", "Retry-After: 99\r\n", ""));
    insta::assert_snapshot!(refusal(&hub), @r"
    cannot upload to the model owner/name at HUB
      caused by: the server answered 429 Too Many Requests; it asks to wait 99s
      hint: wait a few minutes; run the same command to continue
    ");
    assert_eq!(hub.requests("POST /api/models").len(), 1);
}

#[test]
fn a_connection_that_is_cut_while_a_file_is_sent_costs_this_piece_alone() {
    let cuts = [Answer::Cut(100_000), Answer::Cut(0)];
    let hub = Hub::new().next(To::Put, cuts);
    let folder = tempfile::tempdir().unwrap();
    let wanted = request(vec![on_disk(folder.path(), "a.safetensors", &bytes(WHOLE_BYTES, 1))]);
    upload(&hub, &wanted).unwrap();
    hub.assert_has(&wanted.files);
    assert_eq!(hub.requests("PUT ").len(), 3);
    // The second part is cut once, the others are sent once.
    let hub = Hub::new().hook(To::Put, |state| state.faults.next(To::Put, [Answer::Cut(100_000)]));
    let wanted = request(vec![on_disk(folder.path(), "a.safetensors", &bytes(PARTED_BYTES, 2))]);
    upload(&hub, &wanted).unwrap();
    hub.assert_has(&wanted.files);
    let puts = hub.requests("PUT ").iter().map(|put| put.rsplit('/').next().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(puts, ["1", "2", "2", "3"]);
    let text = refusal(&Hub::new().always(To::Put, Answer::Cut(1_000)));
    assert!(text.starts_with("cannot upload model.safetensors to the model owner/name at HUB"), "{text}");
    assert!(text.contains("hint: check the network; run the same command to continue"), "{text}");
}

#[test]
fn a_commit_whose_answer_is_lost_is_made_once() {
    let lost: [&[Answer]; 5] = [
        &[Answer::Mute],
        &[Answer::Cut(10)],
        &[Answer::Cut(10), Answer::Mute],
        &[Answer::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")],
        &[TROUBLE, Answer::Mute],
    ];
    for answers in lost {
        let (hub, folder) = (Hub::new().next(To::Commit, answers.iter().copied()), tempfile::tempdir().unwrap());
        let wanted = request(model(folder.path()));
        let uploaded = upload(&hub, &wanted).unwrap();
        hub.assert_has(&wanted.files);
        assert_eq!((hub.made(), uploaded.commit), (1, hub.head()), "{answers:?}");
        assert_eq!(hub.requests("PUT ").len(), 4, "{answers:?}");
    }
}

#[test]
fn a_commit_of_somebody_else_in_between_is_built_upon() {
    let hub = Hub::new().hook(To::Commit, |state| state.num_commits += 1);
    let folder = tempfile::tempdir().unwrap();
    let wanted = request(model(folder.path()));
    let uploaded = upload(&hub, &wanted).unwrap();
    hub.assert_has(&wanted.files);
    assert_eq!((hub.made(), uploaded.commit), (1, hub.head()));
    let text = refusal(&Hub::new().always(To::Commit, Answer::Status("412 Precondition Failed", "", "")));
    assert!(text.starts_with("cannot commit to the model owner/name"), "{text}");
}

#[test]
fn addresses_that_have_expired_are_asked_for_anew() {
    let expired = Answer::Status("403 Forbidden", "", "<Error><Code>AccessDenied</Code></Error>");
    let (hub, folder) = (Hub::new().next(To::Put, [expired]), tempfile::tempdir().unwrap());
    let wanted = request(model(folder.path()));
    upload(&hub, &wanted).unwrap();
    hub.assert_has(&wanted.files);
    assert_eq!(hub.requests("POST /owner/name.git").len(), 2);
    let text = refusal(&Hub::new().always(To::Put, expired));
    assert!(text.contains("caused by: the server answered 403 Forbidden\n  hint: try again later"), "{text}");
}

#[test]
fn parts_that_were_put_together_unheard_are_not_sent_again() {
    // The answer to the next try is that the upload no longer exists.
    let (hub, folder) = (Hub::new().next(To::Complete, [Answer::Mute]), tempfile::tempdir().unwrap());
    let wanted = request(model(folder.path()));
    upload(&hub, &wanted).unwrap();
    hub.assert_has(&wanted.files);
    assert_eq!(hub.requests("PUT ").len(), 4);
}

#[test]
fn a_connection_that_has_gone_silent_counts_as_cut() {
    let hub = Hub::new().next(To::Put, [Answer::Stall(1_000)]).next(To::Commit, [Answer::Stall(0)]);
    let folder = tempfile::tempdir().unwrap();
    let wanted = request(model(folder.path()));
    let mut conditions = conditions();
    conditions.patience.silence = Duration::from_millis(500);
    run(&wanted, &settings(&hub.address), &conditions, &StopFlag::default()).unwrap();
    hub.assert_has(&wanted.files);
    assert_eq!((hub.requests("PUT ").len(), hub.made()), (5, 1));
}

#[test]
fn a_stop_ends_the_upload_wherever_it_is_and_the_next_one_continues() {
    let folder = tempfile::tempdir().unwrap();
    let wanted = request(model(folder.path()));
    let late = Answer::Status("429 Too Many Requests", "Retry-After: 5\r\n", "");
    for (to, answer) in [
        (To::Put, Answer::Stall(1_000)),
        (To::Put, late),
        (To::Preupload, Answer::Stall(0)),
        (To::Commit, Answer::Stall(0)),
        (To::Commit, late),
    ] {
        let stop = StopFlag::default();
        let raised = stop.clone();
        let hub = Hub::new().next(to, [answer]).hook(to, move |_| raised.raise());
        let error = run(&wanted, &settings(&hub.address), &conditions(), &stop).unwrap_err();
        assert!(error.chain().any(|link| link.is::<UploadStopped>()), "{to:?} {answer:?}: {error:?}");
        assert_eq!(describe(&error), "upload stopped\n  hint: run the same command to continue");
        assert!(hub.made() == 0);
        upload(&hub, &wanted).unwrap();
        hub.assert_has(&wanted.files);
    }
}

#[test]
fn a_file_that_changes_meanwhile_is_never_there_whole() {
    let folder = tempfile::tempdir().unwrap();
    let wanted = request(model(folder.path()));
    // Its last byte in one piece and in parts, a small file, one that loses bytes, one that gains some.
    for (index, to, edit) in [
        (2, To::Batch, "change"),
        (3, To::Batch, "change"),
        (1, To::Batch, "change"),
        (2, To::Batch, "cut"),
        (2, To::Preupload, "cut"),
        (2, To::Preupload, "grow"),
    ] {
        model(folder.path());
        let (name, path) = wanted.files[index].clone();
        let hub = Hub::new().hook(to, move |_| {
            let mut content = fs::read(&path).unwrap();
            match edit {
                "change" => *content.last_mut().unwrap() ^= 1,
                "cut" => content.truncate(content.len() / 2),
                _ => content.push(0),
            }
            fs::write(&path, content).unwrap();
        });
        let text = describe(&upload(&hub, &wanted).unwrap_err());
        assert!(text.starts_with(&format!("{name} changed while it was uploaded\n  hint: ")), "{edit} {to:?}: {text}");
        let state = hub.state();
        assert!(state.commits.is_empty());
        for (oid, content) in &state.storage {
            assert_eq!(*oid, sha256(content));
        }
    }
}

#[test]
fn a_file_that_cannot_be_read_is_reported_before_anything_is_sent() {
    let (hub, folder) = (Hub::new(), tempfile::tempdir().unwrap());
    for path in [folder.path().join("absent"), folder.path().to_owned()] {
        let wanted = request(vec![("a.json".to_owned(), path.clone())]);
        let text = describe(&upload(&hub, &wanted).unwrap_err());
        assert!(text.starts_with(&format!("cannot read {}", path.display())) && text.contains("hint: "), "{text}");
    }
    assert!(hub.state().requests.is_empty());
}

#[test]
fn without_a_network_or_a_token_the_way_out_is_reported_before_anything_is_sent() {
    let (hub, folder) = (Hub::new(), tempfile::tempdir().unwrap());
    let wanted = request(vec![on_disk(folder.path(), "a.json", b"{}")]);
    let text = |settings: &Settings, token: Option<&str>| {
        let conditions = Conditions { token: token.map(str::to_owned), ..conditions() };
        let error = run(&wanted, settings, &conditions, &StopFlag::default()).unwrap_err();
        describe(&error).replace(&hub.address, "HUB")
    };
    insta::assert_snapshot!(text(&Settings { offline: true, ..settings(&hub.address) }, Some(TOKEN)), @r"
    cannot upload owner/name to HUB: HF_HUB_OFFLINE is set
      hint: unset HF_HUB_OFFLINE, or upload the files later from a machine with a network
    ");
    insta::assert_snapshot!(text(&settings(&hub.address), None), @r"
    cannot upload owner/name to HUB: no token found
      hint: create a token with write access at HUB/settings/tokens, then run `hf auth login` or set HF_TOKEN
    ");
    let odd = text(&settings(&hub.address), Some("hf_\nsecret"));
    assert!(odd.contains("the token contains invalid characters") && !odd.contains("secret"), "{odd}");
    assert!(hub.state().requests.is_empty());
    let closed = closed_address();
    let away = text(&settings(&closed.replace("http://", "http://me:password@")), Some(TOKEN));
    assert!(away.starts_with(&format!("cannot reach {closed} to create the model owner/name\n")), "{away}");
    assert!(away.contains("hint: check the network") && !away.contains("password"), "{away}");
}

#[test]
fn a_model_card_that_the_hub_would_refuse_is_reported_before_anything_is_sent() {
    let (hub, folder) = (Hub::new(), tempfile::tempdir().unwrap());
    let wanted =
        request(vec![on_disk(folder.path(), "README.md", b"bad"), on_disk(folder.path(), "a.safetensors", b"weights")]);
    insta::assert_snapshot!(describe(&upload(&hub, &wanted).unwrap_err()), @r#"
    the Hub would refuse the metadata of README.md
      caused by: the server answered 400 Bad Request: "license" must be one of [mit]
      hint: correct the block between the --- lines at its start
    "#);
    assert!(hub.requests("PUT ").is_empty());
    // A mirror may not judge at all.
    let hub = Hub::new().always(To::Card, Answer::Status("404 Not Found", "", ""));
    upload(&hub, &wanted).unwrap();
}

#[test]
fn files_that_the_repository_ignores_are_left_out() {
    let (hub, folder) = (Hub::with_repository(), tempfile::tempdir().unwrap());
    hub.state().ignored = "model.safetensors";
    let mut wanted = request(model(folder.path()));
    upload(&hub, &wanted).unwrap();
    wanted.files.remove(2);
    hub.assert_has(&wanted.files);
}

#[test]
fn a_content_that_two_files_have_is_sent_once() {
    let (hub, folder) = (Hub::new(), tempfile::tempdir().unwrap());
    let wanted = request(vec![
        on_disk(folder.path(), "a.safetensors", b"weights"),
        on_disk(folder.path(), "b.safetensors", b"weights"),
    ]);
    upload(&hub, &wanted).unwrap();
    hub.assert_has(&wanted.files);
    assert_eq!(hub.requests("PUT ").len(), 1);
}

#[test]
fn hundreds_of_files_are_asked_about_in_groups() {
    let (hub, folder) = (Hub::new(), tempfile::tempdir().unwrap());
    let files = (0..600).map(|index| on_disk(folder.path(), &format!("f/{index}.json"), index.to_string().as_bytes()));
    let wanted = request(files.collect());
    upload(&hub, &wanted).unwrap();
    hub.assert_has(&wanted.files);
    assert_eq!((hub.requests("POST /api/models/owner/name/preupload").len(), hub.made()), (3, 1));
}

/// A success with this body, as bytes of an answer.
macro_rules! body {
    ($body:literal) => {
        Answer::Status("200 OK", "", $body)
    };
}

#[test]
fn no_answer_of_a_server_is_taken_for_what_it_is_not() {
    let raw = [
        Answer::Raw(b""),
        Answer::Raw(b"\0\0\0\0"),
        Answer::Raw(b"HTTP/1.1 200 OK\r\n\r\n"),
        Answer::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n"),
        Answer::Raw(b"HTTP/1.1 204 No Content\r\n\r\n"),
        Answer::Raw(b"HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
        Answer::Raw(b"HTTP/1.1 307 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n"),
        Answer::Raw(
            b"HTTP/1.1 400 Bad Request\r\nContent-Length: 34\r\n\r\n{\"error\": \"no\\n\\u001b[2Jhint: run me\"}",
        ),
        body!("<html>"),
        body!("{}"),
        body!("[]"),
        body!("null"),
    ];
    let named = [
        (To::Account, body!(r#"{"name": "../x"}"#)),
        (To::Account, body!(r#"{"name": "a/b"}"#)),
        (To::Head, body!(r#"{"sha": "../../x"}"#)),
        (To::Preupload, body!(r#"{"files": []}"#)),
        (To::Preupload, body!(r#"{"files": [{"path": "README.md", "uploadMode": "other"}]}"#)),
        (To::Batch, body!(r#"{"objects": []}"#)),
        (To::Complete, Answer::Status("400 Bad Request", "", "{}")),
        (To::Commit, body!(r#"{"commitOid": "x"}"#)),
    ];
    let folder = tempfile::tempdir().unwrap();
    let files = vec![
        on_disk(folder.path(), "README.md", b"---\nlicense: mit\n---\n"),
        on_disk(folder.path(), "model.safetensors", &bytes(10, 1)),
        on_disk(folder.path(), "other.safetensors", &bytes(100, 2)),
    ];
    let wanted = Upload { repo: "name".to_owned(), ..request(files) };
    let odd = EACH.into_iter().flat_map(|to| raw.map(|answer| (to, answer))).chain(named);
    for (to, answer) in odd {
        let hub = Hub::with_repository().always(to, answer);
        hub.state().most_at_once = 10;
        hub.state().part_bytes = 30;
        match upload(&hub, &wanted) {
            Ok(_) => hub.assert_has(&wanted.files),
            Err(error) => {
                let text = describe(&error);
                assert!(text.contains("  hint: ") && !text.contains("  hint: run me"), "{to:?} {answer:?}: {text}");
                assert!(!text.contains('\u{1b}') && !text.contains(TOKEN), "{to:?} {answer:?}: {text}");
                assert!(!is_usage_error(&error), "{to:?} {answer:?}: {text}");
                assert!(to != To::Card || text.contains("400 Bad Request"), "{text}");
            }
        }
    }
}

#[test]
fn addresses_and_parts_that_do_not_fit_the_file_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let content = bytes(1_000, 1);
    let oid = sha256(&content);
    let wanted = request(vec![on_disk(folder.path(), "a.safetensors", &content)]);
    for upload_action in [
        json!({"href": "no address"}),
        json!({"href": "file:///etc/passwd"}),
        json!({"href": "HUB/complete/x", "header": {"chunk_size": "0", "1": "HUB/stored/x/1"}}),
        json!({"href": "HUB/complete/x", "header": {"chunk_size": "-1", "1": "HUB/stored/x/1"}}),
        json!({"href": "HUB/complete/x", "header": {"chunk_size": {}, "1": "HUB/stored/x/1"}}),
        json!({"href": "HUB/complete/x", "header": {"chunk_size": 1, "1": "HUB/stored/x/1"}}),
        json!({"href": "HUB/complete/x", "header": {"chunk_size": 1000}}),
        json!({"href": "HUB/complete/x", "header": {"chunk_size": 1000, "2": "HUB/stored/x/2"}}),
        json!({"href": "HUB/complete/x", "header": {"chunk_size": 500, "1": "HUB/stored/x/1", "01": "HUB/stored/x/1"}}),
        json!({"href": "HUB/complete/x", "header": {"chunk_size": 1000, "1": "nowhere"}}),
    ] {
        let hub = Hub::new();
        let batch = json!({"objects": [{"oid": oid, "size": 1_000, "actions": {"upload": upload_action}}]});
        let body: &'static str = Box::leak(batch.to_string().replace("HUB", &hub.address).into_boxed_str());
        let hub = hub.always(To::Batch, Answer::Status("200 OK", "", body));
        let text = describe(&upload(&hub, &wanted).unwrap_err());
        assert!(text.starts_with("cannot upload a.safetensors to the model owner/name"), "{text}");
        assert!(hub.requests("PUT ").is_empty() && hub.made() == 0, "{text}");
    }
    let hub = Hub::new();
    let batch = json!({"objects": [{"oid": oid, "size": 1_000, "error": {"code": 422, "message": "too large"}}]});
    let body: &'static str = Box::leak(batch.to_string().into_boxed_str());
    let text = describe(&upload(&hub.always(To::Batch, Answer::Status("200 OK", "", body)), &wanted).unwrap_err());
    assert!(text.starts_with(&format!("the server refuses the content {oid}: too large\n  hint: ")), "{text}");
}
