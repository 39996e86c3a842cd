//! The data sets that have a name.

use crate::annotations::raw_dataset::RawDataset;
use crate::prepared::Split;

/// A data set that the user may ask for by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KnownDataset {
    Flickr8k,
    Flickr30k,
    Coco,
    /// The synthetic data set that the program draws itself.
    Shapes,
}

impl KnownDataset {
    pub const ALL: [Self; 4] = [Self::Flickr8k, Self::Flickr30k, Self::Coco, Self::Shapes];

    /// The name on the command line and in `data.dataset`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Flickr8k => "flickr8k",
            Self::Flickr30k => "flickr30k",
            Self::Coco => "coco",
            Self::Shapes => "shapes",
        }
    }

    /// The data set called `name`.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name() == name)
    }

    /// Images for training, validation and testing in Karpathy's split, which papers report on.
    pub fn official_sizes(self) -> Option<[usize; 3]> {
        match self {
            Self::Flickr8k => Some([6_000, 1_000, 1_000]),
            Self::Flickr30k => Some([29_000, 1_014, 1_000]),
            Self::Coco => Some([113_287, 5_000, 5_000]),
            Self::Shapes => None,
        }
    }

    /// Other splits that are in use, with their names.
    pub fn other_sizes(self) -> &'static [([usize; 3], &'static str)] {
        match self {
            Self::Flickr30k => &[([29_783, 1_000, 1_000], "Flickr30k Entities")],
            Self::Coco => &[([82_783, 40_504, 0], "COCO 2014"), ([118_287, 5_000, 0], "COCO 2017")],
            Self::Flickr8k | Self::Shapes => &[],
        }
    }

    /// Numbers of images that it has where no split is named: those of the distributed captions.
    fn totals(self) -> &'static [usize] {
        match self {
            Self::Flickr8k => &[8_000, 8_091, 8_092],
            Self::Flickr30k => &[31_014, 31_783],
            Self::Coco => &[123_287],
            Self::Shapes => &[],
        }
    }

    /// Whether `raw` has as many images as this data set: in each split of which there are any, or in all where no
    /// split is named. A set of your own in the same form has not.
    pub fn has_size_of(self, raw: &RawDataset) -> bool {
        let count = |split| raw.images.iter().filter(|image| image.split == Some(split)).count();
        let counts = Split::ALL.map(count);
        let (num_named, num_images) = (counts.iter().sum::<usize>(), raw.images.len());
        if num_named == 0 {
            return self.totals().contains(&num_images);
        }
        let known = self.official_sizes().into_iter().chain(self.other_sizes().iter().map(|(sizes, _)| *sizes));
        let fits = |sizes: [usize; 3]| counts.iter().zip(sizes).all(|(&count, size)| count == 0 || count == size);
        num_named == num_images && known.into_iter().any(fits)
    }

    /// The known data set that a file name speaks of.
    pub(crate) fn of_path(path: &str) -> Option<Self> {
        let path = path.to_ascii_lowercase();
        let words = || path.split(|character: char| !character.is_ascii_alphanumeric());
        let speaks_of = |known: &Self| {
            let year = |word: &'_ str| word.trim_start_matches("ms").strip_prefix(known.name()).map(str::to_owned);
            words().filter_map(year).any(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
        };
        [Self::Flickr8k, Self::Flickr30k, Self::Coco].into_iter().find(speaks_of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::annotations::raw_dataset::RawImage;

    #[test]
    fn a_known_data_set_is_known_by_its_size() {
        let raw = |counts: &[(usize, Option<Split>)]| {
            let image = |split| RawImage { split, ..RawImage::default() };
            let images = counts.iter().flat_map(|&(count, split)| vec![image(split); count]).collect();
            RawDataset { images, ..RawDataset::default() }
        };
        let [train, val, test] = Split::ALL.map(Some);
        for (known, counts) in [
            (KnownDataset::Coco, &[(113_287, train), (5_000, val), (5_000, test)][..]),
            (KnownDataset::Coco, &[(118_287, train), (5_000, val)]),
            (KnownDataset::Coco, &[(40_504, val)]),
            (KnownDataset::Coco, &[(123_287, None)]),
            (KnownDataset::Flickr8k, &[(8_092, None)]),
            (KnownDataset::Flickr8k, &[(6_000, train)]),
            (KnownDataset::Flickr30k, &[(29_000, train), (1_014, val), (1_000, test)]),
            (KnownDataset::Flickr30k, &[(31_783, None)]),
        ] {
            assert!(known.has_size_of(&raw(counts)), "{known:?} {counts:?}");
        }
        for (known, counts) in [
            (KnownDataset::Coco, &[(6, None)][..]),
            (KnownDataset::Coco, &[(118_287, train), (5_001, val)]),
            (KnownDataset::Coco, &[(5_000, val), (1, None)]),
            (KnownDataset::Flickr8k, &[(31_783, None)]),
            (KnownDataset::Shapes, &[(1, None)]),
            (KnownDataset::Flickr30k, &[]),
        ] {
            assert!(!known.has_size_of(&raw(counts)), "{known:?} {counts:?}");
        }
    }

    #[test]
    fn a_name_speaks_of_a_known_data_set_by_a_word() {
        for (path, expected) in [
            ("dataset_coco.json", Some(KnownDataset::Coco)),
            ("annotations/coco_karpathy_train", Some(KnownDataset::Coco)),
            ("MSCOCO2017-val", Some(KnownDataset::Coco)),
            ("flickr30k_test.json", Some(KnownDataset::Flickr30k)),
            ("dataset_flickr8k.json", Some(KnownDataset::Flickr8k)),
            ("coconuts/pairs", None),
            ("captions", None),
        ] {
            assert_eq!(KnownDataset::of_path(path), expected, "{path}");
        }
    }
}
