//! A CSV or TSV with a header: a column for the image (`image`, `filepath`, `file_name` ...), one for the caption
//! (`caption`, `title`, `text` ...), and perhaps one for the split. `train.csv` and `val.csv` beside one another are splits.

use crate::data::annotations::builder::Builder;
use crate::data::annotations::text::{CAPTION_COLUMNS, Table, split_of_path, split_of_word, without_mark};
use crate::data::annotations::{Format, Found, RawDataset, Repair};
use crate::data::source::Source;

const IMAGE: [&str; 12] = [
    "image",
    "file_name",
    "filename",
    "filepath",
    "file_path",
    "image_path",
    "image_name",
    "image_file",
    "file",
    "path",
    "img",
    "image_id",
];
pub(super) fn find(source: &Source) -> anyhow::Result<Vec<Found>> {
    let mut files = Vec::new();
    let is_table = |name: &str| (name.ends_with(".csv") || name.ends_with(".tsv")) && name != "metadata.csv";
    for file in source.find(|file| is_table(file.name())) {
        let start = source.glance(file, 1 << 16);
        let first = without_mark(&start).split(|&byte| byte == b'\n').next().unwrap_or_default();
        let table = Table::new("", first, separator(first))?;
        if table.column(&IMAGE).is_some() && table.column(&CAPTION_COLUMNS).is_some() {
            files.push(file);
        }
    }
    // Several tables belong together when each is one split; else a person has to choose.
    let name = |&file: &usize| source.files()[file].name();
    if files.len() > 1 && !files.iter().all(|file| split_of_path(name(file)).is_some()) {
        return Ok(files.into_iter().map(|file| Found::new(Format::Table, None, vec![file])).collect());
    }
    Ok(Found::some(Format::Table, None, files))
}

pub(super) fn read(source: &Source, files: &[usize]) -> anyhow::Result<RawDataset> {
    Ok(Builder::read(source, files, parse)?.finish(""))
}

/// What stands most often in the header: a tab, a semicolon or a comma.
pub fn separator(header: &[u8]) -> u8 {
    let count = |separator: u8| header.iter().filter(|&&byte| byte == separator).count();
    b",;\t".iter().copied().max_by_key(|&separator| count(separator)).unwrap_or(b',')
}

fn parse(builder: &mut Builder, path: &str, bytes: &[u8]) -> anyhow::Result<()> {
    let first = without_mark(bytes).split(|&byte| byte == b'\n').next().unwrap_or_default();
    let table = Table::new(path, bytes, separator(first))?;
    let (Some(image), Some(caption)) = (table.column(&IMAGE), table.column(&CAPTION_COLUMNS)) else {
        return Err(crate::base::fault::fault(
            format!("{path} has no column for the image or none for the caption"),
            format!("call them {} and {}", IMAGE[0], CAPTION_COLUMNS[0]),
        ));
    };
    let (split, of_file) = (table.column(&["split"]), split_of_path(path.rsplit('/').next().unwrap_or(path)));
    table.for_each_row(|place, values| {
        let index = builder.image(values[image].trim());
        let own = split.map(|column| values[column]).filter(|word| !word.trim().is_empty());
        match own.map(|word| (word, split_of_word(word))) {
            Some((_, Some(split))) => builder.split(index, split),
            Some((word, None)) => {
                builder
                    .repairs
                    .push(Repair::new(place, format!("split {word:?} is not known: counted as without one")));
            }
            None => {
                if let Some(split) = of_file {
                    builder.split(index, split);
                }
            }
        }
        builder.caption(index, None, values[caption]);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::dataset::Split;

    fn images(path: &str, text: &str) -> Vec<(String, Vec<String>, Option<Split>)> {
        let mut builder = Builder::default();
        parse(&mut builder, path, text.as_bytes()).unwrap();
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
        ] {
            assert_eq!(images(path, text), expected, "{text}");
        }
    }

    #[test]
    fn a_row_without_a_known_split_is_reported() {
        let mut builder = Builder::default();
        parse(&mut builder, "t.csv", b"image,caption,split\na.jpg,A,odd\nb.jpg,B,\n").unwrap();
        let raw = builder.finish("");
        assert!(raw.images.iter().all(|image| image.split.is_none()));
        assert_eq!(raw.repairs.len(), 1);
        assert_eq!(raw.repairs[0].what, "line 2 of t.csv");
    }
}
