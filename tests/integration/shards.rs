//! Training on tar files where they lie: the same updates as on a folder, indexes that are built once, shards that were
//! moved or changed.

use std::fs;
use std::path::{Path, PathBuf};

use caption_train::run::checkpoint::reader::read_metadata;
use datasets::prepared::{Dataset, Split};

use crate::formats::tar;
use crate::support::{binary, files_below, last_checkpoint, losses, shapes_folder, small_config, stderr, train};

/// Images of a shard.
const SIZE: usize = 120;

/// The drawn pictures as webdataset writes them, in the order of their data set.
fn write_shards(folder: &Path) {
    let dataset = Dataset::open(shapes_folder()).unwrap();
    fs::create_dir_all(folder).unwrap();
    for split in Split::ALL {
        let images: Vec<usize> =
            (0..dataset.images.len()).filter(|&image| dataset.images.get(image).split() == split).collect();
        for (number, images) in images.chunks(SIZE).enumerate() {
            let members = images.iter().flat_map(|&image| {
                let record = dataset.images.get(image);
                let (key, _) = record.filename().rsplit_once('.').unwrap();
                let captions = serde_json::json!({ "captions": record.owned_captions() });
                let content = fs::read(dataset.picture(image).path()).unwrap();
                [(record.filename().to_owned(), content), (format!("{key}.json"), captions.to_string().into_bytes())]
            });
            let path = folder.join(format!("{}-{number:05}.tar", split.name()));
            fs::write(path, tar(&members.collect::<Vec<_>>())).unwrap();
        }
    }
}

/// A run below `folder` on the shards in `shards`.
fn config(folder: &Path, shards: &Path, encoder: &str) -> String {
    let of_folder = format!("directory = \"{}\"", shapes_folder().display());
    let of_shards =
        format!("directory = \"{}\"\nshards = [\"{}/*.tar\"]", folder.join("index").display(), shards.display());
    small_config(folder).replace(&of_folder, &of_shards).replace("train = \"full\"", &format!("train = \"{encoder}\""))
}

fn tensors(run: &Path) -> String {
    read_metadata(&last_checkpoint(run)).unwrap().0.tensors_digest
}

#[test]
fn a_run_on_shards_makes_the_updates_of_one_on_the_same_images_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let shards = folder.path().join("shards");
    write_shards(&shards);
    for encoder in ["frozen", "full"] {
        let (on_files, on_shards) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let of_files = small_config(on_files.path()).replace("train = \"full\"", &format!("train = \"{encoder}\""));
        let output = train(on_files.path(), &of_files, &[]);
        assert!(output.status.success(), "{}", stderr(&output));
        let output = train(on_shards.path(), &config(on_shards.path(), &shards, encoder), &[]);
        assert!(output.status.success(), "{}", stderr(&output));
        let [expected, found] = [&on_files, &on_shards].map(|folder| folder.path().join("run"));
        assert_eq!(losses(&found), losses(&expected), "{encoder}");
        assert_eq!(tensors(&found), tensors(&expected), "{encoder}");
        assert!(!on_shards.path().join("index/images").exists(), "no image is copied");
    }
}

#[test]
fn shards_that_were_moved_are_the_same_data_set_and_a_run_resumes_on_them() {
    let folder = tempfile::tempdir().unwrap();
    let (shards, moved) = (folder.path().join("shards"), folder.path().join("elsewhere"));
    write_shards(&shards);
    let undisturbed = tempfile::tempdir().unwrap();
    let two_epochs = ["--set", "training.num_epochs=2"];
    // The learning rate does not depend on the number of epochs.
    let config =
        |folder: &Path| config(folder, &shards, "full").replace("[schedule]", "[schedule]\nkind = \"constant\"");
    let output = train(undisturbed.path(), &config(undisturbed.path()), &two_epochs);
    assert!(output.status.success(), "{}", stderr(&output));
    let output = train(folder.path(), &config(folder.path()), &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    let first = Dataset::open(&folder.path().join("index")).unwrap().digest;

    fs::rename(&shards, &moved).unwrap();
    let run = folder.path().join("run");
    let resume = |extra: &[String]| binary().arg("--resume").arg(last_checkpoint(&run)).args(extra).output().unwrap();
    let set = |line: String| ["--set".to_owned(), line];
    let more = set("training.num_epochs=2".to_owned());
    let refused = resume(&more);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("cannot access the shard"), "{}", stderr(&refused));
    let output = binary()
        .args(["prepare-data", "--shards"])
        .arg(moved.join("*.tar"))
        .arg("--output")
        .arg(folder.path().join("index"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(Dataset::open(&folder.path().join("index")).unwrap().digest, first);
    let output = resume(&[more, set(format!("data.shards=[\"{}/*.tar\"]", moved.display()))].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(losses(&run), losses(&undisturbed.path().join("run")));
    assert_eq!(tensors(&run), tensors(&undisturbed.path().join("run")));
}

#[test]
fn an_index_and_its_tokens_are_made_once_and_shards_that_changed_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let shards = folder.path().join("shards");
    write_shards(&shards);
    let config = config(folder.path(), &shards, "full");
    let output = train(folder.path(), &config, &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    let kept = |folder: &Path| -> Vec<(PathBuf, Vec<u8>)> {
        let mut files = [files_below(&folder.join("index")), files_below(&folder.join("cache"))].concat();
        files.sort();
        files.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
    };
    let before = kept(folder.path());
    let is_there = |name: &str| before.iter().any(|(path, _)| path.to_string_lossy().contains(name));
    assert!(is_there("examples-") && is_there("tokenizer-") && is_there("captions.bin"));
    let first = losses(&folder.path().join("run"));
    fs::rename(folder.path().join("run"), folder.path().join("first")).unwrap();
    let output = train(folder.path(), &config, &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(losses(&folder.path().join("run")), first);
    assert!(kept(folder.path()) == before, "nothing is made again");

    fs::write(shards.join("train-00009.tar"), fs::read(shards.join("val-00000.tar")).unwrap()).unwrap();
    let refused = train(folder.path(), &config.replace("\"run\"", "\"other\""), &[]);
    assert_eq!(refused.status.code(), Some(1));
    let text = stderr(&refused);
    assert!(text.contains("the shards are not those of the index") && text.contains("prepare-data --shards"), "{text}");
    let resumed = binary()
        .arg("--resume")
        .arg(last_checkpoint(&folder.path().join("run")))
        .args(["--set", "training.num_epochs=2"])
        .output()
        .unwrap();
    assert!(resumed.status.success(), "{}", stderr(&resumed));
    assert!(stderr(&resumed).contains("the run uses the index as it is"), "{}", stderr(&resumed));
    // A shard that was changed is not trained on.
    let path = shards.join("train-00001.tar");
    let mut content = fs::read(&path).unwrap();
    content.truncate(content.len() - 512);
    fs::write(&path, content).unwrap();
    let refused = binary()
        .arg("--resume")
        .arg(last_checkpoint(&folder.path().join("run")))
        .args(["--set", "training.num_epochs=3"])
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("train-00001.tar was changed since it was indexed"), "{}", stderr(&refused));
}
