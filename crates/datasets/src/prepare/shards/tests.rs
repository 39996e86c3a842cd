//! Shards of every kind that is read, whose images come back as they were, and those that are refused.

use std::fs;
use std::path::{Path, PathBuf};

use parquet::basic::{Compression, Encoding, GzipLevel};
use parquet::file::properties::WriterVersion;
use tempfile::TempDir;

use super::scan::{ScannedShard, scan};
use super::testing::{picture, put_tar, tar};
use crate::column_names::ColumnNames;
use crate::prepared::Split;
use crate::shards::place::Codec;
use crate::shards::read::{Shard, ShardReader};
use crate::source::writing::{self, IMAGES, bytes, compressed, images, texts};
use base::error::describe;

fn scanned(path: &Path) -> ScannedShard {
    scan(path, &ColumnNames::default()).unwrap()
}

fn refusal(path: &Path) -> String {
    let text = describe(&scan(path, &ColumnNames::default()).unwrap_err());
    assert!(text.contains("hint: "), "{text}");
    text
}

/// Name, caption and content of each image, read by its place.
fn contents(path: &Path, shard: &ScannedShard) -> Vec<(String, String, Vec<u8>)> {
    let reader = ShardReader::open(vec![Shard::of(path).unwrap()]).unwrap();
    let of = |image: &super::scan::ScannedImage| {
        (image.member.clone(), image.captions.join("|"), reader.read(&image.place).unwrap())
    };
    shard.images.iter().map(of).collect()
}

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("00000.tar");
    (folder, path)
}

#[test]
fn images_of_a_tar_are_read_where_they_lie_whatever_wrote_their_names() {
    let (_folder, path) = folder();
    let long = format!("{}/{}", "d".repeat(90), "n".repeat(120));
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |mut header: tar::Header, name: &str, content: &[u8]| {
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, content).unwrap();
    };
    for (number, header) in
        [tar::Header::new_ustar(), tar::Header::new_gnu(), tar::Header::new_old()].into_iter().enumerate()
    {
        add(header.clone(), &format!("{number}.png"), &picture(number as u64));
        add(header, &format!("{number}.txt"), format!("Caption {number}.").as_bytes());
    }
    add(tar::Header::new_gnu(), &format!("{long}.png"), &picture(3));
    add(tar::Header::new_gnu(), &format!("{long}.txt"), b"A long name.");
    let pax = format!("p/{}", "x".repeat(200));
    for (ending, content) in [("png", picture(4)), ("txt", b"A name of pax.".to_vec())] {
        let name = format!("{pax}.{ending}");
        builder.append_pax_extensions([("path", name.as_bytes())]).unwrap();
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_path("short").unwrap();
        header.set_cksum();
        builder.append(&header, content.as_slice()).unwrap();
    }
    fs::write(&path, builder.into_inner().unwrap()).unwrap();
    let shard = scanned(&path);
    assert!(shard.rejects.is_empty() && shard.repairs.is_empty(), "{:?} {:?}", shard.rejects, shard.repairs);
    let expected = [
        ("0.png".to_owned(), "Caption 0.".to_owned(), picture(0)),
        ("1.png".to_owned(), "Caption 1.".to_owned(), picture(1)),
        ("2.png".to_owned(), "Caption 2.".to_owned(), picture(2)),
        (format!("{long}.png"), "A long name.".to_owned(), picture(3)),
        (format!("{pax}.png"), "A name of pax.".to_owned(), picture(4)),
    ];
    assert!(contents(&path, &shard) == expected);
    assert!(shard.images.iter().all(|image| image.place.codec == Codec::None as u32 && image.place.offset == 0));
    let record = shard.images[1].clone().record("00000", Split::Val, 7);
    assert_eq!(
        (record.filename.as_str(), record.split, record.image_id.to_string()),
        ("00000/1.png", Split::Val, "7".to_owned())
    );
}

#[test]
fn images_of_parquet_are_read_where_they_lie_in_every_version_encoding_and_compression() {
    // What follows the picture makes pages that get smaller.
    let pictures: Vec<Vec<u8>> = (0..30).map(|number| [picture(number), vec![0; 1000]].concat()).collect();
    // A null, an image that two rows have under two names, and one that they have under one.
    let rows: Vec<(Option<&[u8]>, String)> = (0..33)
        .map(|row| match row {
            3 => (None, "3.png".to_owned()),
            20 => (Some(pictures[5].as_slice()), "20.png".to_owned()),
            21 => (Some(pictures[5].as_slice()), "5.png".to_owned()),
            _ => (Some(pictures[row as usize % 30].as_slice()), format!("{row}.png")),
        })
        .collect();
    let columns = |rows: &[(Option<&[u8]>, String)]| {
        let images: Vec<Option<&[u8]>> = rows.iter().map(|row| row.0).collect();
        let names: Vec<Option<&str>> = rows.iter().map(|row| Some(row.1.as_str())).collect();
        let captions: Vec<Option<String>> = rows.iter().map(|row| Some(format!("At {}", row.1))).collect();
        vec![bytes(&images, 2), bytes(&names, 2), bytes(&captions, 1)]
    };
    let gzip = Compression::GZIP(GzipLevel::default());
    let mut codecs = Vec::new();
    for compression in [Compression::UNCOMPRESSED, Compression::SNAPPY, gzip] {
        for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
            for has_dictionary in [true, false] {
                let folder = tempfile::tempdir().unwrap();
                let path = folder.path().join("train-00000-of-00002.parquet");
                let properties = compressed(compression)
                    .set_writer_version(version)
                    .set_encoding(Encoding::PLAIN)
                    .set_dictionary_enabled(has_dictionary)
                    .set_dictionary_page_size_limit(20_000)
                    .set_data_page_size_limit(15_000)
                    .set_write_batch_size(3);
                writing::write(&path, IMAGES, properties, vec![columns(&rows[..17]), columns(&rows[17..])]);
                let shard = scanned(&path);
                let mut found = contents(&path, &shard);
                let at_5 = found.iter().position(|image| image.0 == "5.png").unwrap();
                assert_eq!(found[at_5].1, "At 5.png|At 5.png");
                found[at_5].1 = "At 5.png".to_owned();
                let expected: Vec<(String, String, Vec<u8>)> = rows
                    .iter()
                    .enumerate()
                    .filter(|(row, _)| ![3, 21].contains(row))
                    .map(|(_, (image, name))| (name.clone(), format!("At {name}"), image.unwrap().to_vec()))
                    .collect();
                assert!(found == expected, "{compression:?} {version:?} {has_dictionary}");
                assert!(
                    shard.rejects.iter().any(|reject| reject.reason.contains("it has no image")),
                    "{:?}",
                    shard.rejects
                );
                assert!(shard.images.iter().all(|image| image.split == Some(Split::Train)));
                codecs.push(shard.images[7].place.codec);
            }
        }
    }
    let expected = [Codec::None, Codec::SnappyPart, Codec::Gzip].map(|codec| [codec as u32; 4]).concat();
    assert_eq!(codecs, expected);
}

#[test]
fn images_in_large_compressed_pages_are_noted_as_slow() {
    let folder = tempfile::tempdir().unwrap();
    let pictures: Vec<Vec<u8>> = (0..40).map(|number| [picture(number), vec![0; 40_000]].concat()).collect();
    let names: Vec<String> = (0..40).map(|number| format!("{number}.png")).collect();
    let rows: Vec<(&[u8], &str, &str)> =
        pictures.iter().zip(&names).map(|(picture, name)| (picture.as_slice(), name.as_str(), "A dog.")).collect();
    let noted = |compression| {
        let path = folder.path().join("a.parquet");
        let properties = compressed(compression).set_dictionary_enabled(false).set_data_page_size_limit(1 << 24);
        writing::write(&path, IMAGES, properties, vec![images(&rows)]);
        scanned(&path).repairs.into_iter().map(|repair| repair.repair).collect::<Vec<_>>()
    };
    assert_eq!(noted(Compression::UNCOMPRESSED), Vec::<String>::new());
    let notes = noted(Compression::GZIP(GzipLevel::default()));
    assert!(notes.len() == 1 && notes[0].contains("compressed pages of 1.7 MB on average"), "{notes:?}");
}

#[test]
fn of_a_large_page_of_snappy_only_a_part_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    let pictures: Vec<Vec<u8>> = (0..40).map(|number| [picture(number), vec![0; 40_000]].concat()).collect();
    let names: Vec<String> = (0..40).map(|number| format!("{number}.png")).collect();
    let rows: Vec<(&[u8], &str, &str)> =
        pictures.iter().zip(&names).map(|(picture, name)| (picture.as_slice(), name.as_str(), "A dog.")).collect();
    let properties = compressed(Compression::SNAPPY).set_dictionary_enabled(false).set_data_page_size_limit(1 << 24);
    writing::write(&path, IMAGES, properties, vec![images(&rows)]);
    let shard = scanned(&path);
    let found = contents(&path, &shard);
    assert!(found.iter().zip(&pictures).all(|((.., content), picture)| content == picture) && found.len() == 40);
    assert!(shard.images.iter().all(|image| image.place.unpacked_bytes <= 3 << 16), "its page has 1.7 MB");
}

#[test]
fn images_that_are_required_and_bytes_alone_are_found_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    let pictures: Vec<Option<Vec<u8>>> = (0..5).map(|number| Some(picture(number))).collect();
    let schema = "message schema { required binary photo; required binary caption (STRING); }";
    let columns = vec![bytes(&pictures, 0), texts(&["a b", "c d", "e f", "g h", "i j"]).at_level(0)];
    writing::write(&path, schema, compressed(Compression::UNCOMPRESSED), vec![columns]);
    let shard = scanned(&path);
    let found: Vec<Vec<u8>> = contents(&path, &shard).into_iter().map(|(.., content)| content).collect();
    assert!(found == pictures.into_iter().flatten().collect::<Vec<_>>());
}

#[test]
fn what_cannot_be_used_of_a_shard_is_counted_with_its_reason() {
    let (_folder, path) = folder();
    let cut = &picture(1)[..500];
    fs::write(
        &path,
        tar(&[
            ("a.png", &picture(0)),
            ("a.txt", b"A dog."),
            ("broken.png", cut),
            ("broken.txt", b"A cat."),
            ("words.jpg", b"<html>not found</html>"),
            ("words.txt", b"A horse."),
            ("mute.png", &picture(2)),
            ("alone.txt", b"No image."),
            ("blank.png", &picture(3)),
            ("blank.txt", b"  "),
        ]),
    )
    .unwrap();
    let shard = scanned(&path);
    assert_eq!(shard.images.iter().map(|image| image.member.as_str()).collect::<Vec<_>>(), ["a.png"]);
    let notes = format!("{:?} {:?}", shard.rejects, shard.repairs);
    for expected in ["broken.png", "words.jpg", "an HTML or XML page", "mute.png", "alone.txt", "blank.png"] {
        assert!(notes.contains(expected), "{expected}: {notes}");
    }
}

#[test]
fn a_shard_without_its_half_is_refused_with_what_it_has() {
    let (_folder, path) = folder();
    fs::write(&path, tar(&[("a.png", &picture(0)), ("b.png", &picture(1))])).unwrap();
    assert!(refusal(&path).contains("found no captions"));
    fs::write(&path, tar(&[("a.txt", b"A dog."), ("b.txt", b"A cat.")])).unwrap();
    assert!(refusal(&path).contains("found no captions"));
    fs::write(&path, tar(&[])).unwrap();
    let shard = scanned(&path);
    assert!(shard.images.is_empty() && shard.repairs[0].repair.contains("no files"), "a download of which all failed");
}

#[test]
fn a_cut_shard_and_one_that_is_something_else_are_refused() {
    let (folder, path) = folder();
    let whole = tar(&[("a.png", &picture(0)), ("a.txt", b"A dog.")]);
    for length in [0, 100, 700, 1500] {
        fs::write(&path, &whole[..length]).unwrap();
        assert!(refusal(&path).contains("download it again"), "{length}");
    }
    let path = folder.path().join("a.parquet");
    writing::write(&path, IMAGES, compressed(Compression::SNAPPY), vec![images(&[(&picture(0), "0.png", "A dog.")])]);
    let whole = fs::read(&path).unwrap();
    for length in [0, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        assert!(refusal(&path).contains("download it again"), "{length}");
    }
    for (name, expected) in [("a.tar.gz", "unpack it to"), ("a.zip", "compressed as a whole"), ("a.jpg", "is no shard")]
    {
        fs::write(folder.path().join(name), b"x").unwrap();
        assert!(refusal(&folder.path().join(name)).contains(expected), "{name}");
    }
}

#[test]
fn parquet_with_no_or_several_columns_of_images_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    let write = |schema: &str, columns| writing::write(&path, schema, compressed(Compression::SNAPPY), vec![columns]);
    write(
        "message schema { optional binary url (STRING); optional binary caption (STRING); }",
        vec![texts(&["http://a/1.jpg"]), texts(&["A dog."])],
    );
    assert!(refusal(&path).contains("no column of images"));
    let schema = "message schema { optional binary one; optional binary two; optional binary caption (STRING); }";
    let both = || vec![bytes(&[Some(picture(0))], 1), bytes(&[Some(picture(1))], 1), texts(&["A dog."])];
    write(schema, both());
    assert!(refusal(&path).contains("several columns of images: one, two"));
    let columns = ColumnNames::parse(&["image=two"]).unwrap();
    let shard = scan(&path, &columns).unwrap();
    assert!(contents(&path, &shard)[0].2 == picture(1));
    let missing = ColumnNames::parse(&["image=two", "caption=words"]).unwrap();
    let text = describe(&scan(&path, &missing).unwrap_err());
    assert!(text.contains("none of them for captions"), "{text}");
}

#[test]
fn a_shard_of_the_tool_that_downloads_is_read_without_the_tables_beside_it() {
    let (folder, path) = folder();
    let json = br#"{"url": "http://a/1.jpg", "caption": "A dog.", "status": "success", "width": 40}"#;
    fs::write(&path, tar(&[("000000000.png", &picture(0)), ("000000000.txt", b"A dog."), ("000000000.json", json)]))
        .unwrap();
    fs::write(folder.path().join("00000_stats.json"), b"{\"count\": 1}").unwrap();
    let shard = scanned(&path);
    assert_eq!((shard.images.len(), shard.images[0].captions.as_slice()), (1, ["A dog.".to_owned()].as_slice()));
    assert_eq!(shard.form, "webdataset");
}

#[test]
fn the_name_of_a_shard_says_what_its_images_are_for() {
    let folder = tempfile::tempdir().unwrap();
    for (name, expected) in [("val-0001.tar", Some(Split::Val)), ("cc12m-0001.tar", None)] {
        let shard = scanned(&put_tar(folder.path(), name, 0..2));
        assert_eq!(shard.images.iter().map(|image| image.split).collect::<Vec<_>>(), [expected; 2], "{name}");
        assert_eq!(shard.images[1].captions, ["A picture of 1."]);
    }
}
