//! Reads every picture of a data set: its size, and what tells whether it is there twice.

use rayon::prelude::*;

use crate::prepare::near_duplicates::difference_hash;
use crate::prepared::Dataset;
use base::error::one_line;
use base::terminal::Progress;

/// What is known of a picture that could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// In pixels, once turned upright.
    pub width: u32,
    /// In pixels, once turned upright.
    pub height: u32,
    /// SHA-256 of the file.
    pub(super) digest: [u8; 32],
    pub(super) difference_hash: u64,
}

/// The picture of each image in its order, or in one line why it cannot be read. Decodes all of them, on the threads of
/// rayon, with a progress bar.
pub fn read_pictures(dataset: &Dataset) -> Vec<Result<Picture, String>> {
    let progress = Progress::new("looking at images", dataset.images.len() as u64, 0);
    let read = |image: usize| {
        let file = dataset.picture(image);
        let picture = file.load_rgb().and_then(|pixels| {
            let (width, height) = pixels.dimensions();
            Ok(Picture { width, height, digest: file.digest()?, difference_hash: difference_hash(&pixels) })
        });
        progress.advance(1, "images");
        picture.map_err(|error| one_line(&error))
    };
    let pictures = (0..dataset.images.len()).into_par_iter().map(read).collect();
    progress.finish();
    pictures
}
