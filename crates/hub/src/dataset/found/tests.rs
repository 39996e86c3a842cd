//! Data sets whose files are found, from a Hub on this machine.

use std::fs;
use std::path::Path;

use super::*;
use crate::dataset::tests::{fetch, fetch_offline, refusal};
use crate::dataset::{files, plan};
use crate::requests::Files;
use crate::testing::{Answer, BIG, COMMIT, CONVERTED_COMMIT, Hub, READING, SAID, TEXTS, To, conditions, settings};
use base::digest::sha256;
use base::error::describe;
use test_server::closed_address;

const CARD: &str = "README.md";
type File = (&'static str, Vec<u8>, bool);

fn search(config: Option<&'static str>, limit: Option<u64>) -> DatasetRequest<'static> {
    let files = Files::Found(Search { config, limit, reading: &READING });
    let manual = "give a folder with --source";
    DatasetRequest { id: "owner/name", files, revision: None, terms: "", manual, copied_to: None }
}

/// Of so many row groups, each of 1000 bytes.
fn parquet(groups: usize, byte: u8) -> Vec<u8> {
    (0..groups * 1000 + 100).map(|at| (at / 1000) as u8 ^ byte).collect()
}

/// Of texts alone.
fn texts(groups: usize) -> Vec<u8> {
    let mut file = parquet(groups, 0);
    let at = file.len() - 100;
    file[at..at + TEXTS.len()].copy_from_slice(TEXTS);
    file
}

fn small(name: &'static str, content: &str) -> File {
    (name, content.as_bytes().to_vec(), false)
}

/// Two splits and a card.
fn usual() -> Vec<File> {
    vec![
        small(CARD, "---\nlicense: cc-by-4.0\n---\n"),
        ("data/test-00000-of-00001.parquet", parquet(5, 1), true),
        ("data/train-00000-of-00002.parquet", parquet(20, 2), true),
        ("data/train-00001-of-00002.parquet", parquet(20, 3), true),
        small("load.py", "print()"),
    ]
}

/// The files of a folder and those below it, in order.
fn below(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let (path, name) = {
            let entry = entry.unwrap();
            (entry.path(), entry.file_name().into_string().unwrap())
        };
        match path.is_dir() {
            true => found.extend(below(&path).into_iter().map(|inner| format!("{name}/{inner}"))),
            false => found.push(name),
        }
    }
    found.sort();
    found
}

#[test]
fn the_parquet_files_of_a_repository_are_fetched_and_its_licence_is_said() {
    let (hub, cache) = (Hub::with(usual()), tempfile::tempdir().unwrap());
    let fetched = fetch(&hub, cache.path(), &search(None, None)).unwrap();
    let expected: Vec<&str> = usual().iter().map(|file| file.0).filter(|name| name.starts_with("data/")).collect();
    assert_eq!(below(&fetched.folder), expected);
    let train = fetched.folder.join("data/train-00001-of-00002.parquet");
    assert_eq!(fs::read(train).unwrap(), parquet(20, 3));
    assert_eq!((fetched.commit.as_str(), fetched.revision.as_str(), fetched.config.as_deref()), (COMMIT, "main", None));
    assert_eq!(fetched.files[0].sha256, sha256(&parquet(5, 1)));
    assert_eq!(
        SAID.take(),
        [format!("the licence of owner/name is cc-by-4.0, as its card says: see {}/datasets/owner/name", hub.address)]
    );
    assert!(!hub.requests().iter().any(|request| request.contains("load.py") || request.starts_with("HEAD")));
    // What is cached is used, with the network and without.
    hub.behave();
    assert_eq!(fetch(&hub, cache.path(), &search(None, None)).unwrap(), fetched);
    assert_eq!(hub.requests(), ["GET /api/datasets/owner/name/revision/main "]);
    assert_eq!(fetch_offline(cache.path(), &search(None, None)).unwrap(), fetched);
    assert!(SAID.take().is_empty());
}

#[test]
fn the_converted_branch_is_taken_where_there_are_no_parquet_files() {
    let original = || vec![small("captions.csv", "image,caption\n"), (BIG, parquet(3, 9), true)];
    let hub = Hub::with(original());
    hub.state.lock().unwrap().converted =
        vec![("default/test/0000.parquet", parquet(2, 4), true), ("default/train/0000.parquet", parquet(4, 5), true)];
    let cache = tempfile::tempdir().unwrap();
    let fetched = fetch(&hub, cache.path(), &search(None, None)).unwrap();
    assert_eq!((fetched.commit.as_str(), fetched.revision.as_str()), (CONVERTED_COMMIT, "refs/convert/parquet"));
    assert_eq!(below(&fetched.folder), ["default/test/0000.parquet", "default/train/0000.parquet"]);
    assert_eq!(fetch_offline(cache.path(), &search(None, None)).unwrap(), fetched);
    let caches = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    // The converted branch is that of main alone.
    let pinned = DatasetRequest { revision: Some(COMMIT), ..search(None, None) };
    let fetched = fetch(&hub, caches[0].path(), &pinned).unwrap();
    assert_eq!(below(&fetched.folder), ["captions.csv", BIG]);
    // A first part is no data set where the whole one can be read.
    hub.state.lock().unwrap().converted = vec![("default/partial-train/0000.parquet", parquet(4, 5), true)];
    let fetched = fetch(&hub, caches[1].path(), &search(None, None)).unwrap();
    assert_eq!(below(&fetched.folder), ["captions.csv", BIG]);
    // Several configs are folders.
    hub.state.lock().unwrap().converted =
        vec![("de/train/0.parquet", parquet(1, 1), true), ("en/train/0.parquet", parquet(1, 2), true)];
    let text = refusal(&hub, &search(None, None));
    assert!(text.contains("owner/name has 2 configs: de, en") && text.contains("--config-name"), "{text}");
    let cache = tempfile::tempdir().unwrap();
    let fetched = fetch(&hub, cache.path(), &search(Some("en"), None)).unwrap();
    assert_eq!(
        (below(&fetched.folder), fetched.config.as_deref()),
        (vec!["en/train/0.parquet".to_owned()], Some("en"))
    );
}

#[test]
fn a_conversion_without_images_is_not_taken_where_main_has_them() {
    let card = "---\nconfigs:\n- config_name: default\n  data_files: captions.csv\n---\n";
    for card in [small("notes.md", ""), small(CARD, card)] {
        let hub = Hub::with(vec![card, small("captions.csv", "image,caption\n"), (BIG, parquet(3, 9), true)]);
        hub.state.lock().unwrap().converted = vec![("default/train/0000.parquet", texts(4), true)];
        for limit in [None, Some(10)] {
            let cache = tempfile::tempdir().unwrap();
            let fetched = fetch(&hub, cache.path(), &search(None, limit)).unwrap();
            assert_eq!(
                (below(&fetched.folder), fetched.commit.as_str()),
                (vec!["captions.csv".into(), BIG.into()], COMMIT)
            );
            assert_eq!(fetch_offline(cache.path(), &search(None, limit)).unwrap(), fetched);
        }
    }
    let hub = Hub::with(vec![small("captions.csv", "image,caption\n")]);
    hub.state.lock().unwrap().converted = vec![("default/train/0000.parquet", texts(4), true)];
    let fetched = fetch(&hub, tempfile::tempdir().unwrap().path(), &search(None, None)).unwrap();
    assert_eq!(fetched.commit, CONVERTED_COMMIT, "main has no images either");
}

#[test]
fn parquet_files_of_names_bring_the_images_of_the_repository_along() {
    let files = |train| vec![("data/train.parquet", train, true), (BIG, parquet(30, 9), true), small("x.py", "")];
    for (train, expected) in [(texts(4), vec!["data/train.parquet", BIG]), (parquet(4, 1), vec!["data/train.parquet"])]
    {
        let hub = Hub::with(files(train));
        for limit in [None, Some(20)] {
            let cache = tempfile::tempdir().unwrap();
            let fetched = fetch(&hub, cache.path(), &search(None, limit)).unwrap();
            assert_eq!(below(&fetched.folder), expected, "{limit:?}");
            if limit.is_some() {
                assert!(fetched.files.iter().any(|file| file.name.ends_with("(the first 20 rows)")), "{fetched:?}");
            }
            assert_eq!(fetch_offline(cache.path(), &search(None, limit)).unwrap().folder, fetched.folder);
        }
    }
}

#[test]
fn configs_of_the_converted_branch_that_are_not_used_are_not_asked_for() {
    let original = || vec![small("captions.csv", "image,caption\n"), (BIG, parquet(3, 9), true)];
    let hub = Hub::with(original());
    let partial = |content: Vec<u8>| {
        vec![("de/partial-train/0.parquet", content.clone(), true), ("en/partial-train/0.parquet", content, true)]
    };
    for content in [parquet(2, 1), texts(2)] {
        hub.state.lock().unwrap().converted = partial(content);
        let cache = tempfile::tempdir().unwrap();
        let fetched = fetch(&hub, cache.path(), &search(None, None)).unwrap();
        assert_eq!((below(&fetched.folder), fetched.config), (vec!["captions.csv".into(), BIG.into()], None));
    }
    // A first part that is asked for by its config is better than nothing, if it has images.
    let text = refusal(&hub, &search(Some("en"), None));
    assert!(text.contains("has the config en") && text.contains("hint: leave out --config-name"), "{text}");
    hub.state.lock().unwrap().converted = partial(parquet(2, 1));
    let cache = tempfile::tempdir().unwrap();
    let fetched = fetch(&hub, cache.path(), &search(Some("en"), None)).unwrap();
    assert_eq!(below(&fetched.folder), ["en/partial-train/0.parquet"]);
}

#[test]
fn what_is_cached_is_used_where_the_hub_is_not_reached_and_what_is_not_is_an_error_that_says_so() {
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub::with(vec![small("captions.csv", "image,caption\n"), (BIG, parquet(3, 9), true)]);
    let fetched = fetch(&hub, cache.path(), &search(None, None)).unwrap();
    let unreached = || settings(&closed_address(), cache.path());
    assert_eq!(files(&search(None, None), &unreached(), &conditions()).unwrap(), fetched);
    fs::remove_file(repository_path(cache.path(), BIG)).unwrap();
    fs::remove_dir_all(cache.path().join("datasets--owner--name/blobs")).unwrap();
    fs::create_dir(cache.path().join("datasets--owner--name/blobs")).unwrap();
    let text = describe(&files(&search(None, None), &unreached(), &conditions()).unwrap_err());
    assert!(text.contains("is not in the cache") && text.contains("could not answer"), "{text}");
    assert!(text.contains("hint: check the network") && !text.contains("HF_HUB_OFFLINE"), "{text}");
}

#[test]
fn the_card_says_which_files_are_of_which_config_and_split() {
    let card = "---\nconfigs:\n- config_name: a\n  data_files:\n  - split: train\n    path: a-test-*\n  - split: test\n    \
                path: b/*\n- config_name: b\n  data_files: b/*\n---\n";
    let files = || {
        vec![
            small(CARD, card),
            ("a-test-0.parquet", parquet(1, 1), true),
            ("b/one.parquet", parquet(2, 2), true),
            ("b/train.csv", b"x".to_vec(), false),
        ]
    };
    let hub = Hub::with(files());
    let text = refusal(&hub, &search(None, None));
    assert!(text.contains("owner/name has 2 configs: a, b"), "{text}");
    assert!(hub.ranges().iter().all(String::is_empty) && hub.ranges().len() == 1, "the card alone was fetched");
    let cache = tempfile::tempdir().unwrap();
    let fetched = fetch(&hub, cache.path(), &search(Some("a"), None)).unwrap();
    // Names that say another split are replaced, those that say none are put into a folder that does.
    assert_eq!(below(&fetched.folder), ["b/train.csv", "test/b/one.parquet", "train/00000.parquet"]);
    assert_eq!(fs::read(fetched.folder.join("train/00000.parquet")).unwrap(), parquet(1, 1));
    let other = fetch(&hub, cache.path(), &search(Some("b"), None)).unwrap();
    assert_eq!(below(&other.folder), ["b/one.parquet", "b/train.csv"], "a folder has the files of one config alone");
    assert!(refusal(&hub, &search(Some("c"), None)).contains("no config c"));
    let hub = Hub::with(vec![
        small(CARD, "---\nconfigs:\n- data_files:\n    ../x: a.parquet\n---\n"),
        ("a.parquet", parquet(1, 1), true),
    ]);
    assert!(refusal(&hub, &search(None, None)).contains("which cannot be the name of a folder"));
}

#[test]
fn files_whose_splits_give_them_one_place_are_both_kept() {
    let card = "---\nconfigs:\n- data_files:\n  - split: train\n    path:\n    - x.csv\n    - train/x.csv\n    - \
                00003.parquet\n    - a-test.parquet\n  - split: preview\n    path: b-test.parquet\n---\n";
    let hub = Hub::with(vec![
        small(CARD, card),
        ("00003.parquet", parquet(1, 1), true),
        ("a-test.parquet", parquet(1, 2), true),
        ("b-test.parquet", parquet(1, 3), true),
        small("train/x.csv", "second"),
        small("x.csv", "first"),
    ]);
    let cache = tempfile::tempdir().unwrap();
    let folder = fetch(&hub, cache.path(), &search(None, None)).unwrap().folder;
    // A split whose name says nothing leaves a file in the split that its own name says.
    let expected =
        ["b-test.parquet", "train/00000/x.csv", "train/00003.parquet", "train/00003/00003.parquet", "train/x.csv"];
    assert_eq!(below(&folder), expected);
    let read = |name: &str| fs::read(folder.join(name)).unwrap();
    assert_eq!((read("train/00000/x.csv"), read("train/x.csv")), (b"first".to_vec(), b"second".to_vec()));
    assert!(read("train/00003.parquet") == parquet(1, 1) && read("train/00003/00003.parquet") == parquet(1, 2));
}

#[test]
fn archives_captions_and_images_are_fetched_where_nothing_else_is_there_several_at_a_time() {
    const NAMES: [&str; 12] = [
        "i/00.jpg", "i/01.jpg", "i/02.jpg", "i/03.jpg", "i/04.jpg", "i/05.jpg", "i/06.jpg", "i/07.jpg", "i/08.jpg",
        "i/09.jpg", "i/10.jpg", "i/11.jpg",
    ];
    let mut all: Vec<File> = NAMES.iter().map(|name| (*name, name.as_bytes().repeat(500), true)).collect();
    all.extend([small("captions.csv", "image,caption\n"), (BIG, parquet(3, 9), true), small("x.py", "")]);
    let hub = Hub::with(all).always(To::Content, Answer::Trickle(2_000, std::time::Duration::from_millis(250)));
    let cache = tempfile::tempdir().unwrap();
    let start = std::time::Instant::now();
    let fetched = fetch(&hub, cache.path(), &search(None, None)).unwrap();
    // One after the other they take 13 times 500 ms.
    assert!(start.elapsed() < std::time::Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(fetched.files.len(), 14);
    assert_eq!(fs::read(fetched.folder.join("i/07.jpg")).unwrap(), b"i/07.jpg".repeat(500));
    // One that fails ends them all, and the next start fetches what is missing.
    let refused = Answer::Status("403 Forbidden", "");
    hub.behave();
    let hub = hub.next(To::Content, [refused]);
    let cache = tempfile::tempdir().unwrap();
    let text = describe(&fetch(&hub, cache.path(), &search(None, None)).unwrap_err());
    assert!(text.contains("no access to ") && text.contains("set HF_TOKEN"), "{text}");
    hub.behave();
    assert_eq!(
        fetch(&hub, cache.path(), &search(None, None)).unwrap().files,
        fetched
            .files
            .iter()
            .map(|file| {
                let path = repository_path(cache.path(), &file.name);
                crate::requests::DownloadedFile { path, ..file.clone() }
            })
            .collect::<Vec<_>>()
    );
    let text = refusal(&Hub::with(vec![small("x.py", "")]), &search(None, None));
    assert!(text.contains("no Parquet files, archives, captions or images"), "{text}");
}

fn repository_path(cache: &Path, name: &str) -> std::path::PathBuf {
    cache.join("datasets--owner--name/snapshots").join(COMMIT).join(name)
}

/// The bytes of contents that were asked for.
fn asked(hub: &Hub) -> usize {
    let bytes = |range: &String| match range.strip_prefix("bytes=").and_then(|range| range.split_once('-')) {
        Some((first, last)) => last.parse::<usize>().unwrap() + 1 - first.parse::<usize>().unwrap(),
        None => 0,
    };
    hub.ranges().iter().map(bytes).sum()
}

#[test]
fn a_limit_fetches_the_row_groups_that_have_as_many_rows_and_no_others() {
    let (hub, cache) = (Hub::with(usual()), tempfile::tempdir().unwrap());
    // 450 rows, of which 400 are for training: 36 and 5 of 40, so 4 row groups and 1.
    let fetched = fetch(&hub, cache.path(), &search(None, Some(40))).unwrap();
    assert_eq!(below(&fetched.folder), ["data/test-00000-of-00001.parquet", "data/train-00000-of-00002.parquet"]);
    let expected = |groups: usize, byte| [&parquet(groups, byte)[..groups * 1000], b"END"].concat();
    let read = |name: &str| fs::read(fetched.folder.join(name)).unwrap();
    assert!(read("data/train-00000-of-00002.parquet") == [&parquet(20, 2)[..4000], b"END"].concat());
    assert!(read("data/test-00000-of-00001.parquet") == expected(1, 1));
    let mut ranges = hub.ranges();
    ranges.retain(|range| !range.is_empty());
    assert_eq!(ranges, ["bytes=5000-5099", "bytes=20000-20099", "bytes=0-999", "bytes=0-3999"]);
    assert_eq!(asked(&hub), 5_000 + 2 * 100, "of 45300");
    let train = &fetched.files[1];
    assert_eq!(train.name, "data/train-00000-of-00002.parquet (the first 40 rows)");
    assert_eq!(train.sha256, sha256(&read("data/train-00000-of-00002.parquet")));
    // What is there is not fetched again, with the network or without.
    hub.behave();
    assert_eq!(fetch(&hub, cache.path(), &search(None, Some(40))).unwrap(), fetched);
    assert!(hub.ranges().is_empty(), "{:?}", hub.requests());
    assert_eq!(fetch_offline(cache.path(), &search(None, Some(40))).unwrap(), fetched);
    let text = describe(&fetch_offline(cache.path(), &search(None, Some(400))).unwrap_err());
    assert!(text.contains("is not in the cache") && text.contains("HF_HUB_OFFLINE"), "{text}");
    // As many rows as there are: whole files, which have hashes.
    let whole = fetch(&hub, cache.path(), &search(None, Some(450))).unwrap();
    assert_eq!(whole.files.iter().map(|file| file.bytes).sum::<u64>(), 45_300);
}

#[test]
fn a_limit_gives_the_same_data_where_the_whole_files_are_cached() {
    let (hub, caches) = (Hub::with(usual()), [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()]);
    let expected = fetch(&hub, caches[0].path(), &search(None, Some(40))).unwrap();
    fetch(&hub, caches[1].path(), &search(None, None)).unwrap();
    hub.behave();
    let cut = fetch(&hub, caches[1].path(), &search(None, Some(40))).unwrap();
    assert!(hub.ranges().is_empty(), "{:?}", hub.requests());
    let contents = |set: &DownloadedDataset| -> Vec<(String, Vec<u8>)> {
        below(&set.folder).into_iter().map(|name| (name.clone(), fs::read(set.folder.join(name)).unwrap())).collect()
    };
    assert!(contents(&cut) == contents(&expected), "{:?}, expected {:?}", cut.files, expected.files);
    assert_eq!(fetch_offline(caches[1].path(), &search(None, Some(40))).unwrap(), cut);
}

#[test]
fn a_part_that_was_damaged_in_the_cache_is_fetched_again() {
    let only = || vec![("train.parquet", parquet(30, 7), true)];
    let (hub, cache) = (Hub::with(only()), tempfile::tempdir().unwrap());
    let fetched = fetch(&hub, cache.path(), &search(None, Some(100))).unwrap();
    let (part, content) = (&fetched.files[0].path, fs::read(&fetched.files[0].path).unwrap());
    let noted = part.with_extension("sha256");
    let damages: [(&dyn Fn(), &str); 2] = [
        (&|| fs::write(part, vec![0; content.len()]).unwrap(), "is damaged: its hash should be"),
        (&|| fs::remove_file(&noted).unwrap(), "is not in the cache"),
    ];
    for (damage, expected) in damages {
        damage();
        let text = describe(&fetch_offline(cache.path(), &search(None, Some(100))).unwrap_err());
        assert!(text.contains(expected), "{text}");
        hub.behave();
        assert_eq!(fetch(&hub, cache.path(), &search(None, Some(100))).unwrap(), fetched);
        assert_eq!((hub.ranges(), fs::read(part).unwrap()), (vec!["bytes=0-9999".to_owned()], content.clone()));
        assert_eq!(fetch_offline(cache.path(), &search(None, Some(100))).unwrap(), fetched);
    }
    fs::remove_file(part).unwrap();
    let text = describe(&fetch_offline(cache.path(), &search(None, Some(100))).unwrap_err());
    assert!(text.contains("(the first 100 rows) of owner/name is not in the cache"), "{text}");
}

#[test]
fn a_part_of_a_file_is_resumed_too_and_checked_by_what_the_server_says() {
    let only = || vec![("train.parquet", parquet(30, 7), true)];
    let (hub, cache) = (Hub::with(only()), tempfile::tempdir().unwrap());
    let none = Answer::TooMuch;
    let hub = hub.next(
        To::Content,
        [
            none,
            Answer::Cut(1_500),
            Answer::Status("500 Internal Server Error", ""),
            Answer::Cut(100),
            Answer::Status("403 Forbidden", ""),
        ],
    );
    fetch(&hub, cache.path(), &search(None, Some(100))).unwrap_err();
    hub.behave();
    let fetched = fetch(&hub, cache.path(), &search(None, Some(100))).unwrap();
    assert_eq!(hub.ranges(), ["bytes=30000-30099", "bytes=1600-9999"]);
    assert!(fs::read(&fetched.files[0].path).unwrap() == [&parquet(30, 7)[..10_000], b"END"].concat());
    for odd in [Answer::IgnoreRange, Answer::OtherPart(7)] {
        let text = refusal(&Hub::with(only()).always(To::Content, odd), &search(None, Some(100)));
        assert!(text.contains("a part of a file was asked for") && text.contains("hint: "), "{odd:?}: {text}");
    }
}

#[test]
fn a_plan_says_what_would_be_fetched_and_writes_nothing() {
    let (hub, cache) = (Hub::with(usual()), tempfile::tempdir().unwrap());
    let plan_of = |limit| plan(&search(None, limit), &settings(&hub.address, cache.path()), &conditions()).unwrap();
    let whole = plan_of(None);
    assert_eq!(whole.files.iter().map(|file| file.absent_bytes).collect::<Vec<_>>(), [5_100, 20_100, 20_100]);
    assert!(whole.terms.contains("cc-by-4.0") && whole.commit == COMMIT);
    let some = plan_of(Some(40));
    let shown: Vec<(&str, u64)> = some.files.iter().map(|file| (file.name.as_str(), file.absent_bytes)).collect();
    assert_eq!(
        shown,
        [
            ("data/test-00000-of-00001.parquet (the first 10 rows)", 1_000),
            ("data/train-00000-of-00002.parquet (the first 40 rows)", 4_000)
        ]
    );
    assert!(below(cache.path()).is_empty() && SAID.take().is_empty());
    fetch(&hub, cache.path(), &search(None, None)).unwrap();
    assert_eq!(plan_of(None).files.iter().map(|file| file.absent_bytes).sum::<u64>(), 0);
}

#[test]
fn faults_of_the_list_and_of_the_files_are_errors_that_say_what_to_do() {
    let gated = Answer::Status("403 Forbidden", "X-Error-Code: GatedRepo\r\n");
    for to in [To::Revision, To::Listing, To::Content] {
        for (answer, expected) in [
            (
                Answer::Status("401 Unauthorized", ""),
                "accept its terms on its page and set HF_TOKEN (HUB/datasets/owner/name)",
            ),
            (gated, "accept its terms on its page and set HF_TOKEN (HUB/datasets/owner/name)"),
            (Answer::Status("404 Not Found", ""), "hint: "),
            (Answer::Status("429 Too Many Requests", "Retry-After: 9\r\n"), "wait a few minutes"),
            (Answer::Status("500 Internal Server Error", ""), "try again later"),
        ] {
            let hub = Hub::with(usual()).always(to, answer);
            let text = refusal(&hub, &search(None, None));
            assert!(text.contains("owner/name") && text.contains(expected), "{to:?} {answer:?}: {text}");
        }
        let (trouble, limit) = (
            Answer::Status("500 Internal Server Error", ""),
            Answer::Status("429 Too Many Requests", "Retry-After: 1\r\n"),
        );
        let hub = Hub::with(usual()).next(to, [trouble, limit]);
        assert!(fetch(&hub, tempfile::tempdir().unwrap().path(), &search(None, None)).is_ok(), "{to:?}");
    }
    for list in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"[..],
        b"HTTP/1.1 200 OK\r\nContent-Length: 57\r\n\r\n[{\"type\":\"file\",\"path\":\"../x.parquet\",\"oid\":\"\",\"size\":1}]",
        b"HTTP/1.1 200 OK\r\nContent-Length: 58\r\n\r\n[{\"type\":\"file\",\"path\":\"a.parquet\",\"oid\":\"../x\",\"size\":1}]",
    ] {
        let text = refusal(&Hub::with(usual()).always(To::Listing, Answer::Raw(list)), &search(None, None));
        assert!(text.contains("owner/name") && text.contains("hint: "), "{text}");
    }
    let damaged = Hub::with(usual()).always(To::Content, Answer::Damaged);
    let text = refusal(&damaged, &search(None, None));
    assert!(text.contains("other content than it announced"), "{text}");
}

/// An answer with these headers and this list of files.
fn listing(headers: &str, list: &str) -> Answer {
    let answer = format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: {}\r\n\r\n{list}", list.len());
    Answer::Raw(answer.into_bytes().leak())
}

#[test]
fn pages_of_the_list_that_lead_to_each_other_are_left() {
    let folder = r#"[{"type":"directory","path":"a folder"}]"#;
    let to = |page: &str| format!("Link: </api/datasets/owner/name/tree/{COMMIT}{page}>; rel=\"next\"\r\n");
    let itself = listing(&to("?recursive=true"), folder);
    let hub = Hub::with(usual()).always(To::Listing, itself);
    let text = refusal(&hub, &search(None, None));
    assert!(text.contains("lead to each other") && hub.requests().len() == 2, "{text} {:?}", hub.requests());
    let hub = Hub::with(usual()).next(To::Listing, [listing(&to("?page=2"), folder), itself]);
    let text = refusal(&hub, &search(None, None));
    assert!(text.contains("lead to each other") && hub.requests().len() == 3, "{text} {:?}", hub.requests());
}

#[test]
fn a_name_that_not_every_system_allows_leaves_out_one_file_alone() {
    let hash = sha256(&parquet(1, 1));
    let file = |path: &str| format!(r#"{{"type":"file","path":"{path}","oid":"{hash}","size":1100}}"#);
    let list = |other: &str| listing("", &format!("[{},{}]", file(other), file("a.parquet")));
    for other in ["run at 12:30.log", r"a\\b", r"a\u0007"] {
        let hub = Hub::with(vec![("a.parquet", parquet(1, 1), true)]).always(To::Listing, list(other));
        let cache = tempfile::tempdir().unwrap();
        let fetched = fetch(&hub, cache.path(), &search(None, None)).unwrap();
        assert_eq!(below(&fetched.folder), ["a.parquet"], "{other}");
    }
    for other in ["/etc/passwd", "a/../../b", "a//b", ".", ""] {
        let hub = Hub::with(vec![("a.parquet", parquet(1, 1), true)]).always(To::Listing, list(other));
        let text = refusal(&hub, &search(None, None));
        assert!(text.contains("which is no path of a file"), "{other}: {text}");
    }
}

#[cfg(unix)]
#[test]
fn what_another_tool_downloaded_is_used_without_a_network() {
    let cache = tempfile::tempdir().unwrap();
    let text = describe(&fetch_offline(cache.path(), &search(None, None)).unwrap_err());
    assert!(text.contains("revision main of owner/name is not in the cache"), "{text}");
    let folder = cache.path().join("datasets--owner--name");
    for part in ["blobs", "refs", &format!("snapshots/{COMMIT}/data")] {
        fs::create_dir_all(folder.join(part)).unwrap();
    }
    fs::write(folder.join("refs/main"), COMMIT).unwrap();
    let link = |name: &str, content: &[u8]| {
        let blob = folder.join("blobs").join(sha256(content));
        fs::write(&blob, content).unwrap();
        std::os::unix::fs::symlink(blob, folder.join("snapshots").join(COMMIT).join(name)).unwrap();
    };
    link("data/train.parquet", &parquet(5, 1));
    link("data/test.parquet", &parquet(2, 1));
    fs::write(folder.join("snapshots").join(COMMIT).join(CARD), "no card").unwrap();
    let fetched = fetch_offline(cache.path(), &search(None, None)).unwrap();
    assert_eq!(below(&fetched.folder), ["data/test.parquet", "data/train.parquet"]);
    // Such a list is not kept: the Hub may have more files.
    let mut files = usual();
    files[1] = ("data/val.parquet", parquet(5, 1), true);
    let hub = Hub::with(files);
    assert_eq!(fetch(&hub, cache.path(), &search(None, None)).unwrap().files.len(), 3);
    let cache = tempfile::tempdir().unwrap();
    fs::create_dir_all(cache.path().join("datasets--owner--name/refs")).unwrap();
    fs::write(cache.path().join("datasets--owner--name/refs/main"), COMMIT).unwrap();
    let text = describe(&fetch_offline(cache.path(), &search(None, None)).unwrap_err());
    assert!(text.contains("the list of files of owner/name is not in the cache"), "{text}");
}

#[test]
fn too_little_room_for_parts_of_files_is_noticed_before_they_are_fetched() {
    let (hub, cache) = (Hub::with(usual()), tempfile::tempdir().unwrap());
    let tight = Conditions { free_bytes: |_| Some(4_999), ..conditions() };
    let text = describe(&files(&search(None, Some(40)), &settings(&hub.address, cache.path()), &tight).unwrap_err());
    assert!(text.contains("downloading owner/name needs"), "{text}");
    assert!(asked(&hub) == 200 && SAID.take().is_empty());
    let enough = Conditions { free_bytes: |_| Some(5_000), ..conditions() };
    files(&search(None, Some(40)), &settings(&hub.address, cache.path()), &enough).unwrap();
}
