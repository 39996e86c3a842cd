//! `caption-train caption`: captions images with a trained model.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::{Value, json};

use crate::commands::decoding_args::DecodingArgs;
use crate::commands::device::select_device;
use crate::commands::given_paths::path_argument;
use crate::commands::model_source::{base_folders, checkpoint_paths};
use crate::commands::picture_files::picture_files;
use crate::data::image_source::ImageInput;
use crate::data::prompts::Prompt;
use crate::data::resized_image::{ResizedImage, pixel_values};
use crate::evaluation::captioning::WrittenCaption;
use crate::run::ensemble::Ensemble;
use base::error::{describe, failure, usage_error};
use base::terminal;
use pixels::image_processor::ImageProcessor;

/// Images that go through the model together.
const BATCH_SIZE: usize = 16;

/// Caption images.
#[derive(Clone, Debug, clap::Args)]
pub struct CaptionArgs {
    /// Checkpoint of a run, folder of a VisionEncoderDecoderModel or of a BLIP, or its id on the Hub; repeated, the models
    /// caption together
    #[arg(long = "checkpoint", required = true, value_name = "CHECKPOINT", value_parser = path_argument())]
    pub checkpoints: Vec<PathBuf>,
    /// JPEG, PNG, WebP, BMP, GIF or TIFF files, or folders of them; subfolders are not searched
    #[arg(required = true, value_name = "IMAGE", value_parser = path_argument())]
    pub images: Vec<PathBuf>,
    /// Print a JSON object per image: image, caption, tokens and their log-probabilities
    #[arg(long)]
    pub json: bool,
    /// Add the attention of each token to each image patch to the JSON
    #[arg(long, requires = "json")]
    pub attention: bool,
    /// Text that every caption continues, not printed as a part of it [default: that of the run]
    #[arg(long, value_name = "TEXT")]
    pub prompt: Option<String>,
    /// Number of captions per image, best first
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub num_captions: usize,
    #[command(flatten)]
    pub decoding: DecodingArgs,
    /// auto, cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub device: String,
}

/// Prints a line `PATH<TAB>CAPTION`, or a JSON object, for each image. Unreadable images are reported and skipped, and
/// make the command fail at the end.
pub fn run(args: &CaptionArgs) -> Result<()> {
    if args.attention && args.checkpoints.len() > 1 {
        return Err(usage_error(
            "--attention shows where one model looks, but several checkpoints are given",
            "give one checkpoint, or leave out --attention",
        ));
    }
    let device = select_device(&args.device)?;
    let ensemble = Ensemble::open(&checkpoint_paths(&args.checkpoints)?, &device, &base_folders)?;
    let opened = ensemble.first();
    let (tokenizer, num_positions) = (ensemble.tokenizer(), ensemble.num_positions());
    let decoding =
        args.decoding.resolve(&opened.decoding, tokenizer.special_ids(), num_positions, args.num_captions)?;
    let writer = ensemble.writer(decoding);
    let prompt = ensemble.prompt(args.prompt.as_deref())?;

    let (files, mut failed) = picture_files(&args.images);
    let mut num_captioned = 0;
    for chunk in files.chunks(BATCH_SIZE) {
        let (mut images, mut names) = (Vec::new(), Vec::new());
        for path in chunk {
            match ResizedImage::each_of_path(path, &ensemble.processors) {
                Ok(image) => {
                    images.push(image);
                    names.push(path);
                }
                Err(error) => {
                    failed += 1;
                    terminal::error(&describe(&error));
                }
            }
        }
        if names.is_empty() {
            continue;
        }
        let input = |(place, processor): (usize, &ImageProcessor)| {
            let pixels = images.iter().map(|forms: &Vec<ResizedImage>| Ok(&forms[place].pixels));
            Ok(ImageInput::Pixels(pixel_values(pixels, processor, &device)?))
        };
        let inputs = ensemble.processors.iter().enumerate().map(input).collect::<Result<Vec<_>>>()?;
        let key_values = writer.key_values(&inputs)?;
        let prompts = vec![&prompt; names.len()];
        let written = writer.write_from(&key_values, &prompts, num_captioned)?;
        let attention = if args.attention { Some(writer.attention(&key_values, &prompts, &written)?) } else { None };
        for (index, (path, captions)) in names.iter().zip(written).enumerate() {
            if args.json {
                let attention = attention.as_ref().map(|attention| (&attention[index], opened.shape.encoder.grid()));
                terminal::json(&json(path, &prompt, &captions, attention))?;
                continue;
            }
            for caption in &captions {
                terminal::columns(&[&path.to_string_lossy(), &caption.text])?;
            }
        }
        num_captioned += names.len();
    }
    if failed > 0 {
        return Err(failure(
            format!("{failed} of {} images could not be captioned", files.len().max(failed)),
            "see the messages above",
        ));
    }
    Ok(())
}

/// One line with the prompt, if there is one, and the best caption, followed by the others if several were requested.
/// `attention` holds, for each token, the weights of the prefix tokens (the class token) and the patches, row by row,
/// and the number of patches along a side.
fn json(
    path: &Path,
    prompt: &Prompt,
    captions: &[WrittenCaption],
    attention: Option<(&Vec<Vec<f32>>, usize)>,
) -> String {
    let (best, others) =
        captions.split_first().map_or((Value::Null, captions), |(best, others)| (object(best), others));
    let mut line = json!({ "image": path.to_string_lossy() });
    if let (Some(line), Value::Object(best)) = (line.as_object_mut(), best) {
        if !prompt.text.is_empty() {
            line.insert("prompt".to_owned(), json!(prompt.text));
        }
        line.extend(best);
        if let Some((weights, grid)) = attention {
            line.insert("patches".to_owned(), json!([grid, grid]));
            line.insert("attention".to_owned(), json!(weights));
        }
        if !others.is_empty() {
            line.insert("alternatives".to_owned(), others.iter().map(object).collect());
        }
    }
    line.to_string()
}

/// The log-probabilities are natural logarithms: one per token, including the end token if the caption has one; their
/// sum is that of the caption.
fn object(caption: &WrittenCaption) -> Value {
    json!({
        "caption": caption.text,
        "tokens": caption.decoded.tokens,
        "log_probability": caption.decoded.log_probability(),
        "token_log_probabilities": caption.decoded.log_probabilities,
    })
}
