//! Downloads of data sets from a Hub on this machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;
use crate::testing::{
    Answer, BIG, COMMIT, Hub, NEXT_COMMIT, SAID, SMALL, TOKEN, To, big, conditions, git_blob, names, settings,
};
use base::digest::sha256;
use base::error::describe;
use test_server::closed_address;

const TERMS: &str = "for research only";
const MANUAL: &str = "put images.zip into a folder and give it with --source";
const REQUEST: DatasetRequest<'_> = DatasetRequest {
    id: "owner/name",
    files: Files::Named(&[BIG, SMALL]),
    revision: None,
    terms: TERMS,
    manual: MANUAL,
    copied_to: None,
};
/// Only the large file.
const BIG_REQUEST: DatasetRequest<'_> = DatasetRequest { files: Files::Named(&[BIG]), ..REQUEST };

pub(super) fn fetch(hub: &Hub, cache: &Path, request: &DatasetRequest<'_>) -> anyhow::Result<DownloadedDataset> {
    files(request, &settings(&hub.address, cache), &conditions())
}

pub(super) fn fetch_offline(cache: &Path, request: &DatasetRequest<'_>) -> anyhow::Result<DownloadedDataset> {
    files(request, &Settings { offline: true, ..settings("http://127.0.0.1:9", cache) }, &conditions())
}

/// The text of the failure of a download into an empty cache.
pub(super) fn refusal(hub: &Hub, request: &DatasetRequest<'_>) -> String {
    let cache = tempfile::tempdir().unwrap();
    describe(&fetch(hub, cache.path(), request).unwrap_err()).replace(&hub.address, "HUB")
}

fn repository(cache: &Path) -> PathBuf {
    cache.join("datasets--owner--name")
}

fn assert_is_big(fetched: &DownloadedDataset) {
    assert_eq!(fs::read(&fetched.files[0].path).unwrap(), big());
    assert_eq!((fetched.files[0].bytes, &fetched.files[0].sha256), (30_000, &sha256(&big())));
}

#[test]
fn files_come_into_the_layout_of_the_hubs_own_tools() {
    let (hub, cache) = (Hub::new(), tempfile::tempdir().unwrap());
    let fetched = fetch(&hub, cache.path(), &REQUEST).unwrap();
    assert_is_big(&fetched);
    let small = &fetched.files[1];
    let text = fs::read(&small.path).unwrap();
    assert_eq!((small.name.as_str(), small.bytes, &small.sha256), (SMALL, 15, &sha256(&text)));
    let folder = repository(cache.path());
    assert_eq!((fetched.commit.as_str(), &fetched.folder), (COMMIT, &folder.join("snapshots").join(COMMIT)));
    assert_eq!(small.path, fetched.folder.join("data").join("captions.json"));
    let mut hashes = [sha256(&big()), git_blob(&text)];
    hashes.sort();
    assert_eq!(names(&folder.join("blobs")), hashes);
    assert_eq!(fs::read_to_string(folder.join("refs/main")).unwrap(), COMMIT);
    #[cfg(unix)]
    {
        let target = |name: &str| fs::read_link(fetched.folder.join(name)).unwrap();
        assert_eq!(target(BIG), Path::new(&format!("../../blobs/{}", sha256(&big()))));
        assert_eq!(target(SMALL), Path::new(&format!("../../../blobs/{}", git_blob(&text))));
    }
}

#[test]
fn when_all_is_cached_the_commit_alone_is_asked_for_and_no_terms_are_said() {
    let (hub, cache) = (Hub::new(), tempfile::tempdir().unwrap());
    let first = fetch(&hub, cache.path(), &REQUEST).unwrap();
    assert_eq!(SAID.take(), [TERMS]);
    hub.behave();
    assert_eq!(fetch(&hub, cache.path(), &REQUEST).unwrap(), first);
    assert_eq!(hub.requests(), ["GET /api/datasets/owner/name/revision/main "]);
    assert!(SAID.take().is_empty());
}

/// A file as the Hub's other tools leave it in the cache.
#[cfg(unix)]
fn put(cache: &Path, content: &[u8], hash: &str) {
    let folder = repository(cache);
    for part in ["blobs", "refs", &format!("snapshots/{COMMIT}")] {
        fs::create_dir_all(folder.join(part)).unwrap();
    }
    fs::write(folder.join("refs/main"), COMMIT).unwrap();
    fs::write(folder.join("blobs").join(hash), content).unwrap();
    let link = folder.join("snapshots").join(COMMIT).join(BIG);
    std::os::unix::fs::symlink(format!("../../blobs/{hash}"), link).unwrap();
}

#[cfg(unix)]
#[test]
fn a_file_that_another_tool_fetched_is_used_once_it_was_found_right() {
    let (hub, cache) = (Hub::new(), tempfile::tempdir().unwrap());
    put(cache.path(), &big(), &sha256(&big()));
    assert_is_big(&fetch(&hub, cache.path(), &BIG_REQUEST).unwrap());
    assert_eq!(hub.requests().len(), 1, "{:?}", hub.requests());
}

#[cfg(unix)]
#[test]
fn a_cached_file_that_is_damaged_is_fetched_anew_and_without_a_network_is_an_error() {
    let (hub, cache) = (Hub::new(), tempfile::tempdir().unwrap());
    put(cache.path(), b"damaged", &sha256(&big()));
    let text = describe(&fetch_offline(cache.path(), &BIG_REQUEST).unwrap_err());
    assert!(text.contains(&format!("should be {} but is {}", sha256(&big()), sha256(b"damaged"))), "{text}");
    assert_is_big(&fetch(&hub, cache.path(), &BIG_REQUEST).unwrap());
    assert_eq!(hub.ranges(), [""]);
}

#[test]
fn a_file_that_changes_after_it_was_found_right_is_found_wrong() {
    let (hub, cache) = (Hub::new(), tempfile::tempdir().unwrap());
    fetch(&hub, cache.path(), &BIG_REQUEST).unwrap();
    let blob = repository(cache.path()).join("blobs").join(sha256(&big()));
    let mut changed = big();
    changed[7] ^= 1;
    fs::write(&blob, changed).unwrap();
    // The system's clock may not have moved on since the file was fetched.
    let later = std::time::SystemTime::now() + Duration::from_secs(10);
    fs::File::options().append(true).open(&blob).unwrap().set_modified(later).unwrap();
    hub.behave();
    assert_is_big(&fetch(&hub, cache.path(), &BIG_REQUEST).unwrap());
    assert_eq!(hub.ranges(), [""]);
}

#[test]
fn files_that_are_not_links_are_used_too() {
    let (hub, cache) = (Hub::new(), tempfile::tempdir().unwrap());
    let folder = repository(cache.path());
    let path = folder.join("snapshots").join(COMMIT).join(BIG);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::create_dir_all(folder.join("refs")).unwrap();
    fs::write(folder.join("refs/main"), COMMIT).unwrap();
    fs::write(&path, big()).unwrap();
    assert_is_big(&fetch(&hub, cache.path(), &BIG_REQUEST).unwrap());
    assert_is_big(&fetch_offline(cache.path(), &BIG_REQUEST).unwrap());
    assert!(hub.ranges().is_empty());
    fs::write(&path, b"something else").unwrap();
    assert_is_big(&fetch(&hub, cache.path(), &BIG_REQUEST).unwrap());
}

#[test]
fn a_connection_that_is_cut_again_and_again_resumes_from_where_it_was() {
    // More often than there are retries: each of them makes progress.
    let cuts = [Answer::Cut(5_000), Answer::Cut(1), Answer::CutWithoutLength(4_999), Answer::Cut(0)];
    let hub = Hub::new().next(To::Content, cuts).next(To::Content, [Answer::Cut(5_000); 3]);
    let cache = tempfile::tempdir().unwrap();
    assert_is_big(&fetch(&hub, cache.path(), &BIG_REQUEST).unwrap());
    let ranges = ["", "bytes=5000-", "bytes=5001-", "bytes=10000-", "bytes=10000-", "bytes=15000-"];
    assert_eq!(hub.ranges()[..6], ranges);
    assert_eq!(hub.ranges()[6..], ["bytes=20000-", "bytes=25000-"]);
    assert_eq!(names(&repository(cache.path()).join("blobs")), [sha256(&big())]);
}

/// A cache with the first 10000 bytes of the large file.
fn interrupted() -> (Hub, tempfile::TempDir) {
    let refused = Answer::Status("403 Forbidden", "");
    let hub = Hub::new().next(To::Content, [Answer::Cut(10_000), refused]);
    let cache = tempfile::tempdir().unwrap();
    fetch(&hub, cache.path(), &BIG_REQUEST).unwrap_err();
    let partial = format!("{}.incomplete", sha256(&big()));
    assert_eq!(names(&repository(cache.path()).join("blobs")), [partial]);
    assert!(!repository(cache.path()).join("refs/main").exists());
    hub.behave();
    (hub, cache)
}

#[test]
fn a_second_start_resumes_from_where_the_first_one_ended() {
    let (hub, cache) = interrupted();
    assert_is_big(&fetch(&hub, cache.path(), &BIG_REQUEST).unwrap());
    assert_eq!(hub.ranges(), ["bytes=10000-"]);
}

#[test]
fn a_part_that_was_spoiled_meanwhile_is_fetched_anew() {
    for spoiled in [vec![0; 10_000], vec![0; 30_000], vec![0; 40_000]] {
        let (hub, cache) = interrupted();
        let partial = repository(cache.path()).join("blobs").join(format!("{}.incomplete", sha256(&big())));
        fs::write(partial, spoiled).unwrap();
        assert_is_big(&fetch(&hub, cache.path(), &BIG_REQUEST).unwrap());
        assert_eq!(hub.ranges().last().unwrap(), "");
    }
}

#[test]
fn a_server_that_knows_no_ranges_is_begun_anew_with() {
    for (answer, ranges) in [
        (Answer::IgnoreRange, vec!["bytes=10000-"]),
        (Answer::Status("416 Range Not Satisfiable", ""), vec!["bytes=10000-", ""]),
        (Answer::OtherPart(7), vec!["bytes=10000-", ""]),
    ] {
        let (hub, cache) = interrupted();
        let hub = hub.next(To::Content, [answer]);
        assert_is_big(&fetch(&hub, cache.path(), &BIG_REQUEST).unwrap());
        assert_eq!(hub.ranges(), ranges, "{answer:?}");
    }
}

#[test]
fn a_server_that_always_begins_anew_and_never_ends_is_given_up() {
    let hub = Hub::new().always(To::Content, Answer::IgnoreRangeAndCut(1000));
    let text = refusal(&hub, &BIG_REQUEST);
    assert_eq!(hub.ranges().len(), 4, "none of the retries came further than the first try");
    assert!(
        text.starts_with("cannot get images.zip of owner/name from HUB") && text.contains("to resume the download"),
        "{text}"
    );
}

#[test]
fn a_file_that_arrives_damaged_once_is_fetched_anew() {
    let hub = Hub::new().next(To::Content, [Answer::Damaged]);
    let cache = tempfile::tempdir().unwrap();
    assert_is_big(&fetch(&hub, cache.path(), &BIG_REQUEST).unwrap());
    assert_eq!(hub.ranges(), ["", ""]);
}

#[test]
fn a_file_that_always_arrives_damaged_is_an_error_and_is_not_kept() {
    for (name, expected) in [(BIG, sha256(&big())), (SMALL, git_blob(b"{\"images\": []}\n"))] {
        let hub = Hub::new().always(To::Content, Answer::Damaged);
        let cache = tempfile::tempdir().unwrap();
        let request = DatasetRequest { files: Files::Named(&[name]), ..REQUEST };
        let text = describe(&fetch(&hub, cache.path(), &request).unwrap_err());
        assert!(text.contains(&format!("expected the hash {expected}, found ")), "{text}");
        assert_eq!(hub.ranges().len(), 2);
        assert!(names(&repository(cache.path()).join("blobs")).is_empty());
        assert!(!repository(cache.path()).join("snapshots").exists());
    }
}

#[test]
fn bytes_after_the_end_are_not_kept() {
    let hub = Hub::new().next(To::Content, [Answer::TooMuch]);
    let cache = tempfile::tempdir().unwrap();
    assert_is_big(&fetch(&hub, cache.path(), &BIG_REQUEST).unwrap());
}

#[test]
fn an_empty_file_is_a_file() {
    let hub = Hub::new();
    hub.state.lock().unwrap().files.push(("empty", Vec::new(), false));
    let cache = tempfile::tempdir().unwrap();
    let fetched = fetch(&hub, cache.path(), &DatasetRequest { files: Files::Named(&["empty"]), ..REQUEST }).unwrap();
    assert_eq!((fetched.files[0].bytes, &fetched.files[0].sha256), (0, &sha256(b"")));
    assert!(fetched.files[0].path.is_file());
}

#[test]
fn what_is_not_shown_is_an_error_that_says_how_to_get_it() {
    let hub = Hub::new().always(To::Revision, Answer::Status("401 Unauthorized", "X-Error-Code: RepoNotFound\r\n"));
    insta::assert_snapshot!(refusal(&hub, &REQUEST), @r"
    no access to the dataset owner/name at HUB
      caused by: the server answered 401 Unauthorized (RepoNotFound)
      hint: check the id; for a private or gated repository accept its terms on its page and set HF_TOKEN (HUB/datasets/owner/name)
    ");
    let gated = "X-Error-Code: GatedRepo\r\nX-Error-Message: Access to it is restricted\r\n";
    let hub = Hub::new().always(To::Metadata, Answer::Status("403 Forbidden", gated));
    insta::assert_snapshot!(refusal(&hub, &REQUEST), @r"
    no access to images.zip of owner/name at HUB
      caused by: the server answered 403 Forbidden (GatedRepo): Access to it is restricted
      hint: check the id; for a private or gated repository accept its terms on its page and set HF_TOKEN (HUB/datasets/owner/name)
    ");
    assert_eq!(hub.requests().len(), 2, "it is not tried again");
}

#[test]
fn a_repository_a_revision_and_a_file_that_are_not_there_are_distinguished() {
    let repository = Answer::Status("404 Not Found", "X-Error-Code: RepoNotFound\r\n");
    insta::assert_snapshot!(refusal(&Hub::new().always(To::Revision, repository), &REQUEST), @r"
    HUB has no dataset owner/name
      caused by: the server answered 404 Not Found (RepoNotFound)
      hint: check the id; for a private or gated repository accept its terms on its page and set HF_TOKEN
    ");
    let revision = Answer::Status("404 Not Found", "X-Error-Code: RevisionNotFound\r\n");
    let other = DatasetRequest { revision: Some("v2"), ..REQUEST };
    insta::assert_snapshot!(refusal(&Hub::new().always(To::Revision, revision), &other), @r"
    owner/name has no revision v2
      caused by: the server answered 404 Not Found (RevisionNotFound)
      hint: a revision is a branch, a tag or the full hash of a commit; see HUB/datasets/owner/name
    ");
    let absent = DatasetRequest { files: Files::Named(&[BIG, "absent.zip"]), ..REQUEST };
    let hub = Hub::new();
    insta::assert_snapshot!(refusal(&hub, &absent), @r"
    owner/name has no file absent.zip at 0123456789abcdef0123456789abcdef01234567
      caused by: the server answered 404 Not Found (EntryNotFound): Entry not found
      hint: check the id; HUB/datasets/owner/name/tree/0123456789abcdef0123456789abcdef01234567 lists the files
    ");
    assert!(hub.ranges().is_empty(), "nothing is fetched before all files are known to be there");
    let pinned = DatasetRequest { revision: Some(COMMIT), ..REQUEST };
    let text = refusal(&Hub::new().always(To::Metadata, revision), &pinned);
    assert!(text.starts_with(&format!("owner/name has no revision {COMMIT}")), "{text}");
}

#[test]
fn too_many_requests_are_waited_out_as_long_as_the_server_asks() {
    let wait = Answer::Status("429 Too Many Requests", "Retry-After: 1\r\n");
    let limit = Answer::Status("429 Too Many Requests", "RateLimit: \"api\";r=0;t=1\r\n");
    let hub = Hub::new().next(To::Revision, [limit]).next(To::Content, [wait]);
    let cache = tempfile::tempdir().unwrap();
    assert_is_big(&fetch(&hub, cache.path(), &BIG_REQUEST).unwrap());
    let hub =
        Hub::new().always(To::Revision, Answer::Status("429 Too Many Requests", "RateLimit: \"api\";r=0;t=9\r\n"));
    let text = refusal(&hub, &REQUEST);
    assert!(text.contains("it asks to wait 9s") && text.contains("hint: wait a few minutes"), "{text}");
    assert_eq!(hub.requests().len(), 1, "a wait that is too long is not begun");
}

#[test]
fn trouble_of_the_server_is_tried_again_until_it_stays() {
    let (trouble, gone) =
        (Answer::Status("500 Internal Server Error", ""), Answer::Status("503 Service Unavailable", ""));
    let answers = [trouble, gone, trouble];
    let hub = Hub::new().next(To::Revision, answers).next(To::Metadata, answers).next(To::Content, answers);
    let cache = tempfile::tempdir().unwrap();
    assert_is_big(&fetch(&hub, cache.path(), &BIG_REQUEST).unwrap());
    for to in [To::Revision, To::Metadata, To::Content] {
        let hub = Hub::new().always(to, trouble);
        let text = refusal(&hub, &BIG_REQUEST);
        assert!(text.contains("caused by: the server answered 500 Internal Server Error"), "{text}");
        assert!(text.contains(&format!("hint: try again later, or {MANUAL}")), "{text}");
    }
}

#[test]
fn a_server_that_is_slow_but_alive_is_waited_for() {
    let hub = Hub::new().always(To::Content, Answer::Trickle(2_500, Duration::from_millis(200)));
    let cache = tempfile::tempdir().unwrap();
    let mut conditions = conditions();
    conditions.patience.silence = Duration::from_secs(2);
    let fetched = files(&BIG_REQUEST, &settings(&hub.address, cache.path()), &conditions).unwrap();
    assert_is_big(&fetched);
    assert_eq!(hub.ranges(), [""], "the answer took longer than a silence may");
}

#[test]
fn a_connection_that_has_gone_silent_counts_as_cut() {
    let hub = Hub::new().next(To::Content, [Answer::Stall(6_000)]);
    let cache = tempfile::tempdir().unwrap();
    let mut conditions = conditions();
    conditions.patience.silence = Duration::from_millis(700);
    assert_is_big(&files(&BIG_REQUEST, &settings(&hub.address, cache.path()), &conditions).unwrap());
    assert_eq!(hub.ranges(), ["", "bytes=6000-"]);
}

#[test]
fn a_pinned_commit_is_asked_for_by_itself_and_once_cached_nothing_is() {
    let (hub, cache) = (Hub::new(), tempfile::tempdir().unwrap());
    let pinned = DatasetRequest { revision: Some(COMMIT), ..REQUEST };
    let fetched = fetch(&hub, cache.path(), &pinned).unwrap();
    assert_eq!(fetched.commit, COMMIT);
    assert!(hub.requests().iter().all(|request| !request.contains("/revision/")), "{:?}", hub.requests());
    assert!(!repository(cache.path()).join("refs").exists());
    hub.behave();
    assert_eq!(fetch(&hub, cache.path(), &pinned).unwrap(), fetched);
    assert!(hub.requests().is_empty());
}

#[test]
fn a_branch_that_moved_gives_the_new_commit_and_fetches_what_changed() {
    let (hub, cache) = (Hub::new(), tempfile::tempdir().unwrap());
    let first = fetch(&hub, cache.path(), &REQUEST).unwrap();
    hub.behave();
    {
        let mut state = hub.state.lock().unwrap();
        state.commit = NEXT_COMMIT;
        state.files[1].1 = b"{}\n".to_vec();
    }
    let second = fetch(&hub, cache.path(), &REQUEST).unwrap();
    assert_eq!((second.commit.as_str(), hub.ranges().len()), (NEXT_COMMIT, 1));
    assert_is_big(&second);
    assert_eq!(fs::read_to_string(&second.files[1].path).unwrap(), "{}\n");
    assert_eq!(fs::read_to_string(&first.files[1].path).unwrap(), "{\"images\": []}\n");
    assert_eq!(fetch_offline(cache.path(), &REQUEST).unwrap(), second);
    let pinned = DatasetRequest { revision: Some(COMMIT), ..REQUEST };
    let again = fetch_offline(cache.path(), &pinned).unwrap();
    assert_eq!((again.revision.as_str(), again.files), (COMMIT, first.files));
}

#[test]
fn a_branch_with_a_slash_is_one_part_of_the_address() {
    let (hub, cache) = (Hub::new(), tempfile::tempdir().unwrap());
    let request = DatasetRequest { revision: Some("refs/pr/1"), ..BIG_REQUEST };
    let fetched = fetch(&hub, cache.path(), &request).unwrap();
    assert!(hub.requests()[0].starts_with("GET /api/datasets/owner/name/revision/refs%2Fpr%2F1"));
    assert_eq!(fetch_offline(cache.path(), &request).unwrap(), fetched);
}

#[test]
fn offline_without_the_files_is_an_error_that_says_the_other_way() {
    let cache = tempfile::tempdir().unwrap();
    let text = |request: &DatasetRequest<'_>| {
        describe(&fetch_offline(cache.path(), request).unwrap_err())
            .replace(&cache.path().display().to_string(), "CACHE")
    };
    insta::assert_snapshot!(text(&REQUEST), @r"
    revision main of owner/name is not in the cache CACHE, and HF_HUB_OFFLINE is set
      hint: unset HF_HUB_OFFLINE to download it, or put images.zip into a folder and give it with --source
    ");
    fetch(&Hub::new(), cache.path(), &BIG_REQUEST).unwrap();
    insta::assert_snapshot!(text(&REQUEST), @r"
    data/captions.json of owner/name is not in the cache CACHE, and HF_HUB_OFFLINE is set
      hint: unset HF_HUB_OFFLINE to download it, or put images.zip into a folder and give it with --source
    ");
    assert_is_big(&fetch_offline(cache.path(), &BIG_REQUEST).unwrap());
}

#[test]
fn a_hub_that_cannot_be_reached_is_named_with_the_other_way() {
    let cache = tempfile::tempdir().unwrap();
    let closed = closed_address();
    let settings = settings(&closed.replace("http://", "http://me:password@"), cache.path());
    let text = describe(&files(&REQUEST, &settings, &conditions()).unwrap_err());
    assert!(text.starts_with(&format!("cannot reach {closed} to get the dataset owner/name")), "{text}");
    assert!(text.contains("hint: check the network") && text.contains(MANUAL) && !text.contains("password"), "{text}");
}

#[test]
fn the_token_goes_to_the_hub_and_not_to_its_storage() {
    let (hub, cache) = (Hub::new(), tempfile::tempdir().unwrap());
    let conditions = Conditions { token: Some(TOKEN.to_owned()), ..conditions() };
    files(&BIG_REQUEST, &settings(&hub.address, cache.path()), &conditions).unwrap();
    let requests = hub.requests();
    let (with, without): (Vec<&String>, Vec<&String>) =
        requests.iter().partition(|request| request.ends_with(" with token"));
    assert!(with.len() == 3 && with.iter().all(|request| !request.contains("/stored/")), "{requests:?}");
    assert_eq!(without, ["GET /stored/images.zip "]);
}

#[test]
fn too_little_room_is_reported_before_anything_is_fetched_and_what_is_there_counts() {
    let (hub, cache) = interrupted();
    let settings = settings(&hub.address, cache.path());
    let tight = Conditions { free_bytes: |_| Some(19_999), ..conditions() };
    let text = describe(&files(&BIG_REQUEST, &settings, &tight).unwrap_err());
    assert!(text.contains("downloading owner/name needs 0.00 GB, but only 0.00 GB are free in "), "{text}");
    assert!(text.contains("hint: free some space, or set HF_HUB_CACHE"), "{text}");
    assert!(hub.ranges().is_empty() && SAID.take() == [TERMS], "only the first start printed the terms");
    let enough = Conditions { free_bytes: |_| Some(20_000), ..conditions() };
    assert_is_big(&files(&BIG_REQUEST, &settings, &enough).unwrap());
}

#[test]
fn there_must_be_room_for_what_is_made_of_the_files_too() {
    let (hub, cache) = (Hub::new(), tempfile::tempdir().unwrap());
    let settings = settings(&hub.address, cache.path());
    let output = cache.path().join("data/set");
    let request = DatasetRequest { copied_to: Some(&output), ..BIG_REQUEST };
    // Enough for the file, and not for its images beside it.
    let tight = Conditions { free_bytes: |_| Some(2 * big().len() as u64 - 1), ..conditions() };
    let text = describe(&files(&request, &settings, &tight).unwrap_err());
    assert!(text.contains(&format!("in {} in addition to a download of 0.00 GB", output.display())), "{text}");
    assert!(text.contains("--resize SHORT_SIDE") && hub.ranges().is_empty() && SAID.take().is_empty(), "{text}");
    let enough = Conditions { free_bytes: |_| Some(2 * big().len() as u64), ..conditions() };
    assert_is_big(&files(&request, &settings, &enough).unwrap());
}

#[test]
fn a_cache_that_cannot_be_written_is_reported() {
    let cache = tempfile::NamedTempFile::new().unwrap();
    let text = describe(&fetch(&Hub::new(), cache.path(), &REQUEST).unwrap_err());
    assert!(text.starts_with("cannot ") && text.contains("hint: check free space and permissions in "), "{text}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_fills_up_meanwhile_is_reported_and_is_not_tried_again() {
    let (hub, cache) = (Hub::new(), tempfile::tempdir().unwrap());
    let blobs = repository(cache.path()).join("blobs");
    fs::create_dir_all(&blobs).unwrap();
    std::os::unix::fs::symlink("/dev/full", blobs.join(format!("{}.incomplete", sha256(&big())))).unwrap();
    let text = describe(&fetch(&hub, cache.path(), &BIG_REQUEST).unwrap_err());
    assert!(text.starts_with("cannot write ") && text.contains("caused by: No space left on device"), "{text}");
    assert!(text.contains("hint: check free space and permissions in "), "{text}");
    assert_eq!(hub.ranges(), [""]);
}

#[test]
fn two_at_once_fetch_a_file_once() {
    let hub = Hub::new().always(To::Content, Answer::Trickle(3_000, Duration::from_millis(20)));
    let cache = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| assert_is_big(&fetch(&hub, cache.path(), &BIG_REQUEST).unwrap()));
        }
    });
    assert_eq!(hub.ranges(), [""]);
}

#[test]
fn no_answer_of_a_server_is_taken_for_what_it_is_not() {
    const ODD: [Answer; 12] = [
        Answer::Raw(b""),
        Answer::Raw(b"\0\0\0\0"),
        Answer::Raw(b"HTTP/1.1 200 OK\r\n\r\n"),
        Answer::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n<ht>"),
        Answer::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n{\"sha\":\"../../x\"}"),
        Answer::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\nETag: \"../../x\"\r\n\r\n"),
        Answer::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"),
        Answer::Raw(b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes x-y/z\r\nContent-Length: 0\r\n\r\n"),
        Answer::Raw(b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 5-9/10\r\nContent-Length: 0\r\n\r\n"),
        Answer::Raw(b"HTTP/1.1 204 No Content\r\n\r\n"),
        Answer::Raw(b"HTTP/1.1 302 Found\r\nLocation: /loop\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
        Answer::Raw(b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n"),
    ];
    let (hub, cache) = (Hub::new(), tempfile::tempdir().unwrap());
    let settings = settings(&hub.address, cache.path());
    for to in [To::Revision, To::Metadata, To::Content] {
        for answer in ODD {
            hub.behave();
            hub.state.lock().unwrap().faults.always(to, answer);
            let text = describe(&files(&BIG_REQUEST, &settings, &conditions()).unwrap_err());
            assert!(text.contains("owner/name") && text.contains("hint: "), "{to:?} {answer:?}: {text}");
            assert!(names(cache.path()).iter().all(|name| name == ".locks" || name == "datasets--owner--name"));
            let blobs = names(&repository(cache.path()).join("blobs"));
            assert!(blobs.iter().all(|name| name.ends_with(".incomplete")), "{to:?} {answer:?}: {blobs:?}");
        }
    }
    hub.behave();
    assert_is_big(&files(&BIG_REQUEST, &settings, &conditions()).unwrap());
}

#[test]
fn words_of_a_server_stay_on_their_line() {
    let body = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 34\r\n\r\n{\"error\": \"no\\n\\u001b[2Jhint: run me\"}";
    let text = refusal(&Hub::new().always(To::Revision, Answer::Raw(body)), &REQUEST);
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(!text.contains('\u{1b}'), "{text:?}");
}
