//! The pictures that trackers show beside captions: small, read once, made only where a tracker asks.

use std::collections::HashMap;
use std::rc::Rc;

use image::ImageFormat;

use base::error::one_line;
use base::terminal;
use datasets::picture_file::PictureFile;
use pixels::image_file::encode;
use pixels::image_processor::shrink_rgb;

/// Longest side, in pixels.
const SIDE: u32 = 256;
/// Pictures that a tracker shows of a validation.
pub const MAX_SHOWN: usize = 8;

/// A small picture.
#[derive(Debug)]
pub struct SamplePicture {
    /// The content of a PNG file.
    pub png: Vec<u8>,
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
}

/// All of them.
#[derive(Debug)]
pub struct SamplePictures {
    files: HashMap<usize, PictureFile>,
    made: HashMap<usize, Option<Rc<SamplePicture>>>,
}

impl SamplePictures {
    /// `files` has the file of each sample, by its number in the data set.
    pub fn new(files: HashMap<usize, PictureFile>) -> Self {
        Self { files, made: HashMap::new() }
    }

    /// The picture of a sample; `None`, after a warning, where it cannot be read, and `None` for other images.
    pub fn get(&mut self, image: usize) -> Option<Rc<SamplePicture>> {
        let Self { files, made } = self;
        let make = || {
            let file = files.get(&image)?;
            let picture = small(file).map_err(|error| {
                terminal::warning(&format!("trackers cannot show {file}: {}", one_line(&error)));
            });
            picture.ok().map(Rc::new)
        };
        made.entry(image).or_insert_with(make).clone()
    }
}

fn small(file: &PictureFile) -> anyhow::Result<SamplePicture> {
    let whole = file.load_rgb()?;
    let image = shrink_rgb(&whole, SIDE)?;
    Ok(SamplePicture { png: encode(&image, ImageFormat::Png)?, width: image.width(), height: image.height() })
}

#[cfg(test)]
mod tests {
    use image::RgbImage;

    use super::*;

    #[test]
    fn a_large_picture_is_made_small_and_one_that_is_gone_or_no_sample_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["a.png", "gone.png"].map(|name| folder.path().join(name));
        RgbImage::new(1024, 512).save(&paths[0]).unwrap();
        let mut pictures = SamplePictures::new([70, 90].into_iter().zip(paths.map(PictureFile::File)).collect());
        let first = pictures.get(70).unwrap();
        assert_eq!((first.width, first.height), (256, 128));
        assert!(Rc::ptr_eq(&first, &pictures.get(70).unwrap()), "it is read once");
        assert!(pictures.get(90).is_none() && pictures.get(0).is_none());
    }
}
