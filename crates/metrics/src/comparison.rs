//! Several sets of captions of the same images: their scores, and whether the differences between them are more than
//! chance.

use serde::Serialize;

use super::bootstrap::{CONFIDENCE, Difference, SIGNIFICANCE, differences};
use super::corpus::Captions;
use super::score::{ScoreOptions, ScoreReport, Scores, score_and_count};

/// Sets of captions, compared with the first of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Of each set.
    pub reports: Vec<ScoreReport>,
    /// How much higher the scores of each set after the first are than those of the first; none without resamples.
    pub differences: Vec<Scores<Difference>>,
    /// CIDEr-D of each image of each set, from 0 to 10.
    pub ciders: Vec<Vec<f64>>,
}

/// Scores sets of untokenized captions and compares them with the first. All have the same images in the same order,
/// with the same references, whose document frequencies are the same in every resample.
pub fn compare(sets: &[Vec<Captions>], options: &ScoreOptions<'_>) -> Comparison {
    let (reports, counted): (Vec<_>, Vec<_>) = sets.iter().map(|images| score_and_count(images, options)).unzip();
    let num_images = sets.first().map_or(0, Vec::len);
    let paired = counted.iter().skip(1).filter_map(|other| {
        let (scores, others) = (|drawn: &[usize]| other.scores(drawn), |drawn: &[usize]| counted[0].scores(drawn));
        differences(num_images, options.num_resamples, options.seed, scores, others).map(Scores::from_array)
    });
    Comparison { differences: paired.collect(), reports, ciders: counted.into_iter().map(|set| set.cider).collect() }
}

impl Comparison {
    /// The comparison as lines to print: for each set after the first a table and a sentence.
    pub fn lines(&self, names: &[&str]) -> Vec<String> {
        let mut lines = Vec::new();
        let (Some((first, others)), Some((report, reports))) = (names.split_first(), self.reports.split_first()) else {
            return lines;
        };
        for ((other, compared), differences) in others.iter().zip(reports).zip(&self.differences) {
            let [one, two] = [first, other].map(|name| name.chars().count().max(5));
            let interval = format!("{:.0} % of resamples", 100.0 * CONFIDENCE);
            lines.push(format!("{:<9}  {first:>one$}  {other:>two$}  difference  {interval:<17}  p", "score"));
            let values = report.scores.named().into_iter().zip(compared.scores.named()).zip(differences.named());
            for (((name, value), (_, of_other)), (_, Difference { value: difference, interval, p })) in values {
                let interval = format!("{:+.3} to {:+.3}", interval.low, interval.high);
                lines.push(format!(
                    "{name:<9}  {value:>one$.3}  {of_other:>two$.3}  {difference:>+10.3}  {interval:<17}  {p:.3}"
                ));
            }
            if let (Some(value), Some(of_other)) = (report.chrf, compared.chrf) {
                let difference = of_other - value;
                lines.push(format!("{:<9}  {value:>one$.3}  {of_other:>two$.3}  {difference:>+10.3}", "chrF"));
            }
            lines.push(verdict([first, other], differences, str::to_owned));
        }
        lines.extend(report.notes.iter().map(|note| format!("note      {note}")));
        lines.push(format!("signature {}", report.signature));
        lines
    }
}

/// Which of the differences are real, in a sentence: `names` are those of the first set and of the one compared with
/// it, `written` says how scores are called.
pub fn verdict(names: [&str; 2], differences: &Scores<Difference>, written: impl Fn(&str) -> String) -> String {
    let [first, other] = names;
    let list = |is_in: &dyn Fn(&Difference) -> bool| {
        let of_kind = differences.named().into_iter().filter(|(_, difference)| is_in(difference));
        let names: Vec<String> = of_kind.map(|(name, _)| written(name)).collect();
        (!names.is_empty()).then(|| names.join(", "))
    };
    let higher = list(&|it| it.is_real() && it.value > 0.0).map(|names| format!("higher than {first} in {names}"));
    let lower = list(&|it| it.is_real() && it.value <= 0.0).map(|names| format!("lower than {first} in {names}"));
    let real: Vec<String> = higher.into_iter().chain(lower).collect();
    if real.is_empty() {
        return format!(
            "No difference between {first} and {other} is real: each may be chance (p is not below {SIGNIFICANCE})."
        );
    }
    let chance = list(&|it| !it.is_real());
    let rest = chance.map_or_else(String::new, |names| format!(" Differences in {names} may be chance."));
    format!("The difference is real (p < {SIGNIFICANCE}): {other} is {}.{rest}", real.join(", and "))
}

#[cfg(test)]
mod tests {
    use super::super::bleu::{BleuStatistics, bleu_statistics};
    use super::super::cider::{DocumentFrequencies, cider_d};
    use super::super::corpus::Corpus;
    use super::super::meteor::Meteor;
    use super::super::score::SCORE_NAMES;
    use super::*;
    use base::random::Stream;

    const SUBJECTS: [&str; 5] = ["a dog", "two dogs", "a red car", "a man", "the old woman"];
    const VERBS: [&str; 4] = ["runs", "is standing", "waits", "sleeps"];
    const PLACES: [&str; 5] = ["on the grass", "in the snow", "near a house", "at the beach", "on a street"];

    /// Captions of 30 images, of which a share names the right place.
    fn captions(set: &str, share: f64) -> Vec<Captions> {
        let (mut scenes, mut stream) = (Stream::new(1, "scenes", ""), Stream::new(1, "captions", set));
        let mut scene = || {
            let (subject, verb, place) = (scenes.below(5), scenes.below(4), scenes.below(5));
            let wrong = PLACES[(place + 1 + stream.below(4)) % 5];
            let written = if stream.uniform() < share { PLACES[place] } else { wrong };
            let [subject, verb, place] = [SUBJECTS[subject], VERBS[verb], PLACES[place]];
            Captions {
                candidate: format!("{subject} {verb} {written}"),
                references: vec![format!("{subject} {verb} {place}"), format!("{subject} that {verb} {place} today")],
            }
        };
        (0..30).map(|_| scene()).collect()
    }

    fn options(meteor: &Meteor, num_resamples: usize) -> ScoreOptions<'_> {
        ScoreOptions { meteor, document_references: None, training_captions: None, num_resamples, seed: 7 }
    }

    fn of(differences: &Scores<Difference>, name: &str) -> Difference {
        differences.named().into_iter().find(|(other, _)| *other == name).unwrap().1
    }

    /// BLEU-4 and CIDEr-D of a corpus made of the drawn images alone, with the document frequencies of all images.
    fn scores_of_drawn(all: &[Captions], drawn: &[usize]) -> [f64; 2] {
        let images: Vec<Captions> = drawn.iter().map(|&index| all[index].clone()).collect();
        let mut corpus = Corpus::new(&images);
        let references: Vec<Vec<String>> = all.iter().map(|image| image.references.clone()).collect();
        let frequencies = DocumentFrequencies::of_others(&mut corpus, &references);
        let ciders = cider_d(&corpus, &frequencies);
        let bleu = bleu_statistics(&corpus).into_iter().sum::<BleuStatistics>().scores()[3];
        [bleu, ciders.iter().sum::<f64>() / ciders.len() as f64]
    }

    #[test]
    fn differences_are_those_of_corpora_made_of_the_images_drawn() {
        let (sets, meteor) = ([captions("first", 0.5), captions("other", 0.7)], Meteor::exact_and_stem());
        let num_resamples = 60;
        let found = compare(&sets, &options(&meteor, num_resamples)).differences[0];
        let mut stream = Stream::new(7, "bootstrap", "");
        let mut resampled = [Vec::new(), Vec::new()];
        for _ in 0..num_resamples {
            let drawn: Vec<usize> = (0..30).map(|_| stream.below(30)).collect();
            let [first, other] = [0, 1].map(|set| scores_of_drawn(&sets[set], &drawn));
            resampled.iter_mut().zip([0, 1]).for_each(|(values, score)| values.push(other[score] - first[score]));
        }
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} {b}: {found:?}");
        let all: Vec<usize> = (0..30).collect();
        let [first, other] = [0, 1].map(|set| scores_of_drawn(&sets[set], &all));
        for (score, name) in ["Bleu_4", "CIDEr"].into_iter().enumerate() {
            let (difference, values) = (of(&found, name), &mut resampled[score]);
            close(difference.value, other[score] - first[score]);
            let below = values.iter().filter(|&&value| value <= 0.0).count();
            let above = values.iter().filter(|&&value| value >= 0.0).count();
            close(difference.p, (2.0 * (1 + below.min(above)) as f64 / 61.0).min(1.0));
            values.sort_by(f64::total_cmp);
            // 2.5 % of 59 steps are 1.475.
            close(difference.interval.low, 0.525 * values[1] + 0.475 * values[2]);
            close(difference.interval.high, 0.525 * values[58] + 0.475 * values[57]);
        }
    }

    #[test]
    fn equal_captions_do_not_differ_better_ones_do_and_worse_ones_by_as_much() {
        let (few, most, meteor) = (captions("first", 0.2), captions("other", 0.9), Meteor::exact_and_stem());
        let compared = |sets: [&Vec<Captions>; 2]| compare(&sets.map(Clone::clone), &options(&meteor, 200));
        for (_, difference) in compared([&most, &most]).differences[0].named() {
            let Difference { value, interval, p } = difference;
            assert_eq!((value, interval.low, interval.high, p), (0.0, 0.0, 0.0, 1.0));
        }
        let (better, worse) = (compared([&few, &most]), compared([&most, &few]));
        let pairs = better.differences[0].named().into_iter().zip(worse.differences[0].named());
        for ((name, better), (_, worse)) in pairs {
            assert!(better.is_real() && better.value > 0.0 && better.interval.low > 0.0, "{name}: {better:?}");
            assert_eq!((better.value, better.p), (-worse.value, worse.p), "{name}");
            assert!((better.interval.low + worse.interval.high).abs() < 1e-12, "{name}: {better:?} {worse:?}");
        }
        let alone = super::super::score::score(&most, &options(&meteor, 200));
        assert_eq!(better.reports[1], alone, "a set is scored as it is alone");
        let mean = better.ciders[1].iter().sum::<f64>() / 30.0;
        assert!((mean - alone.scores.CIDEr).abs() < 1e-12);
    }

    #[test]
    fn a_table_has_a_line_for_each_score_and_a_sentence() {
        let meteor = Meteor::exact_and_stem();
        let sets = [captions("first", 0.2), captions("other", 0.9), captions("first", 0.2)];
        let lines = compare(&sets, &options(&meteor, 200)).lines(&["base", "a longer name", "again"]);
        let starts = lines.iter().map(|line| line.split_whitespace().next().unwrap());
        let table = [&["score"][..], &SCORE_NAMES, &["chrF"]].concat();
        let expected = [&table[..], &["The"], &table, &["No", "signature"]].concat();
        assert_eq!(starts.collect::<Vec<_>>(), expected, "{lines:#?}");
        let width = |line: &String| line.rfind("  ").unwrap();
        assert!(lines[..8].iter().all(|line| width(line) == width(&lines[0])), "{lines:#?}");
        let all = SCORE_NAMES.join(", ");
        assert_eq!(lines[9], format!("The difference is real (p < 0.05): a longer name is higher than base in {all}."));
        assert_eq!(
            lines[19],
            "No difference between base and again is real: each may be chance (p is not below 0.05)."
        );
        assert!(compare(&sets, &options(&meteor, 0)).differences.is_empty());
        assert!(compare(&[], &options(&meteor, 9)).lines(&[]).is_empty());
    }

    #[test]
    fn a_verdict_tells_better_worse_and_chance_apart() {
        let meteor = Meteor::exact_and_stem();
        let mut found = compare(&[captions("a", 0.5), captions("a", 0.5)], &options(&meteor, 9)).differences[0];
        (found.CIDEr.value, found.CIDEr.p) = (0.5, 0.01);
        (found.METEOR.value, found.METEOR.p) = (-0.5, 0.01);
        assert_eq!(
            verdict(["a", "b"], &found, str::to_lowercase),
            "The difference is real (p < 0.05): b is higher than a in cider, and lower than a in meteor. \
             Differences in bleu_1, bleu_2, bleu_3, bleu_4, rouge_l may be chance."
        );
    }
}
