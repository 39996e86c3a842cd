//! A checkpoint file of unknown origin: inspected, resumed from and captioned with.

use std::path::Path;
use std::sync::OnceLock;

use base::digest::sha256;
use candle_core::Device;
use caption_train::config::apply_safe_overrides;
use caption_train::run::checkpoint::reader::{Checkpoint, read_checkpoint, read_metadata};
use caption_train::training::optimizer::Optimizer;
use safetensors::SafeTensors;
use serde_json::{Value, json};

use super::model::caption_with;
use super::{json, samples, scratch};

/// A sound checkpoint in its parts.
struct Sound {
    bytes: Vec<u8>,
    /// The header without its length.
    header: Value,
    /// The text of the tensors in the header, with the bracket that ends it.
    tensors: String,
    metadata: Value,
    /// All values.
    values: Vec<u8>,
}

/// The first byte says what the others are: 1 a header, 2 the metadata in a sound file, 3 patches of a sound file,
/// 4 edits of its metadata, 5 edits of its header. Otherwise all bytes are the file.
pub fn checkpoint(data: &[u8]) {
    let path = scratch::folder("checkpoint").join("last.safetensors");
    let sound = sound();
    let bytes = match data.split_first() {
        Some((1, header)) => around(header, &[]),
        Some((2, metadata)) => with_metadata(sound, &String::from_utf8_lossy(metadata)),
        Some((3, patches)) => json::patched(&sound.bytes, patches),
        Some((4, edits)) => with_metadata(sound, &json::edited(&sound.metadata, edits).to_string()),
        Some((5, edits)) => around(json::edited(&sound.header, edits).to_string().as_bytes(), &sound.values),
        _ => data.to_vec(),
    };
    scratch::write(&path, &bytes);
    read_everything(&path, bytes.len());
}

fn sound() -> &'static Sound {
    static SOUND: OnceLock<Sound> = OnceLock::new();
    SOUND.get_or_init(|| {
        let bytes = samples::checkpoint(&scratch::folder("samples"));
        let (length, parsed) = SafeTensors::read_metadata(&bytes).expect("the sound checkpoint is a safetensors file");
        let metadata = parsed.metadata().as_ref().and_then(|metadata| metadata.get("caption_train"));
        let header: Value = serde_json::from_slice(&bytes[8..8 + length]).expect("the sound header is JSON");
        let mut tensors = header.clone();
        tensors.as_object_mut().map(|header| header.remove("__metadata__"));
        Sound {
            tensors: tensors.to_string()[1..].to_owned(),
            header,
            metadata: serde_json::from_str(metadata.expect("the sound checkpoint has metadata"))
                .expect("the sound metadata are JSON"),
            values: bytes[8 + length..].to_vec(),
            bytes,
        }
    })
}

/// A safetensors file with this header and as many bytes as it declares: `values`, then zeros.
fn around(header: &[u8], values: &[u8]) -> Vec<u8> {
    const MOST: u64 = 1 << 14;
    let parsed: Value = serde_json::from_slice(header).unwrap_or_default();
    let ends = parsed.as_object().into_iter().flatten();
    let end = ends.filter_map(|(_, tensor)| tensor.pointer("/data_offsets/1")?.as_u64()).max().unwrap_or(0);
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    let length = bytes.len() + end.min(MOST) as usize;
    bytes.extend(values);
    bytes.resize(length, 0);
    bytes
}

/// The valid file with other metadata. The header is put together as text, since serialising it takes as long as
/// reading.
fn with_metadata(sound: &Sound, metadata: &str) -> Vec<u8> {
    let digest = sha256(metadata.as_bytes());
    let metadata = json!({ "__metadata__": { "caption_train": metadata, "caption_train_sha256": digest } }).to_string();
    let tensors = sound.tensors.as_bytes();
    let length = metadata.len() + tensors.len();
    let begin = (length as u64).to_le_bytes();
    [&begin[..], &metadata.as_bytes()[..metadata.len() - 1], b",", tensors, &sound.values].concat()
}

fn read_everything(path: &Path, num_bytes: usize) {
    let head = read_metadata(path);
    if let Ok((metadata, shapes)) = &head {
        let values: usize = shapes.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
        // A value of a safetensors file takes at least four bits.
        assert!(values <= num_bytes * 2, "a file of {num_bytes} bytes holds {values} values");
        // As `inspect` shows it and a resume takes it.
        let read = apply_safe_overrides(&metadata.config, &[]).expect("the config of a checkpoint can be resumed with");
        assert!(read == metadata.config, "the config of a checkpoint survives its own text: {read:?}");
    }
    match read_checkpoint(path) {
        Ok(checkpoint) => {
            assert!(head.is_ok(), "what can be read whole has a head");
            go_on(checkpoint);
        }
        // Captions do not need the moments.
        Err(_) if head.is_err() => return,
        Err(_) => {}
    }
    caption_with(path);
}

/// As a resume puts the parts together.
fn go_on(checkpoint: Checkpoint) {
    let metadata = &checkpoint.metadata;
    let Ok(mut parameters) = checkpoint.parameters(&Device::Cpu) else { return };
    metadata.shape.freeze(&mut parameters, metadata.config.model.encoder.train);
    let mut optimizer = Optimizer::new(&parameters, &metadata.shape, &metadata.config.optimizer)
        .expect("moments of parameters that are there can be made");
    // Moments that do not fit must be an error.
    let _ = optimizer.restore(checkpoint.moments, metadata.optimizer_step);
}
