//! Folders of BLIP and of captioners with a BERT: ids, names of tensors, and what is written back.

use std::fs;
use std::path::{Path, PathBuf};

use base::error::describe;
use candle_core::Device;
use caption_train::hf::read::{read_captioner, read_encoder};
use caption_train::run::checkpoint::reader::read_metadata;
use serde_json::{Value, json};

use crate::pretrained::{Tensors, assert_equal, config, copy_without_weights, save, weights};
use crate::support::{
    binary, files_below, last_checkpoint, max_difference, model_fixture, shapes_folder, stderr, train,
};

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

/// Trains the encoder of a BLIP through an adapter, with a decoder from scratch; returns the checkpoint.
fn adapted_encoder(folder: &Path) -> PathBuf {
    let model = format!(
        "[model.encoder]\nname = {:?}\n[model.lora]\nrank = 2\ndecoder = false\ntargets = [\"qkv\", \"mlp.fc1\"]\n\
         [model.decoder]\nhidden_size = 8\nnum_layers = 1\nnum_heads = 2\nintermediate_size = 16\n",
        model_fixture("blip").display().to_string()
    );
    let output = train(folder, &config(folder, &model), &["--set", "optimizer.learning_rate=0.01"]);
    assert!(output.status.success(), "{}", stderr(&output));
    last_checkpoint(&folder.join("run"))
}

fn export_lora(checkpoint: &Path, what: &str, folder: &Path) -> std::process::Output {
    let mut command = binary();
    command.arg("export").arg("--checkpoint").arg(checkpoint).arg("--output").arg(folder).args(["--lora", what]);
    command.output().unwrap()
}

/// The name in files of a layer of a ViT in memory.
fn in_file(module: &str) -> String {
    let renamed = [
        ("encoder.layers.", "encoder.encoder.layer."),
        ("attention.q_proj", "attention.attention.query"),
        ("attention.k_proj", "attention.attention.key"),
        ("attention.v_proj", "attention.attention.value"),
        ("mlp.fc1", "intermediate.dense"),
    ];
    renamed.into_iter().fold(module.to_owned(), |name, (from, to)| name.replace(from, to))
}

/// Beside any decoder but its own the encoder is exported as a ViT, in which query, key and value are layers of their
/// own.
#[test]
fn an_adapter_of_the_encoder_of_a_blip_is_exported_as_one_of_a_vit() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = adapted_encoder(folder.path());
    let [merged, bare, adapter] = ["merged", "base", "adapter"].map(|what| {
        let output = export_lora(&checkpoint, what, &folder.path().join(what));
        assert!(output.status.success(), "{}", stderr(&output));
        folder.path().join(what)
    });
    let settings = read_json(&adapter.join("adapter_config.json"));
    let modules: Vec<&str> =
        settings["target_modules"].as_array().unwrap().iter().map(|m| m.as_str().unwrap()).collect();
    assert!(modules.contains(&"encoder.layers.0.attention.k_proj") && modules.contains(&"encoder.layers.1.mlp.fc1"));
    let scaling = settings["lora_alpha"].as_f64().unwrap() / settings["r"].as_f64().unwrap();
    let low_rank = candle_core::safetensors::load(adapter.join("adapter_model.safetensors"), &Device::Cpu).unwrap();
    assert_eq!(low_rank.len(), 2 * modules.len());
    let (merged, bare) = (weights(&merged), weights(&bare));
    let mut changed = 0;
    for (name, weight) in &bare {
        let module = modules.iter().find(|module| format!("{}.weight", in_file(module)) == *name);
        let expected = module.map_or_else(
            || weight.clone(),
            |module| {
                let factor = |end: &str| &low_rank[&format!("base_model.model.{module}.{end}.weight")];
                let product = factor("lora_B").matmul(factor("lora_A")).unwrap();
                (weight + (product * scaling).unwrap()).unwrap()
            },
        );
        assert!(max_difference(&merged[name], &expected) < 1e-6, "{name}");
        changed += usize::from(max_difference(&merged[name], weight) > 1e-6);
    }
    assert_eq!(changed, modules.len());
}

#[test]
fn a_checkpoint_of_an_adapter_shows_its_base_and_one_without_has_none_to_export() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = adapted_encoder(folder.path());
    let output = binary().arg("inspect").arg(&checkpoint).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let base = read_metadata(&checkpoint).unwrap().0.base.unwrap();
    assert!(text.contains("\nadapter         LoRA of rank 2") && text.contains(&base.digest), "{text}");
    assert!(text.contains(&model_fixture("blip").canonicalize().unwrap().display().to_string()), "{text}");
    for what in ["base", "adapter"] {
        let output = export_lora(&model_fixture("blip"), what, &folder.path().join(what));
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains("the model has no adapter"), "{}", stderr(&output));
    }
}

#[test]
fn blips_that_do_not_caption_are_refused_by_their_class_and_give_their_encoder() {
    for class in ["BlipForQuestionAnswering", "BlipForImageTextRetrieval", "BlipModel"] {
        let folder = copy("blip");
        change(folder.path(), "config.json", |config| config["architectures"] = json!([class]));
        let text = describe(&read_captioner(folder.path(), None).unwrap_err());
        let expected = format!("\"blip\" and of the class {class}, expected BlipForConditionalGeneration or");
        assert!(text.contains(&expected) && text.contains("for the image encoder alone"), "{text}");
        let encoder = read_encoder(folder.path(), None).unwrap();
        assert_eq!(encoder.tensors.len(), read_encoder(&model_fixture("blip"), None).unwrap().tensors.len());
    }
    // A config that names no class, and the weights of another one.
    let folder = copy("blip");
    change(folder.path(), "config.json", |config| drop(config.as_object_mut().unwrap().remove("architectures")));
    assert!(read_captioner(folder.path(), None).is_ok());
    let mut tensors = weights(folder.path());
    let bias = tensors["vision_model.post_layernorm.bias"].clone();
    tensors.insert("text_encoder.embeddings.LayerNorm.bias".to_owned(), bias);
    save(&tensors, folder.path().join("model.safetensors"));
    let text = describe(&read_captioner(folder.path(), None).unwrap_err());
    assert!(text.contains("it has the tensor text_encoder.embeddings.LayerNorm.bias"), "{text}");
}

/// The card and `generation_config.json` of the export of a run with this model and the prompt "a picture of".
fn export_of_prompted(model: &str) -> (String, Value) {
    let folder = tempfile::tempdir().unwrap();
    let model = config(folder.path(), model).replace("[data]\n", "[data]\nprompt = \"a picture of\"\n");
    let output = train(folder.path(), &model, &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    let exported = folder.path().join("exported");
    export(&last_checkpoint(&folder.path().join("run")), &exported);
    let card = fs::read_to_string(exported.join("README.md")).unwrap();
    (card, read_json(&exported.join("generation_config.json")))
}

/// transformers does not see that captions continue a prompt: what is printed gives it, and together both have a place.
#[test]
fn an_export_of_a_run_with_a_prompt_says_how_to_give_it_and_leaves_it_room() {
    let own = |name: &str| format!("[model]\ninit_from = {:?}\n", model_fixture(name).display().to_string());
    for (model, python) in [
        (own("blip"), "text=\"a picture of\", return_tensors"),
        (own("vit_gpt2"), "prompt = tokenizer(\"a picture of\", add_special_tokens=False).input_ids"),
    ] {
        let (card, generation) = export_of_prompted(&model);
        assert!(card.contains(python) && card.contains("--prompt 'a picture of' picture.jpg"), "{card}");
        assert!(!card.contains("PROMPT") && !card.contains("OPTIONS"), "{card}");
        let longest = generation["max_new_tokens"].as_u64().unwrap();
        assert!(longest < 24 && card.contains(&format!("captions of at most {longest} tokens")), "{longest}: {card}");
    }
}

/// `max_length` and `min_length` of `generate` count the start token and the prompt, numbers of new tokens do not.
#[test]
fn lengths_that_a_folder_names_count_the_prompt() {
    let folder = copy("blip");
    change(folder.path(), "generation_config.json", |generation| {
        (generation["max_length"], generation["min_length"]) = (json!(12), json!(8));
    });
    let prompt = ["--prompt", "a fox and a"];
    let by_folder = captions(folder.path(), &prompt);
    // The prompt has six tokens.
    let by_hand = captions(folder.path(), &[&prompt[..], &["--max-new-tokens", "5", "--min-new-tokens", "1"]].concat());
    assert_eq!(by_folder, by_hand);
    let longer = captions(folder.path(), &[&prompt[..], &["--max-new-tokens", "11", "--min-new-tokens", "7"]].concat());
    assert_ne!(by_folder, longer);
    let alone = captions(folder.path(), &[]);
    assert_eq!(alone, captions(folder.path(), &["--max-new-tokens", "11", "--min-new-tokens", "7"]));
}

#[test]
fn a_prompt_that_is_too_long_to_score_is_to_be_shortened() {
    let folder = tempfile::tempdir().unwrap();
    let picture = files_below(&shapes_folder().join("images")).remove(0);
    let pair = json!({ "image": picture, "caption": "a fox", "prompt": "a fox ".repeat(30) });
    fs::write(folder.path().join("pairs.jsonl"), pair.to_string()).unwrap();
    let mut command = binary();
    command.arg("score-pairs").arg(folder.path().join("pairs.jsonl")).arg("--checkpoint").arg(model_fixture("blip"));
    let output = command.output().unwrap();
    let line = String::from_utf8(output.stdout).unwrap();
    assert!(line.contains("(shorten the prompt)") && !line.contains("max_seq_len"), "{line}");
}

/// Its byte-level BPE has fewer tokens than one that is trained here may have.
#[test]
fn a_captioner_with_few_tokens_is_trained_and_its_checkpoints_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let model = format!("[model]\ninit_from = {:?}\n", model_fixture("siglip_gpt2").display().to_string());
    let output = train(folder.path(), &config(folder.path(), &model), &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    let checkpoint = last_checkpoint(&folder.path().join("run"));
    assert!(read_metadata(&checkpoint).unwrap().0.config.tokenizer.vocab_size < 260);
    assert_eq!(captions(&checkpoint, &[]).len(), 3);
}
