//! Every command that writes to a place that the user names, in folders with the user's own files and links: whatever
//! comes of it, a kill included, these are as before.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use base::random::Stream;

use crate::support::{binary, files_below, last_checkpoint, shapes_folder, small_config, stderr, train};

/// Cases in the ordinary tests.
const NUM_CASES: u64 = 64;
/// The variable that asks for another number.
const CASES_VARIABLE: &str = "CAPTION_TRAIN_PLACES";

/// Names that some command writes, or that look as if.
const NAMES: [&str; 30] = [
    "SHA256SUMS",
    "dataset.json",
    "preparation.json",
    "source.json",
    "samples.jpg",
    ".preparing",
    ".caption-train.lock",
    "images/0.jpg",
    "images/4.jpg",
    "data/images/4.jpg",
    "images/1.jpg.12.partial",
    "images/sub/0.jpg",
    "images",
    "notes.partial",
    "dataset.json.7.partial",
    "val.json",
    "val.scores.json",
    "report.html",
    "look.html",
    "config.json",
    "model.safetensors",
    "README.md",
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "run/config.toml",
    "run",
    "run-2/checkpoints/last.safetensors",
    "data/images/0.jpg",
    "data/dataset.json",
];

#[derive(Clone, Copy, Debug)]
enum Job {
    Prepare,
    PrepareSmaller,
    Draw,
    Train,
    Evaluate,
    Export,
    Report,
    Look,
}

const JOBS: [Job; 8] =
    [Job::Prepare, Job::PrepareSmaller, Job::Draw, Job::Train, Job::Evaluate, Job::Export, Job::Report, Job::Look];

/// A run to evaluate, export and report.
fn trained_run() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let output = train(folder.path(), &small_config(folder.path()), &[]);
        assert!(output.status.success(), "{}", stderr(&output));
        folder
    });
    folder.path()
}

/// A folder with a source, the user's files elsewhere, and the place that is to be written into.
struct World {
    folder: tempfile::TempDir,
    random: Stream,
}

impl World {
    fn new(case: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["source", "elsewhere"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let mut captions = String::new();
        for (number, picture) in files_below(&shapes_folder().join("images")).iter().take(4).enumerate() {
            for place in ["source", "elsewhere"] {
                fs::copy(picture, folder.path().join(place).join(format!("{number}.jpg"))).unwrap();
            }
            captions += &format!("{number}.jpg#0\ta picture of number {number}\n");
        }
        for (name, text) in [
            ("Flickr8k.token.txt", captions.as_str()),
            ("Flickr_8k.trainImages.txt", "0.jpg\n1.jpg\n2.jpg\n"),
            ("Flickr_8k.devImages.txt", "3.jpg\n"),
        ] {
            fs::write(folder.path().join("source").join(name), text).unwrap();
        }
        Self { folder, random: Stream::new(case, "output places", "") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn below(&mut self, end: usize) -> usize {
        self.random.below(end)
    }

    /// Adds an image to the source.
    fn grow(&self) {
        fs::copy(self.path("source/0.jpg"), self.path("source/4.jpg")).unwrap();
        for (name, line) in
            [("Flickr8k.token.txt", "4.jpg#0\tone more picture\n"), ("Flickr_8k.trainImages.txt", "4.jpg\n")]
        {
            let path = self.path("source").join(name);
            fs::write(&path, fs::read_to_string(&path).unwrap() + line).unwrap();
        }
    }

    /// Puts something of the user's into the place.
    fn plant(&mut self) {
        let name = NAMES[self.below(NAMES.len())];
        let path = self.path("place").join(name);
        if fs::create_dir_all(path.parent().unwrap()).is_err() || fs::symlink_metadata(&path).is_ok() {
            return;
        }
        let number = self.below(4);
        match self.below(8) {
            0 => link(&self.path("source"), &path),
            1 => link(&self.path(&format!("elsewhere/{number}.jpg")), &path),
            2 => link(&self.path("elsewhere/absent"), &path),
            3 => link(&self.path("elsewhere"), &path),
            4 => fs::create_dir(&path).unwrap(),
            5 => fs::hard_link(self.path(&format!("source/{number}.jpg")), &path).unwrap(),
            6 => fs::write(&path, r#"{"images":[{"filename":"1.jpg","split":"train","sentences":[{"raw":"mine"}]}]}"#)
                .unwrap(),
            _ => fs::write(&path, format!("the user's {number}")).unwrap(),
        }
    }

    /// Puts something of the user's in the place of a picture or file that the program wrote, or of its folder.
    fn replace_ours(&mut self) {
        let place = self.path("place");
        let mut files = files_below(&place);
        files.sort();
        let pictures = ["images", "data/images"].map(|name| place.join(name)).into_iter().find(|path| path.is_dir());
        match (self.below(3), pictures, files.len()) {
            (0, Some(pictures), _) => {
                fs::rename(&pictures, self.path("elsewhere/moved")).unwrap();
                link(&self.path("elsewhere"), &pictures);
            }
            (_, _, number) if number > 0 => {
                let file = &files[self.below(number)];
                // A new file, since some have several names.
                fs::remove_file(file).unwrap();
                fs::write(file, "changed by the user").unwrap();
            }
            _ => {}
        }
    }

    fn command(&self, job: Job, place: &Path) -> Command {
        let (mut command, place) = (binary(), self.path("").join(place));
        let checkpoint = || last_checkpoint(&trained_run().join("run"));
        match job {
            Job::Prepare | Job::PrepareSmaller => {
                command.arg("prepare-data").arg("--source").arg(self.path("source")).arg("--output").arg(place);
                if matches!(job, Job::PrepareSmaller) {
                    command.args(["--resize", "8"]);
                }
            }
            Job::Draw => {
                command.args(["prepare-data", "--dataset", "shapes", "--output"]).arg(place);
            }
            Job::Train => {
                let config = small_config(&place)
                    .replace(&shapes_folder().display().to_string(), &place.join("data").display().to_string())
                    .replace("/cache\"", "\"")
                    .replace("[data]", "[data]\nsource = \"SOURCE\"\ndataset = \"flickr8k\"")
                    .replace("SOURCE", &self.path("source").display().to_string())
                    .replace("[tokenizer]", &format!("[tokenizer]\ndirectory = \"{}\"", place.display()));
                fs::write(self.path("run.toml"), config).unwrap();
                command.arg("--config").arg(self.path("run.toml"));
            }
            Job::Evaluate => {
                command.args(["evaluate", "--split", "val", "--bootstrap", "0", "--checkpoint"]).arg(checkpoint());
                command.arg("--output").arg(place);
            }
            Job::Export => {
                command.arg("export").arg("--checkpoint").arg(checkpoint()).arg("--output").arg(place);
            }
            Job::Report => {
                let page = place.join("report.html");
                command.arg("report").arg(trained_run().join("run")).arg("--output").arg(page);
            }
            Job::Look => {
                command.arg("look").arg(shapes_folder()).arg("--output").arg(place.join("look.html"));
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }
}

fn link(target: &Path, path: &Path) {
    #[cfg(unix)]
    std::os::unix::fs::symlink(target, path).unwrap();
    #[cfg(not(unix))]
    fs::copy(target, path).map(drop).unwrap_or_default();
}

/// What each name below the folder stands for: the target of a link, the content of a file, a folder.
fn tree(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let (path, kind) = entry.map(|entry| (entry.path(), entry.file_type().unwrap())).unwrap();
            let content = if kind.is_symlink() {
                format!("-> {}", fs::read_link(&path).unwrap().display()).into_bytes()
            } else if kind.is_dir() {
                folders.push(path.clone());
                b"folder".to_vec()
            } else {
                fs::read(&path).unwrap()
            };
            found.insert(path, content);
        }
    }
    found
}

#[test]
fn what_is_the_users_stays_as_it_is_whatever_is_written_beside_it() {
    let num_cases = std::env::var(CASES_VARIABLE).map_or(NUM_CASES, |number| number.parse().unwrap());
    let (mut num_refused, mut num_done) = (0, 0);
    for case in 0..num_cases {
        let job = JOBS[(case % JOBS.len() as u64) as usize];
        let mut world = World::new(case);
        // Some places were written before, by the same command.
        let mut ours = BTreeMap::new();
        if world.below(3) == 0 && !matches!(job, Job::Draw) {
            let without = tree(world.folder.path());
            fs::create_dir(world.path("place")).unwrap();
            let before = world.command(job, Path::new("place")).output().unwrap();
            ours = tree(world.folder.path());
            ours.retain(|path, content| without.get(path) != Some(content));
            assert!(before.status.success() || matches!(job, Job::Train), "{job:?}: {}", stderr(&before));
        }
        if !ours.is_empty() {
            world.grow();
        }
        if world.below(2) == 0 {
            world.replace_ours();
        }
        for _ in 0..=world.below(3) {
            world.plant();
        }
        let place = ["place", "place", "absent/../place", "source/../place"][world.below(4)];
        let mut command = world.command(job, Path::new(place));
        let mut before = tree(world.folder.path());
        before.retain(|path, content| ours.get(path) != Some(content));
        for is_killed in [true, false] {
            let mut process = command.spawn().unwrap();
            if is_killed && (world.below(2) == 0 || matches!(job, Job::Draw)) {
                std::thread::sleep(Duration::from_millis(world.below(80) as u64));
                process.kill().unwrap();
            } else if matches!(job, Job::Draw) {
                break;
            }
            let output = process.wait_with_output().unwrap();
            let text = stderr(&output);
            assert_ne!(output.status.code(), Some(101), "case {case}, {job:?}: {text}");
            if output.status.code().is_some() {
                *(if output.status.success() { &mut num_done } else { &mut num_refused }) += 1;
            }
            let after = tree(world.folder.path());
            for (path, content) in &before {
                assert_eq!(after.get(path), Some(content), "case {case}, {job:?}: {}\n{text}", path.display());
            }
        }
    }
    // Both happen, or the cases show nothing.
    assert!(num_refused > num_cases / 8 && num_done > num_cases / 8, "{num_refused} refused, {num_done} done");
}

#[test]
fn an_evaluation_replaces_its_own_files_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let evaluate = || {
        let mut command = binary();
        command.args(["evaluate", "--split", "val", "--bootstrap", "0", "--checkpoint"]);
        command.arg(last_checkpoint(&trained_run().join("run"))).arg("--output").arg(folder.path());
        command.output().unwrap()
    };
    for _ in 0..2 {
        let output = evaluate();
        assert!(output.status.success(), "{}", stderr(&output));
    }
    // As a kill between the two files leaves them: the scores are written first.
    let (captions, scores) = (folder.path().join("val.json"), folder.path().join("val.scores.json"));
    let text = fs::read_to_string(&scores).unwrap();
    let sum = text.split("\"predictions_sha256\": \"").nth(1).unwrap()[..64].to_owned();
    let begun = text.replacen(&sum, &"0".repeat(64), 1);
    assert_ne!(begun.matches(&sum).count(), 0, "the former sum is there: {text}");
    fs::write(&scores, begun).unwrap();
    assert!(evaluate().status.success());
    fs::remove_file(&captions).unwrap();
    assert!(evaluate().status.success());
    fs::write(&captions, "[]").unwrap();
    let output = evaluate();
    let text = stderr(&output);
    assert!(!output.status.success() && text.contains("was not written by an evaluation"), "{text}");
    assert_eq!(fs::read_to_string(&captions).unwrap(), "[]");
}

#[test]
fn a_report_replaces_a_report_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page.html");
    let report = || {
        let mut command = binary();
        command.args(["report", "--num-images", "0"]).arg(trained_run().join("run")).arg("--output").arg(&page);
        command.output().unwrap()
    };
    for _ in 0..2 {
        let output = report();
        assert!(output.status.success(), "{}", stderr(&output));
    }
    // As earlier versions began it.
    let text = fs::read_to_string(&page).unwrap();
    fs::write(&page, text.replace("<meta name=\"generator\" content=\"caption-train\">", "")).unwrap();
    assert!(report().status.success());
    fs::write(&page, "<html><title>my holidays</title>").unwrap();
    let output = report();
    let text = stderr(&output);
    assert!(!output.status.success() && text.contains("is not a report"), "{text}");
    assert_eq!(fs::read_to_string(&page).unwrap(), "<html><title>my holidays</title>");
}

#[test]
fn an_interrupted_preparation_is_continued_and_a_picture_that_someone_changed_stays() {
    let world = World::new(0);
    let smaller = || world.command(Job::PrepareSmaller, Path::new("place")).output().unwrap();
    let output = smaller();
    assert!(output.status.success(), "{}", stderr(&output));
    let whole = tree(&world.path("place"));
    // As a kill leaves it.
    fs::write(world.path("place/.preparing"), "Being prepared by caption-train.\n").unwrap();
    fs::remove_file(world.path("place/preparation.json")).unwrap();
    fs::remove_file(world.path("place/images/2.jpg")).unwrap();
    let picture = world.path("place/images/1.jpg");
    fs::write(&picture, "a careful crop").unwrap();
    let output = smaller();
    let text = stderr(&output);
    assert!(!output.status.success() && text.contains("1.jpg exists and was not written by a preparation"), "{text}");
    assert_eq!(fs::read_to_string(&picture).unwrap(), "a careful crop");
    fs::remove_file(&picture).unwrap();
    let output = smaller();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(tree(&world.path("place")), whole);
}
