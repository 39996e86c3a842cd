//! A preparation from the source to the finished folder.

use std::path::{Path, PathBuf};

use crate::annotations::{KnownDataset, RawDataset, Reject, Repair, Selector, choose};
use crate::output::{About, Options, Origin, Preparation, ownership};
use crate::prepare::contact_sheet::write_samples;
use crate::prepare::filters::{Filters, Tally};
use crate::prepare::gather::Resolved;
use crate::prepare::images::StoreResult;
use crate::prepare::near_duplicates::note_shared_pictures;
use crate::prepare::origins::sources;
use crate::prepare::request::{Done, Outcome, Request, read_options};
use crate::prepare::splitting::Candidate;
use crate::prepare::summary::summary;
use crate::prepare::{already, gather, images, links, splitting};
use crate::prepared::{DATASET_FILE, IMAGE_FOLDER, MARKER_FILE, PREPARATION_FILE};
use crate::source::{Source, is_archive_name, is_packed_text_name, without_ending};
use crate::{output, shapes};
use base::error::{failure, usage_error, with_hint};
use base::quoting::shell_path;
use base::terminal;

const NUM_SAMPLES: usize = 25;

pub fn prepare(request: &Request) -> anyhow::Result<Outcome> {
    let wanted = request.dataset.as_deref().map_or(Ok(Selector::Any), Selector::named)?;
    let (options, split_file, filters) = read_options(request)?;
    if wanted == Selector::Dataset(KnownDataset::Shapes) {
        return draw_shapes(request, &options);
    }
    let known = match wanted {
        Selector::Dataset(known) => Some(known.name()),
        Selector::Any => request.dataset.as_deref(),
        Selector::Format(_) => None,
    };
    // What is there already needs no source.
    let directory = request.output.clone().or_else(|| known.map(|name| Path::new("data").join(name)));
    if let Some(directory) = &directory
        && let Some(report) = already::prepared(known, request, wanted, &options, directory)?
    {
        return Ok(Outcome { done: Done::AlreadyPrepared, report, directory: directory.clone() });
    }
    let Some(path) = &request.source else { return Err(source_needed(known, directory.as_deref())) };
    let source = Source::open_with(path, directory.as_deref(), &options.columns)?;
    let choice = choose(&source, wanted).map_err(|error| match &request.origin {
        // `--dataset` named the repository, so it cannot name a format too.
        Some(_) => with_hint(
            error,
            format!(
                "the downloaded files are in {0}; to have one format of them read: caption-train prepare-data --source \
                 {0} --dataset FORMAT --output DIR",
                shell_path(path)
            ),
        ),
        None => error,
    })?;
    let found = &choice.found;
    let mut raw = found.read(&source)?;
    if let Some(missing) = raw.missing_columns.first() {
        let message = format!("--columns: no column or key is called {missing}, in {}", found.describe(&source));
        return Err(usage_error(message, "give names as they are written in the file"));
    }
    // Files of your own may be called like those of a known data set, or be written like them.
    let called = found.dataset.or(KnownDataset::named(&raw.name));
    let dataset = known.and_then(KnownDataset::named).or(called.filter(|called| called.has_size_of(&raw)));
    raw.name = name_of(known.or(dataset.map(KnownDataset::name)), path);
    if dataset.is_none() && KnownDataset::named(&raw.name.to_lowercase()).is_some() {
        let own = format!("{}-own", raw.name);
        let note = format!("the source has this name, but contains another data set: it is named {own}");
        raw.repairs.push(Repair::new(std::mem::replace(&mut raw.name, own), note));
    }
    raw.repairs.extend(choice.notes.iter().cloned());
    // What was downloaded is made of links by the cache that holds it.
    if request.origin.is_none() {
        raw.repairs.extend(links::followed(&source));
    }
    let directory = directory.unwrap_or_else(|| Path::new("data").join(&raw.name));
    if request.output.is_none()
        && known.is_none()
        && let Some(report) = already::prepared(Some(&raw.name), request, wanted, &options, &directory)?
    {
        return Ok(Outcome { done: Done::AlreadyPrepared, report, directory });
    }
    links::apart_from_source(path, &source, &directory)?;
    ownership::check(&directory)?;
    let gathered = gather::gather(raw, &source, dataset, split_file.as_ref(), &options, filters, &choice)?;
    let about = About {
        format: found.format.name.to_owned(),
        options: options.clone(),
        origin: request.origin.clone(),
        ..About::default()
    };
    if request.is_dry_run {
        return dry_run(gathered, about, directory);
    }
    let made_meanwhile = || already::prepared(known, request, wanted, &options, &directory);
    let (done, report) = make(&source, path, gathered, about, &found.files, &directory, made_meanwhile)?;
    Ok(Outcome { done, report, directory })
}

/// Ensures that `directory` contains the prepared data set called `name`: prepares it when it is absent and nothing is
/// needed from the user, or `source` is given. What is there already stays as it is, whatever became of its source (see
/// [`source_changes`]), and so does a folder with a `dataset.json` of your own.
pub fn ensure_dataset(
    name: &str,
    directory: &Path,
    source: Option<&Path>,
    origin: Option<Origin>,
) -> anyhow::Result<()> {
    if is_there(name, directory)? {
        return Ok(());
    }
    let outcome = prepare(&Request {
        dataset: Some(name.to_owned()),
        source: source.map(Path::to_owned),
        origin,
        output: Some(directory.to_owned()),
        ..Request::default()
    })?;
    terminal::message(&summary(&outcome));
    Ok(())
}

/// Whether `directory` contains the prepared data set called `name`, or one of your own.
pub fn is_there(name: &str, directory: &Path) -> anyhow::Result<bool> {
    let is_prepared = directory.join(PREPARATION_FILE).exists() || directory.join(MARKER_FILE).exists();
    let own = directory.join(DATASET_FILE).is_file() && !is_prepared;
    let report = output::finished(Some(name), directory)?;
    if let Some(report) = &report {
        already::warn_of_old_pixels(report, directory);
    }
    Ok(own || report.is_some())
}

fn draw_shapes(request: &Request, options: &Options) -> anyhow::Result<Outcome> {
    if request.source.is_some() || *options != Options::default() {
        let message = "data set shapes takes neither a source nor options: the program draws it";
        return Err(usage_error(message, "leave them out"));
    }
    let directory = request.output.clone().unwrap_or_else(|| PathBuf::from("data/shapes"));
    let outcome = |done, report| Outcome { done, report, directory: directory.clone() };
    if let Some(report) = output::finished(Some("shapes"), &directory)? {
        return Ok(outcome(Done::AlreadyPrepared, report));
    }
    if request.is_dry_run {
        return Err(usage_error("data set shapes is drawn in a moment: it has no dry run", "leave out --dry-run"));
    }
    ownership::check(&directory)?;
    let turn = output::wait(&directory)?;
    match output::finished(Some("shapes"), &directory)?.filter(|_| turn.has_waited) {
        Some(report) => Ok(outcome(Done::AlreadyPrepared, report)),
        None => Ok(outcome(Done::Prepared, shapes::draw(&directory)?)),
    }
}

/// The name that was asked for or that of a known data set, else that of the folder or archive it comes from.
fn name_of(known: Option<&str>, source: &Path) -> String {
    let full = std::fs::canonicalize(source).unwrap_or_else(|_| source.to_owned());
    let folder = || {
        let name = full.file_name().map_or_else(|| "dataset".to_owned(), |name| name.to_string_lossy().into_owned());
        if full.is_dir() { name } else { without_endings(&name).to_owned() }
    };
    known.map_or_else(folder, str::to_owned)
}

/// `shard` for `shard.tar.gz`.
fn without_endings(name: &str) -> &str {
    let stem = without_ending(name);
    let is_packed = is_archive_name(name) && (is_archive_name(stem) || is_packed_text_name(name));
    if is_packed { without_ending(stem) } else { stem }
}

fn source_needed(known: Option<&str>, output: Option<&Path>) -> anyhow::Error {
    let Some(name) = known else {
        return usage_error(
            "no source is given",
            "give the folder or archive with images and captions with `--source PATH`",
        );
    };
    let place = output.map_or_else(String::new, |output| format!(" is not in {}", output.display()));
    let message = format!("data set {name}{place}, and its source is not given");
    let output = output.map_or_else(String::new, |output| format!(" --output {}", shell_path(output)));
    let hint = format!(
        "run `caption-train prepare-data --dataset {name} --source DIR{output}`; DIR is the folder with its archives as \
         they are distributed, or unpacked (in a config file: `data.source`)"
    );
    failure(message, hint)
}

fn dry_run(gathered: Resolved, mut about: About, directory: PathBuf) -> anyhow::Result<Outcome> {
    let Resolved { mut raw, default_validation, filters, tally, .. } = gathered;
    about.filtered = filters.finish(tally, &mut raw);
    for filter in filters.of_pixels() {
        raw.repairs.push(Repair::new(filter, "works when images are read, which a dry run does not do"));
    }
    let names: Vec<String> = raw.images.iter().map(|image| image.filename.clone()).collect();
    let candidates: Vec<Candidate<'_>> = names
        .iter()
        .zip(&raw.images)
        .map(|(filename, image)| {
            // Contents are not known yet: each image counts as distinct.
            let mut hasher = base::digest::Hasher::new();
            hasher.update(filename.as_bytes());
            Candidate { filename, split: image.split, content: hasher.finish_bytes() }
        })
        .collect();
    let (validation_fraction, test_fraction) = (about.options.validation_fraction, about.options.test_fraction);
    let splits =
        splitting::assign(&candidates, validation_fraction, test_fraction, default_validation, &mut raw.repairs)?;
    raw.images.iter_mut().zip(splits).for_each(|(image, split)| image.split = Some(split));
    let report = output::summarize(&raw, about, String::new());
    Ok(Outcome { done: Done::DryRun, report, directory })
}

/// `made_meanwhile` gives the report of what another process made while this one waited for it.
fn make(
    source: &Source,
    path: &Path,
    gathered: Resolved,
    mut about: About,
    annotations: &[usize],
    directory: &Path,
    made_meanwhile: impl Fn() -> anyhow::Result<Option<Preparation>>,
) -> anyhow::Result<(Done, Preparation)> {
    let Resolved { mut raw, files, weighed, default_validation, filters, mut tally } = gathered;
    let image_folder = directory.join(IMAGE_FOLDER);
    let num_images = raw.images.len();
    let step = num_images.div_ceil(NUM_SAMPLES).max(1);
    let wanted: Vec<images::ImageJob<'_>> = raw
        .images
        .iter()
        .zip(&files)
        .enumerate()
        .map(|(index, (image, &file))| images::ImageJob {
            file,
            filename: &image.filename,
            is_sample: index % step == 0,
        })
        .collect();
    if about.options.resize.is_none() {
        images::check_room(source, &wanted, &image_folder)?;
    }
    let turn = output::wait(directory)?;
    if turn.has_waited
        && let Some(report) = made_meanwhile()?
    {
        return Ok((Done::AlreadyPrepared, report));
    }
    let ours = ownership::begin(directory, wanted.iter().map(|wanted| wanted.filename))?;
    let taken = images::take(source, &wanted, directory, &ours, about.options.resize, &filters)?;
    let (sources, record) = sources(source, path, &wanted, &taken, annotations, &weighed);
    (about.sources, about.record) = (sources, Some(record));
    let was_there = |taken: &&StoreResult| matches!(taken, StoreResult::Stored(stored) if stored.was_there);
    let num_kept = taken.iter().filter(was_there).count();
    if num_kept > 0 {
        terminal::message(&format!("{num_kept} of {num_images} images were already there"));
    }
    drop(wanted);
    let mut stored =
        keep_whole(&mut raw, taken, &filters, &mut tally, |place, name| images::own_name(source, files[place], name))?;
    drop_duplicates(&mut raw, &mut stored, &filters, &mut tally, &ours, directory)?;
    about.filtered = filters.finish(tally, &mut raw);
    settle_splits(&mut raw, &stored, &about.options, default_validation)?;
    let digests: Vec<[u8; 32]> = stored.iter().map(|stored| stored.digest).collect();
    let hashes: Vec<u64> = stored.iter().map(|stored| stored.difference_hash).collect();
    note_shared_pictures(&mut raw, &digests, &hashes);
    let sums: Vec<String> = stored.iter().map(|stored| stored.sum.clone()).collect();
    write_samples(&raw, stored, directory, &ours)?;
    images::remove_others(directory, &ours, raw.images.iter().map(|image| image.filename.as_str()))?;
    Ok((Done::Prepared, output::finish(directory, &raw, about, &ours, &sums)?))
}

/// Leaves out the images that cannot be read or decoded, and those that a filter left out; `own_name` gives the user's
/// name of the image at a place.
fn keep_whole(
    raw: &mut RawDataset,
    taken: Vec<StoreResult>,
    filters: &Filters,
    tally: &mut Tally,
    own_name: impl Fn(usize, &str) -> &str,
) -> anyhow::Result<Vec<images::StoredImage>> {
    let mut stored = Vec::with_capacity(taken.len());
    let mut kept = Vec::with_capacity(taken.len());
    let mut num_unreadable = 0;
    for (place, (image, taken)) in std::mem::take(&mut raw.images).into_iter().zip(taken).enumerate() {
        match taken {
            StoreResult::Stored(one) => {
                stored.push(one);
                kept.push(image);
            }
            StoreResult::Filtered { filter, reason, .. } => {
                tally.leave_out_image(filter, own_name(place, &image.filename), image.captions.len(), reason);
            }
            StoreResult::Broken { reason, .. } | StoreResult::Unreadable(reason) => {
                num_unreadable += 1;
                raw.rejects.push(Reject::new(own_name(place, &image.filename), reason));
            }
        }
    }
    raw.images = kept;
    if raw.images.is_empty() && tally.has_taken() {
        return Err(filters.nothing_left(tally, num_unreadable));
    }
    if raw.images.is_empty() {
        let first = raw.rejects.last().map_or_else(String::new, |last| format!(": {}: {}", last.what, last.reason));
        let hint = "download them again if they are damaged, convert them, or make them readable";
        return Err(failure(format!("none of the images can be read and decoded, such as the last{first}"), hint));
    }
    Ok(stored)
}

/// Leaves out images whose picture another one shows, and removes their files.
fn drop_duplicates(
    raw: &mut RawDataset,
    stored: &mut Vec<images::StoredImage>,
    filters: &Filters,
    tally: &mut Tally,
    ours: &ownership::Ours,
    directory: &Path,
) -> anyhow::Result<()> {
    let pictures: Vec<_> = stored.iter().map(|stored| (stored.digest, stored.difference_hash)).collect();
    let instead = filters.duplicates(raw, &pictures, tally);
    if instead.iter().all(Option::is_none) {
        return Ok(());
    }
    let (mut kept, mut kept_stored) = (Vec::new(), Vec::new());
    for ((image, one), instead) in std::mem::take(&mut raw.images).into_iter().zip(stored.drain(..)).zip(instead) {
        match instead {
            None => {
                kept.push(image);
                kept_stored.push(one);
            }
            // What was there already is removed if a preparation wrote it.
            Some(_) if one.was_there => ours.remove_image(directory, &image.filename)?,
            Some(_) => ours.remove_written(directory, &image.filename, &one.sum)?,
        }
    }
    (raw.images, *stored) = (kept, kept_stored);
    Ok(())
}

fn settle_splits(
    raw: &mut RawDataset,
    stored: &[images::StoredImage],
    options: &Options,
    default_validation: f64,
) -> anyhow::Result<()> {
    let candidates: Vec<Candidate<'_>> = raw
        .images
        .iter()
        .zip(stored)
        .map(|(image, stored)| Candidate { filename: &image.filename, split: image.split, content: stored.digest })
        .collect();
    let (validation_fraction, test_fraction) = (options.validation_fraction, options.test_fraction);
    let splits =
        splitting::assign(&candidates, validation_fraction, test_fraction, default_validation, &mut raw.repairs)?;
    raw.images.iter_mut().zip(splits).for_each(|(image, split)| image.split = Some(split));
    Ok(())
}
