//! The options that say how captions are written, and what becomes of them beside a model's own settings.

use anyhow::Result;

use crate::config::{ConfigError, DecodingConfig, check_decoding};
use crate::decoding::{Constraints, Decoding, Strategy};
use crate::tokenizer::SpecialIds;
use base::fault::usage;

/// How captions are written; what is not given is as the model's own settings have it.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "How captions are written")]
pub struct DecodingArgs {
    /// Beginnings that a beam search keeps; 1 for a greedy search
    #[arg(long, value_name = "N")]
    pub num_beams: Option<usize>,
    /// A caption's score is its log-probability over its length to this power
    #[arg(long, value_name = "POWER", allow_negative_numbers = true)]
    pub length_penalty: Option<f64>,
    /// No n-gram of so many tokens comes twice in a caption; 0: it may
    #[arg(long, value_name = "N")]
    pub no_repeat_ngram_size: Option<usize>,
    /// Tokens that a caption has at least, without the end token
    #[arg(long, value_name = "N")]
    pub min_new_tokens: Option<usize>,
    /// Tokens that a caption has at most, the end token included
    #[arg(long, value_name = "N")]
    pub max_new_tokens: Option<usize>,
    /// Draw tokens by their probability; the logits are divided by this
    #[arg(long, value_name = "T")]
    pub temperature: Option<f64>,
    /// Draw among the most probable tokens, so many of them
    #[arg(long, value_name = "N")]
    pub top_k: Option<usize>,
    /// Draw among the fewest tokens that have this probability together
    #[arg(long, value_name = "P")]
    pub top_p: Option<f64>,
    /// Of the draws; 0 when it is not given
    #[arg(long, value_name = "SEED")]
    pub seed: Option<u64>,
}

impl DecodingArgs {
    /// How a model with the settings `own` writes `num_captions` captions of an image.
    ///
    /// # Errors
    /// A usage error for values out of range and for options that exclude each other.
    pub fn resolve(
        &self,
        own: &DecodingConfig,
        specials: SpecialIds,
        num_positions: usize,
        num_captions: usize,
    ) -> Result<Decoding> {
        let mut config = own.clone();
        config.num_beams = self.num_beams.unwrap_or(config.num_beams);
        config.length_penalty = self.length_penalty.unwrap_or(config.length_penalty);
        config.no_repeat_ngram_size = self.no_repeat_ngram_size.unwrap_or(config.no_repeat_ngram_size);
        config.min_new_tokens = self.min_new_tokens.unwrap_or(config.min_new_tokens);
        config.max_new_tokens = self.max_new_tokens.or(config.max_new_tokens);
        check_decoding(&config).map_err(|ConfigError { key, problem, .. }| {
            let option = key.trim_start_matches("decoding.").replace('_', "-");
            usage(format!("--{option} {problem}"), "see --help for the range")
        })?;
        if let Some(count) = self.max_new_tokens.filter(|&count| count > num_positions) {
            return Err(usage(
                format!("--max-new-tokens is {count}, and the model has {num_positions} positions"),
                "the longest caption has as many tokens as the model has positions",
            ));
        }
        let mut decoding = Decoding::from_config(&config, specials.start, specials.end, num_positions);
        decoding.num_captions = num_captions;
        if let Some(sampling) = self.sampling()? {
            decoding.strategy = sampling;
        }
        self.check_use(&decoding, num_positions)?;
        let most = match decoding.strategy {
            Strategy::Greedy => 1,
            Strategy::Beam { num_beams, .. } => num_beams,
            Strategy::Sample { .. } => MOST_CAPTIONS,
        };
        if !(1..=most).contains(&num_captions) {
            return Err(usage(
                format!("{num_captions} captions of an image are asked for, and there can be 1 to {most}"),
                "a greedy search gives one, a beam search as many as --num-beams, and --temperature 1 draws as many \
                 as are wanted",
            ));
        }
        Ok(decoding)
    }

    /// Makes sure that no option is given that changes nothing.
    fn check_use(&self, decoding: &Decoding, num_positions: usize) -> Result<()> {
        let is_drawn = matches!(decoding.strategy, Strategy::Sample { .. });
        let has_beams = matches!(decoding.strategy, Strategy::Beam { .. });
        if self.seed.is_some() && !is_drawn {
            return Err(usage("--seed is given, and nothing is drawn", "give --temperature, --top-k or --top-p too"));
        }
        if self.length_penalty.is_some() && !has_beams {
            return Err(usage("--length-penalty is given, and there are no beams", "give --num-beams 5 too"));
        }
        let Constraints { min_new_tokens, max_new_tokens, .. } = decoding.constraints;
        if min_new_tokens >= max_new_tokens {
            let least =
                if self.min_new_tokens.is_some() { "--min-new-tokens asks" } else { "the model's settings ask" };
            let most = match self.max_new_tokens {
                Some(_) => "--max-new-tokens allows".to_owned(),
                None if max_new_tokens == num_positions => "the model has positions for".to_owned(),
                None => "its settings allow".to_owned(),
            };
            return Err(usage(
                format!(
                    "{least} for at least {min_new_tokens} tokens in a caption, and {most} {max_new_tokens}, the end \
                     token included"
                ),
                if max_new_tokens == num_positions {
                    format!("give --min-new-tokens {} or less", max_new_tokens - 1)
                } else {
                    format!("lower --min-new-tokens, or raise --max-new-tokens (to {num_positions} at most)")
                },
            ));
        }
        Ok(())
    }

    fn sampling(&self) -> Result<Option<Strategy>> {
        if self.temperature.is_none() && self.top_k.is_none() && self.top_p.is_none() {
            return Ok(None);
        }
        if self.num_beams.is_some_and(|num_beams| num_beams > 1) {
            return Err(usage(
                "--num-beams does not go together with --temperature, --top-k and --top-p",
                "search with beams, or draw",
            ));
        }
        let (temperature, top_p) = (self.temperature.unwrap_or(1.0), self.top_p.unwrap_or(1.0));
        if !(temperature > 0.0 && temperature.is_finite()) {
            return Err(usage(format!("--temperature must be above 0, found {temperature}"), "0.7 is a usual value"));
        }
        if !(top_p > 0.0 && top_p <= 1.0) {
            return Err(usage(format!("--top-p must be above 0 and at most 1, found {top_p}"), "0.9 is a usual value"));
        }
        Ok(Some(Strategy::Sample { temperature, top_k: self.top_k.unwrap_or(0), top_p, seed: self.seed.unwrap_or(0) }))
    }
}

/// Captions of an image that may be drawn at once: each is a row of the batch.
const MOST_CAPTIONS: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;
    use base::fault::{describe, is_usage};

    const SPECIALS: SpecialIds = SpecialIds { pad: 0, start: 1, end: 2, unk: 3 };

    fn resolve(args: &DecodingArgs, num_captions: usize) -> Result<Decoding> {
        args.resolve(
            &DecodingConfig { max_new_tokens: Some(9), ..DecodingConfig::default() },
            SPECIALS,
            12,
            num_captions,
        )
    }

    #[test]
    fn options_change_what_the_model_says() {
        let args = DecodingArgs { num_beams: Some(3), max_new_tokens: Some(12), ..DecodingArgs::default() };
        let decoding = resolve(&args, 2).unwrap();
        assert!(matches!(decoding.strategy, Strategy::Beam { num_beams: 3, length_penalty: 1.0, .. }));
        assert_eq!((decoding.constraints.max_new_tokens, decoding.num_captions), (12, 2));
        let own = resolve(&DecodingArgs::default(), 1).unwrap();
        assert_eq!((own.strategy, own.constraints.max_new_tokens), (Strategy::Greedy, 9));
        let drawn = resolve(&DecodingArgs { top_p: Some(0.9), seed: Some(4), ..DecodingArgs::default() }, 5).unwrap();
        let expected = Strategy::Sample { temperature: 1.0, top_k: 0, top_p: 0.9, seed: 4 };
        assert_eq!(drawn.strategy, expected);
    }

    #[test]
    fn what_cannot_be_is_a_usage_error() {
        let none = DecodingArgs::default();
        for (args, num_captions) in [
            (DecodingArgs { num_beams: Some(0), ..none.clone() }, 1),
            (DecodingArgs { max_new_tokens: Some(13), ..none.clone() }, 1),
            (DecodingArgs { num_beams: Some(2), temperature: Some(1.0), ..none.clone() }, 1),
            (DecodingArgs { temperature: Some(0.0), ..none.clone() }, 1),
            (DecodingArgs { top_p: Some(1.5), ..none.clone() }, 1),
            (DecodingArgs { seed: Some(1), ..none.clone() }, 1),
            (DecodingArgs { length_penalty: Some(0.5), ..none.clone() }, 1),
            (DecodingArgs { length_penalty: Some(50.0), num_beams: Some(2), ..none.clone() }, 1),
            (DecodingArgs { min_new_tokens: Some(9), ..none.clone() }, 1),
            (DecodingArgs { num_beams: Some(2), ..none.clone() }, 3),
            (none, 2),
        ] {
            let error = resolve(&args, num_captions).unwrap_err();
            assert!(is_usage(&error) && !describe(&error).contains('_'), "{args:?}: {error:#}");
        }
    }
}
