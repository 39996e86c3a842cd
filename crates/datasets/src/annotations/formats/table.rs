//! A table with a header: a column for the image (`image`, `filepath`, `file_name` ...), one or several for its
//! captions (`caption`, `caption_1`, `title` ...), and perhaps one for the split. Between columns stand commas,
//! semicolons, tabs or `|`, whatever the file is called. `train.csv` and `val.csv` beside one another are splits.
//!
//! Also Flickr8k as it is on Kaggle, and copies of Flickr30k there in the same form: `captions.txt` with the header
//! `image,caption` or `image_name,comment_number,comment`, quotes only where a caption holds a comma, and the folder
//! `Images/`. It names neither the data set nor splits.

use crate::annotations::builder::{Builder, Reading};
use crate::annotations::candidates::{Candidates, Content};
use crate::annotations::fields::{Columns, Field, USUAL_NAMES, field};
use crate::annotations::file_names::has_ending;
use crate::annotations::format::{Certainty, Format, Match, grouped};
use crate::annotations::input::{AnnotationFile, Input};
use crate::annotations::layout::{Layout, TableLayout};
use crate::annotations::list_text::texts_of;
use crate::annotations::raw_dataset::{RawDataset, Reject, Repair};
use crate::annotations::references::{file_of, placed};
use crate::annotations::text::{Table, is_missing};
use crate::annotations::{backslash_quotes, entities, extras};
use base::error::failure;

pub(crate) static FORMAT: Format =
    Format { name: "table", description: "a CSV or TSV with columns such as image and caption", find, read };

fn find(candidates: &Candidates<'_>) -> anyhow::Result<Vec<Match>> {
    let files = candidates.source.files();
    let certainty = |file: usize, table: &TableLayout| {
        let (path, columns) = (&files[file].path, &table.columns);
        let is_usual = (has_ending(path, ".csv") || has_ending(path, ".tsv")) && table.separator != b'|';
        let is_numbered = columns.captions.iter().any(|&column| table.header[column].ends_with(char::is_numeric));
        if is_usual && !columns.is_weak && !is_numbered {
            return Some(Certainty::Sure);
        }
        table.first_image.as_ref().is_some_and(|image| candidates.is_image(image)).then_some(Certainty::Near)
    };
    let of_file = |file: usize| match candidates.content(file) {
        Some(Content::Text(Layout::Table(table))) => certainty(file, table),
        _ => None,
    };
    let mut found = candidates.files(|content| matches!(content, Content::Text(Layout::Table(_))));
    found.retain(|&file| of_file(file).is_some());
    Ok(grouped(candidates, &FORMAT, found, |file| of_file(file).unwrap_or(Certainty::Near)))
}

pub(crate) fn read(input: &Input<'_>) -> anyhow::Result<RawDataset> {
    let files = input.neighbours();
    Ok(input.build(|builder, path, text| parse(builder, &files.file(path), text))?.finish(""))
}

pub(crate) fn parse(builder: &mut Builder, file: &AnnotationFile<'_>, text: &str) -> anyhow::Result<()> {
    let separator = TableLayout::of_text(text, &builder.columns).separator;
    let mended = backslash_quotes::doubled(text, separator);
    builder.repairs.extend(mended.as_ref().map(|_| Repair::new(file.path, backslash_quotes::NOTE)));
    let text = mended.as_deref().unwrap_or(text);
    let table = Table::new(file.path, text.as_bytes(), separator)?;
    let columns = Columns::named(table.header().iter().map(String::as_str), &builder.columns);
    table.header().iter().for_each(|name| builder.hear(name));
    let (Some(image), false) = (columns.image, columns.captions.is_empty()) else {
        let message = format!("{} has no column for the image or none for the caption", file.path);
        return Err(failure(message, format!("known names of columns are {USUAL_NAMES}")));
    };
    if !columns.unused.is_empty() {
        let names = |columns: &[usize]| {
            let names: Vec<&str> = columns.iter().map(|&column| table.header()[column].as_str()).collect();
            names.join(", ")
        };
        let note = format!("captions are read from {}; not read: {}", names(&columns.captions), names(&columns.unused));
        builder.repairs.push(Repair::new(file.path, note));
    }
    let header = table.header().to_vec();
    let lists = cells_of(Table::new(file.path, text.as_bytes(), separator)?, &columns.captions);
    builder.repairs.extend(cell_notes(&lists, table.header(), file.path));
    table.for_each_row(|place, values| {
        let name = values[image].trim();
        if name.is_empty() || is_missing(name) {
            // Spreadsheets have rows of nothing at their ends.
            if values.iter().any(|value| !value.trim().is_empty()) {
                builder.rejects.push(Reject::new(place, "it names no image"));
            }
            return Ok(());
        }
        let name = columns.place.map_or(file_of(name).into(), |place| placed(name, values[place]));
        let index = builder.image(&file.reference(&name));
        builder.split_as_written(index, columns.split.map(|column| values[column]), file.split);
        if let Some(column) = columns.maybe_split {
            builder.maybe_split(index, &header[column], values[column]);
        }
        if let Some(prediction) = columns.prediction.filter(|_| builder.reading == Reading::Candidates) {
            builder.caption(index, None, values[prediction]);
            return Ok(());
        }
        // With several columns, not every image has as many captions.
        let is_wanted = |text: &&str| columns.captions.len() == 1 || !text.trim().is_empty();
        let cells = lists.iter().flat_map(|list| list.captions(values[list.column]));
        let cell = |column: Option<usize>| {
            let is_read = builder.reading == Reading::Preparation;
            column.filter(|_| is_read).map(|column| values[column])
        };
        let extras = extras::of_cells(cell(columns.prompt), cell(columns.weight), place)?;
        for caption in cells.filter(is_wanted) {
            builder.cell_with(index, None, caption, &extras, || place.to_owned());
        }
        Ok(())
    })
}

const HEADERS: [&str; 2] = ["image,caption", "image_name,comment_number,comment"];

pub(crate) static FLICKR8K_KAGGLE: Format = Format {
    name: "flickr8k-kaggle",
    description: "captions.txt with the header image,caption",
    find: find_flickr8k_kaggle,
    read,
};

fn find_flickr8k_kaggle(candidates: &Candidates<'_>) -> anyhow::Result<Vec<Match>> {
    let is_ours = |content: &Content| matches!(content, Content::Text(Layout::Table(table)) if HEADERS.contains(&table.header.join(",").as_str()));
    let mut files = candidates.files(is_ours);
    files.retain(|&file| candidates.source.files()[file].name().eq_ignore_ascii_case("captions.txt"));
    Ok(Match::first(&FLICKR8K_KAGGLE, None, files))
}

/// Separators between captions; if two of them are used, the first counts.
const SEPARATORS: [&str; 5] = ["||", "|", "\n", "\t", ";"];
/// Cells needed to see how a column is written.
const MIN_CELLS: usize = 2;

/// How the cells of a column are read.
pub(crate) struct Cells {
    pub(crate) column: usize,
    /// The separator between captions in each of them.
    separator: Option<&'static str>,
    /// Its name says that there are several in a cell.
    is_plural: bool,
}

impl Cells {
    pub(crate) fn captions<'a>(&self, cell: &'a str) -> impl Iterator<Item = &'a str> + use<'a> {
        let is_list = self.is_plural && !cell.trim().is_empty() && !is_missing(cell);
        let separator = self.separator.filter(|_| is_list);
        let whole = if separator.is_none() { Some(cell) } else { None };
        whole.into_iter().chain(separator.into_iter().flat_map(move |separator| parts(cell, separator)))
    }
}

fn parts<'a>(cell: &'a str, separator: &'static str) -> impl Iterator<Item = &'a str> {
    cell.split(separator).filter(|part| !part.trim().is_empty())
}

/// How the cells of these columns are read. A row in no known form is reported when it is read.
pub(crate) fn cells_of(table: Table<'_>, columns: &[usize]) -> Vec<Cells> {
    let is_plural =
        |column: usize| matches!(field(&table.header()[column]), Some(Field::Captions(kind)) if kind.is_plural);
    let mut cells: Vec<Cells> =
        columns.iter().map(|&column| Cells { column, separator: None, is_plural: is_plural(column) }).collect();
    let mut seen: Vec<(usize, Vec<&'static str>)> = columns.iter().map(|_| (0, SEPARATORS.to_vec())).collect();
    let all = table.for_each_row(|_, values| {
        for ((count, open), &column) in seen.iter_mut().zip(columns) {
            let cell = values[column];
            if cell.trim().is_empty() || is_missing(cell) {
                continue;
            }
            *count += 1;
            open.retain(|separator| is_between(separator, cell));
        }
        anyhow::ensure!(seen.iter().any(|(_, open)| !open.is_empty()), "nothing is in each");
        Ok(())
    });
    if all.is_ok() {
        for (cells, (count, open)) in cells.iter_mut().zip(seen) {
            cells.separator = open.first().copied().filter(|_| count >= MIN_CELLS);
        }
    }
    cells
}

/// Whether it stands between two texts, and not within a list that is written otherwise.
fn is_between(separator: &'static str, cell: &str) -> bool {
    // `&amp;`
    let is_of_entity = separator == ";" && entities::decode(cell) != cell;
    !is_of_entity
        && parts(cell, separator).filter(|part| part.chars().any(char::is_alphabetic)).count() > 1
        && texts_of(cell.into()).is_ok_and(|texts| matches!(texts.as_slice(), [one] if one == cell))
}

/// Notes on columns whose cells contain several captions, or seem to.
pub(crate) fn cell_notes(cells: &[Cells], header: &[String], path: &str) -> Vec<Repair> {
    let note = |cells: &Cells| {
        let (separator, name) = (cells.separator?, &header[cells.column]);
        let note = match cells.is_plural {
            true => format!("each cell of {name} is read as several captions with {separator:?} between them"),
            false if separator.starts_with('|') => format!(
                "each cell of {name} has {separator:?} in it and is read as one caption; if they are several, call the \
                 column captions"
            ),
            false => return None,
        };
        Some(Repair::new(path, note))
    };
    cells.iter().filter_map(note).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prepared::Split;

    fn images(path: &str, text: &str) -> Vec<(String, Vec<String>, Option<Split>)> {
        let mut builder = Builder::default();
        parse(&mut builder, &AnnotationFile::single(path), text).unwrap();
        builder.finish("").images.into_iter().map(|image| (image.filename, image.captions, image.split)).collect()
    }

    #[test]
    fn columns_are_found_by_their_names_and_the_separator_by_the_header() {
        let expected = vec![("a.jpg".to_owned(), vec!["A, b".to_owned()], Some(Split::Val))];
        for (path, text) in [
            ("t.csv", "Split,Image,Caption\nval,a.jpg,\"A, b\"\n"),
            ("t.tsv", "filepath\ttitle\tsplit\na.jpg\tA, b\tvalidation\n"),
            ("t.csv", "image_name;comment;split\na.jpg;A, b;dev\n"),
            ("val.tsv", "filepath\ttitle\na.jpg\tA, b\n"),
            ("captions", "IMG NAME|raw caption|Subset\na.jpg|A, b|val\n"),
            ("val.txt", "sep=;\nimage;caption\na.jpg;A, b\n"),
            ("val.csv", "\"x, y\",image,caption\n1,a.jpg,A, b\n"),
            ("val.csv", "id,url,text\n7,https://x.org/y/a.jpg?w=1,\"A, b\"\n"),
        ] {
            assert_eq!(images(path, text), expected, "{text}");
        }
    }

    #[test]
    fn captions_may_be_in_several_columns_or_be_a_list_in_one() {
        for text in [
            "image,caption_1,caption_2\na.jpg,A,B\nb.jpg,C,\n",
            "image,captions\na.jpg,\"['A', 'B']\"\nb.jpg,['C']\n",
            "image;captions\na.jpg;[\"A\", \"B\"]\nb.jpg;C\n",
            "image\tsentence\na.jpg\tA\na.jpg\tB\nb.jpg\tC\n",
        ] {
            let captions: Vec<String> = images("t.csv", text).into_iter().map(|image| image.1.join("|")).collect();
            assert_eq!(captions, ["A|B", "C"], "{text}");
        }
    }

    #[test]
    fn rows_of_nothing_are_skipped_and_one_without_an_image_is_reported() {
        let mut builder = Builder::default();
        parse(&mut builder, &AnnotationFile::single("t.csv"), "image,caption\na.jpg,A\n\n,\n,B\nnan,C\n").unwrap();
        let raw = builder.finish("");
        assert_eq!((raw.images.len(), raw.rejects.len()), (1, 2));
        assert_eq!(
            (raw.rejects[0].what.as_str(), raw.rejects[1].what.as_str()),
            ("line 5 of t.csv", "line 6 of t.csv")
        );
    }

    #[test]
    fn a_column_that_could_hold_captions_and_is_not_read_is_named() {
        let mut builder = Builder::default();
        parse(&mut builder, &AnnotationFile::single("t.csv"), "image,title,caption\na.jpg,T,C\n").unwrap();
        let raw = builder.finish("");
        assert_eq!(raw.images[0].captions, ["C"]);
        assert_eq!(raw.repairs[0].repair, "captions are read from caption; not read: title");
    }

    #[test]
    fn a_row_without_a_known_split_is_reported() {
        let mut builder = Builder::default();
        let text = "image,caption,split\na.jpg,A,odd\nb.jpg,B,\n";
        parse(&mut builder, &AnnotationFile::single("t.csv"), text).unwrap();
        let raw = builder.finish("");
        assert!(raw.images.iter().all(|image| image.split.is_none()));
        assert_eq!(raw.repairs.len(), 1);
        assert_eq!(raw.repairs[0].what, "a.jpg");
    }
}

#[cfg(test)]
mod kaggle_tests {
    use super::*;

    #[test]
    fn captions_with_commas_stand_in_quotes() {
        let text = "image,caption\r\n1.jpg,A dog runs .\r\n1.jpg,\"A dog , a cat , and a \"\"bird\"\" .\"\r\n";
        let mut builder = Builder::default();
        parse(&mut builder, &AnnotationFile::single("captions.txt"), text).unwrap();
        let raw = builder.finish("flickr8k");
        assert_eq!(raw.images[0].captions, ["A dog runs .", "A dog , a cat , and a \"bird\" ."]);
        let mut builder = Builder::default();
        let text = "image_name,comment_number,comment\n1.jpg,0,A dog, brown .\n";
        parse(&mut builder, &AnnotationFile::single("captions.txt"), text).unwrap();
        assert_eq!(builder.finish("").images[0].captions, ["A dog, brown ."]);
    }
}
