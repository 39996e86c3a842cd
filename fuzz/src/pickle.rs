//! A model's folder whose weights are a pickle of torch.

use std::io::{Cursor, Write as _};
use std::sync::OnceLock;

use caption_train::hf::weights::read_tensors;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::{json, scratch};

/// A zero byte and the pickle of a state dict, as `tests/reference/pickles.py` makes it.
const SEED: &[u8] = include_bytes!("../corpus/pickle/protocol_2");
/// Bytes of the storages 0, 1, ..; those that the seed names come first.
const STORAGES: [usize; 6] = [16, 16, 64, 0, 16, 256];
/// Values of all tensors together, for each byte of the file: eight times the bytes, at most, of two bytes a value.
const MOST_VALUES: usize = 8;

/// The first byte says what the others are: 0 a pickle beside storages, 1 patches of a sound pickle, 2 patches of a
/// sound file. Otherwise all bytes are `pytorch_model.bin`.
pub fn pickle(data: &[u8]) {
    static SOUND: OnceLock<Vec<u8>> = OnceLock::new();
    let sound = &SEED[1..];
    let file = match data.split_first() {
        Some((0, pickle)) => archive(pickle),
        Some((1, patches)) => archive(&json::patched(sound, patches)),
        Some((2, patches)) => json::patched(SOUND.get_or_init(|| archive(sound)), patches),
        _ => data.to_vec(),
    };
    let folder = scratch::folder("pickle");
    scratch::write(&folder.join("pytorch_model.bin"), &file);
    let read = read_tensors(&folder);
    if matches!(data, [1 | 2]) {
        assert!(read.is_ok(), "the sound file is read");
    }
    let values: usize = read.iter().flatten().map(|(_, tensor)| tensor.elem_count()).max().unwrap_or(0);
    assert!(values <= MOST_VALUES * file.len(), "{values} values of {} bytes", file.len());
}

fn archive(pickle: &[u8]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let mut add = |name: &str, content: &[u8]| {
        zip.start_file(name, options).expect("a small file can be added");
        zip.write_all(content).expect("a small file can be added");
    };
    add("m/data.pkl", pickle);
    for (index, bytes) in STORAGES.into_iter().enumerate() {
        add(&format!("m/data/{index}"), &vec![60; bytes]);
    }
    zip.finish().expect("a small archive can be made").into_inner()
}
