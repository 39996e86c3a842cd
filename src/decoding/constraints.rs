//! What a caption may not be: too short, too long, or with the same n-gram twice.

/// Bounds of a caption and the tokens around it.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
pub struct Constraints {
    /// Precedes every caption.
    pub start: u32,
    pub end: u32,
    /// Tokens that a caption has at least, without the end token.
    pub min_new_tokens: usize,
    /// Tokens that a caption has at most, the end token included.
    pub max_new_tokens: usize,
    /// No n-gram of this size occurs twice, the start token included; 0: repetitions are allowed.
    pub no_repeat_ngram_size: usize,
}

impl Constraints {
    /// Takes the tokens that may not follow `tokens` (without the start token) out of the choice: their logits become
    /// minus infinity.
    pub(super) fn forbid(&self, tokens: &[u32], logits: &mut [f32]) {
        if tokens.len() < self.min_new_tokens {
            logits[self.end as usize] = f32::NEG_INFINITY;
        }
        let size = self.no_repeat_ngram_size;
        if size == 0 || tokens.len() + 2 < size {
            return;
        }
        let so_far: Vec<u32> = std::iter::once(self.start).chain(tokens.iter().copied()).collect();
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
        constraints.forbid(tokens, &mut logits);
        (0..logits.len()).filter(|&token| logits[token] == f32::NEG_INFINITY).collect()
    }

    const FREE: Constraints =
        Constraints { start: 0, end: 1, min_new_tokens: 0, max_new_tokens: 9, no_repeat_ngram_size: 0 };

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
}
