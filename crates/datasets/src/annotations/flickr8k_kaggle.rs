//! Flickr8k as it is on Kaggle, and copies of Flickr30k there in the same form: `captions.txt` with the header
//! `image,caption` or `image_name,comment_number,comment`, quotes only where a caption holds a comma, and the folder
//! `Images/`. It names neither the data set nor splits.

use crate::annotations::candidates::{Candidates, Content};
use crate::annotations::layout::Layout;
use crate::annotations::{Format, Found, table};

const HEADERS: [&str; 2] = ["image,caption", "image_name,comment_number,comment"];

pub(super) static FORMAT: Format = Format {
    name: "flickr8k-kaggle",
    description: "captions.txt with the header image,caption",
    find,
    read: table::read,
};

fn find(candidates: &Candidates<'_>) -> anyhow::Result<Vec<Found>> {
    let is_ours = |content: &Content| matches!(content, Content::Text(Layout::Table(table)) if HEADERS.contains(&table.header.join(",").as_str()));
    let mut files = candidates.files(is_ours);
    files.retain(|&file| candidates.source.files()[file].name().eq_ignore_ascii_case("captions.txt"));
    Ok(Found::first(&FORMAT, None, files))
}

#[cfg(test)]
mod tests {
    use crate::annotations::builder::Builder;
    use crate::annotations::input::TheFile;
    use crate::annotations::table::parse;

    #[test]
    fn captions_with_commas_stand_in_quotes() {
        let text = "image,caption\r\n1.jpg,A dog runs .\r\n1.jpg,\"A dog , a cat , and a \"\"bird\"\" .\"\r\n";
        let mut builder = Builder::default();
        parse(&mut builder, &TheFile::alone("captions.txt"), text).unwrap();
        let raw = builder.finish("flickr8k");
        assert_eq!(raw.images[0].captions, ["A dog runs .", "A dog , a cat , and a \"bird\" ."]);
        let mut builder = Builder::default();
        let text = "image_name,comment_number,comment\n1.jpg,0,A dog, brown .\n";
        parse(&mut builder, &TheFile::alone("captions.txt"), text).unwrap();
        assert_eq!(builder.finish("").images[0].captions, ["A dog, brown ."]);
    }
}
