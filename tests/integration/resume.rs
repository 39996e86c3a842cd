//! Stopping and resuming, with the binary and real signals.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use caption_train::config::BatchBy;
use caption_train::data::batch::Example;
use caption_train::data::example_list::ExampleList;
use caption_train::run::checkpoint::reader::{read_checkpoint, read_metadata};

use crate::support::{
    binary, join_checkpoint, last_checkpoint, losses, small_config, split_checkpoint, stderr, train,
    with_default_signals,
};

const INTERRUPTED: Option<i32> = Some(130);

/// Trains until `updates` are logged, then sends the signal twice at once, as `timeout` does, and gives the exit code.
fn train_and_stop(folder: &Path, config: &str, updates: usize, signal: &str) -> Option<i32> {
    let path = folder.join("run.toml");
    std::fs::write(&path, config).unwrap();
    let mut command = binary();
    with_default_signals(&mut command);
    let mut child = command.arg("--config").arg(&path).stderr(Stdio::null()).spawn().unwrap();
    let metrics = folder.join("run/metrics.jsonl");
    let started = Instant::now();
    loop {
        let logged = std::fs::read_to_string(&metrics).map_or(0, |text| text.matches("\"kind\":\"step\"").count());
        if logged >= updates {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(120), "no update was logged");
        assert!(child.try_wait().unwrap().is_none(), "the run ended before it was stopped");
        std::thread::sleep(Duration::from_millis(2));
    }
    let id = child.id().to_string();
    assert!(Command::new("kill").args([signal, &id, &id]).status().unwrap().success());
    child.wait().unwrap().code()
}

/// 500 pictures, 2000 pairs, 32 updates in an epoch.
fn config(folder: &Path, encoder: &str) -> String {
    small_config(folder)
        .replace("train = \"full\"", &format!("train = \"{encoder}\""))
        .replace("num_epochs = 1", "num_epochs = 2\ngradient_accumulation_steps = 2")
        .replace("[tokenizer]", "workers = 2\n[tokenizer]")
}

fn stopped_run_equals_undisturbed_run(encoder: &str, batch_by: &str, signal: &str) {
    // One of the runs scores its captions and keeps the best by them.
    let scored = batch_by == "image";
    let config = |folder: &Path| {
        let config = config(folder, encoder).replace("[training]", &format!("[training]\nbatch_by = \"{batch_by}\""));
        if !scored {
            return config;
        }
        config.replace("[training]", "[training]\nbest_metric = \"cider\"") + "\n[evaluation]\nmetrics_interval = 1\n"
    };
    let (undisturbed, stopped) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let output = train(undisturbed.path(), &config(undisturbed.path()), &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(train_and_stop(stopped.path(), &config(stopped.path()), 5, signal), INTERRUPTED);

    let run = stopped.path().join("run");
    let (metadata, _) = read_metadata(&last_checkpoint(&run)).unwrap();
    let state = &metadata.state;
    assert_eq!((state.epoch, state.updates_in_epoch), (0, state.global_step));
    assert!((5..32).contains(&state.global_step), "stopped after update {}", state.global_step);

    let output = binary().arg("--resume").arg(last_checkpoint(&run)).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let expected = losses(&undisturbed.path().join("run"));
    assert_eq!(expected.len(), 64);
    assert_eq!(losses(&run), expected);
    let model = |run: &Path| {
        let checkpoint = read_checkpoint(&last_checkpoint(run)).unwrap();
        let state = &checkpoint.metadata.state;
        (checkpoint.metadata.tensors_digest.clone(), state.best_val_loss, state.best_cider, state.best_epoch)
    };
    assert_eq!(model(&run), model(&undisturbed.path().join("run")));
    assert!(!scored || model(&run).2.is_some());
}

#[test]
fn a_run_stopped_by_sigterm_continues_to_the_same_losses_with_a_trained_encoder() {
    stopped_run_equals_undisturbed_run("full", "pair", "-TERM");
}

#[test]
fn a_run_stopped_by_sigint_continues_to_the_same_losses_with_a_frozen_encoder() {
    stopped_run_equals_undisturbed_run("frozen", "pair", "-INT");
}

#[test]
fn a_run_stopped_by_sighup_continues_to_the_same_losses() {
    stopped_run_equals_undisturbed_run("full", "image", "-HUP");
}

#[test]
fn a_stopped_run_whose_batches_go_by_image_continues_to_the_same_losses() {
    stopped_run_equals_undisturbed_run("frozen", "image", "-TERM");
}

/// Waits until `is_there`, for at most two minutes.
fn wait_for(what: &str, is_there: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_there() {
        assert!(started.elapsed() < Duration::from_secs(120), "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_signal_while_data_are_prepared_ends_the_process_at_once_and_the_same_command_continues() {
    let folder = tempfile::tempdir().unwrap();
    let config =
        small_config(folder.path()).replace("\ndirectory = ", "\ndataset = \"shapes\"\ndirectory = \"new\" # ");
    let path = folder.path().join("run.toml");
    std::fs::write(&path, config).unwrap();
    let mut command = binary();
    command.current_dir(folder.path()).arg("--config").arg(&path).stderr(Stdio::piped());
    with_default_signals(&mut command);
    let child = command.spawn().unwrap();
    wait_for("no drawing was begun", || folder.path().join("new/images").exists());
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), INTERRUPTED);
    assert!(stderr(&output).contains("run the same command to continue"), "{}", stderr(&output));
    assert!(!folder.path().join("run").exists() && !folder.path().join("new/preparation.json").exists());
}

#[test]
fn a_second_signal_ends_a_run_that_has_not_stopped_yet() {
    let folder = tempfile::tempdir().unwrap();
    // One update of 2000 pairs with a wide decoder takes seconds, and a stop takes effect behind it.
    let config = small_config(folder.path())
        .replace("batch_size = 32", "batch_size = 32\ngradient_accumulation_steps = 63")
        .replace("hidden_size = 16\nnum_layers = 2", "hidden_size = 256\nnum_layers = 8");
    let path = folder.path().join("run.toml");
    std::fs::write(&path, config).unwrap();
    let mut child = binary().arg("--config").arg(&path).stderr(Stdio::null()).spawn().unwrap();
    wait_for("no update was begun", || folder.path().join("run/metrics.jsonl").exists());
    let signal = || Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    // The file is opened just before the update.
    std::thread::sleep(Duration::from_millis(300));
    assert!(signal().success());
    std::thread::sleep(Duration::from_millis(700));
    assert!(signal().success());
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(!last_checkpoint(&folder.path().join("run")).exists());
}

#[test]
fn the_same_command_twice_gives_the_same_losses_in_a_folder_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let config = small_config(folder.path());
    assert!(train(folder.path(), &config, &[]).status.success());
    assert!(train(folder.path(), &config, &[]).status.success());
    let (first, second) = (losses(&folder.path().join("run")), losses(&folder.path().join("run-2")));
    assert_eq!(first.len(), 63);
    assert_eq!(first, second);
}

#[test]
fn an_earlier_checkpoint_continues_in_a_new_folder_and_overwrites_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let config = small_config(folder.path()).replace("num_epochs = 1", "num_epochs = 2");
    assert!(train(folder.path(), &config, &["--set", "checkpoint.keep_best=2"]).status.success());
    let checkpoints = folder.path().join("run/checkpoints");
    let earlier = std::fs::read_dir(&checkpoints)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.display().to_string().contains("checkpoint_epoch_1_"))
        .unwrap();
    let before = std::fs::read(last_checkpoint(&folder.path().join("run"))).unwrap();
    let output = binary().arg("--resume").arg(&earlier).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(std::fs::read(last_checkpoint(&folder.path().join("run"))).unwrap(), before);
    let (all, rest) = (losses(&folder.path().join("run")), losses(&folder.path().join("run-2")));
    assert_eq!(rest, all[63..]);
}

#[test]
fn more_epochs_may_be_asked_for_and_another_learning_rate_may_not() {
    let folder = tempfile::tempdir().unwrap();
    assert!(train(folder.path(), &small_config(folder.path()), &[]).status.success());
    let last = last_checkpoint(&folder.path().join("run"));
    let resume = |set: &str| binary().arg("--resume").arg(&last).args(["--set", set]).output().unwrap();
    let refused = resume("optimizer.learning_rate=0.1");
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("optimizer.learning_rate"), "{}", stderr(&refused));
    let output = resume("training.num_epochs=2");
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(losses(&folder.path().join("run")).len(), 126);
}

#[test]
fn resume_from_a_missing_file_warns_and_begins_from_scratch() {
    let folder = tempfile::tempdir().unwrap();
    let config =
        small_config(folder.path()).replace("num_epochs = 1", "num_epochs = 1\nresume_from = \"absent.safetensors\"");
    let output = train(folder.path(), &config, &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("training.resume_from, absent.safetensors, does not exist: training from scratch"),
        "{}",
        stderr(&output)
    );
    assert_eq!(losses(&folder.path().join("run"))[0].0, 1);

    let absent = binary().args(["--resume", "absent.safetensors"]).output().unwrap();
    assert_eq!(absent.status.code(), Some(1));
    assert!(stderr(&absent).contains("absent.safetensors"), "{}", stderr(&absent));
}

#[test]
fn resume_from_in_the_config_continues_and_refuses_another_model() {
    let folder = tempfile::tempdir().unwrap();
    let config = small_config(folder.path()).replace("num_epochs = 1", "num_epochs = 2");
    assert_eq!(train_and_stop(folder.path(), &config, 5, "-TERM"), INTERRUPTED);
    let run = folder.path().join("run");
    let from = format!("training.resume_from={}", last_checkpoint(&run).display());
    let other = train(folder.path(), &config, &["--set", &from, "--set", "model.decoder.num_layers=1"]);
    assert_eq!(other.status.code(), Some(2), "{}", stderr(&other));
    assert!(stderr(&other).contains("model.decoder.num_layers"), "{}", stderr(&other));
    let output = train(folder.path(), &config, &["--set", &from]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(losses(&run).len(), 126);
}

#[test]
fn another_data_set_than_that_of_the_checkpoint_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    assert!(train(folder.path(), &small_config(folder.path()), &[]).status.success());
    let other = folder.path().join("other");
    let drawing = datasets::shapes::Drawing { num_train: 30, num_val: 4, num_test: 4, side: 32, seed: 2 };
    datasets::shapes::draw_with(&drawing, &other).unwrap();
    let output = binary()
        .arg("--resume")
        .arg(last_checkpoint(&folder.path().join("run")))
        .args(["--set", &format!("data.directory={}", other.display())])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("is not the one that the checkpoint was trained on"), "{}", stderr(&output));
}

#[test]
fn a_relative_path_from_inside_the_run_continues_in_place() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(train_and_stop(folder.path(), &config(folder.path(), "frozen"), 5, "-TERM"), INTERRUPTED);
    let run = folder.path().join("run");
    let output = binary().current_dir(run.join("checkpoints")).args(["--resume", "last.safetensors"]).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(losses(&run).len(), 64);
    assert!(!folder.path().join("run-2").exists());
}

#[test]
fn a_finished_checkpoint_elsewhere_makes_a_run_that_has_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    assert!(train(folder.path(), &small_config(folder.path()), &[]).status.success());
    let copy = folder.path().join("copy.safetensors");
    std::fs::copy(last_checkpoint(&folder.path().join("run")), &copy).unwrap();
    let output = binary().arg("--resume").arg(&copy).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("is missing: using the latest"), "{}", stderr(&output));
    assert!(last_checkpoint(&folder.path().join("run-2")).is_file());
}

#[test]
fn an_unreadable_picture_costs_no_update() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let drawing = datasets::shapes::Drawing { num_train: 60, num_val: 4, num_test: 4, side: 32, seed: 5 };
    datasets::shapes::draw_with(&drawing, &data).unwrap();
    // The picture of the first epoch's last pair, so that some updates come before it.
    let dataset = datasets::prepared::Dataset::open(&data).unwrap();
    let train_images: Vec<usize> = (0..dataset.images.len())
        .filter(|&image| dataset.images.get(image).split() == datasets::prepared::Split::Train)
        .collect();
    let image_of = |pair: u32| train_images[pair as usize / 4];
    let example = |pair: usize| Example { image: pair / 4, tokens: Vec::new(), prompt_length: 0, weight: 1.0 };
    let examples: ExampleList = (0..240).map(example).collect();
    let order = caption_train::data::sampler::epoch_order(0, 1, &examples, BatchBy::Pair);
    let late = order
        .iter()
        .rev()
        .map(|&pair| image_of(pair))
        .find(|&image| order.iter().position(|&pair| image_of(pair) == image).unwrap() >= 64);
    std::fs::remove_file(dataset.picture(late.unwrap()).path()).unwrap();
    let shapes = crate::support::shapes_folder().display().to_string();
    let output = train(folder.path(), &small_config(folder.path()).replace(&shapes, &data.display().to_string()), &[]);
    assert_eq!(output.status.code(), Some(1));
    let (metadata, _) = read_metadata(&last_checkpoint(&folder.path().join("run"))).unwrap();
    assert!(metadata.state.global_step >= 2, "{}", metadata.state.global_step);
}

#[test]
fn a_checkpoint_of_the_version_before_with_a_key_that_was_retired_can_be_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let output = train(folder.path(), &small_config(folder.path()), &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    let path = last_checkpoint(&folder.path().join("run"));
    let (mut header, mut metadata, values) = split_checkpoint(&std::fs::read(&path).unwrap());
    metadata["format_version"] = 2.into();
    metadata["config"]["data"]["feature_memory_gb"] = 8.0.into();
    // That version knew nothing of these either.
    let unknown = [
        ("/state", "validations_since_best"),
        ("/state", "loss_watch"),
        ("/state", "best_cider"),
        ("/config", "decoding"),
        ("/config/training", "best_metric"),
        ("/config/evaluation", "metrics_interval"),
        ("/config/evaluation", "meteor_resources"),
    ];
    for (place, key) in unknown {
        metadata.pointer_mut(place).and_then(|value| value.as_object_mut()).unwrap().remove(key).unwrap();
    }
    header["__metadata__"].as_object_mut().unwrap().remove("caption_train_sha256").unwrap();
    std::fs::write(&path, join_checkpoint(header, &metadata, &values)).unwrap();
    let output = binary().arg("--resume").arg(&path).args(["--set", "training.num_epochs=2"]).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(losses(&folder.path().join("run")).len(), 126);
}

#[test]
fn a_run_folder_or_auto_resumes_from_the_newest_checkpoint_that_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let resume = |named: &str| {
        let mut command = binary();
        command.current_dir(folder.path()).args(["--resume", named, "--set", "training.num_epochs=3"]);
        let output = command.output().unwrap();
        (output.status.success(), stderr(&output))
    };
    let (done, text) = resume("auto");
    assert!(!done && text.contains("hint: "), "{text}");
    let config = small_config(Path::new("runs")).replace("num_epochs = 1", "num_epochs = 2");
    std::fs::write(folder.path().join("run.toml"), config).unwrap();
    let output = binary().current_dir(folder.path()).args(["--config", "run.toml"]).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let run = folder.path().join("runs/run");

    let (done, text) = resume("auto");
    assert!(done && text.contains("from        runs/run/checkpoints/last.safetensors"), "{text}");
    assert_eq!(losses(&run).len(), 3 * 63);

    // A newest file that is damaged: the best before it is taken, in a folder of its own.
    let last = last_checkpoint(&run);
    let bytes = std::fs::read(&last).unwrap();
    std::fs::write(&last, &bytes[..bytes.len() - 1]).unwrap();
    let (done, text) = resume("runs/run");
    assert!(
        done && text.contains("skipping runs/run/checkpoints/last.safetensors: ") && text.contains("truncated"),
        "{text}"
    );
    assert!(folder.path().join("runs/run-2").is_dir(), "{text}");

    for file in std::fs::read_dir(run.join("checkpoints")).unwrap() {
        std::fs::write(file.unwrap().path(), "").unwrap();
    }
    let (done, text) = resume("runs/run");
    assert!(!done && text.contains("no resumable checkpoint in runs/run/checkpoints"), "{text}");
    let (done, text) = resume("auto");
    assert!(done && text.contains("skipping runs/run: ") && text.contains("from        runs/run-2/"), "{text}");
}
