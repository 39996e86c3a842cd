//! The pictures that trackers show beside captions: small, read once, made only where a tracker asks.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::Rc;

use image::ImageFormat;

use base::error::one_line;
use base::terminal;
use pixels::image_file::{encode, load_rgb};
use pixels::image_processor::resize_rgb;

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
    paths: HashMap<usize, PathBuf>,
    made: HashMap<usize, Option<Rc<SamplePicture>>>,
}

impl SamplePictures {
    /// `paths` has the file of each sample, by its number in the data set.
    pub fn new(paths: HashMap<usize, PathBuf>) -> Self {
        Self { paths, made: HashMap::new() }
    }

    /// The picture of a sample; `None`, after a warning, where it cannot be read, and `None` for other images.
    pub fn get(&mut self, image: usize) -> Option<Rc<SamplePicture>> {
        let Self { paths, made } = self;
        let make = || {
            let path = paths.get(&image)?;
            let picture = small(path).map_err(|error| {
                terminal::warning(&format!("trackers cannot show {}: {}", path.display(), one_line(&error)));
            });
            picture.ok().map(Rc::new)
        };
        made.entry(image).or_insert_with(make).clone()
    }
}

fn small(path: &std::path::Path) -> anyhow::Result<SamplePicture> {
    let whole = load_rgb(path)?;
    let mut image = Cow::Borrowed(&*whole);
    let factor = f64::from(SIDE) / f64::from(image.width().max(image.height()));
    if factor < 1.0 {
        let side = |side: u32| ((f64::from(side) * factor).round() as u32).max(1);
        image = Cow::Owned(resize_rgb(&whole, side(whole.width()), side(whole.height()))?);
    }
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
        let mut pictures = SamplePictures::new([70, 90].into_iter().zip(paths).collect());
        let first = pictures.get(70).unwrap();
        assert_eq!((first.width, first.height), (256, 128));
        assert!(Rc::ptr_eq(&first, &pictures.get(70).unwrap()), "it is read once");
        assert!(pictures.get(90).is_none() && pictures.get(0).is_none());
    }
}
