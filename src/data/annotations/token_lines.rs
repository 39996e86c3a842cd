//! The lines of `Flickr8k.token.txt` and of Flickr30k's `results_20130124.token`: `NAME.jpg#N<TAB>caption`.

use anyhow::Context as _;

use crate::base::fault::WithHint as _;
use crate::data::annotations::builder::Builder;
use crate::data::annotations::text::for_each_line;

/// Adds the captions of a token file.
///
/// # Errors
/// Text that is not UTF-8 or a line of another form, both with the line.
pub(super) fn parse(builder: &mut Builder, file: &str, bytes: &[u8]) -> anyhow::Result<()> {
    for_each_line(file, bytes, |number, line| {
        let (name, caption_number, caption) = parts(line)
            .with_context(|| format!("line {number} of {file} has another form: {line:?}"))
            .hint(|| "expected NAME.jpg#N, a tab and the caption")?;
        let image = builder.image(name);
        builder.caption(image, Some(caption_number), caption);
        Ok(())
    })
}

fn parts(line: &str) -> Option<(&str, u32, &str)> {
    let (key, caption) = line.split_once('\t')?;
    let (name, number) = key.trim().rsplit_once('#')?;
    (!name.is_empty()).then_some((name, number.parse().ok()?, caption))
}
