//! Parquet files, as the Hub has data sets: each row has an image, in the file itself or by its name, and its captions
//! in a text, a list of texts, or several columns. The names of files and folders say the split
//! (`train-00000-of-00004.parquet`), unless a column does.

use crate::annotations::builder::{Builder, Reading};
use crate::annotations::candidates::{Candidates, Content};
use crate::annotations::extras;
use crate::annotations::format::{Certainty, Format, Match};
use crate::annotations::input::{AnnotationFile, Input};
use crate::annotations::raw_dataset::{RawDataset, Reject, Repair};
use crate::annotations::references::{file_of, placed};
use crate::annotations::table_columns::{Column, ImageIn, TableColumns};
use crate::annotations::text::is_missing;
use crate::source::{Limits, NoImage, Source, Table, Values, share};
use base::error::{failure, usage_error};

pub(crate) static FORMAT: Format = Format {
    name: "parquet",
    description: "Parquet files with a column of images, or of their names, and one of captions",
    find,
    read,
};

/// Rows that are read at a time.
const BATCH: usize = 1000;

fn find(candidates: &Candidates<'_>) -> anyhow::Result<Vec<Match>> {
    let columns = |content: &Content| match content {
        Content::Parquet(columns) => Some(columns.clone()).filter(TableColumns::is_complete),
        _ => None,
    };
    let files = candidates.files(|content| columns(content).is_some());
    let is_weak = |file: &usize| candidates.content(*file).and_then(columns).is_some_and(|columns| columns.is_weak);
    let certainty = if files.iter().any(is_weak) { Certainty::Near } else { Certainty::Sure };
    // Shards are called as the programs that write them like: what they have says whether they belong together.
    let found = Match::some(&FORMAT, None, files);
    Ok(found.into_iter().map(|found| Match { certainty, ..found }).collect())
}

fn read(input: &Input<'_>) -> anyhow::Result<RawDataset> {
    let (source, near) = (input.source, input.neighbours());
    let mut builder = input.builder();
    let tables: Vec<(usize, &Table)> =
        input.files.iter().filter_map(|&file| Some((file, source.table(file)?))).collect();
    let mut first: Option<(&str, String)> = None;
    let mut all: Vec<(usize, &Table, TableColumns)> = Vec::with_capacity(tables.len());
    for (file, table) in tables {
        let path = source.files()[file].path.as_str();
        let columns = TableColumns::of(table, source.columns());
        if let ImageIn::Several(several) = &columns.image {
            let message = format!("{path} has several columns of images: {}", several.join(", "));
            return Err(usage_error(message, format!("choose one with `--columns image={}`", several[0])));
        }
        let described = columns.describe();
        match &first {
            None => first = Some((path, described)),
            Some((_, known)) if *known == described => {}
            Some((other, known)) => {
                let message = format!("{path} has other columns than {other}: {described}; {other} has {known}");
                return Err(failure(
                    message,
                    "give the folder of one data set, or name columns that all files have with `--columns`",
                ));
            }
        }
        all.push((file, table, columns));
    }
    let is_embedded = all.iter().any(|(_, table, _)| table.has_images());
    for (file, table, columns) in &all {
        let path = source.files()[*file].path.as_str();
        columns.known.iter().for_each(|name| builder.hear(name));
        if !columns.unused.is_empty() {
            let read: Vec<&str> = columns.captions.iter().map(|column| column.name.as_str()).collect();
            let note = format!("captions are read from {}; not read: {}", read.join(", "), columns.unused.join(", "));
            builder.repairs.push(Repair::new(path, note));
        }
        let annotations = near.file(path);
        Rows { source, file: *file, table, columns, annotations }.read(&mut builder)?;
    }
    Ok(if is_embedded { builder.finish_with_paths() } else { builder.finish("") })
}

/// The rows of a file.
struct Rows<'a> {
    source: &'a Source,
    file: usize,
    table: &'a Table,
    columns: &'a TableColumns,
    annotations: AnnotationFile<'a>,
}

/// What a row has in the columns that are read: nothing, a text, or several.
struct Row {
    number: usize,
    name: Vec<String>,
    place: Vec<String>,
    split: Vec<String>,
    maybe_split: Vec<String>,
    prediction: Vec<String>,
    prompt: Vec<String>,
    weight: Vec<String>,
    /// Of each column with captions.
    captions: Vec<Vec<String>>,
}

fn only(texts: &[String]) -> Option<&str> {
    texts.first().map(String::as_str)
}

impl Rows<'_> {
    fn read(&self, builder: &mut Builder) -> anyhow::Result<()> {
        let TableColumns { image, captions, split, maybe_split, prediction, prompt, weight, .. } = self.columns;
        let (name, place) = match image {
            ImageIn::Named(name, place) => (Some(name), place.as_ref()),
            _ => (None, None),
        };
        let single =
            [name, place, split.as_ref(), maybe_split.as_ref(), prediction.as_ref(), prompt.as_ref(), weight.as_ref()];
        let all: Vec<Option<&Column>> = single.into_iter().chain(captions.iter().map(Some)).collect();
        let (mut number, mut left) = (0, Limits::DATASET.text_bytes);
        for (group, num_rows) in self.table.groups().enumerate() {
            let open =
                |column: &Option<&Column>| column.map(|column| self.table.values(group, column.leaf)).transpose();
            let mut columns = all.iter().map(open).collect::<anyhow::Result<Vec<Option<Values>>>>()?;
            // Held while the group is read.
            let _share = share(columns.iter().flatten().map(Values::memory).sum())?;
            let mut rest = num_rows;
            while rest > 0 {
                let count = rest.min(BATCH);
                rest -= count;
                let texts = |values: &mut Option<Values>| match values {
                    Some(values) => values.texts(count, &mut left),
                    None => Ok(vec![Vec::new(); count]),
                };
                let mut texts = columns.iter_mut().map(texts).collect::<anyhow::Result<Vec<Vec<Vec<String>>>>>()?;
                for at in 0..count {
                    let mut cells = texts.iter_mut().map(|column| std::mem::take(&mut column[at]));
                    let mut next = || cells.next().unwrap_or_default();
                    let row = Row {
                        number,
                        name: next(),
                        place: next(),
                        split: next(),
                        maybe_split: next(),
                        prediction: next(),
                        prompt: next(),
                        weight: next(),
                        captions: cells.collect(),
                    };
                    self.add(builder, &row)?;
                    number += 1;
                }
            }
        }
        Ok(())
    }

    fn add(&self, builder: &mut Builder, row: &Row) -> anyhow::Result<()> {
        let place = || format!("row {} of {}", row.number, self.annotations.path);
        let image = match self.image(row) {
            Ok(image) => image,
            Err(reason) => {
                builder.rejects.push(Reject::new(place(), reason));
                return Ok(());
            }
        };
        let index = builder.image(&image);
        builder.split_as_written(index, only(&row.split), self.annotations.split);
        if let (Some(column), Some(word)) = (&self.columns.maybe_split, only(&row.maybe_split)) {
            builder.maybe_split(index, &column.name, word);
        }
        if builder.reading == Reading::Candidates && self.columns.prediction.is_some() {
            row.prediction.iter().for_each(|caption| builder.caption(index, None, caption));
            return Ok(());
        }
        let is_read = builder.reading == Reading::Preparation;
        let cell = |texts: &'_ [String]| only(texts).filter(|_| is_read).map(str::to_owned);
        let (prompt, weight) = (cell(&row.prompt), cell(&row.weight));
        let extras = extras::of_cells(prompt.as_deref(), weight.as_deref(), &place())?;
        for caption in row.captions.iter().flatten() {
            // With several columns or a list, not every image has as many captions.
            if row.captions.len() == 1 && row.captions[0].len() == 1 || !caption.trim().is_empty() {
                builder.cell_with(index, None, caption, &extras, place);
            }
        }
        Ok(())
    }

    /// What the image of a row is called, or why it has none.
    fn image(&self, row: &Row) -> Result<String, &'static str> {
        if let ImageIn::File(_) = self.columns.image {
            return match self.source.image_in(self.file, row.number) {
                Ok(file) => Ok(file.path.clone()),
                Err(NoImage::Absent) => Err("it has no image"),
                Err(NoImage::TooLarge) => Err("its image has more bytes than are accepted"),
            };
        }
        let name = only(&row.name).map(str::trim).filter(|name| !name.is_empty() && !is_missing(name));
        let name = name.ok_or("it names no image")?;
        let name = match only(&row.place) {
            Some(place) => placed(name, place),
            None => file_of(name).into(),
        };
        Ok(self.annotations.reference(&name).into_owned())
    }
}
