//! Models, pictures and sources that a stranger made to control a terminal, to forge lines or to take all memory.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use base::visible::is_hidden;
use candle_core::{Device, Tensor};
use serde_json::{Value, json};

use crate::support::{
    binary, files_below, join_checkpoint, last_checkpoint, model_fixture, shapes_folder, small_config,
    split_checkpoint, stderr, train,
};

/// The token that a [`babbling`] model writes.
const TOKEN: u64 = 200;

/// A copy of a model.
fn model() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for path in files_below(&model_fixture("clip_gpt2")) {
        fs::write(folder.path().join(path.file_name().unwrap()), fs::read(path).unwrap()).unwrap();
    }
    folder
}

fn edit(folder: &Path, name: &str, change: impl FnOnce(&mut Value)) {
    let path = folder.join(name);
    let mut value: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

/// The text of a byte-level token with these bytes.
fn token(bytes: &[u8]) -> String {
    let is_itself = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let others: Vec<u8> = (0..=255).filter(|&byte| !is_itself(byte)).collect();
    let character = |&byte: &u8| match others.iter().position(|&other| other == byte) {
        Some(place) => char::from_u32(256 + place as u32).unwrap(),
        None => char::from(byte),
    };
    bytes.iter().map(character).collect()
}

/// A model that captions every picture with this text, in one token.
fn babbling(text: &str) -> tempfile::TempDir {
    let folder = model();
    let weights = folder.path().join("model.safetensors");
    let mut tensors: BTreeMap<String, Tensor> =
        candle_core::safetensors::load(&weights, &Device::Cpu).unwrap().into_iter().collect();
    for (name, value) in [("ln_f.weight", 0.0_f32), ("ln_f.bias", 1.0)] {
        let tensor = tensors.get_mut(&format!("decoder.transformer.{name}")).unwrap();
        *tensor = Tensor::full(value, tensor.dims(), &Device::Cpu).unwrap();
    }
    let head = tensors.get_mut("decoder.lm_head.weight").unwrap();
    let width = head.dims()[1];
    let values: Vec<f32> =
        (0..head.elem_count()).map(|place| f32::from(u8::from((place / width) as u64 == TOKEN))).collect();
    *head = Tensor::from_vec(values, head.dims(), &Device::Cpu).unwrap();
    candle_core::safetensors::save(&tensors.into_iter().collect(), &weights).unwrap();
    edit(folder.path(), "tokenizer.json", |tokenizer| {
        let vocab = tokenizer["model"]["vocab"].as_object_mut().unwrap();
        let old = vocab.iter().find(|(_, id)| **id == TOKEN).unwrap().0.clone();
        vocab.remove(&old);
        vocab.insert(token(text.as_bytes()), TOKEN.into());
        let merges = tokenizer["model"]["merges"].as_array_mut().unwrap();
        let parts = |merge: &Value| [0, 1].map(|side| merge[side].as_str().unwrap().to_owned());
        merges.retain(|merge| !parts(merge).contains(&old) && parts(merge).concat() != old);
    });
    edit(folder.path(), "generation_config.json", |config| config["max_new_tokens"] = 1.into());
    folder
}

fn picture() -> PathBuf {
    let mut pictures = files_below(&shapes_folder().join("images"));
    pictures.sort();
    pictures.remove(0)
}

fn caption(checkpoint: &Path, picture: &Path, extra: &[&str]) -> Output {
    let mut command = binary();
    command
        .args(["caption", "--device", "cpu", "--checkpoint"])
        .arg(checkpoint)
        .arg(picture)
        .args(extra)
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What a terminal gets, if it holds nothing that controls one.
#[track_caller]
fn tame(output: &Output) -> String {
    let text = stdout(output) + &stderr(output);
    let wild: String = text.chars().filter(|&character| is_hidden(character) && !"\n\t".contains(character)).collect();
    assert!(wild.is_empty(), "{wild:?} in {text:?}");
    text
}

#[test]
fn captions_of_a_model_stay_one_line_and_control_no_terminal() {
    let wild = "a\u{1b}]52;c;cm0=\u{7}\n/other.jpg\tforged\r\u{9b}31m\u{7f}\u{202e}gpj.\u{2066}\u{2028}\u{feff}b";
    let (folder, picture) = (babbling(wild), picture());
    let output = caption(folder.path(), &picture, &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    tame(&output);
    let shown =
        "a\\u{1b}]52;c;cm0=\\u{7}\\n/other.jpg\\tforged\\r\\u{9b}31m\\u{7f}\\u{202e}gpj.\\u{2066}\\u{2028}\\u{feff}b";
    assert_eq!(stdout(&output), format!("{}\t{shown}\n", picture.display()));
    // As JSON it is the text itself.
    let output = caption(folder.path(), &picture, &["--json"]);
    tame(&output);
    let line: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((line["caption"].as_str(), stdout(&output).lines().count()), (Some(wild), 1));
}

#[test]
fn captions_in_every_script_and_with_emoji_are_printed_as_they_are() {
    for text in ["שלום \u{200f}עולם", "क्\u{200d}ष e\u{301}", "👩\u{200d}🚒❤\u{fe0f}🏴\u{e0067}\u{e007f}"]
    {
        let folder = babbling(text);
        let output = caption(folder.path(), &picture(), &[]);
        assert!(stdout(&output).ends_with(&format!("\t{text}\n")), "{:?}", stdout(&output));
    }
}

#[cfg(unix)]
#[test]
fn names_of_files_control_no_terminal_and_forge_no_line() {
    let (folder, model) = (tempfile::tempdir().unwrap(), model());
    let name = "x\u{1b}[2J\u{202e}\n\terror: forged.jpg";
    fs::write(folder.path().join(name), fs::read(picture()).unwrap()).unwrap();
    fs::write(folder.path().join(format!("{name}.jpg")), "no picture").unwrap();
    let output = caption(model.path(), folder.path(), &[]);
    let text = tame(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    let line = stdout(&output);
    assert_eq!((line.lines().count(), line.matches('\t').count()), (1, 1), "{line}");
    assert!(line.contains("x\\u{1b}[2J\\u{202e}\\n\\terror: forged.jpg\t"), "{line}");
    let errors = stderr(&output);
    assert_eq!(errors.lines().filter(|line| line.starts_with("error: ")).count(), 2, "{errors}");
}

#[test]
fn arguments_that_a_shell_filled_in_control_no_terminal() {
    for argument in ["--\u{1b}]52;c;\u{202e}.jpg", "--\u{1b}[2J.jpg", "--\u{202e}.jpg"] {
        let output = binary().args(["caption", "--checkpoint", "a", argument]).output().unwrap();
        let text = tame(&output);
        assert!(output.status.code() == Some(2) && text.starts_with("error: ") && text.contains("Usage: "), "{text}");
    }
}

#[test]
fn names_in_the_files_of_a_model_control_no_terminal() {
    let picture = picture();
    let folder = model();
    let weights = folder.path().join("model.safetensors");
    let mut tensors = candle_core::safetensors::load(&weights, &Device::Cpu).unwrap();
    tensors.insert(
        format!("\u{1b}[2J\nevil{}", "x".repeat(10_000)),
        Tensor::zeros(1, candle_core::DType::F32, &Device::Cpu).unwrap(),
    );
    candle_core::safetensors::save(&tensors, &weights).unwrap();
    let text = tame(&caption(folder.path(), &picture, &[]));
    assert!(text.contains("left out of") && text.contains("\\u{1b}[2J\\nevilxxx") && text.len() < 1000, "{text}");
    for (file, key) in [
        ("tokenizer.json", "/model/type"),
        ("config.json", "/decoder/model_type"),
        ("config.json", "/encoder/hidden_act"),
    ] {
        let folder = model();
        edit(folder.path(), file, |value| *value.pointer_mut(key).unwrap() = "\u{1b}[2J\u{9b}".into());
        let output = caption(folder.path(), &picture, &[]);
        let text = tame(&output);
        assert!(output.status.code() == Some(1) && text.contains("\\u{1b}[2J"), "{key} {text}");
    }
}

#[test]
fn what_a_checkpoint_says_controls_neither_a_terminal_nor_a_log_nor_a_card() {
    let folder = tempfile::tempdir().unwrap();
    let output = train(folder.path(), &small_config(folder.path()), &["--set", "training.validation_interval=1"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let last = last_checkpoint(&folder.path().join("run"));
    let (header, mut metadata, values) = split_checkpoint(&fs::read(&last).unwrap());
    let wild = "\u{1b}[2J\u{202e}\n# forged\n```";
    metadata["written_by"] = wild.into();
    metadata["config"]["data"]["dataset"] = wild.into();
    metadata["config"]["model"]["encoder"].as_object_mut().unwrap().remove("config");
    metadata["config"]["model"]["encoder"]["name"] = format!("owner/{wild}").into();
    fs::write(&last, join_checkpoint(header, &metadata, &values)).unwrap();
    for json in [&[][..], &["--json"]] {
        let output = binary().arg("inspect").arg(&last).args(json).output().unwrap();
        let text = tame(&output);
        assert!(output.status.success() && text.contains("[2J"), "{text}");
    }
    let exported = folder.path().join("exported");
    let output = binary().arg("export").arg("--checkpoint").arg(&last).arg("--output").arg(&exported).output().unwrap();
    assert!(output.status.success(), "{}", tame(&output));
    let card = fs::read_to_string(exported.join("README.md")).unwrap();
    assert!(!card.chars().any(|character| is_hidden(character) && character != '\n'), "{card:?}");
    assert!(card.contains("\\u{1b}") && !card.contains("base_model"), "{card}");
    let (_, code) = card.split_once("````toml\n").unwrap();
    assert!(code.ends_with("````\n") && !card.replace(code, "").contains("\n# forged"), "{card}");
    let log = fs::read_to_string(folder.path().join("run/train.log")).unwrap();
    assert!(!log.chars().any(|character| is_hidden(character) && character != '\n'), "{log:?}");
}

#[test]
fn names_in_captions_of_a_source_control_no_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("a.jpg"), fs::read(picture()).unwrap()).unwrap();
    let table = json!({ "a.jpg": "a fine one", "\u{1b}[2J\nerror: forged\u{202e}.jpg": "x y" });
    fs::write(source.join("captions.json"), table.to_string()).unwrap();
    let output = binary()
        .args(["prepare-data", "--source"])
        .arg(&source)
        .arg("--output")
        .arg(folder.path().join("out"))
        .output();
    let text = tame(&output.unwrap());
    assert!(text.contains("\\u{1b}[2J") && !text.lines().any(|line| line.starts_with("error: forged")), "{text}");
}

#[cfg(unix)]
#[test]
fn links_that_lead_out_of_a_source_are_reported_in_the_report() {
    let folder = tempfile::tempdir().unwrap();
    let (source, out) = (folder.path().join("source"), folder.path().join("out"));
    fs::create_dir(&source).unwrap();
    fs::write(source.join("a.jpg"), fs::read(picture()).unwrap()).unwrap();
    fs::write(folder.path().join("private.jpg"), fs::read(picture()).unwrap()).unwrap();
    std::os::unix::fs::symlink("../private.jpg", source.join("b.jpg")).unwrap();
    fs::write(source.join("captions.csv"), "image,caption\na.jpg,one dog\nb.jpg,two dogs\n").unwrap();
    let output = binary().args(["prepare-data", "--source"]).arg(&source).arg("--output").arg(&out).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let report = fs::read_to_string(out.join("preparation.json")).unwrap();
    for text in [report, stderr(&output)] {
        assert!(
            text.contains("a link that leads out of the source was followed") && text.contains("private.jpg"),
            "{text}"
        );
    }
}

#[test]
fn a_tokenizer_that_multiplies_a_text_is_refused_in_moments() {
    let replace =
        |text: &str| json!({ "type": "Replace", "pattern": { "String": text }, "content": text.repeat(1000) });
    let bytes = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
    let template = json!({
        "type": "TemplateProcessing", "pair": [], "special_tokens": {},
        "single": vec![json!({ "Sequence": { "id": "A", "type_id": 0 } }); 1000]
    });
    for (key, part) in [
        ("normalizer", json!({ "type": "Sequence", "normalizers": vec![replace("a"); 3] })),
        ("decoder", json!({ "type": "Sequence", "decoders": vec![replace("\u{120}"); 3] })),
        ("pre_tokenizer", json!({ "type": "Sequence", "pretokenizers": vec![bytes; 40] })),
        ("post_processor", json!({ "type": "Sequence", "processors": vec![template; 3] })),
        ("normalizer", json!({ "type": "Prepend", "prepend": "a".repeat(1 << 20) })),
    ] {
        let folder = model();
        edit(folder.path(), "tokenizer.json", |tokenizer| tokenizer[key] = part);
        let started = Instant::now();
        let output = caption(folder.path(), &picture(), &[]);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(&format!("the tokenizer's {key}")) && text.contains("hint: "), "{text}");
        assert!(text.chars().count() < 1000 && started.elapsed() < Duration::from_secs(30), "{text}");
    }
}
