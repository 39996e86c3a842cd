//! Models that go to the Hub: by the command, and beside a run. The server here takes all files with the commit; the
//! protocol and its failures have their tests beside the code.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use serde_json::{Value, json};

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
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let kept = Arc::<Mutex<Kept>>::default();
    let theirs = Arc::clone(&kept);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let kept = Arc::clone(&theirs);
            std::thread::spawn(move || while answer(&stream, &kept).is_some() {});
        }
    });
    (address, kept)
}

/// Answers one request; `None` when the client has hung up.
fn answer(mut stream: &TcpStream, kept: &Mutex<Kept>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|&length| length > 0)?;
    let path = line.split(' ').nth(1)?.to_owned();
    let (mut length, mut is_chunked, mut is_refused) = (0, false, false);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let header = header.trim().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        length = header.strip_prefix("content-length: ").map_or(length, |value| value.parse().unwrap());
        is_refused |= header.starts_with("authorization: ") && header.ends_with(WRONG_TOKEN);
        is_chunked |= header == "transfer-encoding: chunked";
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    while is_chunked {
        let mut size = String::new();
        reader.read_line(&mut size).ok()?;
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        let mut part = vec![0; size + 2];
        reader.read_exact(&mut part).ok()?;
        body.extend(&part[..size]);
        is_chunked = size > 0;
    }
    if is_refused {
        let reply = "HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n";
        return stream.write_all(reply.as_bytes()).ok();
    }
    let mut kept = kept.lock().unwrap();
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
    let reply = reply.to_string();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{reply}",
        reply.len()
    )
    .ok()
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
        assert!(kept.num_commits == 2 && !text.contains("not uploaded"), "{} commits: {text}", kept.num_commits);
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
    assert!(!output.status.success() && text.contains("there is no token"), "{text}");
    assert!(!folder.path().join("run").exists(), "it is told before anything is made");
}

#[test]
fn a_place_to_upload_to_that_is_none_is_told_before_anything_else() {
    let output = binary().args(["upload", "--repo", "a/b/c", "--checkpoint", "nowhere.safetensors"]).output().unwrap();
    assert!(stderr(&output).contains("is not the id of a model"), "{}", stderr(&output));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.toml");
    std::fs::write(&path, small_config(folder.path()) + "\n[hub]\nupload = \"end\"\n").unwrap();
    let output = binary().arg("--config").arg(&path).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("hub.repo"), "{}", stderr(&output));
}
