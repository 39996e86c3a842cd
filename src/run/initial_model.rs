//! What a new run begins with: shape, weights, tokenizer and image processing, from folders in the Hub's format or from
//! scratch, and the config with what such a folder settles.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::config::{self, EncoderTraining, ModelConfig, RunConfig, TokenizerKind};
use crate::data::prompts::prompt_of;
use crate::data::split::SplitIndices;
use crate::hf::companions::{read_processor, read_tokenizer};
use crate::hf::folder::read_config;
use crate::hf::generation_config::GenerationDefaults;
use crate::hf::notes::{UNFIT_HINT, dropout_note, new_note, pickle_note, smoothing_note, unused_note};
use crate::hf::read::{image_size_for, read_captioner, read_decoder, read_encoder, read_encoder_config};
use crate::model::captioner::{CaptionerShape, DECODER, ENCODER};
use crate::model::decoders::DecoderConfig;
use crate::model::encoders::EncoderConfig;
use crate::model::parameters::Parameters;
use crate::model::role::{ParameterSpec, Part, Trained};
use crate::model::weight_fit::check_fit;
use crate::run::kept_tokenizer::kept_tokenizer;
use crate::tokenizer::CaptionTokenizer;
use base::digest::Hasher;
use base::error::{WithHint as _, failure, usage_error};
use base::memory;
use datasets::prepared::Dataset;
use pixels::image_processor::{FolderProcessing, ImageProcessor};

/// The local folders for the names in the config.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelFolders {
    /// Of `model.init_from`.
    pub captioner: Option<PathBuf>,
    /// Of `model.encoder.name`.
    pub encoder: Option<PathBuf>,
    /// Of `model.decoder.name`.
    pub decoder: Option<PathBuf>,
}

impl ModelFolders {
    fn all(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.captioner, &self.encoder, &self.decoder].into_iter().flatten()
    }

    /// Those of the captioner, the encoder and the decoder.
    pub fn all_mut(&mut self) -> [&mut Option<PathBuf>; 3] {
        [&mut self.captioner, &mut self.encoder, &mut self.decoder]
    }

    /// The folders for a text.
    pub fn list(&self) -> String {
        let shown: Vec<String> = self.all().map(|folder| folder.display().to_string()).collect();
        shown.join(" and ")
    }

    /// Whether all of them are there.
    pub fn exist(&self) -> bool {
        self.all().all(|folder| folder.is_dir())
    }

    /// The same with full paths.
    #[must_use]
    pub fn in_full(&self) -> Self {
        let full = |folder: &Option<PathBuf>| {
            folder.as_ref().map(|folder| folder.canonicalize().unwrap_or_else(|_| folder.clone()))
        };
        Self { captioner: full(&self.captioner), encoder: full(&self.encoder), decoder: full(&self.decoder) }
    }

    /// What cannot be used when the weights do not fit.
    fn describe(&self) -> String {
        format!("cannot use the weights in {}", self.list())
    }
}

/// The model of a new run.
pub struct InitialModel {
    /// The config, with sizes and tokenizer as a pretrained decoder brings them.
    pub config: RunConfig,
    /// The model's shape.
    pub shape: CaptionerShape,
    /// Its parameters, the encoder frozen as the config says.
    pub parameters: Parameters,
    pub tokenizer: CaptionTokenizer,
    /// How pixels become its input.
    pub processor: ImageProcessor,
    /// What the user should know about where its weights come from.
    pub notes: Vec<String>,
}

/// The parts before they become one model.
struct Parts {
    encoder: EncoderConfig,
    decoder: DecoderConfig,
    processor: ImageProcessor,
    tokenizer: CaptionTokenizer,
    config: RunConfig,
    /// By parameter name.
    tensors: BTreeMap<String, Tensor>,
    notes: Vec<String>,
}

impl InitialModel {
    /// Reads or draws it. A tokenizer is trained on the captions of `split` where none is brought or found.
    ///
    /// # Errors
    /// Folders that cannot be used; weights that do not fit their own description; a config that contradicts them.
    pub fn make(
        config: RunConfig,
        folders: &ModelFolders,
        dataset: &Dataset,
        split: &SplitIndices,
        device: &Device,
    ) -> Result<Self> {
        let parts = match &folders.captioner {
            Some(folder) => whole(config, folder)?,
            None => in_parts(config, folders, dataset, split)?,
        };
        let Parts { encoder, decoder, processor, tokenizer, config, tensors, mut notes } = parts;
        // It goes into the checkpoints, which are read as strictly as the user's own.
        config::check(&config)?;
        let shape = CaptionerShape { encoder, decoder };
        check_shape(&shape, &config)?;
        let specs = shape.parameter_specs()?;
        let with_adapter = config.model.parameter_specs(&shape)?;
        check_memory(&with_adapter, &shape, config.model.trained(), memory::available_bytes())?;
        let scratch_encoder = !config.model.encoder.pretrained;
        let scratch_decoder = !config.model.brings_decoder();
        let is_whole = folders.captioner.is_some();
        // A whole captioner brings its decoder and a pretrained encoder: nothing of it is from scratch.
        let is_scratch = |spec: &ParameterSpec| match spec.role.part {
            Part::Encoder => scratch_encoder,
            Part::Projection | Part::Decoder => scratch_decoder,
        };
        let may_be_new =
            |spec: &ParameterSpec| is_scratch(spec) || !spec.role.used || (spec.role.connects && !is_whole);
        let new = check_fit(&specs, &tensors, may_be_new).with_context(|| folders.describe()).hint(|| UNFIT_HINT)?;
        let is_noteworthy = |name: &String| specs.iter().any(|spec| spec.name == *name && !is_scratch(spec));
        let new: Vec<String> = new.into_iter().filter(is_noteworthy).collect();
        notes.extend(new_note(&new));
        let loaded: BTreeSet<String> = tensors.keys().cloned().collect();
        let mut parameters = Parameters::create(&with_adapter, tensors, config.seed, DType::F32, device)?;
        shape.freeze(&mut parameters, config.model.trained());
        if let Some(lora) = &config.model.lora {
            parameters = parameters.adapted_by(lora);
            parameters.mark_base(|name, parameter| !parameter.trainable && loaded.contains(name));
        }
        Ok(Self { config, shape, parameters, tokenizer, processor, notes })
    }
}

/// The tensors of the pretrained parts that the config names, by parameter name.
///
/// # Errors
/// Folders that cannot be used.
pub fn read_tensors(model: &ModelConfig, folders: &ModelFolders) -> Result<BTreeMap<String, Tensor>> {
    let image_size = model.encoder.image_size;
    if let Some(folder) = &folders.captioner {
        return Ok(read_captioner(folder, image_size)?.tensors);
    }
    let mut tensors = BTreeMap::new();
    if let Some(folder) = folders.encoder.as_ref().filter(|_| model.encoder.pretrained) {
        tensors.extend(read_encoder(folder, image_size)?.into_part(ENCODER));
    }
    if let Some(folder) = &folders.decoder {
        tensors.extend(read_decoder(folder)?.into_part(DECODER));
    }
    Ok(tensors)
}

/// A captioner with all that it brings.
fn whole(config: RunConfig, folder: &Path) -> Result<Parts> {
    let found = read_captioner(folder, config.model.encoder.image_size)?;
    let mut notes: Vec<String> = pickle_note(folder).into_iter().chain(unused_note(folder, &found.unused)).collect();
    notes.extend(smoothing_note(folder, &read_config(folder)?, config.training.label_smoothing));
    let CaptionerShape { encoder, decoder } = found.config;
    let processor = read_processor(folder, &encoder, &mut notes)?;
    let (config, decoder, tokenizer) = settle_decoder(config, decoder, folder)?;
    notes.extend(dropout_note(folder, &decoder));
    Ok(Parts { encoder, decoder, processor, tokenizer, config, tensors: found.tensors, notes })
}

/// Encoder and decoder each from where the config says.
fn in_parts(config: RunConfig, folders: &ModelFolders, dataset: &Dataset, split: &SplitIndices) -> Result<Parts> {
    let (mut tensors, mut notes) = (BTreeMap::new(), Vec::new());
    let (encoder, processor) = match &folders.encoder {
        Some(folder) if config.model.encoder.pretrained => {
            let found = read_encoder(folder, config.model.encoder.image_size)?;
            let encoder = found.config.clone();
            let processor = read_processor(folder, &encoder, &mut notes)?;
            notes.extend(pickle_note(folder));
            notes.extend(unused_note(folder, &found.unused));
            tensors.extend(found.into_part(ENCODER));
            (encoder, processor)
        }
        folder => scratch_encoder(&config, folder.as_deref(), &mut notes)?,
    };
    let (config, decoder, tokenizer) = match &folders.decoder {
        Some(folder) => {
            let found = read_decoder(folder)?;
            notes.extend(pickle_note(folder));
            notes.extend(unused_note(folder, &found.unused));
            let decoder = found.config.clone();
            tensors.extend(found.into_part(DECODER));
            let settled = settle_decoder(config, decoder, folder)?;
            notes.extend(dropout_note(folder, &settled.1));
            settled
        }
        None => {
            let tokenizer = make_tokenizer(&config, dataset, split)?;
            let decoder = config.model.decoder.from_scratch(tokenizer.vocab_size());
            (config, decoder, tokenizer)
        }
    };
    Ok(Parts { encoder, decoder, processor, tokenizer, config, tensors, notes })
}

/// The tokenizer of a pretrained decoder, and the config with all that the decoder settles. What the user wrote must
/// agree with it; dropout and the length of captions remain free.
fn settle_decoder(
    config: RunConfig,
    mut decoder: DecoderConfig,
    folder: &Path,
) -> Result<(RunConfig, DecoderConfig, CaptionTokenizer)> {
    let defaults = GenerationDefaults::read(folder, &read_config(folder)?)?;
    let (tokenizer, tokenizer_config) = read_tokenizer(folder, &defaults, &decoder)?;
    let is_written = |key: &str| config.written.contains(key);
    let section = &config.model.decoder;
    decoder.set_training_options(
        is_written("model.decoder.dropout").then_some(section.dropout),
        is_written("model.decoder.initializer_range").then_some(section.initializer_range),
    );
    if section.max_seq_len > decoder.num_positions() && is_written("model.decoder.max_seq_len") {
        return Err(usage_error(
            format!(
                "model.decoder.max_seq_len is {}, but the model in {} has {} positions",
                section.max_seq_len,
                folder.display(),
                decoder.num_positions()
            ),
            "lower or remove it",
        ));
    }
    let mut settled = config.clone();
    settled.tokenizer = tokenizer_config;
    settled.model.decoder.take_sizes(&decoder);
    if let Some(found) = config::first_written_difference(&config, &settled) {
        return Err(usage_error(
            format!("{} is {} in the config, but {} in {}", found.key, found.written, found.other, folder.display()),
            "remove it: a pretrained decoder comes with its sizes and its tokenizer",
        ));
    }
    Ok((settled, decoder, tokenizer))
}

fn make_tokenizer(config: &RunConfig, dataset: &Dataset, split: &SplitIndices) -> Result<CaptionTokenizer> {
    if let Some(directory) = &config.tokenizer.directory
        && let Some(tokenizer) = CaptionTokenizer::from_directory(directory, &config.tokenizer)?
    {
        return Ok(tokenizer);
    }
    if let (TokenizerKind::WordPiece, Some(directory)) = (config.tokenizer.kind, &config.tokenizer.directory) {
        return Err(usage_error(
            format!("tokenizer.kind is \"word_piece\", but there is no tokenizer in {}", directory.display()),
            "a WordPiece is not trained here: put tokenizer.json or vocab.txt there, or train a \"byte_level_bpe\"",
        ));
    }
    let captions = split
        .train
        .iter()
        .map(|&image| dataset.images.get(image))
        .flat_map(|record| record.captions().enumerate().map(move |caption| (record, caption)))
        .map(|(record, (place, caption))| match prompt_of(record, place, config.data.prompt.as_deref()) {
            Some(prompt) => Cow::Owned(format!("{prompt} {caption}")),
            None => Cow::Borrowed(caption),
        });
    let train = || CaptionTokenizer::train(captions, &config.tokenizer);
    if dataset.in_shards.is_none() {
        return train();
    }
    let (mut hasher, prompt) = (Hasher::new(), config.data.prompt.as_deref());
    hasher.update(bytemuck::cast_slice(&split.train));
    let captions = format!("{} of {}, prompt {prompt:?}", hasher.finish(), dataset.digest);
    kept_tokenizer(&config.data.cache_folder(), &captions, &config.tokenizer, train)
}

/// A folder gives the config, and the image processing where it describes one.
fn scratch_encoder(
    config: &RunConfig,
    folder: Option<&Path>,
    notes: &mut Vec<String>,
) -> Result<(EncoderConfig, ImageProcessor)> {
    let section = &config.model.encoder;
    let mut encoder = match (&section.config, folder) {
        (Some(encoder), _) => encoder.clone(),
        (None, Some(folder)) => read_encoder_config(folder)?,
        (None, None) => {
            return Err(usage_error(
                "there is no encoder to train",
                "set model.encoder.name, or model.encoder.pretrained = false and model.encoder.config = { .. }",
            ));
        }
    };
    let image_size = match folder {
        Some(folder) => image_size_for(folder, &encoder, section.image_size),
        None => section.image_size,
    };
    if let Some(image_size) = image_size {
        encoder.set_image_size(image_size);
    }
    check_encoder(&encoder)?;
    let described = folder.map(ImageProcessor::from_folder).transpose()?.flatten();
    let processor = match described {
        Some(FolderProcessing { processor, note }) => {
            notes.extend(note);
            processor.with_image_size(encoder.image_size())
        }
        None => encoder.image_processor(),
    };
    Ok((encoder, processor))
}

fn check_encoder(encoder: &EncoderConfig) -> Result<()> {
    encoder.validate().map_err(|error| usage_error(error, "change model.encoder.image_size or model.encoder.config"))
}

pub(super) fn check_shape(shape: &CaptionerShape, config: &RunConfig) -> Result<()> {
    check_encoder(&shape.encoder)?;
    if let EncoderTraining::LastBlocks(count) = config.model.encoder.train
        && count > shape.encoder.num_layers()
    {
        return Err(usage_error(
            format!(
                "model.encoder.train asks for the last {count} blocks, but the encoder has only {}",
                shape.encoder.num_layers()
            ),
            "use \"full\" to train them all",
        ));
    }
    Ok(())
}

/// Parameters, and two moments and the gradient of those that are trained, must fit into the memory that is
/// `available`: nothing of it is taken before.
fn check_memory(
    specs: &[ParameterSpec],
    shape: &CaptionerShape,
    trained: Trained,
    available: Option<u64>,
) -> Result<()> {
    let copies = |spec: &ParameterSpec| if trained.trains(spec.role, shape.encoder.num_layers()) { 4.0 } else { 1.0 };
    let values = |spec: &ParameterSpec| spec.shape.iter().map(|&size| size as f64).product::<f64>();
    let needed: f64 = specs.iter().map(|spec| copies(spec) * values(spec) * size_of::<f32>() as f64).sum();
    match available {
        Some(available) if needed > available as f64 => Err(failure(
            format!(
                "the model does not fit into memory: its {:.2} billion parameters, with gradients and moments of \
                 those that are trained, take {:.1} GB, but only {:.1} GB are available",
                specs.iter().map(values).sum::<f64>() / base::GIGABYTE,
                needed / base::GIGABYTE,
                available as f64 / base::GIGABYTE
            ),
            "choose a smaller decoder or encoder, or train less of the encoder (model.encoder.train)",
        )),
        _ => Ok(()),
    }
}
