//! Checkpoint files that are damaged, or made to do damage: each is an error that names the file.

use std::fs::{self, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use base::error::describe;
use base::random::Stream;
use caption_train::run::checkpoint::reader::{Checkpoint, read_checkpoint, read_metadata, read_model};
use serde_json::{Value, json};

use crate::support::{join_checkpoint, last_checkpoint, small_config, split_checkpoint, stderr, train, with_length};

/// The smallest checkpoint that a run gives.
fn bytes() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let config = small_config(folder.path())
            .replace("hidden_size = 16", "hidden_size = 2")
            .replace("intermediate_size = 32", "intermediate_size = 2")
            .replace("patch_size = 16", "patch_size = 32")
            .replace("num_hidden_layers = 2, num_attention_heads = 2", "num_hidden_layers = 1, num_attention_heads = 1")
            .replace("num_layers = 2\nnum_heads = 2", "num_layers = 1\nnum_heads = 1")
            .replace("train = \"full\"", "train = \"frozen\"")
            .replace("batch_size = 32", "batch_size = 500")
            .replace("vocab_size = 280", "vocab_size = 262");
        let output = train(folder.path(), &config, &[]);
        assert!(output.status.success(), "{}", stderr(&output));
        fs::read(last_checkpoint(&folder.path().join("run"))).unwrap()
    })
}

struct Scratch {
    folder: tempfile::TempDir,
}

impl Scratch {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("some.safetensors")
    }

    fn read(&self, bytes: &[u8]) -> anyhow::Result<Checkpoint> {
        fs::write(self.path(), bytes).unwrap();
        let all = read_checkpoint(&self.path());
        let model = read_model(&self.path());
        assert_eq!(all.is_ok(), model.is_ok(), "whether the moments are wanted must not matter");
        all
    }

    #[track_caller]
    fn refused(&self, bytes: &[u8], expected: &str) {
        check_refusal(self.read(bytes), &self.path(), expected);
    }
}

#[track_caller]
fn check_refusal(read: anyhow::Result<Checkpoint>, path: &Path, expected: &str) {
    let text = describe(&read.expect_err(expected));
    assert!(text.contains(expected), "expected {expected:?} in: {text}");
    assert!(text.contains(&path.display().to_string()) && text.contains("hint: "), "{text}");
}

#[test]
fn a_checkpoint_cut_at_any_byte_is_refused() {
    let scratch = Scratch::new();
    fs::write(scratch.path(), bytes()).unwrap();
    let file = OpenOptions::new().write(true).open(scratch.path()).unwrap();
    for length in (0..bytes().len()).rev() {
        file.set_len(length as u64).unwrap();
        check_refusal(read_checkpoint(&scratch.path()), &scratch.path(), "truncated");
        assert!(read_metadata(&scratch.path()).is_err());
    }
}

#[test]
fn a_flipped_bit_anywhere_is_refused_or_changes_nothing() {
    let scratch = Scratch::new();
    let whole = scratch.read(bytes()).unwrap();
    let header = u64::from_le_bytes(bytes()[..8].try_into().unwrap()) as usize + 8;
    let mut random = Stream::new(1, "bits", "");
    let mut file = OpenOptions::new().write(true).open(scratch.path()).unwrap();
    let mut put = |at: usize, byte: u8| {
        file.seek(SeekFrom::Start(at as u64)).unwrap();
        file.write_all(&[byte]).unwrap();
    };
    let mut num_accepted = 0;
    // One bit of each byte of the header, of some of the values.
    for at in (0..header).chain((header..bytes().len()).step_by(7)) {
        put(at, bytes()[at] ^ (1 << random.below(8)));
        if let Ok(read) = read_checkpoint(&scratch.path()) {
            assert_eq!(read.metadata, whole.metadata, "byte {at}");
            assert!(read.model.keys().eq(whole.model.keys()), "byte {at}");
            num_accepted += 1;
        }
        put(at, bytes()[at]);
    }
    assert!(num_accepted < 10, "{num_accepted} flipped bits were not noticed");
}

#[test]
fn a_length_that_no_header_has_is_refused_without_taking_memory() {
    let scratch = Scratch::new();
    for length in [1 << 63, u64::MAX, u64::MAX - 7, 1 << 40, 100_000_001, bytes().len() as u64] {
        let mut changed = bytes().to_vec();
        changed[..8].copy_from_slice(&length.to_le_bytes());
        scratch.refused(&changed, "truncated or not a safetensors file");
    }
    scratch.refused(&[], "truncated");
    scratch.refused(&[0; 8], "not a safetensors file");
}

/// The checkpoint with a changed header.
fn with_header(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let (mut header, metadata, values) = split_checkpoint(bytes());
    change(&mut header);
    join_checkpoint(header, &metadata, &values)
}

/// The checkpoint with changed metadata, whose digest is right.
fn with_metadata(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let (header, mut metadata, values) = split_checkpoint(bytes());
    change(&mut metadata);
    join_checkpoint(header, &metadata, &values)
}

const WEIGHT: &str = "model.decoder.transformer.ln_f.weight";
const BIAS: &str = "model.decoder.transformer.ln_f.bias";

#[test]
fn tensors_that_overlap_lie_outside_or_have_another_shape_or_type_are_refused() {
    let scratch = Scratch::new();
    scratch.read(&with_header(|_| {})).unwrap();
    scratch.refused(&with_header(|header| header[WEIGHT]["data_offsets"] = header[BIAS]["data_offsets"].clone()), "");
    scratch.refused(&with_header(|header| header[WEIGHT]["data_offsets"] = json!([0, u64::MAX])), "not a safetensors");
    scratch.refused(&with_header(|header| header[WEIGHT]["data_offsets"] = json!([8, 0])), "not a safetensors");
    scratch.refused(&with_header(|header| header[WEIGHT]["shape"] = json!([3])), "not a safetensors");
    scratch
        .refused(&with_header(|header| header[WEIGHT]["shape"] = json!([1u64 << 62, 1u64 << 62])), "not a safetensors");
    scratch.refused(&with_header(|header| header[WEIGHT]["shape"] = json!([1, 2])), "digest");
    scratch.refused(&with_header(|header| header[WEIGHT]["dtype"] = "I32".into()), "expected f32, found I32");
    scratch.refused(&with_header(|header| header[WEIGHT]["dtype"] = "F31".into()), "not a safetensors");
}

#[test]
fn tensors_that_are_missing_or_that_nobody_knows_are_refused() {
    let scratch = Scratch::new();
    let rename = |from: &'static str, to: &'static str| {
        with_header(move |header| {
            let tensor = header.as_object_mut().unwrap().remove(from).unwrap();
            header[to] = tensor;
        })
    };
    scratch.refused(&rename(WEIGHT, "model.decoder.transformer.ln_f.weighs"), "digest");
    scratch.refused(&rename(WEIGHT, "nodel.x"), "");
    let gone = with_header(|header| {
        header.as_object_mut().unwrap().remove(WEIGHT).unwrap();
    });
    scratch.refused(&gone, "not a safetensors");
}

#[test]
fn metadata_of_another_version_or_none_are_refused_and_say_so() {
    let scratch = Scratch::new();
    scratch.refused(&with_metadata(|metadata| metadata["format_version"] = 4.into()), "a newer one wrote it");
    scratch.refused(&with_metadata(|metadata| metadata["format_version"] = 1.into()), "this program reads 2 and newer");
    scratch.refused(&with_metadata(|metadata| metadata["format_version"] = "3".into()), "no format_version");
    scratch.refused(&with_metadata(|metadata| metadata["state"]["colour"] = 1.into()), "cannot be understood");
    scratch.refused(&with_metadata(|metadata| metadata["config"]["seed"] = (-1).into()), "cannot be understood");
    scratch.refused(&with_metadata(|metadata| *metadata = json!("text")), "format_version");
    let (mut header, _, values) = split_checkpoint(bytes());
    header["__metadata__"] = json!({"format": "pt"});
    scratch.refused(&with_length(&header, &values), "not a checkpoint of caption-train");
}

fn place_of(bytes: &[u8], text: &str) -> usize {
    bytes.windows(text.len()).position(|window| window == text.as_bytes()).unwrap()
}

#[test]
fn altered_metadata_are_noticed_by_their_digest() {
    let scratch = Scratch::new();
    let (header, mut metadata, values) = split_checkpoint(bytes());
    let digest = header["__metadata__"]["caption_train_sha256"].clone();
    metadata["state"]["best_val_loss"] = 1.0.into();
    let changed = join_checkpoint(header, &metadata, &values);
    scratch.read(&changed).unwrap();
    let own = split_checkpoint(&changed).0["__metadata__"]["caption_train_sha256"].clone();
    assert_ne!(own, digest);
    let at = place_of(&changed, own.as_str().unwrap());
    let mut forged = changed;
    forged[at..at + 64].copy_from_slice(digest.as_str().unwrap().as_bytes());
    scratch.refused(&forged, "its metadata were altered");
    // The version of files that had no digest excuses none that is there.
    let mut older = bytes().to_vec();
    let at = place_of(&older, "format_version\\\":3") + "format_version\\\":".len();
    older[at] = b'2';
    scratch.refused(&older, "its metadata were altered");
}

#[test]
fn a_description_that_the_tensors_do_not_fit_is_refused_where_the_model_is_made() {
    let scratch = Scratch::new();
    for (key, value) in [("hidden_size", 4), ("num_layers", 2), ("vocab_size", 1 << 20)] {
        let changed = with_metadata(|metadata| metadata["shape"]["decoder"][key] = json!(value));
        let checkpoint = scratch.read(&changed).unwrap();
        let text = describe(&checkpoint.parameters(&candle_core::Device::Cpu).unwrap_err());
        assert!(text.contains("do not fit its own description"), "{key}: {text}");
    }
}
