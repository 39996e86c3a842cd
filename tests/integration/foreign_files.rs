//! Files of unknown origin that would block, never end or fill the memory: each is refused at once, and named.
#![cfg(unix)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{binary, model_fixture, shapes_folder, small_config};

/// Long enough for a loaded machine, and less than a pipe without a writer takes.
const DEADLINE: Duration = Duration::from_secs(60);

/// What stands in place of a file.
#[derive(Clone, Copy, Debug)]
enum Wrong {
    Pipe,
    Endless,
    /// So many bytes of nothing, which take no room on the disk.
    Large(u64),
    /// So many bytes of JSON.
    Json(usize),
}

const EACH: [Wrong; 4] = [Wrong::Pipe, Wrong::Endless, Wrong::Large(1 << 41), Wrong::Json(120 << 20)];

fn put(path: &Path, wrong: Wrong) {
    let _ = fs::remove_file(path);
    match wrong {
        Wrong::Pipe => {
            let made = Command::new("mkfifo").arg(path).status().unwrap();
            assert!(made.success());
        }
        Wrong::Endless => std::os::unix::fs::symlink("/dev/zero", path).unwrap(),
        Wrong::Large(bytes) => fs::File::create(path).unwrap().set_len(bytes).unwrap(),
        Wrong::Json(bytes) => {
            let text = format!("{{\"a\": [{}0]}}", "0,".repeat(bytes / 2));
            fs::write(path, text).unwrap();
        }
    }
}

/// Exit code and messages of a command that must end by itself.
#[track_caller]
fn ended(arguments: &[&str]) -> (Option<i32>, String) {
    let messages = tempfile::NamedTempFile::new().unwrap();
    let mut command = binary();
    command.args(arguments).env("HF_HUB_OFFLINE", "1").stdin(Stdio::null()).stdout(Stdio::null());
    let mut child = command.stderr(messages.reopen().unwrap()).spawn().unwrap();
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return (status.code(), fs::read_to_string(messages.path()).unwrap());
        }
        if start.elapsed() > DEADLINE {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("{arguments:?} does not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The command fails, and names the file with what is wrong with it.
#[track_caller]
fn assert_refused(arguments: &[&str], file: &Path, wrong: Wrong) {
    let (code, text) = ended(arguments);
    assert!(matches!(code, Some(1 | 2)), "{wrong:?}: {code:?} {text}");
    assert!(text.contains(&file.display().to_string()), "{wrong:?} as {}: {text}", file.display());
    let expected = match wrong {
        Wrong::Pipe | Wrong::Endless => "expected a regular file",
        Wrong::Large(_) | Wrong::Json(_) if file.extension().is_some_and(|extension| extension == "safetensors") => {
            "not a safetensors file"
        }
        Wrong::Large(_) | Wrong::Json(_) => "bytes, expected at most",
    };
    assert!(text.contains(expected), "{wrong:?} as {}: {text}", file.display());
}

fn copy(name: &str, folder: &Path) -> PathBuf {
    let model = folder.join(name);
    fs::create_dir_all(&model).unwrap();
    for entry in fs::read_dir(model_fixture(name)).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, model.join(path.file_name().unwrap())).unwrap();
    }
    model
}

fn picture() -> String {
    let path = fs::read_dir(shapes_folder().join("images")).unwrap().next().unwrap().unwrap().path();
    path.display().to_string()
}

#[test]
fn no_file_of_a_model_folder_blocks_or_fills_the_memory() {
    let folder = tempfile::tempdir().unwrap();
    let picture = picture();
    for wrong in EACH {
        for file in
            ["config.json", "generation_config.json", "preprocessor_config.json", "tokenizer.json", "model.safetensors"]
        {
            let model = copy("clip_gpt2", folder.path());
            put(&model.join(file), wrong);
            let arguments = ["caption", "--checkpoint", &model.display().to_string(), &picture];
            assert_refused(&arguments, &model.join(file), wrong);
            fs::remove_dir_all(&model).unwrap();
        }
        // Weights in shards, and a tokenizer in two files.
        for (file, whole) in [
            ("1.safetensors", "model.safetensors"),
            ("model.safetensors.index.json", "model.safetensors"),
            ("vocab.json", "tokenizer.json"),
            ("merges.txt", "tokenizer.json"),
        ] {
            let model = copy("clip_gpt2", folder.path());
            fs::remove_file(model.join(whole)).unwrap();
            fs::write(model.join("model.safetensors.index.json"), r#"{"weight_map": {"a": "1.safetensors"}}"#).unwrap();
            fs::write(model.join("vocab.json"), r#"{"a": 0, "<|endoftext|>": 1}"#).unwrap();
            fs::write(model.join("merges.txt"), "#version: 0.2\n").unwrap();
            put(&model.join(file), wrong);
            let arguments = ["caption", "--checkpoint", &model.display().to_string(), &picture];
            assert_refused(&arguments, &model.join(file), wrong);
            fs::remove_dir_all(&model).unwrap();
        }
    }
}

#[test]
fn no_file_that_the_user_names_blocks_or_fills_the_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let text = |name: &str| path(name).display().to_string();
    let caption = r#"{"image_id": 1, "id": 1, "caption": "a dog"}"#;
    fs::write(path("captions.json"), format!("[{caption}]")).unwrap();
    fs::write(path("references.json"), format!("{{\"images\": [], \"annotations\": [{caption}]}}")).unwrap();
    fs::write(path("run.toml"), small_config(folder.path()).replace("run", "other")).unwrap();
    fs::create_dir(path("data")).unwrap();
    fs::create_dir_all(path("meteor/data")).unwrap();
    fs::create_dir(path("source")).unwrap();
    fs::copy(picture(), path("source/1.jpg")).unwrap();
    fs::write(path("source/captions.csv"), "image,caption\n1.jpg,a caption\n").unwrap();
    let (captions, references) = (text("captions.json"), text("references.json"));
    let (data, meteor) = (text("data"), text("meteor"));
    let (source, output, config) = (text("source"), text("output"), text("run.toml"));
    let data = format!("data.directory={data}");
    for wrong in EACH {
        let wrong_path = path("wrong.json");
        put(&wrong_path, wrong);
        let file = text("wrong.json");
        for arguments in [&["--config", &file][..], &["plan", "--config", &file]] {
            assert_refused(arguments, &wrong_path, wrong);
        }
        if matches!(wrong, Wrong::Json(_)) {
            // Files of captions may be as large.
            continue;
        }
        for arguments in [
            &["score", "--candidates", &file, "--references", &references][..],
            &["score", "--candidates", &captions, "--references", &file],
            &["prepare-data", "--source", &source, "--output", &output, "--split-file", &file],
        ] {
            assert_refused(arguments, &wrong_path, wrong);
        }
        if !matches!(wrong, Wrong::Large(_)) {
            // A jar and a checkpoint may have any size, and are read by their parts.
            put(&path("meteor/meteor-1.5.jar"), wrong);
            let arguments =
                ["score", "--candidates", &captions, "--references", &references, "--meteor-resources", &meteor];
            assert_refused(&arguments, &path("meteor/meteor-1.5.jar"), wrong);
            put(&path("last.safetensors"), wrong);
            let checkpoint = text("last.safetensors");
            for arguments in [
                &["inspect", &checkpoint][..],
                &["--resume", &checkpoint],
                &["caption", "--checkpoint", &checkpoint, &source],
            ] {
                assert_refused(arguments, &path("last.safetensors"), wrong);
            }
            put(&path("data/dataset.json"), wrong);
            assert_refused(&["--config", &config, "--set", &data], &path("data/dataset.json"), wrong);
        }
        assert!(!path("output").exists());
    }
}
