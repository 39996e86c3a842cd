//! A table with a header: a column for the image (`image`, `filepath`, `file_name` ...), one or several for its captions
//! (`caption`, `caption_1`, `title` ...), and perhaps one for the split. Between columns stand commas, semicolons, tabs or
//! `|`, whatever the file is called. `train.csv` and `val.csv` beside one another are splits.

use crate::annotations::builder::{Builder, is_missing};
use crate::annotations::candidates::{Candidates, Content, has_ending};
use crate::annotations::fields::{Columns, USUAL_NAMES, file_of, placed};
use crate::annotations::input::TheFile;
use crate::annotations::layout::{Layout, TableLayout};
use crate::annotations::text::Table;
use crate::annotations::{
    Certainty, Format, Found, Input, RawDataset, Reading, Reject, Repair, backslash_quotes, listed_cells,
};
use base::fault::fault;

pub(super) static FORMAT: Format =
    Format { name: "table", description: "a CSV or TSV with columns such as image and caption", find, read };

fn find(candidates: &Candidates<'_>) -> anyhow::Result<Vec<Found>> {
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
    Ok(candidates.grouped(&FORMAT, found, |file| of_file(file).unwrap_or(Certainty::Near)))
}

pub(super) fn read(input: &Input<'_>) -> anyhow::Result<RawDataset> {
    let files = input.neighbours();
    Ok(Builder::read(input, |builder, path, text| parse(builder, &files.file(path), text))?.finish(""))
}

/// Adds the rows of a table.
///
/// # Errors
/// A table without columns for images or captions, and a row that cannot be read.
pub(super) fn parse(builder: &mut Builder, file: &TheFile<'_>, text: &str) -> anyhow::Result<()> {
    let separator = TableLayout::of_text(text).separator;
    let mended = backslash_quotes::doubled(text, separator);
    builder.repairs.extend(mended.as_ref().map(|_| Repair::new(file.path, backslash_quotes::NOTE)));
    let text = mended.as_deref().unwrap_or(text);
    let table = Table::new(file.path, text.as_bytes(), separator)?;
    let columns = Columns::of(table.header().iter().map(String::as_str));
    let (Some(image), false) = (columns.image, columns.captions.is_empty()) else {
        let message = format!("{} has no column for the image or none for the caption", file.path);
        return Err(fault(message, format!("known names of columns are {USUAL_NAMES}")));
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
    let lists = listed_cells::of(Table::new(file.path, text.as_bytes(), separator)?, &columns.captions);
    builder.repairs.extend(listed_cells::notes(&lists, table.header(), file.path));
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
        for caption in cells.filter(is_wanted) {
            builder.cell(index, None, caption, || place.to_owned());
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prepared::Split;

    fn images(path: &str, text: &str) -> Vec<(String, Vec<String>, Option<Split>)> {
        let mut builder = Builder::default();
        parse(&mut builder, &TheFile::alone(path), text).unwrap();
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
    fn rows_of_nothing_are_passed_over_and_one_without_an_image_is_told() {
        let mut builder = Builder::default();
        parse(&mut builder, &TheFile::alone("t.csv"), "image,caption\na.jpg,A\n\n,\n,B\nnan,C\n").unwrap();
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
        parse(&mut builder, &TheFile::alone("t.csv"), "image,title,caption\na.jpg,T,C\n").unwrap();
        let raw = builder.finish("");
        assert_eq!(raw.images[0].captions, ["C"]);
        assert_eq!(raw.repairs[0].repair, "captions are read from caption; not read: title");
    }

    #[test]
    fn a_row_without_a_known_split_is_reported() {
        let mut builder = Builder::default();
        let text = "image,caption,split\na.jpg,A,odd\nb.jpg,B,\n";
        parse(&mut builder, &TheFile::alone("t.csv"), text).unwrap();
        let raw = builder.finish("");
        assert!(raw.images.iter().all(|image| image.split.is_none()));
        assert_eq!(raw.repairs.len(), 1);
        assert_eq!(raw.repairs[0].what, "a.jpg");
    }
}
