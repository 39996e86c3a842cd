//! Folders of BLIP and of captioners with a BERT: ids, names of tensors, and what is written back.

use std::fs;
use std::path::Path;

use caption_train::hf::read::{read_captioner, read_encoder};
use serde_json::{Value, json};

use crate::pretrained::{Tensors, assert_equal, config, copy_without_weights, save, weights};
use crate::support::{binary, files_below, last_checkpoint, model_fixture, shapes_folder, stderr, train};

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// A copy of a fixture's folder whose files a test may change.
fn copy(name: &str) -> tempfile::TempDir {
    let folder = copy_without_weights(name);
    fs::copy(model_fixture(name).join("model.safetensors"), folder.path().join("model.safetensors")).unwrap();
    folder
}

fn change(folder: &Path, name: &str, change: impl FnOnce(&mut Value)) {
    let path = folder.join(name);
    let mut value = if path.exists() { read_json(&path) } else { json!({}) };
    change(&mut value);
    fs::write(&path, value.to_string()).unwrap();
}

fn export(checkpoint: &Path, folder: &Path) {
    let output = binary().arg("export").arg("--checkpoint").arg(checkpoint).arg("--output").arg(folder).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
}

/// The captions of three pictures as JSON Lines.
fn captions(checkpoint: &Path, more: &[&str]) -> Vec<Value> {
    let mut pictures = files_below(&shapes_folder().join("images"));
    pictures.sort();
    let mut command = binary();
    command.args(["caption", "--json", "--checkpoint"]).arg(checkpoint).args(more).args(&pictures[..3]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_blip_is_written_back_with_the_tensors_and_the_ids_that_it_had() {
    let folder = tempfile::tempdir().unwrap();
    let exported = folder.path().join("exported");
    export(&model_fixture("blip"), &exported);
    assert_equal(&weights(&exported), &weights(&model_fixture("blip")));
    let (before, after) =
        (read_json(&model_fixture("blip").join("config.json")), read_json(&exported.join("config.json")));
    assert_eq!(after["architectures"], json!(["BlipForConditionalGeneration"]));
    for part in ["text_config", "vision_config"] {
        for (key, value) in after[part].as_object().unwrap() {
            // The end token that counts is sep_token_id; eos_token_id, which `generate` does not use, is made the same.
            let expected = match key.as_str() {
                "eos_token_id" => &before[part]["sep_token_id"],
                "num_channels" => &json!(3),
                _ => &before[part][key],
            };
            assert_eq!(value, expected, "{part}.{key}");
        }
    }
    let generation = read_json(&exported.join("generation_config.json"));
    assert_eq!((&generation["bos_token_id"], &generation["eos_token_id"]), (&json!(80), &json!(3)));
    let tokenizer = read_json(&exported.join("tokenizer_config.json"));
    assert_eq!(tokenizer["tokenizer_class"], "BertTokenizer");
    assert_eq!(tokenizer["clean_up_tokenization_spaces"], true);
    assert_eq!(read_json(&exported.join("preprocessor_config.json"))["image_processor_type"], "BlipImageProcessor");
    let card = fs::read_to_string(exported.join("README.md")).unwrap();
    assert!(card.contains("- blip\n") && card.contains("BlipProcessor.from_pretrained"), "{card}");
}

/// The tokenizer on the Hub ends before `[DEC]`, and `generation_config.json` names an end that `generate` never uses.
#[test]
fn the_start_and_the_end_of_a_caption_are_those_of_text_config() {
    let expected = captions(&model_fixture("blip"), &[]);
    let folder = copy("blip");
    change(folder.path(), "tokenizer.json", |tokenizer| {
        tokenizer["added_tokens"].as_array_mut().unwrap().retain(|token| token["id"].as_u64().unwrap() < 80);
    });
    assert_eq!(captions(folder.path(), &[]), expected);
    let exported = folder.path().join("exported");
    export(folder.path(), &exported);
    assert_eq!(captions(&exported, &[]), expected);
    assert_eq!(read_json(&exported.join("config.json"))["text_config"]["bos_token_id"], 80);
    // Another end token ends captions elsewhere.
    let first = expected[0]["tokens"][3].clone();
    change(folder.path(), "generation_config.json", |generation| generation["eos_token_id"] = first.clone());
    assert_eq!(captions(folder.path(), &[]), expected);
    change(folder.path(), "config.json", |config| config["text_config"]["sep_token_id"] = first.clone());
    assert!(captions(folder.path(), &[])[0]["tokens"].as_array().unwrap().len() <= 3);
}

#[test]
fn a_tokenizer_that_does_not_fit_its_decoder_is_a_named_error() {
    let text = |change_config: &dyn Fn(&mut Value)| {
        let folder = copy("blip");
        change(folder.path(), "config.json", |config| change_config(config));
        let output = binary().args(["caption", "x.png", "--checkpoint"]).arg(folder.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        stderr(&output)
    };
    let found = text(&|config| config["text_config"]["bos_token_id"] = json!(82));
    assert!(found.contains("it has no token with the id 82, which is the start token"), "{found}");
    let found = text(&|config| config["text_config"]["sep_token_id"] = json!(90));
    assert!(found.contains("it has no token with the id 90"), "{found}");
    let found = text(&|config| config["text_config"]["vocab_size"] = json!(70));
    assert!(found.contains("it has 82 tokens, but the model has 70"), "{found}");
}

#[test]
fn the_encoder_of_a_blip_is_trained_with_another_decoder_and_exported_as_a_vit() {
    let alone = read_encoder(&model_fixture("blip"), None).unwrap();
    let whole = read_captioner(&model_fixture("blip"), None).unwrap();
    assert_eq!(alone.config, whole.config.encoder);
    assert!(alone.unused.iter().all(|name| name.starts_with("decoder.")), "{:?}", alone.unused);
    let folder = tempfile::tempdir().unwrap();
    let model = format!(
        "[model.encoder]\nname = {:?}\ntrain = \"full\"\n[model.decoder]\nhidden_size = 8\nnum_layers = 1\nnum_heads = 2\n\
         intermediate_size = 16\n",
        model_fixture("blip").display().to_string()
    );
    let output = train(folder.path(), &config(folder.path(), &model), &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    let checkpoint = last_checkpoint(&folder.path().join("run"));
    let exported = folder.path().join("exported");
    export(&checkpoint, &exported);
    assert_eq!(read_json(&exported.join("config.json"))["encoder"]["model_type"], "vit");
    assert_eq!(captions(&exported, &["--num-beams", "2"]), captions(&checkpoint, &["--num-beams", "2"]));
}

/// A BERT as it is on the Hub: no cross-attention, a pooler, the oldest names of LayerNorms, and no ids in its config.
fn plain_bert() -> tempfile::TempDir {
    let folder = copy_without_weights("vit_bert");
    let mut tensors = Tensors::new();
    for (name, tensor) in weights(&model_fixture("vit_bert")) {
        let Some(name) = name.strip_prefix("decoder.").filter(|name| !name.contains(".crossattention.")) else {
            continue;
        };
        let name = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
        tensors.insert(name, tensor);
    }
    tensors.insert("bert.pooler.dense.bias".to_owned(), tensors["cls.predictions.transform.dense.bias"].clone());
    save(&tensors, folder.path().join("model.safetensors"));
    fs::remove_file(folder.path().join("generation_config.json")).unwrap();
    change(folder.path(), "config.json", |config| {
        let mut bert = config["decoder"].take();
        bert["is_decoder"] = false.into();
        bert["add_cross_attention"] = false.into();
        *config = bert;
    });
    folder
}

#[test]
fn a_plain_bert_becomes_a_decoder_whose_cross_attention_is_new() {
    let (bert, folder) = (plain_bert(), tempfile::tempdir().unwrap());
    let model = format!(
        "[model.encoder]\nname = {:?}\n[model.decoder]\nname = {:?}\n",
        model_fixture("vit_bert").display().to_string(),
        bert.path().display().to_string()
    );
    let output = train(folder.path(), &config(folder.path(), &model), &[]);
    let text = stderr(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("new and untrained: 12 tensors: enc_to_dec_proj.weight"), "{text}");
    assert!(text.contains("left out of") && text.contains("1 tensor: bert.pooler.dense.bias"), "{text}");
    let resolved = fs::read_to_string(folder.path().join("run/config.resolved.toml")).unwrap();
    assert!(resolved.contains("start_token = \"[CLS]\"") && resolved.contains("end_token = \"[SEP]\""), "{resolved}");
    let exported = folder.path().join("exported");
    export(&last_checkpoint(&folder.path().join("run")), &exported);
    assert_eq!(read_json(&exported.join("config.json"))["decoder"]["type_vocab_size"], 2);
    assert_eq!(captions(&exported, &[]), captions(&last_checkpoint(&folder.path().join("run")), &[]));
}
