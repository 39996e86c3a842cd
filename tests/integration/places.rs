//! Where an image lies, and what that says: which of several files of one name is meant, that none is, and what it is
//! for; splits under other names, and lists of splits that nobody reads.

use std::fs;
use std::path::Path;

use crate::captions::{reason, refused};
use crate::formats::{Images, TEST, TRAIN, VAL, picture, prepared, put};
use crate::support::{binary, stderr};

/// A source with this file and a picture at each path.
fn source(files: &[(&str, &str)], pictures: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    files.iter().for_each(|(path, text)| put(folder.path(), path, text));
    pictures.iter().enumerate().for_each(|(number, path)| put(folder.path(), path, picture(number)));
    folder
}

/// No draw changes what the source says.
const NO_DRAW: [&str; 2] = ["--validation-fraction", "0"];

/// The captions of all images for this split, in order.
fn captions(images: &Images, wanted: datasets::prepared::Split) -> String {
    let of_split = images.values().filter(|(split, _)| *split == wanted);
    let mut all: Vec<String> = of_split.map(|(_, captions)| captions.join("+")).collect();
    all.sort();
    all.join(" ")
}

#[track_caller]
fn assert_splits(source: &Path, [train, val, test]: [&str; 3], context: &str) -> Vec<String> {
    let (_, images, report) = prepared(source, if val.is_empty() { &NO_DRAW } else { &[] });
    let found = [TRAIN, VAL, TEST].map(|split| captions(&images, split));
    assert_eq!(found, [train, val, test], "{context}: {:?} {:?}", report.repairs, report.rejects);
    report.repairs.iter().map(|repair| format!("{}: {}", repair.what, repair.repair)).collect()
}

#[test]
fn folders_of_images_that_one_file_lists_are_splits() {
    let paths = ["train/0.jpg", "train/1.jpg", "test/0.jpg", "validation/2.jpg"];
    let rows = |row: fn((usize, &&str)) -> String| paths.iter().enumerate().map(row).collect::<Vec<_>>();
    let coco = format!(
        r#"{{"images":[{}],"annotations":[{}]}}"#,
        rows(|(n, path)| format!(r#"{{"id":{n},"file_name":"{path}"}}"#)).join(","),
        rows(|(n, _)| format!(r#"{{"id":{n},"image_id":{n},"caption":"A{n}"}}"#)).join(",")
    );
    for (name, text) in [
        ("metadata.jsonl", rows(|(n, path)| format!("{{\"file_name\":\"{path}\",\"text\":\"A{n}\"}}\n")).concat()),
        ("c.csv", format!("image,caption\n{}", rows(|(n, path)| format!("{path},A{n}\n")).concat())),
        ("c.json", format!("{{{}}}", rows(|(n, path)| format!(r#""{path}":"A{n}""#)).join(","))),
        ("c.tsv", rows(|(n, path)| format!("{path}\tA{n}\n")).concat()),
        ("c.coco.json", coco),
    ] {
        let source = source(&[(name, &text)], &paths);
        let notes = assert_splits(source.path(), ["A0 A1", "A3", "A2"], name);
        let note = "the split: taken from names of files and folders";
        assert!(notes.iter().any(|told| told.starts_with(note) && told.contains("test from \"test\"")), "{notes:?}");
    }
    // Where only the files lie in such folders.
    let found = source(&[("c.csv", "image,caption\n0.jpg,A\n1.jpg,B\n")], &["Training/0.jpg", "Testing/1.jpg"]);
    assert_splits(found.path(), ["A", "", "B"], "found");
    // What the annotations say counts more, and one split for all is not believed.
    let stated = "image,caption,split\ntest/0.jpg,A,train\ntrain/1.jpg,B,test\n";
    assert_splits(source(&[("c.csv", stated)], &["test/0.jpg", "train/1.jpg"]).path(), ["A", "", "B"], "stated");
    let all = source(&[("c.csv", "image,caption\n0.jpg,A\n1.jpg,B\n")], &["val/0.jpg", "val/1.jpg"]);
    let notes = assert_splits(all.path(), ["A B", "", ""], "all");
    assert!(notes.iter().any(|note| note.contains("none left for training")), "{notes:?}");
}

#[test]
fn an_image_of_that_name_in_another_folder_is_another_image() {
    for (rows, pictures, missing) in [
        ("train/0.jpg,A\nval/1.jpg,B\n", &["train/0.jpg", "train/1.jpg"][..], "val/1.jpg"),
        ("a/images/0.jpg,A\nb/images/0.jpg,B\n", &["a/images/0.jpg"], "b/images/0.jpg"),
        ("a/0.jpg,A\nb/1.jpg,B\n", &["a/0.jpg", "a/1.jpg"], "b/1.jpg"),
        ("a/0.jpg,A\nb/1.jpg,B\n", &["a/0.jpg", "x/1.jpg", "b/2.jpg"], "b/1.jpg"),
    ] {
        let source = source(&[("c.csv", &format!("image,caption\n{rows}"))], pictures);
        let (_, images, report) = prepared(source.path(), &NO_DRAW);
        assert_eq!((images.len(), captions(&images, TRAIN).as_str()), (1, "A"), "{rows}");
        assert!(reason(&report, missing).starts_with("there is no such image"), "{report:?}");
    }
    for (name, text, path) in [
        ("c.json", r#"{"2020/0.jpg":"A","2020/1.jpg":"B"}"#, "2019/0.jpg"),
        (
            "c.json",
            r#"{"images":[{"id":1,"file_name":"cam2/0.jpg"}],"annotations":[{"image_id":1,"caption":"A"}]}"#,
            "cam1/0.jpg",
        ),
    ] {
        let text = refused(source(&[(name, text)], &[path]).path(), &[]);
        assert!(text.contains("none of the image files was found") && text.contains(path), "{text}");
    }
    // A folder that is missing or called otherwise for all images says nothing.
    for (folder, there) in [
        ("/home/dev/flickr/Images", "train"),
        (r"C:\x\Images", "photos"),
        ("data/a", "a"),
        ("images", "."),
        ("a", "a/x"),
    ] {
        let text = format!("image,caption\n{folder}/0.jpg,A\n{folder}/1.jpg,B\n");
        let source = source(&[("c.csv", &text)], &[&format!("{there}/0.jpg"), &format!("{there}/1.jpg")]);
        assert_splits(source.path(), ["A B", "", ""], folder);
    }
}

#[test]
fn captions_of_an_image_in_another_folder_are_not_scored_or_split_as_its_own() {
    let folder = source(&[("r.csv", "image,caption\ntrain/0.jpg,A\n"), ("c.csv", "image,caption\nval/0.jpg,A\n")], &[]);
    let path = |name: &str| folder.path().join(name);
    let output = binary()
        .args(["score", "--candidates"])
        .arg(path("c.csv"))
        .arg("--references")
        .arg(path("r.csv"))
        .output()
        .unwrap();
    let text = stderr(&output);
    assert!(output.status.code() == Some(1) && text.contains("no references for image val/0.jpg"), "{text}");
    let source = source(&[("c.csv", "image,caption\nval/0.jpg,A\nx/1.jpg,B\n")], &["val/0.jpg", "x/1.jpg"]);
    fs::write(path("s.csv"), "image,split\ntrain/0.jpg,train\nx/1.jpg,train\n").unwrap();
    let (_, images, report) = prepared(source.path(), &["--split-file", path("s.csv").to_str().unwrap()]);
    assert_eq!(captions(&images, TRAIN), "B");
    assert!(report.rejects.iter().any(|reject| reject.reason.contains("such as val/0.jpg")), "{report:?}");
}

#[test]
fn a_path_or_folder_beside_a_name_says_which_image_it_is() {
    for (name, text) in [
        ("c.csv", "filename,filepath,caption\n0.jpg,a/0.jpg,A\n0.jpg,b/0.jpg,B\n"),
        ("c.csv", "image_path,image,caption\na/0.jpg,0.jpg,A\nb/0.jpg,0.jpg,B\n"),
        ("c.csv", "folder,filename,caption\na,0.jpg,A\nb/,0.jpg,B\n"),
        ("c.csv", "file_name,path,caption\na/0.jpg,a,A\n0.jpg,b,B\n"),
        ("c.csv", "filename,filepath,caption\na/0.jpg,,A\nb/0.jpg,x/other.jpg,B\n"),
        (
            "c.json",
            r#"[{"filename":"0.jpg","path":"a/0.jpg","caption":"A"},{"path":"b/0.jpg","filename":"0.jpg","caption":"B"}]"#,
        ),
        (
            "c.jsonl",
            "{\"dir\":\"a\",\"image\":\"0.jpg\",\"caption\":\"A\"}\n{\"image\":\"0.jpg\",\"dir\":\"b\",\"caption\":\"B\"}\n",
        ),
    ] {
        let both = source(&[(name, text)], &["a/0.jpg", "b/0.jpg"]);
        let (_, images, _) = prepared(both.path(), &NO_DRAW);
        let of = |path: &str| images.get(path).map(|(_, captions)| captions.join("+"));
        assert_eq!((of("a/0.jpg").as_deref(), of("b/0.jpg").as_deref()), (Some("A"), Some("B")), "{text}");
        let one = source(&[(name, text)], &["a/0.jpg"]);
        assert_splits(one.path(), ["A", "", ""], text);
    }
}

#[test]
fn files_for_different_splits_mean_images_of_one_name_in_their_own_folders() {
    let (train, val) = ("image,caption\n0.jpg,A\n1.jpg,B\n", "image,caption\n0.jpg,C\n");
    for (files, pictures) in [
        (
            ["annotations/train.csv", "annotations/val.csv"],
            ["images/train/0.jpg", "images/train/1.jpg", "images/val/0.jpg"],
        ),
        (["captions_train.csv", "captions_val.csv"], ["train2017/0.jpg", "train2017/1.jpg", "val2017/0.jpg"]),
        (["train/c.csv", "val/c.csv"], ["train/images/0.jpg", "train/images/1.jpg", "val/images/0.jpg"]),
    ] {
        let all = source(&[(files[0], train), (files[1], val)], &pictures);
        assert_splits(all.path(), ["A B", "C", ""], files[0]);
        let source = source(&[(files[0], train), (files[1], val)], &pictures[..2]);
        let (_, images, report) = prepared(source.path(), &[]);
        let captions: Vec<&[String]> = images.values().map(|(_, captions)| captions.as_slice()).collect();
        assert_eq!(captions, [["A"], ["B"]], "{report:?}");
        assert!(reason(&report, "0.jpg").contains("no such image file (split val)"), "{report:?}");
    }
    let unclear = source(&[("train.csv", train), ("val.csv", val)], &["a/0.jpg", "b/0.jpg", "a/1.jpg"]);
    let text = refused(unclear.path(), &[]);
    assert!(text.contains("0.jpg: it may be a/0.jpg or b/0.jpg"), "{text}");
}

#[test]
fn a_list_of_splits_that_nobody_reads_is_an_error_and_followed_where_it_is_given() {
    let captions = "image,caption\n0.jpg,A\n1.jpg,B\n";
    for (name, text) in [
        ("splits.csv", "image,split\n0.jpg,train\n1.jpg,test\n"),
        ("split.json", r#"{"train":["0.jpg"],"test":["1"]}"#),
        ("x/s.json", r#"[{"image":"0.jpg","split":"train"},{"image":"1.jpg","split":"val"}]"#),
        ("test.txt", "1.jpg\n"),
    ] {
        let source = source(&[("captions.csv", captions), (name, text)], &["0.jpg", "1.jpg"]);
        let told = refused(source.path(), &[]);
        assert!(
            told.contains(&format!("{name} says which split images are in")) && told.contains("--split-file"),
            "{told}"
        );
        let (_, images, report) = prepared(source.path(), &NO_DRAW);
        assert_eq!(images.len(), 2, "a share that is asked for is drawn of all");
        assert!(report.repairs.iter().all(|repair| !repair.repair.contains("list without objects")), "{report:?}");
        if name != "test.txt" {
            let file = source.path().join(name);
            let (_, images, _) = prepared(source.path(), &["--split-file", file.to_str().unwrap()]);
            assert_eq!(self::captions(&images, TRAIN), "A", "{name}");
        }
    }
    // What holds out none of these images, or says what the captions say too, is no reason to stop.
    for (captions, list) in [
        (captions, "image,split\nx.jpg,test\ny.jpg,val\n"),
        ("image,caption,split\n0.jpg,A,train\n1.jpg,B,train\n", "image,split\n1.jpg,test\n"),
    ] {
        let source = source(&[("captions.csv", captions), ("splits.csv", list)], &["0.jpg", "1.jpg"]);
        assert_splits(source.path(), ["A B", "", ""], list);
    }
}

#[test]
fn columns_and_keys_that_hold_words_for_splits_are_the_split() {
    let told = |source: &tempfile::TempDir, expected: [&str; 3], name: &str, note: &str| {
        let notes = assert_splits(source.path(), expected, name);
        assert!(notes.iter().any(|told| told.starts_with(&format!("{name:?}: {note}"))), "{name}: {notes:?}");
    };
    let pictures = ["0.jpg", "1.jpg", "2.jpg"];
    for name in ["set", "phase", "fold", "usage", "mode", "type", "data_split", "dataset_split", "split_name"] {
        let table = |last: &str| format!("image,caption,{name}\n0.jpg,A,train\n1.jpg,B,dev\n2.jpg,C,{last}\n");
        let json = format!(
            r#"[{{"image":"0.jpg","caption":"A","{name}":"train"}},{{"{name}":"val","image":"1.jpg","caption":"B"}},{{"image":"2.jpg","caption":"C","{name}":"test"}}]"#
        );
        told(&source(&[("c.csv", &table("test"))], &pictures), ["A", "B", "C"], name, "used as the split");
        told(&source(&[("c.json", &json)], &pictures), ["A", "B", "C"], name, "used as the split");
        let odd = source(&[("c.csv", &table("odd"))], &pictures);
        match name.contains("split") {
            true => told(&odd, ["A C", "B", ""], name, "used as the split; \"odd\" in it is not train"),
            false => told(&odd, ["A B C", "", ""], name, "not used as the split: it also contains \"odd\""),
        }
    }
    let folds = source(&[("c.csv", "image,caption,fold\n0.jpg,A,0\n1.jpg,B,1\n")], &pictures[..2]);
    assert!(assert_splits(folds.path(), ["A B", "", ""], "fold").iter().all(|note| !note.contains("fold")));
    let all = source(&[("c.csv", "image,caption,mode\n0.jpg,A,test\n1.jpg,B,test\n")], &pictures[..2]);
    told(&all, ["A B", "", ""], "mode", "not used as the split: none of its values is for training");
    let both =
        source(&[("c.csv", "image,caption,type,split\n0.jpg,A,test,train\n1.jpg,B,train,val\n")], &pictures[..2]);
    assert_splits(both.path(), ["A", "B", ""], "split");
}

#[test]
fn splits_one_level_down_in_json_are_splits() {
    for key in ["data", "annotations", "dataset", "images"] {
        for (train, val) in [
            (r#"[{"image":"0.jpg","caption":"A"}]"#, r#"[{"image":"1.jpg","caption":"B"}]"#),
            (r#"{"0.jpg":"A"}"#, r#"{"1.jpg":["B"]}"#),
        ] {
            let text = format!(r#"{{"{key}":{{"train":{train},"val":{val}}}}}"#);
            let source = source(&[("c.json", &text)], &["0.jpg", "1.jpg"]);
            assert_splits(source.path(), ["A", "B", ""], &text);
        }
    }
}

#[test]
fn trainval_is_for_training_beside_what_is_for_testing() {
    let (train, test) = ("image,caption\n0.jpg,A\n1.jpg,B\n", "image,caption\n2.jpg,C\n");
    let pictures = ["0.jpg", "1.jpg", "2.jpg"];
    let both = source(&[("trainval.csv", train), ("test.csv", test)], &pictures);
    assert_splits(both.path(), ["A B", "", "C"], "trainval.csv");
    let captions = format!("{train}2.jpg,C\n");
    let all = source(&[("captions.csv", &captions)], &pictures);
    for (lists, expected) in [
        (&[("trainval.txt", "0\n1\n"), ("test.txt", "2\n")][..], ["A B", "", "C"]),
        (&[("train.txt", "0\n"), ("val.txt", "1\n"), ("trainval.txt", "0\n1\n"), ("test.txt", "2\n")], ["A", "B", "C"]),
    ] {
        let folder = source(lists, &[]);
        let (_, images, _) = prepared(all.path(), &["--split-file", folder.path().to_str().unwrap()]);
        assert_eq!([TRAIN, VAL, TEST].map(|split| self::captions(&images, split)), expected);
    }
    let alone = source(&[("captions_train_val.json", r#"{"0.jpg":"A","1.jpg":"B"}"#)], &pictures[..2]);
    assert_splits(alone.path(), ["A B", "", ""], "captions_train_val.json");
}
