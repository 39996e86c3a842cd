//! Two processes at the same folder, signals, a terminal that goes away, and threads that cannot be had.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use caption_train::run::checkpoint::reader::read_metadata;

use crate::support::{
    binary, files_below, last_checkpoint, losses, shapes_folder, small_config, stderr, train, with_default_signals,
};

const PATIENCE: Duration = Duration::from_secs(120);
const LOCK: &str = ".caption-train.lock";

fn signal(process: &Child, signal: &str) {
    assert!(Command::new("kill").args([signal, &process.id().to_string()]).status().unwrap().success());
}

#[track_caller]
fn wait_until(mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "it did not come");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A run that saves often and takes a while.
fn long_run(folder: &Path) -> Command {
    let config =
        small_config(folder).replace("num_epochs = 1", "num_epochs = 6\nvalidation_interval = 6\nsave_interval = 2");
    let path = folder.join("run.toml");
    fs::write(&path, config).unwrap();
    let mut command = binary();
    command.arg("--config").arg(path).stderr(Stdio::null());
    with_default_signals(&mut command);
    command
}

fn steps_are_there_once(run: &Path) {
    let steps: Vec<u64> = losses(run).into_iter().map(|(step, _)| step).collect();
    assert_eq!(steps.iter().collect::<BTreeSet<_>>().len(), steps.len(), "{} has steps twice", run.display());
}

#[test]
fn a_suspended_run_that_wakes_up_and_its_resume_write_into_folders_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let (run, resumed) = (folder.path().join("run"), folder.path().join("run-2"));
    let mut first = long_run(folder.path()).spawn().unwrap();
    wait_until(|| last_checkpoint(&run).is_file());
    signal(&first, "-STOP");
    let second = binary().arg("--resume").arg(&run).stderr(Stdio::piped()).spawn().unwrap();
    wait_until(|| last_checkpoint(&resumed).is_file());
    signal(&first, "-CONT");
    let second = second.wait_with_output().unwrap();
    assert!(first.wait().unwrap().success());
    assert!(second.status.success(), "{}", stderr(&second));
    let told = format!("is still being trained or is suspended (process {}", first.id());
    assert!(stderr(&second).contains(&told), "{}", stderr(&second));
    for run in [&run, &resumed] {
        steps_are_there_once(run);
        assert_eq!(read_metadata(&last_checkpoint(run)).unwrap().0.state.epoch, 6);
        assert_eq!(fs::read(run.join(LOCK)).unwrap(), b"", "nobody holds the run any more");
    }
}

#[test]
fn a_run_that_was_taken_over_stops_and_writes_nothing_more() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let process = long_run(folder.path()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until(|| last_checkpoint(&run).is_file());
    // As another process does where there are no locks.
    fs::write(run.join(LOCK), "process 7 on elsewhere, since then\n").unwrap();
    let output = process.wait_with_output().unwrap();
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("taken over by another process: process 7 on elsewhere"), "{text}");
    assert_eq!(fs::read_to_string(run.join(LOCK)).unwrap(), "process 7 on elsewhere, since then\n");
}

#[test]
fn a_run_whose_process_was_killed_is_resumed_in_its_own_folder() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let mut first = long_run(folder.path()).spawn().unwrap();
    wait_until(|| last_checkpoint(&run).is_file());
    let held = fs::read_to_string(run.join(LOCK)).unwrap();
    assert!(held.starts_with(&format!("process {}", first.id())) && held.contains(", since "), "{held}");
    first.kill().unwrap();
    first.wait().unwrap();
    let output = binary().arg("--resume").arg(&run).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(!folder.path().join("run-2").exists());
    steps_are_there_once(&run);
}

#[test]
fn a_second_preparation_waits_for_the_first_and_leaves_what_it_made() {
    let folder = tempfile::tempdir().unwrap();
    let (source, output) = (folder.path().join("source"), folder.path().join("out"));
    fs::create_dir(&source).unwrap();
    let pictures = files_below(&shapes_folder().join("images"));
    let mut table = "image,caption\n".to_owned();
    for number in 0..1500 {
        let bytes = [fs::read(&pictures[number % pictures.len()]).unwrap(), number.to_string().into_bytes()].concat();
        fs::write(source.join(format!("{number}.jpg")), bytes).unwrap();
        table += &format!("{number}.jpg,a caption {number}\n");
    }
    fs::write(source.join("captions.csv"), table).unwrap();
    let prepare = || {
        let mut command = binary();
        command.arg("prepare-data").arg("--source").arg(&source).arg("--output").arg(&output).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let first = prepare();
    wait_until(|| fs::read_dir(output.join("images")).is_ok_and(|files| files.count() > 10));
    // While it is suspended the second one cannot but wait.
    signal(&first, "-STOP");
    let mut second = prepare();
    let mut lines = BufReader::new(second.stderr.take().unwrap()).lines().map_while(Result::ok);
    let told = lines.find(|line| line.contains("waiting for another process")).unwrap();
    assert!(told.contains(&format!("process {}", first.id())), "{told}");
    assert!(second.try_wait().unwrap().is_none());
    signal(&first, "-CONT");
    let first = first.wait_with_output().unwrap();
    assert!(first.status.success(), "{}", stderr(&first));
    let rest: Vec<String> = lines.collect();
    assert!(second.wait().unwrap().success(), "{rest:?}");
    assert!(rest.iter().any(|line| line.contains("was prepared before, nothing to do")), "{rest:?}");
}

#[test]
fn a_terminal_that_is_closed_ends_a_run_after_it_saved_though_nobody_reads_what_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let mut process = long_run(folder.path()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until(|| last_checkpoint(&run).is_file());
    drop(process.stderr.take());
    // Shells pass the signal on, so that it comes more than once.
    for _ in 0..4 {
        signal(&process, "-HUP");
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(process.wait().unwrap().code(), Some(130));
    let saved = read_metadata(&last_checkpoint(&run)).unwrap().0.state.global_step;
    assert_eq!(losses(&run).last().unwrap().0, saved, "an update was lost");
}

#[test]
fn signals_that_were_ignored_at_the_start_stay_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.toml");
    fs::write(&path, small_config(folder.path()).replace("num_epochs = 1", "num_epochs = 2")).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' HUP INT; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_caption-train"), "--config"]);
    let mut process = command.arg(&path).env("WANDB_MODE", "disabled").stderr(Stdio::null()).spawn().unwrap();
    wait_until(|| last_checkpoint(&folder.path().join("run")).is_file());
    for name in ["-HUP", "-INT"] {
        signal(&process, name);
    }
    assert_eq!(process.wait().unwrap().code(), Some(0));
    assert_eq!(losses(&folder.path().join("run")).len(), 2 * 63);
}

#[test]
fn threads_that_cannot_be_had_are_an_error_with_a_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let config = small_config(folder.path());
    assert!(train(folder.path(), &config, &[]).status.success());
    let (config, last) = (folder.path().join("run.toml"), last_checkpoint(&folder.path().join("run")));
    let pictures = shapes_folder().join("images");
    for arguments in [
        vec!["--config".as_ref(), config.as_os_str()],
        vec!["caption".as_ref(), "--checkpoint".as_ref(), last.as_os_str(), pictures.as_os_str()],
        vec!["evaluate".as_ref(), "--checkpoint".as_ref(), last.as_os_str()],
    ] {
        // No system has room for such stacks.
        let output = binary().args(&arguments).env("RUST_MIN_STACK", (1_u64 << 48).to_string()).output().unwrap();
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{arguments:?} {text}");
        assert!(text.contains("cannot start the compute threads") && text.contains("hint: "), "{text}");
        assert!(!text.contains("panicked"), "{text}");
    }
    // What needs none is done all the same.
    let output = binary().arg("inspect").arg(&last).env("RUST_MIN_STACK", (1_u64 << 48).to_string()).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn a_number_of_threads_that_no_machine_has_is_a_mistake_of_usage() {
    for (name, number) in [
        ("RAYON_NUM_THREADS", "100000"),
        ("RAYON_NUM_THREADS", "many"),
        ("RAYON_RS_NUM_CPUS", "99999999999999999999"),
        ("CANDLE_NUM_THREADS", "100000"),
    ] {
        let started = Instant::now();
        let output =
            binary().args(["caption", "--checkpoint", "a.safetensors", "a.jpg"]).env(name, number).output().unwrap();
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(name) && text.contains(number) && text.contains("hint: unset"), "{text}");
        assert!(started.elapsed() < Duration::from_secs(20), "{name}={number}");
    }
}
