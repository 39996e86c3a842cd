//! Which images are for training, validation and testing. A split is by image, never by caption, so that no image is on
//! two sides.

use rayon::slice::ParallelSliceMut as _;

use crate::config::SplitSource;
use base::error::failure;
use base::random::Stream;
use datasets::prepared::{Dataset, Split};

/// Indices into [`Dataset::images`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitIndices {
    /// For training; never empty.
    pub train: Vec<usize>,
    /// For validation; never empty.
    pub val: Vec<usize>,
    /// For testing; may be empty.
    pub test: Vec<usize>,
}

impl SplitIndices {
    /// The images of one side.
    pub fn side(&self, split: Split) -> &[usize] {
        match split {
            Split::Train => &self.train,
            Split::Val => &self.val,
            Split::Test => &self.test,
        }
    }
}

/// Splits the images of `dataset`.
///
/// From the file, each side keeps the order of the file. At random, `validation_fraction` (above 0, below 1) of the
/// images that are not for testing become the validation side, at least one image on each side; the draw depends
/// only on `seed` and the sorted file names, and each side is in the order of the names.
///
/// # Errors
/// A side that is empty, or a fraction out of range.
pub fn split_images(
    dataset: &Dataset,
    source: SplitSource,
    validation_fraction: f64,
    seed: u64,
) -> anyhow::Result<SplitIndices> {
    let of = |split| (0..dataset.images.len()).filter(|&image| dataset.images.get(image).split() == split).collect();
    let indices = match source {
        SplitSource::File => SplitIndices { train: of(Split::Train), val: of(Split::Val), test: of(Split::Test) },
        SplitSource::Random => {
            let (train, val) = draw(dataset, validation_fraction, seed)?;
            SplitIndices { train, val, test: of(Split::Test) }
        }
    };
    for (name, side) in [("training", &indices.train), ("validation", &indices.val)] {
        if side.is_empty() {
            let SplitIndices { train, val, test } = &indices;
            let message = format!(
                "{} has no {name} images: {} are for training, {} for validation, {} for testing",
                dataset.directory.display(),
                train.len(),
                val.len(),
                test.len()
            );
            return Err(failure(message, hint_without(&indices)));
        }
    }
    Ok(indices)
}

/// What to do about a side that is empty.
fn hint_without(indices: &SplitIndices) -> &'static str {
    const PREPARE: &str = "prepare the data with a split of your own: `caption-train prepare-data --split-file PATH`";
    match (indices.train.len(), indices.val.len()) {
        (0, 2..) => "set `data.split = \"random\"` to draw training and validation images from those for validation",
        (2.., 0) => "set `data.split = \"random\"` to draw the validation images",
        _ => PREPARE,
    }
}

fn draw(dataset: &Dataset, fraction: f64, seed: u64) -> anyhow::Result<(Vec<usize>, Vec<usize>)> {
    if !(fraction > 0.0 && fraction < 1.0) {
        let message = format!("expected `data.validation_fraction` above 0 and below 1, found {fraction}");
        return Err(failure(message, "0.1 holds out a tenth of the images"));
    }
    let name = |&image: &usize| dataset.images.get(image).filename();
    let mut images: Vec<usize> =
        (0..dataset.images.len()).filter(|&image| dataset.images.get(image).split() != Split::Test).collect();
    if images.len() < 2 {
        let message = format!(
            "{} has {} images that are not for testing: too few for a random split",
            dataset.directory.display(),
            images.len()
        );
        return Err(failure(message, "training and validation each need at least one image"));
    }
    images.par_sort_unstable_by(|a, b| name(a).cmp(name(b)));
    let mut drawn: Vec<usize> = (0..images.len()).collect();
    Stream::new(seed, "split", "validation").shuffle(&mut drawn);
    let num_val = ((images.len() as f64 * fraction).round() as usize).clamp(1, images.len() - 1);
    let side = |drawn: &mut [usize]| {
        // In the order of the names.
        drawn.par_sort_unstable();
        drawn.iter().map(|&place| images[place]).collect()
    };
    let (val, train) = drawn.split_at_mut(num_val);
    Ok((side(train), side(val)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::PathBuf;

    use super::*;
    use base::error::describe;
    use datasets::image_id::ImageId;
    use datasets::prepared::ImageRecord;

    fn dataset(images: impl Iterator<Item = (usize, Split)>) -> Dataset {
        let record = |(number, split)| ImageRecord {
            filename: format!("{number}.jpg"),
            split,
            captions: vec!["a".into()],
            extras: Vec::new(),
            image_id: ImageId::Natural(0),
        };
        Dataset {
            directory: PathBuf::from("data/x"),
            name: "x".into(),
            images: images.map(record).collect::<Vec<_>>().iter().collect(),
            digest: String::new(),
            in_shards: None,
        }
    }

    fn names(dataset: &Dataset, side: &[usize]) -> BTreeSet<String> {
        side.iter().map(|&image| dataset.images.get(image).filename().to_owned()).collect()
    }

    #[test]
    fn random_split_is_nine_to_one_and_no_image_stands_on_both_sides() {
        let dataset = dataset((0..200).map(|n| (n, if n < 100 { Split::Train } else { Split::Val })));
        let split = split_images(&dataset, SplitSource::Random, 0.1, 3).unwrap();
        assert_eq!((split.train.len(), split.val.len(), split.test.len()), (180, 20, 0));
        let (train, val) = (names(&dataset, &split.train), names(&dataset, &split.val));
        assert_eq!(train.union(&val).count(), 200);
    }

    #[test]
    fn random_split_repeats_and_does_not_depend_on_the_order_of_the_file() {
        let forward = dataset((0..50).map(|n| (n, Split::Train)));
        let backward = dataset((0..50).rev().map(|n| (n, Split::Train)));
        let one = split_images(&forward, SplitSource::Random, 0.1, 3).unwrap();
        assert_eq!(one, split_images(&forward, SplitSource::Random, 0.1, 3).unwrap());
        let other = split_images(&backward, SplitSource::Random, 0.1, 3).unwrap();
        assert_eq!(names(&forward, &one.val), names(&backward, &other.val));
        let reseeded = split_images(&forward, SplitSource::Random, 0.1, 4).unwrap();
        assert_ne!(names(&forward, &one.val), names(&forward, &reseeded.val));
    }

    #[test]
    fn random_split_leaves_the_test_images_alone_and_fills_both_sides() {
        let dataset = dataset((0..5).map(|n| (n, if n < 3 { Split::Test } else { Split::Train })));
        let split = split_images(&dataset, SplitSource::Random, 0.01, 0).unwrap();
        assert_eq!((split.train.len(), split.val.len()), (1, 1));
        assert_eq!(split.test, [0, 1, 2]);
    }

    #[test]
    fn split_of_the_file_is_kept() {
        let dataset = dataset([(0, Split::Val), (1, Split::Train), (2, Split::Test), (3, Split::Train)].into_iter());
        let split = split_images(&dataset, SplitSource::File, 0.1, 0).unwrap();
        assert_eq!(split, SplitIndices { train: vec![1, 3], val: vec![0], test: vec![2] });
    }

    #[test]
    fn an_empty_side_is_an_error_with_a_way_out() {
        let dataset = dataset((0..5).map(|n| (n, Split::Train)));
        let text = describe(&split_images(&dataset, SplitSource::File, 0.1, 0).unwrap_err());
        assert!(text.contains("no validation images") && text.contains("data.split = \"random\""), "{text}");
        for (splits, expected) in [
            (
                [Split::Val, Split::Val, Split::Test],
                "no training images: 0 are for training, 2 for validation, 1 for testing",
            ),
            ([Split::Test; 3], "prepare the data with a split of your own"),
            ([Split::Train, Split::Test, Split::Test], "prepare the data with a split of your own"),
        ] {
            let dataset = self::dataset(splits.into_iter().enumerate());
            let text = describe(&split_images(&dataset, SplitSource::File, 0.1, 0).unwrap_err());
            assert!(text.contains(expected) && text.contains("hint: "), "{text}");
            let is_drawn = split_images(&dataset, SplitSource::Random, 0.5, 0).is_ok();
            assert_eq!(text.contains("data.split = \"random\""), is_drawn, "the hint is one that works: {text}");
        }
        for fraction in [0.0, 1.0, f64::NAN] {
            assert!(split_images(&dataset, SplitSource::Random, fraction, 0).is_err());
        }
    }

    #[test]
    fn one_image_cannot_be_split() {
        let dataset = dataset([(0, Split::Train)].into_iter());
        assert!(split_images(&dataset, SplitSource::Random, 0.5, 0).is_err());
    }
}
