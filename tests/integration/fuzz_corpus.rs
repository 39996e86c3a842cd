//! Every input in `fuzz/corpus` and `fuzz/regressions` goes once through the body of its fuzzer, so that what fuzzing
//! found stays mended. scripts/fuzz.sh looks for more.

use std::fs;
use std::path::{Path, PathBuf};

#[path = "../../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "a library of its own for the fuzzers")]
mod bodies;

/// Bytes of all inputs together, at most: they are a part of the source.
const MOST_BYTES: u64 = 150_000;

fn folders(name: &str) -> [PathBuf; 2] {
    ["corpus", "regressions"].map(|kind| Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(kind).join(name))
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn every_input_of_every_fuzzer_passes() {
    for (name, body) in bodies::TARGETS {
        let [corpus, regressions] = folders(name);
        let (corpus, regressions) = (files(&corpus), files(&regressions));
        assert!(!corpus.is_empty(), "fuzz/corpus/{name} has no inputs to begin with");
        for path in corpus.iter().chain(&regressions) {
            let bytes = fs::read(path).unwrap();
            let passed = std::panic::catch_unwind(|| body(&bytes));
            assert!(passed.is_ok(), "{} fails the fuzzer {name}", path.display());
        }
    }
}

#[test]
fn every_folder_and_program_belongs_to_a_fuzzer() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let names = bodies::TARGETS.map(|(name, _)| name);
    for folder in ["corpus", "regressions", "fuzz_targets"] {
        for path in files(&root.join(folder)) {
            let stem = path.file_stem().unwrap().to_str().unwrap();
            assert!(names.contains(&stem), "{} belongs to no fuzzer", path.display());
        }
    }
    for name in names {
        assert!(root.join("fuzz_targets").join(format!("{name}.rs")).is_file(), "{name} has no program");
    }
}

#[test]
fn the_inputs_are_few() {
    let all = bodies::TARGETS.iter().flat_map(|(name, _)| folders(name)).flat_map(|folder| files(&folder));
    let bytes: u64 = all.map(|path| fs::metadata(path).unwrap().len()).sum();
    assert!(bytes <= MOST_BYTES, "the inputs have {bytes} bytes");
}
