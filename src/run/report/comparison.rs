//! Gathers the data of a comparison of runs: their files, and the captions of one split that all of them wrote, for the
//! images that they have in common.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use image::ImageFormat;

use super::page_file::{check_free, write_page};
use super::{RunFiles, SplitCaptions, best_checkpoint, read_captions};
use crate::config::{self, RunConfig};
use crate::decoding::{Decoding, Strategy};
use crate::run::run_directory::RunDirectory;
use crate::run::split_scores::SplitScores;
use base::digest;
use base::error::{failure, one_line};
use base::quoting::shell_path;
use base::terminal;
use datasets::picture_file::PictureFile;
use datasets::prepared::{Dataset, Split};
use metrics::bootstrap::NUM_RESAMPLES;
use metrics::comparison::{Comparison, compare};
use metrics::corpus::Captions;
use metrics::meteor::Meteor;
use metrics::score::ScoreOptions;
use pixels::image_file::encode;
use pixels::image_processor::shrink_rgb;
use report::{COMPARISON_GENERATOR, ComparedCaptions, ComparedPicture, ComparisonData, render_comparison};

/// The page, beside the folder of the first run.
pub const COMPARISON_FILE: &str = "comparison.html";
/// The longer side of a picture that is shown, in pixels.
const SIDE: u32 = 336;

/// What came of a comparison whose page is written.
pub struct Compared {
    /// The scores, their differences and what these are worth, to print.
    pub lines: Vec<String>,
    /// Why captions could not be compared.
    pub failure: Option<anyhow::Error>,
}

/// Writes the page of several runs into a file; `num_images` are shown with their captions. Captions that cannot be
/// compared leave a page without them.
///
/// # Errors
/// A folder that is not a run's; a file that cannot be written, or exists and is not a comparison.
pub fn write(runs: &[RunDirectory], path: &Path, num_images: usize) -> Result<Compared> {
    check_free(path, "a comparison of runs", |head| head.contains(COMPARISON_GENERATOR))?;
    let (names, mut files) = (names(runs), Vec::new());
    for (run, name) in runs.iter().zip(&names) {
        let mut of_run = RunFiles::read(run).with_context(|| format!("cannot use the run {}", run.path().display()))?;
        of_run.missing.iter().for_each(|what| terminal::warning(&format!("{name} has {what}")));
        of_run.data.run_name.clone_from(name);
        files.push(of_run);
    }
    let configs: Vec<&RunConfig> = files.iter().map(|files| &files.config).collect();
    let configs = config::differences(&configs)
        .into_iter()
        .map(|(key, values)| (key, values.into_iter().map(|value| value.map(|value| value.to_string())).collect()));
    let mut data = ComparisonData { configs: configs.collect(), ..ComparisonData::default() };
    let mut compared = Compared { lines: Vec::new(), failure: None };
    let captions = gather(runs, &names, &files, num_images, &mut data.notes);
    data.notes.iter().for_each(|note| terminal::warning(note));
    match captions {
        Ok(captions) => {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            compared.lines = captions.comparison.lines(&names);
            // The lines have them already.
            data.notes.extend(captions.comparison.reports.first().map_or_else(Vec::new, |it| it.notes.clone()));
            data.captions = Some(captions);
        }
        Err(error) => {
            data.notes.push(format!("captions are not compared: {}", one_line(&error)));
            compared.failure = Some(error.context("captions are not compared"));
        }
    }
    data.runs = files.into_iter().map(|files| files.data).collect();
    write_page(path, &render_comparison(&data).context("cannot create the page")?)?;
    Ok(compared)
}

/// The folders' names; the paths as they were given where two are the same.
fn names(runs: &[RunDirectory]) -> Vec<String> {
    let name = |run: &RunDirectory| {
        let whole = run.path().canonicalize().unwrap_or_default();
        whole.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    };
    let names: Vec<String> = runs.iter().map(name).collect();
    let is_unique = |(place, name): (usize, &String)| !name.is_empty() && !names[..place].contains(name);
    match names.iter().enumerate().all(is_unique) {
        true => names,
        false => runs.iter().map(|run| run.path().display().to_string()).collect(),
    }
}

/// The captions of a split in a run's folder.
struct RunCaptions {
    dataset: Arc<Dataset>,
    scores: SplitScores,
    captions: SplitCaptions,
}

/// What is to know of the comparison goes into `notes`.
fn gather(
    runs: &[RunDirectory],
    names: &[String],
    files: &[RunFiles],
    num_images: usize,
    notes: &mut Vec<String>,
) -> Result<ComparedCaptions> {
    let split = common_split(runs, names, files)?;
    let mut found: Vec<RunCaptions> = Vec::new();
    for (run, files) in runs.iter().zip(files) {
        found.push(read(run, split, files, &found)?);
        let path = run.predictions().join(format!("{split}.json"));
        let scored = found.last().and_then(|it| it.scores.predictions_sha256.as_ref());
        if scored.is_some_and(|scored| digest::sha256_file(&path).ok().as_ref() != Some(scored)) {
            notes.push(format!("{} is not what was scored in its folder: it was changed since", path.display()));
        }
    }
    let found = found.as_slice();
    let rows = common_images(found, names, notes)?;
    let captions_of = |run: usize| rows.iter().map(move |row| &found[run].captions.split.images[row[run]]);
    let set = |run: usize| -> Vec<Captions> {
        let pairs =
            captions_of(run).map(|it| Captions { candidate: it.caption.clone(), references: it.references.clone() });
        pairs.collect()
    };
    let resources = files.iter().find_map(|files| files.config.evaluation.meteor_resources.as_deref());
    let meteor = Meteor::open(resources).unwrap_or_else(|error| {
        notes.push(format!("METEOR counts only equal words and stems: {}", one_line(&error)));
        Meteor::exact_and_stem()
    });
    let options = ScoreOptions {
        meteor: &meteor,
        document_references: None,
        training_captions: None,
        num_resamples: NUM_RESAMPLES,
        seed: 0,
    };
    let comparison = compare(&(0..runs.len()).map(set).collect::<Vec<_>>(), &options);
    note_other_ways(found, names, &comparison, notes);
    let chosen = most_different(&comparison.ciders, num_images);
    let pictures = chosen.into_iter().map(|image| {
        let (RunCaptions { dataset, captions, .. }, place) = (&found[0], rows[image][0]);
        let index = captions.images[place];
        let name = dataset.images.get(index).filename().to_owned();
        let picture = thumbnail(&dataset.picture(index)).unwrap_or_else(|error| {
            notes.push(format!("the picture {name} is not shown: {}", one_line(&error)));
            Vec::new()
        });
        ComparedPicture { image, name, picture, references: captions.split.images[place].references.clone() }
    });
    Ok(ComparedCaptions {
        pictures: pictures.collect(),
        split: split.to_owned(),
        writers: found.iter().map(|run| writer(&run.scores)).collect(),
        captions: (0..runs.len()).map(|run| captions_of(run).map(|it| it.caption.clone()).collect()).collect(),
        comparison,
    })
}

/// The split that all runs captioned; the test split before the others.
fn common_split(runs: &[RunDirectory], names: &[String], files: &[RunFiles]) -> Result<&'static str> {
    let has = |run: &RunDirectory, split: &str| {
        [".json", ".scores.json"].iter().all(|ending| run.predictions().join(format!("{split}{ending}")).is_file())
    };
    let splits = || Split::ALL.into_iter().rev().map(Split::name);
    if let Some(split) = splits().find(|split| runs.iter().all(|run| has(run, split))) {
        return Ok(split);
    }
    let wanted = splits().find(|split| runs.iter().any(|run| has(run, split))).unwrap_or("test");
    let lacking = runs.iter().zip(names).zip(files).filter(|((run, _), _)| !has(run, wanted));
    let (mut without, mut commands) = (Vec::new(), Vec::new());
    for ((run, name), RunFiles { newest, .. }) in lacking {
        let best = newest.as_ref().map(|(path, state)| best_checkpoint(run, state).unwrap_or_else(|| path.clone()));
        let checkpoint = shell_path(&best.unwrap_or_else(|| run.last_checkpoint()));
        without.push(name.as_str());
        commands.push(format!("`caption-train evaluate --checkpoint {checkpoint} --split {wanted}`"));
    }
    Err(failure(
        format!("there are no captions of one split by all runs: none of {wanted} by {}", without.join(", ")),
        format!("write them with {}", commands.join(" and ")),
    ))
}

/// The captions of a run; `known` are those of runs that may have the same data set.
fn read(run: &RunDirectory, split: &str, files: &RunFiles, known: &[RunCaptions]) -> Result<RunCaptions> {
    let scores = SplitScores::read(&run.predictions().join(format!("{split}.scores.json")))?;
    let directory = files.config.data.directory.as_deref();
    let directory = directory.with_context(|| format!("data.directory of {} is not set", run.path().display()))?;
    let dataset = match known.iter().find(|other| other.dataset.directory == directory) {
        Some(other) => Arc::clone(&other.dataset),
        None => Arc::new(Dataset::open(directory)?),
    };
    if scores.dataset_digest != dataset.digest {
        return Err(failure(
            format!(
                "the captions of {split} in {} are of another data set than {}",
                run.path().display(),
                directory.display()
            ),
            "bring back the data set that was captioned, or caption this one with `caption-train evaluate`",
        ));
    }
    let captions = read_captions(run, &dataset, split)?;
    Ok(RunCaptions { dataset, scores, captions })
}

/// For each image that all runs captioned, and that has the same references in the data sets of all, its place among
/// the captions of each run.
fn common_images(found: &[RunCaptions], names: &[String], notes: &mut Vec<String>) -> Result<Vec<Vec<usize>>> {
    let name_of =
        |run: &'_ RunCaptions, place: usize| run.dataset.images.get(run.captions.images[place]).filename().to_owned();
    let places = |run: &RunCaptions| -> HashMap<String, usize> {
        (0..run.captions.images.len()).map(|place| (name_of(run, place), place)).collect()
    };
    let by_name: Vec<HashMap<String, usize>> = found.iter().map(places).collect();
    let first = &found[0];
    let all_places = |place: usize| -> Option<Vec<usize>> {
        let name = name_of(first, place);
        by_name.iter().map(|places| places.get(&name).copied()).collect()
    };
    let mut rows: Vec<Vec<usize>> = (0..first.captions.images.len()).filter_map(all_places).collect();
    let num_common = rows.len();
    let references = |run: usize, row: &[usize]| &found[run].captions.split.images[row[run]].references;
    rows.retain(|row| (1..found.len()).all(|run| references(run, row) == references(0, row)));
    let list = |value: &dyn Fn(&RunCaptions) -> String| {
        let parts = names.iter().zip(found).map(|(name, run)| format!("{name}: {}", value(run)));
        parts.collect::<Vec<_>>().join("; ")
    };
    let datasets = list(&|run| format!("{} in {}", run.dataset.name, run.dataset.directory.display()));
    if rows.is_empty() {
        return Err(failure(
            format!("the runs captioned no image in common that has the same references ({datasets})"),
            "compare runs of one data set, or captions from anywhere with `caption-train score --compare`",
        ));
    }
    if found.iter().any(|run| run.dataset.digest != first.dataset.digest) {
        notes.push(format!("the data sets differ: {datasets}"));
    }
    if found.iter().any(|run| run.captions.images.len() != num_common) {
        let counts = list(&|run| format!("{} images", run.captions.images.len()));
        notes.push(format!("only the {num_common} images are compared that all runs captioned ({counts})"));
    }
    if rows.len() < num_common {
        let count = num_common - rows.len();
        notes.push(format!("{count} of these images are left out: the data sets have different references for them"));
    }
    Ok(rows)
}

/// How the captions were written and scored, where runs differ in it.
fn note_other_ways(found: &[RunCaptions], names: &[String], comparison: &Comparison, notes: &mut Vec<String>) {
    let searches: Vec<String> = found.iter().map(|run| search(&run.scores.decoding)).collect();
    if searches.iter().any(|search| *search != searches[0]) {
        let parts: Vec<String> =
            names.iter().zip(&searches).map(|(name, search)| format!("{name}: {search}")).collect();
        notes.push(format!("the runs searched for captions in different ways ({})", parts.join("; ")));
    }
    let ours = comparison.reports.first().map_or("", |report| &report.signature);
    for (name, run) in names.iter().zip(found) {
        let is_other = |part: &&str| !part.starts_with("images:") && !ours.split('|').any(|own| own == *part);
        let others = run.scores.report.signature.split('|').filter(is_other);
        let (rewards, others): (Vec<&str>, Vec<&str>) = others.partition(|part| part.starts_with("reward:"));
        if let Some(reward) = rewards.first() {
            notes.push(format!("{name} was trained on CIDEr-D ({reward}): its other scores say more of its captions"));
        }
        if !others.is_empty() {
            notes.push(format!(
                "the scores in the folder of {name} have a different signature ({}); those compared are computed anew, \
                 in the same way for all runs",
                others.join(", ")
            ));
        }
    }
}

/// The model that wrote captions, and how it searched for them.
fn writer(scores: &SplitScores) -> String {
    let epoch = scores.epoch.map_or_else(String::new, |epoch| format!(", epoch {epoch}"));
    format!("{}{epoch}; {}", scores.checkpoint, search(&scores.decoding))
}

fn search(Decoding { constraints, strategy, .. }: &Decoding) -> String {
    let strategy = match strategy {
        Strategy::Greedy => "greedy search".to_owned(),
        Strategy::Beam { num_beams, length_penalty, .. } => {
            format!("{num_beams} beams, length penalty {length_penalty}")
        }
        Strategy::Sample { temperature, top_k, top_p, .. } => {
            format!("drawn at temperature {temperature}, top-k {top_k}, top-p {top_p}")
        }
    };
    let repeats = match constraints.no_repeat_ngram_size {
        0 => String::new(),
        size => format!(", no {size}-gram twice"),
    };
    format!("{strategy}, {} to {} tokens{repeats}", constraints.min_new_tokens, constraints.max_new_tokens)
}

/// The images whose captions differ most from those of the first run in CIDEr-D.
fn most_different(ciders: &[Vec<f64>], num_images: usize) -> Vec<usize> {
    let Some((first, others)) = ciders.split_first() else { return Vec::new() };
    let difference = |image: usize| others.iter().map(|other| (other[image] - first[image]).abs()).fold(0.0, f64::max);
    let mut order: Vec<usize> = (0..first.len()).collect();
    order.sort_by(|&one, &other| difference(other).total_cmp(&difference(one)));
    order.truncate(num_images);
    order
}

fn thumbnail(file: &PictureFile) -> Result<Vec<u8>> {
    let picture = file.load_rgb()?;
    encode(&*shrink_rgb(&picture, SIDE)?, ImageFormat::Jpeg)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_images_that_differ_most_come_first_whoever_is_better() {
        let ciders = [vec![1.0, 1.0, 1.0, 1.0], vec![1.0, 0.0, 3.0, 1.5], vec![1.0, 1.0, 1.0, 9.0]];
        assert_eq!(most_different(&ciders, 3), [3, 2, 1]);
        assert_eq!(most_different(&ciders[..1], 2), [0, 1]);
        assert!(most_different(&[], 2).is_empty() && most_different(&ciders, 0).is_empty());
    }

    #[test]
    fn runs_are_called_by_their_folders_and_by_their_paths_where_these_are_called_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let runs: Vec<RunDirectory> = ["a/run", "b/run", "b/other"]
            .iter()
            .map(|name| {
                std::fs::create_dir_all(folder.path().join(name)).unwrap();
                RunDirectory::at(&folder.path().join(name))
            })
            .collect();
        assert_eq!(names(&runs[1..]), ["run", "other"]);
        assert_eq!(names(&runs[..2]), [0, 1].map(|run: usize| runs[run].path().display().to_string()));
    }
}
