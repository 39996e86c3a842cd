//! The interface of a served model: requests and answers.

use serde::Serialize;

/// A model that describes pictures. It runs on its own thread and gets one picture at a time.
pub trait Describe: Send + 'static {
    /// Describes the picture in the file content `image`. A panic is caught and counts as [`Refusal::Inner`].
    fn describe(&mut self, image: Vec<u8>, request: &Request) -> Result<Answer, Refusal>;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Number of captions, 1 to 10. Default 1.
    pub num_captions: usize,
    /// Number of beams, `num_captions` to 16. Default: that of the model's own settings, but at least `num_captions`:
    /// otherwise a model with greedy search could not give alternatives.
    pub num_beams: Option<usize>,
    /// Whether to return the attention of each word. Default false.
    pub attention: bool,
    /// Text that the captions continue, at most 1000 characters. Default: that of the model.
    pub prompt: Option<String>,
}

#[derive(Debug)]
pub enum Refusal {
    /// Why the picture or the prompt cannot be used; shown to the user.
    Picture(String),
    /// A failure of the model; only logged.
    Inner(anyhow::Error),
}

impl From<anyhow::Error> for Refusal {
    fn from(error: anyhow::Error) -> Self {
        Self::Inner(error)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub caption: String,
    /// Its words, in order.
    pub words: Vec<Word>,
    /// Natural logarithm of the probability of the best caption.
    pub log_probability: f64,
    /// The other captions, best first.
    pub alternatives: Vec<Alternative>,
    /// Rows and columns of patches.
    pub patches: [usize; 2],
    pub region: Region,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Word {
    /// The word, without spaces.
    pub text: String,
    /// Attention to each patch, row by row. The rest of the sum of 1 is the attention to the class token and registers,
    /// if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attention: Option<Vec<f32>>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Alternative {
    pub caption: String,
    /// Natural logarithm of the probability of the best caption.
    pub log_probability: f64,
}

/// A part of an upright picture, in fractions of its width and height. A centre crop makes it smaller than the picture,
/// padding larger.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Region {
    pub left: f64,
    pub top: f64,
    pub width: f64,
    pub height: f64,
}

impl Answer {
    /// Checks that the page can show the answer: JSON has no NaN, and there must be a weight for each patch.
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
