//! The options for generating captions, and how they combine with a model's own settings.

use anyhow::Result;

use crate::config::{ConfigError, DecodingConfig, check_decoding};
use crate::decoding::{Constraints, Decoding, Strategy};
use crate::tokenizer::SpecialIds;
use base::error::usage_error;

/// How captions are generated; the defaults are the model's own settings.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Caption generation (default: the model's own settings)")]
pub struct DecodingArgs {
    /// Number of beams; 1 = greedy search
    #[arg(long, value_name = "N")]
    pub num_beams: Option<usize>,
    /// Exponent of the caption length by which a beam's log-probability is divided
    #[arg(long, value_name = "POWER", allow_negative_numbers = true)]
    pub length_penalty: Option<f64>,
    /// Forbid repeated n-grams of this size (0 = allow)
    #[arg(long, value_name = "N")]
    pub no_repeat_ngram_size: Option<usize>,
    /// Minimum number of tokens, without the end token
    #[arg(long, value_name = "N")]
    pub min_new_tokens: Option<usize>,
    /// Maximum number of tokens, including the end token
    #[arg(long, value_name = "N")]
    pub max_new_tokens: Option<usize>,
    /// Sample tokens; the logits are divided by this temperature
    #[arg(long, value_name = "T")]
    pub temperature: Option<f64>,
    /// Sample from this many of the most probable tokens
    #[arg(long, value_name = "N")]
    pub top_k: Option<usize>,
    /// Sample from the smallest set of tokens with at least this total probability
    #[arg(long, value_name = "P")]
    pub top_p: Option<f64>,
    /// Seed for sampling [default: 0]
    #[arg(long, value_name = "SEED")]
    pub seed: Option<u64>,
}

impl DecodingArgs {
    /// The decoding for `num_captions` captions of an image by a model with the settings `own`.
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
        config.with_prompt.least &= self.min_new_tokens.is_none();
        config.with_prompt.most &= self.max_new_tokens.is_none();
        check_decoding(&config).map_err(|ConfigError { key, problem, .. }| {
            let option = key.trim_start_matches("decoding.").replace('_', "-");
            usage_error(format!("--{option} {problem}"), "see --help for the range")
        })?;
        if let Some(count) = self.max_new_tokens.filter(|&count| count > num_positions) {
            return Err(usage_error(
                format!("--max-new-tokens is {count}, but the model has only {num_positions} positions"),
                "a caption cannot have more tokens than the model has positions",
            ));
        }
        let mut decoding = Decoding::from_config(&config, specials.start, specials.end, num_positions);
        decoding.num_captions = num_captions;
        if let Some(sampling) = self.sampling()? {
            decoding.strategy = sampling;
        }
        self.check_use(&decoding, num_positions)?;
        let max_captions = match decoding.strategy {
            Strategy::Greedy => 1,
            Strategy::Beam { num_beams, .. } => num_beams,
            Strategy::Sample { .. } => MAX_CAPTIONS,
        };
        if !(1..=max_captions).contains(&num_captions) {
            return Err(usage_error(
                format!("{num_captions} captions per image requested, expected 1 to {max_captions}"),
                "a greedy search gives one, a beam search up to --num-beams; with --temperature 1 any number can be \
                 sampled",
            ));
        }
        Ok(decoding)
    }

    /// Refuses options that would have no effect.
    fn check_use(&self, decoding: &Decoding, num_positions: usize) -> Result<()> {
        let is_drawn = matches!(decoding.strategy, Strategy::Sample { .. });
        let has_beams = matches!(decoding.strategy, Strategy::Beam { .. });
        if self.seed.is_some() && !is_drawn {
            return Err(usage_error("--seed has no effect without sampling", "add --temperature, --top-k or --top-p"));
        }
        if self.length_penalty.is_some() && !has_beams {
            return Err(usage_error("--length-penalty has no effect without beams", "add --num-beams 5"));
        }
        let Constraints { min_new_tokens, max_new_tokens, .. } = decoding.constraints;
        if min_new_tokens >= max_new_tokens {
            let min = if self.min_new_tokens.is_some() { "--min-new-tokens asks" } else { "the model's settings ask" };
            let max = match self.max_new_tokens {
                Some(_) => "--max-new-tokens allows only",
                None if max_new_tokens == num_positions => "the model has positions only for",
                None => "its settings allow only",
            };
            return Err(usage_error(
                format!(
                    "{min} for at least {min_new_tokens} tokens in a caption, but {max} {max_new_tokens}, including \
                     the end token"
                ),
                if max_new_tokens == num_positions {
                    format!("set --min-new-tokens to at most {}", max_new_tokens - 1)
                } else {
                    format!("lower --min-new-tokens, or raise --max-new-tokens (to at most {num_positions})")
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
            return Err(usage_error(
                "--num-beams cannot be combined with --temperature, --top-k or --top-p",
                "choose either beam search or sampling",
            ));
        }
        let (temperature, top_p) = (self.temperature.unwrap_or(1.0), self.top_p.unwrap_or(1.0));
        if !(temperature > 0.0 && temperature.is_finite()) {
            return Err(usage_error(
                format!("--temperature must be above 0, found {temperature}"),
                "0.7 is a common value",
            ));
        }
        if !(top_p > 0.0 && top_p <= 1.0) {
            return Err(usage_error(
                format!("--top-p must be above 0 and at most 1, found {top_p}"),
                "0.9 is a common value",
            ));
        }
        Ok(Some(Strategy::Sample { temperature, top_k: self.top_k.unwrap_or(0), top_p, seed: self.seed.unwrap_or(0) }))
    }
}

/// Captions sampled at once for an image: each is a row of the batch.
const MAX_CAPTIONS: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;
    use base::error::{describe, is_usage_error};

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
            assert!(is_usage_error(&error) && !describe(&error).contains('_'), "{args:?}: {error:#}");
        }
    }
}
