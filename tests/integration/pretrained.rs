//! Models that come from elsewhere and go elsewhere: what is read of a folder, what a run makes of it, what is
//! exported.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use caption_train::hf::read::{read_captioner, read_encoder};

use crate::support::{
    binary, files_below, last_checkpoint, losses, max_difference, model_fixture, shapes_folder, stderr, train,
};

pub(crate) type Tensors = BTreeMap<String, Tensor>;

/// A copy of a fixture's folder whose weights a test writes itself.
pub(crate) fn copy_without_weights(name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(model_fixture(name)).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "safetensors") {
            std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    folder
}

pub(crate) fn weights(folder: &Path) -> Tensors {
    candle_core::safetensors::load(folder.join("model.safetensors"), &Device::Cpu).unwrap().into_iter().collect()
}

pub(crate) fn save(tensors: &Tensors, path: PathBuf) {
    let tensors = tensors.iter().map(|(name, tensor)| (name.clone(), tensor.clone())).collect();
    candle_core::safetensors::save(&tensors, path).unwrap();
}

#[track_caller]
pub(crate) fn assert_equal(found: &Tensors, expected: &Tensors) {
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, tensor) in expected {
        assert_eq!(max_difference(&found[name], tensor), 0.0, "{name}");
    }
}

#[test]
fn shards_give_the_same_model_as_one_file() {
    let whole = weights(&model_fixture("vit_gpt2"));
    let folder = copy_without_weights("vit_gpt2");
    let mut map = serde_json::Map::new();
    let mut shards = [Tensors::new(), Tensors::new()];
    for (index, (name, tensor)) in whole.iter().enumerate() {
        shards[index % 2].insert(name.clone(), tensor.clone());
        map.insert(name.clone(), format!("model-{}.safetensors", index % 2).into());
    }
    for (index, shard) in shards.iter().enumerate() {
        save(shard, folder.path().join(format!("model-{index}.safetensors")));
    }
    let index = serde_json::json!({ "metadata": {}, "weight_map": map });
    std::fs::write(folder.path().join("model.safetensors.index.json"), index.to_string()).unwrap();
    let expected = read_captioner(&model_fixture("vit_gpt2"), None).unwrap();
    let found = read_captioner(folder.path(), None).unwrap();
    assert_eq!(found.config, expected.config);
    assert_equal(&found.tensors, &expected.tensors);
}

#[test]
fn half_precisions_are_read_into_f32() {
    for dtype in [DType::F16, DType::BF16] {
        let folder = copy_without_weights("clip_gpt2");
        let narrow: Tensors = weights(&model_fixture("clip_gpt2"))
            .into_iter()
            .map(|(name, tensor)| (name, tensor.to_dtype(dtype).unwrap()))
            .collect();
        save(&narrow, folder.path().join("model.safetensors"));
        let found = read_captioner(folder.path(), None).unwrap().tensors;
        let expected = read_captioner(&model_fixture("clip_gpt2"), None).unwrap().tensors;
        for (name, tensor) in expected {
            assert_eq!(found[&name].dtype(), DType::F32);
            let rounded = tensor.to_dtype(dtype).unwrap().to_dtype(DType::F32).unwrap();
            assert_eq!(max_difference(&found[&name], &rounded), 0.0, "{name}");
        }
    }
}

#[test]
fn an_encoder_is_read_alone_and_inside_of_a_captioner_under_each_of_its_names() {
    for (fixture, prefixes) in [
        ("vit_gpt2", ["", "vit."]),
        ("clip_gpt2", ["", "vision_model."]),
        ("siglip_gpt2", ["", "vision_model."]),
        ("registers_gpt2", ["", "dinov2_with_registers."]),
        ("deit_gpt2", ["", "deit."]),
    ] {
        let inside = read_encoder(&model_fixture(fixture), None).unwrap();
        let is_other = |name: &String| {
            ["decoder.", "enc_to_dec_proj.", "embeddings.mask_token"].iter().any(|part| name.starts_with(part))
        };
        assert!(inside.unused.iter().all(is_other), "{:?}", inside.unused);
        let text = std::fs::read_to_string(model_fixture(fixture).join("config.json")).unwrap();
        let config: serde_json::Value = serde_json::from_str(&text).unwrap();
        for prefix in prefixes {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("config.json"), config["encoder"].to_string()).unwrap();
            let whole = weights(&model_fixture(fixture));
            let inner = whole.iter().filter_map(|(name, tensor)| Some((name.strip_prefix("encoder.")?, tensor)));
            let named: Tensors = inner.map(|(name, tensor)| (format!("{prefix}{name}"), tensor.clone())).collect();
            save(&named, folder.path().join("model.safetensors"));
            let alone = read_encoder(folder.path(), None).unwrap();
            assert!(alone.unused.iter().all(|name| name.ends_with("mask_token")), "{:?}", alone.unused);
            assert_eq!(alone.config, inside.config);
            assert_equal(&alone.tensors, &inside.tensors);
            assert_eq!(alone.tensors.len() + alone.unused.len(), named.len());
        }
    }
}

/// A folder with these weights under other names: each replacement is made once in a name, in this order. Then query,
/// key and value of each block, which are called `separate` with another word in place of the `*`, become one.
fn respelled(
    config: (&str, &serde_json::Value),
    tensors: &Tensors,
    replacements: &[(&str, &str)],
    fused: Option<(&str, [&str; 3], &str)>,
) -> tempfile::TempDir {
    let rename = |name: &String| replacements.iter().fold(name.clone(), |name, (from, to)| name.replacen(from, to, 1));
    let mut named: Tensors = tensors.iter().map(|(name, tensor)| (rename(name), tensor.clone())).collect();
    if let Some((separate, words, together)) = fused {
        for (name, _) in named.clone() {
            let first = separate.replacen('*', words[0], 1);
            if name.contains(&first) {
                let part =
                    |word: &&str| named.remove(&name.replacen(&first, &separate.replacen('*', word, 1), 1)).unwrap();
                let parts: Vec<Tensor> = words.iter().map(part).collect();
                named.insert(name.replacen(&first, together, 1), Tensor::cat(&parts, 0).unwrap());
            }
        }
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(config.0), config.1.to_string()).unwrap();
    let weights = if config.0 == "config.json" { "model.safetensors" } else { "open_clip_model.safetensors" };
    save(&named, folder.path().join(weights));
    folder
}

fn config_of(fixture: &str, part: &str) -> serde_json::Value {
    let text = std::fs::read_to_string(model_fixture(fixture).join("config.json")).unwrap();
    serde_json::from_str::<serde_json::Value>(&text).unwrap()[part].take()
}

#[test]
fn names_that_transformers_5_has_in_memory_are_those_of_its_files() {
    const TO_MEMORY: [(&str, &str); 6] = [
        ("attention.attention.query", "attention.q_proj"),
        ("attention.attention.key", "attention.k_proj"),
        ("attention.attention.value", "attention.v_proj"),
        ("attention.output.dense", "attention.o_proj"),
        ("intermediate.dense", "mlp.fc1"),
        ("output.dense", "mlp.fc2"),
    ];
    for (fixture, blocks) in [
        ("vit_gpt2", ("encoder.layer.", "layers.")),
        ("deit_gpt2", ("encoder.layer.", "layers.")),
        ("dinov2_gpt2", ("", "")),
        ("registers_gpt2", ("", "")),
    ] {
        let expected = read_encoder(&model_fixture(fixture), None).unwrap();
        let replacements = [[blocks].as_slice(), &TO_MEMORY].concat();
        let config = config_of(fixture, "encoder");
        let folder = respelled(("config.json", &config), &expected.tensors, &replacements, None);
        let found = read_encoder(folder.path(), None).unwrap();
        assert!(found.unused.is_empty(), "{fixture}: {:?}", found.unused);
        assert_eq!(found.config, expected.config);
        assert_equal(&found.tensors, &expected.tensors);
    }
}

#[test]
fn an_open_clip_is_read_from_its_own_files() {
    let expected = read_encoder(&model_fixture("clip"), None).unwrap();
    let replacements = [
        ("vision_model.encoder.layers.", "visual.transformer.resblocks."),
        ("vision_model.embeddings.class_embedding", "visual.class_embedding"),
        ("vision_model.embeddings.position_embedding.weight", "visual.positional_embedding"),
        ("vision_model.embeddings.patch_embedding", "visual.conv1"),
        ("vision_model.pre_layrnorm", "visual.ln_pre"),
        ("vision_model.post_layernorm", "visual.ln_post"),
        ("layer_norm1", "ln_1"),
        ("layer_norm2", "ln_2"),
        ("self_attn.out_proj", "attn.out_proj"),
        ("mlp.fc1", "mlp.c_fc"),
        ("mlp.fc2", "mlp.c_proj"),
    ];
    let mut tensors = expected.tensors.clone();
    // What it has beside the image tower.
    for name in ["visual.proj", "transformer.resblocks.0.ln_1.weight", "logit_scale"] {
        tensors.insert(name.to_owned(), Tensor::zeros(8, DType::F32, &Device::Cpu).unwrap());
    }
    let config = |vision: serde_json::Value| {
        let sizes = serde_json::json!({ "image_size": 28, "layers": 2, "width": 8, "patch_size": 14, "head_width": 4,
            "mlp_ratio": 1.5 });
        let mut config =
            serde_json::json!({ "model_cfg": { "embed_dim": 4, "quick_gelu": true, "vision_cfg": sizes } });
        config["model_cfg"]["vision_cfg"].as_object_mut().unwrap().extend(vision.as_object().unwrap().clone());
        config
    };
    let words = Some(("self_attn.*_proj.", ["q", "k", "v"], "attn.in_proj_"));
    let name = "open_clip_config.json";
    let folder = respelled((name, &config(serde_json::json!({}))), &tensors, &replacements, words);
    let found = read_encoder(folder.path(), None).unwrap();
    assert_eq!(found.config, expected.config);
    assert_equal(&found.tensors, &expected.tensors);
    assert_eq!(found.unused.len(), 3, "{:?}", found.unused);
    for other in
        [serde_json::json!({ "timm_model_name": "convnext_base" }), serde_json::json!({ "ls_init_value": 0.1 })]
    {
        std::fs::write(folder.path().join(name), config(other).to_string()).unwrap();
        let text = base::error::describe(&read_encoder(folder.path(), None).unwrap_err());
        assert!(text.contains("is not a plain CLIP") && text.contains("hint:"), "{text}");
    }
}

#[test]
fn a_dinov2_is_made_for_the_pictures_that_its_image_processor_gives() {
    let folder = copy_without_weights("registers_gpt2");
    save(&weights(&model_fixture("registers_gpt2")), folder.path().join("model.safetensors"));
    let path = folder.path().join("preprocessor_config.json");
    let mut processor: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    processor["crop_size"] = 16.into();
    std::fs::write(&path, processor.to_string()).unwrap();
    let read = |image_size| read_captioner(folder.path(), image_size).unwrap();
    let found = read(None);
    assert_eq!((found.config.encoder.image_size(), found.config.encoder.grid()), (16, 5));
    assert_equal(&found.tensors, &read(Some(16)).tensors);
    assert_eq!(read(Some(9)).config.encoder.image_size(), 9);
    // Others refuse such pictures in transformers, and the config has the say.
    let vit = copy_without_weights("vit_gpt2");
    save(&weights(&model_fixture("vit_gpt2")), vit.path().join("model.safetensors"));
    let other = serde_json::json!({ "image_processor_type": "ViTImageProcessor", "size": 28 });
    std::fs::write(vit.path().join("preprocessor_config.json"), other.to_string()).unwrap();
    assert_eq!(read_captioner(vit.path(), None).unwrap().config.encoder.image_size(), 42);
}

#[test]
fn a_position_table_of_another_size_than_the_config_says_is_not_resampled_unasked() {
    let folder = copy_without_weights("vit_gpt2");
    let mut tensors = weights(&model_fixture("vit_gpt2"));
    let table = Tensor::zeros((1, 17, 12), DType::F32, &Device::Cpu).unwrap();
    tensors.insert("encoder.embeddings.position_embeddings".to_owned(), table);
    save(&tensors, folder.path().join("model.safetensors"));
    let init = format!("[model]\ninit_from = {:?}\n", folder.path().display().to_string());
    let (_, text) = refused(&init);
    assert!(text.contains("position_embeddings: expected [1, 10, 12], found [1, 17, 12]"), "{text}");
    let (_, text) = refused(&format!("{init}[model.encoder]\nimage_size = 70\n"));
    assert!(text.contains("has 17 rows, but the image_size in config.json requires 10"), "{text}");
}

/// A config that goes on from models of the fixtures, with pictures of drawn shapes.
pub(crate) fn config(output: &Path, model: &str) -> String {
    format!(
        "output_dir = {:?}\nname = \"run\"\n[data]\ndirectory = {:?}\n{model}\n[training]\nbatch_size = 250\n\
         num_epochs = 1\nlog_interval = 1\n[schedule]\nwarmup_steps = 2\n",
        output.display().to_string(),
        shapes_folder().display().to_string()
    )
}

pub(crate) fn init_from(name: &str) -> String {
    format!("[model]\ninit_from = {:?}\n", model_fixture(name).display().to_string())
}

#[test]
fn a_whole_captioner_is_trained_resumed_and_exported_with_its_own_tokenizer() {
    for (name, start) in
        [("vit_gpt2", "<|endoftext|>"), ("clip_gpt2", "<start>"), ("blip", "[DEC]"), ("vit_bert", "[CLS]")]
    {
        let folder = tempfile::tempdir().unwrap();
        let output = train(folder.path(), &config(folder.path(), &init_from(name)), &[]);
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(!stderr(&output).contains("new and untrained"), "{}", stderr(&output));
        let run = folder.path().join("run");
        let resolved = std::fs::read_to_string(run.join("config.resolved.toml")).unwrap();
        assert!(resolved.contains(&format!("start_token = \"{start}\"")), "{resolved}");
        // The longest caption is the smaller of the default and what the model has positions for.
        let positions = if ["vit_gpt2", "blip"].contains(&name) { 24 } else { 20 };
        assert!(resolved.contains(&format!("max_seq_len = {positions}")), "{resolved}");

        let resumed =
            binary().arg("--resume").arg(last_checkpoint(&run)).args(["--set", "training.num_epochs=2"]).output();
        let resumed = resumed.unwrap();
        assert!(resumed.status.success(), "{}", stderr(&resumed));

        let exported = folder.path().join("exported");
        let output = binary()
            .arg("export")
            .arg("--checkpoint")
            .arg(last_checkpoint(&run))
            .arg("--output")
            .arg(&exported)
            .output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        let card = std::fs::read_to_string(exported.join("README.md")).unwrap();
        assert!(card.contains("| epochs | 2 |") && card.contains("init_from = \"a local folder\""), "{card}");
        assert!(!card.contains(&*folder.path().to_string_lossy()), "{card}");
        assert!(!card.contains(&*shapes_folder().to_string_lossy()), "{card}");
        let pictures = shapes_folder().join("images");
        let caption = |checkpoint: &Path| {
            let output =
                binary().arg("caption").arg("--json").arg("--checkpoint").arg(checkpoint).arg(&pictures).output();
            String::from_utf8(output.unwrap().stdout).unwrap()
        };
        let captions = caption(&exported);
        assert_eq!(captions.lines().count(), 524);
        assert_eq!(captions, caption(&last_checkpoint(&run)), "{name}");
    }
}

#[test]
fn the_same_config_resumes_a_run_whose_sizes_came_from_a_model() {
    let folder = tempfile::tempdir().unwrap();
    let text = config(folder.path(), &init_from("vit_gpt2"));
    assert!(train(folder.path(), &text, &[]).status.success());
    let checkpoint = last_checkpoint(&folder.path().join("run"));
    let set = format!("training.resume_from={}", checkpoint.display());
    let output = train(folder.path(), &text, &["--set", &set, "--set", "training.num_epochs=2"]);
    assert!(output.status.success(), "{}", stderr(&output));
    // It went on in place: 8 updates in an epoch, and none of the first epoch again.
    let steps: Vec<u64> = losses(&folder.path().join("run")).into_iter().map(|(step, _)| step).collect();
    assert_eq!(steps, (1..=16).collect::<Vec<u64>>());
}

#[test]
fn what_was_exported_is_exported_again_without_a_change() {
    for name in
        ["vit_gpt2", "clip_gpt2", "siglip_gpt2", "dinov2_gpt2", "registers_gpt2", "deit_gpt2", "blip", "vit_bert"]
    {
        let folder = tempfile::tempdir().unwrap();
        let export = |from: &Path, to: &str| {
            let to = folder.path().join(to);
            let output =
                binary().arg("export").arg("--checkpoint").arg(from).arg("--output").arg(&to).output().unwrap();
            assert!(output.status.success(), "{}", stderr(&output));
            to
        };
        let first = export(&model_fixture(name), "first");
        let second = export(&first, "second");
        let mut names: Vec<_> =
            std::fs::read_dir(&first).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        let of_tokenizer: &[&str] = if name.ends_with("gpt2") { &["merges.txt", "vocab.json"] } else { &["vocab.txt"] };
        let mut expected = vec![
            "README.md",
            "config.json",
            "generation_config.json",
            "model.safetensors",
            "preprocessor_config.json",
            "special_tokens_map.json",
            "tokenizer.json",
            "tokenizer_config.json",
        ];
        expected.extend(of_tokenizer);
        expected.sort_unstable();
        assert_eq!(names, expected);
        for file in expected.iter().filter(|&&file| file != "README.md") {
            assert!(
                std::fs::read(first.join(file)).unwrap() == std::fs::read(second.join(file)).unwrap(),
                "{name} {file}"
            );
        }
        let source = read_captioner(&model_fixture(name), None).unwrap();
        let found = read_captioner(&first, None).unwrap();
        assert_eq!(found.config, source.config);
        assert_equal(&found.tensors, &source.tensors);
        let tied =
            std::fs::read_to_string(first.join("config.json")).unwrap().contains("\"tie_word_embeddings\": true");
        let is_head = |name: &&String| name.ends_with("lm_head.weight") || name.ends_with("predictions.decoder.weight");
        assert_eq!(tied, weights(&first).keys().find(is_head).is_none(), "{name}");
        let card = std::fs::read_to_string(first.join("README.md")).unwrap();
        assert!(card.starts_with("---\n") && card.contains("pipeline_tag: image-to-text"), "{card}");
    }
}

#[test]
fn a_plain_gpt2_gets_a_cross_attention_that_is_announced() {
    let folder = tempfile::tempdir().unwrap();
    let model = format!(
        "[model.encoder]\nname = {:?}\n[model.decoder]\nname = {:?}\nmax_seq_len = 18\ndropout = 0.2\n",
        model_fixture("clip").display().to_string(),
        model_fixture("gpt2").display().to_string()
    );
    let output = train(folder.path(), &config(folder.path(), &model), &[]);
    let text = stderr(&output);
    assert!(output.status.success(), "{text}");
    let new = text.lines().find(|line| line.contains("new and untrained")).unwrap();
    // Two blocks with three dense layers and a LayerNorm each.
    assert!(new.contains("16 tensors") && new.contains("crossattention"), "{new}");
    assert!(text.contains("left out of") && text.contains("text_model"), "{text}");
    let resolved = std::fs::read_to_string(folder.path().join("run/config.resolved.toml")).unwrap();
    assert!(resolved.contains("max_seq_len = 18") && resolved.contains("dropout = 0.2"), "{resolved}");
}

/// Exit code and message of a run that is refused and leaves nothing behind.
fn refused(model: &str) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let output = train(folder.path(), &config(&folder.path().join("runs"), model), &[]);
    assert!(!folder.path().join("runs").exists(), "{}", stderr(&output));
    (output.status.code(), stderr(&output))
}

#[test]
fn a_written_value_that_contradicts_the_model_is_a_usage_error_and_a_default_is_not() {
    let (code, text) = refused(&format!("{}[model.decoder]\nhidden_size = 512\n", init_from("vit_gpt2")));
    assert_eq!(code, Some(2));
    assert!(text.contains("model.decoder.hidden_size is 512 in the config, but 8 in"), "{text}");
    let (code, text) = refused(&format!("[tokenizer]\nlowercase = true\n{}", init_from("vit_gpt2")));
    assert_eq!(code, Some(2));
    assert!(text.contains("tokenizer.lowercase is true in the config, but false in"), "{text}");
    let (code, text) = refused(&format!("{}[model.decoder]\nmax_seq_len = 25\n", init_from("vit_gpt2")));
    assert_eq!(code, Some(2));
    assert!(text.contains("max_seq_len is 25") && text.contains("has 24 positions"), "{text}");
}

#[test]
fn weights_that_are_missing_left_over_or_misshapen_are_listed_by_name() {
    let folder = copy_without_weights("vit_gpt2");
    let mut tensors = weights(&model_fixture("vit_gpt2"));
    tensors.remove("decoder.transformer.h.0.mlp.c_fc.bias").unwrap();
    tensors.remove("encoder.layernorm.weight").unwrap();
    let bias = tensors.get_mut("decoder.transformer.ln_f.bias").unwrap();
    *bias = Tensor::zeros(7, DType::F32, &Device::Cpu).unwrap();
    let surplus = Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap();
    tensors.insert("decoder.transformer.h.1.ln_1.weight".to_owned(), surplus);
    save(&tensors, folder.path().join("model.safetensors"));
    let name = folder.path().display().to_string();
    let (code, by_training) = refused(&format!("[model]\ninit_from = {name:?}\n"));
    assert_eq!(code, Some(1));
    let output = binary().args(["caption", "x.png", "--checkpoint", &name]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    for (part, text) in [by_training, stderr(&output)].iter().flat_map(|text| PARTS.map(|part| (part, text))) {
        assert!(text.contains(part), "{part:?} is missing in {text}");
    }
    const PARTS: [&str; 7] = [
        "missing (2):",
        "decoder.transformer.h.0.mlp.c_fc.bias [18]",
        "encoder.layernorm.weight [12]",
        "not part of the model (1):",
        "decoder.transformer.h.1.ln_1.weight",
        "of another shape (1):",
        "decoder.transformer.ln_f.bias: expected [8], found [7]",
    ];
}

#[test]
fn a_pickle_that_is_none_is_refused_with_the_way_to_convert_it() {
    let folder = copy_without_weights("vit_gpt2");
    std::fs::write(folder.path().join("pytorch_model.bin"), "pickle").unwrap();
    for text in [
        refused(&format!("[model]\ninit_from = {:?}\n", folder.path().display().to_string())).1,
        stderr(&binary().args(["caption", "x.png", "--checkpoint"]).arg(folder.path()).output().unwrap()),
    ] {
        assert!(text.contains("pickle") && text.contains("save_pretrained"), "{text}");
    }
}

#[test]
fn nothing_is_exported_over_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("mine.txt"), "x").unwrap();
    let output = binary()
        .args(["export", "--checkpoint"])
        .arg(model_fixture("vit_gpt2"))
        .arg("--output")
        .arg(folder.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("is not empty"), "{}", stderr(&output));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// A copy of a fixture's folder with the image processing in `processor_config.json`, as transformers 5 saves it.
fn saved_by_transformers_5(name: &str) -> tempfile::TempDir {
    let folder = copy_without_weights(name);
    std::fs::copy(model_fixture(name).join("model.safetensors"), folder.path().join("model.safetensors")).unwrap();
    let alone = folder.path().join("preprocessor_config.json");
    let config: serde_json::Value = serde_json::from_slice(&std::fs::read(&alone).unwrap()).unwrap();
    let processor = serde_json::json!({ "image_processor": config, "processor_class": "CLIPProcessor" });
    std::fs::write(folder.path().join("processor_config.json"), processor.to_string()).unwrap();
    std::fs::remove_file(alone).unwrap();
    folder
}

#[test]
fn an_encoder_saved_by_transformers_5_trains_as_one_saved_before() {
    let losses_with = |encoder: &Path, pretrained: bool| {
        let folder = tempfile::tempdir().unwrap();
        let name = encoder.display().to_string();
        let train_it = if pretrained { "frozen" } else { "full" };
        let model = format!(
            "[model.encoder]\nname = {name:?}\npretrained = {pretrained}\ntrain = {train_it:?}\n[model.decoder]\n\
             hidden_size = 8\nnum_layers = 1\nnum_heads = 2\nintermediate_size = 16\n"
        );
        let output = train(folder.path(), &config(folder.path(), &model), &[]);
        assert!(output.status.success(), "{}", stderr(&output));
        losses(&folder.path().join("run"))
    };
    let new = saved_by_transformers_5("clip");
    for pretrained in [true, false] {
        assert_eq!(losses_with(new.path(), pretrained), losses_with(&model_fixture("clip"), pretrained));
    }
}

#[test]
fn a_captioner_saved_by_transformers_5_captions_and_says_which_of_two_files_counts() {
    let caption = |folder: &Path| {
        let pictures = files_below(&shapes_folder().join("images"));
        let output = binary().args(["caption", "--checkpoint"]).arg(folder).args(&pictures[..3]).output().unwrap();
        (output.status.code(), output.stdout.clone(), stderr(&output))
    };
    let expected = caption(&model_fixture("clip_gpt2"));
    let folder = saved_by_transformers_5("clip_gpt2");
    assert_eq!(caption(folder.path()), expected);
    // The older file is beside it, and says something else.
    let alone = folder.path().join("preprocessor_config.json");
    std::fs::write(&alone, r#"{ "image_processor_type": "ViTImageProcessor", "size": 30 }"#).unwrap();
    let (code, captions, text) = caption(folder.path());
    assert_eq!((code, captions), (expected.0, expected.1));
    assert!(text.contains("images are processed as processor_config.json in"), "{text}");
    // Neither describes the images.
    std::fs::remove_file(&alone).unwrap();
    std::fs::write(folder.path().join("processor_config.json"), r#"{ "processor_class": "CLIPProcessor" }"#).unwrap();
    let (code, _, text) = caption(folder.path());
    assert_eq!(code, Some(1));
    assert!(text.contains("nor a preprocessor_config.json") && text.contains("hint: "), "{text}");
}

#[test]
fn a_captioner_that_names_no_length_writes_as_many_tokens_as_generate() {
    let folder = copy_without_weights("vit_gpt2");
    std::fs::copy(model_fixture("vit_gpt2").join("model.safetensors"), folder.path().join("model.safetensors"))
        .unwrap();
    let path = folder.path().join("generation_config.json");
    let own: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let picture = |number: u32| {
        let path = folder.path().join(format!("{number}.png"));
        let pixel =
            |x: u32, y: u32| image::Rgb([x * number * 7, y * number * 13, number * 31].map(|value| value as u8));
        image::RgbImage::from_fn(8, 8, pixel).save(&path).unwrap();
        path
    };
    let tokens = |picture: &Path, settings: serde_json::Value| -> Vec<u64> {
        let mut config = own.clone();
        config.as_object_mut().unwrap().remove("max_new_tokens").unwrap();
        config.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        std::fs::write(&path, config.to_string()).unwrap();
        let mut command = binary();
        command.args(["caption", "--json", "--checkpoint"]).arg(folder.path()).arg(picture);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        let line: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        serde_json::from_value(line["tokens"].clone()).unwrap()
    };
    // A picture whose caption the model does not end by itself.
    let whole = |picture: &PathBuf| tokens(picture, serde_json::json!({ "max_new_tokens": 24 }));
    let picture = (1..20).map(picture).find(|picture| whole(picture).len() == 24).unwrap();
    let all = whole(&picture);
    for (settings, expected) in [
        (serde_json::json!({}), 20),
        (serde_json::json!({ "max_length": 20 }), 19),
        (serde_json::json!({ "max_length": 7 }), 6),
        (serde_json::json!({ "max_length": 7, "max_new_tokens": 9 }), 9),
        (serde_json::json!({ "max_length": 100 }), 24),
    ] {
        assert_eq!(tokens(&picture, settings.clone()), all[..expected], "{settings}");
    }
}
