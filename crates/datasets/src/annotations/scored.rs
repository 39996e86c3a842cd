//! Captions in one file or folder, as they are, to be scored: captions of a model, or references.

use std::path::Path;

use crate::annotations::builder::Reading;
use crate::annotations::candidates::{Candidates, Content};
use crate::annotations::choice::{Choice, Selector, choose};
use crate::annotations::encoding::decode;
use crate::annotations::json::record::Record;
use crate::annotations::json::shape::JsonShape;
use crate::annotations::json::text::without_nan;
use crate::annotations::json::walk::{walk, walk_lines};
use crate::annotations::raw_dataset::{RawDataset, Reject};
use crate::column_names::ColumnNames;
use crate::source::{Source, is_archive_name, is_parquet_name};
use base::error::failure;

/// A caption of a model with its references, in one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scored {
    /// What the model wrote: several where the object has a list of them.
    pub candidates: Vec<String>,
    pub references: Vec<String>,
}

/// The captions of a file, or of a folder or archive, in any of the forms that can be prepared. Nothing is removed from
/// them.
///
/// # Errors
/// Nothing that can be read, with what is wrong with it; several kinds of captions.
pub fn read_captions(path: &Path, reading: Reading) -> anyhow::Result<RawDataset> {
    let source = open(path)?;
    let Choice { found, notes, .. } = choose(&source, Selector::Any)?;
    let mut raw = found.read_as(&source, reading)?;
    raw.repairs.extend(notes);
    Ok(raw)
}

/// The objects of a JSON file or of JSON Lines that have both a caption and its references; `None` where there are no
/// objects. The second are those that have one of them only.
pub fn read_scored(path: &Path) -> anyhow::Result<Option<(Vec<Scored>, Vec<Reject>)>> {
    let source = open(path)?;
    let candidates = Candidates::of(&source);
    let [(file, content)] = candidates.open() else { return Ok(None) };
    let name = &source.files()[*file].path;
    let shape = match content {
        Content::Json(shape) => shape,
        Content::Broken { reason, .. } => {
            return Err(failure(format!("{name} cannot be read: {reason}"), "repair the file, or download it again"));
        }
        _ => return Ok(None),
    };
    let text = decode(name, source.read(*file)?)?;
    let (text, _) = without_nan(&text);
    let (mut scored, mut rejects, mut count) = (Vec::new(), Vec::new(), 0);
    let mut add = |record: Record<'_>| {
        count += 1;
        let references: Vec<&str> = record.inline_references().unwrap_or_default();
        let candidates = record.candidates();
        let owned = |texts: Vec<&str>| texts.into_iter().map(str::to_owned).collect::<Vec<_>>();
        let odd = record.odd.map(|odd| format!("its caption or its references are {odd}, not texts"));
        let lacks = match (candidates.is_empty(), references.is_empty()) {
            _ if odd.is_some() => odd.unwrap_or_default(),
            (false, false) => {
                scored.push(Scored { candidates: owned(candidates), references: owned(references) });
                return;
            }
            (true, _) => "it has no text under \"caption\" or \"prediction\"".to_owned(),
            (false, true) => "it has no references".to_owned(),
        };
        rejects.push(Reject::new(format!("entry {}", count - 1), lacks));
    };
    let walked = match shape {
        JsonShape::Lines(_) => walk_lines(&text, &ColumnNames::default(), &mut add),
        JsonShape::Document(document) => walk(&text, &ColumnNames::default(), &mut |place, record| {
            // Beside a list of captions a file may say other things.
            if place.key.is_none() || document.lists.is_empty() {
                add(record);
            }
        })
        .map(drop),
    };
    walked.map_err(|error| failure(format!("{name} cannot be read: {error}"), "download the file again"))?;
    Ok(Some((scored, rejects)))
}

fn open(path: &Path) -> anyhow::Result<Source> {
    let name = path.to_string_lossy();
    if path.is_dir() || is_archive_name(&name) || is_parquet_name(&name) {
        Source::open(path, None)
    } else {
        Source::file(path)
    }
}
