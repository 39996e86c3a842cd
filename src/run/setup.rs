//! Puts a run together from its config, or from a checkpoint: data, split, tokenizer, model, optimizer, plan.
//!
//! Reads files; writes none but the tokens of data sets in shards, so that a mistake found here leaves nothing.

use std::cell::RefCell;
use std::collections::HashSet;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use candle_core::Device;
use serde_json::json;

use crate::config::{RunConfig, ScstConfig};
use crate::data::augmentation::Augmentation;
use crate::data::example_files::kept_examples;
use crate::data::example_list::ExampleList;
use crate::data::examples::{Examples, Framing, make_examples};
use crate::data::image_source::{ImageFiles, ImageSource};
use crate::data::prompts::Prompts;
use crate::data::split::{SplitIndices, split_images};
use crate::model::captioner::CaptionerShape;
use crate::model::parameters::Parameters;
use crate::run::checkpoint::adapter_base::{Base, FindBase};
use crate::run::checkpoint::layout::{CheckpointMetadata, FORMAT_VERSION, Source};
use crate::run::checkpoint::reader::{Checkpoint, read_model};
use crate::run::initial_model::{InitialModel, ModelFolders};
use crate::run::self_critical::self_critical;
use crate::run::tracking::sample_pictures::SamplePictures;
use crate::tokenizer::CaptionTokenizer;
use crate::training::captioned_split::CaptionedSplit;
use crate::training::collective::Collective;
use crate::training::loss::{Loss, TokenCrossEntropy};
use crate::training::optimizer::Optimizer;
use crate::training::plan::{DataCounts, RunPlan};
use crate::training::train_state::TrainState;
use crate::training::trainer::{Trainer, TrainingData};
use base::digest::Hasher;
use base::error::{failure, one_line, usage_error};
use base::terminal;
use base::worker_pools::WorkerPools;
use datasets::prepared::{Dataset, Split};
use metrics::meteor::Meteor;
use pixels::image_processor::ImageProcessor;
use records::caption_fit::CaptionFit;

/// A run that is ready to begin or to be resumed.
pub struct Setup {
    pub dataset: Arc<Dataset>,
    pub split: Arc<SplitIndices>,
    pub tokenizer: CaptionTokenizer,
    /// How pixels become the encoder's input.
    pub processor: ImageProcessor,
    pub parameters: Parameters,
    pub optimizer: Optimizer,
    pub state: TrainState,
    /// Training pairs.
    pub train: ExampleList,
    /// Validation pairs.
    pub val: ExampleList,
    /// What captions of images begin with that are validated on or captioned at the end.
    pub prompts: Prompts,
    pub meteor: Arc<Meteor>,
    /// What will happen.
    pub plan: RunPlan,
    /// What the user should know about where the weights come from.
    pub notes: Vec<String>,
    /// The weights that the adapter is trained for.
    pub base: Option<Base>,
    /// What its updates minimise.
    pub loss: Arc<dyn Loss>,
    /// The checkpoint that self-critical training began from.
    pub start: Option<Source>,
    /// The model in it, where it can be read.
    pub start_parameters: Option<Parameters>,
}

impl Setup {
    /// A new run. `data.directory` is set in `config`; `folders` are the local folders for the names in its model
    /// section.
    ///
    /// # Errors
    /// Data, tokenizer or weights that cannot be used; a config that does not fit them.
    pub fn fresh(config: RunConfig, folders: &ModelFolders, device: &Device, num_processes: usize) -> Result<Self> {
        let (dataset, split) = open_data(&config)?;
        let InitialModel { config, shape, parameters, tokenizer, processor, notes } =
            InitialModel::make(config, folders, &dataset, &split, device)?;
        let optimizer = Optimizer::new(&parameters, &shape, &config.optimizer)?;
        let base = Base::of(&parameters, folders)?;
        let state = TrainState::default();
        let data = (dataset, split, tokenizer, processor);
        let setup = Self::assemble(config, data, shape, parameters, optimizer, state, num_processes)?;
        Ok(Self { notes, base, ..setup })
    }

    /// A new run that begins from a checkpoint of another one: `checkpoint`, which was read from `path` with its base.
    ///
    /// # Errors
    /// As [`Self::fresh`].
    pub fn continued(
        config: RunConfig,
        checkpoint: Checkpoint,
        path: &Path,
        device: &Device,
        num_processes: usize,
    ) -> Result<Self> {
        let (dataset, split) = open_data(&config)?;
        let InitialModel { config, shape, parameters, tokenizer, processor, notes } =
            InitialModel::of_checkpoint(config, &checkpoint, path, device)?;
        let optimizer = Optimizer::new(&parameters, &shape, &config.optimizer)?;
        let mut start = checkpoint.parameters(device)?;
        start.share_frozen(&parameters);
        let data = (dataset, split, tokenizer, processor);
        let setup = Self::assemble(config, data, shape, parameters, optimizer, TrainState::default(), num_processes)?;
        let checkpoint_path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let CheckpointMetadata { base, tensors_digest, .. } = checkpoint.metadata;
        Ok(Self {
            notes,
            base,
            start: Some(Source { checkpoint: checkpoint_path, tensors_digest }),
            start_parameters: Some(start),
            ..setup
        })
    }

    /// A run that is resumed from a checkpoint with its base. `config` is that of the checkpoint with what the user changed.
    ///
    /// # Errors
    /// Another data set than that of the checkpoint; tensors that do not fit.
    pub fn resumed(config: RunConfig, checkpoint: Checkpoint, device: &Device, num_processes: usize) -> Result<Self> {
        let metadata = &checkpoint.metadata;
        let (dataset, split) = open_data(&config)?;
        if dataset.digest != metadata.dataset_digest {
            return Err(failure(
                format!(
                    "the data set in {} is not the one that the checkpoint was trained on: expected captions with \
                     the SHA-256 {}, found {}",
                    dataset.directory.display(),
                    metadata.dataset_digest,
                    dataset.digest
                ),
                "give the right folder with --set data.directory=FOLDER, or start a new run",
            ));
        }
        let tokenizer = metadata.read_tokenizer(&config.tokenizer)?;
        let shape = metadata.shape.clone();
        let mut parameters = checkpoint.parameters(device)?;
        shape.freeze(&mut parameters, config.model.trained());
        let mut optimizer = Optimizer::new(&parameters, &shape, &config.optimizer)?;
        optimizer
            .restore(checkpoint.moments, checkpoint.metadata.optimizer_step)
            .context("the optimizer state of the checkpoint does not fit its config")?;
        let processor = checkpoint.metadata.image_processor;
        let CheckpointMetadata { state, base, start, .. } = checkpoint.metadata;
        let data = (dataset, split, tokenizer, processor);
        let setup = Self::assemble(config, data, shape, parameters, optimizer, state, num_processes)?;
        Ok(Self { base, start, ..setup })
    }

    /// Reads the model that a resumed run began from, with which its validations compare the newest. It is only shown:
    /// where it cannot be read any more, a warning says so.
    pub fn read_start(&mut self, find: &FindBase<'_>, device: &Device) {
        let Some(Source { checkpoint, tensors_digest }) = &self.start else { return };
        let read = || -> Result<Parameters> {
            let read = read_model(checkpoint)?;
            let found = &read.metadata.tensors_digest;
            ensure!(found == tensors_digest, "it has changed: expected SHA-256 {tensors_digest}, found {found}");
            let mut start = read.with_base(find)?.parameters(device)?;
            start.share_frozen(&self.parameters);
            Ok(start)
        };
        match read() {
            Ok(start) => self.start_parameters = Some(start),
            Err(error) => terminal::warning(&format!(
                "validations do not say how far the model is from the one that training began from, {}: {}",
                checkpoint.display(),
                one_line(&error)
            )),
        }
    }

    fn assemble(
        config: RunConfig,
        data: (Dataset, SplitIndices, CaptionTokenizer, ImageProcessor),
        shape: CaptionerShape,
        parameters: Parameters,
        optimizer: Optimizer,
        state: TrainState,
        num_processes: usize,
    ) -> Result<Self> {
        let (dataset, split, tokenizer, processor) = data;
        let max_seq_len = config.model.decoder.max_seq_len;
        let prompt = config.data.prompt.as_deref();
        let framing = Framing { tokenizer: &tokenizer, max_seq_len, prompt, weighs: true };
        let train = examples(&config, &dataset, &split.train, framing)?;
        if train.examples.is_empty() {
            let message = format!("all {} captions of the training images have weight 0", train.num_weightless);
            return Err(failure(message, "give at least one caption a weight above 0"));
        }
        let (loss, train_examples): (Arc<dyn Loss>, _) = match &config.training.scst {
            None => (Arc::new(TokenCrossEntropy { label_smoothing: config.training.label_smoothing }), train.examples),
            Some(scst) => {
                let data = (&dataset, &split.train[..]);
                let (loss, pairs) = self_critical(&config, scst, data, &train.examples, &tokenizer, &shape)?;
                (Arc::new(loss), pairs)
            }
        };
        // A validation measures all captions alike.
        let val = examples(&config, &dataset, &split.val, Framing { weighs: false, ..framing })?;
        if let Some(name) = &config.evaluation.caption_split
            && split_of(&split, name).is_empty()
        {
            return Err(usage_error(
                format!("evaluation.caption_split = {name:?}, but the data set has no images in that split"),
                "choose another split, or remove the key",
            ));
        }
        if let Some(count) = config.decoding.max_new_tokens.filter(|&count| count > shape.decoder.num_positions()) {
            return Err(usage_error(
                format!(
                    "decoding.max_new_tokens is {count}, but the decoder has only {} positions",
                    shape.decoder.num_positions()
                ),
                "lower it, or remove the key",
            ));
        }
        let meteor = Meteor::open(config.evaluation.meteor_resources.as_deref())?;
        let most_positions = config.model.brings_decoder().then_some(shape.decoder.num_positions());
        let counts = DataCounts {
            train_images: split.train.len(),
            train_examples: train_examples.len(),
            train_weightless: train.num_weightless,
            val_images: split.val.len(),
            val_examples: val.examples.len(),
            val_references: split
                .val
                .iter()
                .map(|&image| dataset.images.get(image).captions().collect::<Vec<_>>())
                .collect::<HashSet<_>>()
                .len(),
            extra_images: extra_images(&config, &split).len(),
            captions: CaptionFit::new(&train.lengths, &val.lengths, max_seq_len, most_positions),
        };
        let captioned = [split.val.as_slice(), final_images(&config, &split)].concat();
        let prompts = Prompts::of_dataset(&dataset, &captioned, prompt, &tokenizer, shape.decoder.num_positions())?;
        let plan = RunPlan::new(config, shape, &parameters, counts, rayon::current_num_threads(), num_processes)?;
        Ok(Self {
            dataset: Arc::new(dataset),
            split: Arc::new(split),
            tokenizer,
            processor,
            parameters,
            optimizer,
            state,
            train: train_examples,
            val: val.examples,
            prompts,
            meteor: Arc::new(meteor),
            plan,
            notes: Vec::new(),
            base: None,
            loss,
            start: None,
            start_parameters: None,
        })
    }

    /// The loop over the images of `source`, computed by `pools` on `device`, together with the other processes of
    /// `collective`.
    pub fn into_trainer(
        self,
        source: ImageSource,
        device: Device,
        pools: WorkerPools,
        collective: Rc<dyn Collective>,
    ) -> Trainer {
        let captioned = self.captioned_split();
        let pad_id = self.tokenizer.special_ids().pad;
        let data = TrainingData { train: Arc::new(self.train), val: Arc::new(self.val), source, pad_id, captioned };
        let Self { plan, parameters, optimizer, loss, start_parameters: start, state, .. } = self;
        Trainer { plan, data, parameters, optimizer, loss, start, state, device, pools, collective }
    }

    /// The metadata of a checkpoint of the run in its current state, without the digest of the tensors. `written_by` is
    /// the program.
    ///
    /// # Errors
    /// A tokenizer that cannot be written as JSON.
    pub fn checkpoint_metadata(&self, written_by: String) -> Result<CheckpointMetadata> {
        Ok(CheckpointMetadata {
            format_version: FORMAT_VERSION,
            written_by,
            state: self.state.clone(),
            optimizer_step: self.optimizer.step(),
            total_updates: self.plan.total_updates,
            config: self.plan.config.clone(),
            shape: self.plan.shape.clone(),
            image_processor: self.processor.clone(),
            tokenizer: self.tokenizer.to_json()?,
            dataset_digest: self.dataset.digest.clone(),
            tensors_digest: String::new(),
            base: self.base.clone(),
            start: self.start.clone(),
            average_of: Vec::new(),
        })
    }

    pub fn image_files(&self) -> Arc<ImageFiles> {
        let config = &self.plan.config;
        let augmentation = config.data.augmentation.as_ref().map(|augmentation| Augmentation {
            min_area: augmentation.min_area,
            flip: augmentation.flip,
            seed: config.seed,
        });
        Arc::new(ImageFiles::of_dataset(Arc::clone(&self.dataset), self.processor.clone(), augmentation))
    }

    /// Images that are captioned at the end; empty when none are.
    pub fn caption_images(&self) -> &[usize] {
        final_images(&self.plan.config, &self.split)
    }

    /// Images that every validation captions, spread over its split evenly.
    pub fn samples(&self) -> Vec<usize> {
        let val = &self.split.val;
        let count = self.plan.config.evaluation.num_samples.min(val.len());
        (0..count).map(|sample| val[sample * val.len() / count]).collect()
    }

    /// Those images as trackers show them.
    pub fn sample_pictures(&self) -> Rc<RefCell<SamplePictures>> {
        let files = self.samples().into_iter().map(|image| (image, self.dataset.picture(image))).collect();
        Rc::new(RefCell::new(SamplePictures::new(files)))
    }

    /// What is captioned at validations.
    pub fn captioned_split(&self) -> Arc<CaptionedSplit> {
        let val = &self.split.val;
        Arc::new(CaptionedSplit {
            images: val.clone(),
            samples: self.samples(),
            prompts: self.prompts.clone(),
            references: val.iter().map(|&image| self.dataset.images.get(image).owned_captions()).collect(),
            tokenizer: self.tokenizer.clone(),
            meteor: Arc::clone(&self.meteor),
            reward: self.plan.config.training.scst.as_ref().map(ScstConfig::reward_signature),
        })
    }

    /// All images that are validated on or captioned at the end.
    pub fn evaluation_images(&self) -> Vec<usize> {
        [self.split.val.as_slice(), self.caption_images()].concat()
    }
}

fn open_data(config: &RunConfig) -> Result<(Dataset, SplitIndices)> {
    let directory = config.data.directory.as_deref().context("data.directory is not set")?;
    let dataset = Dataset::open(directory)?;
    let split = split_images(&dataset, config.data.split, config.data.validation_fraction, config.seed)?;
    Ok((dataset, split))
}

/// The captions of these images as examples. Those of a data set in shards, which may be larger than the memory, are kept
/// in its cache.
fn examples(config: &RunConfig, dataset: &Dataset, images: &[usize], framing: Framing<'_>) -> Result<Examples> {
    let make = || make_examples(dataset, images, framing);
    if dataset.in_shards.is_none() {
        return make();
    }
    let Framing { tokenizer, max_seq_len, prompt, weighs } = framing;
    let mut hasher = Hasher::new();
    hasher.update(bytemuck::cast_slice(images));
    let content = json!({
        "dataset": dataset.digest,
        "images": hasher.finish(),
        "tokenizer": tokenizer.digest(),
        "specials": [tokenizer.special_ids().start, tokenizer.special_ids().end],
        "max_seq_len": max_seq_len,
        "prompt": prompt,
        "weighs": weighs,
    });
    kept_examples(&config.data.cache_folder(), content, make)
}

fn split_of<'a>(split: &'a SplitIndices, name: &str) -> &'a [usize] {
    Split::parse(name).map_or(&[], |side| split.side(side))
}

/// Images that are captioned at the end.
fn final_images<'a>(config: &RunConfig, split: &'a SplitIndices) -> &'a [usize] {
    config.evaluation.caption_split.as_deref().map_or(&[], |name| split_of(split, name))
}

/// Images that are captioned at the end and that neither training nor validation has in this view.
fn extra_images<'a>(config: &RunConfig, split: &'a SplitIndices) -> &'a [usize] {
    match config.evaluation.caption_split.as_deref().and_then(Split::parse) {
        Some(Split::Test) => &split.test,
        Some(Split::Train) if config.data.augmentation.is_some() => &split.train,
        _ => &[],
    }
}
