//! Models that go to the Hub: by the command, and beside a run. The server here takes all files with the commit; the
//! protocol and its failures have their tests beside the code.

use std::collections::BTreeMap;
use std::io;
use std::process::Command;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use serde_json::{Value, json};
use test_server::{Request, serve};

use crate::commands::trained;
use crate::support::{binary, files_below, small_config, stderr};

const COMMIT: &str = "89abcdef0123456789abcdef0123456789abcdef";
const TOKEN: &str = "hf_only_for_this_test";
const WRONG_TOKEN: &str = "hf_of_nobody";

/// What a repository got.
#[derive(Default)]
struct Kept {
    files: BTreeMap<String, Vec<u8>>,
    is_private: Option<bool>,
    num_commits: usize,
}

fn hub() -> (String, Arc<Mutex<Kept>>) {
    let kept = Arc::<Mutex<Kept>>::default();
    let theirs = Arc::clone(&kept);
    (serve(move |request| answer(request, &mut theirs.lock().unwrap())), kept)
}

fn answer(request: &mut Request, kept: &mut Kept) -> io::Result<()> {
    let body = request.body()?;
    if request.header("authorization").is_some_and(|token| token.ends_with(WRONG_TOKEN)) {
        return request.reply("401 Unauthorized", "", "");
    }
    let path = request.path.as_str();
    kept.num_commits += usize::from(path.ends_with("/commit/main"));
    let parsed: Value = serde_json::from_slice(&body).unwrap_or_default();
    let reply = if path == "/api/repos/create" {
        kept.is_private = Some(parsed["visibility"] == "private");
        json!({"url": "there"})
    } else if path.ends_with("/preupload/main") {
        let files = parsed["files"].as_array().unwrap().iter();
        json!({"files": files.map(|file| json!({"path": file["path"], "uploadMode": "regular"})).collect::<Vec<_>>()})
    } else if path.ends_with("/commit/main") {
        for line in body.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            let line: Value = serde_json::from_slice(line).unwrap();
            if line["key"] == "file" {
                let content = line["value"]["content"].as_str().unwrap();
                let content = base64::engine::general_purpose::STANDARD.decode(content).unwrap();
                kept.files.insert(line["value"]["path"].as_str().unwrap().to_owned(), content);
            }
        }
        json!({"commitOid": COMMIT, "commitUrl": "there"})
    } else {
        json!({"id": "me/captioner", "private": kept.is_private, "sha": null})
    };
    request.reply("200 OK", "Content-Type: application/json\r\n", reply.to_string())
}

fn uploading(address: &str) -> Command {
    let mut command = binary();
    command.env("HF_ENDPOINT", address).env("HF_TOKEN", TOKEN).env_remove("HF_HUB_OFFLINE");
    command
}

#[test]
fn an_uploaded_model_is_the_export_with_its_scores_in_the_card() {
    let (address, kept) = hub();
    let checkpoints = files_below(&trained().join("run/checkpoints"));
    let best = checkpoints.iter().find(|path| path.to_string_lossy().contains("checkpoint_epoch_")).unwrap();
    let output = uploading(&address)
        .args(["upload", "--repo", "me/captioner", "--include-checkpoint", "--checkpoint"])
        .arg(best)
        .output()
        .unwrap();
    let text = stderr(&output);
    assert!(output.status.success() && text.contains(&format!("{address}/me/captioner")), "{text}");
    assert!(!text.contains(TOKEN));
    let kept = kept.lock().unwrap();
    assert_eq!(kept.is_private, Some(true));
    for name in ["config.json", "model.safetensors", "tokenizer.json", "generation_config.json"] {
        assert!(kept.files.contains_key(name), "{name}");
    }
    assert_eq!(kept.files["checkpoint.safetensors"], std::fs::read(best).unwrap());
    let card = String::from_utf8(kept.files["README.md"].clone()).unwrap();
    for expected in
        ["pipeline_tag: image-to-text", "model-index:", "name: \"captioner\"", "type: \"cider\"", "split: \"test\""]
    {
        assert!(card.contains(expected), "{expected} is missing in\n{card}");
    }
    assert!(card.contains("## Some of its captions") && card.contains("# captioner"));
    let folder = trained().to_string_lossy().into_owned();
    assert!(!card.contains(&folder), "a path of this machine is nobody else's business");
}

#[test]
fn a_run_uploads_its_best_model_and_one_that_cannot_ends_well_all_the_same() {
    let (address, kept) = hub();
    let config = |folder: &std::path::Path, upload: &str| {
        let path = folder.join("run.toml");
        let hub = format!("\n[hub]\nrepo = \"me/captioner\"\nprivate = false\nupload = \"{upload}\"\n");
        let hub = hub + "[evaluation]\ncaption_split = \"test\"\n";
        std::fs::write(&path, small_config(folder) + &hub).unwrap();
        path
    };
    let folder = tempfile::tempdir().unwrap();
    let output = uploading(&address).arg("--config").arg(config(folder.path(), "best")).output().unwrap();
    let text = stderr(&output);
    assert!(output.status.success() && text.contains("uploaded    http"), "{text}");
    {
        let kept = kept.lock().unwrap();
        assert!(kept.files.contains_key("model.safetensors") && kept.is_private == Some(false));
        // The second one has the scores, which were not known when the best model was found.
        assert!(kept.num_commits == 2 && !text.contains("cannot upload"), "{} commits: {text}", kept.num_commits);
        assert!(String::from_utf8_lossy(&kept.files["README.md"]).contains("model-index:"));
    }
    let leftover = |folder: &std::path::Path| {
        files_below(folder).into_iter().filter(|path| path.to_string_lossy().contains("upload_")).count()
    };
    assert_eq!(leftover(folder.path()), 0);

    let folder = tempfile::tempdir().unwrap();
    let mut command = uploading(&address);
    command.env("HF_TOKEN", WRONG_TOKEN);
    let output = command.arg("--config").arg(config(folder.path(), "end")).output().unwrap();
    let text = stderr(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("cannot upload the model") && text.contains("401"), "{text}");
    assert_eq!(leftover(folder.path()), 0);

    let folder = tempfile::tempdir().unwrap();
    let mut command = uploading(&address);
    command.env_remove("HF_TOKEN").env("HF_HOME", folder.path().join("hub"));
    let output = command.arg("--config").arg(config(folder.path(), "end")).output().unwrap();
    let text = stderr(&output);
    assert!(!output.status.success() && text.contains("no token found"), "{text}");
    assert!(!folder.path().join("run").exists(), "it is reported before anything is made");
}

#[test]
fn a_place_to_upload_to_that_is_none_is_reported_before_anything_else() {
    let output = binary().args(["upload", "--repo", "a/b/c", "--checkpoint", "nowhere.safetensors"]).output().unwrap();
    assert!(stderr(&output).contains("is not the id of a model"), "{}", stderr(&output));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.toml");
    std::fs::write(&path, small_config(folder.path()) + "\n[hub]\nupload = \"end\"\n").unwrap();
    let output = binary().arg("--config").arg(&path).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("hub.repo"), "{}", stderr(&output));
}
