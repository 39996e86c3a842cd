//! Pictures with their captions, the best, the worst and others, and the attention of each word.

use serde::Serialize;

use super::data::{GalleryImage, Word};
use super::embedding::{base64, picture_uri};
use super::text::{self, MAX_CAPTION, percentage, score, significant};

/// Pictures among the best, and among the worst.
const SHOWN: usize = 6;
/// Patches along a side for which a page can show the attention of every word.
const MAX_GRID: usize = 128;
/// References shown per picture.
pub(super) const MAX_REFERENCES: usize = 10;

#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Gallery {
    sections: Vec<Section>,
    /// For the script, by [`Card::index`].
    pub(super) data: Vec<CardData>,
    /// Whether some word's attention is known.
    has_attention: bool,
}

#[derive(Clone, Debug, Serialize)]
struct Section {
    title: &'static str,
    /// Whether the section is initially open.
    is_open: bool,
    cards: Vec<Card>,
}

#[derive(Clone, Debug, Serialize)]
struct Card {
    index: usize,
    name: String,
    /// A `data:` address.
    picture: Option<String>,
    caption: String,
    words: Vec<WordView>,
    references: Vec<String>,
    num_hidden_references: usize,
    cider: Option<String>,
    log_probability: Option<String>,
    has_attention: bool,
}

#[derive(Clone, Debug, Serialize)]
struct WordView {
    text: String,
    /// The end of the caption.
    is_end: bool,
    has_attention: bool,
}

/// The attention maps that the script draws over a picture.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct CardData {
    grid: usize,
    words: Vec<Option<WordData>>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct WordData {
    /// One byte per patch in base64: 255 for the strongest.
    levels: String,
    /// The weights in words.
    reading: String,
    /// The position of the strongest patch, for screen readers.
    place: String,
}

/// Sorts the pictures into sections: the best and the worst by CIDEr, without overlap, and the others in their order.
pub(super) fn gallery(images: &[GalleryImage]) -> Gallery {
    let mut scored: Vec<(usize, f64)> = images
        .iter()
        .enumerate()
        .filter_map(|(index, image)| Some((index, image.cider.filter(|cider| cider.is_finite())?)))
        .collect();
    scored.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let shown = SHOWN.min(scored.len() / 2);
    let best: Vec<usize> = scored.iter().take(shown).map(|(index, _)| *index).collect();
    let worst: Vec<usize> = scored.iter().rev().take(shown).map(|(index, _)| *index).collect();
    let others: Vec<usize> =
        (0..images.len()).filter(|index| !best.contains(index) && !worst.contains(index)).collect();
    let mut gallery = Gallery::default();
    let is_alone = best.is_empty();
    let titles = ["Best by CIDEr", "Worst by CIDEr", if is_alone { "Pictures" } else { "More pictures" }];
    for (title, chosen) in titles.into_iter().zip([best, worst, others]) {
        if chosen.is_empty() {
            continue;
        }
        let cards = chosen.into_iter().filter_map(|index| images.get(index)).map(|image| gallery.add(image)).collect();
        let is_open = is_alone || title != "More pictures";
        gallery.sections.push(Section { title, is_open, cards });
    }
    gallery
}

impl Gallery {
    fn add(&mut self, image: &GalleryImage) -> Card {
        let picture = picture_uri(&image.picture);
        let look = |word: &Word| picture.as_ref().and_then(|_| attention(word, image.num_prefix_tokens, image.grid));
        let words: Vec<Option<WordData>> = image.words.iter().map(look).collect();
        let has_attention = words.iter().any(Option::is_some);
        self.has_attention |= has_attention;
        let views = image.words.iter().zip(&words).map(|(word, data)| WordView {
            text: shown_word(word),
            is_end: word.text.trim().is_empty(),
            has_attention: data.is_some(),
        });
        let card = Card {
            index: self.data.len(),
            name: text::line(&image.name, MAX_CAPTION),
            caption: text::line(&image.caption, MAX_CAPTION),
            words: views.collect(),
            references: image
                .references
                .iter()
                .take(MAX_REFERENCES)
                .map(|text| text::line(text, MAX_CAPTION))
                .collect(),
            num_hidden_references: image.references.len().saturating_sub(MAX_REFERENCES),
            cider: image.cider.map(score),
            log_probability: image.log_probability.map(|sum| log_probability(sum, image.num_tokens)),
            has_attention,
            picture,
        };
        self.data.push(CardData { grid: image.grid, words });
        card
    }
}

fn shown_word(word: &Word) -> String {
    let text = word.text.trim();
    if text.is_empty() { "end".to_owned() } else { text::line(text, MAX_CAPTION) }
}

fn log_probability(sum: f64, num_tokens: Option<usize>) -> String {
    let mean = num_tokens.filter(|&count| count > 0).map(|count| significant(sum / count as f64));
    mean.map_or_else(|| significant(sum), |mean| format!("{}, {mean} per token", significant(sum)))
}

/// The weights as levels and in words; `None` if they do not fit the grid or are all zero. NaN counts as zero.
fn attention(word: &Word, num_prefix_tokens: usize, grid: usize) -> Option<WordData> {
    let (prefix, patches) = word.attention.split_at_checked(num_prefix_tokens)?;
    if !(1..=MAX_GRID).contains(&grid) || patches.len() != grid * grid {
        return None;
    }
    let weight = |weight: f32| if weight.is_finite() { weight.max(0.0) } else { 0.0 };
    let (place, strongest) = patches
        .iter()
        .map(|&patch| weight(patch))
        .enumerate()
        .max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)))
        .filter(|(_, strongest)| *strongest > 0.0)?;
    let levels: Vec<u8> = patches.iter().map(|&patch| (255.0 * (weight(patch) / strongest)).round() as u8).collect();
    let on_prefix = match prefix {
        [] => String::new(),
        [class] => format!("{} on the class token, ", percentage(f64::from(weight(*class)))),
        tokens => {
            let sum: f64 = tokens.iter().map(|&token| f64::from(weight(token))).sum();
            format!("{} on the {} tokens before the patches, ", percentage(sum), tokens.len())
        }
    };
    let reading = format!(
        "{on_prefix}up to {} on a patch (spread evenly: {})",
        percentage(f64::from(strongest)),
        percentage(1.0 / word.attention.len() as f64)
    );
    let place = format!("; the strongest patch is in row {}, column {} of {grid}", place / grid + 1, place % grid + 1);
    Some(WordData { levels: base64(&levels), reading, place })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(name: &str, cider: Option<f64>) -> GalleryImage {
        GalleryImage {
            name: name.to_owned(),
            picture: vec![0xff, 0xd8, 0xff, 0xe0],
            num_prefix_tokens: 1,
            grid: 2,
            cider,
            words: vec![Word { text: "dog".to_owned(), attention: vec![0.5, 0.1, 0.2, 0.0, 0.2] }],
            ..GalleryImage::default()
        }
    }

    fn names(section: &Section) -> Vec<&str> {
        section.cards.iter().map(|card| card.name.as_str()).collect()
    }

    #[test]
    fn best_and_worst_are_apart_and_the_others_keep_their_order() {
        let images: Vec<GalleryImage> =
            (0..20).map(|index| image(&index.to_string(), (index != 3).then_some(f64::from(index)))).collect();
        let gallery = gallery(&images);
        assert_eq!(names(&gallery.sections[0]), ["19", "18", "17", "16", "15", "14"]);
        assert_eq!(names(&gallery.sections[1]), ["0", "1", "2", "4", "5", "6"]);
        assert_eq!(names(&gallery.sections[2]).join(" "), "3 7 8 9 10 11 12 13");
        assert!(gallery.sections[0].is_open && !gallery.sections[2].is_open);
        assert_eq!(gallery.data.len(), 20);
    }

    #[test]
    fn pictures_without_scores_are_one_section() {
        let gallery = gallery(&[image("a", None), image("b", Some(f64::NAN))]);
        assert_eq!((gallery.sections.len(), gallery.sections[0].title), (1, "Pictures"));
        assert!(gallery.sections[0].is_open);
        assert_eq!(gallery.sections[0].cards[1].cider.as_deref(), Some("not finite"));
    }

    #[test]
    fn weights_become_levels_of_the_strongest_patch_and_words() {
        let found = attention(&image("a", None).words[0], 1, 2).unwrap();
        assert_eq!(found.levels, base64(&[128, 255, 0, 255]));
        assert_eq!(found.reading, "50.0 % on the class token, up to 20.0 % on a patch (spread evenly: 20.0 %)");
        assert_eq!(found.place, "; the strongest patch is in row 1, column 2 of 2");
    }

    #[test]
    fn an_encoder_may_have_no_class_token_or_registers_beside_it() {
        let word = Word { text: "dog".to_owned(), attention: vec![0.1, 0.2, 0.3, 0.4] };
        let found = attention(&word, 0, 2).unwrap();
        assert_eq!(found.reading, "up to 40.0 % on a patch (spread evenly: 25.0 %)");
        let word = Word { text: "dog".to_owned(), attention: vec![0.25, 0.25, 0.1, 0.2, 0.1, 0.1] };
        let found = attention(&word, 2, 2).unwrap();
        assert!(
            found.reading.starts_with("50.0 % on the 2 tokens before the patches, up to 20.0 %"),
            "{}",
            found.reading
        );
    }

    #[test]
    fn weights_that_do_not_fit_or_say_nothing_are_not_attention() {
        let word = |attention: &[f32]| Word { text: "a".to_owned(), attention: attention.to_vec() };
        assert!(attention(&word(&[]), 1, 2).is_none());
        assert!(attention(&word(&[1.0]), 1, 0).is_none());
        assert!(attention(&word(&[0.2; 4]), 1, 2).is_none());
        assert!(attention(&word(&[0.0; 5]), 1, 2).is_none());
        assert!(attention(&word(&[f32::NAN; 5]), 1, 2).is_none());
        assert!(attention(&word(&[0.2; 5]), 1, usize::MAX).is_none());
        let some = attention(&word(&[f32::NAN, f32::INFINITY, -1.0, f32::NAN, 1e-40]), 1, 2).unwrap();
        assert_eq!(some.levels, base64(&[0, 0, 0, 255]));
    }

    #[test]
    fn a_picture_that_is_none_leaves_its_caption() {
        let broken = GalleryImage { picture: b"<svg>".to_vec(), ..image("a", None) };
        let gallery = gallery(&[broken]);
        let card = &gallery.sections[0].cards[0];
        assert!(card.picture.is_none() && !card.has_attention && card.words[0].text == "dog");
    }
}
