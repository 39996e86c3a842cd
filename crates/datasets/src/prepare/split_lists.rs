//! Files of a source that say which images are for what, and hold no captions. Where nothing else says it, what they hold out
//! would be trained on.

use std::collections::HashSet;
use std::path::Path;

use crate::annotations::decode;
use crate::name_forms::{last_part, loosest, tidy};
use crate::prepare::split_forms::{self, ENDINGS, Entries};
use crate::prepared::Split;
use crate::source::Source;
use base::bounded_file::MAX_CAPTIONS_BYTES;
use base::fault::fault;
use base::quoting::shell_path;

/// Files that are looked into.
const MOST: usize = 50;

/// Makes sure that no file of the source but those in `read` holds out images that are called by `names`.
///
/// # Errors
/// Such a file.
pub(super) fn check(source: &Source, names: &[String], read: &[usize]) -> anyhow::Result<()> {
    let names: HashSet<String> = names.iter().map(|name| form(name)).collect();
    let may_be = |(file, path): &(usize, &str)| {
        let path = Path::new(path);
        let ending = path.extension().map_or_else(String::new, |ending| ending.to_string_lossy().to_lowercase());
        // What is called like an image is about that one.
        !read.contains(file)
            && ENDINGS.contains(&ending.as_str())
            && !names.contains(&form(&split_forms::stem(path)))
            && source.files()[*file].bytes <= MAX_CAPTIONS_BYTES
    };
    let files = source.files().iter().enumerate().map(|(file, there)| (file, there.path.as_str()));
    for (file, path) in files.filter(may_be).take(MOST) {
        let mut entries = Entries::default();
        let Some(text) = source.read(file).ok().and_then(|bytes| decode(path, bytes).ok()) else { continue };
        if split_forms::parse(Path::new(path), &text, &mut entries).is_err() {
            continue;
        }
        let known: Vec<Split> =
            entries.named.iter().filter(|(name, _)| names.contains(&form(name))).map(|(_, split)| *split).collect();
        let num_held_out = known.iter().filter(|split| **split != Split::Train).count();
        if num_held_out == 0 || 2 * known.len() < entries.named.len() {
            continue;
        }
        let message = format!(
            "{path} says what images are for, and nothing that is read does: {num_held_out} images that it holds out \
             would be trained on"
        );
        let is_whole = known.contains(&Split::Train);
        let what = match is_whole {
            true if !source.is_loose(file) => "unpack it and give it as `--split-file`".to_owned(),
            true => format!("give it as `--split-file {}`", shell_path(&source.locate(path))),
            false => "give the folder with the lists of all splits as `--split-file`".to_owned(),
        };
        return Err(fault(message, format!("{what}, or move it out of the source to prepare without it")));
    }
    Ok(())
}

fn form(name: &str) -> String {
    loosest(last_part(&tidy(name)))
}
