//! Pickles written by hand: what is read, and what is refused by its name.

use std::io::{Cursor, Write as _};

use tempfile::NamedTempFile;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::WeightFile;

/// `{"a": tensor of shape (2, 2) in the storage 0 of 4 floats}` without its end.
fn pickle(tensor: &[u8]) -> Vec<u8> {
    [b"\x80\x02}X\x01\0\0\0a".as_slice(), tensor, b"s."].concat()
}

/// A call of `_rebuild_tensor_v2`. The sizes are opcodes.
fn tensor(length: &[u8], offset: &[u8], shape: &[u8], strides: &[u8]) -> Vec<u8> {
    let start =
        b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpu";
    [start, length, b"tQ", offset, shape, strides, b"\x89}tR"].concat()
}

/// The tensor that fits.
fn sound() -> Vec<u8> {
    tensor(b"K\x04", b"K\0", b"K\x02K\x02\x86", b"K\x02K\x01\x86")
}

fn zip(members: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in members {
        zip.start_file(*name, SimpleFileOptions::default().compression_method(method)).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn values() -> Vec<u8> {
    [1.0_f32, 2.0, 3.0, 4.0].into_iter().flat_map(f32::to_le_bytes).collect()
}

fn file(bytes: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn open_bytes(bytes: &[u8]) -> anyhow::Result<WeightFile> {
    WeightFile::open(file(bytes).path())
}

fn open(pickle: &[u8]) -> anyhow::Result<WeightFile> {
    open_bytes(&zip(&[("m/data.pkl", pickle), ("m/data/0", &values())], CompressionMethod::Stored))
}

/// The text of the refusal.
#[track_caller]
fn refused(pickle: &[u8]) -> String {
    base::error::describe(&open(pickle).unwrap_err())
}

#[track_caller]
fn assert_refused(pickle: &[u8], part: &str) {
    let text = refused(pickle);
    assert!(text.contains(part), "{part:?} is missing in {text}");
}

fn read(pickle: &[u8]) -> Vec<f32> {
    let file = file(&zip(&[("m/data.pkl", pickle), ("m/data/0", &values())], CompressionMethod::Stored));
    let mut found = WeightFile::open(file.path()).unwrap();
    let view = found.tensors()["a"].clone();
    found.read(&view).unwrap()
}

#[test]
fn a_tensor_is_read_through_its_strides() {
    assert_eq!(read(&pickle(&sound())), [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(read(&pickle(&tensor(b"K\x04", b"K\0", b"K\x02K\x02\x86", b"K\x01K\x02\x86"))), [1.0, 3.0, 2.0, 4.0]);
    assert_eq!(read(&pickle(&tensor(b"K\x04", b"K\x01", b"K\x02\x85", b"K\x02\x85"))), [2.0, 4.0]);
    assert_eq!(read(&pickle(&tensor(b"K\x04", b"K\x03", b")", b")"))), [4.0]);
    assert_eq!(read(&pickle(&tensor(b"K\x04", b"K\0", b"K\x02K\x02\x86", b"K\0K\x01\x86"))), [1.0, 2.0, 1.0, 2.0]);
}

#[test]
fn whatever_a_pickle_asks_for_beyond_tensors_is_refused_by_its_name() {
    for name in
        ["os\nsystem", "posix\nsystem", "builtins\neval", "__builtin__\nexec", "subprocess\nPopen", "torch\nload"]
    {
        let call = [b"c", name.as_bytes(), b"\nX\x04\0\0\0true\x85R"].concat();
        assert_refused(&pickle(&call), &format!("it asks for {},", name.replace('\n', ".")));
        let instance = [b"(X\x04\0\0\0truei", name.as_bytes(), b"\n"].concat();
        assert_refused(&pickle(&instance), &format!("it asks for {},", name.replace('\n', ".")));
        let (module, name) = name.split_once('\n').unwrap();
        let text = |text: &str| [&[0x8c, text.len() as u8], text.as_bytes()].concat();
        let stacked = [text(module), text(name), b"\x93)R".to_vec()].concat();
        assert_refused(&pickle(&stacked), &format!("it asks for {module}.{name},"));
    }
    for name in [
        "copyreg\n_reconstructor",
        "numpy.core.multiarray\n_reconstruct",
        "torch._utils\n_rebuild_device_tensor_from_numpy",
        "torch\nQInt8Storage",
        "torch.storage\n_load_from_bytes",
        "collections\ndefaultdict",
        "x\u{1b}[2J\ny",
    ] {
        let shown = name.replace('\n', ".").replace('\u{1b}', "\\u{1b}");
        assert_refused(&pickle(&[b"c", name.as_bytes(), b"\n)R"].concat()), &format!("it asks for {shown},"));
    }
}

#[test]
fn opcodes_that_torch_does_not_write_are_refused_by_their_names() {
    for (opcode, name) in [
        (b"P1\n".as_slice(), "PERSID"),
        (b"\x82\x01", "EXT1"),
        (b"\x83\x01\0", "EXT2"),
        (b"\x84\x01\0\0\0", "EXT4"),
        (b"(o", "OBJ"),
        (b")\x81", "NEWOBJ"),
        (b"))\x92", "NEWOBJ_EX"),
        (b"2", "DUP"),
        (b"I1\n", "INT"),
        (b"\x97", "NEXT_BUFFER"),
    ] {
        assert_refused(&pickle(opcode), &format!("the opcode {name} "));
    }
    assert_refused(&pickle(b"\xff"), "0xff is not an opcode");
    assert_refused(b"\x80\x06N.", "unknown protocol 6");
    assert_refused(&pickle(b"icollections\nOrderedDict\n"), "INST of collections.OrderedDict");
}

#[test]
fn calls_and_states_that_no_state_dict_has_are_refused() {
    assert_refused(&pickle(b"K\x01)R"), "calls what is not a function");
    assert_refused(&pickle(b"ccollections\nOrderedDict\nK\x01R"), "not a tuple");
    assert_refused(&pickle(b"ccollections\nOrderedDict\nK\x01\x85R"), "OrderedDict of something");
    assert_refused(&pickle(b"ctorch\nFloatStorage\n)R"), "storage that is not in the zip archive");
    assert_refused(&pickle(b"ctorch._utils\n_rebuild_tensor_v2\n)R"), "with other arguments");
    assert_refused(&pickle(b"ctorch._utils\n_rebuild_parameter\nN\x88N\x87R"), "what is not a tensor");
    assert_refused(&pickle(b"}}b"), "sets the state of what is not an OrderedDict");
    assert_refused(&pickle(b"ccollections\nOrderedDict\n)RNb"), "sets the state of what is not an OrderedDict");
    let hooked = [&b"ctorch._utils\n_rebuild_parameter\n"[..], &sound(), b"\x88}K\x01K\x02s\x87R"].concat();
    assert_refused(&pickle(&hooked), "hooks, which are functions");
    assert_refused(&pickle(b"X\x01\0\0\0aQ"), "not that of a storage");
}

#[test]
fn tensors_that_are_not_within_their_storage_are_refused() {
    let largest = b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f";
    let both = |number: &[u8]| [number, number, b"\x86"].concat();
    let small = both(b"K\x02");
    for (length, offset, shape, strides, part) in [
        (&b"K\x04"[..], &b"K\x01"[..], &small[..], &b"K\x02K\x01\x86"[..], "not within its storage"),
        (b"K\x04", b"K\0", &small, b"K\x03K\x01\x86", "not within its storage"),
        (b"K\x04", b"K\x05", b"K\0\x85", b"K\x01\x85", "not within its storage"),
        (b"K\x04", largest, &small, b"K\x02K\x01\x86", "not within its storage"),
        (b"K\x04", b"K\0", &small, &both(largest), "not within its storage"),
        (b"K\x04", b"K\0", &both(largest), &both(b"K\0"), "more elements than can be counted"),
        (b"K\x04", b"K\0", b"J\xff\xff\xff\x7f\x85", b"K\0\x85", "in storages that they share"),
        (b"K\x05", b"K\0", &small, b"K\x02K\x01\x86", "has 16 bytes, but the pickle gives it 5 elements of 4 bytes"),
        (largest, b"K\0", &small, b"K\x02K\x01\x86", "has 16 bytes"),
        (b"K\x04", b"J\xff\xff\xff\xff", &small, b"K\x02K\x01\x86", "below 0"),
        (b"K\x04", b"K\0", &small, b"K\x02J\xff\xff\xff\xff\x86", "below 0"),
        (b"K\x04", b"N", &small, b"K\x02K\x01\x86", "not a whole number"),
        (b"K\x04", b"K\0", &small, b"K\x01\x85", "2 sizes and 1 strides"),
        (b"K\x04", b"K\0", b"K\x01", b"K\x01\x85", "not a tuple"),
        (b"K\x04", b"K\0", b"(K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01t", b")", "9 dimensions"),
    ] {
        assert_refused(&pickle(&tensor(length, offset, shape, strides)), part);
    }
}

#[test]
fn many_names_of_one_tensor_are_one_tensor_and_many_views_of_a_storage_are_bounded() {
    let entry = |name: u8, tensor: &[u8]| [&[b'X', 1, 0, 0, 0, name], tensor].concat();
    let named: Vec<u8> = (b'a'..=b'y').flat_map(|name| entry(name, &sound())).collect();
    assert_eq!(open(&[b"\x80\x02}(", &named[..], b"u."].concat()).unwrap().tensors().len(), 25);
    // Different lengths of one repeated element.
    let stretched = |at: u8| tensor(b"K\x04", b"K\0", &[b'M', at, 1, 0x85], b"K\0\x85");
    let many: Vec<u8> = (b'a'..=b'y').flat_map(|name| entry(name, &stretched(name))).collect();
    assert_refused(&[b"\x80\x02}(", &many[..], b"u."].concat(), "in storages that they share");
}

#[test]
fn names_are_texts_and_each_is_there_once() {
    let twice = [b"\x80\x02}X\x01\0\0\0a".as_slice(), &sound(), b"sX\x01\0\0\0a", &sound(), b"s."].concat();
    assert_refused(&twice, "two tensors have the name a");
    assert_refused(&[b"\x80\x02}K\x01".as_slice(), &sound(), b"s."].concat(), "not a text");
    assert_refused(&pickle(b"N"), "no tensors");
    assert_refused(b"\x80\x02N.", "no dictionary of tensors");
    assert_refused(b"\x80\x02]q\0h\0a.", "no dictionary of tensors");
}

#[test]
fn weights_under_model_or_state_dict_are_read_unless_both_are_there() {
    let inner =
        |name: &str| [&[b'X', name.len() as u8, 0, 0, 0], name.as_bytes(), b"}X\x01\0\0\0a", &sound(), b"s"].concat();
    let outer = |entries: &[Vec<u8>]| [b"\x80\x02}(".to_vec(), entries.concat(), b"u.".to_vec()].concat();
    assert_eq!(read(&outer(&[inner("model"), inner("optimizer")])), [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(read(&outer(&[inner("state_dict")])), [1.0, 2.0, 3.0, 4.0]);
    assert_refused(&outer(&[inner("model"), inner("state_dict")]), "under each of model and state_dict");
    assert_refused(&outer(&[inner("model"), inner("model")]), "two entries have the name model");
    assert_refused(&outer(&[inner("optimizer")]), "nor has one under model or state_dict");
}

#[test]
fn weights_under_a_wrapper_come_before_a_tensor_beside_it() {
    let beside = [b"X\x05\0\0\0epoch".as_slice(), &sound()].concat();
    let inner = [b"X\x0a\0\0\0state_dict}X\x01\0\0\0a".as_slice(), &sound(), b"s"].concat();
    for entries in [[beside.clone(), inner.clone()], [inner, beside]] {
        let found = open(&[b"\x80\x02}(".to_vec(), entries.concat(), b"u.".to_vec()].concat()).unwrap();
        assert_eq!(found.tensors().keys().collect::<Vec<_>>(), ["a"]);
    }
}

/// A text of a megabyte, which the memo keeps as number 0.
fn long_text() -> Vec<u8> {
    [b"X\0\0\x10\0".as_slice(), &b"k".repeat(1 << 20), b"q\0"].concat()
}

#[test]
fn a_storage_with_a_long_name_is_refused_and_not_copied_into_each_tensor() {
    let storage = b"(X\x07\0\0\0storagectorch\nFloatStorage\nh\0X\x03\0\0\0cpuK\x04tQ";
    assert_refused(
        &[b"\x80\x02".to_vec(), long_text(), storage.to_vec()].concat(),
        "the name of a storage has 1048576 bytes, expected at most 100",
    );
}

/// Read letter by letter each time, they would take minutes.
#[test]
fn a_long_text_that_is_recalled_often_is_read_once() {
    let keys = [b"\x80\x02".to_vec(), long_text(), b"}(".to_vec(), b"h\0N".repeat(500_000), b"u.".to_vec()].concat();
    assert_refused(&keys, "no tensors");
}

#[test]
fn nesting_memos_and_numbers_without_an_end_are_refused_or_cost_nothing() {
    // A tuple in a tuple in a tuple, and a list that contains itself.
    let nested = [b"\x80\x02)".as_slice(), &b"\x85".repeat(900_000), b"."].concat();
    assert_refused(&nested, "no dictionary of tensors");
    // Each entry doubles the one before.
    let mut doubled = b"\x80\x02)q\0".to_vec();
    for at in 0..200_u8 {
        doubled.extend([b'h', at, b'h', at, 0x86, b'q', at + 1]);
    }
    assert_refused(&[&doubled[..], b"."].concat(), "no dictionary of tensors");
    assert_refused(&[b"\x80\x02".as_slice(), &b"}".repeat(1_100_000)].concat(), "more than 1048576 objects");
    assert_refused(&[b"\x80\x02".as_slice(), &b"N".repeat(1_100_000)].concat(), "more than 1048576 values");
    assert_refused(&[b"\x80\x02".as_slice(), &b"(".repeat(1_100_000)].concat(), "more than 1048576 marks");
    for text in [
        &b"X\xff\xff\xff\xff"[..],
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff",
        b"B\xff\xff\xff\xff",
        b"\x8a\xff",
        b"cos",
        b"",
    ] {
        assert_refused(&[b"\x80\x02", text].concat(), "it is truncated");
    }
    assert_refused(&[b"\x80\x02".as_slice(), &[b'\x8a', 9, 0, 0, 0, 0, 0, 0, 0, 0, 1], b"."].concat(), "no dictionary");
    for empty in
        [&b"."[..], b"a", b"s", b"u", b"t", b"R", b"b", b"Q", b"q\0", b"0", b"1", b"\x93", b"(0.", b"(]q\0N1h\x01"]
    {
        refused(&[b"\x80\x02", empty].concat());
    }
}

#[test]
fn what_is_no_zip_archive_of_torch_is_named() {
    let old = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.";
    let mut tar = vec![0; 512];
    tar[257..262].copy_from_slice(b"ustar");
    for (bytes, part) in [
        (&old[..], "torch before 1.6"),
        (&tar, "a tar archive"),
        (b"\x80\x04}.", "a bare pickle"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"GGUF\x03\0\0\0", "a GGUF file"),
        (b"\x02\0\0\0\0\0\0\0{}", "a safetensors file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b"\n<!doctype html>", "a web page"),
        (b"", "an empty file"),
        (b"text", "of an unknown kind"),
        (b"PK\x03\x04", "truncated or damaged zip archive"),
    ] {
        let text = base::error::describe(&open_bytes(bytes).unwrap_err());
        assert!(text.contains(part), "{part:?} is missing in {text}");
    }
}

#[test]
fn archives_that_torch_does_not_write_are_refused() {
    let (pickle, values) = (pickle(&sound()), values());
    let stored = |members: &[(&str, &[u8])]| zip(members, CompressionMethod::Stored);
    let data = ("m/data/0", &values[..]);
    for (bytes, part) in [
        (stored(&[("m/data.pkl", &pickle)]), "lacks the storage 0"),
        (stored(&[("data.pkl", &pickle), data]), "without data.pkl"),
        (stored(&[("m/data.pkl", &pickle), ("n/data.pkl", &pickle), data]), "more than one data.pkl"),
        (stored(&[("m/data.pkl", &pickle), data, ("m/code/__torch__.py", b"")]), "a TorchScript archive"),
        (stored(&[("m/data.pkl", &pickle), data, ("m/constants.pkl", b"")]), "a TorchScript archive"),
        (stored(&[("m/data.pkl", &pickle), data, ("m/byteorder", b"big")]), "big-endian"),
        (stored(&[("m/data.pkl", &pickle), data, ("m/byteorder", b"?")]), "neither little nor big"),
        (stored(&[("m/data.pkl", &pickle), ("m/data/0", b"1234")]), "has 4 bytes, but the pickle gives it 4 elements"),
        (zip(&[("m/data.pkl", &pickle), data], CompressionMethod::Deflated), "is compressed"),
    ] {
        let text = base::error::describe(&open_bytes(&bytes).unwrap_err());
        assert!(text.contains(part), "{part:?} is missing in {text}");
    }
    let whole = stored(&[("m/data.pkl", &pickle), data]);
    for length in 0..whole.len() {
        assert!(open_bytes(&whole[..length]).is_err(), "{length} bytes");
    }
}
