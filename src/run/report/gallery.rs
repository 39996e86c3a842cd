//! Images of a run with what its model writes about them and where it looks: the best, the worst, and some between.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result};
use candle_core::Device;
use image::{ImageFormat, RgbImage};

use crate::data::image_source::ImageInput;
use crate::data::prompts::Prompts;
use crate::data::resized_image::{ResizedImage, pixel_values};
use crate::evaluation::captioning::CaptionWriter;
use crate::evaluation::description::{Description, describe};
use crate::run::captioning_model::CaptioningModel;
use base::terminal::Progress;
use datasets::prepared::Dataset;
use metrics::cider::CiderScorer;
use pixels::image_file::encode;
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
    let references = |&image: &usize| dataset.images.get(image).owned_captions();
    let scorer = CiderScorer::new(&images.iter().map(references).collect::<Vec<_>>());
    let chosen = match written.filter(|_| !scorer.weighs_nothing()) {
        Some(written) => {
            let captions: Vec<(usize, &str)> = written.iter().map(|image| image.caption.as_str()).enumerate().collect();
            choose(&scorer.score_each(&captions), num_images)
        }
        None => spread(images.len(), num_images).collect(),
    };
    let opened = CaptioningModel::open(checkpoint, device)?;
    let writer = CaptionWriter::new(&opened.captioner, &opened.tokenizer, &opened.decoding);
    let num_positions = opened.shape.decoder.num_positions();
    let prompts = Prompts::of_dataset(dataset, images, opened.prompt_of_run(), &opened.tokenizer, num_positions)?;
    let (height, width) = opened.processor.output_size();
    let mut gallery = Vec::new();
    let progress = Progress::new("images of the report", chosen.len() as u64, 0);
    for &place in &chosen {
        progress.advance(1, "");
        let ResizedImage { pixels, .. } = ResizedImage::of_file(&dataset.picture(images[place]), &opened.processor)?;
        let input = pixel_values([Ok(&pixels)].into_iter(), &opened.processor, device)?;
        let prompt = prompts.of_image(images[place]);
        let Description { captions, words } = describe(&writer, &ImageInput::Pixels(input), prompt, true)?;
        let best = captions.into_iter().next().unwrap_or_default();
        let whole = RgbImage::from_raw(width as u32, height as u32, pixels).context("the picture lacks pixels")?;
        // What fills no patch is not shown, so that patches and picture fit on each other.
        let side = opened.shape.encoder.covered_side() as u32;
        let shown = image::imageops::crop_imm(&whole, 0, 0, side, side).to_image();
        gallery.push(GalleryImage {
            name: dataset.images.get(images[place]).filename().to_owned(),
            picture: encode(&shown, ImageFormat::Jpeg)?,
            num_prefix_tokens: opened.shape.encoder.num_prefix_tokens(),
            grid: opened.shape.encoder.grid(),
            words: words.into_iter().map(|word| Word { text: word.text, attention: word.attention }).collect(),
            references: references(&images[place]),
            log_probability: Some(best.decoded.log_probability()),
            num_tokens: Some(best.decoded.log_probabilities.len()),
            cider: None,
            caption: best.text,
        });
    }
    if !scorer.weighs_nothing() {
        // Again: with another search the model may have written something else.
        let captions: Vec<(usize, &str)> =
            chosen.into_iter().zip(gallery.iter().map(|image| image.caption.as_str())).collect();
        let scores = scorer.score_each(&captions);
        gallery.iter_mut().zip(scores).for_each(|(image, score)| image.cider = Some(score));
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
