//! The binary as its users run it: what it prints, its exit codes, and the files it leaves.

use std::path::Path;
use std::sync::OnceLock;

use crate::support::{binary, last_checkpoint, shapes_folder, small_config, stderr, train};

/// A run that several tests read.
pub(crate) fn trained() -> &'static Path {
    static RUN: OnceLock<tempfile::TempDir> = OnceLock::new();
    RUN.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let config = small_config(folder.path()) + "\n[evaluation]\ncaption_split = \"test\"\n";
        let output = train(folder.path(), &config, &[]);
        assert!(output.status.success(), "{}", stderr(&output));
        folder
    })
    .path()
}

pub(crate) fn picture() -> std::path::PathBuf {
    let images = shapes_folder().join("images");
    std::fs::read_dir(images).unwrap().map(|entry| entry.unwrap().path()).min().unwrap()
}

#[test]
fn a_run_leaves_config_log_metrics_tokenizer_checkpoints_and_predictions() {
    let run = trained().join("run");
    for file in [
        "config.toml",
        "config.resolved.toml",
        "train.log",
        "metrics.jsonl",
        "tokenizer/tokenizer.json",
        "tokenizer/vocab.json",
        "tokenizer/merges.txt",
        "checkpoints/last.safetensors",
        "predictions/test.json",
        "predictions/test.scores.json",
    ] {
        assert!(run.join(file).is_file(), "{file} is missing");
    }
    let predictions: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(run.join("predictions/test.json")).unwrap()).unwrap();
    assert_eq!(predictions.as_array().unwrap().len(), 12);
    assert!(predictions[0]["image_id"].is_u64() && predictions[0]["caption"].is_string());
    let best = std::fs::read_dir(run.join("checkpoints"))
        .unwrap()
        .filter(|entry| {
            entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("checkpoint_epoch_1_val_loss_")
        })
        .count();
    assert_eq!(best, 1);
    let leftovers: Vec<_> = std::fs::read_dir(run.join("checkpoints"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name.to_string_lossy().ends_with(".partial"))
        .collect();
    assert!(leftovers.is_empty(), "{leftovers:?}");
}

#[test]
fn a_run_ends_by_saying_what_can_be_done_with_its_model() {
    let log = std::fs::read_to_string(trained().join("run/train.log")).unwrap();
    for (start, end) in
        [("  caption-train caption --checkpoint ", " PICTURE"), ("  caption-train serve --checkpoint ", "")]
    {
        let named = log.lines().find_map(|line| line.strip_prefix(start)?.strip_suffix(end));
        assert!(named.is_some_and(|path| std::path::Path::new(path).is_file()), "{start}: {log}");
    }
}

#[test]
fn a_checkpoint_alone_captions_pictures_and_a_broken_file_does_not_stop_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    // The checkpoint is all that is taken along.
    let checkpoint = folder.path().join("model.safetensors");
    std::fs::copy(last_checkpoint(&trained().join("run")), &checkpoint).unwrap();
    let text = folder.path().join("text.jpg");
    std::fs::write(&text, "no picture").unwrap();
    let output = binary()
        .args(["caption", "--checkpoint"])
        .arg(&checkpoint)
        .args([picture(), text, "absent.png".into(), picture()])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stdout = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(stdout.lines().count(), 2, "{stdout}");
    for line in stdout.lines() {
        let (path, caption) = line.split_once('\t').unwrap();
        assert_eq!(path, picture().display().to_string());
        assert!(!caption.is_empty());
    }
    let messages = stderr(&output);
    assert!(messages.contains("text.jpg") && messages.contains("absent.png"), "{messages}");
    assert!(messages.contains("2 of 4 images"), "{messages}");
}

#[test]
fn a_folder_of_pictures_is_captioned() {
    let output = binary()
        .args(["caption", "--checkpoint"])
        .arg(last_checkpoint(&trained().join("run")))
        .arg(shapes_folder().join("images"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 524);
}

#[test]
fn inspect_shows_progress_and_config_and_json_holds_every_tensor() {
    let checkpoint = last_checkpoint(&trained().join("run"));
    let output = binary().arg("inspect").arg(&checkpoint).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("completed       1 of 1 epochs") && text.contains("step            63 of 63"), "{text}");
    assert!(text.contains("[model.decoder]"), "{text}");
    let output = binary().arg("inspect").arg(&checkpoint).arg("--json").output().unwrap();
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["metadata"]["state"]["epoch"], 1);
    assert!(json["tensors"]["model.decoder.transformer.wte.weight"].is_array());
    assert!(json["tensors"]["optimizer.exp_avg_sq.encoder.embeddings.cls_token"].is_array());
}

#[test]
fn plan_prints_the_resolved_config_and_a_forecast_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("run.toml");
    std::fs::write(&config, small_config(folder.path())).unwrap();
    let output = binary().args(["plan", "--config"]).arg(&config).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", stderr(&output));
    for part in ["batch_size = 32", "parameters  ", "memory      ", "time        "] {
        assert!(text.contains(part), "{part:?} is missing in {text}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn plan_says_what_each_of_several_processes_would_compute_and_send() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("run.toml");
    std::fs::write(&config, small_config(folder.path())).unwrap();
    let plan = |count: &str| {
        let output = binary().args(["plan", "--processes", count, "--config"]).arg(&config).output().unwrap();
        (String::from_utf8_lossy(&output.stdout).into_owned(), output)
    };
    for (count, pairs, share) in [("2", "16 of the 32 pairs", 1.0), ("4", "8 of the 32 pairs", 1.5)] {
        let (text, output) = plan(count);
        assert!(output.status.success(), "{}", stderr(&output));
        let expected = format!("processes   {count} on machines like this one: each computes {pairs} of a batch");
        assert!(
            text.contains(&expected) && text.contains(&format!("`mpirun -n {count} caption-train plan`")),
            "{text}"
        );
        let number = |before: &str| -> f64 {
            text.split(before).nth(1).and_then(|rest| rest.split(' ').next()).unwrap().parse().unwrap()
        };
        let (sent, gradients) = (number("each sends "), number("to add up "));
        assert!(gradients > 0.0 && (sent - share * gradients).abs() < 0.001, "{text}");
    }
    let (_, output) = plan("3");
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("needs 1, 2, 4, 8, ... processes, found 3"), "{}", stderr(&output));
}

/// Trains with a config that is wrong; gives exit code and message, and checks that nothing was left behind.
fn refused(change: impl Fn(String) -> String) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let output = train(folder.path(), &change(small_config(&folder.path().join("runs"))), &[]);
    assert!(!output.status.success());
    assert!(!folder.path().join("runs").exists(), "a run's folder was made: {}", stderr(&output));
    let text = stderr(&output);
    assert!(text.contains("hint: "), "{text}");
    (output.status.code(), text)
}

#[test]
fn an_unknown_key_is_a_usage_error_that_names_key_and_line() {
    let (code, text) = refused(|config| config.replace("batch_size = 32", "batchsize = 32"));
    assert_eq!(code, Some(2));
    assert!(text.contains("batchsize") && text.contains("batch_size"), "{text}");
}

#[test]
fn an_impossible_batch_size_is_a_usage_error() {
    let (code, text) = refused(|config| config.replace("batch_size = 32", "batch_size = 0"));
    assert_eq!(code, Some(2));
    assert!(text.contains("training.batch_size"), "{text}");
}

#[test]
fn a_missing_data_folder_is_an_error_that_names_it() {
    let (code, text) =
        refused(|config| config.replace(&shapes_folder().display().to_string(), "/nonexistent/pictures"));
    assert_eq!(code, Some(1));
    assert!(text.contains("/nonexistent/pictures"), "{text}");
}

#[test]
fn an_encoder_folder_without_config_json_is_an_error() {
    let encoder = tempfile::tempdir().unwrap();
    let name = encoder.path().display().to_string();
    let (code, text) = refused(|config| {
        let start = config.find("pretrained = false").unwrap();
        let end = config.find("[model.decoder]").unwrap();
        format!("{}name = \"{name}\"\n{}", &config[..start], &config[end..])
    });
    assert_eq!(code, Some(1));
    assert!(text.contains("config.json") && text.contains(&name), "{text}");
}

#[test]
fn cuda_without_a_cuda_build_is_a_usage_error() {
    let (code, text) = refused(|config| config.replace("[training]", "[training]\ndevice = \"cuda\""));
    assert_eq!(code, Some(2));
    assert!(text.contains("CUDA"), "{text}");
}

#[test]
fn a_file_that_is_not_a_checkpoint_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wrong.safetensors");
    std::fs::write(&path, "not a checkpoint").unwrap();
    for arguments in [&["--resume"][..], &["inspect"], &["caption", "x.jpg", "--checkpoint"]] {
        let output = binary().args(arguments).arg(&path).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(stderr(&output).contains("wrong.safetensors"), "{}", stderr(&output));
    }
}

#[test]
fn an_altered_or_truncated_checkpoint_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = std::fs::read(last_checkpoint(&trained().join("run"))).unwrap();
    let path = folder.path().join("broken.safetensors");
    let mut flipped = bytes.clone();
    let middle = bytes.len() - bytes.len() / 4;
    flipped[middle] ^= 1;
    for (broken, reason) in [(flipped, "digest"), (bytes[..bytes.len() / 2].to_vec(), "truncated")] {
        std::fs::write(&path, broken).unwrap();
        let output = binary().arg("--resume").arg(&path).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains(reason), "{}", stderr(&output));
    }
}

#[test]
fn a_picture_that_vanished_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let drawing = datasets::shapes::Drawing { num_train: 30, num_val: 4, num_test: 4, side: 32, seed: 3 };
    datasets::shapes::draw_with(&drawing, &data).unwrap();
    let gone = std::fs::read_dir(data.join("images")).unwrap().map(|entry| entry.unwrap().path()).min().unwrap();
    std::fs::remove_file(&gone).unwrap();
    let config =
        small_config(folder.path()).replace(&shapes_folder().display().to_string(), &data.display().to_string());
    let output = train(folder.path(), &config, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains(&gone.file_name().unwrap().to_string_lossy().into_owned()), "{}", stderr(&output));
}

#[test]
fn version_names_commit_and_features() {
    let output = binary().arg("--version").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("commit ") && text.contains("features: "), "{text}");
}

#[test]
fn nothing_to_do_shows_the_help_and_is_a_usage_error() {
    assert_eq!(binary().output().unwrap().status.code(), Some(2));
    assert_eq!(binary().args(["--config", "a.toml", "--resume", "b"]).output().unwrap().status.code(), Some(2));
}

#[test]
fn quiet_may_stand_before_a_command_and_a_config_may_not() {
    let checkpoint = last_checkpoint(&trained().join("run"));
    assert!(binary().args(["--quiet", "inspect"]).arg(&checkpoint).output().unwrap().status.success());
    let output = binary().args(["--config", "a.toml", "inspect"]).arg(&checkpoint).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
}

#[test]
fn a_split_without_images_cannot_be_captioned() {
    let (code, text) = refused(|config| {
        let data = tempfile::tempdir().unwrap().keep();
        let drawing = datasets::shapes::Drawing { num_train: 30, num_val: 4, num_test: 0, side: 32, seed: 4 };
        datasets::shapes::draw_with(&drawing, &data).unwrap();
        config.replace(&shapes_folder().display().to_string(), &data.display().to_string())
            + "\n[evaluation]\ncaption_split = \"test\"\n"
    });
    assert_eq!(code, Some(2));
    assert!(text.contains("caption_split"), "{text}");
}

#[test]
fn a_tokenizer_of_the_user_is_used_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let tokenizer = folder.path().join("tokenizer");
    std::fs::create_dir(&tokenizer).unwrap();
    for name in ["vocab.json", "merges.txt"] {
        std::fs::copy(trained().join("run/tokenizer").join(name), tokenizer.join(name)).unwrap();
    }
    let vocab = std::fs::read(tokenizer.join("vocab.json")).unwrap();
    let set = format!("tokenizer.directory={}", tokenizer.display());
    let output = train(folder.path(), &small_config(folder.path()), &["--set", &set]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(std::fs::read(tokenizer.join("vocab.json")).unwrap(), vocab);
    assert_eq!(std::fs::read_dir(&tokenizer).unwrap().count(), 2);
}
