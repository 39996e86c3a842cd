//! The data of the page of a data set, which the caller gathers.

use std::path::PathBuf;

/// Everything that the page shows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LookData {
    pub dataset: String,
    /// The folder of the image files as a path from the page's folder.
    pub image_folder: PathBuf,
    pub splits: Vec<SplitCounts>,
    pub images: Vec<LookImage>,
    /// (words, captions of that many), by the number of words.
    pub num_of_length: Vec<(usize, usize)>,
    /// Words of a caption that half of them do not exceed.
    pub median_length: usize,
    pub vocabulary: usize,
    /// The most frequent words, from the most frequent.
    pub words: Vec<WordCount>,
    /// (script, captions), from the most frequent.
    pub scripts: Vec<(String, usize)>,
    /// Captions with a prompt of their own.
    pub num_prompts: usize,
    /// Captions of a weight other than 1.
    pub num_weights: usize,
    /// Captions that are worth a look.
    pub odd: Vec<OddCaptions>,
    /// Captions that other images have too.
    pub num_repeated: usize,
    /// Captions of any kind in `odd`, each once.
    pub num_odd: usize,
    /// From the most frequent.
    pub repeated: Vec<RepeatedCaption>,
    /// Images that show the same picture. Those in two splits come first.
    pub pairs: Vec<LookPairs>,
    /// Images whose pictures have too little structure to be compared.
    pub num_not_compared: usize,
    /// What was left out at the preparation: what, and why.
    pub rejects: Vec<(String, String)>,
    /// What was repaired or noticed at the preparation: of what, and what.
    pub repairs: Vec<(String, String)>,
    /// Whether it is known how the data set was prepared.
    pub is_prepared: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SplitCounts {
    pub name: String,
    pub images: usize,
    pub captions: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub struct LookImage {
    /// Path below the folder of images, with slashes.
    pub name: String,
    /// Index among the splits.
    pub split: usize,
    /// (width, height) in pixels, or in one line why it cannot be read.
    pub size: Result<(u32, u32), String>,
    pub captions: Vec<LookCaption>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct LookCaption {
    pub text: String,
    pub prompt: Option<String>,
    /// Where it is not 1.
    pub weight: Option<f64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WordCount {
    pub text: String,
    /// Times that it is there.
    pub count: usize,
    /// Images that have it.
    pub num_images: usize,
}

/// Captions that are odd in the same way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OddCaptions {
    pub title: String,
    /// What that means, in a sentence.
    pub meaning: String,
    pub count: usize,
    pub first: Vec<OddListed>,
}

/// A caption by its image and its place among that image's captions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OddListed {
    pub image: usize,
    pub caption: usize,
    pub reason: String,
}

/// A caption that several images have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepeatedCaption {
    pub num_images: usize,
    /// Some of them: (image, caption).
    pub first: Vec<(usize, usize)>,
}

/// Pairs of images of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LookPairs {
    pub title: String,
    /// What that means, in a sentence.
    pub meaning: String,
    /// It spoils scores.
    pub is_leak: bool,
    pub count: usize,
    pub first: Vec<LookPair>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LookPair {
    pub one: usize,
    pub other: usize,
    /// How they differ.
    pub note: String,
}
