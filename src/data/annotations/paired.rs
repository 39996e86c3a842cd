//! What sidecars and web data sets share: an image and a text of one name, side by side.

use std::collections::HashMap;

use crate::base::fault::one_line;
use crate::data::annotations::builder::Builder;
use crate::data::annotations::text::{for_each_line, split_of_path};
use crate::data::annotations::{RawDataset, Reject};
use crate::data::source::{Source, SourceFile, is_image_name, without_ending};

/// The image and the text of one key.
pub(super) struct Pair {
    pub(super) image: usize,
    pub(super) text: usize,
}

/// Pairs among the files for which `is_candidate` holds, in the order of the images; `key` is what the two share.
pub(super) fn pairs<'a>(
    source: &'a Source,
    is_candidate: impl Fn(&SourceFile) -> bool,
    key: impl Fn(&'a str) -> &'a str,
    endings: &[&str],
) -> Vec<Pair> {
    let files = source.files();
    let mut texts: HashMap<&str, usize> = HashMap::new();
    let rank = |file: usize| endings.iter().position(|ending| files[file].path.ends_with(ending));
    for file in source.find(|file| is_candidate(file) && endings.iter().any(|ending| file.path.ends_with(ending))) {
        let held = texts.entry(key(&files[file].path)).or_insert(file);
        if rank(file) < rank(*held) {
            *held = file;
        }
    }
    // `1.seg.png` beside `1.png` is a mask.
    let is_plain = |&image: &usize| key(&files[image].path) == without_ending(&files[image].path);
    let images = source.find(|file| is_candidate(file) && is_image_name(&file.path));
    let pair = |image: usize| Some(Pair { image, text: *texts.get(key(&files[image].path))? });
    images.into_iter().filter(is_plain).filter_map(pair).collect()
}

/// The data set of these pairs: `add` gets the image, and path and content of its text. Folders that are called like splits
/// are splits.
///
/// # Errors
/// What reading and `add` give.
pub(super) fn read(
    source: &Source,
    pairs: &[Pair],
    add: impl Fn(&mut Builder, usize, &str, &[u8]) -> anyhow::Result<()>,
) -> anyhow::Result<RawDataset> {
    let texts: Vec<usize> = pairs.iter().map(|pair| pair.text).collect();
    let contents = source.for_each(&texts, |_, content| Ok(content))?;
    let mut builder = Builder::default();
    for (pair, content) in pairs.iter().zip(contents) {
        let file = &source.files()[pair.image];
        let content = match content {
            Ok(content) => content,
            Err(error) => {
                let reason = format!("the file of its captions is left out: {}", one_line(&error));
                builder.rejects.push(Reject::new(file.path.clone(), reason));
                continue;
            }
        };
        let image = builder.image(&file.path);
        if let Some(split) = split_of_path(file.folder()) {
            builder.split(image, split);
        }
        add(&mut builder, image, &source.files()[pair.text].path, &content)?;
    }
    Ok(builder.finish_with_paths())
}

/// Adds each line of a text as a caption.
///
/// # Errors
/// Text that is not UTF-8.
pub(super) fn add_lines(builder: &mut Builder, image: usize, path: &str, content: &[u8]) -> anyhow::Result<()> {
    for_each_line(path, content, |_, line| {
        builder.caption(image, None, line);
        Ok(())
    })
}
