//! A model that is ready to caption: from a checkpoint of a run, or from a folder of transformers.

use std::path::Path;

use anyhow::{Context as _, Result};
use candle_core::{DType, Device};

use crate::config::DecodingConfig;
use crate::data::prompts::Prompt;
use crate::hf::companions::{read_processor, read_tokenizer};
use crate::hf::folder::read_config;
use crate::hf::generation_config::GenerationDefaults;
use crate::hf::notes::{UNFIT_HINT, new_note, pickle_note, unfit, unused_note};
use crate::hf::read::read_captioner;
use crate::model::captioner::{Captioner, CaptionerShape};
use crate::model::decoders::DecoderConfig;
use crate::model::parameters::Parameters;
use crate::model::weight_fit::check_fit;
use crate::run::checkpoint::adapter_base::{FindBase, nowhere_else};
use crate::run::checkpoint::layout::CheckpointMetadata;
use crate::run::checkpoint::reader::read_model;
use crate::tokenizer::CaptionTokenizer;
use base::error::WithHint as _;
use pixels::image_processor::ImageProcessor;

/// Model, tokenizer and image processing.
pub struct CaptioningModel {
    /// The model's shape.
    pub shape: CaptionerShape,
    pub parameters: Parameters,
    /// The model, built on its parameters for evaluation.
    pub captioner: Captioner,
    pub tokenizer: CaptionTokenizer,
    /// How pixels become its input.
    pub processor: ImageProcessor,
    /// The default way in which it writes captions.
    pub decoding: DecodingConfig,
    /// How it was trained, when it comes from a checkpoint.
    pub training: Option<CheckpointMetadata>,
    /// What the user should know about where it comes from.
    pub notes: Vec<String>,
}

impl CaptioningModel {
    /// Opens a checkpoint file or a model's folder.
    ///
    /// # Errors
    /// A file or folder that cannot be used; weights that do not fit their description.
    pub fn open(path: &Path, device: &Device) -> Result<Self> {
        Self::open_with(path, device, &nowhere_else)
    }

    /// As [`Self::open`]; `find` is asked for the weights that the checkpoint of an adapter lacks if they are not where
    /// they were.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(path: &Path, device: &Device, find: &FindBase<'_>) -> Result<Self> {
        // The folder of a run or of its checkpoints contains no config.json; the checkpoint reader says what to give
        // instead.
        if path.is_dir() && !path.join("checkpoints").is_dir() && path.file_name().is_none_or(|n| n != "checkpoints") {
            return Self::from_folder(path, device);
        }
        let checkpoint = read_model(path)?.with_base(find)?;
        let parameters = checkpoint.parameters(device)?;
        let metadata = checkpoint.metadata;
        Ok(Self {
            tokenizer: metadata
                .read_tokenizer(&metadata.config.tokenizer)
                .context("cannot use the tokenizer of the checkpoint")?,
            captioner: Captioner::build(&metadata.shape, &parameters.detached())?,
            shape: metadata.shape.clone(),
            parameters,
            processor: metadata.image_processor.clone(),
            decoding: within(metadata.config.decoding_of_captions(), &metadata.shape.decoder),
            training: Some(metadata),
            notes: Vec::new(),
        })
    }

    /// The prompt of the run that trained it.
    pub fn prompt_of_run(&self) -> Option<&str> {
        self.training.as_ref()?.config.data.prompt.as_deref()
    }

    /// `text` as a prompt, or that of the run that trained it where there is none.
    ///
    /// # Errors
    /// As [`Prompt::new`].
    pub fn prompt(&self, text: Option<&str>) -> Result<Prompt> {
        let text = text.or(self.prompt_of_run()).unwrap_or_default();
        Prompt::new(text, &self.tokenizer, self.shape.decoder.num_positions())
    }

    /// How other programs write captions that continue the prompt of the run: both together fit into the positions,
    /// which they do not see to.
    ///
    /// # Errors
    /// A prompt that the tokenizer cannot encode.
    pub fn decoding_elsewhere(&self) -> Result<DecodingConfig> {
        let num_positions = self.shape.decoder.num_positions();
        let num_free = num_positions.saturating_sub(self.prompt(None)?.tokens.len()).max(1);
        let DecodingConfig { min_new_tokens, max_new_tokens, .. } = self.decoding;
        let max_new_tokens = max_new_tokens.unwrap_or(num_positions).min(num_free);
        let min_new_tokens = min_new_tokens.min(max_new_tokens - 1);
        Ok(DecodingConfig { min_new_tokens, max_new_tokens: Some(max_new_tokens), ..self.decoding.clone() })
    }

    fn from_folder(folder: &Path, device: &Device) -> Result<Self> {
        let found = read_captioner(folder, None)?;
        let defaults = GenerationDefaults::read(folder, &read_config(folder)?)?;
        let (tokenizer, _) = read_tokenizer(folder, &defaults, &found.config.decoder)?;
        let specs = found.config.parameter_specs()?;
        let mut notes: Vec<String> =
            pickle_note(folder).into_iter().chain(unused_note(folder, &found.unused)).collect();
        let new = check_fit(&specs, &found.tensors, |spec| !spec.role.used)
            .with_context(|| unfit(folder))
            .hint(|| UNFIT_HINT)?;
        notes.extend(new_note(&new));
        if !defaults.not_followed.is_empty() {
            notes.push(format!(
                "these settings of {} are ignored: {}",
                folder.display(),
                defaults.not_followed.join(", ")
            ));
        }
        let processor = read_processor(folder, &found.config.encoder, &mut notes)?;
        let parameters = Parameters::create(&specs, found.tensors, 0, DType::F32, device)?;
        Ok(Self {
            processor,
            decoding: within(defaults.decoding, &found.config.decoder),
            captioner: Captioner::build(&found.config, &parameters.detached())?,
            shape: found.config,
            parameters,
            tokenizer,
            training: None,
            notes,
        })
    }
}

/// No caption has more tokens than the decoder has positions.
fn within(decoding: DecodingConfig, decoder: &DecoderConfig) -> DecodingConfig {
    let longest = decoding.max_new_tokens.map(|count| count.min(decoder.num_positions()));
    DecodingConfig { max_new_tokens: longest, ..decoding }
}
