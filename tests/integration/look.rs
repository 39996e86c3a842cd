//! `look`: the page of a prepared data set, with what is odd about it, in its folder and elsewhere.

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::support::{binary, files_below, shapes_folder, stderr};

const HOSTILE: &str = "</script><img src=x onerror=alert(1)> a dog";

/// Prepares seven images: the last shows what the first does in another split, and one more is no picture.
fn prepare(folder: &Path) {
    let source = folder.join("source");
    fs::create_dir(&source).unwrap();
    let mut pictures = files_below(&shapes_folder().join("images"));
    pictures.sort();
    let names = ["a.png", "b #1?.png", "c.png", "d.png", "e.png", "f.png", "g.png"];
    let mut table = "image,caption,split\n".to_owned();
    for (number, name) in names.into_iter().enumerate() {
        fs::copy(&pictures[number % 6], source.join(name)).unwrap();
        let split = ["train", "train", "train", "train", "val", "test", "test"][number];
        table += &format!("{name},a picture of number {number},{split}\n");
    }
    fs::write(source.join("broken.png"), "no picture").unwrap();
    table += &format!("broken.png,a broken one here,train\nc.png,\"{HOSTILE}\",train\nd.png,dog,train\n");
    table += "e.png,a picture of number 0,val\n";
    fs::write(source.join("captions.csv"), table).unwrap();
    let output = binary().current_dir(folder).args(["prepare-data", "--source", "source", "--output", "data"]).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
}

fn look(folder: &Path, arguments: &[&str]) -> Output {
    binary().current_dir(folder).arg("look").args(arguments).output().unwrap()
}

#[track_caller]
fn page(path: &Path) -> (String, Value) {
    let html = fs::read_to_string(path).unwrap();
    let json = html.split("id=\"report-data\">").nth(1).unwrap().split("</script>").next().unwrap();
    let data = serde_json::from_str(json).unwrap();
    (html, data)
}

#[test]
fn the_page_has_images_captions_duplicates_and_what_was_left_out() {
    let folder = tempfile::tempdir().unwrap();
    prepare(folder.path());
    let output = look(folder.path(), &["data"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let said = stderr(&output);
    assert!(
        said.contains("the same file in two splits, pairs: 1") && said.contains("captions very short: 1"),
        "{said}"
    );
    let (html, data) = page(&folder.path().join("data/look.html"));
    let images = data["images"].as_array().unwrap();
    assert_eq!((images.len(), data["folder"].as_str()), (7, Some("./images/")));
    let place = |name: &str| images.iter().position(|image| image["name"] == name).unwrap();
    assert_eq!(images[place("c.png")]["captions"][1], HOSTILE);
    assert!(images[place("b #1?.png")]["size"][0].as_u64().unwrap() > 0);
    assert!(!html.contains("<img src=x") && !html.contains("src=\"http"));
    assert_eq!(data["pairs"][0][0][0], place("a.png"));
    assert_eq!(data["pairs"][0][0][1], place("g.png"));
    assert_eq!(data["repeated"][0][0], 2);
    assert!(html.contains("Very short</span> (1)") && html.contains("With addresses or HTML</span> (1)"));
    assert!(html.contains("<dt dir=\"auto\">broken.png</dt>"), "what the preparation left out is listed");
}

#[test]
fn an_image_that_vanished_is_named_and_a_second_page_replaces_the_first() {
    let folder = tempfile::tempdir().unwrap();
    prepare(folder.path());
    assert!(look(folder.path(), &["data"]).status.success());
    fs::remove_file(folder.path().join("data/images/d.png")).unwrap();
    let output = look(folder.path(), &["data"]);
    assert!(
        output.status.success() && stderr(&output).contains("images that cannot be read: 1"),
        "{}",
        stderr(&output)
    );
    let (html, data) = page(&folder.path().join("data/look.html"));
    let problems: Vec<&Value> =
        data["images"].as_array().unwrap().iter().filter(|it| it["problem"].is_string()).collect();
    assert_eq!((problems.len(), &problems[0]["name"]), (1, &Value::from("d.png")));
    assert!(html.contains("Images that cannot be read</span> (1)"));
}

#[test]
fn a_page_elsewhere_links_to_the_images_and_a_preparation_leaves_a_page_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    prepare(folder.path());
    fs::create_dir(folder.path().join("pages")).unwrap();
    assert!(look(folder.path(), &["data", "--output", "pages/mine.html"]).status.success());
    assert_eq!(page(&folder.path().join("pages/mine.html")).1["folder"], "./../data/images/");
    assert!(look(folder.path(), &["data"]).status.success());
    let before = fs::read(folder.path().join("data/look.html")).unwrap();
    let captions = folder.path().join("source/captions.csv");
    let changed = fs::read_to_string(&captions).unwrap().replace("number 2", "another number");
    fs::write(&captions, changed).unwrap();
    let again = binary()
        .current_dir(folder.path())
        .args(["prepare-data", "--source", "source", "--output", "data"])
        .output()
        .unwrap();
    assert!(again.status.success() && stderr(&again).contains("has changed since"), "{}", stderr(&again));
    assert_eq!(fs::read(folder.path().join("data/look.html")).unwrap(), before);
}

#[test]
fn a_file_of_the_user_is_not_replaced_and_a_folder_that_is_no_data_set_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    prepare(folder.path());
    let mine = folder.path().join("data/look.html");
    fs::write(&mine, "<title>mine</title>").unwrap();
    let output = look(folder.path(), &["data"]);
    assert!(!output.status.success() && stderr(&output).contains("is not a page of a data set"), "{}", stderr(&output));
    assert_eq!(fs::read(&mine).unwrap(), b"<title>mine</title>");
    for (arguments, expected) in [
        (&["source"][..], "it is not a prepared data set"),
        (&["absent"], "does not exist"),
        (&["data", "--output", "absent/look.html"], "cannot write absent/look.html"),
    ] {
        let output = look(folder.path(), arguments);
        assert!(!output.status.success() && stderr(&output).contains(expected), "{}", stderr(&output));
    }
}

#[test]
fn a_data_set_of_your_own_has_a_page_and_a_report_of_another_one_is_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    prepare(folder.path());
    let path = folder.path().join("data/dataset.json");
    let edited = fs::read_to_string(&path).unwrap().replace("number 3", "number three");
    fs::write(&path, edited).unwrap();
    let output = look(folder.path(), &["data"]);
    assert!(
        output.status.success() && stderr(&output).contains("it is of another dataset.json"),
        "{}",
        stderr(&output)
    );
    fs::remove_file(folder.path().join("data/preparation.json")).unwrap();
    let output = look(folder.path(), &["data"]);
    assert!(output.status.success() && !stderr(&output).contains("warning"), "{}", stderr(&output));
    assert!(page(&folder.path().join("data/look.html")).0.contains("not known how this data set was prepared"));
}
