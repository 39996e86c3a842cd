//! From counts to a score, with the parameters of METEOR 1.5 for English and its task `rank`.

use super::statistics::MeteorStatistics;

/// Weight of recall against precision.
const ALPHA: f64 = 0.85;
/// Exponent of the fragmentation.
const BETA: f64 = 0.2;
/// Largest penalty for fragmentation.
const GAMMA: f64 = 0.6;
/// Weight of content words against function words.
const DELTA: f64 = 0.75;
/// Weights of the modules exact, stem, synonym, paraphrase.
const MODULE_WEIGHTS: [f64; 4] = [1.0, 0.6, 0.8, 0.6];

/// The score of a caption or of a set of captions, from 0 to 1; 0 where nothing is matched.
pub(super) fn score(statistics: &MeteorStatistics) -> f64 {
    let parts = Parts::new(statistics);
    let score = parts.f_mean * (1.0 - parts.fragmentation_penalty);
    // Sides without words and sides without matches divide zero by zero.
    if score.is_nan() { 0.0 } else { score.max(0.0) }
}

/// The components of a score. Each can be NaN where nothing is matched.
struct Parts {
    f_mean: f64,
    fragmentation_penalty: f64,
}

impl Parts {
    fn new(counts: &MeteorStatistics) -> Self {
        let candidate_matches = weighted(&counts.candidate_content_matches, &counts.candidate_function_matches);
        let reference_matches = weighted(&counts.reference_content_matches, &counts.reference_function_matches);
        let candidate_length = weighted_length(counts.candidate_length, counts.candidate_function_words);
        let reference_length = weighted_length(counts.reference_length, counts.reference_function_words);
        let precision = candidate_matches / candidate_length;
        let recall = reference_matches / reference_length;
        let fragmentation = if counts.is_whole() {
            0.0
        } else {
            counts.num_chunks as f64 / ((counts.candidate_matches() + counts.reference_matches()) as f64 / 2.0)
        };
        Self {
            f_mean: 1.0 / ((1.0 - ALPHA) / precision + ALPHA / recall),
            fragmentation_penalty: GAMMA * fragmentation.powf(BETA),
        }
    }
}

/// Matches weighted by module and kind of word, summed in the order of the Java tool.
fn weighted(content_matches: &[u64; 4], function_matches: &[u64; 4]) -> f64 {
    let content = content_matches.iter().zip(MODULE_WEIGHTS).map(|(&count, weight)| count as f64 * weight * DELTA);
    let function =
        function_matches.iter().zip(MODULE_WEIGHTS).map(|(&count, weight)| count as f64 * weight * (1.0 - DELTA));
    content.chain(function).fold(0.0, |sum, term| sum + term)
}

fn weighted_length(length: u64, function_words: u64) -> f64 {
    DELTA * (length as f64 - function_words as f64) + (1.0 - DELTA) * function_words as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_matched_scores_zero_and_all_in_one_chunk_scores_one() {
        let nothing = MeteorStatistics::default();
        assert_eq!(score(&nothing).to_bits(), 0.0_f64.to_bits());
        let unmatched = MeteorStatistics { candidate_length: 3, reference_length: 2, ..nothing };
        assert_eq!(score(&unmatched).to_bits(), 0.0_f64.to_bits());
        let matches = [2, 0, 0, 0];
        let whole = MeteorStatistics {
            candidate_length: 2,
            reference_length: 2,
            candidate_content_matches: matches,
            reference_content_matches: matches,
            num_chunks: 1,
            ..nothing
        };
        assert_eq!(score(&whole), 1.0);
    }

    #[test]
    fn the_parts_are_those_that_the_java_tool_reports() {
        // "two dogs run in snow" against "two dogs are running in the snow".
        let counts = MeteorStatistics {
            candidate_length: 5,
            reference_length: 7,
            candidate_function_words: 2,
            reference_function_words: 4,
            candidate_content_matches: [2, 0, 0, 1],
            reference_content_matches: [2, 0, 0, 1],
            candidate_function_matches: [2, 0, 0, 0],
            reference_function_matches: [2, 0, 0, 1],
            num_chunks: 2,
        };
        let parts = Parts::new(&counts);
        assert!((parts.f_mean - 0.812_435_23).abs() < 1e-8, "{}", parts.f_mean);
        assert!((parts.fragmentation_penalty - 0.490_100_01).abs() < 1e-8, "{}", parts.fragmentation_penalty);
        assert!((score(&counts) - 0.414_260_717_040_892_96).abs() < 1e-15);
    }
}
