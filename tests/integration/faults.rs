//! Runs whose disk, folders or losses fail: what was good stays good, the failure is named, and the run can be resumed.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use caption_train::run::checkpoint::reader::{read_checkpoint, read_metadata};
use serde_json::{Value, json};

use crate::support::{binary, files_below, last_checkpoint, losses, small_config, stderr, train, with_default_signals};

fn checkpoints(run: &Path) -> Vec<String> {
    let files = fs::read_dir(run.join("checkpoints")).unwrap();
    let mut names: Vec<String> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The lines of one kind in `metrics.jsonl`.
fn metrics(run: &Path, kind: &str) -> Vec<Value> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["kind"] == kind).collect()
}

#[cfg(unix)]
#[test]
fn a_disk_that_is_full_leaves_the_checkpoint_before_and_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let output = train(folder.path(), &small_config(folder.path()), &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    let run = folder.path().join("run");
    let (last, before) = (last_checkpoint(&run), checkpoints(&run));
    let whole = fs::read(&last).unwrap();
    // No file may grow beyond 64 KiB: a checkpoint has more, logs have less.
    let more = ["--set", "training.num_epochs=2", "--set", "training.save_interval=1"];
    let limited = |arguments: &[&str]| -> Output {
        let mut command = Command::new("bash");
        command.args(["-c", "ulimit -f 64; exec \"$@\"", "bash", env!("CARGO_BIN_EXE_caption-train")]);
        command.arg("--resume").arg(&last).args(arguments).output().unwrap()
    };
    assert!(whole.len() > 64 << 10);
    let output = limited(&more);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("cannot write the checkpoint") && text.contains("File too large"), "{text}");
    assert!(text.contains("hint: free some disk space"), "{text}");
    assert!(text.contains(&format!("the last good checkpoint is {}, after update 63", last.display())), "{text}");
    assert_eq!(fs::read(&last).unwrap(), whole);
    assert_eq!(checkpoints(&run), before, "nothing half written stays");
    // With room again the run goes on as if nothing had happened.
    let output = binary().arg("--resume").arg(&last).args(&more[..2]).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(losses(&run).len(), 2 * 63);
}

/// What `status.json` says, and the report.
fn status(run: &Path) -> (Value, String) {
    let status = serde_json::from_slice(&fs::read(run.join("status.json")).unwrap()).unwrap();
    let output = binary().arg("report").arg(run).args(["--num-images", "0"]).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    (status, fs::read_to_string(run.join("report.html")).unwrap())
}

#[cfg(unix)]
#[test]
fn a_run_says_in_its_folder_how_it_ended() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    assert!(train(folder.path(), &small_config(folder.path()), &[]).status.success());
    let page = fs::read_to_string(run.join("report.html")).unwrap();
    assert!(page.contains("finished") && !page.contains("not finished"), "the run's own page says so");
    assert_eq!(status(&run).0, json!({"format_version": 1, "status": "finished"}));

    // Killed, and then stopped, after some updates.
    let mut updates = 63;
    let num_processes = || {
        let environment: Value = serde_json::from_slice(&fs::read(run.join("environment.json")).unwrap()).unwrap();
        environment["processes"].as_array().unwrap().len()
    };
    // Whoever looks meanwhile may see a part of a line.
    let num_logged = || fs::read_to_string(run.join("metrics.jsonl")).unwrap().matches("\"kind\":\"step\"").count();
    for (number, (signal, code)) in [("-KILL", None), ("-TERM", Some(130))].into_iter().enumerate() {
        let mut command = binary();
        with_default_signals(&mut command);
        command.arg("--resume").arg(last_checkpoint(&run)).args(["--set", "training.num_epochs=9999"]);
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        let started = Instant::now();
        // A process writes itself down once the metrics are rewound.
        while num_processes() < number + 2 || num_logged() < updates + 20 {
            assert!(started.elapsed() < Duration::from_secs(120), "no update was logged");
            std::thread::sleep(Duration::from_millis(20));
        }
        let (found, page) = status(&run);
        assert_eq!(found, json!({"format_version": 1, "status": "running"}));
        assert!(page.contains("not finished: the last logged update is"));
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
        assert_eq!(child.wait().unwrap().code(), code);
        updates = read_metadata(&last_checkpoint(&run)).unwrap().0.state.global_step as usize;
        let (found, page) = status(&run);
        match code {
            None => assert!(found["status"] == "running" && page.contains("not finished"), "{found}"),
            Some(_) => {
                assert_eq!(found, json!({"format_version": 1, "status": "interrupted", "step": updates}));
                assert!(page.contains("interrupted after update"), "{found}");
            }
        }
    }

    let mut command = Command::new("bash");
    command.args(["-c", "ulimit -f 64; exec \"$@\"", "bash", env!("CARGO_BIN_EXE_caption-train")]);
    command.arg("--resume").arg(last_checkpoint(&run));
    assert_eq!(command.env("WANDB_MODE", "disabled").output().unwrap().status.code(), Some(1));
    let (found, page) = status(&run);
    let message = found["message"].as_str().unwrap();
    assert!(found["status"] == "failed" && message.contains("File too large"), "{found}");
    assert!(page.contains("File too large"));
}

#[test]
fn a_folder_that_cannot_be_made_or_written_is_named_before_anything_is_trained() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    for output_dir in [file.as_path(), Path::new("/proc/runs")] {
        let set = format!("output_dir={}", output_dir.display());
        let output = train(folder.path(), &small_config(folder.path()), &["--set", &set]);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(&output_dir.display().to_string()) && text.contains("hint: set output_dir"), "{text}");
    }
}

#[test]
fn save_points_that_are_kept_are_the_newest_and_each_can_be_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let config = small_config(folder.path()).replace("num_epochs = 1", "num_epochs = 1\nsave_interval = 20")
        + "[checkpoint]\nkeep_last = 3\n";
    let output = train(folder.path(), &config, &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    let run = folder.path().join("run");
    let names = checkpoints(&run);
    assert!(names[0].starts_with("checkpoint_epoch_1_"), "{names:?}");
    let kept = ["last_step_40.safetensors", "last_step_60.safetensors", "last_step_63.safetensors"];
    assert_eq!(names[1..], ["last.safetensors", kept[0], kept[1], kept[2]]);
    for (name, step) in kept.iter().zip([40, 60, 63]) {
        let checkpoint = read_checkpoint(&run.join("checkpoints").join(name)).unwrap();
        assert_eq!(checkpoint.metadata.state.global_step, step);
    }
    assert_eq!(fs::read(run.join("checkpoints").join(kept[2])).unwrap(), fs::read(last_checkpoint(&run)).unwrap());
    let output = binary().arg("--resume").arg(run.join("checkpoints").join(kept[0])).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(losses(&folder.path().join("run-2")), losses(&run)[40..]);

    // A process that was killed before it gave the newest one its second name.
    fs::remove_file(run.join("checkpoints").join(kept[2])).unwrap();
    let resume = |extra: &[&str]| {
        let output = binary().arg("--resume").arg(&run).args(extra).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        checkpoints(&run)
    };
    assert_eq!(resume(&[])[1..], ["last.safetensors", kept[0], kept[1], kept[2]]);
    let left = resume(&["--set", "checkpoint.keep_last=1", "--set", "training.num_epochs=2"]);
    assert!(!left.iter().any(|name| name.starts_with("last_step")), "{left:?}");
}

#[test]
fn a_run_ends_when_its_validation_loss_has_not_fallen_for_as_long_as_its_patience() {
    let folder = tempfile::tempdir().unwrap();
    // So small a rate changes no parameter, and every validation gives the same loss.
    let config = small_config(folder.path()).replace("num_epochs = 1", "num_epochs = 9\npatience = 2")
        + "[optimizer]\nlearning_rate = 1e-30\nweight_decay = 0\n";
    let output = train(folder.path(), &config, &[]);
    let (run, text) = (folder.path().join("run"), stderr(&output));
    assert!(output.status.success(), "{text}");
    assert!(text.contains("the run ends after epoch 3: 2 validations in a row"), "{text}");
    assert_eq!(metrics(&run, "validation").len(), 3);
    assert_eq!(status(&run).0["status"], "ended_early");
    // It stays ended, unless more patience is asked for.
    let resume = |set: &[&str]| {
        let output = binary().arg("--resume").arg(last_checkpoint(&run)).args(set).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        metrics(&run, "validation").len()
    };
    assert_eq!(resume(&[]), 3);
    assert_eq!(resume(&["--set", "training.patience=3"]), 4);
}

#[test]
fn captions_that_are_all_the_same_raise_an_alarm_at_each_validation() {
    let folder = tempfile::tempdir().unwrap();
    let config = small_config(folder.path()) + "[optimizer]\nlearning_rate = 1e-30\n";
    let output = train(folder.path(), &config, &[]);
    assert!(stderr(&output).contains("of 12 images have the same caption"), "{}", stderr(&output));
    let validation = &metrics(&folder.path().join("run"), "validation")[0];
    assert!(validation["alarms"][0].as_str().unwrap().contains("have the same caption"), "{validation}");

    let output = train(folder.path(), &config, &["--set", "evaluation.num_samples=0"]);
    assert!(output.status.success() && !stderr(&output).contains("same caption"), "{}", stderr(&output));
    assert_eq!(metrics(&folder.path().join("run-2"), "validation")[0]["alarms"], serde_json::json!([]));
}

#[test]
fn a_model_that_no_memory_holds_is_refused_by_plan_and_by_training_before_any_of_it_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let config = small_config(folder.path())
        .replace("hidden_size = 16\nnum_layers = 2", "hidden_size = 65536\nnum_layers = 1024")
        .replace("intermediate_size = 32\nmax_seq_len", "intermediate_size = 65536\nmax_seq_len");
    let path = folder.path().join("run.toml");
    fs::write(&path, config).unwrap();
    for arguments in [vec!["plan", "--config"], vec!["--config"]] {
        let output = binary().args(arguments).arg(&path).output().unwrap();
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("the model does not fit into memory") && text.contains("GB are available"), "{text}");
        assert!(text.contains("hint: choose a smaller decoder"), "{text}");
    }
    assert!(!folder.path().join("run").exists());
}

#[test]
fn a_batch_that_no_memory_holds_is_foreseen_by_plan_and_not_tried() {
    let folder = tempfile::tempdir().unwrap();
    // Small to hold and huge to compute: every pair has 65,536 patches, keys and values of which are 1024 wide.
    let config = small_config(folder.path())
        .replace("image_size = 32, patch_size = 16", "image_size = 512, patch_size = 2")
        .replace("hidden_size = 16\nnum_layers = 2", "hidden_size = 1024\nnum_layers = 2")
        .replace("batch_size = 32", "batch_size = 2000");
    let path = folder.path().join("run.toml");
    fs::write(&path, config).unwrap();
    let output = binary().args(["plan", "--config"]).arg(&path).output().unwrap();
    let text = stderr(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("warning: the run needs about"), "{text}");
    assert!(text.contains("is what a batch needs: lower training.batch_size"), "{text}");
    let plan = String::from_utf8(output.stdout).unwrap();
    assert!(plan.contains("memory  ") && !plan.contains("per update"), "{plan}");
}

#[test]
fn secrets_in_the_environment_reach_no_file_and_no_output() {
    const SECRETS: [(&str, &str); 3] = [
        ("WANDB_API_KEY", "4f1c0ffee0dd5ec2e7a11d0b5e55edfa11ab1e00"),
        ("HF_TOKEN", "hf_uNlIkElYtOaPpEaRbYcHaNcE"),
        ("HUGGING_FACE_HUB_TOKEN", "hf_AnOtHeRoNeThAtMuStNoTaPpEaR"),
    ];
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("run.toml");
    fs::write(&config, small_config(folder.path())).unwrap();
    // A Hub that cannot be reached makes the longest errors.
    let hub = folder.path().join("hub.toml");
    let text = small_config(folder.path());
    let (start, end) = (text.find("pretrained = false").unwrap(), text.find("[model.decoder]").unwrap());
    fs::write(&hub, format!("{}name = \"owner/model\"\n{}", &text[..start], &text[end..])).unwrap();
    let last = last_checkpoint(&folder.path().join("run")).display().to_string();
    let export = folder.path().join("export").display().to_string();
    let (config, hub) = (config.display().to_string(), hub.display().to_string());
    let calls: [(&[&str], i32); 6] = [
        (&["--verbose", "--config", &config], 0),
        (&["--verbose", "--resume", &last, "--set", "training.num_epochs=2"], 0),
        (&["plan", "--config", &config], 0),
        (&["inspect", &last], 0),
        (&["export", "--checkpoint", &last, "--output", &export], 0),
        (&["--verbose", "--config", &hub], 1),
    ];
    let mut written = Vec::new();
    for (arguments, code) in calls {
        let mut command = binary();
        command.args(arguments).envs(SECRETS);
        command.env("HF_ENDPOINT", "http://127.0.0.1:9").env("HF_HOME", folder.path().join("hub"));
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
        written.push((format!("{arguments:?}"), [output.stdout, output.stderr].concat()));
    }
    let files = files_below(folder.path());
    assert!(files.len() > 12, "{files:?}");
    written.extend(files.into_iter().map(|path| (path.display().to_string(), fs::read(&path).unwrap())));
    for (place, bytes) in &written {
        for (variable, secret) in SECRETS {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "the value of {variable} stands in {place}");
        }
    }
}

#[test]
fn passwords_and_tokens_are_shown_nowhere_whatever_a_server_says() {
    const PASSWORD: &str = "pAsSwOrDoFaMiRrOr";
    const TOKEN: &str = "hf_tOkEnThAtIsEcHoEd";
    let address = test_server::serve(|request| {
        // It repeats what it was sent.
        let words = format!("X-Error-Message: no {TOKEN} or {PASSWORD} at http://me:{PASSWORD}@host\r\n");
        request.reply("403 Forbidden", &words, "")
    });
    let address = address.trim_start_matches("http://");
    let folder = tempfile::tempdir().unwrap();
    let proxy = format!("http://me:{PASSWORD}@127.0.0.1:9");
    for (endpoint, expected) in [
        (format!("http://me:{PASSWORD}@{address}"), "no [hidden] or [hidden] at http://host"),
        (format!("http://{PASSWORD}@127.0.0.1:9/hub?key={PASSWORD}"), "cannot reach http://127.0.0.1:9/hub to get"),
        (format!("me:{PASSWORD}@host"), "HF_ENDPOINT is not the address of a server"),
        ("https://hub.invalid".to_owned(), "cannot reach https://hub.invalid to get"),
    ] {
        let mut command = binary();
        command.args(["--verbose", "caption", "--checkpoint", "owner/name", "a.jpg"]).env("HF_TOKEN", TOKEN);
        command.env("HF_ENDPOINT", &endpoint).env("HTTPS_PROXY", &proxy).env_remove("HF_HUB_OFFLINE");
        let output = command.env("HF_HOME", folder.path().join("hub")).output().unwrap();
        let text = stderr(&output);
        assert!(!output.status.success() && text.contains(expected), "{endpoint}: {text}");
        assert!(!text.contains(PASSWORD) && !text.contains(TOKEN), "{endpoint}: {text}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_checkpoint_that_was_kept_before_a_failure_is_never_deleted_by_the_next_run() {
    let folder = tempfile::tempdir().unwrap();
    let config = small_config(folder.path());
    assert!(train(folder.path(), &config, &[]).status.success());
    let run = folder.path().join("run");
    let best = run.join("checkpoints").join(&checkpoints(&run)[0]);
    // The newest is damaged: what follows goes on from the best one, elsewhere, and leaves both as they are.
    let last = last_checkpoint(&run);
    fs::write(&last, "damaged").unwrap();
    let whole = fs::read(&best).unwrap();
    let more = ["--set", "training.num_epochs=2"];
    let output = binary().arg("--resume").arg(&run).args(more).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(fs::read(&best).unwrap(), whole);
    assert_eq!(fs::read(&last).unwrap(), b"damaged");
    let (metadata, _) = read_metadata(&last_checkpoint(&folder.path().join("run-2"))).unwrap();
    assert_eq!(metadata.state.epoch, 2);
}
