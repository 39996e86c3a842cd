//! What a caption may not be: too short, too long, or with the same n-gram twice.

use crate::config::WithPrompt;

/// Bounds of a caption and the tokens around it.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
pub struct Constraints {
    /// Precedes every caption, and its prompt.
    pub start: u32,
    pub end: u32,
    /// Tokens that a caption has at least, without the end token.
    pub min_new_tokens: usize,
    /// Tokens that a caption has at most, the end token included.
    pub max_new_tokens: usize,
    /// Which of the two count the prompt.
    #[serde(default, skip_serializing_if = "WithPrompt::is_none")]
    pub with_prompt: WithPrompt,
    /// No n-gram of this size occurs twice, the start token and the prompt included; 0: repetitions are allowed.
    pub no_repeat_ngram_size: usize,
}

impl Constraints {
    /// The same for captions after a prompt of this many tokens, in what `num_positions` leave for them. A length that
    /// counts the prompt leaves at least one token.
    #[must_use]
    pub fn after_prompt(self, prompt_length: usize, num_positions: usize) -> Self {
        let Self { mut min_new_tokens, mut max_new_tokens, with_prompt, .. } = self;
        if with_prompt.least {
            min_new_tokens = min_new_tokens.saturating_sub(prompt_length);
        }
        if with_prompt.most {
            max_new_tokens = max_new_tokens.saturating_sub(prompt_length).max(1);
        }
        // The last token of a caption is not read.
        max_new_tokens = max_new_tokens.min(num_positions.saturating_sub(prompt_length));
        Self { min_new_tokens, max_new_tokens, with_prompt: WithPrompt::default(), ..self }
    }
}

/// The rules for the captions of one image.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) constraints: Constraints,
    /// What stands before them: the start token and the prompt.
    prefix: Vec<u32>,
}

impl Rules {
    pub(super) fn new(constraints: Constraints, prompt: &[u32]) -> Self {
        Self { constraints, prefix: [&[constraints.start], prompt].concat() }
    }

    /// The last token of a caption, or the one before it where it has none.
    pub(super) fn newest(&self, tokens: &[u32]) -> u32 {
        *tokens.last().or(self.prefix.last()).unwrap_or(&self.constraints.start)
    }

    /// Takes the tokens that may not follow the caption `tokens` out of the choice: their logits become minus infinity.
    pub(super) fn forbid(&self, tokens: &[u32], logits: &mut [f32]) {
        if tokens.len() < self.constraints.min_new_tokens {
            logits[self.constraints.end as usize] = f32::NEG_INFINITY;
        }
        let size = self.constraints.no_repeat_ngram_size;
        if size == 0 || self.prefix.len() + tokens.len() + 1 < size {
            return;
        }
        let so_far = [&self.prefix, tokens].concat();
        let tail = &so_far[so_far.len() + 1 - size..];
        for ngram in so_far.windows(size) {
            if let [head @ .., last] = ngram
                && head == tail
            {
                logits[*last as usize] = f32::NEG_INFINITY;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forbidden(constraints: &Constraints, tokens: &[u32]) -> Vec<usize> {
        let mut logits = [0.0; 9];
        Rules::new(*constraints, &[]).forbid(tokens, &mut logits);
        (0..logits.len()).filter(|&token| logits[token] == f32::NEG_INFINITY).collect()
    }

    const FREE: Constraints = Constraints {
        start: 0,
        end: 1,
        min_new_tokens: 0,
        max_new_tokens: 9,
        with_prompt: WithPrompt { least: false, most: false },
        no_repeat_ngram_size: 0,
    };

    #[test]
    fn lengths_of_a_folder_count_the_prompt_and_numbers_of_new_tokens_do_not() {
        let after = |least, most, prompt_length| {
            let with_prompt = WithPrompt { least, most };
            let found = Constraints { min_new_tokens: 4, with_prompt, ..FREE }.after_prompt(prompt_length, 12);
            (found.min_new_tokens, found.max_new_tokens)
        };
        assert_eq!(after(false, false, 3), (4, 9));
        assert_eq!(after(true, true, 3), (1, 6));
        assert_eq!((after(true, false, 5), after(false, true, 5)), ((0, 7), (4, 4)));
        assert_eq!(after(true, true, 11), (0, 1));
    }

    #[test]
    fn a_caption_does_not_end_before_its_least_length() {
        let least = Constraints { min_new_tokens: 2, ..FREE };
        assert_eq!(forbidden(&least, &[5]), [1]);
        assert!(forbidden(&least, &[5, 5]).is_empty() && forbidden(&FREE, &[]).is_empty());
    }

    #[test]
    fn what_would_repeat_an_ngram_is_forbidden() {
        let repeats = |size| Constraints { no_repeat_ngram_size: size, ..FREE };
        assert_eq!(forbidden(&repeats(2), &[5, 6, 7, 5]), [6]);
        assert_eq!(forbidden(&repeats(2), &[5, 6, 5, 7, 5]), [6, 7]);
        assert_eq!(forbidden(&repeats(3), &[5, 6, 7, 5, 6]), [7]);
        assert!(forbidden(&repeats(3), &[5, 6, 7, 6]).is_empty());
        assert_eq!(forbidden(&repeats(1), &[5, 6]), [0, 5, 6], "the start token is a token too");
        assert!(forbidden(&repeats(3), &[5]).is_empty() && forbidden(&repeats(4), &[]).is_empty());
    }

    #[test]
    fn a_prompt_counts_for_ngrams_and_not_for_the_length() {
        let constraints = Constraints { no_repeat_ngram_size: 2, min_new_tokens: 1, ..FREE };
        let mut logits = [0.0; 9];
        Rules::new(constraints, &[5, 6, 5]).forbid(&[], &mut logits);
        assert_eq!((0..9).filter(|&token| logits[token] == f32::NEG_INFINITY).collect::<Vec<_>>(), [1, 6]);
    }
}
