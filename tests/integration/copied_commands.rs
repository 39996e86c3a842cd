//! What is printed to be copied does what it says when it is copied, whatever names hold; and paths that are given
//! below the home folder are there.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::{binary, files_below, model_fixture, shapes_folder, small_config, stderr, train};

/// Names that a shell takes apart, takes for something else or would run.
const ODD: [&str; 7] =
    ["my run (1) & more", "it's \"quoted\"", "$HOME `id`", "-rf", "~", "line\nbreak\u{1b}[31m", "back\\slash; *"];

fn toml(text: &str) -> String {
    ::toml::Value::from(text).to_string()
}

/// Runs a line in a shell that knows `caption-train`, and `wandb`, which says what it was given.
fn in_a_shell(folder: &Path, line: &str) -> Output {
    let functions = format!(
        "caption-train() {{ {:?} \"$@\"; }}\nwandb() {{ printf '%s\\n' \"$@\"; }}\n",
        env!("CARGO_BIN_EXE_caption-train")
    );
    let mut command = Command::new("bash");
    command.args(["-c", &format!("{functions}{line}")]).current_dir(folder).env("WANDB_MODE", "offline");
    command.output().unwrap()
}

fn picture() -> String {
    files_below(&shapes_folder().join("images"))[0].display().to_string()
}

/// What follows `start` in a line of `text`.
#[track_caller]
fn behind<'a>(text: &'a str, start: &str) -> &'a str {
    let line = text.lines().find(|line| line.contains(start)).unwrap_or_else(|| panic!("{start:?} is not in {text}"));
    line.split_once(start).unwrap().1
}

#[cfg(unix)]
#[test]
fn the_commands_that_a_run_prints_work_as_they_are_copied() {
    // A run's name is that of one folder on every system.
    for name in ODD.into_iter().filter(|name| !name.contains('\\')) {
        let folder = tempfile::tempdir().unwrap();
        let config = small_config(folder.path()).replace(
            &format!("output_dir = \"{}\"\nname = \"run\"", folder.path().display()),
            &format!("output_dir = {}\nname = {}", toml("./~ (runs)"), toml(name)),
        );
        fs::write(folder.path().join("run.toml"), config).unwrap();
        let mut command = binary();
        command.args(["--config", "run.toml", "--set", "training.batch_size=512"]).current_dir(folder.path());
        let output = command.output().unwrap();
        let text = stderr(&output);
        assert!(output.status.success(), "{text}");
        let line = behind(&text, "  caption-train caption").replace("PICTURE", &picture());
        let line = format!("caption-train caption{line}");
        let output = in_a_shell(folder.path(), &line);
        assert!(output.status.success(), "{name:?}: {line}\n{}", stderr(&output));
        assert!(text.contains("caption-train serve --checkpoint "), "{text}");
        let sync = behind(&text, "to upload this run: `").trim_end_matches('`');
        let output = in_a_shell(folder.path(), sync);
        let given = String::from_utf8(output.stdout).unwrap();
        let synced = given.strip_prefix("sync\n").unwrap().strip_suffix('\n').unwrap();
        assert!(folder.path().join(synced).is_dir(), "{sync}");
        // The page of the run has its command too.
        let run = folder.path().join("./~ (runs)").join(name);
        let page = fs::read_to_string(run.join("report.html")).unwrap();
        assert!(page.contains("caption-train --config run.toml --set training.batch_size=512"), "{name:?}");
    }
}

#[cfg(unix)]
#[test]
fn the_command_that_resumes_a_stopped_run_works_as_it_is_copied() {
    let folder = tempfile::tempdir().unwrap();
    let config = small_config(folder.path()).replace("name = \"run\"", "name = \"it's (mine) & $HOME\"");
    fs::write(folder.path().join("run.toml"), config.replace("num_epochs = 1", "num_epochs = 1000")).unwrap();
    let mut command = binary();
    command.args(["--config", "run.toml"]).current_dir(folder.path()).stderr(std::process::Stdio::piped());
    crate::support::with_default_signals(&mut command);
    let child = command.spawn().unwrap();
    let log = folder.path().join("it's (mine) & $HOME/metrics.jsonl");
    let begun = || fs::read_to_string(&log).is_ok_and(|text| text.contains("\"kind\":\"step\""));
    while !begun() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let text = stderr(&child.wait_with_output().unwrap());
    let line = format!("{} --set training.num_epochs=1", behind(&text, "stopped; resume with: "));
    let output = in_a_shell(folder.path(), &line);
    assert!(stderr(&output).contains("best model"), "{line}\n{}", stderr(&output));
}

#[test]
fn the_config_line_that_a_preparation_prints_names_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    source(folder.path());
    for name in ODD {
        let mut command = binary();
        command.args(["prepare-data", "--source", "source"]).current_dir(folder.path());
        // As a shell gives it on, where a word begins with a hyphen or a tilde.
        let output = command.arg(format!("--output=./{name}")).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        let text = stderr(&output);
        let line = behind(&text, "next: train with `").split_once("` in a config file").unwrap().0;
        let table: ::toml::Table = ::toml::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        let directory = table["data"]["directory"].as_str().unwrap();
        assert!(folder.path().join(directory).join("dataset.json").is_file(), "{line}");
    }
}

/// Pictures with a text file beside each.
fn source(folder: &Path) {
    let source = folder.join("source");
    fs::create_dir(&source).unwrap();
    for (number, picture) in files_below(&shapes_folder().join("images")).iter().take(4).enumerate() {
        fs::copy(picture, source.join(format!("{number}.png"))).unwrap();
        fs::write(source.join(format!("{number}.txt")), format!("picture {number}")).unwrap();
    }
}

#[cfg(unix)]
#[test]
fn names_that_are_not_utf_8_can_be_copied() {
    use std::os::unix::ffi::OsStrExt as _;
    let folder = tempfile::tempdir().unwrap();
    let name = std::ffi::OsStr::from_bytes(b"caf\xe9 1");
    let mut command = binary();
    command.args(["export", "--checkpoint"]).arg(model_fixture("vit_gpt2")).arg("--output").arg(name);
    let output = command.current_dir(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains(r#"from_pretrained("caf\udce9 1")"#), "{}", stderr(&output));
    let mut command = binary();
    source(folder.path());
    command.args(["prepare-data", "--source", "source", "--output"]).arg(Path::new(name).join("set"));
    let output = command.current_dir(folder.path()).output().unwrap();
    assert!(stderr(&output).contains("cannot hold a path that is not UTF-8"), "{}", stderr(&output));
}

#[test]
fn a_tilde_in_configs_overrides_and_options_is_the_home_folder() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    fs::create_dir(&home).unwrap();
    let config = small_config(folder.path())
        .replace(&format!("output_dir = \"{}\"", folder.path().display()), "output_dir = \"~/runs\"")
        .replace("batch_size = 32", "batch_size = 512");
    fs::write(home.join("run.toml"), config).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = binary();
        command.args(arguments).current_dir(folder.path()).env("HOME", &home).env("USERPROFILE", &home);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(!folder.path().join("~").exists(), "{arguments:?}");
        output
    };
    run(&["--config=~/run.toml", "--set", "tokenizer.directory=~/tokenizer"]);
    assert!(home.join("runs/run/checkpoints/last.safetensors").is_file() && home.join("tokenizer").is_dir());
    // What is kept has the whole path: nothing that reads it later needs to know where home was.
    let resolved = fs::read_to_string(home.join("runs/run/config.resolved.toml")).unwrap();
    assert!(!resolved.contains('~') && resolved.contains(&home.join("runs").display().to_string()), "{resolved}");
    assert!(fs::read_to_string(home.join("runs/run/config.toml")).unwrap().contains("\"~/runs\""));

    run(&["--resume=~/runs/run", "--set", "training.num_epochs=2"]);
    assert!(!home.join("runs/run-2").exists(), "the run went on in its own folder");
    run(&["--resume", "auto", "--set", "output_dir=\"~/runs\"", "--set", "training.num_epochs=3"]);
    assert!(!home.join("runs/run-2").exists());
    run(&["--resume=~/runs/run", "--set", "output_dir=~/elsewhere", "--set", "training.num_epochs=4"]);
    assert!(home.join("elsewhere/run/config.resolved.toml").is_file());
    run(&["evaluate", "--checkpoint=~/runs/run/checkpoints/last.safetensors", "--split=test", "--output=~/captions"]);
    assert!(home.join("captions/test.json").is_file());
    run(&["export", "--checkpoint=~/runs/run/checkpoints/last.safetensors", "--output=~/captioner"]);
    run(&["caption", "--checkpoint=~/captioner", &picture()]);
    run(&["plan", "--config=~/run.toml", "--set", "data.cache_directory=~/cache"]);
}

#[test]
fn a_home_folder_that_is_not_known_is_an_error_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let config = small_config(&folder.path().join("runs"));
    for (set, home, expected) in [
        ("output_dir=~/runs", None, "cannot expand ~"),
        ("data.directory=~/set", Some(""), "cannot expand ~"),
        ("data.source=~root/set", Some("/root"), "names the home folder of another user"),
        ("tokenizer.directory=~root", Some("/root"), "write ./~root"),
    ] {
        fs::write(folder.path().join("run.toml"), &config).unwrap();
        let mut command = binary();
        command.args(["--config", "run.toml", "--set", set, "--set", "data.dataset=shapes"]).current_dir(folder.path());
        command.env_remove("HOME").env_remove("USERPROFILE");
        home.map(|home| command.env("HOME", home).env("USERPROFILE", home));
        let output = command.output().unwrap();
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{set}: {text}");
        let key = set.split_once('=').unwrap().0;
        assert!(text.contains(expected) && text.contains(&format!("cannot use {key}")), "{text}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "{set}");
    }
    let output = binary().args(["caption", "x.png", "--checkpoint=~root/model"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("names the home folder of another user"), "{}", stderr(&output));
}

#[test]
fn a_config_from_windows_is_read_or_says_what_to_write() {
    let folder = tempfile::tempdir().unwrap();
    let config = small_config(folder.path()).replace("batch_size = 32", "batch_size = 512");
    let wide: Vec<u8> =
        format!("\u{feff}{config}").replace('\n', "\r\n").encode_utf16().flat_map(u16::to_le_bytes).collect();
    let path = folder.path().join("wide.toml");
    fs::write(&path, wide).unwrap();
    let output = binary().arg("--config").arg(&path).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let copy = fs::read_to_string(folder.path().join("run/config.toml")).unwrap();
    assert!(copy.contains("batch_size = 512"));
    for directory in [r#""C:\data\new""#, r#""C:\new\table""#, r#""D:\""#, r#""\\server\new""#, r#""C:\Users\ann""#] {
        let text = config.replace(&toml(&shapes_folder().display().to_string()), directory);
        let output = train(folder.path(), &text, &[]);
        assert_eq!(output.status.code(), Some(2), "{directory}: {}", stderr(&output));
        assert!(stderr(&output).contains("single quotes"), "{directory}: {}", stderr(&output));
    }
}
