//! Whole runs against a small server.

mod recorder;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use self::recorder::{ENTITY, Fault, Recorder};
use crate::history::Tree;
use crate::settings::tests::resolved;
use crate::*;

const KEY: &str = "5ec4e75ec4e75ec4e75ec4e75ec4e75ec4e75ec4";
/// A condition that takes longer will never be met; no test asserts on less.
const LONG_ENOUGH: Duration = Duration::from_secs(60);

/// What all runs of a test share: a folder, a clock and the messages.
struct Stage {
    dir: tempfile::TempDir,
    clock: Arc<AtomicU64>,
    said: Arc<Mutex<Vec<String>>>,
    url: Option<String>,
    /// The wait ends early when the server has answered or refused.
    connect_wait: Duration,
    finish_wait: Duration,
}

impl Stage {
    fn new(url: Option<&str>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(AtomicU64::new(1_800_000_000));
        Self {
            dir,
            clock,
            said: Arc::default(),
            url: url.map(str::to_owned),
            connect_wait: LONG_ENOUGH,
            finish_wait: LONG_ENOUGH,
        }
    }

    fn settings(&self, more: &[(&str, &str)]) -> Settings {
        let mut variables = more.to_vec();
        if let Some(url) = &self.url {
            variables.extend([("WANDB_BASE_URL", url.as_str()), ("WANDB_API_KEY", KEY)]);
        }
        resolved(&Options::default(), self.dir.path(), &variables).unwrap()
    }

    fn start(&self, resume: Option<&ResumePoint>) -> Run {
        self.start_with(&self.settings(&[]), resume)
    }

    fn start_with(&self, settings: &Settings, resume: Option<&ResumePoint>) -> Run {
        let (clock, said) = (Arc::clone(&self.clock), Arc::clone(&self.said));
        let short = Duration::from_millis(5);
        let context = Context {
            clock: Box::new(move || clock.fetch_add(1, Ordering::Relaxed) as f64),
            random: [u64::from(self.url.is_some()) + 7, 8, 9],
            say: Arc::new(move |tone, text| said.lock().unwrap().push(format!("{tone:?}: {text}"))),
            pace: Pace {
                interval: short,
                heartbeat: 4 * short,
                min_retry_wait: short,
                max_retry_wait: 2 * short,
                connect_wait: self.connect_wait,
                finish_wait: self.finish_wait,
            },
        };
        let metadata = Metadata {
            config: json!({"learning_rate": 1e-3, "model": {"layers": 2}}),
            program: "caption-train".to_owned(),
            host: "here".to_owned(),
            ..Metadata::default()
        };
        Run::start(settings, &metadata, resume, context).unwrap()
    }

    fn warnings(&self) -> Vec<String> {
        let said = self.said.lock().unwrap();
        said.iter().filter(|text| text.starts_with("Warning")).cloned().collect()
    }
}

fn row(values: &Value) -> Map<String, Value> {
    values.as_object().unwrap().clone()
}

fn log_steps(run: &mut Run, steps: std::ops::RangeInclusive<u64>) {
    for step in steps {
        run.log(step, &row(&json!({ "train/loss": 1.0 / step as f64 }))).unwrap();
    }
}

fn resume(run: &Run, step: u64) -> ResumePoint {
    ResumePoint { run_id: run.id().to_owned(), step }
}

fn wait_until(what: &str, is_met: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_met() {
        assert!(start.elapsed() < LONG_ENOUGH, "this never came: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The parts of a run's log.
fn parts(folder: &Path, id: &str) -> Vec<Part> {
    let mut reader = LogReader::open(&folder.join(format!("run-{id}.wandb"))).unwrap();
    let mut parts = Vec::new();
    while let Some(record) = reader.next(u64::MAX).unwrap() {
        parts.extend(Part::decode(&record));
    }
    parts
}

fn steps_on_disk(folder: &Path, id: &str) -> Vec<u64> {
    let step = |part| if let Part::History { step, .. } = part { Some(step) } else { None };
    parts(folder, id).into_iter().filter_map(step).collect()
}

fn all_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { all_files(&path) } else { vec![path] }).collect()
}

/// A moment within the runs of these tests, in seconds since 1970.
fn at(step: u64) -> f64 {
    1_800_000_000.0 + step as f64
}

/// Logs a bit of everything.
fn log_everything(run: &mut Run) {
    for step in 1..=20 {
        run.log(step, &row(&json!({ "train/loss": 2.5 / step as f64, "nested": { "a": step } }))).unwrap();
        run.log(step, &row(&json!({ "lr": number(f64::NAN) }))).unwrap();
        run.console_line(at(step), &format!("step {step}")).unwrap();
        run.system_metrics(at(step), &row(&json!({ "cpu": step }))).unwrap();
        if step % 10 == 0 {
            let png = format!("png of {step}");
            let picture = Picture { png: png.as_bytes(), width: 4, height: 3, caption: "a dog" };
            run.images("val/samples", step, &[picture, picture]).unwrap();
        }
    }
    run.summary(&row(&json!({ "best": 0.5 }))).unwrap();
}

fn check_everything(server: &Recorder, id: &str) {
    assert_eq!(server.lines(id, "wandb-history.jsonl").len(), 20);
    let first = &server.lines(id, "wandb-history.jsonl")[0];
    assert!(first.starts_with(r#"{"_runtime":"#) && first.ends_with(r#""lr":NaN,"nested":{"a":1},"train/loss":2.5}"#));
    let events = server.lines(id, "wandb-events.jsonl");
    let cpus: Vec<u64> = events
        .iter()
        .map(|event| serde_json::from_str::<Value>(event).unwrap()["system.cpu"].as_u64().unwrap())
        .collect();
    assert_eq!(cpus, (1..=20).collect::<Vec<_>>());
    let lines = server.lines(id, "output.log");
    let expected: Vec<String> = (1..=20).map(|step| format!("2027-01-15T08:00:{step:02}.000000 step {step}")).collect();
    assert_eq!(lines, expected);
    assert!(events.iter().zip(1..).all(|(event, step)| event.contains(&format!(r#""_timestamp":{:?}"#, at(step)))));
    let summary = server.lines(id, "wandb-summary.json").pop().unwrap();
    assert!(
        summary.contains(r#""best":0.5"#) && summary.contains(r#""_step":20"#) && summary.contains("images/separated")
    );
    let uploads = server.uploads();
    let names: Vec<&str> = uploads.keys().map(String::as_str).collect();
    assert_eq!(names[0], "config.yaml");
    assert!(
        names[1].starts_with("media/images/val/samples_10_") && names[2].starts_with("media/images/val/samples_20_")
    );
    assert_eq!(names[3..], ["output.log", "wandb-metadata.json", "wandb-summary.json"]);
    assert_eq!(uploads[names[1]], b"png of 10");
    let told: Vec<Value> =
        stream_bodies(server).iter().flat_map(|body| body["uploaded"].as_array().cloned()).flatten().collect();
    assert!(names.iter().all(|name| told.iter().filter(|told| told == name).count() >= 1), "{told:?}");
}

fn stream_bodies(server: &Recorder) -> Vec<Value> {
    let streams = server.requests().into_iter().filter(|request| request.path.ends_with("/file_stream"));
    streams.map(|request| request.json()).collect()
}

#[test]
fn everything_that_is_logged_arrives_once_and_in_order() {
    let server = Recorder::start();
    let stage = Stage::new(Some(&server.url));
    let mut run = stage.start(None);
    let id = run.id().to_owned();
    assert_eq!(run.url().unwrap(), format!("{}/{ENTITY}/caption-train/runs/{id}", server.url));
    log_everything(&mut run);
    run.finish(3).unwrap();
    check_everything(&server, &id);
    let last = stream_bodies(&server).pop().unwrap();
    assert_eq!((&last["complete"], &last["exitcode"]), (&json!(true), &json!(3)));
    assert_eq!(stage.warnings(), [""; 0]);
    let created = &server.operations("UpsertBucket")[0];
    let config: Value = serde_json::from_str(created["config"].as_str().unwrap()).unwrap();
    assert_eq!(config["model"], json!({"value": {"layers": 2}}));
    assert!(config["_wandb"]["value"]["t"].is_object());
}

#[test]
fn failures_that_pass_leave_no_hole_and_nothing_twice() {
    let server = Recorder::start();
    let faults = [
        Fault::Status(500),
        Fault::Status(429),
        Fault::Cut,
        Fault::Unanswered,
        Fault::Status(503),
        Fault::Unanswered,
        Fault::Cut,
    ];
    server.fault_next("/graphql", &[Fault::Status(502), Fault::Cut, Fault::Status(409), Fault::Unanswered]);
    server.fault_next("/file_stream", &faults);
    server.fault_next(".png", &[Fault::Status(500), Fault::Cut]);
    let stage = Stage::new(Some(&server.url));
    let mut run = stage.start(None);
    let id = run.id().to_owned();
    log_everything(&mut run);
    run.finish(0).unwrap();
    check_everything(&server, &id);
    // A line that is sent again is the same at the same place.
    let mut at = std::collections::BTreeMap::new();
    for body in stream_bodies(&server) {
        let Some(history) = body["files"]["wandb-history.jsonl"].as_object() else { continue };
        for (index, line) in history["content"].as_array().unwrap().iter().enumerate() {
            let offset = history["offset"].as_u64().unwrap() + index as u64;
            assert_eq!(at.entry(offset).or_insert_with(|| line.clone()), line);
        }
    }
    assert!(stage.warnings().len() <= 1, "{:?}", stage.warnings());
}

#[test]
fn a_server_that_holds_a_request_does_not_hold_the_run() {
    let server = Recorder::start();
    server.fault_next("/graphql", &[Fault::Hold]);
    let mut stage = Stage::new(Some(&server.url));
    stage.connect_wait = Duration::from_millis(5);
    let mut run = stage.start(None);
    let (id, folder) = (run.id().to_owned(), run.folder().unwrap().to_owned());
    wait_until("the request", || server.requests().len() == 1);
    log_steps(&mut run, 1..=500);
    run.commit().unwrap();
    // All is on the disk, and the one request that was made has no answer yet.
    assert_eq!(steps_on_disk(&folder, &id).len(), 500);
    assert_eq!((server.requests().len(), run.url()), (1, None));
    server.release();
    run.finish(0).unwrap();
    assert_eq!(server.steps(&id), (1..=500).collect::<Vec<_>>());
}

#[test]
fn a_dead_server_is_warned_of_once_and_nothing_is_lost() {
    let mut stage = Stage::new(Some(&test_server::closed_address()));
    stage.connect_wait = Duration::from_millis(5);
    stage.finish_wait = Duration::from_millis(50);
    let mut run = stage.start(None);
    let (point, folder) = (resume(&run, 20), run.folder().unwrap().to_owned());
    log_steps(&mut run, 1..=20);
    wait_until("the warning", || !stage.warnings().is_empty());
    assert_eq!((run.url(), run.should_stop()), (None, false));
    run.finish(0).unwrap();
    let warnings = stage.warnings();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(
        warnings[0].contains("cannot be reached") && warnings[1].contains(&format!("wandb sync {}", folder.display()))
    );

    // After the resume, the server gets all of it.
    let server = Recorder::start();
    stage.url = Some(server.url.clone());
    (stage.connect_wait, stage.finish_wait) = (LONG_ENOUGH, LONG_ENOUGH);
    let mut run = stage.start(Some(&point));
    log_steps(&mut run, 21..=30);
    run.finish(0).unwrap();
    assert_eq!(server.steps(&point.run_id), (1..=30).collect::<Vec<_>>());
}

#[test]
fn a_refused_key_is_warned_of_once_and_the_run_continues() {
    let server = Recorder::start();
    server.fault_always("/graphql", Fault::Status(401));
    let stage = Stage::new(Some(&server.url));
    let mut run = stage.start(None);
    let (id, folder) = (run.id().to_owned(), run.folder().unwrap().to_owned());
    log_steps(&mut run, 1..=5);
    run.finish(0).unwrap();
    let warnings = stage.warnings();
    assert!(warnings.len() == 1 && warnings[0].contains("401") && warnings[0].contains("wandb sync"), "{warnings:?}");
    assert_eq!(steps_on_disk(&folder, &id), [1, 2, 3, 4, 5]);
    assert_eq!(server.requests().len(), 1, "a refusal is not asked again");
}

#[test]
fn a_redirect_gets_neither_data_nor_key_and_its_host_is_named() {
    for path in ["/graphql", "/file_stream", ".png", "/config.yaml"] {
        for status in [300, 301, 302, 303, 307, 308] {
            let (server, other) = (Recorder::start(), Recorder::start());
            let host = other.url.trim_start_matches("http://");
            server.redirect_to(&format!("http://user:passw0rd@{host}/s1gnature?token=t0ken#fr4gment"));
            server.fault_always(path, Fault::Redirect(status));
            let stage = Stage::new(Some(&server.url));
            let mut run = stage.start(None);
            let (id, folder) = (run.id().to_owned(), run.folder().unwrap().to_owned());
            log_everything(&mut run);
            run.finish(0).unwrap();
            assert_eq!(other.requests().len(), 0, "{path} {status}");
            let warnings = stage.warnings();
            let [warning] = &warnings[..] else { panic!("{path} {status}: {warnings:?}") };
            for part in [&format!("redirects to http://{host} ({status}"), "wandb sync"] {
                assert!(warning.contains(part), "{path} {status}: {warning}");
            }
            for secret in ["user", "passw0rd", "s1gnature", "t0ken", "fr4gment"] {
                assert!(!warning.contains(secret), "{path} {status}: {warning}");
            }
            assert_eq!(steps_on_disk(&folder, &id), (1..=20).collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_redirect_to_the_same_host_is_not_followed_either_and_one_to_nowhere_does_no_harm() {
    for (path, expected) in [
        ("/elsewhere", "redirects to http://127.0.0.1:"),
        ("ftp://files.example/x", "redirects to ftp://files.example"),
        ("//", "without a readable address"),
        ("http://[::1", "without a readable address"),
        ("\u{fc}", "without a readable address"),
        ("data:text/plain,x", "without a readable address"),
    ] {
        let server = Recorder::start();
        server.redirect_to(path);
        server.fault_always("/graphql", Fault::Redirect(308));
        let stage = Stage::new(Some(&server.url));
        let mut run = stage.start(None);
        log_steps(&mut run, 1..=3);
        run.finish(0).unwrap();
        let warnings = stage.warnings();
        assert!(warnings.len() == 1 && warnings[0].contains(expected), "{path:?}: {warnings:?}");
        assert_eq!(server.requests().len(), 1, "{path:?}");
    }
}

#[test]
fn a_run_that_is_deleted_at_the_server_continues_here() {
    let server = Recorder::start();
    server.fault_always("/file_stream", Fault::Status(410));
    let stage = Stage::new(Some(&server.url));
    let mut run = stage.start(None);
    log_steps(&mut run, 1..=5);
    wait_until("the warning", || !stage.warnings().is_empty());
    log_steps(&mut run, 6..=9);
    run.finish(0).unwrap();
    assert_eq!(stage.warnings().len(), 1);
}

#[test]
fn a_file_that_the_storage_refuses_does_not_hold_up_the_lines() {
    let server = Recorder::start();
    server.fault_always(".png", Fault::Status(403));
    let stage = Stage::new(Some(&server.url));
    let mut run = stage.start(None);
    let id = run.id().to_owned();
    log_everything(&mut run);
    run.finish(0).unwrap();
    assert_eq!(server.steps(&id).len(), 20);
    assert_eq!(stage.warnings().len(), 1, "{:?}", stage.warnings());
    assert_eq!(stream_bodies(&server).pop().unwrap()["exitcode"], 0);
}

#[test]
fn the_offline_log_holds_what_was_logged() {
    let stage = Stage::new(None);
    let mut run = stage.start(None);
    let (id, folder) = (run.id().to_owned(), run.folder().unwrap().to_owned());
    assert!(folder.file_name().unwrap().to_str().unwrap().starts_with("offline-run-20270115_"));
    log_everything(&mut run);
    run.finish(0).unwrap();
    let parts = parts(&folder, &id);
    let count = |is_it: fn(&Part) -> bool| parts.iter().filter(|part| is_it(part)).count();
    assert_eq!(steps_on_disk(&folder, &id), (1..=20).collect::<Vec<_>>());
    assert_eq!(count(|part| matches!(part, Part::Line { .. })), 20);
    assert_eq!(count(|part| matches!(part, Part::Stats { .. })), 20);
    assert_eq!(count(|part| matches!(part, Part::Files(_))), 4);
    assert!(matches!(parts.last(), Some(Part::Exit { code: 0, .. })));
    let Some(Part::History { items, .. }) = parts.iter().find(|part| matches!(part, Part::History { .. })) else {
        panic!("no history")
    };
    assert!(Tree::of(items).to_json().contains(r#""nested":{"a":1}"#));
    let console = std::fs::read_to_string(folder.join("files/output.log")).unwrap();
    assert_eq!(console.lines().count(), 20);
    assert!(stage.said.lock().unwrap()[0].contains("wandb sync"));
}

/// Killed at 130 after a checkpoint at 100, with `sent` of its steps at the server.
fn killed_and_resumed(is_online: bool, lose_folder: bool) {
    let server = Recorder::start();
    let stage = Stage::new(is_online.then_some(server.url.as_str()));
    let mut run = stage.start(None);
    let (point, folder) = (resume(&run, 100), run.folder().unwrap().to_owned());
    log_steps(&mut run, 1..=90);
    run.console_line(at(1), "before").unwrap();
    run.commit().unwrap();
    if is_online {
        wait_until("90 steps", || server.steps(&point.run_id).len() == 90);
        // From here on the server is away, so that the log is ahead of it.
        if !lose_folder {
            server.fault_always("/file_stream", Fault::Status(500));
        }
    }
    log_steps(&mut run, 91..=130);
    run.commit().unwrap();
    if is_online && lose_folder {
        wait_until("130 steps", || server.steps(&point.run_id).len() == 130);
    }
    drop(run);
    server.behave();
    if lose_folder {
        std::fs::remove_dir_all(&folder).unwrap();
    }

    let mut run = stage.start(Some(&point));
    let resumed_folder = run.folder().unwrap().to_owned();
    assert_eq!(run.id(), point.run_id);
    run.console_line(at(2), "after").unwrap();
    for step in 101..=200 {
        run.log(step, &row(&json!({ "train/loss": 1.0 / step as f64 }))).unwrap();
        if step == 130 {
            // What had not been logged when the run was killed.
            run.log(step, &row(&json!({ "val/loss": 3 }))).unwrap();
        }
    }
    run.finish(0).unwrap();
    let mut expected: Vec<u64> = (1..=200).collect();
    if is_online {
        let rows = server.lines(&point.run_id, "wandb-history.jsonl");
        assert!(rows.iter().any(|row| row.contains("val/loss")));
        if server.steps(&point.run_id).len() == 201 {
            expected.insert(130, 130);
        }
        assert_eq!(server.steps(&point.run_id), expected);
        let lines = server.lines(&point.run_id, "output.log");
        assert!(lines.len() == 2 && lines[0].ends_with("before") && lines[1].ends_with("after"), "{lines:?}");
        assert_eq!(server.operations("RunResumeStatus").len(), 1);
    }
    if !lose_folder {
        assert_eq!(resumed_folder, folder);
        let mut expected: Vec<u64> = (1..=200).collect();
        // Its second half came later.
        expected.insert(130, 130);
        assert_eq!(steps_on_disk(&folder, &point.run_id), expected);
    }
}

#[test]
fn a_resumed_run_has_neither_holes_nor_rows_twice_offline() {
    killed_and_resumed(false, false);
}

#[test]
fn a_resumed_run_has_neither_holes_nor_rows_twice_when_the_server_is_behind() {
    killed_and_resumed(true, false);
}

#[test]
fn a_resumed_run_has_neither_holes_nor_rows_twice_when_only_the_server_knows_it() {
    killed_and_resumed(true, true);
}

#[test]
fn a_run_that_ended_continues_without_its_end() {
    let server = Recorder::start();
    let stage = Stage::new(Some(&server.url));
    let mut run = stage.start_with(&stage.settings(&[("WANDB_NAME", "first"), ("WANDB_TAGS", "a")]), None);
    let (point, folder) = (resume(&run, 10), run.folder().unwrap().to_owned());
    log_everything(&mut run);
    run.finish(0).unwrap();
    let uploads = server.operations("CreateRunFiles").len();
    let mut run = stage.start_with(&stage.settings(&[("WANDB_NAME", "second")]), Some(&point));
    log_everything(&mut run);
    log_steps(&mut run, 21..=22);
    run.finish(0).unwrap();
    assert_eq!(server.steps(&point.run_id), (1..=22).collect::<Vec<_>>());
    assert_eq!(steps_on_disk(&folder, &point.run_id), (1..=22).collect::<Vec<_>>());
    let ends = parts(&folder, &point.run_id).iter().filter(|part| matches!(part, Part::Exit { .. })).count();
    assert_eq!(ends, 1);
    // The name now belongs to the user of the page, and no image is uploaded a second time.
    let names: Vec<Value> = server.operations("UpsertBucket").iter().map(|run| run["displayName"].clone()).collect();
    assert_eq!(names, [json!("first"), Value::Null]);
    let later: Vec<Value> = server.operations("CreateRunFiles").split_off(uploads);
    assert!(!later.is_empty() && later.iter().all(|files| !files.to_string().contains("media/")), "{later:?}");
}

#[test]
fn pressing_stop_is_seen() {
    let server = Recorder::start();
    let stage = Stage::new(Some(&server.url));
    let run = stage.start(None);
    assert!(!run.should_stop());
    server.press_stop();
    // Nothing is logged: the sign of life brings the answer.
    wait_until("the request to stop", || run.should_stop());
    run.finish(255).unwrap();
}

#[test]
fn the_key_goes_to_the_server_alone() {
    let server = Recorder::start();
    server.fault_next("/graphql", &[Fault::Status(500)]);
    let stage = Stage::new(Some(&server.url));
    let mut run = stage.start(None);
    log_everything(&mut run);
    run.finish(0).unwrap();
    let encoded = stage.settings(&[]).api_key.unwrap().authorization();
    let secrets = [KEY, encoded.trim_start_matches("Basic ")];
    for path in all_files(stage.dir.path()) {
        let content = std::fs::read(&path).unwrap();
        for secret in secrets {
            assert!(!content.windows(secret.len()).any(|part| part == secret.as_bytes()), "{}", path.display());
        }
    }
    assert!(!stage.said.lock().unwrap().iter().any(|text| secrets.iter().any(|secret| text.contains(secret))));
    for request in server.requests() {
        let is_storage = request.path.starts_with("/storage");
        assert_eq!(request.authorization.is_some(), !is_storage, "{}", request.path);
        assert!(!String::from_utf8_lossy(&request.body).contains(KEY));
    }
}

#[test]
fn a_run_that_must_be_there_or_must_not_is_refused() {
    let server = Recorder::start();
    server.keep("known", "wandb-history.jsonl", &[r#"{"_step":7,"train/loss":1}"#.to_owned()]);
    let cases = [
        (("WANDB_RESUME", "must"), ("WANDB_RUN_ID", "unknown"), "WANDB_RESUME=must"),
        (("WANDB_RESUME", "never"), ("WANDB_RUN_ID", "known"), "WANDB_RESUME=never"),
        (("WANDB_RESUME", "allow"), ("WANDB_RUN_ID", "known"), "already has steps up to 7"),
    ];
    for (resume, id, expected) in cases {
        let stage = Stage::new(Some(&server.url));
        let mut run = stage.start_with(&stage.settings(&[resume, id]), None);
        log_steps(&mut run, 7..=8);
        run.finish(0).unwrap();
        let warnings = stage.warnings();
        assert!(warnings.len() == 1 && warnings[0].contains(expected), "{warnings:?}");
    }
    assert_eq!(server.steps("known"), [7, 8]);
}

#[test]
fn answers_that_make_no_sense_do_no_harm() {
    for answer in ["", "[]", "null", "{\"data\": {\"upsertBucket\": 3}}", "{\"errors\": [{\"message\": \"no\\n\"}]}"] {
        let url = test_server::serve(move |request| request.reply("200 OK", "", answer));
        let stage = Stage::new(Some(&url));
        let mut run = stage.start(None);
        log_steps(&mut run, 1..=3);
        run.finish(0).unwrap();
        assert_eq!(stage.warnings().len(), 1, "{answer}: {:?}", stage.warnings());
    }
}

#[test]
fn a_disabled_run_does_nothing() {
    let stage = Stage::new(None);
    let mut run = stage.start_with(&stage.settings(&[("WANDB_MODE", "disabled")]), None);
    log_everything(&mut run);
    assert_eq!((run.url(), run.folder(), run.should_stop()), (None, None, false));
    run.finish(0).unwrap();
    assert_eq!(all_files(stage.dir.path()), [""; 0].map(PathBuf::from));
}

#[test]
fn rows_never_go_back() {
    let stage = Stage::new(None);
    let mut run = stage.start(None);
    let (id, folder) = (run.id().to_owned(), run.folder().unwrap().to_owned());
    log_steps(&mut run, 5..=6);
    log_steps(&mut run, 3..=4);
    run.log(6, &row(&json!({ "val": 1 }))).unwrap();
    run.commit().unwrap();
    run.log(6, &row(&json!({ "val": 2, "late": 3 }))).unwrap();
    run.finish(0).unwrap();
    assert_eq!(steps_on_disk(&folder, &id), [5, 6, 6]);
    assert!(std::fs::read_to_string(folder.join("files/wandb-summary.json")).unwrap().contains(r#""val":1"#));
}
