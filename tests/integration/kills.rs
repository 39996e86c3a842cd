//! SIGKILL at random moments of every phase of a run: the resumed run ends in the very tensors of an undisturbed run.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use base::random::Stream;
use caption_train::run::checkpoint::reader::read_metadata;
use datasets::prepared::Dataset;

use crate::support::{binary, files_below, last_checkpoint, losses, shapes_folder};

/// Kills in the ordinary tests. `scripts/check-kills.sh` asks for more.
const NUM_KILLS: usize = 12;
/// The variable that asks for another number.
const KILLS_VARIABLE: &str = "CAPTION_TRAIN_KILLS";

/// What a process was at when it was killed, told from what it left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Prepare,
    Cache,
    Step,
    Save,
    Validation,
}

const PHASES: [Phase; 5] = [Phase::Prepare, Phase::Cache, Phase::Step, Phase::Save, Phase::Validation];

/// A folder with the two archives of a data set in the form of Flickr8k, of drawn pictures.
fn make_source(folder: &Path) -> PathBuf {
    let source = folder.join("source");
    fs::create_dir_all(&source).unwrap();
    let dataset = Dataset::open(shapes_folder()).unwrap();
    let (mut captions, mut lists) = (String::new(), [String::new(), String::new()]);
    let mut images = zip::ZipWriter::new(fs::File::create(source.join("Flickr8k_Dataset.zip")).unwrap());
    // A validation long enough to be hit.
    for (index, image) in dataset.images.iter().take(240).enumerate() {
        let list = usize::from(index >= 140);
        let name = image.filename().replace('/', "_");
        images.start_file(format!("Flicker8k_Dataset/{name}"), zip::write::SimpleFileOptions::default()).unwrap();
        images.write_all(&fs::read(dataset.picture(index).path()).unwrap()).unwrap();
        for (number, caption) in image.captions().enumerate() {
            captions.push_str(&format!("{name}#{number}\t{caption}\n"));
        }
        lists[list].push_str(&format!("{name}\n"));
    }
    images.finish().unwrap();
    fs::write(source.join("Flickr8k.token.txt"), captions).unwrap();
    for (name, list) in ["trainImages", "devImages"].iter().zip(&lists) {
        fs::write(source.join(format!("Flickr_8k.{name}.txt")), list).unwrap();
    }
    source
}

/// What a run does with its images: features of a frozen encoder, or views of kept pictures with a trained one; or
/// self-critical training, of a frozen encoder too.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Variant {
    Frozen,
    Trained,
    Scst,
}

const VARIANTS: [Variant; 3] = [Variant::Frozen, Variant::Trained, Variant::Scst];

/// A run that prepares its data set, fills a cache, trains three epochs and keeps several checkpoints.
struct Job {
    folder: tempfile::TempDir,
}

impl Job {
    fn new(source: &Path, variant: Variant) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (encoder, data) = match variant {
            Variant::Frozen | Variant::Scst => ("\"frozen\"", ""),
            Variant::Trained => {
                ("{ last_blocks = 1 }", "cache_images = true\nviews = 2\naugmentation = { flip = true }")
            }
        };
        let config = format!(
            r#"
output_dir = "runs"
name = "run"
[data]
dataset = "flickr8k"
source = "{source}"
directory = "data"
cache_directory = "cache"
{data}
[tokenizer]
vocab_size = 280
[model.encoder]
pretrained = false
train = {encoder}
config = {{ kind = "vit", image_size = 32, patch_size = 8, hidden_size = 64, num_hidden_layers = 2, num_attention_heads = 2, intermediate_size = 64 }}
[model.decoder]
hidden_size = 64
num_layers = 2
num_heads = 2
intermediate_size = 128
max_seq_len = 24
dropout = 0.1
[training]
batch_size = 32
num_epochs = 3
log_interval = 1
save_interval = 4
max_grad_norm = 1.0
[schedule]
warmup_steps = 5
[checkpoint]
keep_best = 2
keep_last = 2
"#,
            source = source.display()
        );
        let config = if variant == Variant::Scst { scst(&config, source) } else { config };
        fs::write(folder.path().join("run.toml"), config).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts the run, or resumes it where it can be resumed.
    fn spawn(&self, workers: usize) -> Child {
        let mut command = binary();
        let begun =
            files_below(&self.path("runs")).iter().any(|path| path.extension().is_some_and(|e| e == "safetensors"));
        let how = if begun { ["--resume", "auto"] } else { ["--config", "run.toml"] };
        let workers = format!("data.workers={workers}");
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("log.txt")).unwrap();
        command.current_dir(self.folder.path()).args(how).args(["--set", &workers]).stderr(log);
        command.stdout(Stdio::null()).spawn().unwrap()
    }

    /// The folder of the run that was trained: the last one begun.
    fn run(&self) -> PathBuf {
        let mut runs: Vec<PathBuf> = fs::read_dir(self.path("runs")).unwrap().map(|run| run.unwrap().path()).collect();
        runs.sort_by_key(|run| (run.as_os_str().len(), run.clone()));
        runs.pop().unwrap()
    }

    fn metrics(&self) -> String {
        fs::read_to_string(self.run().join("metrics.jsonl")).unwrap_or_default()
    }

    fn num_validations(&self) -> usize {
        let logs = files_below(&self.path("runs")).into_iter().filter(|path| path.ends_with("metrics.jsonl"));
        let text: String = logs.map(|path| fs::read_to_string(path).unwrap_or_default()).collect();
        text.lines().filter(|line| line.contains("\"kind\":\"validation\"")).count()
    }

    fn has_partial_checkpoint(&self) -> bool {
        self.path("runs").exists()
            && files_below(&self.run().join("checkpoints"))
                .iter()
                .any(|path| path.extension().is_some_and(|extension| extension == "partial"))
    }

    /// Whether a process is, or was when it ended, in this phase.
    fn is_in(&self, phase: Phase) -> bool {
        let prepared = self.path("data/preparation.json").exists();
        let is_last = |kind: &str| {
            let kind = format!("\"kind\":\"{kind}\"");
            self.path("runs").exists() && self.metrics().lines().last().is_some_and(|line| line.contains(&kind))
        };
        match phase {
            Phase::Prepare => !prepared && fs::read_dir(self.path("data/images")).is_ok_and(|files| files.count() > 3),
            Phase::Cache => {
                let rows = files_below(&self.path("cache"));
                let some = rows.iter().any(|path| path.ends_with("rows.bin") && fs::metadata(path).unwrap().len() > 0);
                prepared && some && self.metrics().is_empty()
            }
            Phase::Step => is_last("step") && !self.has_partial_checkpoint(),
            Phase::Save => self.has_partial_checkpoint(),
            Phase::Validation => {
                // Behind the epoch's line comes a save point, and then the validation.
                let saved = || {
                    let (metadata, _) = read_metadata(&last_checkpoint(&self.run())).ok()?;
                    let line: serde_json::Value = serde_json::from_str(self.metrics().lines().last()?).ok()?;
                    Some(metadata.state.updates_in_epoch == 0 && line["epoch"] == metadata.state.epoch)
                };
                is_last("epoch") && !self.has_partial_checkpoint() && saved() == Some(true)
            }
        }
    }

    /// What the run came to: the bytes of all tensors of each checkpoint, its losses and its validations.
    fn result(&self) -> BTreeMap<String, Vec<u8>> {
        self.result_of(&self.run())
    }

    fn result_of(&self, run: &Path) -> BTreeMap<String, Vec<u8>> {
        let mut found = BTreeMap::new();
        for file in fs::read_dir(run.join("checkpoints")).unwrap().map(|file| file.unwrap().path()) {
            let bytes = fs::read(&file).unwrap();
            let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            found.insert(file.file_name().unwrap().to_string_lossy().into_owned(), bytes[8 + header..].to_vec());
        }
        let (metadata, _) = read_metadata(&last_checkpoint(run)).unwrap();
        let mut state = metadata.state;
        (state.train_seconds, state.epoch_seconds) = (0.0, 0.0);
        found.insert("state".to_owned(), serde_json::to_vec(&state).unwrap());
        found.insert("losses".to_owned(), format!("{:?}", losses(run)).into_bytes());
        let metrics = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
        let validations = metrics.lines().filter(|line| line.contains("\"validation\""));
        let validations = validations.map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let validations: Vec<_> = validations.map(|line| (line["epoch"].clone(), line["val_loss"].clone())).collect();
        found.insert("validations".to_owned(), format!("{validations:?}").into_bytes());
        found
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log.txt")).unwrap_or_default()
    }
}

/// The same run, which begins from the one beside `source` and rewards its captions.
fn scst(config: &str, source: &Path) -> String {
    let from = config.find("[tokenizer]").unwrap()..config.find("[training]").unwrap();
    let start = source.with_file_name("start");
    config.replace(&config[from], "").replace("batch_size = 32", "batch_size = 8\nbest_metric = \"cider\"")
        + &format!(
            "[training.scst]\ncheckpoint = \"{}\"\nsamples = 3\nvalidate_every = 20\n[evaluation]\nmetrics_interval = 1\n",
            start.display()
        )
}

/// The runs that nothing disturbs. That of the frozen encoder is what self-critical training begins from.
fn all_undisturbed(source: &Path) -> [BTreeMap<String, Vec<u8>>; 3] {
    VARIANTS.map(|variant| {
        let job = Job::new(source, variant);
        assert!(job.spawn(1).wait().unwrap().success(), "{}", job.log());
        if variant == Variant::Frozen {
            fs::rename(job.run(), source.with_file_name("start")).unwrap();
            return job.result_of(&source.with_file_name("start"));
        }
        job.result()
    })
}

fn undisturbed(source: &Path, variant: Variant) -> BTreeMap<String, Vec<u8>> {
    let job = Job::new(source, variant);
    assert!(job.spawn(1).wait().unwrap().success(), "{}", job.log());
    let result = job.result();
    assert_eq!(result.len(), 2 + 2 + 1 + 3, "{:?}", result.keys());
    result
}

/// Waits until the process is in the phase, after so many validations. Whether it is: it may have ended before.
fn wait_for(job: &Job, child: &mut Child, phase: Phase, num_validations: usize) -> bool {
    let started = Instant::now();
    while !(job.num_validations() >= num_validations && job.is_in(phase)) {
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{}", job.log());
            return false;
        }
        assert!(started.elapsed() < Duration::from_secs(120), "{phase:?} never began: {}", job.log());
        std::thread::sleep(Duration::from_micros(200));
    }
    true
}

/// Kills the process some moments after the phase began. `None`: it ended before.
fn kill_in(job: &Job, child: &mut Child, phase: Phase, num_validations: usize, delay: Duration) -> Option<()> {
    if !wait_for(job, child, phase, num_validations) {
        return None;
    }
    std::thread::sleep(delay);
    child.kill().unwrap();
    // The process may have been done the moment before.
    if child.wait().unwrap().success() { None } else { Some(()) }
}

/// Suspends the process, resumes its run with another one, and wakes it up: both end in the tensors of an undisturbed
/// run, each in a folder of its own. Whether that could be tried: the process may have ended before.
#[cfg(unix)]
fn resume_while_the_original_lives(job: &Job, expected: &BTreeMap<String, Vec<u8>>) -> bool {
    let mut original = job.spawn(2);
    if !wait_for(job, &mut original, Phase::Step, 1) {
        return false;
    }
    let first = job.run();
    let send = |signal: &str| {
        let sent = std::process::Command::new("kill").args([signal, &original.id().to_string()]).status();
        assert!(sent.unwrap().success());
    };
    send("-STOP");
    let resumed = job.spawn(1).wait().unwrap();
    let second = job.run();
    send("-CONT");
    assert!(original.wait().unwrap().success() && resumed.success(), "{}", job.log());
    assert_ne!(first, second, "{}", job.log());
    for name in ["last.safetensors", "state"] {
        assert!(job.result_of(&second)[name] == expected[name], "resumed: {name} differs: {}", job.log());
    }
    assert!(job.result_of(&first) == *expected, "the original differs: {}", job.log());
    true
}

#[cfg(unix)]
#[expect(clippy::print_stdout, reason = "the script's answer")]
#[test]
fn a_run_that_is_resumed_while_the_original_lives_ends_in_the_same_tensors_twice() {
    let folder = tempfile::tempdir().unwrap();
    let source = make_source(folder.path());
    for variant in [Variant::Frozen, Variant::Trained] {
        let expected = undisturbed(&source, variant);
        let tried = (0..10).any(|_| resume_while_the_original_lives(&Job::new(&source, variant), &expected));
        assert!(tried, "the original ended before it could be suspended, ten times");
    }
    println!("2 runs resumed while the original lives, no tensor differs");
}

#[expect(clippy::print_stdout, reason = "the script's answer")]
#[test]
fn a_run_killed_at_any_moment_ends_in_the_tensors_of_an_undisturbed_run() {
    let wanted = std::env::var(KILLS_VARIABLE).map_or(NUM_KILLS, |text| text.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let source = make_source(folder.path());
    let expected = all_undisturbed(&source);
    let mut random = Stream::new(u64::from(std::process::id()), "kills", "");
    let mut hits: BTreeMap<Phase, usize> = BTreeMap::new();
    let mut num_kills = 0;
    for round in 0.. {
        let all_hit = PHASES.iter().all(|phase| hits.contains_key(phase));
        if num_kills >= wanted && all_hit {
            break;
        }
        assert!(num_kills < 10 * wanted.max(PHASES.len()), "some phases were never hit: {hits:?}");
        let (variant, expected) = (VARIANTS[round % 3], &expected[round % 3]);
        let job = Job::new(&source, variant);
        let mut num_validations = 0;
        for aim in PHASES {
            let mut child = job.spawn(1 + random.below(3));
            let longest = match aim {
                Phase::Save => 1_500,
                Phase::Validation => 15_000,
                _ => 40_000,
            };
            let delay = Duration::from_micros(random.below(longest) as u64);
            // Aims come in one order: the later ones lie in the same epoch or in a later one.
            if aim >= Phase::Step {
                num_validations = (num_validations + random.below(2)).min(2);
            }
            if kill_in(&job, &mut child, aim, num_validations, delay).is_none() {
                break;
            }
            num_kills += 1;
            if let Some(phase) = PHASES.into_iter().rev().find(|&phase| job.is_in(phase)) {
                *hits.entry(phase).or_default() += 1;
            }
        }
        assert!(job.spawn(2).wait().unwrap().success(), "{}", job.log());
        let found = job.result();
        let names = |result: &BTreeMap<String, Vec<u8>>| result.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&found), names(expected), "{variant:?}, round {round}: {}", job.log());
        for (name, bytes) in expected {
            assert!(found[name] == *bytes, "{variant:?}, round {round}: {name} differs: {}", job.log());
        }
        // A run that was killed before its first checkpoint is not resumed: another one is started.
        let mut left =
            [files_below(&job.path("data")), files_below(&job.path("cache")), files_below(&job.run())].concat();
        left.retain(|path| path.extension().is_some_and(|extension| extension == "partial"));
        assert!(left.is_empty(), "{left:?}");
    }
    println!("{num_kills} kills, no tensor differs; phases that were cut: {hits:?}");
}
