//! Flickr30k as it is on the Hub (`nlphuji/flickr30k`): `flickr_annotations_30k.csv`, a comma CSV with the columns
//! `raw` (a JSON list of five captions, in quotes), `sentids`, `split`, `filename` and `img_id`, beside
//! `flickr30k-images.zip`.

use anyhow::Context as _;

use crate::annotations::builder::Builder;
use crate::annotations::candidates::Candidates;
use crate::annotations::format::{Format, Match};
use crate::annotations::input::Input;
use crate::annotations::known_dataset::KnownDataset;
use crate::annotations::raw_dataset::RawDataset;
use crate::annotations::text::Table;
use base::error::{WithHint as _, failure};

pub const FILE: &str = "flickr_annotations_30k.csv";

pub(crate) static FORMAT: Format = Format { name: "flickr30k-hub", description: FILE, find, read };

fn find(candidates: &Candidates<'_>) -> anyhow::Result<Vec<Match>> {
    let files = candidates.source.find(|file| file.name().eq_ignore_ascii_case(FILE));
    Ok(Match::first(&FORMAT, Some(KnownDataset::Flickr30k), files))
}

fn read(input: &Input<'_>) -> anyhow::Result<RawDataset> {
    Ok(input.build(parse)?.finish("flickr30k"))
}

fn parse(builder: &mut Builder, file: &str, text: &str) -> anyhow::Result<()> {
    let table = Table::new(file, text.as_bytes(), b',')?;
    let column = |name: &str| {
        let missing = || failure(format!("{file} has no column {name}"), "use the file from the Hub");
        table.column(&[name]).ok_or_else(missing)
    };
    let (raw, split, filename) = (column("raw")?, column("split")?, column("filename")?);
    table.for_each_row(|place, values| {
        let captions: Vec<String> = serde_json::from_str(values[raw])
            .with_context(|| format!("{place}: the captions are not a JSON list of texts"))
            .hint(|| "use the file from the Hub")?;
        let image = builder.image(values[filename].trim());
        builder.split_as_written(image, Some(values[split]), None);
        captions.iter().for_each(|caption| builder.caption(image, None, caption));
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prepared::Split;
    use base::error::describe;

    const TEXT: &str = concat!(
        "raw,sentids,split,filename,img_id\n",
        r#""[""Two young guys."", ""Men, \""outside\""."", ""C"", ""D"", ""E""]","[0, 1, 2, 3, 4]",train,1000092795.jpg,0"#,
        "\n",
        r#""[""F""]","[5]",val,10002456.jpg,1"#,
        "\n"
    );

    #[test]
    fn lists_of_captions_in_quotes_are_read() {
        let mut builder = Builder::default();
        parse(&mut builder, FILE, TEXT).unwrap();
        let raw = builder.finish("flickr30k");
        assert_eq!(raw.images[0].captions[..2], ["Two young guys.", "Men, \"outside\"."]);
        let splits: Vec<_> = raw.images.iter().map(|image| image.split).collect();
        assert_eq!(splits, [Some(Split::Train), Some(Split::Val)]);
    }

    #[test]
    fn a_row_without_a_list_is_named() {
        let text = TEXT.replace("[\"\"F\"\"]", "F");
        let text = describe(&parse(&mut Builder::default(), FILE, &text).unwrap_err());
        assert!(text.contains("line 3") && text.contains("not a JSON list"), "{text}");
    }
}
