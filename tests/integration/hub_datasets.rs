//! Caption data sets of the Hub by their ids, from a Hub on this machine: prepared by the command, and trained on by their
//! name in a config.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Output;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base::digest::sha256;
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use test_server::Request;

use crate::formats::{picture, report, zip};
use crate::support::{binary, files_below, small_config, stderr};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const CONVERTED: &str = "fedcba9876543210fedcba9876543210fedcba98";
const ROWS: usize = 10;

/// A Parquet file as `datasets` writes it, of row groups of ten pictures and their captions.
fn parquet(groups: std::ops::Range<usize>) -> Vec<u8> {
    let schema = "message schema { optional group image { optional binary bytes; optional binary path (STRING); } \
                  optional binary caption (STRING); }";
    let mut writer =
        SerializedFileWriter::new(Vec::new(), Arc::new(parse_message_type(schema).unwrap()), Arc::default()).unwrap();
    for group in groups {
        let numbers = || group * ROWS..(group + 1) * ROWS;
        let columns: [(Vec<Vec<u8>>, i16); 3] = [
            (numbers().map(picture).collect(), 2),
            (numbers().map(|number| format!("{number}.png").into_bytes()).collect(), 2),
            (numbers().map(|number| format!("Picture {number} of many.").into_bytes()).collect(), 1),
        ];
        let mut rows = writer.next_row_group().unwrap();
        for (values, level) in columns {
            let values: Vec<ByteArray> = values.into_iter().map(ByteArray::from).collect();
            let mut column = rows.next_column().unwrap().unwrap();
            column.typed::<ByteArrayType>().write_batch(&values, Some(&[level; ROWS]), None).unwrap();
            column.close().unwrap();
        }
        rows.close().unwrap();
    }
    writer.into_inner().unwrap()
}

type Files = Vec<(&'static str, Vec<u8>)>;

/// A Hub with the repository `owner/name`.
struct Hub {
    address: String,
    /// Bytes of contents that were sent.
    sent: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Hub {
    /// `converted` are the files of the branch `refs/convert/parquet`, if there are any; `is_cut` says whether the first
    /// large content is cut in its middle.
    fn new(files: Files, converted: Files, is_cut: bool) -> Self {
        let (sent, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (is_cut, counted, asked) = (AtomicBool::new(is_cut), Arc::clone(&sent), Arc::clone(&requests));
        let address = test_server::serve(move |request| {
            asked.lock().unwrap().push(format!("{} {}", request.method, request.path));
            answer(request, [(COMMIT, &files), (CONVERTED, &converted)], &is_cut, &counted)
        });
        Self { address, sent, requests }
    }

    fn sent(&self) -> usize {
        self.sent.swap(0, Ordering::Relaxed)
    }

    fn run(&self, folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
        let mut command = binary();
        command.args(arguments).current_dir(folder).env("HF_ENDPOINT", &self.address);
        command.env("HF_HOME", folder.join("hub")).env_remove("HF_HUB_OFFLINE").env_remove("HF_TOKEN");
        command.envs(variables.iter().copied()).output().unwrap()
    }

    #[track_caller]
    fn prepare(&self, folder: &Path, arguments: &[&str]) -> String {
        let output = self.run(folder, &[&["prepare-data", "--dataset"], arguments].concat(), &[]);
        assert!(output.status.success(), "{}", stderr(&output));
        stderr(&output)
    }
}

fn answer(
    request: &mut Request,
    revisions: [(&str, &Files); 2],
    is_cut: &AtomicBool,
    sent: &AtomicUsize,
) -> io::Result<()> {
    let path = request.path.clone();
    let [(_, _), (_, converted)] = revisions;
    for (name, commit, is_there) in
        [("main", COMMIT, true), ("v1.0", COMMIT, true), ("refs%2Fconvert%2Fparquet", CONVERTED, !converted.is_empty())]
    {
        if path == format!("/api/datasets/owner/name/revision/{name}") && is_there {
            return request.reply("200 OK", "", format!("{{\"sha\":\"{commit}\"}}"));
        }
    }
    let missing = "X-Error-Code: RevisionNotFound\r\n";
    let Some((commit, files)) = revisions.into_iter().find(|(commit, _)| path.contains(commit)) else {
        return request.reply("404 Not Found", missing, "");
    };
    if path == format!("/api/datasets/owner/name/tree/{commit}?recursive=true") {
        let entry = |(name, content): &(&str, Vec<u8>)| {
            let lfs = serde_json::json!({"oid": sha256(content), "size": content.len()});
            serde_json::json!({"type": "file", "path": name, "size": content.len(), "oid": "", "lfs": lfs})
        };
        return request.reply(
            "200 OK",
            "",
            serde_json::to_string(&files.iter().map(entry).collect::<Vec<_>>()).unwrap(),
        );
    }
    let file = files.iter().find(|(name, _)| path == format!("/datasets/owner/name/resolve/{commit}/{name}"));
    let Some((_, body)) = file else { return request.reply("404 Not Found", "X-Error-Code: EntryNotFound\r\n", "") };
    let total = body.len();
    let range = request.range().or(request.range_start().map(|start| (start, total - 1)));
    let part = range.map_or(&body[..], |(first, last)| &body[first..=last]);
    let status = match range {
        Some((first, last)) => format!("206 Partial Content\r\nContent-Range: bytes {first}-{last}/{total}"),
        None => "200 OK".to_owned(),
    };
    let length = part.len();
    request.send(format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let part = if length > 10_000 && is_cut.swap(false, Ordering::Relaxed) { &part[..length / 2] } else { part };
    sent.fetch_add(part.len(), Ordering::Relaxed);
    request.send(part)
}

/// 60 pictures in two splits, and a card.
fn usual() -> Files {
    vec![
        ("README.md", b"---\nlicense: cc-by-4.0\n---\n# Pictures\n".to_vec()),
        ("data/test-00000-of-00001.parquet", parquet(5..6)),
        ("data/train-00000-of-00001.parquet", parquet(0..5)),
    ]
}

#[test]
fn a_data_set_of_parquet_files_is_prepared_by_its_id_and_again_without_a_network() {
    let (folder, hub) = (tempfile::tempdir().unwrap(), Hub::new(usual(), Vec::new(), true));
    let text = hub.prepare(folder.path(), &["owner/name"]);
    assert!(text.contains("the licence of owner/name is cc-by-4.0, as its card says"), "{text}");
    assert!(text.contains("trying again"), "it was cut: {text}");
    let directory = folder.path().join("data/owner/name");
    let found = report(&directory);
    assert_eq!(
        (found.dataset.as_str(), found.images.train + found.images.val, found.images.test),
        ("owner/name", 50, 10)
    );
    let origin = found.origin.unwrap();
    assert_eq!((origin.repository.as_str(), origin.commit.as_str()), ("owner/name", COMMIT));
    assert_eq!((origin.revision.as_deref(), origin.config), (Some("main"), None));
    let files: Vec<(String, String)> = origin.files.into_iter().map(|file| (file.name, file.sha256)).collect();
    let expected: Vec<(String, String)> =
        usual().iter().skip(1).map(|(name, bytes)| ((*name).to_owned(), sha256(bytes))).collect();
    assert_eq!(files, expected);
    // A finished folder asks for nothing, a new one needs no network.
    hub.requests.lock().unwrap().clear();
    assert!(hub.prepare(folder.path(), &["owner/name"]).contains("nothing to do"));
    assert!(hub.requests.lock().unwrap().is_empty());
    let command = ["prepare-data", "--dataset", "owner/name", "--output", "other"];
    let offline = hub.run(folder.path(), &command, &[("HF_HUB_OFFLINE", "1")]);
    assert!(offline.status.success() && hub.requests.lock().unwrap().is_empty(), "{}", stderr(&offline));
    assert_eq!(report(&folder.path().join("other")).dataset_sha256, found.dataset_sha256);
    // Another revision or config is another data set.
    let other = hub.run(folder.path(), &["prepare-data", "--dataset", "owner/name@v1.0"], &[]);
    assert!(stderr(&other).contains(&format!("was prepared from {COMMIT}, not v1.0")), "{}", stderr(&other));
    let other = hub.run(folder.path(), &["prepare-data", "--dataset", "owner/name", "--config-name", "x"], &[]);
    assert!(stderr(&other).contains("was prepared from config default, not config x"), "{}", stderr(&other));
}

#[test]
fn a_limit_downloads_the_row_groups_that_it_needs() {
    let files = vec![("train.parquet", parquet(0..30))];
    let (total, size_of_ten) = (files[0].1.len(), parquet(0..10).len());
    let (folder, hub) = (tempfile::tempdir().unwrap(), Hub::new(files, Vec::new(), false));
    let dry = hub.prepare(folder.path(), &["owner/name", "--limit", "100", "--dry-run"]);
    assert!(dry.contains("train.parquet (the first 100 rows)") && dry.contains("would download"), "{dry}");
    assert!(files_below(folder.path()).is_empty(), "a dry run writes nothing");
    let asked = hub.sent();
    hub.prepare(folder.path(), &["owner/name", "--limit", "100"]);
    let sent = hub.sent();
    // Ten row groups of thirty, and the end of the file, of which the dry run has kept nothing.
    assert!(
        sent < size_of_ten + asked && 2 * size_of_ten < total,
        "{sent} of {total} bytes, {asked} of them of the end"
    );
    let found = report(&folder.path().join("data/owner/name"));
    assert_eq!(found.images.train + found.images.val, 100);
    let origin = found.origin.unwrap();
    assert_eq!(origin.files[0].name, "train.parquet (the first 100 rows)");
    assert_eq!(origin.files[0].sha256, found.sources[0].sha256);
    let stored = files_below(&folder.path().join("data/owner/name/images"));
    for number in [0, 57, 99] {
        let name = format!("{number}.png");
        let path = stored.iter().find(|path| path.file_name().unwrap() == name.as_str()).unwrap();
        assert_eq!(fs::read(path).unwrap(), picture(number));
    }
}

#[test]
fn fewer_images_than_the_limit_and_files_that_are_left_out_are_said() {
    let files = vec![("notes:1.md", b"x".to_vec()), ("train.parquet", parquet(0..30))];
    let (folder, hub) = (tempfile::tempdir().unwrap(), Hub::new(files, Vec::new(), false));
    fs::write(folder.path().join("ids.txt"), "3.png\n").unwrap();
    let text = hub.prepare(folder.path(), &["owner/name", "--limit", "100", "--drop-ids", "ids.txt"]);
    assert!(text.contains("99 images are left of the 100 that `--limit` asks for"), "{text}");
    assert!(text.contains("1 files of owner/name are left out") && text.contains("such as \"notes:1.md\""), "{text}");
    // All 300 rows are here.
    let text = hub.prepare(folder.path(), &["owner/name", "--limit", "999", "--output", "all"]);
    assert!(!text.contains("images are left of the"), "{text}");
}

#[test]
fn what_is_there_says_its_config_and_commit() {
    let card = b"---\nconfigs:\n- config_name: all\n  default: true\n  data_files: data/*\n- config_name: some\n  \
                 data_files: data/test-*\n---\n";
    let mut files = usual();
    files[0].1 = card.to_vec();
    let (folder, hub) = (tempfile::tempdir().unwrap(), Hub::new(files, Vec::new(), false));
    hub.prepare(folder.path(), &["owner/name", "--config-name", "some", "--test-fraction", "0"]);
    let text = hub.prepare(folder.path(), &["owner/name", "--test-fraction", "0"]);
    let expected = format!("from owner/name, main at commit {COMMIT}, config some");
    assert!(text.contains("nothing to do") && text.contains(&expected), "{text}");
    let other = ["prepare-data", "--dataset", "owner/name", "--config-name", "all"];
    let text = stderr(&hub.run(folder.path(), &other, &[]));
    assert!(text.contains("was prepared from config some, not config all"), "{text}");
}

#[test]
fn a_download_of_several_formats_says_how_one_is_chosen() {
    let pictures: Vec<(String, Vec<u8>)> = (0..12).map(|number| (format!("{number}.png"), picture(number))).collect();
    let rows: String = (0..12).map(|number| format!("{number}.png,Picture {number}.\n")).collect();
    let coco = serde_json::json!({
        "images": [{"id": 0, "file_name": "0.png"}],
        "annotations": [{"image_id": 0, "caption": "Picture 0 again."}],
    });
    let files = vec![
        ("captions.csv", format!("image,caption\n{rows}").into_bytes()),
        ("images.zip", zip(&pictures)),
        ("captions.json", coco.to_string().into_bytes()),
    ];
    let (folder, hub) = (tempfile::tempdir().unwrap(), Hub::new(files, Vec::new(), false));
    let text = stderr(&hub.run(folder.path(), &["prepare-data", "--dataset", "owner/name"], &[]));
    assert!(text.contains("several kinds of annotations"), "{text}");
    let (_, command) = text.split_once("read: caption-train ").unwrap();
    let command = command.lines().next().unwrap().replace("FORMAT", "table").replace("DIR", "chosen");
    let arguments: Vec<&str> = command.split(' ').collect();
    let output = hub.run(folder.path(), &arguments, &[]);
    assert!(output.status.success(), "{command}: {}", stderr(&output));
    assert_eq!(report(&folder.path().join("chosen")).format, "table");
}

#[test]
fn archives_and_the_converted_branch_are_prepared_by_id_too() {
    let pictures: Vec<(String, Vec<u8>)> = (0..12).map(|number| (format!("{number}.png"), picture(number))).collect();
    let rows: String = (0..12).map(|number| format!("{number}.png,Picture {number}.\n")).collect();
    let archived =
        || vec![("captions.csv", format!("image,caption\n{rows}").into_bytes()), ("images.zip", zip(&pictures))];
    let folder = tempfile::tempdir().unwrap();
    let text = Hub::new(archived(), Vec::new(), true).prepare(folder.path(), &["owner/name"]);
    assert!(text.contains("the card of owner/name names no licence"), "{text}");
    let found = report(&folder.path().join("data/owner/name"));
    assert_eq!((found.format.as_str(), found.images.train + found.images.val), ("table", 12));
    let converted = || vec![("de/train/0000.parquet", parquet(0..2)), ("en/train/0000.parquet", parquet(2..3))];
    let (folder, hub) = (tempfile::tempdir().unwrap(), Hub::new(archived(), converted(), false));
    let several = hub.run(folder.path(), &["prepare-data", "--dataset", "owner/name"], &[]);
    assert!(several.status.code() == Some(2) && stderr(&several).contains("2 configs: de, en"), "{}", stderr(&several));
    hub.prepare(folder.path(), &["owner/name", "--config-name", "en"]);
    let found = report(&folder.path().join("data/owner/name"));
    let origin = found.origin.unwrap();
    assert_eq!((found.format.as_str(), found.images.train + found.images.val), ("parquet", 10));
    assert_eq!((origin.commit.as_str(), origin.config.as_deref()), (CONVERTED, Some("en")));
    // An option that says nothing is refused.
    let shapes = hub.run(folder.path(), &["prepare-data", "--dataset", "shapes", "--config-name", "x"], &[]);
    assert!(shapes.status.code() == Some(2) && stderr(&shapes).contains("--config-name has no effect"));
    for id in ["./owner/name", "a/b/c", "owner/", "owner/na me"] {
        let refused = hub.run(folder.path(), &["prepare-data", "--dataset", id], &[]);
        assert!(refused.status.code() == Some(2) && stderr(&refused).contains("is not the id of a dataset"), "{id}");
    }
}

#[test]
fn a_run_prepares_the_data_set_of_the_hub_that_its_config_names() {
    let (folder, hub) = (tempfile::tempdir().unwrap(), Hub::new(usual(), Vec::new(), false));
    let config = small_config(&folder.path().join("runs"));
    let directory = config.lines().find(|line| line.starts_with("directory")).unwrap();
    let config = config.replace(directory, "dataset = \"owner/name@v1.0\"\ndirectory = \"pictures\"");
    fs::write(folder.path().join("run.toml"), config).unwrap();
    for _ in 0..2 {
        let output = hub.run(folder.path(), &["--config", "run.toml"], &[]);
        assert!(output.status.success(), "{}", stderr(&output));
    }
    let found = report(&folder.path().join("pictures"));
    assert_eq!((found.dataset.as_str(), found.origin.unwrap().revision.as_deref()), ("owner/name", Some("v1.0")));
    let main = ["--config", "run.toml", "--set", "data.dataset=owner/name@refs/pr/1"];
    let output = hub.run(folder.path(), &main, &[]);
    assert!(stderr(&output).contains(&format!("was prepared from {COMMIT}, not refs/pr/1")), "{}", stderr(&output));
}

#[test]
fn a_repository_that_is_not_there_says_what_to_do() {
    let (folder, hub) = (tempfile::tempdir().unwrap(), Hub::new(usual(), Vec::new(), false));
    let output = hub.run(folder.path(), &["prepare-data", "--dataset", "owner/other"], &[]);
    let text = stderr(&output);
    assert!(output.status.code() == Some(1) && text.contains("owner/other has no revision main"), "{text}");
    let offline = hub.run(folder.path(), &["prepare-data", "--dataset", "owner/name"], &[("HF_HUB_OFFLINE", "1")]);
    let text = stderr(&offline);
    assert!(text.contains("HF_HUB_OFFLINE is set") && text.contains("--dataset owner/name --source FOLDER"), "{text}");
    assert!(!folder.path().join("data").exists());
}
