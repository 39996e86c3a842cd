//! Several processes that train one model, connected by a real MPI: they end with the bits of one process, whatever
//! their number and threads, and whatever happens to one of them.
//!
//! `crates/processes/tests/runtimes` says where MPIs are looked for, and what happens where there is none. `collective.rs`
//! has threads in the place of processes everywhere.

#[path = "../../crates/processes/tests/runtimes/mod.rs"]
mod runtimes;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use base::random::Stream;
use base::terminal;
use caption_train::run::checkpoint::reader::read_metadata;
use serde_json::Value;

use runtimes::{Runtime, runtimes};

use crate::self_critical::scst_config;
use crate::support::{binary, last_checkpoint, losses, small_config, split_checkpoint, stderr};

/// Kills in the ordinary tests. `scripts/check-processes.sh` asks for more with the variable of `kills.rs`.
const NUM_KILLS: usize = 3;
const KILLS_VARIABLE: &str = "CAPTION_TRAIN_KILLS";

impl Runtime {
    /// `mpiexec` with a program for each of these groups of processes: their number, their threads, their arguments.
    fn command(&self, groups: &[(usize, usize, Vec<&std::ffi::OsStr>)]) -> Command {
        let mut command = self.mpiexec();
        for (place, (count, threads, arguments)) in groups.iter().enumerate() {
            if place > 0 {
                command.arg(":");
            }
            command.args(["-n", &count.to_string(), "env", &format!("RAYON_NUM_THREADS={threads}")]);
            command.arg(env!("CARGO_BIN_EXE_caption-train")).args(arguments);
        }
        command.env("WANDB_MODE", "offline").env_remove("WANDB_API_KEY");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    fn train(&self, folder: &Path, size: usize, threads: usize) -> Output {
        let config = folder.join("run.toml");
        self.command(&[(size, threads, vec!["--config".as_ref(), config.as_os_str()])]).output().unwrap()
    }
}

/// The runs that are compared: of 63 updates of 32 pairs, or of 32 updates of 16 images with samples, in four parts.
const VARIANTS: [&str; 3] = ["frozen", "trained", "scst"];

fn config(folder: &Path, variant: &str) -> String {
    let config = small_config(folder).replace("[training]\n", "[training]\nparts = 4\nsave_interval = 7\n");
    match variant {
        "frozen" => config.replace("train = \"full\"", "train = \"frozen\""),
        "trained" => {
            let config = config.replace("[tokenizer]", "augmentation = { flip = true }\n[tokenizer]");
            let by_image = "batch_by = \"image\"\ngradient_accumulation_steps = 3\nbest_metric = \"cider\"\n";
            config.replace("[training]\n", &format!("[training]\n{by_image}"))
                + "\n[evaluation]\nmetrics_interval = 1\nbatch_size = 5\ncaption_split = \"test\"\n"
        }
        "scst" => scst_config(folder),
        other => panic!("there is no variant {other}"),
    }
}

fn write_config(folder: &Path, variant: &str) {
    fs::write(folder.join("run.toml"), config(folder, variant)).unwrap();
}

/// Everything that a checkpoint has but durations, the folder of the run and what wrote it.
fn content(run: &Path) -> (Value, Vec<u8>) {
    let (_, mut metadata, values) = split_checkpoint(&fs::read(last_checkpoint(run)).unwrap());
    for seconds in ["epoch_seconds", "train_seconds"] {
        metadata["state"][seconds] = 0.into();
    }
    for key in ["output_dir", "name"] {
        metadata["config"][key] = Value::Null;
    }
    metadata["config"]["data"]["cache_directory"] = Value::Null;
    (metadata, values)
}

#[track_caller]
fn assert_same(run: &Path, expected: &Path, what: &str) {
    let ((metadata, values), (expected_metadata, expected_values)) = (content(run), content(expected));
    assert!(values == expected_values, "{what}: other tensors");
    assert_eq!(metadata, expected_metadata, "{what}");
    assert_eq!(losses(run), losses(expected), "{what}");
}

/// A run of one process with two threads.
fn alone(variant: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_config(folder.path(), variant);
    let output =
        binary().env("RAYON_NUM_THREADS", "2").arg("--config").arg(folder.path().join("run.toml")).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    folder
}

#[test]
fn any_number_of_threads_computes_the_same_bits() {
    for variant in VARIANTS {
        let expected = alone(variant);
        for threads in ["1", "3"] {
            let folder = tempfile::tempdir().unwrap();
            write_config(folder.path(), variant);
            let mut command = binary();
            command.env("RAYON_NUM_THREADS", threads).arg("--config").arg(folder.path().join("run.toml"));
            let output = command.output().unwrap();
            assert!(output.status.success(), "{}", stderr(&output));
            let what = format!("{variant} with {threads} threads");
            assert_same(&folder.path().join("run"), &expected.path().join("run"), &what);
        }
    }
}

#[test]
fn any_number_of_processes_computes_the_same_bits_and_one_of_them_writes() {
    for runtime in runtimes() {
        for variant in VARIANTS {
            let expected = alone(variant);
            for size in [2, 4] {
                let folder = tempfile::tempdir().unwrap();
                write_config(folder.path(), variant);
                let output = runtime.train(folder.path(), size, 1);
                let text = stderr(&output);
                assert!(output.status.success(), "{text}");
                assert_eq!(text.matches("best model").count(), 1, "{text}");
                let what = format!("{variant} in {size} processes, {}", runtime.library.display());
                assert_same(&folder.path().join("run"), &expected.path().join("run"), &what);
                let predictions = |folder: &Path| fs::read(folder.join("run/predictions/test.json")).ok();
                assert_eq!(predictions(folder.path()), predictions(expected.path()), "{what}");
            }
        }
    }
}

#[test]
fn a_killed_process_ends_the_others_and_another_number_of_them_resumes() {
    let Some(runtime) = runtimes().into_iter().next() else { return };
    let num_kills = std::env::var(KILLS_VARIABLE).map_or(NUM_KILLS, |number| number.parse().unwrap());
    let expected = VARIANTS.map(alone);
    let mut draws = Stream::new(5, "kills", "processes");
    for kill in 0..num_kills {
        let (variant, expected) = (VARIANTS[kill % VARIANTS.len()], &expected[kill % VARIANTS.len()]);
        let size = [2, 4][draws.below(2)];
        let folder = tempfile::tempdir().unwrap();
        let (run, config) = (folder.path().join("run"), folder.path().join("run.toml"));
        write_config(folder.path(), variant);
        let arguments = vec!["--config".as_ref(), config.as_os_str()];
        let child = runtime.command(&[(size, 1, arguments)]).spawn().unwrap();
        // Once there is a checkpoint; or after the end.
        let started = Instant::now();
        while !last_checkpoint(&run).is_file() {
            assert!(started.elapsed() < Duration::from_secs(120), "no checkpoint was written");
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(draws.below(700) as u64));
        let victims = processes_of(&config);
        if let Some(victim) = victims.get(draws.below(victims.len().max(1))) {
            Command::new("kill").args(["-9", &victim.to_string()]).status().unwrap();
        }
        let killed = Instant::now();
        let output = child.wait_with_output().unwrap();
        assert!(killed.elapsed() < Duration::from_secs(30), "the others waited for {} s", killed.elapsed().as_secs());
        let what = format!("kill {kill}, {variant}, {size} processes: {}", stderr(&output));
        let resumed_by = [1, 2, 4][draws.below(3)];
        let arguments = vec!["--resume".as_ref(), run.as_os_str()];
        let output = runtime.command(&[(resumed_by, 1, arguments)]).output().unwrap();
        assert!(output.status.success(), "{what}\n{}", stderr(&output));
        assert_same(&run, &expected.path().join("run"), &what);
    }
    terminal::message(&format!("{num_kills} kills, no tensor differs"));
}

/// The processes of the program, not of `mpiexec`, that train with this config.
fn processes_of(config: &Path) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(id) = entry.file_name().to_string_lossy().parse() else { continue };
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = command.split(|&byte| byte == 0).collect();
        let is_program = words.first() == Some(&env!("CARGO_BIN_EXE_caption-train").as_bytes());
        if is_program && words.contains(&config.as_os_str().as_encoded_bytes()) {
            found.push(id);
        }
    }
    found.sort_unstable();
    found
}

#[test]
fn a_process_with_another_config_is_named_before_the_first_update() {
    let Some(runtime) = runtimes().into_iter().next() else { return };
    let folder = tempfile::tempdir().unwrap();
    write_config(folder.path(), "frozen");
    let config = folder.path().join("run.toml");
    let usual = vec!["--config".as_ref(), config.as_os_str()];
    let other = [&usual[..], &["--set".as_ref(), "training.label_smoothing=0.1".as_ref()]].concat();
    let output = runtime.command(&[(1, 1, usual), (1, 1, other)]).output().unwrap();
    let text = stderr(&output);
    assert!(!output.status.success());
    assert!(text.contains("process 1 has another config than process 0"), "{text}");
    assert!(!folder.path().join("run").exists());
}

#[test]
fn an_image_that_one_process_cannot_read_stops_all_of_them_and_the_checkpoint_stands() {
    let Some(runtime) = runtimes().into_iter().next() else { return };
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let captions: [&str; 2] = ["a red square", "a blue disc"];
    let images: Vec<(&str, &[&str])> =
        (0..24).map(|image| (if image < 20 { "train" } else { "val" }, &captions[..])).collect();
    crate::support::data_set(&data, &images);
    let shapes = crate::support::shapes_folder().display().to_string();
    let config = config(folder.path(), "trained").replace(&shapes, &data.display().to_string());
    let config = config.replace("caption_split = \"test\"\n", "").replace("batch_size = 32", "batch_size = 8");
    fs::write(folder.path().join("run.toml"), config).unwrap();
    fs::write(data.join("images/7.png"), b"no picture").unwrap();
    let started = Instant::now();
    let output = runtime.train(folder.path(), 2, 1);
    let text = stderr(&output);
    assert!(!output.status.success());
    assert!(text.contains("7.png"), "{text}");
    assert!(started.elapsed() < Duration::from_secs(60), "{text}");
    assert!(read_metadata(&last_checkpoint(&folder.path().join("run"))).is_ok(), "{text}");
}
