//! Texts beside images in folders and tar archives, and cells of tables: of several kinds, names with dots, quotes with
//! backslashes, several captions in one cell; and archives that are cut, empty, or written elsewhere.

use std::fs;

use crate::captions::{prepared, refused, source, table};
use crate::formats::{picture, put, tar, zip};
use crate::support::{binary, stderr};

type Members = Vec<(String, Vec<u8>)>;

const ALL: [&str; 2] = ["--validation-fraction", "0"];

fn json(number: usize) -> Vec<u8> {
    format!("{{\"caption\": \"J {number}\"}}").into_bytes()
}

fn members(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Members {
    files.into_iter().collect()
}

/// Pictures `0.jpg` to `5.jpg`, in a folder or in a tar archive, with these files.
fn both(files: &Members) -> [tempfile::TempDir; 2] {
    let borrowed: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    let pictures = (0..6).map(|number| (format!("{number}.jpg"), picture(number)));
    let shard = tempfile::tempdir().unwrap();
    put(shard.path(), "a.tar", tar(&members(pictures.chain(files.clone()))));
    [source(&borrowed), shard]
}

#[test]
fn the_kind_of_texts_that_captions_most_images_is_read_and_the_other_where_it_alone_captions() {
    let all_json = || (0..6).map(|number| (format!("{number}.json"), json(number)));
    let stray = members(all_json().chain([("3.txt".to_owned(), b"some note".to_vec())]));
    for source in both(&stray) {
        let (splits, captions, text, _) = prepared(source.path(), &ALL);
        assert_eq!((splits[0], captions[3].as_slice()), (6, ["J 3".to_owned()].as_slice()), "{text}");
        assert!(text.contains("captions of 6 images are read from their .json files; not read: 1 .txt"), "{text}");
        assert!(text.contains("3.txt"), "{text}");
    }
    let texts = (0..3).map(|number| (format!("{number}.txt"), format!("T {number}").into_bytes()));
    let mixed = members(texts.chain((2..5).map(|number| (format!("{number}.json"), json(number)))));
    for source in both(&mixed) {
        let (_, captions, text, _) = prepared(source.path(), &ALL);
        assert_eq!(captions, [["T 0"], ["T 1"], ["T 2"], ["J 3"], ["J 4"]], "of as many the texts count: {text}");
        let expected = "captions of 3 images are read from their .txt or .caption files, of 2 without them from their \
                        .json files, such as ";
        assert!(text.contains(expected) && text.contains("not read: 1 .json files"), "{text}");
    }
    // A text without words is none.
    let numbers = members(all_json().chain((0..6).map(|number| (format!("{number}.txt"), b"0 0.5 0.5 1 1".to_vec()))));
    for source in both(&numbers) {
        let (_, captions, text, _) = prepared(source.path(), &ALL);
        assert_eq!((captions.len(), captions[5].as_slice()), (6, ["J 5".to_owned()].as_slice()), "{text}");
    }
}

#[test]
fn every_text_is_looked_at_before_all_are_said_to_hold_no_captions() {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..30 {
        put(folder.path(), &format!("{number:02}.jpg"), picture(number));
        let text = if number < 29 { String::new() } else { format!("A dog {number}") };
        put(folder.path(), &format!("{number:02}.txt"), text);
    }
    let (splits, captions, text, report) = prepared(folder.path(), &ALL);
    assert_eq!((splits, captions[0].as_slice()), ([1, 0, 0], ["A dog 29".to_owned()].as_slice()), "{text}");
    let empty = report.rejects.iter().filter(|reject| reject.reason == "has no caption left");
    assert_eq!(empty.count(), 29, "{text}");
    // Of an image whose text is empty a caption in JSON counts.
    put(folder.path(), "00.json", json(0));
    put(folder.path(), "01.txt", "A cat");
    let (_, captions, text, _) = prepared(folder.path(), &ALL);
    assert_eq!(captions, [["J 0"], ["A cat"], ["A dog 29"]], "{text}");
}

#[test]
fn names_with_dots_in_tar_archives_are_paired_as_in_a_folder() {
    let shot = |number: usize| format!("Screenshot 2024.01.0{number}");
    let shots = (0..4).flat_map(|number| {
        [(shot(number) + ".jpg", picture(number)), (shot(number) + ".txt", format!("A {number}").into_bytes())]
    });
    let folder = tempfile::tempdir().unwrap();
    let plain = [
        ("x.jpg".to_owned(), picture(5)),
        ("x.seg.png".to_owned(), picture(6)),
        ("x.txt".to_owned(), b"X".to_vec()),
        ("Screenshot 2024.01.09.txt".to_owned(), b"of none".to_vec()),
    ];
    put(folder.path(), "a.tar", tar(&members(shots.clone())));
    let (splits, captions, text, _) = prepared(folder.path(), &ALL);
    assert_eq!((splits, captions[3].as_slice()), ([4, 0, 0], ["A 3".to_owned()].as_slice()), "{text}");
    put(folder.path(), "a.tar", tar(&members(shots.chain(plain))));
    let (splits, captions, text, _) = prepared(folder.path(), &ALL);
    assert_eq!((splits, captions[4].as_slice()), ([5, 0, 0], ["X".to_owned()].as_slice()), "{text}");
    let expected =
        "1 texts: not used: no images with their names are beside them, such as a.tar/Screenshot 2024.01.09.txt";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn texts_without_images_are_said_to_lack_them() {
    let texts = members((0..9).map(|number| (format!("{number}.txt"), format!("A dog {number}").into_bytes())));
    for source in both(&texts) {
        let (splits, _, text, _) = prepared(source.path(), &ALL);
        assert_eq!(splits, [6, 0, 0]);
        assert!(text.contains("3 texts: not used: no images with their names are beside them, such as "), "{text}");
        assert!(text.contains("6.txt") && !text.contains("contain no captions"), "{text}");
    }
}

#[test]
fn archives_that_are_cut_empty_or_within_one_another_are_reported() {
    let shard = |first: usize| {
        tar(&members((first..first + 2).flat_map(|number| {
            [(format!("{number}.jpg"), picture(number)), (format!("{number}.txt"), b"A dog".to_vec())]
        })))
    };
    let (whole, cut) = (shard(0), shard(2));
    let end = cut.len() - 1024 - 1024;
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "0.tar", &whole);
    put(folder.path(), "1.tar", &cut[..end]);
    let (splits, _, text, _) = prepared(folder.path(), &ALL);
    assert_eq!(splits, [3, 0, 0]);
    assert!(text.contains("1.tar: it looks truncated, as its end is missing: 3 members were read"), "{text}");
    put(folder.path(), "1.tar", b"");
    let (splits, _, text, _) = prepared(folder.path(), &ALL);
    assert_eq!(splits, [2, 0, 0]);
    assert!(text.contains("1.tar: skipped: ") && text.contains("it is empty: it has 0 bytes"), "{text}");
    assert!(refused(&folder.path().join("1.tar"), &[]).contains("it is empty: it has 0 bytes"));
    let inner = zip(&members((0..6).map(|number| (format!("{number}.jpg"), picture(number)))));
    let captions = ("captions.csv".to_owned(), table(0..6).into_bytes());
    let nested = tempfile::tempdir().unwrap();
    put(nested.path(), "a.zip", zip(&[("images.zip".to_owned(), inner), captions]));
    let text = refused(nested.path(), &[]);
    assert!(text.contains("a.zip/images.zip was skipped: it is an archive inside another one: unpack"), "{text}");
}

#[test]
fn quotes_with_backslashes_in_tables_and_pairs_are_read_as_quotes() {
    let rows = "0.jpg,\"says \\\"stop, now\\\"\"\n1.jpg,\"a \\\"red\\\" dog\"\n2.jpg,plain\n3.jpg,\"x, y\"\n";
    let expected = [["says \"stop, now\""], ["a \"red\" dog"], ["plain"], ["x, y"]];
    let split = "image,caption,split\n0.jpg,\"says \\\"stop, now\\\"\",train\n1.jpg,\"a \\\"red\\\" dog\",train\n\
                 2.jpg,plain,train\n3.jpg,\"x, y\",train\n";
    for text in [format!("image,caption\n{rows}"), rows.to_owned(), split.to_owned()] {
        let source = source(&[("captions.csv", text.as_bytes())]);
        let (_, captions, console, _) = prepared(source.path(), &ALL);
        assert_eq!(captions, expected, "{text}");
        assert!(console.contains("captions.csv: quotes within quotes have a backslash in front"), "{console}");
    }
}

#[test]
fn several_captions_in_a_cell_are_read_where_the_column_says_so_and_reported_where_it_does_not() {
    for separator in ["|", "||", ";", "\n", "\t", " | "] {
        let rows: String = (0..4).map(|n| format!("{n}.jpg,\"one {n}{separator}two {n}\"\n")).collect();
        let text = format!("image,captions\n{rows}4.jpg,\n");
        let source = source(&[("captions.csv", text.as_bytes())]);
        let (_, captions, console, _) = prepared(source.path(), &ALL);
        assert_eq!(captions[3], ["one 3", "two 3"], "{separator:?}");
        assert!(console.contains("each cell of captions is read as several captions with "), "{console}");
    }
    let told = "each cell of caption has \"|\" in it and is read as one caption";
    for (header, rows, expected, is_told) in [
        ("caption", "0.jpg,one|two\n1.jpg,three|four\n", "one|two", true),
        ("captions", "0.jpg,one|two\n1.jpg,three\n", "one|two", false),
        ("captions", "0.jpg,A man &amp; a dog\n1.jpg,A &lt; B\n", "A man & a dog", false),
        ("captions", "0.jpg,one;two\n", "one;two", false),
        ("caption", "0.jpg,one;two\n1.jpg,three;four\n", "one;two", false),
    ] {
        let source = source(&[("captions.csv", format!("image,{header}\n{rows}").as_bytes())]);
        let (_, captions, console, _) = prepared(source.path(), &ALL);
        assert_eq!(captions[0], [expected], "{rows}");
        assert_eq!(console.contains(told), is_told, "{console}");
        assert!(!console.contains("as several captions"), "{console}");
    }
    let lists =
        source(&[("captions.csv", b"image,captions\n0.jpg,\"['a; b', 'c; d']\"\n1.jpg,\"['e; f', 'g; h']\"\n")]);
    assert_eq!(prepared(lists.path(), &ALL).1, [["a; b", "c; d"], ["e; f", "g; h"]]);
}

#[test]
fn a_picture_that_is_left_out_is_called_as_its_file_is_when_others_are_resized() {
    let source =
        source(&[("captions.csv", table(0..7).replace("6.jpg", "6.tif").as_bytes()), ("6.tif", b"II*\0broken")]);
    let (_, _, text, report) = prepared(source.path(), &["--validation-fraction", "0", "--resize", "16"]);
    assert!(report.rejects.iter().any(|reject| reject.what == "6.tif") && !text.contains("6.tif.png"), "{text}");
}

#[test]
fn a_missing_value_is_not_a_caption_when_captions_are_scored() {
    let folder = tempfile::tempdir().unwrap();
    let text = |captions: [&str; 3]| -> String {
        let rows = captions.iter().enumerate().map(|(number, caption)| format!("{number}.jpg,{caption}\n"));
        format!("image,caption\n{}", rows.collect::<String>())
    };
    let [candidates, references] = ["c.csv", "r.csv"].map(|name| folder.path().join(name));
    let score = || {
        let mut command = binary();
        command.arg("score").arg("--candidates").arg(&candidates).arg("--references").arg(&references);
        command.output().unwrap()
    };
    fs::write(&candidates, text(["a dog runs", "nan", "a red car"])).unwrap();
    fs::write(&references, text(["a dog runs", "a cat", "a red car"])).unwrap();
    let console = stderr(&score());
    assert!(console.contains("1 of 3 images have references but no caption"), "{console}");
    assert!(console.contains("pandas writes this word for a missing value: first nan for 1.jpg"), "{console}");
    fs::write(&candidates, text(["a dog runs", "a cat", "a red car"])).unwrap();
    fs::write(&references, text(["a dog runs", "None", "a red car"])).unwrap();
    let output = score();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("there are no references for image 1.jpg"), "{}", stderr(&output));
}
