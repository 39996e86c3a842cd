//! Weights as `torch.save` writes them. The files are made by `tests/reference/pickles.py`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use base::error::describe;
use candle_core::Tensor;
use caption_train::hf::read::read_decoder;
use caption_train::hf::weights::read_tensors;

use crate::support::{model_fixture, shapes_folder, stderr, train};

fn pickle(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pickles").join(name)
}

/// A folder with these files, each from another one.
fn folder_of(files: &[(&str, PathBuf)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, source) in files {
        fs::copy(source, folder.path().join(name)).unwrap();
    }
    folder
}

/// The fixture `gpt2` with a pickle as its weights.
fn pickled_gpt2() -> tempfile::TempDir {
    let gpt2 = model_fixture("gpt2");
    let names = ["config.json", "vocab.json", "merges.txt"];
    let mut files: Vec<_> = names.iter().map(|&name| (name, gpt2.join(name))).collect();
    files.push(("pytorch_model.bin", pickle("gpt2.bin")));
    folder_of(&files)
}

fn bits(tensor: &Tensor) -> (Vec<usize>, Vec<u32>) {
    let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    (tensor.dims().to_vec(), values.into_iter().map(f32::to_bits).collect())
}

#[track_caller]
fn assert_same_bits(found: &BTreeMap<String, Tensor>, expected: &BTreeMap<String, Tensor>) {
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, tensor) in expected {
        assert_eq!(bits(&found[name]), bits(tensor), "{name}");
    }
}

#[test]
fn a_pickle_gives_the_bytes_of_safetensors() {
    let folder = pickled_gpt2();
    let found = read_decoder(folder.path()).unwrap();
    let expected = read_decoder(&model_fixture("gpt2")).unwrap();
    assert_eq!(found.config, expected.config);
    assert_same_bits(&found.tensors, &expected.tensors);
    assert!(!found.tensors.is_empty());
    // Where both are there, the pickle is not looked at.
    fs::copy(model_fixture("gpt2").join("model.safetensors"), folder.path().join("model.safetensors")).unwrap();
    fs::write(folder.path().join("pytorch_model.bin"), "x").unwrap();
    assert_same_bits(&read_decoder(folder.path()).unwrap().tensors, &expected.tensors);
}

#[test]
fn every_form_of_a_tensor_has_the_values_that_torch_gives_it() {
    let forms = || folder_of(&[("pytorch_model.bin", pickle("forms.bin"))]);
    let expected = read_tensors(folder_of(&[("model.safetensors", pickle("forms.safetensors"))]).path()).unwrap();
    assert_same_bits(&read_tensors(forms().path()).unwrap(), &expected);
    assert_eq!(expected.len(), 14);
    let of = |names: &[&str]| -> BTreeMap<String, Tensor> {
        names.iter().map(|&name| (name.to_owned(), expected[name].clone())).collect()
    };
    for name in ["protocol_4.bin", "wrapped.bin"] {
        let found = read_tensors(folder_of(&[("open_clip_pytorch_model.bin", pickle(name))]).path()).unwrap();
        assert_same_bits(&found, &of(&["f16", "transposed", "parameter"]));
    }
    let shards = folder_of(&[("a.bin", pickle("shard_1.bin")), ("b.bin", pickle("shard_2.bin"))]);
    let index = shards.path().join("pytorch_model.bin.index.json");
    fs::write(&index, r#"{"weight_map": {"f16": "a.bin", "columns": "a.bin", "whole": "b.bin"}}"#).unwrap();
    assert_same_bits(&read_tensors(shards.path()).unwrap(), &of(&["f16", "columns", "transposed", "whole"]));
    fs::copy(pickle("shard_1.bin"), shards.path().join("b.bin")).unwrap();
    let text = describe(&read_tensors(shards.path()).unwrap_err());
    assert!(text.contains("b.bin has columns, as another shard has"), "{text}");
    fs::write(index, r#"{"weight_map": {"f16": "../a.bin"}}"#).unwrap();
    assert!(describe(&read_tensors(shards.path()).unwrap_err()).contains("not a plain file name"));
}

#[test]
fn a_pickle_that_asks_for_anything_else_is_refused_by_its_name_with_the_way_out() {
    for (file, part) in [
        ("system", "it asks for posix.system,"),
        ("eval", "it asks for __builtin__.eval,"),
        ("eval_4", "it asks for builtins.eval,"),
        ("torch_load", "it asks for torch.serialization.load,"),
        ("reconstructor", "it asks for copy_reg._reconstructor,"),
        ("numpy", "it asks for numpy._core.multiarray._reconstruct,"),
        ("module", "it asks for torch.nn.modules.linear.Linear,"),
        ("float8", "it asks for torch._utils._rebuild_tensor_v3,"),
        ("sparse", "it asks for torch._utils._rebuild_sparse_tensor,"),
        ("hooks", "a tensor has hooks, which are functions"),
        ("old", "it is a file of torch before 1.6"),
        ("script", "it is a TorchScript archive"),
    ] {
        let folder = folder_of(&[
            ("config.json", model_fixture("gpt2").join("config.json")),
            ("pytorch_model.bin", pickle(&format!("refused_{file}.bin"))),
        ]);
        let text = describe(&read_decoder(folder.path()).unwrap_err());
        for part in [part, "cannot use the pickle", "GPT2LMHeadModel.from_pretrained", "@refs/pr/1"] {
            assert!(text.contains(part), "{part:?} is missing in {text}");
        }
    }
}

/// A config of a run with this decoder.
pub(crate) fn config_with_decoder(output: &Path, decoder: &str) -> String {
    format!(
        "output_dir = {:?}\nname = \"run\"\n[data]\ndirectory = {:?}\n[model.encoder]\nname = {:?}\n\
         [model.decoder]\n{decoder}\n[training]\nbatch_size = 250\nnum_epochs = 1\n[schedule]\nwarmup_steps = 2\n",
        output.display().to_string(),
        shapes_folder().display().to_string(),
        model_fixture("clip").display().to_string(),
    )
}

#[test]
fn a_run_that_begins_with_a_pickle_says_so() {
    let (folder, gpt2) = (tempfile::tempdir().unwrap(), pickled_gpt2());
    let decoder = format!("name = {:?}", gpt2.path().display().to_string());
    let text = stderr(&train(folder.path(), &config_with_decoder(folder.path(), &decoder), &[]));
    assert!(text.contains("has no safetensors: read from pytorch_model.bin, of which nothing was executed"), "{text}");
}
