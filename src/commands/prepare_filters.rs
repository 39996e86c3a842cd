//! The options of `prepare-data` that leave out images and captions.

use std::path::PathBuf;

use crate::commands::given_paths::path_argument;
use datasets::output::Sameness;
use datasets::prepare::FilterRequest;

/// What is to be left out of a data set.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct FilterArgs {
    /// Leave out the images whose names or ids this file lists, one per line
    #[arg(long, value_name = "FILE", value_parser = path_argument())]
    pub drop_ids: Option<PathBuf>,
    /// Scores of the captions, as `score-pairs` writes them
    #[arg(long, value_name = "FILE", value_parser = path_argument(), requires = "min_score")]
    pub scores: Option<PathBuf>,
    /// Leave out captions whose mean log-probability in the scores is less
    #[arg(long, value_name = "VALUE", allow_hyphen_values = true, requires = "scores")]
    pub min_score: Option<f64>,
    /// Keep captions whose letters are mainly of these Unicode scripts, such as Latin or Han,Hiragana,Katakana
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub script: Vec<String>,
    /// Leave out captions of fewer words
    #[arg(long, value_name = "N")]
    pub min_words: Option<usize>,
    /// Leave out captions of more words
    #[arg(long, value_name = "N")]
    pub max_words: Option<usize>,
    /// Leave out images with a side below this
    #[arg(long, value_name = "PIXELS")]
    pub min_side: Option<u32>,
    /// Leave out images whose longer side is more than this many times the shorter
    #[arg(long, value_name = "RATIO")]
    pub max_aspect: Option<f64>,
    /// Keep one of the images whose files are equal (exact), or whose pictures look alike too (near); its captions stay,
    /// those of the others are left out
    #[arg(long, value_name = "exact|near", value_parser = ["exact", "near"])]
    pub drop_duplicates: Option<String>,
}

impl FilterArgs {
    pub(super) fn request(&self) -> FilterRequest {
        let sameness = |name: &str| if name == "near" { Sameness::Near } else { Sameness::Exact };
        FilterRequest {
            drop_ids: self.drop_ids.clone(),
            scores: self.scores.clone(),
            min_score: self.min_score,
            scripts: self.script.clone(),
            min_words: self.min_words,
            max_words: self.max_words,
            min_side: self.min_side,
            max_aspect: self.max_aspect,
            drop_duplicates: self.drop_duplicates.as_deref().map(sameness),
        }
    }
}
