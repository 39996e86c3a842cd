//! Examples that are kept on disk: those of millions of captions are made once, and then mapped into memory.
//!
//! A folder is named by everything that its examples depend on. It has a file for each column, and `examples.json`,
//! which is written last.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::data::example_list::{ExampleList, WrittenExamples};
use crate::data::examples::Examples;
use base::bounded_file::{self, MAX_DESCRIPTION_BYTES};
use base::column::remove_unfinished;
use base::error::{WithHint as _, one_line};
use base::lock::{Holder, Lock};
use base::{atomic_file, digest, terminal};
use records::caption_lengths::CaptionLengths;

/// Raise it after any change to how captions become examples.
const FORMAT_VERSION: u32 = 1;
const DESCRIPTION: &str = "examples.json";
const LOCK: &str = "lock";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DescriptionFile {
    /// What they are made of.
    content: Value,
    /// By the positions that captions take.
    lengths: BTreeMap<usize, usize>,
    num_weightless: usize,
    columns: WrittenExamples,
}

/// The examples made of `content`: those in a folder below `parent`, or else what `make` returns, which is kept there.
///
/// # Errors
/// Those of `make`; files that are damaged.
pub fn kept_examples(parent: &Path, content: Value, make: impl FnOnce() -> Result<Examples>) -> Result<Examples> {
    let content = json!({ "version": FORMAT_VERSION, "content": content });
    let folder = parent.join(format!("examples-{}", &digest::sha256(content.to_string().as_bytes())[..16]));
    if let Some(examples) = open(&folder, &content)? {
        return Ok(examples);
    }
    let mut is_told = false;
    let wait = |holder: &Holder| {
        if !std::mem::replace(&mut is_told, true) {
            terminal::message(&format!("waiting for {holder}, which tokenizes the same captions"));
        }
        true
    };
    let lock = fs::create_dir_all(&folder).and_then(|()| Lock::wait(&folder.join(LOCK), wait));
    let _lock = match lock {
        Ok(lock) => lock,
        Err(error) => {
            terminal::warning(&format!(
                "captions are tokenized again at each start, since {} cannot be written: {error}",
                folder.display()
            ));
            return make();
        }
    };
    // Another process may have made them meanwhile.
    if let Some(examples) = open(&folder, &content)? {
        return Ok(examples);
    }
    remove_unfinished(&folder)?;
    let made = make()?;
    match write(&folder, &content, &made) {
        Ok(()) => {
            let bytes: u64 = fs::read_dir(&folder)?.flatten().flat_map(|file| file.metadata()).map(|it| it.len()).sum();
            let size = bytes as f64 / base::GIGABYTE;
            terminal::message(&format!("tokens      {size:.2} GB kept in {}", folder.display()));
            open(&folder, &content)?.context("what was written is gone")
        }
        Err(error) => {
            terminal::warning(&format!(
                "captions are tokenized again at the next start: cannot write {}: {}",
                folder.display(),
                one_line(&error)
            ));
            Ok(made)
        }
    }
}

fn open(folder: &Path, content: &Value) -> Result<Option<Examples>> {
    let path = folder.join(DESCRIPTION);
    if !path.exists() {
        return Ok(None);
    }
    let open = || {
        let file: DescriptionFile = serde_json::from_slice(&bounded_file::read(&path, MAX_DESCRIPTION_BYTES)?)?;
        ensure!(file.content == *content, "they are made of other captions, or in another way");
        let examples = ExampleList::open(folder, &file.columns)?;
        let lengths = CaptionLengths::from_counts(file.lengths);
        Ok(Some(Examples { examples, lengths, num_weightless: file.num_weightless }))
    };
    open()
        .with_context(|| format!("cannot use the examples in {}", folder.display()))
        .hint(|| "remove that folder: they are made again")
}

fn write(folder: &Path, content: &Value, examples: &Examples) -> Result<()> {
    let columns = examples.examples.write(folder)?;
    let file = DescriptionFile {
        content: content.clone(),
        lengths: examples.lengths.counts().clone(),
        num_weightless: examples.num_weightless,
        columns,
    };
    Ok(atomic_file::write(&folder.join(DESCRIPTION), &serde_json::to_vec(&file)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::batch::Example;
    use base::error::describe;

    fn made(wide: bool) -> Examples {
        let example = |number: usize| Example {
            image: number / 2,
            tokens: vec![1, number as u32 + if wide { 70_000 } else { 0 }, 2],
            prompt_length: usize::from(number == 3),
            weight: if number == 4 { 0.5 } else { 1.0 },
        };
        let mut lengths = CaptionLengths::default();
        lengths.add(3);
        Examples { examples: (0..10).map(example).collect(), lengths, num_weightless: 7 }
    }

    #[test]
    fn examples_are_made_once_and_then_read() {
        let folder = tempfile::tempdir().unwrap();
        for wide in [false, true] {
            let content = json!({ "wide": wide });
            let first = kept_examples(folder.path(), content.clone(), || Ok(made(wide))).unwrap();
            let again = kept_examples(folder.path(), content, || panic!("they are there")).unwrap();
            for examples in [first, again] {
                assert_eq!(
                    examples.examples.iter().collect::<Vec<_>>(),
                    made(wide).examples.iter().collect::<Vec<_>>()
                );
                assert_eq!((&examples.lengths, examples.num_weightless), (&made(wide).lengths, 7));
                assert_eq!(examples.examples.heap_bytes(), 0);
            }
        }
    }

    #[test]
    fn a_failure_to_make_them_leaves_nothing_that_counts_and_damage_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let kept = |make: fn() -> Result<Examples>| kept_examples(folder.path(), json!(1), make);
        assert!(kept(|| anyhow::bail!("no")).is_err());
        kept(|| Ok(made(false))).unwrap();
        let of_examples = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
        fs::write(of_examples.join("images.bin"), b"x").unwrap();
        let text = describe(&kept(|| Ok(made(false))).unwrap_err());
        assert!(text.contains("remove that folder") && text.contains("it has 1 bytes"), "{text}");
    }
}
