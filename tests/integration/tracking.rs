//! What trackers get of a run: W&B through a small server that behaves as its own, TensorBoard by its files.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{files_below, last_checkpoint, small_config, stderr, train};

#[cfg(feature = "wandb")]
#[path = "../../crates/wandb/src/tests/recorder.rs"]
#[expect(dead_code, reason = "the client's own tests need all of it")]
mod recorder;

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// W&B's log of a run.
fn log_file(run: &Path) -> PathBuf {
    files_below(&run.join("wandb")).into_iter().find(|path| path.extension().is_some_and(|e| e == "wandb")).unwrap()
}

#[test]
fn a_run_that_is_resumed_adds_to_what_its_trackers_have() {
    let folder = tempfile::tempdir().unwrap();
    let output = train(folder.path(), &small_config(folder.path()), &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    let run = folder.path().join("run");
    let wandb = names(&run.join("wandb"));
    assert!(wandb.len() == 1 && wandb[0].starts_with("offline-run-"), "{wandb:?}");
    let bytes = fs::read(log_file(&run)).unwrap();
    assert!(bytes.starts_with(b":W&B"));
    let text = String::from_utf8_lossy(&bytes);
    for expected in ["train/learning_rate", "val/loss", "epoch  train loss", "val/samples"] {
        assert!(text.contains(expected), "{expected}");
    }
    let events = names(&run.join("tensorboard"));
    assert_eq!(events.len(), 1, "{events:?}");
    let id = fs::read_to_string(run.join("wandb.json")).unwrap();

    let mut command = crate::support::binary();
    command.arg("--resume").arg(last_checkpoint(&run)).args(["--set", "training.num_epochs=3"]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(names(&run.join("wandb")), wandb, "the same run");
    assert_eq!(fs::read_to_string(run.join("wandb.json")).unwrap(), id);
    assert!(fs::read(log_file(&run)).unwrap().len() > bytes.len());
    assert_eq!(names(&run.join("tensorboard")).len(), 2);
    let table = fs::read_to_string(run.join("results.csv")).unwrap();
    let epochs: Vec<&str> = table.lines().skip(1).map(|line| line.split(',').next().unwrap()).collect();
    assert!(epochs.len() > 1 && epochs.last() == Some(&"3"), "{table}");
}

#[test]
fn each_epoch_is_a_line_of_a_table_whose_header_comes_once_and_again_when_the_run_continues() {
    let folder = tempfile::tempdir().unwrap();
    let config = small_config(folder.path()).replace("num_epochs = 1", "num_epochs = 2\nvalidation_interval = 2");
    let output = train(folder.path(), &config, &[]);
    let first = stderr(&output);
    assert!(output.status.success(), "{first}");
    let run = folder.path().join("run");
    let mut command = crate::support::binary();
    command.arg("--resume").arg(last_checkpoint(&run)).args(["--set", "training.num_epochs=3"]);
    let second = stderr(&command.output().unwrap());
    let table = |text: &str| -> Vec<Vec<String>> {
        let is_of_table =
            |line: &&str| line.trim_start().starts_with("epoch  ") || line.trim_start().get(1..2) == Some("/");
        text.lines().filter(is_of_table).map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
    };
    let (found, more) = (table(&first), table(&second));
    assert_eq!([found.len(), more.len()], [3, 2], "{first}\n{second}");
    assert_eq!(found[0].join(" "), "epoch train loss val loss lr images/s time left");
    assert_eq!(more[0], found[0]);
    // The learning rate stands where the loss of a validation would.
    assert!(found[1][0] == "1/2" && found[1][2].contains("e-"), "{first}");
    assert!(found[2][0] == "2/2" && found[2][3].contains("e-"), "{first}");
    assert_eq!(found[2].last().unwrap(), "best");
    assert_eq!(more[1][0], "3/3", "{second}");
    let metrics = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let validation = metrics.lines().find(|line| line.contains("\"validation\"")).unwrap();
    let validation: serde_json::Value = serde_json::from_str(validation).unwrap();
    assert_eq!(found[2][2], format!("{:.4}", validation["val_loss"].as_f64().unwrap()));
    let log = fs::read_to_string(run.join("train.log")).unwrap();
    assert_eq!(table(&log), [found, more].concat());
}

#[test]
fn trackers_that_are_switched_off_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let config =
        small_config(folder.path()) + "\n[tracking]\ntensorboard = false\n[tracking.wandb]\nmode = \"disabled\"\n";
    let output = train(folder.path(), &config, &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    let run = folder.path().join("run");
    for name in ["wandb", "wandb.json", "tensorboard"] {
        assert!(!run.join(name).exists(), "{name}");
    }
}

#[cfg(feature = "wandb")]
mod online {
    use std::cell::RefCell;
    use std::collections::HashMap;
    use std::io::{BufRead as _, BufReader};
    use std::process::{Command, Stdio};
    use std::rc::Rc;
    use std::sync::mpsc;
    use std::time::Duration;

    use base::stop::StopFlag;
    use base::worker_pools::WorkerPools;
    use candle_core::Device;
    use caption_train::data::image_source::ImageSource;
    use caption_train::model::parameters::Parameters;
    use caption_train::run::environment::Process;
    use caption_train::run::run_directory::RunDirectory;
    use caption_train::run::setup::Setup;
    use caption_train::run::tracking::jsonl::JsonLines;
    use caption_train::run::tracking::sample_pictures::SamplePictures;
    use caption_train::run::tracking::tracker::{Tracker as _, TrackerContext};
    use caption_train::run::tracking::wandb::WeightsAndBiases;
    use caption_train::training::checkpointer::{Checkpointer, SavePoint};
    use caption_train::training::collective::Alone;
    use caption_train::training::events::{Event, Observer};
    use caption_train::training::optimizer::Optimizer;
    use caption_train::training::train_state::TrainState;
    use wandb::Settings;

    use super::recorder::{Recorder, Request};
    use super::*;
    use crate::interruption::{Then, directory, fresh, run as interrupted};
    use crate::support::{binary, shapes_folder};

    /// A condition that takes longer is never met; no test asserts on less.
    const LONG_ENOUGH: Duration = Duration::from_secs(120);
    const KEY: &str = "0123456789abcdef0123456789abcdef01234567";

    /// The program, which tells the recorder of its run.
    fn logging_to(recorder: &Recorder) -> Command {
        let mut command = binary();
        command.env_remove("WANDB_MODE").env("WANDB_BASE_URL", &recorder.url).env("WANDB_API_KEY", KEY);
        command
    }

    fn tracked(recorder: &Recorder, config: &Path) -> Command {
        let mut command = logging_to(recorder);
        command.arg("--config").arg(config);
        command
    }

    fn config(folder: &Path, extra: &str) -> PathBuf {
        let path = folder.join("run.toml");
        fs::write(&path, small_config(folder) + extra).unwrap();
        path
    }

    fn id(run: &Path) -> String {
        let text = fs::read_to_string(run.join("wandb.json")).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["run_id"].as_str().unwrap().to_owned()
    }

    fn history(recorder: &Recorder, id: &str) -> Vec<serde_json::Value> {
        let rows = recorder.lines(id, "wandb-history.jsonl");
        rows.iter().map(|row| serde_json::from_str(row).unwrap()).collect()
    }

    /// W&B's tracker, which only writes its log.
    fn offline(setup: &Setup, run: &RunDirectory) -> WeightsAndBiases {
        let offline = |name: &str| (name == "WANDB_MODE").then(|| "offline".to_owned());
        let settings = Settings::resolve(&wandb::Options::default(), run.path(), &offline).unwrap();
        let process = Process::of_this(&setup.plan, "a test".to_owned());
        let context = TrackerContext {
            run,
            config: &setup.plan.config,
            state: &setup.state,
            process: &process,
            pictures: Rc::new(RefCell::new(SamplePictures::new(HashMap::new()))),
        };
        WeightsAndBiases::start(&settings, &context).unwrap()
    }

    /// Counts, each time a checkpoint is ordered, the updates whose rows are on the disk.
    struct Orders<'a> {
        run: &'a Path,
        /// Updates done, updates in `metrics.jsonl`, and rows of updates in W&B's log.
        found: Vec<[usize; 3]>,
    }

    impl Checkpointer for Orders<'_> {
        fn save(&mut self, point: SavePoint, state: &TrainState, _: &Parameters, _: &Optimizer) -> anyhow::Result<()> {
            let log = fs::read(log_file(self.run)).unwrap();
            // A row stands there twice: in the summary, and in the history after it.
            let rows = log.windows(13).filter(|window| window == b"train/wait_se").count() / 2;
            let is_awaited = point == SavePoint::Last && state.needs_validation(1, 2);
            self.found.push([
                state.global_step as usize,
                crate::support::losses(self.run).len(),
                rows + usize::from(is_awaited),
            ]);
            Ok(())
        }
    }

    #[test]
    fn what_trackers_hold_is_on_the_disk_before_a_checkpoint_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let (setup, run) = (fresh(folder.path(), "save_interval = 1"), directory(folder.path()));
        let (mut wandb, mut metrics) = (offline(&setup, &run), JsonLines::open(&run, 1).unwrap());
        let mut observer = |event: &Event<'_>| {
            metrics.observe(event).unwrap();
            wandb.observe(event).unwrap();
        };
        struct Both<F>(F);
        impl<F: FnMut(&Event<'_>)> Observer for Both<F> {
            fn observe(&mut self, event: &Event<'_>) -> anyhow::Result<()> {
                (self.0)(event);
                Ok(())
            }
        }
        let mut orders = Orders { run: run.path(), found: Vec::new() };
        let source = ImageSource::files(setup.image_files(), setup.plan.views());
        let mut trainer = setup.into_trainer(source, Device::Cpu, WorkerPools::new(2, 1).unwrap(), Rc::new(Alone));
        trainer.run(&mut Both(&mut observer), &mut orders, &StopFlag::default()).unwrap();
        // Eight updates in two epochs: after each, and after each validation, twice where the model is the best.
        assert!(orders.found.len() >= 11, "{:?}", orders.found);
        for [done, logged, rows] in &orders.found {
            assert_eq!([logged, rows], [done, done], "{:?}", orders.found);
        }
    }

    #[test]
    fn a_run_killed_within_a_validation_has_one_whole_row_for_the_epochs_last_update() {
        let folder = tempfile::tempdir().unwrap();
        let (setup, run) = (fresh(folder.path(), ""), directory(folder.path()));
        // A folder in which the run can be resumed.
        run.write("config.resolved.toml", &caption_train::config::to_toml(&setup.plan.config)).unwrap();
        let mut wandb = offline(&setup, &run);
        let mut metrics = JsonLines::open(&run, 1).unwrap();
        let (outcome, ..) = interrupted(setup, &run, |event| {
            metrics.observe(event).unwrap();
            wandb.observe(event).unwrap();
            if matches!(event, Event::ValidationStarted { .. }) { Then::Fail } else { Then::Continue }
        });
        assert!(outcome.is_err());
        // A process that is killed drops nothing, and its lock goes with it.
        std::mem::forget(wandb);
        std::fs::remove_file(run.path().join(base::lock::LOCK_FILE)).unwrap();

        let recorder = Recorder::start();
        let output = logging_to(&recorder).arg("--resume").arg(last_checkpoint(run.path())).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        let rows = history(&recorder, &id(run.path()));
        let steps: Vec<u64> = rows.iter().map(|row| row["_step"].as_u64().unwrap()).collect();
        assert_eq!(steps, (1..=8).collect::<Vec<_>>(), "{}", stderr(&output));
        for name in ["train/loss", "train/grad_norm", "train/epoch_loss", "val/loss"] {
            assert!(rows[3][name].is_number(), "{name}: {}", rows[3]);
        }
    }

    #[test]
    fn a_server_gets_every_update_once_the_end_and_nothing_shows_the_key() {
        let (recorder, folder) = (Recorder::start(), tempfile::tempdir().unwrap());
        let output = tracked(&recorder, &config(folder.path(), "")).output().unwrap();
        let text = stderr(&output);
        assert!(output.status.success() && text.contains(&recorder.url), "{text}");
        let run = folder.path().join("run");
        let steps = recorder.steps(&id(&run));
        let logged: Vec<u64> = crate::support::losses(&run).into_iter().map(|(step, _)| step).collect();
        assert!(logged.iter().all(|step| steps.contains(step)), "{logged:?} {steps:?}");
        assert!(steps.is_sorted_by(|one, next| one < next), "{steps:?}");
        let last = history(&recorder, &id(&run)).pop().unwrap();
        for name in ["train/loss", "train/epoch_loss", "val/loss", "val/samples"] {
            assert!(!last[name].is_null(), "{name}: {last}");
        }
        let end = recorder.requests().iter().map(Request::json).find(|body| body["complete"] == true);
        assert_eq!(end.unwrap()["exitcode"], 0);
        assert!(recorder.uploads().keys().any(|name| name.contains("media/images/val/samples")));
        for path in files_below(folder.path()) {
            let bytes = fs::read(&path).unwrap();
            assert!(!bytes.windows(KEY.len()).any(|window| window == KEY.as_bytes()), "{}", path.display());
        }
        assert!(!text.contains(KEY));
    }

    /// All that a run sends, and all that it keeps to be sent, under what it is called.
    fn told(recorder: &Recorder, run: &Path) -> Vec<(String, Vec<u8>)> {
        let requests = recorder.requests().into_iter().map(|request| (request.path, request.body));
        let files = files_below(&run.join("wandb"));
        let files = files.into_iter().map(|path| (path.display().to_string(), fs::read(&path).unwrap()));
        requests.chain(files).collect()
    }

    /// A text as a request, and as the log holds it: in quotation marks, or behind its length.
    fn as_value(text: &str) -> Vec<Vec<u8>> {
        vec![format!("\"{text}\"").into_bytes(), [&[text.len() as u8], text.as_bytes()].concat()]
    }

    fn has(content: &[u8], text: &[u8]) -> bool {
        content.windows(text.len()).any(|window| window == text)
    }

    #[test]
    fn what_is_switched_off_is_in_no_request_and_no_file() {
        let host = base::system_usage::host_name().unwrap();
        let memory = base::memory::total_bytes().unwrap();
        for off in [
            None,
            Some("images"),
            Some("console"),
            Some("command"),
            Some("host"),
            Some("paths"),
            Some("system"),
            Some("config"),
        ] {
            let (recorder, folder) = (Recorder::start(), tempfile::tempdir().unwrap());
            let extra = off.map_or(String::new(), |key| format!("\n[tracking.wandb]\n{key} = false\n"));
            let mut command = tracked(&recorder, &config(folder.path(), &extra));
            let output = command.args(["--set", "seed=4711"]).output().unwrap();
            let text = stderr(&output);
            assert!(output.status.success(), "{text}");
            assert!(text.contains("Weights & Biases gets losses and scores"), "{text}");
            assert_eq!(text.contains("; not sent: "), off.is_some(), "{text}");
            let told = told(&recorder, &folder.path().join("run"));
            assert!(told.iter().any(|(_, content)| has(content, b"train/loss")));
            let is_told = |texts: &[Vec<u8>]| {
                texts.iter().find_map(|text| told.iter().find(|(_, content)| has(content, text)).map(|(name, _)| name))
            };
            let paths = [folder.path(), shapes_folder(), Path::new(env!("CARGO_BIN_EXE_caption-train"))];
            for (key, texts, needs_paths) in [
                ("images", vec![b"val/samples".to_vec(), b"images/separated".to_vec(), b"PNG".to_vec()], false),
                ("console", vec![b"epoch  train loss".to_vec()], true),
                ("command", vec![b"seed=4711".to_vec()], true),
                ("host", as_value(&host), false),
                ("paths", paths.map(|path| path.display().to_string().into_bytes()).to_vec(), false),
                ("system", vec![memory.to_string().into_bytes()], false),
                ("config", vec![b"max_grad_norm".to_vec()], false),
            ] {
                let is_off = off == Some(key) || needs_paths && off == Some("paths");
                let found = is_told(&texts);
                assert_eq!(found.is_none(), is_off, "{off:?} is off, and {key} is found in {found:?}");
            }
        }
    }

    #[test]
    fn a_stop_on_the_page_of_the_run_saves_and_ends_it() {
        let (recorder, folder) = (Recorder::start(), tempfile::tempdir().unwrap());
        recorder.press_stop();
        let config = config(folder.path(), "");
        let output = tracked(&recorder, &config).args(["--set", "training.num_epochs=100000"]).output().unwrap();
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(130), "{text}");
        assert!(text.contains("stop was pressed on the run's page"), "{text}");
        assert!(last_checkpoint(&folder.path().join("run")).is_file());
        let end = recorder.requests().iter().map(Request::json).find(|body| body["complete"] == true);
        assert_eq!(end.unwrap()["exitcode"], 130);
    }

    #[test]
    fn a_stop_on_the_page_of_the_run_ends_the_making_of_the_cache() {
        let (recorder, folder) = (Recorder::start(), tempfile::tempdir().unwrap());
        let frozen = small_config(folder.path()).replace("train = \"full\"", "train = \"frozen\"");
        assert!(train(folder.path(), &frozen, &[]).status.success());
        // Who holds the lock seems to fill the cache, and rows that are missing are waited for.
        let store = fs::read_dir(folder.path().join("cache")).unwrap().next().unwrap().unwrap().path();
        let index = fs::OpenOptions::new().write(true).open(store.join("index.bin")).unwrap();
        index.set_len(0).unwrap();
        let lock = fs::File::open(store.join("lock")).unwrap();
        lock.lock().unwrap();
        let mut command = tracked(&recorder, &folder.path().join("run.toml"));
        let mut run = command.stderr(Stdio::piped()).spawn().unwrap();
        let (lines, told) = (BufReader::new(run.stderr.take().unwrap()).lines(), mpsc::channel());
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| told.0.send(line)));
        let mut text = String::new();
        while let Ok(line) = told.1.recv_timeout(LONG_ENOUGH).inspect_err(|_| run.kill().unwrap_or_default()) {
            if line.contains("waiting for another run") {
                recorder.press_stop();
            }
            text += &(line + "\n");
        }
        assert_eq!(run.wait().unwrap().code(), Some(130), "{text}");
        assert!(text.contains("stop was pressed"), "{text}");
        let run = folder.path().join("run-2");
        assert!(last_checkpoint(&run).is_file());
        let end = recorder.requests().iter().map(Request::json).find(|body| body["complete"] == true);
        assert_eq!(end.unwrap()["exitcode"], 130);
        // The lines that came before the server was told have their own times.
        let lines = recorder.lines(&id(&run), "output.log");
        let times: Vec<&str> = ["run    ", "waiting for another run", "stop was pressed"]
            .map(|part| lines.iter().find(|line| line.contains(part)).unwrap().split_once(' ').unwrap().0)
            .to_vec();
        assert!(times.is_sorted() && times[0] < times[1] && times[1] < times[2], "{lines:?}");
    }

    #[test]
    fn online_without_a_key_is_reported_before_anything_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path(), "\n[tracking.wandb]\nmode = \"online\"\n");
        let mut command = binary();
        let nowhere = folder.path().join("nowhere");
        command.env("NETRC", &nowhere).env("HOME", &nowhere).arg("--config").arg(&config);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(stderr(&output).contains("WANDB_API_KEY"), "{}", stderr(&output));
        assert!(!folder.path().join("run").exists());
    }
}
