//! A model of the Hub at a revision: what a run stores of it.

use std::fs;

use crate::pickles::config_with_decoder;
use crate::support::{binary, last_checkpoint, model_fixture, stderr};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A cache of the Hub, as its tools leave it, with the fixture `gpt2` as a pull request.
fn cache() -> tempfile::TempDir {
    let cache = tempfile::tempdir().unwrap();
    let repository = cache.path().join("models--owner--name");
    let snapshot = repository.join("snapshots").join(COMMIT);
    fs::create_dir_all(&snapshot).unwrap();
    for entry in fs::read_dir(model_fixture("gpt2")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, snapshot.join(path.file_name().unwrap())).unwrap();
    }
    fs::create_dir_all(repository.join("refs/refs/pr")).unwrap();
    fs::write(repository.join("refs/refs/pr/4"), COMMIT).unwrap();
    cache
}

#[test]
fn a_run_stores_the_commit_of_the_revision_that_it_began_with_and_goes_on_with_the_same_config() {
    let (folder, cache) = (tempfile::tempdir().unwrap(), cache());
    let offline = |text: &str, arguments: &[&str]| {
        let path = folder.path().join("run.toml");
        fs::write(&path, text).unwrap();
        let mut command = binary();
        command.arg("--config").arg(path).args(arguments).current_dir(folder.path());
        let output = command.env("HF_HUB_CACHE", cache.path()).env("HF_HUB_OFFLINE", "1").output().unwrap();
        (output.status.code(), stderr(&output))
    };
    let both = "name = \"owner/name@refs/pr/4\"\nrevision = \"main\"";
    let (code, text) = offline(&config_with_decoder(folder.path(), both), &[]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("model.decoder.name names the revision \"refs/pr/4\""), "{text}");
    let (code, text) = offline(&config_with_decoder(folder.path(), "name = \"owner/name@v9\""), &[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("revision v9 of owner/name is not in the cache"), "{text}");

    let text = config_with_decoder(folder.path(), "name = \"owner/name@refs/pr/4\"");
    let (code, said) = offline(&text, &[]);
    assert_eq!(code, Some(0), "{said}");
    let run = folder.path().join("run");
    let resolved = fs::read_to_string(run.join("config.resolved.toml")).unwrap();
    assert!(resolved.contains(&format!("name = \"owner/name\"\nrevision = \"{COMMIT}\"")), "{resolved}");
    let resume = format!("training.resume_from={}", last_checkpoint(&run).display());
    let (code, said) = offline(&text, &["--set", &resume, "--set", "training.num_epochs=2"]);
    assert_eq!(code, Some(0), "{said}");
    let other = text.replace("refs/pr/4", &COMMIT.replace('0', "f"));
    let (code, said) = offline(&other, &["--set", &resume]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("model.decoder.revision in the config is not what"), "{said}");
}
