//! Downloads of models from a Hub on this machine.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::testing::{Answer, COMMIT, Hub, NEXT_COMMIT, To, big, conditions, git_blob, names, settings};
use base::digest::sha256;
use base::error::describe;
use base::weight_forms::PREFERRED as WEIGHTS;
use test_server::closed_address;

const TEXT: &[u8] = b"{\"model_type\": \"gpt2\"}\n";

/// A Hub with a model: small files in git, its weights in the storage.
fn hub() -> Hub {
    Hub::with(vec![
        (CONFIG, TEXT.to_vec(), false),
        ("preprocessor_config.json", b"{}".to_vec(), false),
        ("merges.txt", b"a b".to_vec(), false),
        (WEIGHTS, big(), true),
    ])
}

fn fetch(hub: &Hub, cache: &Path) -> anyhow::Result<PathBuf> {
    fetch_from(&hub.address, cache, false)
}

/// As [`fetch`], `owner/name@revision`.
fn fetch_revision(address: &str, cache: &Path, offline: bool, revision: &str) -> anyhow::Result<ModelSnapshot> {
    let settings = Settings { offline, ..settings(address, cache) };
    folder(&id(Some(revision)), ModelKind::WithTokenizer, &settings, &conditions())
}

fn id(revision: Option<&str>) -> ModelId {
    ModelId::new("owner/name", revision).unwrap()
}

fn fetch_from(address: &str, cache: &Path, offline: bool) -> anyhow::Result<PathBuf> {
    let settings = Settings { offline, ..settings(address, cache) };
    Ok(folder(&id(None), ModelKind::WithTokenizer, &settings, &conditions())?.folder)
}

fn fetch_offline(cache: &Path) -> anyhow::Result<PathBuf> {
    fetch_from("http://127.0.0.1:9", cache, true)
}

/// The text of the failure of a download into an empty cache.
fn refusal(hub: &Hub) -> String {
    let cache = tempfile::tempdir().unwrap();
    describe(&fetch(hub, cache.path()).unwrap_err()).replace(&hub.address, "HUB")
}

fn repository(cache: &Path) -> PathBuf {
    cache.join("models--owner--name")
}

fn blob(cache: &Path, hash: &str) -> PathBuf {
    repository(cache).join("blobs").join(hash)
}

#[track_caller]
fn assert_is_whole(folder: &Path) {
    assert_eq!(fs::read(folder.join(CONFIG)).unwrap(), TEXT);
    assert_eq!(fs::read(folder.join(WEIGHTS)).unwrap(), big());
    assert_eq!(names(folder), ["config.json", "merges.txt", "model.safetensors", "preprocessor_config.json"]);
}

#[test]
fn a_model_comes_into_the_layout_of_the_hubs_own_tools_and_is_found_there_without_a_network() {
    let (hub, cache) = (hub(), tempfile::tempdir().unwrap());
    let folder = fetch(&hub, cache.path()).unwrap();
    assert_is_whole(&folder);
    assert_eq!(folder, repository(cache.path()).join("snapshots").join(COMMIT));
    assert_eq!(fs::read_to_string(repository(cache.path()).join("refs/main")).unwrap(), COMMIT);
    let mut blobs = [git_blob(TEXT), git_blob(b"{}"), git_blob(b"a b"), sha256(&big())];
    blobs.sort();
    assert_eq!(names(&repository(cache.path()).join("blobs")), blobs);
    #[cfg(unix)]
    assert_eq!(fs::read_link(folder.join(WEIGHTS)).unwrap(), Path::new(&format!("../../blobs/{}", sha256(&big()))));
    assert_eq!(fetch_offline(cache.path()).unwrap(), folder);
    // What is there is not asked for again: only the commit, and the files that the repository does not have.
    hub.behave();
    assert_eq!(fetch(&hub, cache.path()).unwrap(), folder);
    let asked = [
        "HEAD /owner/name/resolve/main/config.json ".to_owned(),
        format!("HEAD /owner/name/resolve/{COMMIT}/processor_config.json "),
        format!("HEAD /owner/name/resolve/{COMMIT}/generation_config.json "),
        format!("HEAD /owner/name/resolve/{COMMIT}/tokenizer.json "),
        format!("HEAD /owner/name/resolve/{COMMIT}/vocab.json "),
        format!("HEAD /owner/name/resolve/{COMMIT}/vocab.txt "),
        format!("HEAD /owner/name/resolve/{COMMIT}/tokenizer_config.json "),
        format!("HEAD /owner/name/resolve/{COMMIT}/added_tokens.json "),
    ];
    assert_eq!(hub.requests(), asked);
}

#[test]
fn a_model_of_open_clip_is_described_by_a_file_of_its_own() {
    let files = vec![("open_clip_config.json", TEXT.to_vec(), false), ("open_clip_model.safetensors", big(), true)];
    let (hub, cache) = (Hub::with(files), tempfile::tempdir().unwrap());
    let folder = fetch(&hub, cache.path()).unwrap();
    assert_eq!(names(&folder), ["open_clip_config.json", "open_clip_model.safetensors"]);
    assert_eq!(fs::read(folder.join(OPEN_CLIP_CONFIG)).unwrap(), TEXT);
    assert_eq!(fs::read_to_string(repository(cache.path()).join("refs/main")).unwrap(), COMMIT);
    assert_eq!(fetch_offline(cache.path()).unwrap(), folder);
    // Where there are both, the other one counts.
    let mut both = vec![(CONFIG, TEXT.to_vec(), false), ("open_clip_model.safetensors", big(), true)];
    both.push((OPEN_CLIP_CONFIG, b"{}".to_vec(), false));
    let (hub, cache) = (Hub::with(both), tempfile::tempdir().unwrap());
    assert_eq!(names(&fetch(&hub, cache.path()).unwrap()), ["config.json", "open_clip_model.safetensors"]);
}

#[test]
fn a_branch_that_moved_gives_the_new_version() {
    let (hub, cache) = (hub(), tempfile::tempdir().unwrap());
    let first = fetch(&hub, cache.path()).unwrap();
    {
        let mut state = hub.state.lock().unwrap();
        state.commit = NEXT_COMMIT;
        state.files[0].1 = b"{}\n".to_vec();
    }
    let second = fetch(&hub, cache.path()).unwrap();
    assert_eq!(fs::read(second.join(CONFIG)).unwrap(), b"{}\n");
    assert_eq!(fs::read(first.join(CONFIG)).unwrap(), TEXT);
    assert_eq!(fetch_offline(cache.path()).unwrap(), second);
}

#[test]
fn shards_are_downloaded_by_their_index() {
    let index = r#"{"weight_map":{"a":"1.safetensors","b":"2.safetensors","c":"1.safetensors"}}"#;
    let files = vec![
        (CONFIG, TEXT.to_vec(), false),
        ("model.safetensors.index.json", index.as_bytes().to_vec(), false),
        ("1.safetensors", b"one".to_vec(), true),
        ("2.safetensors", b"two".to_vec(), true),
    ];
    let (hub, cache) = (Hub::with(files), tempfile::tempdir().unwrap());
    let folder = fetch(&hub, cache.path()).unwrap();
    assert_eq!(fs::read_to_string(folder.join("2.safetensors")).unwrap(), "two");
    assert_eq!(fetch_offline(cache.path()).unwrap(), folder);
    hub.state.lock().unwrap().files.pop();
    let text = refusal(&hub);
    assert!(text.starts_with(&format!("owner/name has no file 2.safetensors at {COMMIT}")), "{text}");
}

#[test]
fn an_index_names_files_of_its_own_folder_and_no_more_than_a_model_has() {
    for name in [
        "../x.safetensors",
        "/x.safetensors",
        "a\\x.safetensors",
        "C:x.safetensors",
        "a/b.safetensors",
        "pytorch_model.bin",
        "",
        "\\u0007.safetensors",
    ] {
        assert!(
            shard_names(&format!(r#"{{"weight_map":{{"a":"{}"}}}}"#, name.replace('\\', "\\\\")), ".safetensors")
                .is_err(),
            "{name}"
        );
    }
    assert!(shard_names(r#"{"weight_map":{"a":"\u0007.safetensors"}}"#, ".safetensors").is_err());
    assert!(shard_names(r#"{"weight_map":{}}"#, ".safetensors").is_err());
    assert!(shard_names("{}", ".safetensors").is_err());
    let many = |count: usize| {
        let pairs: Vec<String> = (0..count).map(|at| format!(r#""{at}":"{at}.safetensors""#)).collect();
        shard_names(&format!(r#"{{"weight_map":{{{}}}}}"#, pairs.join(",")), ".safetensors")
    };
    assert_eq!(many(MAX_SHARDS).unwrap().len(), MAX_SHARDS);
    assert!(many(MAX_SHARDS + 1).is_err());
}

#[test]
fn pickles_are_fetched_where_there_are_no_safetensors_and_only_there() {
    let file = |name: &'static str| (name, b"pickle".to_vec(), true);
    let files = vec![(CONFIG, TEXT.to_vec(), false), file("pytorch_model.bin")];
    let (hub, cache) = (Hub::with(files), tempfile::tempdir().unwrap());
    let folder = fetch(&hub, cache.path()).unwrap();
    assert_eq!(names(&folder), ["config.json", "pytorch_model.bin"]);
    assert_eq!(fetch_offline(cache.path()).unwrap(), folder);
    for name in ["model.safetensors", "open_clip_model.safetensors"] {
        let files = vec![(CONFIG, TEXT.to_vec(), false), file("pytorch_model.bin"), file(name)];
        let (hub, cache) = (Hub::with(files), tempfile::tempdir().unwrap());
        assert_eq!(names(&fetch(&hub, cache.path()).unwrap()), ["config.json", name]);
    }
    let index = br#"{"weight_map":{"a":"1.bin","b":"2.bin"}}"#.to_vec();
    let index = ("pytorch_model.bin.index.json", index, false);
    let files = vec![(CONFIG, TEXT.to_vec(), false), index, file("1.bin"), file("2.bin")];
    let (hub, cache) = (Hub::with(files), tempfile::tempdir().unwrap());
    let folder = fetch(&hub, cache.path()).unwrap();
    assert_eq!(names(&folder), ["1.bin", "2.bin", "config.json", "pytorch_model.bin.index.json"]);
    let text = refusal(&Hub::with(vec![(CONFIG, TEXT.to_vec(), false)]));
    assert!(text.starts_with("owner/name has neither model.safetensors nor"), "{text}");
    assert!(text.contains("owner/name@refs/pr/1"), "{text}");
}

#[test]
fn a_revision_is_one_part_of_the_address_and_its_commit_is_noted_as_other_tools_do() {
    let (hub, cache) = (hub(), tempfile::tempdir().unwrap());
    let found = fetch_revision(&hub.address, cache.path(), false, "refs/pr/4").unwrap();
    assert_eq!(found.commit, COMMIT);
    assert_is_whole(&found.folder);
    assert_eq!(hub.requests()[0], "HEAD /owner/name/resolve/refs%2Fpr%2F4/config.json ");
    assert_eq!(fs::read_to_string(repository(cache.path()).join("refs/refs/pr/4")).unwrap(), COMMIT);
    let offline = |revision: &str| fetch_revision("http://127.0.0.1:9", cache.path(), true, revision);
    assert_eq!(offline("refs/pr/4").unwrap(), found);
    assert_eq!(offline(COMMIT).unwrap(), found);
    for revision in ["main", "refs/pr/5", NEXT_COMMIT] {
        let text = describe(&offline(revision).unwrap_err());
        assert!(text.contains("is not in the cache") && text.contains("HF_HUB_OFFLINE"), "{revision}: {text}");
    }
}

#[test]
fn a_commit_is_asked_for_as_it_is() {
    let (hub, cache) = (hub(), tempfile::tempdir().unwrap());
    assert_eq!(fetch_revision(&hub.address, cache.path(), false, COMMIT).unwrap().commit, COMMIT);
    assert!(hub.requests().iter().all(|request| !request.contains("/main/")), "{:?}", hub.requests());
    assert!(!repository(cache.path()).join("refs").exists());
}

#[test]
fn a_revision_that_is_not_there_is_named() {
    let missing = Answer::Status("404 Not Found", "X-Error-Code: RevisionNotFound\r\n");
    let (hub, cache) = (hub().always(To::Metadata, missing), tempfile::tempdir().unwrap());
    let text = describe(&fetch_revision(&hub.address, cache.path(), false, "v9").unwrap_err());
    assert!(text.starts_with("owner/name has no revision v9"), "{text}");
}

#[test]
fn a_model_that_is_not_there_or_not_shown_is_reported_with_what_to_do() {
    insta::assert_snapshot!(refusal(&Hub::with(Vec::new())), @r"
    owner/name has no file config.json at main
      caused by: the server answered 404 Not Found (EntryNotFound): Entry not found
      hint: check the id; HUB/owner/name/tree/main lists the files
    ");
    let repository = Answer::Status("404 Not Found", "X-Error-Code: RepoNotFound\r\n");
    insta::assert_snapshot!(refusal(&hub().always(To::Revision, repository)), @r"
    HUB has no model owner/name
      caused by: the server answered 404 Not Found (RepoNotFound)
      hint: check the id; for a private or gated repository accept its terms on its page and set HF_TOKEN
    ");
    for status in ["401 Unauthorized", "403 Forbidden"] {
        let text = refusal(&hub().always(To::Revision, Answer::Status(status, "")));
        assert!(text.starts_with("no access to config.json of owner/name at HUB"), "{text}");
        assert!(text.contains("set HF_TOKEN (HUB/owner/name)"), "{text}");
        let text = refusal(&hub().always(To::Content, Answer::Status(status, "")));
        assert!(text.starts_with("no access to "), "{text}");
    }
}

#[test]
fn offline_without_a_cached_copy_is_an_error_that_says_so() {
    let cache = tempfile::tempdir().unwrap();
    let text = describe(&fetch_offline(cache.path()).unwrap_err());
    insta::assert_snapshot!(text.replace(&cache.path().display().to_string(), "CACHE"), @r"
    revision main of owner/name is not in the cache CACHE, and HF_HUB_OFFLINE is set
      hint: unset HF_HUB_OFFLINE to download it, or get the repository's files on a machine with a network and give their folder instead of the id
    ");
    let folder = fetch(&hub(), cache.path()).unwrap();
    fs::remove_file(folder.join(WEIGHTS)).unwrap();
    let text = describe(&fetch_offline(cache.path()).unwrap_err());
    assert!(text.starts_with("model.safetensors of owner/name is not in the cache"), "{text}");
}

#[test]
fn without_a_network_the_cached_copy_does_and_what_it_lacks_is_named() {
    let (hub, cache) = (hub(), tempfile::tempdir().unwrap());
    let folder = fetch(&hub, cache.path()).unwrap();
    assert_eq!(fetch_from(&closed_address(), cache.path(), false).unwrap(), folder);
    let trouble = Answer::Status("503 Service Unavailable", "");
    assert_eq!(fetch(&hub.always(To::Revision, trouble), cache.path()).unwrap(), folder);
    fs::remove_file(folder.join(WEIGHTS)).unwrap();
    let address = closed_address();
    let text = describe(&fetch_from(&address, cache.path(), false).unwrap_err());
    assert!(text.starts_with(&format!("cannot reach {address} to get model.safetensors of owner/name")), "{text}");
    let empty = tempfile::tempdir().unwrap();
    let text = describe(&fetch_from(&address, empty.path(), false).unwrap_err());
    assert!(text.starts_with(&format!("cannot reach {address} to get config.json of owner/name")), "{text}");
    assert!(text.contains("hint: check the network; without one, set HF_HUB_OFFLINE=1"), "{text}");
}

/// An answer to HEAD with these headers, which end in `\r\n`.
fn told(headers: &str) -> Answer {
    let answer = format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: 23\r\nConnection: close\r\n\r\n");
    Answer::Raw(Box::leak(answer.into_bytes().into_boxed_slice()))
}

/// All files and folders below.
fn below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        found.extend(below(&path));
        found.push(path);
    }
    found.sort();
    found
}

#[test]
fn headers_of_a_server_never_become_paths() {
    let outside = tempfile::tempdir().unwrap();
    let (cache, out) = (outside.path().join("hub"), outside.path().join("out"));
    fs::write(&out, "my own").unwrap();
    let (hash, out) = (git_blob(TEXT), out.display().to_string());
    let commits = [
        &out,
        "../../../../out",
        "..",
        ".",
        "",
        "main",
        &COMMIT[..39],
        &COMMIT.to_uppercase(),
        &format!("{}/../../x", &COMMIT[..31]),
    ]
    .map(str::to_owned);
    let tags = [
        &out,
        "../../../../out",
        "..",
        "",
        "abc",
        &hash.to_uppercase(),
        &hash[..39],
        &format!("{hash}{hash}"),
        &format!("../{}", &hash[..37]),
        "\u{e9}",
    ]
    .map(str::to_owned);
    for commit in commits {
        let hub = hub().always(To::Revision, told(&format!("ETag: \"{hash}\"\r\nX-Repo-Commit: {commit}\r\n")));
        let text = describe(&fetch(&hub, &cache).unwrap_err());
        assert!(text.contains("does not give the commit of config.json"), "{commit}: {text}");
    }
    for header in ["ETag", "X-Linked-Etag"] {
        for tag in &tags {
            let hub = hub().always(To::Metadata, told(&format!("{header}: \"{tag}\"\r\nX-Repo-Commit: {COMMIT}\r\n")));
            let text = describe(&fetch(&hub, &cache).unwrap_err());
            assert!(text.contains("does not give the hash and the size of config.json"), "{tag}: {text}");
        }
    }
    assert_eq!(below(outside.path()), [PathBuf::from(&out)], "nothing was written");
    assert_eq!(fs::read_to_string(&out).unwrap(), "my own");
}

#[test]
fn texts_that_are_announced_with_more_bytes_than_are_read_are_not_fetched() {
    let hash = git_blob(TEXT);
    for header in ["X-Linked-Size: 67108865", "X-Linked-Size: 18446744073709551615"] {
        let hub = hub().always(To::Metadata, told(&format!("X-Linked-Etag: {hash}\r\n{header}\r\n")));
        let text = refusal(&hub);
        assert!(text.starts_with("config.json of owner/name has "), "{text}");
        assert!(text.contains("expected at most 67108864") && hub.ranges().is_empty(), "{text}");
    }
}

#[test]
fn a_file_that_arrives_damaged_is_fetched_again_and_never_kept() {
    const PAGES: [Answer; 3] = [
        Answer::Damaged,
        Answer::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\n<html>"),
        Answer::Raw(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n6\r\n<html>\r\n0\r\n\r\n",
        ),
    ];
    for answer in PAGES {
        let (hub, cache) = (hub().next(To::Content, [answer]), tempfile::tempdir().unwrap());
        assert_is_whole(&fetch(&hub, cache.path()).unwrap());
        let (hub, cache) = (hub.always(To::Content, answer), tempfile::tempdir().unwrap());
        hub.state.lock().unwrap().files.truncate(1);
        hub.state.lock().unwrap().files.push((WEIGHTS, big(), true));
        let text = describe(&fetch(&hub, cache.path()).unwrap_err());
        assert!(text.contains("sent other content than it announced: expected the hash "), "{text}");
        assert!(names(&repository(cache.path()).join("blobs")).is_empty(), "{answer:?}");
        assert!(!repository(cache.path()).join("snapshots").exists() && fetch_offline(cache.path()).is_err());
        hub.behave();
        fetch(&hub, cache.path()).unwrap();
    }
}

#[test]
fn a_download_that_was_cut_is_resumed() {
    let refused = Answer::Status("403 Forbidden", "");
    let mut state = hub();
    state = state.next(To::Content, [Answer::TooMuch; 3]).next(To::Content, [Answer::Cut(10_000), refused]);
    let cache = tempfile::tempdir().unwrap();
    fetch(&state, cache.path()).unwrap_err();
    state.behave();
    assert_is_whole(&fetch(&state, cache.path()).unwrap());
    assert_eq!(state.ranges(), ["bytes=10000-"]);
}

#[test]
fn too_little_room_is_reported_before_anything_is_fetched() {
    let (hub, cache) = (hub(), tempfile::tempdir().unwrap());
    let tight = Conditions { free_bytes: |_| Some(29_000), ..conditions() };
    let fetched = folder(&id(None), ModelKind::Encoder, &settings(&hub.address, cache.path()), &tight);
    let text = describe(&fetched.unwrap_err());
    assert!(text.contains("downloading owner/name needs 0.00 GB") && hub.ranges().is_empty(), "{text}");
}

#[cfg(unix)]
#[test]
fn a_cached_model_is_used_once_it_was_found_right() {
    let (hub, cache) = (hub(), tempfile::tempdir().unwrap());
    let folder = fetch(&hub, cache.path()).unwrap();
    // As another tool leaves it, which notes nothing of what it checked.
    let notes = repository(cache.path()).join(".caption-train");
    fs::remove_dir_all(&notes).unwrap();
    assert_eq!(fetch_offline(cache.path()).unwrap(), folder);
    assert_eq!(names(&notes).len(), 4);
    let weights = blob(cache.path(), &sha256(&big()));
    let mut damaged = big();
    damaged[29_999] ^= 1;
    for content in [damaged, b"<html>".to_vec(), Vec::new()] {
        fs::write(&weights, &content).unwrap();
        let later = std::time::SystemTime::now() + Duration::from_secs(10);
        fs::File::options().append(true).open(&weights).unwrap().set_modified(later).unwrap();
        for error in
            [fetch_offline(cache.path()), fetch_from(&closed_address(), cache.path(), false)].map(Result::unwrap_err)
        {
            let text = describe(&error);
            let path = weights.canonicalize().unwrap();
            assert!(text.starts_with(&format!("{} is damaged: its hash should be", path.display())), "{text}");
            assert!(text.contains("hint: remove it and run the same command with a network"), "{text}");
        }
        hub.behave();
        assert_is_whole(&fetch(&hub, cache.path()).unwrap());
        assert_eq!(hub.ranges(), [""]);
    }
}

#[test]
fn no_failure_shows_the_password_in_the_address() {
    let secret = |hub: &Hub| hub.address.replace("http://", "http://me:PASSWORD@");
    let misbehaved = [
        hub().always(To::Revision, Answer::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")),
        hub().always(To::Metadata, Answer::Status("401 Unauthorized", "")),
        hub().always(To::Metadata, Answer::Status("302 Found", "Location: /loop?a\r\n")),
        hub().always(To::Metadata, Answer::Status("302 Found", "Location: http://you:PASSWORD@127.0.0.1:9/\r\n")),
        hub().always(To::Revision, Answer::Status("500 Internal Server Error", "")),
        hub().always(To::Content, Answer::Raw(b"")),
        Hub::with(Vec::new()),
        Hub::with(vec![(CONFIG, TEXT.to_vec(), false)]),
    ];
    let addresses: Vec<String> = misbehaved.iter().map(secret).collect();
    for address in addresses.into_iter().chain([closed_address().replace("http://", "http://me:PASSWORD@")]) {
        let cache = tempfile::tempdir().unwrap();
        let text = describe(&fetch_from(&address, cache.path(), false).unwrap_err());
        assert!(text.contains("owner/name") && !text.contains("PASSWORD"), "{text}");
    }
}
