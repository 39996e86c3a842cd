//! What people do to a data set before and after it is prepared: they correct captions, exchange pictures, copy from
//! other systems, leave odd files around, and bring splits in the form in which they have them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, SystemTime};

use base::error::describe;
use caption_train::commands::dataset_source::{OnChange, ensure};
use datasets::prepared::Dataset;

use crate::formats::{TEST, TRAIN, VAL, assert_images, picture, prepare, prepared, put, report, zip};
use crate::support::{binary, files_below, small_config, stderr, train};

/// A folder with pictures 0 to n - 1 and a text beside each.
fn pairs(num_images: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..num_images {
        put(folder.path(), &format!("{number}.jpg"), picture(number));
        put(folder.path(), &format!("{number}.txt"), format!("a cat number {number}"));
    }
    folder
}

/// A table with these lines and the pictures that it names by their numbers.
fn table(name: &str, text: &str, pictures: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), name, text);
    pictures.iter().enumerate().for_each(|(number, path)| put(folder.path(), path, picture(number)));
    folder
}

#[track_caller]
fn done(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    stderr(output)
}

#[track_caller]
fn failed(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", stderr(output));
    let text = stderr(output);
    assert!(text.starts_with("error: ") && text.contains("hint: "), "{text}");
    text
}

fn captions(output: &Path) -> Vec<(String, String)> {
    let images = Dataset::open(output).unwrap().images;
    images.iter().map(|image| (image.filename().to_owned(), image.owned_captions().join("|"))).collect()
}

fn set_time(path: &Path, time: SystemTime) {
    File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

fn modified(path: &Path) -> SystemTime {
    fs::metadata(path).unwrap().modified().unwrap()
}

/// Prepares, lets `change` change the source, and prepares again.
#[track_caller]
fn again(source: &Path, change: impl FnOnce()) -> (PathBuf, tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    done(&prepare(source, &output, &[]));
    change();
    let text = done(&prepare(source, &output, &[]));
    (output, folder, text)
}

#[test]
fn captions_of_the_same_length_are_noticed_and_prepared_anew() {
    let source = pairs(6);
    let before = SystemTime::now() - Duration::from_secs(100);
    let kept = |output: &Path| modified(&output.join("images/3.jpg"));
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    done(&prepare(source.path(), &output, &[]));
    set_time(&output.join("images/3.jpg"), before);
    for number in [0, 2] {
        put(source.path(), &format!("{number}.txt"), format!("a dog number {number}"));
    }
    let dry = done(&prepare(source.path(), &output, &["--dry-run"]));
    assert!(dry.contains("2 files were changed (such as 0.txt)") && dry.contains("would be prepared in"), "{dry}");
    assert!(captions(&output).iter().all(|(_, caption)| caption.contains("cat")), "a dry run changes nothing");
    let text = done(&prepare(source.path(), &output, &[]));
    assert!(
        text.contains("2 files were changed (such as 0.txt)") && text.contains("6 of 6 images were already there"),
        "{text}"
    );
    let found: Vec<bool> = captions(&output).iter().map(|(_, caption)| caption.contains("dog")).collect();
    assert_eq!(found, [true, false, true, false, false, false]);
    assert_eq!(kept(&output), before, "an image that has not changed is not written again");
    assert!(done(&prepare(source.path(), &output, &[])).contains("nothing to do"));
}

#[test]
fn whatever_was_read_is_watched() {
    let write_all = |source: &Path| {
        (0..60).for_each(|number| put(source, &format!("{number}.txt"), "an entirely other caption"));
    };
    let source = pairs(60);
    let (output, _folder, text) = again(source.path(), || write_all(source.path()));
    assert!(text.contains("60 files were changed"), "{text}");
    assert!(captions(&output).iter().all(|(_, caption)| caption == "an entirely other caption"));

    let source = pairs(4);
    let (output, _folder, text) = again(source.path(), || put(source.path(), "0.jpg", picture(9)));
    assert!(text.contains("1 file was changed (0.jpg)"), "{text}");
    assert_eq!(fs::read(output.join("images/0.jpg")).unwrap(), picture(9));

    let source = pairs(4);
    let (output, _folder, text) = again(source.path(), || {
        put(source.path(), "9.jpg", picture(9));
        put(source.path(), "9.txt", "one more");
        fs::remove_file(source.path().join("1.jpg")).unwrap();
    });
    assert!(text.contains("2 files were added (such as 9.jpg), 1 file was removed (1.jpg)"), "{text}");
    let names: Vec<String> = captions(&output).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["0.jpg", "2.jpg", "3.jpg", "9.jpg"]);
    assert!(!output.join("images/1.jpg").exists(), "an image that is no longer part of the data set goes");

    // An archive, a table, and the split of a name.
    let source = tempfile::tempdir().unwrap();
    let archive = |first| zip(&[("a.jpg".to_owned(), picture(first)), ("b.jpg".to_owned(), picture(1))]);
    put(source.path(), "images.zip", archive(0));
    put(source.path(), "captions.csv", "image,caption\na.jpg,A\nb.jpg,B\n");
    let (output, _folder, text) = again(source.path(), || put(source.path(), "images.zip", archive(7)));
    assert!(text.contains("(images.zip)") && fs::read(output.join("images/a.jpg")).unwrap() == picture(7), "{text}");
    let (output, _folder, text) =
        again(source.path(), || put(source.path(), "captions.csv", "image,caption\na.jpg,C\nb.jpg,B\n"));
    assert!(text.contains("(captions.csv)") && captions(&output)[0].1 == "C", "{text}");
    // The same size and the same time of its content, as archives bring it along.
    let time = modified(&source.path().join("captions.csv"));
    let (output, _folder, text) = again(source.path(), || {
        std::thread::sleep(Duration::from_millis(20));
        put(source.path(), "captions.csv", "image,caption\na.jpg,D\nb.jpg,B\n");
        set_time(&source.path().join("captions.csv"), time);
    });
    assert!(text.contains("(captions.csv)") && captions(&output)[0].1 == "D", "{text}");
    put(source.path(), "more.zip", b"half a zip");
    let whole = zip(&[("c.jpg".to_owned(), picture(2))]);
    let (_, _folder, text) = again(source.path(), || put(source.path(), "more.zip", &whole));
    assert!(text.contains("(more.zip)"), "an archive that was damaged: {text}");
}

#[test]
fn what_changes_nothing_is_not_a_change() {
    let source = pairs(4);
    put(source.path(), "README.md", "words");
    put(source.path(), "notes.txt", "words");
    let hour = Duration::from_secs(3600);
    let (output, folder, text) = again(source.path(), || {
        for name in ["0.jpg", "1.txt"] {
            set_time(&source.path().join(name), SystemTime::now() - hour);
        }
        put(source.path(), "notes.txt", "other words");
        fs::remove_file(source.path().join("README.md")).unwrap();
        // None of these is a caption.
        put(source.path(), "LICENSE.txt", "words");
        put(source.path(), "settings.json", r#"{"a": 1}"#);
        put(source.path(), "log.csv", "step,loss\n1,2\n");
        put(source.path(), "runs/run/config.resolved.toml", "");
        put(source.path(), "runs/run/a.jpg", picture(8));
    });
    assert!(text.contains("nothing to do"), "{text}");
    // A copy is as good as the original, and a source that is gone is no reason to doubt.
    let copy = folder.path().join("copy");
    for file in files_below(source.path()).iter().filter(|file| !file.starts_with(source.path().join("runs"))) {
        put(&copy, file.file_name().unwrap().to_str().unwrap(), fs::read(file).unwrap());
    }
    assert!(done(&prepare(&copy, &output, &[])).contains("nothing to do"));
    put(&copy, "0.txt", "a dog number 0");
    let text = failed(&prepare(&copy, &output, &[]));
    assert!(text.contains("from other files than those in") && text.contains("1 file was changed (0.txt)"), "{text}");
    fs::remove_dir_all(&copy).unwrap();
    assert!(!captions(&output)[0].1.contains("dog"));
}

#[test]
fn a_changed_source_that_cannot_be_prepared_leaves_the_data_set_as_it_was() {
    let source = pairs(3);
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    done(&prepare(source.path(), &output, &[]));
    let before = fs::read(output.join("preparation.json")).unwrap();
    (0..3).for_each(|number| fs::remove_file(source.path().join(format!("{number}.txt"))).unwrap());
    let refused = prepare(source.path(), &output, &[]);
    let text = stderr(&refused);
    assert_eq!(refused.status.code(), Some(1), "{text}");
    assert!(text.contains("\nerror: found no captions in a known format") && text.contains("hint: "), "{text}");
    assert_eq!(fs::read(output.join("preparation.json")).unwrap(), before);
    assert_eq!(captions(&output).len(), 3);
}

#[test]
fn a_data_set_of_a_release_that_kept_no_record_is_compared_as_far_as_it_can_be() {
    let hour = Duration::from_secs(3600);
    let source = pairs(60);
    for file in files_below(source.path()) {
        set_time(&file, SystemTime::now() - hour);
    }
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    let forget = || fs::remove_file(output.join("source.json")).unwrap();
    done(&prepare(source.path(), &output, &[]));
    forget();
    let later = SystemTime::now() + hour;
    let touch = |name: &str| set_time(&source.path().join(name), later);
    ["0.jpg", "1.txt"].into_iter().for_each(touch);
    assert!(done(&prepare(source.path(), &output, &[])).contains("nothing to do"), "the digests are the same");
    put(source.path(), "2.txt", "a dog number 2");
    touch("2.txt");
    let text = done(&prepare(source.path(), &output, &[]));
    let changed = ("2.jpg".to_owned(), "a dog number 2".to_owned());
    assert!(text.contains("has changed since") && captions(&output).contains(&changed), "{text}");
    forget();
    put(source.path(), "3.jpg", picture(99));
    touch("3.jpg");
    assert!(done(&prepare(source.path(), &output, &[])).contains("has changed since"));
    forget();
    put(source.path(), "a60.jpg", picture(60));
    touch("a60.jpg");
    put(source.path(), "a60.txt", "one more");
    let text = done(&prepare(source.path(), &output, &[]));
    assert!(text.contains("1 file was added (a60.jpg)") && captions(&output).len() == 61, "{text}");
    // Of a table it is not known whether it is the same source at all.
    let source = table("captions.csv", "image,caption\na.jpg,A\nb.jpg,B\n", &["a.jpg", "b.jpg"]);
    let output = folder.path().join("table");
    done(&prepare(source.path(), &output, &[]));
    fs::remove_file(output.join("source.json")).unwrap();
    put(source.path(), "captions.csv", "image,caption\na.jpg,Longer\nb.jpg,B\n");
    let text = failed(&prepare(source.path(), &output, &[]));
    assert!(text.contains("prepared from other files") && text.contains("captions.csv has another size"), "{text}");
}

/// Flickr8k in small, in the form of its authors.
fn flickr8k(caption: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let token: String = (0..4).map(|number| format!("{number}.jpg#0\t{caption} {number} .\n")).collect();
    put(folder.path(), "Flickr8k.token.txt", token);
    put(folder.path(), "Flickr_8k.trainImages.txt", "0.jpg\n1.jpg\n2.jpg\n");
    put(folder.path(), "Flickr_8k.devImages.txt", "3.jpg\n");
    (0..4).for_each(|number| put(folder.path(), &format!("Images/{number}.jpg"), picture(number)));
    folder
}

#[test]
fn a_run_is_not_trained_on_a_data_set_whose_source_has_changed() {
    let (source, folder) = (flickr8k("a cat"), tempfile::tempdir().unwrap());
    let output = folder.path().join("flickr8k");
    ensure("flickr8k", &output, Some(source.path()), OnChange::Refuse).unwrap();
    ensure("flickr8k", &output, Some(source.path()), OnChange::Refuse).unwrap();
    let before = fs::read(output.join("dataset.json")).unwrap();
    let token = source.path().join("Flickr8k.token.txt");
    fs::write(&token, fs::read_to_string(&token).unwrap().replace("cat", "dog")).unwrap();
    let text = describe(&ensure("flickr8k", &output, Some(source.path()), OnChange::Refuse).unwrap_err());
    assert!(text.contains("1 file was changed (Flickr8k.token.txt)"), "{text}");
    assert!(text.contains("hint: run `caption-train prepare-data --dataset flickr8k --source"), "{text}");
    ensure("flickr8k", &output, Some(source.path()), OnChange::Warn).unwrap();
    ensure("flickr8k", &output, None, OnChange::Refuse).unwrap();
    assert_eq!(fs::read(output.join("dataset.json")).unwrap(), before, "a run never prepares anew");
    let other = flickr8k("a bird");
    let text = describe(&ensure("flickr8k", &output, Some(other.path()), OnChange::Refuse).unwrap_err());
    assert!(text.contains("prepared from other files"), "{text}");
    done(&prepare(source.path(), &output, &["--dataset", "flickr8k"]));
    ensure("flickr8k", &output, Some(source.path()), OnChange::Refuse).unwrap();
}

#[test]
fn images_are_found_by_names_as_people_see_them() {
    for (sought, there, told) in [
        ("caf\u{e9}.jpg", "cafe\u{301}.jpg", "Unicode form"),
        ("\u{d55c}\u{ad6d}.jpg", "\u{1112}\u{1161}\u{11ab}\u{1100}\u{116e}\u{11a8}.jpg", "Unicode form"),
        ("x/u\u{308}ber.jpg", "x/\u{fc}ber.jpg", "Unicode form"),
        ("my%20dog.jpg", "my dog.jpg", "percent escapes"),
        ("my dog.jpg", "my%20dog.jpg", "percent escapes"),
        ("IMG_7.JPG", "img_7.jpg", "letter case"),
        ("\u{c9}T\u{c9}.jpg", "e\u{301}te\u{301}.jpg", "letter case"),
        ("7.jpeg", "7.jpg", "extensions"),
        ("7.JPG", "7.jpeg", "extensions"),
        (r".\Photos\7.jpg", "photos/7.JPG", "letter case"),
        ("./7.jpg", "7.jpg", ""),
        (r"a\b\7.jpg", "b/7.jpg", ""),
        ("img_7", "IMG_7.png", "letter case"),
    ] {
        let text = format!("image,caption\n{sought},A\nplain.jpg,B\n");
        let source = table("captions.csv", &text, &[there, "plain.jpg"]);
        let (_, images, report) = prepared(source.path(), &[]);
        assert_eq!(images.len(), 2, "{sought}: {:?}", report.rejects);
        let note = report.repairs.iter().find(|repair| repair.repair.contains("found by names that differ"));
        match told {
            "" => assert!(note.is_none(), "{sought}: {note:?}"),
            told => {
                let note = note.unwrap_or_else(|| panic!("{sought}: {:?}", report.repairs));
                assert!(note.what == "1 images" && note.repair.contains(told), "{note:?}");
                assert!(note.repair.contains(&format!("{there} for {sought}")), "{note:?}");
            }
        }
    }
}

#[test]
fn images_named_by_their_paths_are_found_by_them_in_any_form() {
    let source = tempfile::tempdir().unwrap();
    put(
        source.path(),
        "Cafe\u{301}/metadata.csv",
        "file_name,text\nsub\\Caf\u{e9}.JPG,A\n./b.jpeg,B\n../other/c.jpg,C\n",
    );
    for (number, path) in
        ["Cafe\u{301}/sub/cafe\u{301}.jpg", "Cafe\u{301}/b.jpg", "other/c.jpg", "c.jpg"].into_iter().enumerate()
    {
        put(source.path(), path, picture(number));
    }
    let (_, images, report) = prepared(source.path(), &["--validation-fraction", "0"]);
    assert_images(&images, &[("cafe\u{301}.jpg", TRAIN, &["A"]), ("b.jpg", TRAIN, &["B"]), ("c.jpg", TRAIN, &["C"])]);
    assert!(report.rejects.iter().any(|reject| reject.what == "1 image files"), "{:?}", report.rejects);
}

#[test]
fn a_zip_from_macos_is_read_with_its_names() {
    let mut archive = zip(&[("cafe\u{301}.jpg".to_owned(), picture(0)), ("b.jpg".to_owned(), picture(1))]);
    // As macOS writes it: without the flag that says that names are UTF-8.
    for (signature, flags) in [(b"PK\x03\x04", 6), (b"PK\x01\x02", 8)] {
        for at in 0..archive.len() - 10 {
            if archive[at..].starts_with(signature) {
                archive[at + flags + 1] &= !0x08;
            }
        }
    }
    let source = tempfile::tempdir().unwrap();
    put(source.path(), "photos.zip", archive);
    put(source.path(), "captions.csv", "image,caption\ncaf\u{e9}.jpg,A\nb.jpg,B\n");
    let (_, images, _) = prepared(source.path(), &[]);
    assert_eq!(images.keys().collect::<Vec<_>>(), ["b.jpg", "cafe\u{301}.jpg"]);
}

#[test]
fn names_that_fit_several_files_or_none_are_reported() {
    let source =
        table("captions.csv", "image,caption\na1.jpg,A\na2.jpg,B\na3.jpg,C\n", &["x/b1.png", "b2.png", "b3.png"]);
    let text = failed(&prepare(source.path(), &source.path().join("out"), &[]));
    assert!(
        text.contains(r#"the captions name "a1.jpg" and "a2.jpg", the files are called "b2.png" and "b3.png""#),
        "{text}"
    );
    let source = table("captions.csv", "image,caption\nImg.jpg,A\n", &["x/IMG.jpg", "y/img.jpg"]);
    let text = failed(&prepare(source.path(), &source.path().join("out"), &[]));
    assert!(text.contains("such as Img.jpg: it may be x/IMG.jpg or y/img.jpg"), "{text}");
    let source = table("captions.csv", "image,caption\na1.jpg,A\na2.jpg,B\na3.jpg,C\n", &["a1.jpg", "b2.png"]);
    let (_, _, report) = prepared(source.path(), &[]);
    let few = report.repairs.iter().find(|repair| repair.what == "2 of 3 images").unwrap();
    assert!(
        few.repair.contains(r#"the captions name "a2.jpg" and "a3.jpg", the files are called "b2.png""#),
        "{few:?}"
    );
}

/// COCO's form: an object with images and annotations.
fn coco(names: &[&str]) -> String {
    let image = |(id, name): (usize, &&str)| format!(r#"{{"id":{id},"file_name":"{name}"}}"#);
    let caption = |(id, _): (usize, &&str)| format!(r#"{{"id":{id},"image_id":{id},"caption":"picture {id}"}}"#);
    let join = |parts: Vec<String>| parts.join(",");
    let images = join(names.iter().enumerate().map(image).collect());
    format!(r#"{{"images":[{images}],"annotations":[{}]}}"#, join(names.iter().enumerate().map(caption).collect()))
}

#[test]
fn a_word_in_a_name_leaves_images_to_train_on() {
    let names = ["0.jpg", "1.jpg", "2.jpg", "3.jpg"];
    let with = |captions: &str, text: &str, folder: &str| {
        let source = tempfile::tempdir().unwrap();
        if !captions.is_empty() {
            put(source.path(), captions, text);
        }
        for (number, name) in names.iter().enumerate() {
            put(source.path(), &format!("{folder}{name}"), picture(number));
            if captions.is_empty() {
                put(source.path(), &format!("{folder}{number}.txt"), "a picture");
            }
        }
        source
    };
    let rows = format!("image,caption\n{}", names.map(|name| format!("{name},A\n")).concat());
    let blip = format!("[{}]", names.map(|name| format!(r#"{{"image":"{name}","caption":"A"}}"#)).join(","));
    let lines = names.map(|name| format!("{{\"file_name\":\"{name}\",\"text\":\"A\"}}\n")).concat();
    let object = format!("{{{}}}", names.map(|name| format!(r#""{name}":"A""#)).join(","));
    for (captions, text, folder, noted) in [
        ("captions_train_val.json", coco(&names), "", false),
        ("captions_val.json", coco(&names), "", true),
        ("", String::new(), "my_test_photos/", true),
        ("", String::new(), "dev/", true),
        ("birds_test.csv", rows, "", true),
        ("eval/pairs.json", blip, "", false),
        ("validation/metadata.jsonl", lines, "validation/", true),
        ("test.json", object, "", true),
    ] {
        let source = with(captions, &text, folder);
        let output = source.path().join("out");
        let text = done(&prepare(source.path(), &output, &[]));
        let report = report(&output);
        assert_eq!(
            (report.images.train, report.images.val, report.images.test),
            (3, 1, 0),
            "{captions}{folder}: {text}"
        );
        assert!(text.contains("next: train") && text.contains("drawn for val"), "{text}");
        assert_eq!(text.contains("not used as the name of the split"), noted, "{captions}{folder}: {text}");
    }
}

#[test]
fn folders_that_are_splits_are_believed_and_others_are_not() {
    let source = tempfile::tempdir().unwrap();
    for (number, folder) in ["cats", "dogs", "test_tubes", "val"].into_iter().enumerate() {
        put(source.path(), &format!("{folder}/{number}.jpg"), picture(number));
        put(source.path(), &format!("{folder}/{number}.txt"), "A");
    }
    let (_, images, report) = prepared(source.path(), &[]);
    let expected: [(&str, _, &[&str]); 4] =
        [("0.jpg", TRAIN, &["A"]), ("1.jpg", TRAIN, &["A"]), ("2.jpg", TRAIN, &["A"]), ("3.jpg", VAL, &["A"])];
    assert_images(&images, &expected);
    let notes: Vec<String> =
        report.repairs.iter().map(|repair| format!("{}: {}", repair.what, repair.repair)).collect();
    assert!(
        notes.iter().any(|note| note.starts_with("test_tubes: not used as the name of the split test")),
        "{notes:?}"
    );
    assert!(
        notes.iter().any(|note| note.contains(r#"taken from names of files and folders: val from "val""#)),
        "{notes:?}"
    );
}

#[test]
fn a_data_set_without_training_images_is_warned_of_and_not_trained_on() {
    let text = "image,caption,split\n0.jpg,A,val\n1.jpg,B,test\n";
    let source = table("captions.csv", text, &["0.jpg", "1.jpg"]);
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    for outcome in ["prepared in", "nothing to do"] {
        let text = done(&prepare(source.path(), &output, &[]));
        assert!(text.contains(outcome) && text.contains("warning: no image is for training"), "{text}");
        assert!(!text.contains("next: train"), "{text}");
    }
    let shapes = crate::support::shapes_folder().display().to_string();
    let config = small_config(folder.path())
        .replace(&format!("directory = \"{shapes}\""), &format!("directory = \"{}\"", output.display()));
    let text = failed(&train(folder.path(), &config, &[]));
    assert!(text.contains("has no training images: 0 are for training, 1 for validation, 1 for testing"), "{text}");
    // Without validation images the printed next step is one that works.
    let source = table("captions.csv", "image,caption\n0.jpg,A\n1.jpg,B\n", &["0.jpg", "1.jpg"]);
    let text = done(&prepare(source.path(), &folder.path().join("other"), &["--validation-fraction", "0"]));
    assert!(text.contains("and `data.split = \"random\"` in a config file"), "{text}");
}

#[test]
fn a_set_of_the_users_own_is_called_by_its_folder() {
    let names = ["0.jpg", "1.jpg"];
    let image =
        |name: &str, split: &str| format!(r#"{{"filename":"{name}","split":"{split}","sentences":[{{"raw":"A"}}]}}"#);
    let karpathy = |dataset: &str| {
        format!(r#"{{"dataset":"{dataset}","images":[{},{}]}}"#, image("0.jpg", "train"), image("1.jpg", "val"))
    };
    let blip = r#"[{"image":"0.jpg","caption":"A"},{"image":"1.jpg","caption":"B"}]"#.to_owned();
    let token = "0.jpg#0\tA\n1.jpg#0\tB\n".to_owned();
    let kaggle = "image_name| comment_number| comment\n0.jpg| 0| A\n1.jpg| 0| B\n".to_owned();
    let folder = tempfile::tempdir().unwrap();
    for (number, (captions, text)) in [
        ("captions.json", coco(&names)),
        ("captions_val2017.json", coco(&names)),
        ("dataset_coco.json", karpathy("coco")),
        ("dataset.json", karpathy("flickr8k")),
        ("dataset_flickr30k.json", karpathy("")),
        ("coconuts/pairs.json", blip.clone()),
        ("flickr30k_train.json", blip),
        ("Flickr8k.token.txt", token.clone()),
        ("results_20130124.token", token),
        ("results.csv", kaggle),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("set_{number}");
        let source = folder.path().join("sources").join(&name);
        put(&source, captions, text);
        names.iter().enumerate().for_each(|(number, name)| put(&source, name, picture(number)));
        let output =
            binary().arg("prepare-data").arg("--source").arg(&source).current_dir(folder.path()).output().unwrap();
        let text = done(&output);
        assert!(text.starts_with(&format!("data set {name} prepared in data/{name}\n")), "{captions}: {text}");
        assert!(!text.contains("Karpathy's split"), "{captions}: {text}");
    }
    // Asked for by its name it is that data set, with what is known about it.
    let source = folder.path().join("sources/set_2");
    let mut command = binary();
    command.args(["prepare-data", "--dataset", "coco", "--source"]).arg(&source).current_dir(folder.path());
    let text = done(&command.output().unwrap());
    assert!(text.starts_with("data set coco prepared in data/coco\n") && text.contains("not comparable"), "{text}");
}

#[test]
fn split_files_are_read_in_every_form_that_captions_have() {
    let names = ["my dog 0.jpg", "my dog 1.jpg", "CAT.jpg", "caf\u{e9}.jpg"];
    let rows: String = names.iter().map(|name| format!("{name},A\n")).collect();
    let source = table("captions.csv", &format!("image,caption\n{rows}"), &names);
    let splits = tempfile::tempdir().unwrap();
    let utf_16 = |text: &str| [b"\xff\xfe".to_vec(), text.encode_utf16().flat_map(u16::to_le_bytes).collect()].concat();
    let table = "image;split\r\nmy dog 0.jpg;train\r\nmy dog 1.jpg;train\r\ncat.JPG;val\r\ncafe\u{301}.jpg;test\r\n";
    let json = r#"{"train":["my dog 0.jpg","my dog 1.jpg"],"val":["cat.jpeg"],"test":["caf%C3%A9.jpg"]}"#;
    put(splits.path(), "lists/train.txt", "\u{feff}my dog 0.jpg\r\n./my dog 1.jpg\r\n");
    put(splits.path(), "lists/val.txt", "cat.jpg\ngone.jpg\n");
    put(splits.path(), "lists/test.csv", "filename\ncaf\u{e9}.jpg\n");
    put(splits.path(), "lists/selection.txt", "my dog 0.jpg\n");
    put(splits.path(), "semicolons.csv", table);
    put(splits.path(), "mark.csv", format!("\u{feff}{table}"));
    put(splits.path(), "wide.csv", utf_16(&table.replace(';', "\t")));
    put(splits.path(), "split.json", format!("\u{feff}{json}"));
    put(splits.path(), "wide.json", utf_16(json));
    for name in ["lists", "semicolons.csv", "mark.csv", "wide.csv", "split.json", "wide.json"] {
        let path = splits.path().join(name);
        let (_, images, report) = prepared(source.path(), &["--split-file", path.to_str().unwrap()]);
        assert_images(
            &images,
            &[
                ("my dog 0.jpg", TRAIN, &["A"]),
                ("my dog 1.jpg", TRAIN, &["A"]),
                ("CAT.jpg", VAL, &["A"]),
                ("caf\u{e9}.jpg", TEST, &["A"]),
            ],
        );
        let notes: Vec<&str> = report.repairs.iter().map(|repair| repair.repair.as_str()).collect();
        if name == "lists" {
            assert!(notes[0].contains("1 of its 5 names match no image") && notes[0].contains("gone.jpg"), "{notes:?}");
            assert!(report.repairs[1].what == "selection.txt", "{:?}", report.repairs);
        } else {
            assert!(notes.is_empty(), "{name}: {notes:?}");
        }
    }
    put(splits.path(), "other.json", r#"{"train":["x.jpg","y.jpg","z.jpg"]}"#);
    let path = splits.path().join("other.json");
    let output = prepare(source.path(), &splits.path().join("out"), &["--split-file", path.to_str().unwrap()]);
    let text = failed(&output);
    assert!(
        text.contains(r#"names such as "x.jpg" and "y.jpg", the images are called such as "my dog 0.jpg""#),
        "{text}"
    );
}

#[cfg(unix)]
#[test]
fn what_cannot_be_read_is_left_out_by_name() {
    let source = pairs(4);
    // A link to a file that cannot be read by anybody: the memory of a process at its start.
    let unreadable = Path::new("/proc/self/mem");
    put(source.path(), "captions/9.txt", "not beside an image");
    for name in ["dead.jpg", "0.csv"] {
        std::os::unix::fs::symlink("nowhere", source.path().join(name)).unwrap();
    }
    fs::remove_file(source.path().join("3.jpg")).unwrap();
    std::os::unix::fs::symlink(unreadable, source.path().join("3.jpg")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    let text = done(&prepare(source.path(), &output, &[]));
    let report = report(&output);
    assert_eq!((report.images.train, report.images.val), (2, 1), "{text}");
    let reject = report.rejects.iter().find(|reject| reject.what == "3.jpg").unwrap();
    assert!(reject.reason.contains("cannot read"), "{reject:?}");
    for name in ["dead.jpg", "0.csv"] {
        let note = report.repairs.iter().find(|repair| repair.what == name).unwrap();
        assert_eq!(note.repair, "skipped: it is a broken link");
    }
    // Once it can be read it is taken.
    fs::remove_file(source.path().join("3.jpg")).unwrap();
    put(source.path(), "3.jpg", picture(3));
    let text = done(&prepare(source.path(), &output, &[]));
    assert!(text.contains("(3.jpg)") && captions(&output).len() == 4, "{text}");
}

#[test]
fn members_of_an_archive_that_cannot_be_read_are_left_out_by_name() {
    let names = ["good.jpg", "damaged.jpg", "locked.jpg", "packed.jpg"];
    let members: Vec<_> = names.iter().enumerate().map(|(n, name)| ((*name).to_owned(), picture(n))).collect();
    let mut archive = zip(&members);
    let find = |archive: &[u8], signature: &[u8], name: &str| {
        let offset = if signature == b"PK\x03\x04" { 30 } else { 46 };
        let is_here =
            |at: &usize| archive[*at..].starts_with(signature) && archive[at + offset..].starts_with(name.as_bytes());
        (0..archive.len() - 50).find(is_here).unwrap()
    };
    let damaged = find(&archive, b"PK\x03\x04", names[1]);
    archive[damaged + 30 + names[1].len() + 100] ^= 0x55;
    for (signature, flags, method) in [(b"PK\x03\x04", 6, 8), (b"PK\x01\x02", 8, 10)] {
        let locked = find(&archive, signature, names[2]);
        archive[locked + flags] |= 1;
        let packed = find(&archive, signature, names[3]);
        archive[packed + method..packed + method + 2].copy_from_slice(&98u16.to_le_bytes());
    }
    let source = tempfile::tempdir().unwrap();
    put(source.path(), "photos.zip", archive);
    let rows: String = names.iter().map(|name| format!("{name},A\n")).collect();
    put(source.path(), "captions.csv", format!("image,caption\n{rows}"));
    let (_, images, report) = prepared(source.path(), &[]);
    assert_eq!(images.keys().collect::<Vec<_>>(), ["good.jpg"]);
    for (name, expected) in names[1..].iter().zip(["member damaged.jpg", "it is encrypted", "ompression method"]) {
        let reject = report.rejects.iter().find(|reject| reject.what == *name).unwrap();
        assert!(reject.reason.contains(expected) && reject.reason.contains("photos.zip"), "{reject:?}");
    }
}

#[test]
fn images_that_are_all_unusable_are_an_error() {
    let source = table("captions.csv", "image,caption\n0.jpg,A\n1.jpg,B\n", &[]);
    put(source.path(), "0.jpg", "no picture");
    put(source.path(), "1.jpg", "");
    let folder = tempfile::tempdir().unwrap();
    let text = failed(&prepare(source.path(), &folder.path().join("out"), &[]));
    assert!(text.contains("none of the images can be read and decoded, such as the last: 1.jpg"), "{text}");
    assert!(!text.contains("next: "), "{text}");
    for text in ["image,caption\n", "image,caption\n0.jpg,\n"] {
        put(source.path(), "captions.csv", text);
        let text = failed(&prepare(source.path(), &folder.path().join("out"), &[]));
        assert!(text.contains("the annotations name no image with a caption"), "{text}");
    }
}
