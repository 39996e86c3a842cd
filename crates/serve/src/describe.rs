//! What a model must do to be served, and what it is asked and answers.

use serde::Serialize;

/// A model that describes pictures. It is moved to a thread of its own and gets one picture at a time.
pub trait Describe: Send + 'static {
    /// Describes the picture in the file content `image`. A panic is caught and taken for [`Refusal::Inner`].
    ///
    /// # Errors
    /// A picture that cannot be used, or a failure of the model.
    fn describe(&mut self, image: Vec<u8>, request: &Request) -> Result<Answer, Refusal>;
}

/// How a picture is to be described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Captions, 1 to 10. Default 1.
    pub num_captions: usize,
    /// Beginnings that a beam search keeps, `num_captions` to 16. Where it is not given the model searches as its own
    /// settings say, but with `num_captions` beams at least: otherwise a model that searches greedily could give no
    /// alternatives.
    pub num_beams: Option<usize>,
    /// Whether the words have their attention. Default false.
    pub attention: bool,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Refusal {
    /// The picture cannot be used, and why; shown to the person.
    Picture(String),
    /// A failure that a person at the page can do nothing about; told to the log alone.
    Inner(anyhow::Error),
}

impl From<anyhow::Error> for Refusal {
    fn from(error: anyhow::Error) -> Self {
        Self::Inner(error)
    }
}

/// The captions of a picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The best caption.
    pub caption: String,
    /// Its words, in order.
    pub words: Vec<Word>,
    /// Its log-probability, a natural logarithm.
    pub log_probability: f64,
    /// The other captions, the best first.
    pub alternatives: Vec<Alternative>,
    /// Rows and columns of patches.
    pub patches: [usize; 2],
    /// The part of the picture that the patches cover.
    pub region: Region,
}

/// A word of a caption.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Word {
    /// The word as it stands in the caption, without spaces.
    pub text: String,
    /// How much it looks at each patch, row by row. What is missing from a sum of 1 went to the class token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attention: Option<Vec<f32>>,
}

/// Another caption.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Alternative {
    /// The text.
    pub caption: String,
    /// Its log-probability, a natural logarithm.
    pub log_probability: f64,
}

/// A part of an upright picture, in shares of its width and height. A centre crop makes it smaller than the picture;
/// one that is filled up makes it larger.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Region {
    /// Where it begins, from the left.
    pub left: f64,
    /// Where it begins, from the top.
    pub top: f64,
    /// How wide it is.
    pub width: f64,
    /// How high it is.
    pub height: f64,
}

impl Answer {
    /// Makes sure that the page can show the answer: JSON has no NaN, and an attention has a weight for each patch.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let [rows, columns] = self.patches;
        for Word { text, attention } in &self.words {
            let Some(weights) = attention else { continue };
            anyhow::ensure!(
                rows.checked_mul(columns) == Some(weights.len()),
                "the word {text:?} has {} weights, expected one for each of {rows} x {columns} patches",
                weights.len()
            );
            anyhow::ensure!(weights.iter().all(|weight| weight.is_finite()), "a weight of {text:?} is not finite");
        }
        let Region { left, top, width, height } = self.region;
        let mut numbers = [self.log_probability, left, top, width, height]
            .into_iter()
            .chain(self.alternatives.iter().map(|other| other.log_probability));
        anyhow::ensure!(numbers.all(f64::is_finite), "a number of the answer is not finite");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(weights: Vec<f32>) -> Answer {
        Answer {
            caption: "a dog".to_owned(),
            words: vec![Word { text: "dog".to_owned(), attention: Some(weights) }],
            log_probability: -1.5,
            alternatives: vec![Alternative { caption: "a cat".to_owned(), log_probability: -2.0 }],
            patches: [1, 2],
            region: Region { left: 0.0, top: 0.0, width: 1.0, height: 1.0 },
        }
    }

    #[test]
    fn answer_that_a_page_cannot_show_is_found() {
        assert!(answer(vec![0.5, 0.25]).check().is_ok());
        let missing = answer(vec![0.5]).check().unwrap_err().to_string();
        assert!(missing.contains("has 1 weights, expected one for each of 1 x 2 patches"), "{missing}");
        assert!(answer(vec![0.5, f32::NAN]).check().is_err());
        assert!(Answer { log_probability: f64::NEG_INFINITY, ..answer(vec![0.5, 0.5]) }.check().is_err());
        assert!(Answer { patches: [usize::MAX, 2], ..answer(vec![0.5, 0.5]) }.check().is_err());
    }

    #[test]
    fn words_without_attention_have_no_such_key() {
        let word = Word { text: "dog".to_owned(), attention: None };
        assert_eq!(serde_json::to_string(&word).unwrap(), r#"{"text":"dog"}"#);
    }
}
