//! Pictures and shards for tests.

use std::fs;
use std::path::{Path, PathBuf};

use image::{ImageFormat, Rgb, RgbImage};

use base::random::Stream;
use pixels::image_file::encode;

/// A picture that no other number has, of noise so that it does not get smaller.
pub(super) fn picture(number: u64) -> Vec<u8> {
    let mut stream = Stream::new(number, "test", "picture");
    let image = RgbImage::from_fn(40, 30, |_, _| Rgb([0; 3].map(|_: u8| stream.next_u64() as u8)));
    encode(&image, ImageFormat::Png).unwrap()
}

pub(super) fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        // Longer names than a header has room for come before it, as GNU tar writes them.
        builder.append_data(&mut header, name, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

/// Writes a shard with pictures of these numbers and their captions.
pub(super) fn put_tar(folder: &Path, name: &str, numbers: std::ops::Range<u64>) -> PathBuf {
    let members: Vec<(String, Vec<u8>)> = numbers
        .flat_map(|number| {
            let caption = format!("A picture of {number}.").into_bytes();
            [(format!("{number:06}.png"), picture(number)), (format!("{number:06}.txt"), caption)]
        })
        .collect();
    let members: Vec<(&str, &[u8])> = members.iter().map(|(name, content)| (&**name, &**content)).collect();
    let path = folder.join(name);
    fs::write(&path, tar(&members)).unwrap();
    path
}
