//! Images of a run with what its model writes about them and where it looks: the best, the worst, and some between.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result};
use candle_core::Device;
use image::{ImageFormat, RgbImage};

use crate::evaluation::captioning::CaptionWriter;
use crate::evaluation::description::{Description, describe};
use crate::model::captioner::Captioner;
use crate::run::captioning_model::CaptioningModel;
use base::terminal::Progress;
use datasets::prepared::Dataset;
use metrics::corpus::Captions;
use metrics::score::cider_of_each;
use pixels::image_file::{encode, load_rgb};
use report::{CaptionedImage, GalleryImage, Word};

/// Draws `num_images` pictures of `images`, of which `written` has the captions where there are some.
///
/// # Errors
/// A model or an image that cannot be used.
pub(super) fn draw(
    checkpoint: &Path,
    dataset: &Dataset,
    images: &[usize],
    written: Option<&[CaptionedImage]>,
    num_images: usize,
    device: &Device,
) -> Result<Vec<GalleryImage>> {
    let references = |&image: &usize| dataset.images[image].captions.clone();
    let mut scored: Vec<Captions> = images
        .iter()
        .enumerate()
        .map(|(place, image)| Captions {
            candidate: written.map_or_else(String::new, |written| written[place].caption.clone()),
            references: references(image),
        })
        .collect();
    let chosen = match written.and_then(|_| cider_of_each(&scored)) {
        Some(scores) => choose(&scores, num_images),
        None => spread(images.len(), num_images).collect(),
    };
    let opened = CaptioningModel::open(checkpoint, device)?;
    let model = Captioner::build(&opened.shape, &opened.parameters.detached())?;
    let writer = CaptionWriter::new(&model, &opened.tokenizer, &opened.decoding);
    let (height, width) = opened.processor.output_size();
    let mut gallery = Vec::new();
    let progress = Progress::new("images of the report", chosen.len() as u64, 0);
    for &place in &chosen {
        progress.advance(1, "");
        let picture = load_rgb(&dataset.image_path(images[place]))?;
        let pixels = opened.processor.pixels(&picture)?;
        let values = opened.processor.normalize(&pixels);
        let Description { captions, words } = describe(&writer, values, (height, width), true, device)?;
        let best = captions.into_iter().next().unwrap_or_default();
        let shown = RgbImage::from_raw(width as u32, height as u32, pixels).context("the picture lacks pixels")?;
        scored[place].candidate.clone_from(&best.text);
        gallery.push(GalleryImage {
            name: dataset.images[images[place]].filename.clone(),
            picture: encode(&shown, ImageFormat::Jpeg)?,
            grid: opened.shape.encoder.grid(),
            words: words.into_iter().map(|word| Word { text: word.text, attention: word.attention }).collect(),
            references: references(&images[place]),
            log_probability: Some(best.decoded.log_probability()),
            num_tokens: Some(best.decoded.log_probabilities.len()),
            cider: None,
            caption: best.text,
        });
    }
    // Anew: the model may have written otherwise, with another search.
    if let Some(cider) = cider_of_each(&scored) {
        gallery.iter_mut().zip(chosen).for_each(|(image, place)| image.cider = Some(cider[place]));
    }
    Ok(gallery)
}

/// A third the best, a third the worst, the rest from between, each once.
fn choose(scores: &[f64], num: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&one, &other| scores[other].total_cmp(&scores[one]));
    let third = (num / 3).min(order.len());
    let (best, worst) = (order[..third].iter(), order[order.len() - third..].iter());
    let between = spread(scores.len(), num - 2 * (num / 3));
    let all: BTreeSet<usize> = best.chain(worst).copied().chain(between).collect();
    all.into_iter().collect()
}

/// At most `num` of `count` places, evenly spread.
fn spread(count: usize, num: usize) -> impl Iterator<Item = usize> {
    let num = num.min(count);
    (0..num).map(move |index| index * count / num)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_the_worst_and_some_between_are_shown_once() {
        let scores: Vec<f64> = (0..90).map(|place| f64::from((place * 7) % 90)).collect();
        let chosen = choose(&scores, 9);
        assert!(chosen.len() <= 9 && chosen.is_sorted());
        for score in [89.0, 88.0, 87.0, 0.0, 1.0, 2.0] {
            let place = scores.iter().position(|&other| other == score).unwrap();
            assert!(chosen.contains(&place), "{score}");
        }
        assert_eq!(choose(&[1.0, f64::NAN], 9), [0, 1]);
        assert!(choose(&[], 9).is_empty() && choose(&scores, 0).is_empty());
    }
}
