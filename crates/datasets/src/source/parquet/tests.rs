//! Parquet files of many writers: what is read, what is refused, and that no damage is a panic.

use std::fs;
use std::path::{Path, PathBuf};

use parquet::basic::{Compression, Encoding, GzipLevel};
use parquet::file::properties::{WriterProperties, WriterVersion};
use tempfile::TempDir;

use super::writing::{IMAGES, bytes, compressed, double, images, int64, lists, texts, write};
use super::*;
use crate::source::limits::Limits;
use crate::source::{Archive, Source};
use base::error::describe;
use base::random::Stream;

const JPEG: &[u8] = b"\xff\xd8\xff\xe0 one";
const OTHER: &[u8] = b"\xff\xd8\xff\xe0 another";
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n two";

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.parquet");
    (folder, path)
}

fn open(path: &Path) -> anyhow::Result<Archive> {
    Archive::open_table(path, Limits::DATASET, None)
}

fn refusal(path: &Path) -> String {
    let text = describe(&open(path).unwrap_err());
    assert!(text.contains("hint: "), "{text}");
    text
}

/// Names and contents of all images, read from the last to the first and back.
fn contents(archive: &Archive) -> Vec<(String, Vec<u8>)> {
    let mut reader = archive.reader().unwrap();
    let backwards = archive.members().iter().rev();
    let mut of = |member| archive.read(&mut reader, member, u64::MAX).unwrap();
    let mut read: Vec<Vec<u8>> = backwards.map(&mut of).collect();
    read.reverse();
    let forwards: Vec<Vec<u8>> = archive.members().iter().map(of).collect();
    assert_eq!(forwards, read);
    archive.members().iter().map(|member| member.name.clone()).zip(read).collect()
}

fn column(archive: &Archive, name: &str) -> anyhow::Result<Vec<Vec<String>>> {
    let table = archive.table().unwrap();
    let leaf = table.leaves().iter().position(|leaf| leaf.name == name).unwrap();
    let mut all = Vec::new();
    for (group, num_rows) in table.groups().enumerate() {
        // Also where a batch ends within a page.
        let (mut values, mut left) = (table.values(group, leaf)?, 1 << 20);
        for count in [num_rows / 3, num_rows - num_rows / 3] {
            all.extend(values.texts(count, &mut left)?);
        }
    }
    Ok(all)
}

fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut stream = Stream::new(seed, "test", "noise");
    JPEG.iter().copied().chain((0..length).map(|_| stream.next_u64() as u8)).collect()
}

#[test]
fn images_and_captions_come_back_in_every_compression_version_and_encoding() {
    let pictures: Vec<Vec<u8>> = (0..50).map(|number| noise(20_000, number)).collect();
    let names: Vec<String> = (0..50).map(|number| format!("{number}.jpg")).collect();
    let rows: Vec<(&[u8], &str, &str)> =
        pictures.iter().zip(&names).map(|(picture, name)| (picture.as_slice(), name.as_str(), "A dog é.")).collect();
    let gzip = Compression::GZIP(GzipLevel::default());
    for compression in [Compression::UNCOMPRESSED, Compression::SNAPPY, gzip] {
        for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
            for has_dictionary in [true, false] {
                let (_folder, path) = folder();
                let properties = compressed(compression)
                    .set_writer_version(version)
                    .set_encoding(Encoding::PLAIN)
                    .set_dictionary_enabled(has_dictionary)
                    .set_data_page_size_limit(100_000)
                    .set_write_batch_size(4);
                write(&path, IMAGES, properties, vec![images(&rows[..30]), images(&rows[30..])]);
                let archive = open(&path).unwrap();
                let found = contents(&archive);
                let expected: Vec<(String, Vec<u8>)> = names.iter().cloned().zip(pictures.iter().cloned()).collect();
                assert!(found == expected, "{compression} {version:?} {has_dictionary}");
                assert_eq!(column(&archive, "caption").unwrap(), vec![vec!["A dog é.".to_owned()]; 50]);
                assert_eq!(archive.remark(), None);
            }
        }
    }
}

#[test]
fn columns_are_found_by_what_they_have_however_they_are_nested() {
    let schema = "message schema {
        optional binary jpg;
        required binary key (STRING);
        optional group captions (LIST) { repeated group list { optional binary element (STRING); } }
        optional group sentences (LIST) { repeated group list { optional group element {
            optional binary raw (STRING);
            optional group tokens (LIST) { repeated group list { optional binary element (STRING); } }
        } } }
        optional group json { optional int64 width; optional binary text (UTF8); }
        optional double score;
    }";
    let tokens = || {
        let mut tokens = lists(&[&["a", "dog"], &["x"], &["y"]], 5);
        tokens = tokens.at_repetition(2);
        tokens
    };
    let key = bytes(&[Some("a"), Some("b"), Some("c")], 0);
    let columns = vec![
        bytes(&[Some(JPEG), None, Some(PNG)], 1),
        key,
        lists(&[&["A", "B"], &[], &["C"]], 3),
        lists(&[&["D"], &["E", "F"], &[]], 4),
        tokens(),
        int64(&[640, 320, 0]).at_level(2),
        bytes(&[Some("t"), None, Some("u")], 2),
        double(&[Some(0.5), None, Some(2.0)]),
    ];
    let (_folder, path) = folder();
    write(&path, schema, WriterProperties::builder(), vec![columns]);
    let archive = open(&path).unwrap();
    let names: Vec<&str> = archive.table().unwrap().leaves().iter().map(|leaf| leaf.name.as_str()).collect();
    let expected = ["jpg", "key", "captions", "sentences.raw", "sentences.tokens", "json.width", "json.text", "score"];
    assert_eq!(names, expected);
    let found = |name| column(&archive, name).unwrap();
    assert_eq!(found("captions"), [vec!["A", "B"], vec![], vec!["C"]]);
    assert_eq!(found("sentences.raw"), [vec!["D"], vec!["E", "F"], vec![]]);
    assert_eq!(found("json.width"), [["640"], ["320"], ["0"]]);
    assert_eq!(found("json.text"), [vec!["t"], vec![], vec!["u"]]);
    assert_eq!(found("score"), [vec!["0.5"], vec![], vec!["2"]]);
    assert_eq!(
        contents(&archive),
        [("000000000.jpg".to_owned(), JPEG.to_vec()), ("000000002.png".into(), PNG.to_vec())]
    );
    let image = |row| archive.table().unwrap().image_of(row);
    assert_eq!([image(0), image(1), image(2), image(3)], [Ok(0), Err(NoImage::Absent), Ok(1), Err(NoImage::Absent)]);
}

#[test]
fn images_are_called_by_their_paths_as_far_as_these_are_safe() {
    let rows: &[(&[u8], &str, &str)] = &[
        (JPEG, "a/1.jpg", ""),
        (OTHER, "../../etc/2.jpg", ""),
        (PNG, "/root/3.png", ""),
        (b"\xff\xd8\xff 4", r"C:\x\4.jpg", ""),
        (b"\xff\xd8\xff 5", "https://x.org/5.jpg?size=1", ""),
        (b"\xff\xd8\xff 6", "..", ""),
        (b"\xff\xd8\xff 7", "7", ""),
        (b"\xff\xd8\xff 8", "A/1.JPG", ""),
        (JPEG, "a/1.jpg", ""),
        (b"\0\0\0\x1cftypavif\0\0\0\0", "captions.json", ""),
        (b"no picture", "x.txt", ""),
    ];
    let (_folder, path) = folder();
    write(&path, IMAGES, WriterProperties::builder(), vec![images(rows)]);
    let archive = open(&path).unwrap();
    let names: Vec<&str> = archive.members().iter().map(|member| member.name.as_str()).collect();
    let expected = [
        "a/1.jpg",
        "2.jpg",
        "3.png",
        "4.jpg",
        "5.jpg",
        "000000005.jpg",
        "7.jpg",
        "A/1_row7.JPG",
        "captions.json.avif",
        "x.txt.bin",
    ];
    assert_eq!(names, expected);
    assert_eq!(archive.table().unwrap().image_of(8), Ok(0), "the same image under the same name");
    let remark = archive.remark().unwrap();
    for expected in
        ["1 of its rows have an image of another row", "5 of its paths are absolute", "1 of its images have the name"]
    {
        assert!(remark.contains(expected), "{remark}");
    }
}

#[test]
fn a_row_without_an_image_and_one_with_too_large_an_image_have_none() {
    let (_folder, path) = folder();
    let schema = "message schema { optional binary image; optional binary caption (STRING); }";
    let columns = vec![bytes(&[Some(JPEG), None, Some(b""), Some(&noise(5000, 1))], 1), texts(&["A", "B", "C", "D"])];
    write(&path, schema, WriterProperties::builder(), vec![columns]);
    let small = Limits { image_bytes: 4000, ..Limits::DATASET };
    let archive = Archive::open_table(&path, small, None).unwrap();
    let table = archive.table().unwrap();
    let found: Vec<_> = (0..4).map(|row| table.image_of(row)).collect();
    assert_eq!(found, [Ok(0), Err(NoImage::Absent), Err(NoImage::Absent), Err(NoImage::TooLarge)]);
    let few = Limits { num_members: 1, ..Limits::DATASET };
    assert!(format!("{:#}", Archive::open_table(&path, few, None).unwrap_err()).contains("more than the 1 images"));
    let little = Limits { total_bytes: 100, ..Limits::DATASET };
    assert!(
        format!("{:#}", Archive::open_table(&path, little, None).unwrap_err()).contains("more than 100 bytes together")
    );
}

#[test]
fn two_columns_of_images_are_told_apart_by_the_user() {
    let schema = "message schema {
        optional binary mask;
        optional group photo { optional binary bytes; optional binary path (STRING); }
        optional group crops (LIST) { repeated group list { optional binary element; } }
        optional group sound { optional binary bytes; optional binary path (STRING); }
    }";
    let columns = || {
        vec![
            bytes(&[Some(PNG)], 1),
            bytes(&[Some(JPEG)], 2),
            bytes(&[Some("a.jpg")], 2),
            lists(&[&["x"]], 3),
            bytes(&[Some("RIFF")], 2),
            bytes(&[Some("a.wav")], 2),
        ]
    };
    let (_folder, path) = folder();
    write(&path, schema, WriterProperties::builder(), vec![columns()]);
    let several = ImageColumn::Several(vec!["mask".to_owned(), "photo".to_owned()]);
    let archive = open(&path).unwrap();
    assert_eq!((&archive.table().unwrap().images, archive.members().len()), (&several, 0));
    let chosen = Archive::open_table(&path, Limits::DATASET, Some("photo")).unwrap();
    assert_eq!(contents(&chosen), [("a.jpg".to_owned(), JPEG.to_vec())]);
    let lists = describe(&Archive::open_table(&path, Limits::DATASET, Some("crops")).unwrap_err());
    assert!(lists.contains("crops has a list for each row, expected one image") && lists.contains("hint: "), "{lists}");
}

fn sound() -> (TempDir, PathBuf, Vec<u8>) {
    let (folder, path) = folder();
    let schema = "message schema {
        optional group image { optional binary bytes; optional binary path (STRING); }
        optional group captions (LIST) { repeated group list { optional binary element (STRING); } }
        optional double weight;
    }";
    let columns = |offset: u64| {
        vec![
            bytes(&[Some(noise(300, offset)), None, Some(noise(200, offset + 1))], 2),
            bytes(&[Some("a.jpg"), Some("b.jpg"), None], 2),
            lists(&[&["A dog.", "A cat."], &[], &["A dog."]], 3),
            double(&[Some(1.0), None, Some(0.5)]),
        ]
    };
    write(&path, schema, compressed(Compression::SNAPPY), vec![columns(0), columns(2)]);
    let whole = fs::read(&path).unwrap();
    (folder, path, whole)
}

#[test]
fn memory_is_that_of_a_few_pages_and_texts_of_large_ones_are_read_few_at_a_time() {
    let (_folder, path) = folder();
    let long: Vec<String> = (0..30).map(|number| format!("{number} {}", "a dog ".repeat(200_000))).collect();
    let pictures: Vec<Vec<u8>> = (0..30).map(|number| noise(1_200_000, number)).collect();
    let all: Vec<&str> = long.iter().map(String::as_str).collect();
    let columns = || vec![bytes(&pictures.iter().map(Some).collect::<Vec<_>>(), 1), texts(&all)];
    let schema = "message schema { optional binary image; optional binary caption (STRING); }";
    let properties = WriterProperties::builder().set_dictionary_enabled(false).set_write_batch_size(1);
    write(&path, schema, properties, vec![columns()]);
    let archive = open(&path).unwrap();
    let table = archive.table().unwrap();
    let of = |leaf| table.values(0, leaf).unwrap().memory();
    for memory in [of(0), of(1), archive.memory()] {
        assert!((3_000_000..8_000_000).contains(&memory), "{memory} of 36 million");
    }
    let mut left = 1 << 30;
    let read: Vec<String> = table.values(0, 1).unwrap().texts(30, &mut left).unwrap().concat();
    assert!(read == long);
    assert!(contents(&archive).into_iter().map(|(_, image)| image).eq(pictures));
}

#[test]
fn texts_of_many_lists_take_memory_even_if_a_dictionary_has_each_once() {
    let (_folder, path) = folder();
    let list: &[&str] = &["a"; 1000];
    let schema = "message schema { optional group caption (LIST) { repeated group list {
        optional binary element (STRING); } } }";
    write(&path, schema, WriterProperties::builder(), vec![vec![lists(&[list; 100], 3)]]);
    assert!(fs::metadata(&path).unwrap().len() < 20_000);
    let text = describe(&column(&open(&path).unwrap(), "caption").unwrap_err());
    assert!(text.contains("take too much memory") && text.contains("split it into several files"), "{text}");
}

/// Goes through all of a file as a preparation does.
fn read_everything(path: &Path) -> anyhow::Result<()> {
    let archive = open(path)?;
    let table = archive.table().unwrap();
    for leaf in 0..table.leaves().len() {
        for (group, num_rows) in table.groups().enumerate() {
            let _ = table.values(group, leaf)?.texts(num_rows, &mut (1 << 20));
        }
    }
    let mut reader = archive.reader()?;
    for member in archive.members() {
        archive.read(&mut reader, member, u64::MAX)?;
    }
    Ok(())
}

#[test]
fn a_file_that_is_cut_or_is_something_else_says_so() {
    let (_folder, path, whole) = sound();
    read_everything(&path).unwrap();
    for length in [8, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        let text = refusal(&path);
        assert!(text.contains("it is truncated: its end is missing") && text.contains("download it again"), "{text}");
    }
    for (bytes, expected) in [
        (&b""[..], "it is empty"),
        (b"\x89HDF", "it is not a Parquet file: it begins with \"\u{fffd}HDF\""),
        (b"version https://git-lfs.github.com/spec/v1\n", "`git lfs pull`"),
        (b"<!DOCTYPE html><html>", "it is a web page"),
        (b"PAR1\0\0\0\0PARE", "it is encrypted"),
        (b"PARE\0\0\0\0PARE", "it is encrypted"),
        (b"PAR1\xff\xff\xff\x7fPAR1", "its description claims 2147483647 bytes"),
        (b"PAR1\0\0\0\0PAR1", "its description cannot be read"),
    ] {
        fs::write(&path, bytes).unwrap();
        assert!(refusal(&path).contains(expected), "{}", refusal(&path));
    }
}

#[test]
fn a_description_that_claims_memory_is_refused_before_any_is_taken() {
    let (_folder, path) = folder();
    // A schema of two thousand million elements: the library takes 200 GB for it.
    for claim in
        [&b"\x15\x02\x29\xfc\xfe\xff\xff\xff\x07\0"[..], &[0x29, 0xfc, 0xff, 0xff, 0xff, 0x07, 0x00], &[0x2c; 4000]]
    {
        let file = [b"PAR1", claim, &(claim.len() as u32).to_le_bytes(), b"PAR1"].concat();
        fs::write(&path, file).unwrap();
        assert!(refusal(&path).contains("its description cannot be read"), "{}", refusal(&path));
    }
}

#[test]
fn a_page_that_claims_memory_is_refused_before_any_is_taken() {
    let (_folder, path) = folder();
    let schema = "message schema { required binary image; }";
    let properties = || compressed(Compression::SNAPPY).set_dictionary_enabled(false);
    write(&path, schema, properties(), vec![vec![bytes(&[Some(noise(2000, 1))], 0)]]);
    let whole = fs::read(&path).unwrap();
    // The header of the only page: its kind, its sizes in two or three bytes each, and a count of one value.
    let header = &whole[4..];
    assert_eq!((header[0], header[1], header[2]), (0x15, 0, 0x15));
    let zigzag = |value: u64| {
        let (mut value, mut bytes) = (value << 1, Vec::new());
        while value > 0x7f {
            bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
        bytes
    };
    for (unpacked, values, expected) in [
        (1 << 40, 1, "a page of it has 1099511627776 bytes"),
        (1 << 29, 1, "a page of it unpacks to more than 200 times its size: a compression bomb"),
        (2012, 1 << 30, "claims 1073741824 values"),
    ] {
        let mut damaged = whole.clone();
        let mut new =
            [vec![0x15, 0, 0x15], zigzag(unpacked), vec![0x15], zigzag(1000), vec![0x2c, 0x15], zigzag(values)]
                .concat();
        new.extend([0x15, 0, 0x15, 6, 0x15, 6, 0, 0]);
        damaged[4..4 + new.len()].copy_from_slice(&new);
        fs::write(&path, &damaged).unwrap();
        assert!(refusal(&path).contains(expected), "{}", refusal(&path));
    }
}

#[test]
fn what_is_written_in_a_way_that_is_not_read_says_what_to_do() {
    let (_folder, path) = folder();
    let schema = "message schema { required binary image; }";
    let delta =
        WriterProperties::builder().set_dictionary_enabled(false).set_encoding(Encoding::DELTA_LENGTH_BYTE_ARRAY);
    write(&path, schema, delta, vec![vec![bytes(&[Some(JPEG)], 0)]]);
    let text = refusal(&path);
    assert!(text.contains("the encoding DELTA_LENGTH_BYTE_ARRAY, which is not read"), "{text}");
    write(&path, schema, WriterProperties::builder(), vec![vec![bytes(&[Some(JPEG)], 0)]]);
    let whole = fs::read(&path).unwrap();
    // The codec follows the path of the column in the description: a list of one text.
    let place = whole.windows(8).rposition(|window| window == b"\x19\x18\x05image").unwrap() + 8;
    assert_eq!(&whole[place..place + 2], &[0x15, 0]);
    for (codec, name) in [(3, "LZO"), (4, "Brotli"), (5, "LZ4"), (7, "LZ4"), (11, "the codec 11")] {
        let mut other = whole.clone();
        other[place + 1] = codec << 1;
        fs::write(&path, other).unwrap();
        let text = refusal(&path);
        assert!(text.contains(&format!("it is compressed with {name}")) && text.contains("with pandas"), "{text}");
    }
}

#[test]
fn no_damage_is_a_panic_or_takes_memory() {
    let (_folder, path, whole) = sound();
    let mut stream = Stream::new(0, "test", "damage");
    let mut num_refused = 0;
    for number in 0..4000 {
        let mut damaged = whole.clone();
        // Half of the damage goes to what describes the pages.
        let from = if number % 2 == 0 { 0 } else { whole.len() - 700 };
        for _ in 0..=stream.next_u64() % 4 {
            let place = from + (stream.next_u64() as usize) % (whole.len() - from);
            damaged[place] = match stream.next_u64() % 4 {
                0 => 0,
                1 => 0xff,
                2 => damaged[place] ^ 1 << (stream.next_u64() % 8),
                _ => stream.next_u64() as u8,
            };
        }
        fs::write(&path, &damaged).unwrap();
        num_refused += usize::from(read_everything(&path).is_err());
    }
    assert!(num_refused > 1000, "{num_refused}");
}

#[test]
fn a_source_has_the_images_of_its_parquet_files_beside_other_files() {
    let folder = tempfile::tempdir().unwrap();
    let row = |content: &'static [u8], name: &'static str| images(&[(content, name, "A")]);
    write(
        &folder.path().join("a.parquet"),
        IMAGES,
        WriterProperties::builder(),
        vec![row(JPEG, "1.jpg"), row(PNG, "2.png")],
    );
    fs::write(folder.path().join("b.jpg"), b"x").unwrap();
    fs::write(folder.path().join("c.parquet"), b"PAR1").unwrap();
    let source = Source::open(folder.path(), None).unwrap();
    let paths: Vec<&str> = source.files().iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["a.parquet", "b.jpg", "a.parquet/1.jpg", "a.parquet/2.png"]);
    assert!(source.table(0).is_some() && source.table(1).is_none());
    assert_eq!(source.image_in(0, 1).unwrap().path, "a.parquet/2.png");
    assert_eq!((source.origin(2), source.is_loose(0), source.is_loose(2)), ("a.parquet", true, false));
    assert_eq!(source.skipped()[0].0, "c.parquet");
    let read = source.for_each(&[3, 1, 2], |position, content| Ok((position, content?))).unwrap();
    assert_eq!(read, [(0, PNG.to_vec()), (1, b"x".to_vec()), (2, JPEG.to_vec())]);
    assert_eq!(source.read_start(3, 4).unwrap(), &PNG[..4]);
    let single = Source::open(&folder.path().join("a.parquet"), None).unwrap();
    assert_eq!((single.files().len(), single.read(2).unwrap()), (3, PNG.to_vec()));
    assert!(Source::open(&folder.path().join("c.parquet"), None).is_err());
}
