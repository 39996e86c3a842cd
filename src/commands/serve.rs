//! `caption-train serve`: a local web page to try a model, and a JSON endpoint.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use candle_core::Device;

use crate::commands::decoding_args::DecodingArgs;
use crate::commands::device::select_device;
use crate::commands::given_paths::path_argument;
use crate::commands::model_source::{base_folders, checkpoint_path};
use crate::commands::signals::watch_signals;
use crate::data::image_source::ImageInput;
use crate::data::resized_image::{ResizedImage, pixel_values};
use crate::evaluation::caption_words::CaptionWord;
use crate::evaluation::captioning::{CaptionWriter, WritingModel, WrittenCaption};
use crate::evaluation::description::{Description, describe};
use crate::run::captioning_model::CaptioningModel;
use crate::training::trainer::Outcome;
use base::error::one_line;
use base::terminal;
use pixels::image_file::budget::restrict_to_one_picture;
use serve::{Alternative, Answer, Describe, Limits, Refusal, Region, Request, Server, Settings, Word};

/// Serve a local web page to try a model.
#[derive(Clone, Debug, clap::Args)]
pub struct ServeArgs {
    /// Checkpoint of a run, folder of a VisionEncoderDecoderModel or of a BLIP, or its id on the Hub
    #[arg(long, value_name = "CHECKPOINT", value_parser = path_argument())]
    pub checkpoint: PathBuf,
    /// Local port; 0 = any free port
    #[arg(long, value_name = "PORT", default_value_t = 7860)]
    pub port: u16,
    /// auto, cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub device: String,
}

/// Serves until a signal arrives.
pub fn run(args: &ServeArgs) -> Result<Outcome> {
    restrict_to_one_picture();
    let stop = watch_signals("stopped")?;
    let device = select_device(&args.device)?;
    let server = Server::bind(args.port)?;
    let model = Model::open(&checkpoint_path(&args.checkpoint)?, device)?;
    let settings = Settings { model: name_of(&args.checkpoint), limits: Limits::default() };
    terminal::message(&format!("open http://{} in a browser; press Ctrl-C to stop", server.address()));
    stop.attend();
    server.run(model, settings, terminal::warning, || stop.is_raised())?;
    terminal::message("stopped");
    Ok(Outcome::Completed)
}

/// The name of the model in answers, without its location on this machine.
fn name_of(checkpoint: &Path) -> String {
    let local = checkpoint.file_name().filter(|_| checkpoint.exists());
    local.unwrap_or(checkpoint.as_os_str()).to_string_lossy().into_owned()
}

struct Model {
    opened: CaptioningModel,
    device: Device,
}

impl Model {
    fn open(path: &Path, device: Device) -> Result<Self> {
        let opened = CaptioningModel::open_with(path, &device, &base_folders)?;
        for note in &opened.notes {
            terminal::message(note);
        }
        Ok(Self { opened, device })
    }
}

impl Describe for Model {
    fn describe(&mut self, image: Vec<u8>, request: &Request) -> Result<Answer, Refusal> {
        let CaptioningModel { captioner, processor, shape, tokenizer, decoding, .. } = &self.opened;
        let unusable = |error: anyhow::Error| Refusal::Picture(one_line(&error));
        let ResizedImage { pixels, original_size } = ResizedImage::of_bytes(image, processor).map_err(unusable)?;
        let input = pixel_values([Ok(pixels)].into_iter(), processor, &self.device)?;
        let [left, top, width, height] =
            processor.visible_part(original_size.0, original_size.1).unwrap_or([0.0, 0.0, 1.0, 1.0]);
        // What fills no patch is cut off at the right and at the bottom.
        let covered = shape.encoder.covered_side() as f64 / shape.encoder.image_size() as f64;
        let region = Region { left, top, width: covered * width, height: covered * height };

        let num_beams = request.num_beams.unwrap_or(decoding.num_beams.max(request.num_captions));
        let args = DecodingArgs { num_beams: Some(num_beams), ..DecodingArgs::default() };
        let num_positions = shape.decoder.num_positions();
        let decoding = args.resolve(decoding, tokenizer.special_ids(), num_positions, request.num_captions)?;
        let writer = CaptionWriter { models: vec![WritingModel { model: captioner, input: 0 }], tokenizer, decoding };
        let prompt = self.opened.prompt(request.prompt.as_deref()).map_err(unusable)?;
        let Description { captions, words } =
            describe(&writer, &ImageInput::Pixels(input), &prompt, request.attention)?;
        let (best, others) = captions.split_first().context("the model wrote no caption")?;
        // Class token and registers have no place in the picture.
        let num_prefix_tokens = shape.encoder.num_prefix_tokens();
        let word = |CaptionWord { text, attention }| Word {
            text,
            attention: request.attention.then(|| attention.get(num_prefix_tokens..).unwrap_or_default().to_vec()),
        };
        let other = |caption: &WrittenCaption| Alternative {
            caption: caption.text.clone(),
            log_probability: caption.decoded.log_probability(),
        };
        let grid = shape.encoder.grid();
        Ok(Answer {
            caption: best.text.clone(),
            words: words.into_iter().map(word).collect(),
            log_probability: best.decoded.log_probability(),
            alternatives: others.iter().map(other).collect(),
            patches: [grid, grid],
            region,
        })
    }
}
