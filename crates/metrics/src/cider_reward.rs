//! CIDEr-D as a reward of self-critical training (Rennie et al. 2017): with the end of a caption as a word. Without it a
//! model learns to end captions early, with words such as "on a", whose n-grams are common (Hu et al. 2023,
//! "SacreEOS", arXiv:2305.12254).

use super::cider::CiderScorer;
use super::ptb_tokenizer::PtbTokenizer;
use super::statistics::has_bad_ending;

/// The end of a caption as a word. No token equals it: those of the tokenizer are in lower case.
const END: &str = "<EOS>";

/// What a sampled caption is worth.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Judged {
    /// CIDEr-D, from 0 to 10.
    pub reward: f64,
    /// Words, without punctuation and without the end.
    pub num_words: usize,
    /// See [`has_bad_ending`].
    pub has_bad_ending: bool,
}

/// References that sampled captions are rewarded by. Their n-grams are weighed by the references of all images.
#[derive(Debug)]
pub struct CiderReward {
    scorer: CiderScorer,
    tokenizer: PtbTokenizer,
    /// Places of images whose references have no word.
    wordless: Vec<usize>,
}

impl CiderReward {
    /// The references of each image, untokenized.
    pub fn new<R: AsRef<[String]>>(references: &[R]) -> Self {
        let tokenizer = PtbTokenizer::new();
        let mut groups = tokenizer.groups_to_words(references);
        let is_wordless = |&place: &usize| groups[place].iter().all(String::is_empty);
        let wordless = (0..groups.len()).filter(is_wordless).collect();
        groups.iter_mut().flatten().for_each(|words| *words = with_end(words));
        Self { scorer: CiderScorer::of_words(&groups), tokenizer, wordless }
    }

    /// Whether every caption has the reward 0, since each n-gram of the references is in all images.
    pub fn weighs_nothing(&self) -> bool {
        self.scorer.weighs_nothing()
    }

    /// The places of the images whose references have no word: no caption of them is worth anything.
    pub fn wordless(&self) -> &[usize] {
        &self.wordless
    }

    /// Judges an untokenized caption of the image at this place among those of [`Self::new`]; panics where there is none.
    /// `has_end`: the model ended it; one that was cut off has no end to share with the references. One without a word
    /// is worth nothing. No other caption matters: each is tokenized alone.
    pub fn judge(&self, image: usize, caption: &str, has_end: bool) -> Judged {
        let words = self.tokenizer.to_words(&[caption, ""]).swap_remove(0);
        if words.is_empty() {
            return Judged::default();
        }
        let reward = match has_end {
            true => self.scorer.score_words(image, &with_end(&words)),
            false => self.scorer.score_words(image, &words),
        };
        Judged { reward, num_words: words.split(' ').count(), has_bad_ending: has_bad_ending(&words) }
    }
}

fn with_end(words: &str) -> String {
    format!("{words} {END}")
}

#[cfg(test)]
mod tests {
    use base::random::Stream;

    use super::super::cider::{DocumentFrequencies, cider_d};
    use super::super::corpus::{Captions, Corpus};
    use super::*;

    /// What `tests/reference/cider_reward.py` wrote: references of images, and captions with their rewards.
    const REFERENCE: &str = include_str!("cider_reward.tsv");

    const WORDS: [&str; 12] = ["a", "the", "dog", "dogs", "runs", "on", "grass", "red", "ball", "with", "man", "snow"];

    fn text(random: &mut Stream) -> String {
        let count = 1 + random.below(12);
        let words: Vec<&str> = (0..count).map(|_| WORDS[random.below(WORDS.len())]).collect();
        // Written as people do.
        let mut text = words.join(" ");
        text.replace_range(..1, &text[..1].to_uppercase());
        text + ["", " .", " !"][random.below(3)]
    }

    fn references(random: &mut Stream) -> Vec<Vec<String>> {
        (0..200).map(|_| (0..1 + random.below(5)).map(|_| text(random)).collect()).collect()
    }

    /// The words of [`text`], as they are in a score.
    fn plain(text: &str) -> String {
        text.to_lowercase().trim_end_matches([' ', '.', '!']).to_owned()
    }

    #[test]
    fn a_reward_is_the_score_of_the_caption_with_the_end_as_a_word() {
        let mut random = Stream::new(2, "test", "rewards");
        let references = references(&mut random);
        let reward = CiderReward::new(&references);
        let mut ended: Vec<Captions> = Vec::new();
        let mut found = Vec::new();
        let ends = |text: &String| format!("{} the-end", plain(text));
        for number in 0..1000 {
            let image = number % references.len();
            let (caption, has_end) = (text(&mut random), random.below(4) > 0);
            found.push(reward.judge(image, &caption, has_end).reward);
            let candidate = if has_end { ends(&caption) } else { plain(&caption) };
            ended.push(Captions { candidate, references: references[image].iter().map(ends).collect() });
        }
        let mut corpus = Corpus::new(&ended);
        let documents: Vec<Vec<String>> = references.iter().map(|group| group.iter().map(ends).collect()).collect();
        let frequencies = DocumentFrequencies::of_others(&mut corpus, &documents);
        let expected = cider_d(&corpus, &frequencies);
        let largest = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(largest < 1e-10, "{largest}");
        assert!(found.iter().filter(|&&reward| reward > 0.1).count() > 500);
    }

    #[test]
    fn rewards_are_those_of_the_reference_implementation() {
        let mut references: Vec<Vec<String>> = Vec::new();
        let mut captions = Vec::new();
        for line in REFERENCE.lines() {
            match *line.split('\t').collect::<Vec<_>>() {
                ["reference", image, text] => {
                    let image: usize = image.parse().unwrap();
                    references.resize(references.len().max(image + 1), Vec::new());
                    references[image].push(text.to_owned());
                }
                [end @ ("ended" | "cut"), image, text, reward] => {
                    captions.push((
                        end == "ended",
                        image.parse::<usize>().unwrap(),
                        text,
                        reward.parse::<f64>().unwrap(),
                    ));
                }
                _ => panic!("{line}"),
            }
        }
        let reward = CiderReward::new(&references);
        for &(has_end, image, caption, expected) in &captions {
            let found = reward.judge(image, caption, has_end).reward;
            assert!((found - expected).abs() < 1e-9, "{caption}: {found} {expected}");
        }
        let positive = |has_end| captions.iter().filter(|caption| caption.0 == has_end && caption.3 > 0.0).count();
        assert!(positive(true) > 20 && positive(false) > 20);
    }

    #[test]
    fn an_end_is_worth_something_and_a_caption_without_a_word_nothing() {
        let references = [vec!["a dog runs".to_owned()], vec!["a red car".to_owned()]];
        let reward = CiderReward::new(&references);
        let of = |caption: &str, has_end| reward.judge(0, caption, has_end).reward;
        assert!(of("a dog runs", true) > of("a dog runs", false));
        assert!((of("a dog runs", true) - 10.0).abs() < 1e-12);
        let references = [vec!["a dog".to_owned(), "!".to_owned()], vec!["...".to_owned()], Vec::new()];
        assert_eq!(CiderReward::new(&references).wordless(), [1, 2]);
        for nothing in ["", " ", ".", "! -"] {
            assert_eq!(reward.judge(0, nothing, true), Judged::default(), "{nothing:?}");
        }
        // What only looks like the end.
        assert_eq!(of("a dog runs <eos>", false), of("a dog runs <end>", false));
    }

    #[test]
    fn a_caption_is_judged_without_regard_to_case_and_punctuation() {
        let reward = CiderReward::new(&[vec!["A dog, running!".to_owned()], vec!["cars".to_owned()]]);
        let judged = reward.judge(0, "a DOG running.", true);
        assert_eq!(judged, reward.judge(0, "a dog running", true));
        assert_eq!((judged.num_words, judged.has_bad_ending), (3, false));
        assert!(reward.judge(0, "a dog on a.", true).has_bad_ending);
    }
}
