//! Puts a run together from its config, or from a checkpoint: data, split, tokenizer, model, optimizer, plan.
//!
//! Reads files; writes none, so that a mistake found here leaves nothing behind.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use candle_core::{DType, Device};
use rayon::prelude::*;

use crate::base::fault::{WithHint as _, fault, usage};
use crate::config::{EncoderTraining, RunConfig};
use crate::data::batch::{Example, ImageSource};
use crate::data::collate::frame;
use crate::data::dataset::{Dataset, Split};
use crate::data::image_processor::ImageProcessor;
use crate::data::split::{SplitIndices, split_images};
use crate::model::caption_decoder::DecoderShape;
use crate::model::captioner::CaptionerShape;
use crate::model::encoder::{EncoderShape, HiddenActivation};
use crate::model::parameters::Parameters;
use crate::model::pretrained::{read_encoder, read_shape};
use crate::run::checkpoint::reader::Checkpoint;
use crate::tokenizer::CaptionTokenizer;
use crate::training::optimizer::Optimizer;
use crate::training::plan::{DataCounts, RunPlan};
use crate::training::train_state::TrainState;

/// A run that is ready to begin or to go on.
pub struct Setup {
    /// The data set.
    pub dataset: Dataset,
    /// Its split.
    pub split: SplitIndices,
    /// The tokenizer.
    pub tokenizer: CaptionTokenizer,
    /// How pixels become the encoder's input.
    pub processor: ImageProcessor,
    /// The model's parameters.
    pub parameters: Parameters,
    /// Its optimizer.
    pub optimizer: Optimizer,
    /// Progress.
    pub state: TrainState,
    /// Training pairs.
    pub train: Vec<Example>,
    /// Validation pairs.
    pub val: Vec<Example>,
    /// What will happen.
    pub plan: RunPlan,
}

/// Encoder of a new run: where its folder is, when it has one.
pub type EncoderFolder<'a> = Option<&'a Path>;

impl Setup {
    /// A new run. `data.directory` is set in `config`; `encoder_folder` is what `model.encoder.name` stands for.
    ///
    /// # Errors
    /// Data, tokenizer or encoder that cannot be used; a config that does not fit them.
    pub fn fresh(config: RunConfig, encoder_folder: EncoderFolder<'_>, device: &Device) -> Result<Self> {
        let (dataset, split) = open_data(&config)?;
        let tokenizer = make_tokenizer(&config, &dataset, &split)?;
        let (encoder, processor, tensors) = match encoder_folder {
            Some(folder) if config.model.encoder.pretrained => {
                let pretrained = read_encoder(folder, config.model.encoder.image_size)?;
                let processor = read_processor(folder, &pretrained.shape)?;
                (pretrained.shape, processor, pretrained.tensors)
            }
            folder => {
                let (shape, processor) = scratch_encoder(&config, folder)?;
                (shape, processor, BTreeMap::new())
            }
        };
        let shape = CaptionerShape { encoder, decoder: decoder_shape(&config, tokenizer.vocab_size()) };
        check_shape(&shape, &config)?;
        let is_pretrained = !tensors.is_empty();
        let loaded: BTreeMap<_, _> =
            tensors.into_iter().map(|(name, tensor)| (format!("encoder.{name}"), tensor)).collect();
        let specs = shape.parameter_specs();
        if is_pretrained {
            let missing = specs
                .iter()
                .find(|spec| spec.used && spec.name.starts_with("encoder.") && !loaded.contains_key(&spec.name));
            if let Some(spec) = missing {
                return Err(fault(
                    format!("the encoder's weights lack {} of shape {:?}", spec.name, spec.shape),
                    "config.json and model.safetensors of the encoder do not belong together",
                ));
            }
        }
        let mut parameters = Parameters::create(&specs, loaded, config.seed, DType::F32, device)
            .context("the encoder's weights do not fit its config.json")?;
        shape.freeze(&mut parameters, config.model.encoder.train);
        let optimizer = Optimizer::new(&parameters, &shape, &config.optimizer)?;
        Self::assemble(
            config,
            dataset,
            split,
            tokenizer,
            processor,
            shape,
            parameters,
            optimizer,
            TrainState::default(),
        )
    }

    /// A run that goes on from a checkpoint. `config` is that of the checkpoint with what a person changed.
    ///
    /// # Errors
    /// Another data set than that of the checkpoint; tensors that do not fit.
    pub fn resumed(config: RunConfig, checkpoint: Checkpoint, device: &Device) -> Result<Self> {
        let metadata = &checkpoint.metadata;
        let (dataset, split) = open_data(&config)?;
        if dataset.digest != metadata.dataset_digest {
            return Err(fault(
                format!(
                    "the data set in {} is not the one that the checkpoint was trained on: expected dataset.json with \
                     SHA-256 {}, found {}",
                    dataset.directory.display(),
                    metadata.dataset_digest,
                    dataset.digest
                ),
                "name the right folder with --set data.directory=FOLDER, or begin a new run",
            ));
        }
        let tokenizer = CaptionTokenizer::from_json(&metadata.tokenizer, &config.tokenizer)?;
        let shape = metadata.shape.clone();
        let mut parameters = checkpoint.parameters(device)?;
        shape.freeze(&mut parameters, config.model.encoder.train);
        let mut optimizer = Optimizer::new(&parameters, &shape, &config.optimizer)?;
        optimizer
            .restore(checkpoint.moments, checkpoint.metadata.optimizer_step)
            .context("the optimizer state of the checkpoint does not fit its config")?;
        let processor = checkpoint.metadata.image_processor;
        let state = checkpoint.metadata.state;
        Self::assemble(config, dataset, split, tokenizer, processor, shape, parameters, optimizer, state)
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of a run, put together in one place")]
    fn assemble(
        config: RunConfig,
        dataset: Dataset,
        split: SplitIndices,
        tokenizer: CaptionTokenizer,
        processor: ImageProcessor,
        shape: CaptionerShape,
        parameters: Parameters,
        optimizer: Optimizer,
        state: TrainState,
    ) -> Result<Self> {
        let max_seq_len = config.model.decoder.max_seq_len;
        let train = make_examples(&dataset, &split.train, &tokenizer, max_seq_len)?;
        let val = make_examples(&dataset, &split.val, &tokenizer, max_seq_len)?;
        if let Some(name) = &config.evaluation.caption_split
            && split_of(&split, name).is_empty()
        {
            return Err(usage(
                format!("evaluation.caption_split = {name:?}, and the data set has no image in that split"),
                "name another split, or remove the key",
            ));
        }
        let counts = DataCounts {
            train_images: split.train.len(),
            train_examples: train.len(),
            val_images: split.val.len(),
            val_examples: val.len(),
            extra_images: extra_images(&config, &split).len(),
        };
        let plan = RunPlan::new(config, shape, &parameters, counts, rayon::current_num_threads());
        Ok(Self { dataset, split, tokenizer, processor, parameters, optimizer, state, train, val, plan })
    }

    /// The images as files.
    pub fn image_files(&self) -> ImageSource {
        let paths = (0..self.dataset.images.len()).map(|image| self.dataset.image_path(image)).collect();
        ImageSource::Files { paths: Arc::new(paths), processor: self.processor.clone() }
    }

    /// Images that are captioned at the end; empty when none are.
    pub fn caption_images(&self) -> Vec<usize> {
        self.plan.config.evaluation.caption_split.as_deref().map_or_else(Vec::new, |name| split_of(&self.split, name))
    }

    /// All images that the run looks at.
    pub fn all_images(&self) -> Vec<usize> {
        let mut images: Vec<usize> = self.split.train.iter().chain(&self.split.val).copied().collect();
        images.extend(extra_images(&self.plan.config, &self.split));
        images
    }
}

fn open_data(config: &RunConfig) -> Result<(Dataset, SplitIndices)> {
    let directory = config.data.directory.as_deref().context("data.directory is not settled")?;
    let dataset = Dataset::open(directory)?;
    let split = split_images(&dataset, config.data.split, config.data.validation_fraction, config.seed)?;
    Ok((dataset, split))
}

fn split_of(split: &SplitIndices, name: &str) -> Vec<usize> {
    match Split::parse(name) {
        Some(Split::Train) => split.train.clone(),
        Some(Split::Val) => split.val.clone(),
        Some(Split::Test) => split.test.clone(),
        None => Vec::new(),
    }
}

/// Images that are captioned at the end and are in neither training nor validation.
fn extra_images(config: &RunConfig, split: &SplitIndices) -> Vec<usize> {
    if config.evaluation.caption_split.as_deref() == Some(Split::Test.name()) { split.test.clone() } else { Vec::new() }
}

fn make_tokenizer(config: &RunConfig, dataset: &Dataset, split: &SplitIndices) -> Result<CaptionTokenizer> {
    if let Some(directory) = &config.tokenizer.directory
        && let Some(tokenizer) = CaptionTokenizer::from_directory(directory, &config.tokenizer)?
    {
        return Ok(tokenizer);
    }
    let captions: Vec<&str> =
        split.train.iter().flat_map(|&image| dataset.images[image].captions.iter().map(String::as_str)).collect();
    CaptionTokenizer::train(captions.into_iter(), &config.tokenizer)
}

fn read_processor(folder: &Path, shape: &EncoderShape) -> Result<ImageProcessor> {
    let path = folder.join("preprocessor_config.json");
    let processor = ImageProcessor::from_file(&path)
        .hint(|| "the encoder's preprocessor_config.json says how its images were resized and normalised")?;
    Ok(processor.with_image_size(shape.image_size))
}

fn scratch_encoder(config: &RunConfig, folder: EncoderFolder<'_>) -> Result<(EncoderShape, ImageProcessor)> {
    let encoder = &config.model.encoder;
    let mut shape = match (&encoder.config, folder) {
        (Some(architecture), _) => EncoderShape::from_architecture(architecture),
        (None, Some(folder)) => read_shape(folder)?,
        (None, None) => {
            return Err(usage(
                "there is no encoder to train",
                "set model.encoder.name, or model.encoder.pretrained = false and model.encoder.config = { .. }",
            ));
        }
    };
    if let Some(image_size) = encoder.image_size {
        shape.image_size = image_size;
    }
    let processor = match folder {
        Some(folder) if folder.join("preprocessor_config.json").is_file() => read_processor(folder, &shape)?,
        _ => ImageProcessor::plain(shape.image_size),
    };
    Ok((shape, processor))
}

fn decoder_shape(config: &RunConfig, vocab_size: usize) -> DecoderShape {
    let decoder = &config.model.decoder;
    DecoderShape {
        vocab_size,
        hidden_size: decoder.hidden_size,
        num_layers: decoder.num_layers,
        num_heads: decoder.num_heads,
        intermediate_size: decoder.intermediate_size,
        num_positions: decoder.max_seq_len,
        hidden_act: HiddenActivation::GeluNew,
        dropout: decoder.dropout,
        layer_norm_eps: decoder.layer_norm_eps,
        initializer_range: decoder.initializer_range,
        tie_word_embeddings: decoder.tie_word_embeddings,
    }
}

fn check_shape(shape: &CaptionerShape, config: &RunConfig) -> Result<()> {
    let checked = shape.encoder.validate();
    checked.map_err(|error| usage(error, "change model.encoder.image_size or model.encoder.config"))?;
    if let EncoderTraining::LastBlocks(count) = config.model.encoder.train
        && count > shape.encoder.num_hidden_layers
    {
        return Err(usage(
            format!(
                "model.encoder.train asks for the last {count} blocks; the encoder has {}",
                shape.encoder.num_hidden_layers
            ),
            "use \"full\" to train them all",
        ));
    }
    Ok(())
}

/// Each caption of each image as a training example.
fn make_examples(
    dataset: &Dataset,
    images: &[usize],
    tokenizer: &CaptionTokenizer,
    max_seq_len: usize,
) -> Result<Vec<Example>> {
    let specials = tokenizer.special_ids();
    let of_image = |&image: &usize| -> Result<Vec<Example>> {
        let captions = dataset.images[image].captions.iter();
        let example = |caption: &String| {
            let ids = tokenizer.encode(caption)?;
            Ok(Example { image, tokens: frame(&ids, specials.start, specials.end, max_seq_len) })
        };
        captions.map(example).collect()
    };
    let examples: Result<Vec<Vec<Example>>> = images.par_iter().map(of_image).collect();
    Ok(examples?.into_iter().flatten().collect())
}
