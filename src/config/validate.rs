//! Checks the documented ranges of all values and their combinations. What depends on a file or a model (whether a
//! folder exists, how many blocks an encoder has) is checked where that is read.

use std::fmt::Display;
use std::ops::RangeInclusive;

use base::error::failure;

use super::model::ModelName;
use super::{BatchBy, BestMetric, DataConfig, DecoderSection, DecodingConfig, EncoderTraining, ModelConfig, Targets};
use super::{
    HubConfig, HubUpload, OptimizerConfig, RunConfig, SaveInterval, TokenizerConfig, TokenizerKind, TrainingConfig,
};
use crate::model::encoders::{EncoderConfig, VisionSizes};
use crate::model::lora::expression_of;

/// Limit for widths, batches and intervals.
const MAX_SIZE: usize = 65_536;
/// Limit for the rank of an adapter.
const MAX_RANK: usize = 1024;
/// Each beam is a row of the batch.
const MAX_BEAMS: usize = 1000;
/// Limit for epochs, and for updates between two events.
const MAX_ROUNDS: usize = 1_000_000_000;
/// Limit for the captions sampled of an image.
const MAX_SAMPLES: usize = 1000;
/// Beyond this a part has less than one pair.
const MAX_PARTS: usize = 1 << 16;

/// A value that is not allowed.
#[derive(Debug)]
pub struct ConfigError {
    /// The dotted key.
    pub key: &'static str,
    /// What is wrong, to be read after the key.
    pub problem: String,
    pub hint: String,
}

impl From<ConfigError> for anyhow::Error {
    fn from(error: ConfigError) -> Self {
        failure(format!("{} {}", error.key, error.problem), error.hint)
    }
}

pub(super) type Checked = Result<(), ConfigError>;

/// Checks every value; returns the first that is not allowed.
pub(super) fn check(config: &RunConfig) -> Checked {
    check_paths(config)?;
    check_top(config)?;
    check_data(&config.data)?;
    check_views(config)?;
    check_tokenizer(&config.tokenizer, config.model.brings_decoder())?;
    check_tokenizer_source(config)?;
    check_sources(&config.model)?;
    check_encoder(&config.model, config.training.scst.is_some())?;
    check_decoder(&config.model.decoder)?;
    check_lora(&config.model)?;
    check_training(&config.training)?;
    check_scst(config)?;
    check_optimizer(&config.optimizer)?;
    whole("schedule.warmup_steps", config.schedule.warmup_steps, 0..=MAX_ROUNDS)?;
    whole("evaluation.batch_size", config.evaluation.batch_size, 1..=MAX_SIZE)?;
    whole("evaluation.num_samples", config.evaluation.num_samples, 0..=MAX_SIZE)?;
    if config.evaluation.meteor_resources.is_some()
        && config.evaluation.metrics_interval.is_none()
        && config.evaluation.caption_split.is_none()
    {
        return violation(
            "evaluation.meteor_resources",
            "is set, but nothing is scored".to_owned(),
            "set evaluation.metrics_interval or evaluation.caption_split, or remove the key",
        );
    }
    if let Some(interval) = config.evaluation.metrics_interval {
        whole("evaluation.metrics_interval", interval, 1..=MAX_ROUNDS)?;
        if !interval.is_multiple_of(config.training.validation_interval) {
            return violation(
                "evaluation.metrics_interval",
                format!("must be a multiple of training.validation_interval, found {interval}"),
                "captions are scored during validation",
            );
        }
    } else if config.training.best_metric == BestMetric::Cider {
        return violation(
            "training.best_metric",
            "is \"cider\", but evaluation.metrics_interval, which enables scoring, is not set".to_owned(),
            "set evaluation.metrics_interval = 1",
        );
    }
    if let Some(split) = &config.evaluation.caption_split
        && !["train", "val", "test"].contains(&split.as_str())
    {
        return violation(
            "evaluation.caption_split",
            format!("must be train, val or test, found \"{split}\""),
            "or remove the key to skip the captions at the end of the run",
        );
    }
    check_decoding(&config.decoding)?;
    whole("checkpoint.keep_best", config.checkpoint.keep_best, 1..=MAX_ROUNDS)?;
    whole("checkpoint.keep_last", config.checkpoint.keep_last, 1..=MAX_ROUNDS)?;
    check_hub(&config.hub)
}

fn check_hub(hub: &HubConfig) -> Checked {
    const HINT: &str = "write owner/name, or only name for a repository of your own";
    let Some(repo) = &hub.repo else {
        if hub.upload == HubUpload::Never {
            return Ok(());
        }
        return violation("hub.upload", "is set, but hub.repo is not".to_owned(), HINT);
    };
    let is_part = |part: &str| {
        let is_letter = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
        !part.is_empty() && !part.starts_with(['.', '-']) && part.chars().all(is_letter)
    };
    if repo.split('/').count() > 2 || !repo.split('/').all(is_part) {
        return violation("hub.repo", format!("is not the name of a repository: \"{repo}\""), HINT);
    }
    Ok(())
}

/// Checks the section `[decoding]`.
pub fn check_decoding(decoding: &DecodingConfig) -> Checked {
    whole("decoding.num_beams", decoding.num_beams, 1..=MAX_BEAMS)?;
    if !(-10.0..=10.0).contains(&decoding.length_penalty) {
        return violation(
            "decoding.length_penalty",
            format!("must be -10 to 10, found {}", decoding.length_penalty),
            "1.0 ranks captions by mean log-probability, 0.0 by the sum; higher values favour longer captions",
        );
    }
    whole("decoding.no_repeat_ngram_size", decoding.no_repeat_ngram_size, 0..=MAX_SIZE)?;
    whole("decoding.min_new_tokens", decoding.min_new_tokens, 0..=MAX_SIZE)?;
    if let Some(count) = decoding.max_new_tokens {
        whole("decoding.max_new_tokens", count, 1..=MAX_SIZE)?;
        if decoding.min_new_tokens >= count {
            return violation(
                "decoding.min_new_tokens",
                format!("must be below {count}, the maximum with the end token, found {}", decoding.min_new_tokens),
                "otherwise no caption could end",
            );
        }
    }
    Ok(())
}

fn check_top(config: &RunConfig) -> Checked {
    if let Some(name) = &config.name
        && (name.trim().is_empty() || name.contains(['/', '\\']) || name == "." || name == "..")
    {
        return violation(
            "name",
            format!("must be a folder name without slashes, found \"{name}\""),
            "the run folder is output_dir/NAME; write parent folders in output_dir",
        );
    }
    if config.seed > i64::MAX as u64 {
        return violation("seed", format!("must be 0 to 2^63 - 1, found {}", config.seed), "choose a smaller number");
    }
    not_empty("output_dir", config.output_dir.as_os_str().is_empty())
}

fn check_data(data: &DataConfig) -> Checked {
    if data.dataset.is_none() && data.directory.is_none() {
        return violation(
            "data.dataset",
            "and data.directory are both missing: the run has no data",
            "write dataset = \"flickr8k\", or directory = \"FOLDER\" of a prepared data set, under [data]",
        );
    }
    not_empty("data.dataset", data.dataset.as_ref().is_some_and(|name| name.trim().is_empty()))?;
    not_empty("data.directory", data.directory.as_ref().is_some_and(|path| path.as_os_str().is_empty()))?;
    not_empty("data.source", data.source.as_ref().is_some_and(|path| path.as_os_str().is_empty()))?;
    if data.source.is_some() && data.dataset.is_none() {
        return violation(
            "data.source",
            "is set, but data.dataset does not say which data set it contains",
            "add dataset = \"NAME\", or remove source",
        );
    }
    not_empty("data.shards", data.shards.iter().any(|path| path.as_os_str().is_empty()))?;
    if !data.shards.is_empty() && data.dataset.is_some() {
        return violation("data.shards", "is set, and so is data.dataset", "remove one of the two");
    }
    let fraction = data.validation_fraction;
    real("data.validation_fraction", fraction, fraction > 0.0 && fraction < 1.0, "above 0 and below 1")?;
    not_empty("data.prompt", data.prompt.as_ref().is_some_and(|prompt| prompt.trim().is_empty()))?;
    whole("data.workers", data.workers.unwrap_or(1), 1..=256)?;
    not_empty("data.cache_directory", data.cache_directory.as_ref().is_some_and(|path| path.as_os_str().is_empty()))?;
    if let Some(augmentation) = &data.augmentation {
        let area = augmentation.min_area;
        real("data.augmentation.min_area", area, area > 0.0 && area <= 1.0, "above 0 and at most 1")?;
    }
    whole("data.views", data.views, 1..=1000)
}

/// `data.views` needs random views that are cached.
fn check_views(config: &RunConfig) -> Checked {
    let (data, is_kept) = (&config.data, config.keeps_views());
    match (&data.augmentation, data.views) {
        (None, 2..) => violation(
            "data.views",
            format!("is {}, but without data.augmentation all views of an image are the same", data.views),
            "add augmentation = { min_area = 0.5 } under [data], or remove views",
        ),
        (Some(_), 1) if is_kept => violation(
            "data.views",
            "is 1: training would see the same random view of an image in every epoch",
            "set data.views to 4 or more (each needs disk space), or data.cache_features = false and \
             data.cache_images = false for new views in every epoch",
        ),
        (Some(_), 2..) if !is_kept => violation(
            "data.views",
            format!("is {}, but nothing is cached: every epoch has new views", data.views),
            "remove views, or set data.cache_images = true",
        ),
        _ => Ok(()),
    }
}

fn check_tokenizer(tokenizer: &TokenizerConfig, is_brought: bool) -> Checked {
    not_empty("tokenizer.directory", tokenizer.directory.as_ref().is_some_and(|path| path.as_os_str().is_empty()))?;
    // The bytes and the special tokens of a byte-level BPE that may be trained; start or end, and one more, of a
    // vocabulary that is read.
    let is_trained = tokenizer.kind == TokenizerKind::ByteLevelBpe && !is_brought;
    let fewest = if is_trained { 260 } else { 2 };
    whole("tokenizer.vocab_size", tokenizer.vocab_size, fewest..=1_000_000)?;
    // The trainer of the vocabulary counts in 31 bits.
    whole("tokenizer.min_frequency", tokenizer.min_frequency, 1..=i32::MAX as u64)?;
    not_empty("tokenizer.pad_token", tokenizer.pad_token.trim().is_empty())?;
    not_empty("tokenizer.start_token", tokenizer.start_token.trim().is_empty())?;
    not_empty("tokenizer.end_token", tokenizer.end_token.trim().is_empty())?;
    not_empty("tokenizer.unk_token", tokenizer.unk_token.trim().is_empty())?;
    Ok(())
}

/// Only a byte-level BPE is trained.
fn check_tokenizer_source(config: &RunConfig) -> Checked {
    let RunConfig { tokenizer, model, .. } = config;
    if tokenizer.kind == TokenizerKind::WordPiece && tokenizer.directory.is_none() && !model.brings_decoder() {
        return violation(
            "tokenizer.kind",
            "is \"word_piece\", but there is no tokenizer.directory",
            "a WordPiece is not trained here: give the folder of one, or train a \"byte_level_bpe\"",
        );
    }
    Ok(())
}

/// A complete captioner excludes another encoder or decoder.
fn check_sources(model: &ModelConfig) -> Checked {
    let is_empty = |name: &Option<String>| name.as_ref().is_some_and(|name| name.trim().is_empty());
    not_empty("model.init_from", is_empty(&model.init_from))?;
    not_empty("model.encoder.name", is_empty(&model.encoder.name))?;
    not_empty("model.decoder.name", is_empty(&model.decoder.name))?;
    for ModelName { key, revision_key, name, revision } in model.clone().names_mut() {
        not_empty(revision_key, is_empty(revision))?;
        if revision.is_some() && name.is_none() {
            let problem = format!("is set, but {key} is not");
            return violation(revision_key, problem, "name the model whose revision it is, or remove the key");
        }
    }
    let rivals = [
        ("model.encoder.name", model.encoder.name.is_some()),
        ("model.encoder.config", model.encoder.config.is_some()),
        ("model.encoder.pretrained", !model.encoder.pretrained),
        ("model.decoder.name", model.decoder.name.is_some()),
    ];
    match rivals.into_iter().find(|&(_, is_set)| is_set && model.init_from.is_some()) {
        Some((key, _)) => violation(
            key,
            "and model.init_from are both set",
            "remove one: init_from provides encoder, decoder and tokenizer",
        ),
        None => Ok(()),
    }
}

/// `is_brought`: a checkpoint brings it.
fn check_encoder(model: &ModelConfig, is_brought: bool) -> Checked {
    let encoder = &model.encoder;
    match (&encoder.name, &encoder.config) {
        (None, None) if model.init_from.is_some() || is_brought => Ok(()),
        (None, None) => violation(
            "model.encoder.name",
            "is missing: the run has no image encoder",
            "set a folder or a Hub repository, such as \"google/vit-base-patch16-224-in21k\", or pretrained = false \
             and a config",
        ),
        (Some(_), Some(_)) => violation(
            "model.encoder.config",
            "and model.encoder.name are both set",
            "remove config to use the architecture of name, or remove name to train that of config from scratch",
        ),
        (None, Some(_)) if encoder.pretrained => violation(
            "model.encoder.pretrained",
            "is true, but model.encoder.name is not set",
            "set pretrained = false to train the encoder from scratch, or replace config with name",
        ),
        (None, Some(architecture)) => check_architecture(architecture),
        (Some(_), None) => Ok(()),
    }?;
    if let Some(size) = encoder.image_size {
        whole("model.encoder.image_size", size, 1..=MAX_SIZE)?;
        if let Some(architecture) = encoder.config.as_ref().filter(|architecture| !architecture.cuts_remainder()) {
            multiple("model.encoder.image_size", size, "model.encoder.config.patch_size", architecture.patch_size())?;
        }
    }
    if let EncoderTraining::LastBlocks(count) = encoder.train {
        let blocks = encoder.config.as_ref().map_or(MAX_SIZE, |architecture| architecture.num_layers());
        whole("model.encoder.train.last_blocks", count, 1..=blocks)?;
    }
    Ok(())
}

fn check_architecture(architecture: &EncoderConfig) -> Checked {
    let sizes = architecture.sizes();
    let VisionSizes { hidden_size, num_attention_heads, image_size, patch_size, .. } = sizes;
    whole("model.encoder.config.image_size", image_size, 1..=MAX_SIZE)?;
    whole("model.encoder.config.patch_size", patch_size, 1..=image_size)?;
    if !architecture.cuts_remainder() {
        multiple("model.encoder.config.image_size", image_size, "model.encoder.config.patch_size", patch_size)?;
    }
    whole("model.encoder.config.hidden_size", hidden_size, 1..=MAX_SIZE)?;
    whole("model.encoder.config.num_hidden_layers", sizes.num_hidden_layers, 1..=1024)?;
    whole("model.encoder.config.num_attention_heads", num_attention_heads, 1..=hidden_size)?;
    multiple("model.encoder.config.hidden_size", hidden_size, "num_attention_heads", num_attention_heads)?;
    whole("model.encoder.config.intermediate_size", sizes.intermediate_size, 1..=16 * MAX_SIZE)?;
    let eps = sizes.layer_norm_eps;
    real("model.encoder.config.layer_norm_eps", eps, eps > 0.0 && eps < 1.0, "above 0 and below 1")?;
    if let EncoderConfig::Dinov2(dinov2) = architecture {
        whole("model.encoder.config.num_register_tokens", dinov2.num_register_tokens, 0..=MAX_SIZE)?;
        let scale = dinov2.layerscale_value;
        real("model.encoder.config.layerscale_value", scale, scale > 0.0 && scale <= 1.0, "above 0 and at most 1")?;
    }
    let range = sizes.initializer_range;
    real("model.encoder.config.initializer_range", range, range > 0.0 && range <= 1.0, "above 0 and at most 1")
}

fn check_lora(model: &ModelConfig) -> Checked {
    let Some(lora) = &model.lora else { return Ok(()) };
    whole("model.lora.rank", lora.rank, 1..=MAX_RANK)?;
    positive("model.lora.alpha", lora.alpha, "twice the rank is a good value")?;
    share("model.lora.dropout", lora.dropout)?;
    match &lora.targets {
        Some(Targets::Ends(ends)) => {
            let is_empty = ends.is_empty() || ends.iter().any(|end| end.trim().is_empty());
            not_empty("model.lora.targets", is_empty)?;
        }
        Some(Targets::Expression(expression)) => {
            if let Err(problem) = expression_of(expression) {
                return violation("model.lora.targets", problem, "a list of layers, [\"c_attn\"], needs no expression");
            }
        }
        None => {}
    }
    let nothing_to_adapt = "the part begins with random weights: set it to false, and the whole part is trained";
    if !lora.encoder && !lora.decoder {
        return violation(
            "model.lora.encoder",
            "and model.lora.decoder are both false",
            "set one, or remove the section",
        );
    }
    if lora.encoder && !model.encoder.pretrained {
        return violation("model.lora.encoder", "is true, but model.encoder.pretrained is false", nothing_to_adapt);
    }
    if lora.encoder && model.encoder.train != EncoderTraining::Frozen {
        return violation(
            "model.lora.encoder",
            "is true, but model.encoder.train asks for the encoder's own weights",
            "remove model.encoder.train, or set model.lora.encoder = false",
        );
    }
    if lora.decoder && !model.brings_decoder() {
        return violation(
            "model.lora.decoder",
            "is true, but neither model.init_from nor model.decoder.name is set",
            nothing_to_adapt,
        );
    }
    Ok(())
}

fn check_decoder(decoder: &DecoderSection) -> Checked {
    whole("model.decoder.hidden_size", decoder.hidden_size, 1..=MAX_SIZE)?;
    whole("model.decoder.num_layers", decoder.num_layers, 1..=1024)?;
    whole("model.decoder.num_heads", decoder.num_heads, 1..=decoder.hidden_size)?;
    multiple("model.decoder.hidden_size", decoder.hidden_size, "model.decoder.num_heads", decoder.num_heads)?;
    whole("model.decoder.intermediate_size", decoder.intermediate_size, 1..=16 * MAX_SIZE)?;
    whole("model.decoder.max_seq_len", decoder.max_seq_len, 2..=MAX_SIZE)?;
    share("model.decoder.dropout", decoder.dropout)?;
    let eps = decoder.layer_norm_eps;
    real("model.decoder.layer_norm_eps", eps, eps > 0.0 && eps < 1.0, "above 0 and below 1")?;
    let range = decoder.initializer_range;
    real("model.decoder.initializer_range", range, range > 0.0 && range <= 1.0, "above 0 and at most 1")
}

fn check_training(training: &TrainingConfig) -> Checked {
    let device = training.device.as_str();
    let index = device.strip_prefix("cuda:");
    let indexed = index.is_some_and(|text| text.bytes().all(|c| c.is_ascii_digit()) && text.parse::<u16>().is_ok());
    if !["auto", "cpu", "cuda"].contains(&device) && !indexed {
        return violation(
            "training.device",
            format!("must be auto, cpu, cuda or cuda:N, found \"{device}\""),
            "N is the index of a GPU, from 0",
        );
    }
    whole("training.batch_size", training.batch_size, 1..=MAX_SIZE)?;
    whole("training.gradient_accumulation_steps", training.gradient_accumulation_steps, 1..=MAX_SIZE)?;
    if let Some(parts) = training.parts {
        whole("training.parts", parts, 1..=MAX_PARTS)?;
        if !parts.is_power_of_two() {
            return violation(
                "training.parts",
                format!("must be a power of two, found {parts}"),
                "choose 1, 2, 4, 8, ..., or remove the key",
            );
        }
    }
    whole("training.num_epochs", training.num_epochs, 1..=MAX_ROUNDS)?;
    whole("training.validation_interval", training.validation_interval, 1..=MAX_ROUNDS)?;
    if let Some(norm) = training.max_grad_norm {
        positive("training.max_grad_norm", norm, "remove the key for no clipping")?;
    }
    share("training.label_smoothing", training.label_smoothing)?;
    whole("training.log_interval", training.log_interval, 1..=MAX_ROUNDS)?;
    if let Some(SaveInterval::Updates(interval) | SaveInterval::Minutes(interval)) = training.save_interval {
        whole("training.save_interval", usize::try_from(interval).unwrap_or(usize::MAX), 1..=MAX_ROUNDS)?;
    }
    match training.patience {
        Some(patience) => whole("training.patience", patience, 1..=MAX_ROUNDS),
        None => Ok(()),
    }
}

/// What goes together with self-critical training.
fn check_scst(config: &RunConfig) -> Checked {
    let training = &config.training;
    let Some(scst) = &training.scst else { return Ok(()) };
    if scst.checkpoint.as_os_str().is_empty() {
        return violation(
            "training.scst.checkpoint",
            "is missing: self-critical training begins from a trained model",
            "give a run's folder, whose best checkpoint is taken, or a checkpoint file",
        );
    }
    if scst.samples < 2 {
        return violation(
            "training.scst.samples",
            format!("must be 2 or more, found {}: a reward is compared with those of other captions", scst.samples),
            "5 is a good value",
        );
    }
    whole("training.scst.samples", scst.samples, 2..=MAX_SAMPLES)?;
    positive("training.scst.temperature", scst.temperature, "1.0 samples captions by their probability")?;
    share("training.scst.cross_entropy", scst.cross_entropy)?;
    whole("training.scst.validate_every", scst.validate_every, 1..=MAX_ROUNDS)?;
    if training.batch_by == Some(BatchBy::Pair) {
        return violation(
            "training.batch_by",
            "is \"pair\", but self-critical training takes images, each with captions that it samples",
            "set it to \"image\", or remove the key; training.batch_size then counts images",
        );
    }
    if training.label_smoothing > 0.0 {
        return violation(
            "training.label_smoothing",
            format!("is {}, but captions that are rewarded are not smoothed", training.label_smoothing),
            "set it to 0, or remove the key",
        );
    }
    if training.best_metric != BestMetric::Cider {
        return violation(
            "training.best_metric",
            "must be \"cider\" with training.scst: rewards raise the validation loss",
            "set best_metric = \"cider\", and evaluation.metrics_interval = 1",
        );
    }
    Ok(())
}

fn check_optimizer(optimizer: &OptimizerConfig) -> Checked {
    positive("optimizer.learning_rate", optimizer.learning_rate, "5e-4 is a good value for a new decoder")?;
    for beta in optimizer.betas {
        share("optimizer.betas", beta)?;
    }
    let eps = optimizer.eps;
    // Smaller values are 0 in f32, and a parameter that never had a gradient becomes 0 / 0.
    real("optimizer.eps", eps, (1e-30..1.0).contains(&eps), "1e-30 to below 1")?;
    let decay = optimizer.weight_decay;
    real("optimizer.weight_decay", decay, decay >= 0.0 && decay.is_finite(), "0 or more and finite")?;
    if let Some(rate) = optimizer.encoder_learning_rate {
        let hint = "remove the key to use the decoder's rate, or set model.encoder.train = \"frozen\"";
        positive("optimizer.encoder_learning_rate", rate, hint)?;
    }
    let factor = optimizer.layer_decay;
    real("optimizer.layer_decay", factor, factor > 0.0 && factor <= 1.0, "above 0 and at most 1")
}

pub(super) fn violation(key: &'static str, problem: impl Display, hint: impl Display) -> Checked {
    Err(ConfigError { key, problem: problem.to_string(), hint: hint.to_string() })
}

fn not_empty(key: &'static str, empty: bool) -> Checked {
    if empty { violation(key, "must not be empty", "write a value, or remove the key") } else { Ok(()) }
}

fn whole<T: PartialOrd + Display>(key: &'static str, value: T, range: RangeInclusive<T>) -> Checked {
    if range.contains(&value) {
        return Ok(());
    }
    let (min, max) = (range.start(), range.end());
    violation(key, format!("must be {min} to {max}, found {value}"), "see its description in configs/reference.toml")
}

fn real(key: &'static str, value: f64, fits: bool, range: &str) -> Checked {
    if fits {
        return Ok(());
    }
    violation(key, format!("must be {range}, found {value}"), "see its default in configs/reference.toml")
}

/// A probability that may be 0 but not 1.
fn share(key: &'static str, value: f64) -> Checked {
    real(key, value, (0.0..1.0).contains(&value), "0 or more and below 1")
}

fn positive(key: &'static str, value: f64, hint: &str) -> Checked {
    if value > 0.0 && value.is_finite() {
        return Ok(());
    }
    violation(key, format!("must be above 0 and finite, found {value}"), hint)
}

fn multiple(key: &'static str, value: usize, divisor_key: &str, divisor: usize) -> Checked {
    if value.is_multiple_of(divisor) {
        return Ok(());
    }
    let (below, above) = (value - value % divisor, value - value % divisor + divisor);
    let hint = if below == 0 { format!("{above} is") } else { format!("{below} and {above} are") };
    violation(key, format!("must be a multiple of {divisor_key} = {divisor}, found {value}"), hint)
}

/// Finds paths whose backslashes TOML has read as line breaks and tabs, such as `"C:\new"` and `"data\bench"`: a path
/// with control characters is hardly ever meant.
fn check_paths(config: &RunConfig) -> Checked {
    for (key, path) in config.clone().paths_mut() {
        let text = path.path().to_string_lossy();
        // A model may be an id of the Hub as well, and is looked up before anything is made of its name.
        if text.contains(char::is_control) && (!key.starts_with("model.") || has_lost_backslash(&text)) {
            return violation(
                key,
                format!("contains a line break, a tab or another control character: {text:?}"),
                "a backslash in \"...\" starts an escape: write a Windows path in single quotes, such as \
                 'C:\\data\\new', or with forward slashes",
            );
        }
    }
    Ok(())
}

/// Whether it begins as a path of Windows does.
fn has_lost_backslash(text: &str) -> bool {
    let has_drive =
        text.as_bytes().first().is_some_and(u8::is_ascii_alphabetic) && text.as_bytes().get(1) == Some(&b':');
    let follows_dots = text.trim_start_matches('.').starts_with(char::is_control) && text.starts_with('.');
    has_drive || follows_dots || text.starts_with('\\')
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::config::AugmentationConfig;
    use crate::config::EncoderSection;
    use crate::config::ScstConfig;
    use crate::model::encoders::vit::VitConfig;

    fn valid() -> RunConfig {
        let mut config = RunConfig::default();
        config.data.dataset = Some("shapes".to_owned());
        config.model.encoder.name = Some("vit".to_owned());
        config
    }

    #[test]
    fn only_a_vocabulary_that_may_be_trained_has_room_for_all_bytes() {
        let mut config = valid();
        config.tokenizer.vocab_size = 100;
        assert_eq!(check(&config).unwrap_err().key, "tokenizer.vocab_size");
        config.model.decoder.name = Some("gpt2".to_owned());
        assert!(check(&config).is_ok());
    }

    fn architecture() -> VitConfig {
        let sizes = serde_json::json!({ "image_size": 32, "patch_size": 8, "hidden_size": 16, "num_hidden_layers": 2,
            "num_attention_heads": 2, "intermediate_size": 64, "initializer_range": 0.05 });
        serde_json::from_value(sizes).unwrap()
    }

    fn from_scratch() -> RunConfig {
        let mut config = valid();
        config.model.encoder.name = None;
        config.model.encoder.pretrained = false;
        config.model.encoder.config = Some(EncoderConfig::Vit(architecture()));
        config
    }

    /// The message for `config`, which must be about `key`.
    #[track_caller]
    fn assert_refused(config: &RunConfig, key: &str) {
        let found = check(config).err().unwrap_or_else(|| panic!("nothing is wrong, expected {key}"));
        assert_eq!(found.key, key, "{}", found.problem);
        assert!(!found.hint.is_empty());
    }

    /// `change` makes a valid config one that is refused because of `key`.
    #[track_caller]
    fn refuses(key: &str, change: impl FnOnce(&mut RunConfig)) {
        let mut config = valid();
        change(&mut config);
        assert_refused(&config, key);
    }

    #[track_caller]
    fn allows(change: impl FnOnce(&mut RunConfig)) {
        let mut config = valid();
        change(&mut config);
        if let Err(found) = check(&config) {
            panic!("{} {}", found.key, found.problem);
        }
    }

    #[test]
    fn defaults_with_data_and_encoder_are_valid() {
        allows(|_| ());
        assert!(check(&from_scratch()).is_ok());
        refuses("data.dataset", |config| config.data.dataset = None);
        refuses("model.encoder.name", |config| config.model.encoder.name = None);
    }

    #[test]
    fn top_level_values_are_checked() {
        refuses("seed", |config| config.seed = 1 << 63);
        allows(|config| config.seed = (1 << 63) - 1);
        for name in ["", " ", "a/b", "..", "a\\b"] {
            refuses("name", |config| config.name = Some(name.to_owned()));
        }
        refuses("output_dir", |config| config.output_dir = PathBuf::new());
    }

    #[test]
    fn data_values_are_checked() {
        for fraction in [0.0, 1.0, -0.1, f64::NAN] {
            refuses("data.validation_fraction", |config| config.data.validation_fraction = fraction);
        }
        refuses("data.prompt", |config| config.data.prompt = Some(" ".to_owned()));
        refuses("data.workers", |config| config.data.workers = Some(0));
        refuses("data.workers", |config| config.data.workers = Some(257));
        refuses("data.cache_directory", |config| config.data.cache_directory = Some(PathBuf::new()));
        refuses("data.views", |config| config.data.views = 0);
        refuses("data.dataset", |config| config.data.dataset = Some(String::new()));
        refuses("data.directory", |config| config.data.directory = Some(PathBuf::new()));
        refuses("data.source", |config| config.data.source = Some(PathBuf::new()));
        refuses("data.shards", |config| config.data.shards = vec![PathBuf::new()]);
        refuses("data.shards", |config| {
            config.data.dataset = Some("coco".into());
            config.data.shards = vec!["a.tar".into()];
        });
        refuses("data.dataset", |config| {
            config.data = DataConfig { shards: vec!["a.tar".into()], ..DataConfig::default() };
        });
        refuses("data.source", |config| {
            config.data = DataConfig { directory: Some("d".into()), source: Some("s".into()), ..DataConfig::default() };
        });
        allows(|config| config.data = DataConfig { directory: Some("d".into()), ..DataConfig::default() });
    }

    #[test]
    fn views_need_an_augmentation_and_a_place() {
        let augmented = |config: &mut RunConfig, views| {
            config.data.augmentation = Some(AugmentationConfig::default());
            config.data.views = views;
        };
        refuses("data.views", |config| config.data.views = 2);
        refuses("data.views", |config| augmented(config, 1));
        allows(|config| augmented(config, 4));
        allows(|config| {
            augmented(config, 1);
            config.data.cache_features = false;
        });
        refuses("data.views", |config| {
            augmented(config, 4);
            config.model.encoder.train = EncoderTraining::Full;
        });
        allows(|config| {
            augmented(config, 4);
            config.model.encoder.train = EncoderTraining::Full;
            config.data.cache_images = true;
        });
        for area in [0.0, 1.1, f64::NAN] {
            refuses("data.augmentation.min_area", |config| {
                config.data.augmentation = Some(AugmentationConfig { min_area: area, flip: false });
                config.data.views = 4;
            });
        }
    }

    #[test]
    fn tokenizer_values_are_checked() {
        refuses("tokenizer.directory", |config| config.tokenizer.directory = Some(PathBuf::new()));
        refuses("tokenizer.vocab_size", |config| config.tokenizer.vocab_size = 259);
        refuses("tokenizer.vocab_size", |config| config.tokenizer.vocab_size = 1_000_001);
        allows(|config| config.tokenizer.vocab_size = 260);
        refuses("tokenizer.kind", |config| config.tokenizer.kind = TokenizerKind::WordPiece);
        let read = |config: &mut RunConfig, vocab_size: usize| {
            config.tokenizer.kind = TokenizerKind::WordPiece;
            config.tokenizer.directory = Some(PathBuf::from("tokenizer"));
            config.tokenizer.vocab_size = vocab_size;
        };
        allows(|config| read(config, 2));
        refuses("tokenizer.vocab_size", |config| read(config, 1));
        refuses("tokenizer.min_frequency", |config| config.tokenizer.min_frequency = 0);
        refuses("tokenizer.pad_token", |config| config.tokenizer.pad_token = String::new());
        refuses("tokenizer.start_token", |config| config.tokenizer.start_token = " ".to_owned());
        refuses("tokenizer.end_token", |config| config.tokenizer.end_token = String::new());
        refuses("tokenizer.unk_token", |config| config.tokenizer.unk_token = String::new());
        // Common captioners begin and pad with the end token.
        allows(|config| config.tokenizer.pad_token = "<end>".to_owned());
        allows(|config| config.tokenizer.start_token = "<end>".to_owned());
    }

    #[test]
    fn one_sensible_combination_gives_the_encoder() {
        refuses("model.encoder.name", |config| config.model.encoder.name = Some(String::new()));
        refuses("model.encoder.name", |config| {
            config.model.encoder.name = None;
            config.model.encoder.pretrained = false;
        });
        refuses("model.encoder.config", |config| {
            config.model.encoder.config = Some(EncoderConfig::Vit(architecture()))
        });
        let mut config = from_scratch();
        config.model.encoder.pretrained = true;
        assert_refused(&config, "model.encoder.pretrained");
        allows(|config| config.model.encoder.pretrained = false);
    }

    #[test]
    fn a_whole_captioner_leaves_no_place_for_another_encoder_or_decoder() {
        let whole = |config: &mut RunConfig| {
            config.model.init_from = Some("captioner".to_owned());
            config.model.encoder.name = None;
        };
        allows(whole);
        refuses("model.init_from", |config| config.model.init_from = Some(" ".to_owned()));
        refuses("model.encoder.name", |config| config.model.init_from = Some("captioner".to_owned()));
        refuses("model.revision", |config| config.model.revision = Some("main".to_owned()));
        refuses("model.decoder.revision", |config| config.model.decoder.revision = Some("main".to_owned()));
        refuses("model.encoder.revision", |config| config.model.encoder.revision = Some(" ".to_owned()));
        allows(|config| config.model.encoder.revision = Some("refs/pr/4".to_owned()));
        refuses("model.encoder.config", |config| {
            whole(config);
            config.model.encoder.config = Some(EncoderConfig::Vit(architecture()));
        });
        refuses("model.encoder.pretrained", |config| {
            whole(config);
            config.model.encoder.pretrained = false;
        });
        refuses("model.decoder.name", |config| {
            whole(config);
            config.model.decoder.name = Some("gpt2".to_owned());
        });
        allows(|config| config.model.decoder.name = Some("gpt2".to_owned()));
    }

    #[test]
    fn the_shape_of_an_encoder_from_scratch_is_checked() {
        let refuses = |key: &str, change: fn(&mut EncoderSection, &mut VitConfig)| {
            let (mut config, mut shape) = (from_scratch(), architecture());
            change(&mut config.model.encoder, &mut shape);
            config.model.encoder.config = Some(EncoderConfig::Vit(shape));
            assert_refused(&config, key);
        };
        refuses("model.encoder.config.image_size", |_, shape| shape.image_size = 0);
        refuses("model.encoder.config.image_size", |_, shape| shape.image_size = 36);
        refuses("model.encoder.config.patch_size", |_, shape| shape.patch_size = 0);
        refuses("model.encoder.config.patch_size", |_, shape| shape.patch_size = 64);
        refuses("model.encoder.config.hidden_size", |_, shape| shape.hidden_size = 0);
        refuses("model.encoder.config.hidden_size", |_, shape| shape.hidden_size = 17);
        refuses("model.encoder.config.num_hidden_layers", |_, shape| shape.num_hidden_layers = 0);
        refuses("model.encoder.config.num_attention_heads", |_, shape| shape.num_attention_heads = 0);
        refuses("model.encoder.config.intermediate_size", |_, shape| shape.intermediate_size = 0);
        refuses("model.encoder.config.layer_norm_eps", |_, shape| shape.layer_norm_eps = 0.0);
        refuses("model.encoder.image_size", |encoder, _| encoder.image_size = Some(0));
        refuses("model.encoder.image_size", |encoder, _| encoder.image_size = Some(36));
        refuses("model.encoder.train.last_blocks", |encoder, _| encoder.train = EncoderTraining::LastBlocks(0));
        refuses("model.encoder.train.last_blocks", |encoder, _| encoder.train = EncoderTraining::LastBlocks(3));
    }

    #[test]
    fn decoder_values_are_checked() {
        refuses("model.decoder.hidden_size", |config| config.model.decoder.hidden_size = 0);
        refuses("model.decoder.hidden_size", |config| config.model.decoder.hidden_size = 511);
        refuses("model.decoder.num_layers", |config| config.model.decoder.num_layers = 0);
        refuses("model.decoder.num_heads", |config| config.model.decoder.num_heads = 0);
        refuses("model.decoder.intermediate_size", |config| config.model.decoder.intermediate_size = 0);
        refuses("model.decoder.max_seq_len", |config| config.model.decoder.max_seq_len = 1);
        for dropout in [1.0, -0.1, f64::NAN] {
            refuses("model.decoder.dropout", |config| config.model.decoder.dropout = dropout);
        }
        allows(|config| config.model.decoder.dropout = 0.0);
        refuses("model.decoder.layer_norm_eps", |config| config.model.decoder.layer_norm_eps = 0.0);
        refuses("model.decoder.initializer_range", |config| config.model.decoder.initializer_range = f64::NAN);
    }

    #[test]
    fn training_values_are_checked() {
        for device in ["gpu", "cuda:", "cuda:a", "cuda:-1", "cuda:+1", "CPU", ""] {
            refuses("training.device", |config| config.training.device = device.to_owned());
        }
        for device in ["auto", "cpu", "cuda", "cuda:12"] {
            allows(|config| config.training.device = device.to_owned());
        }
        refuses("training.batch_size", |config| config.training.batch_size = 0);
        refuses("training.batch_size", |config| config.training.batch_size = 65_537);
        refuses("training.gradient_accumulation_steps", |config| config.training.gradient_accumulation_steps = 0);
        refuses("training.num_epochs", |config| config.training.num_epochs = 0);
        refuses("training.validation_interval", |config| config.training.validation_interval = 0);
        for norm in [0.0, f64::INFINITY, f64::NAN] {
            refuses("training.max_grad_norm", |config| config.training.max_grad_norm = Some(norm));
        }
        refuses("training.label_smoothing", |config| config.training.label_smoothing = 1.0);
        refuses("training.log_interval", |config| config.training.log_interval = 0);
        for interval in [SaveInterval::Updates(0), SaveInterval::Minutes(0), SaveInterval::Minutes(u64::MAX)] {
            refuses("training.save_interval", |config| config.training.save_interval = Some(interval));
        }
        refuses("training.patience", |config| config.training.patience = Some(0));
        refuses("evaluation.num_samples", |config| config.evaluation.num_samples = MAX_SIZE + 1);
    }

    #[test]
    fn self_critical_training_needs_a_checkpoint_samples_and_images_and_a_best_by_cider() {
        let scst = |config: &mut RunConfig| {
            config.model.encoder.name = None;
            config.training.best_metric = BestMetric::Cider;
            config.evaluation.metrics_interval = Some(1);
            config.training.scst = Some(ScstConfig { checkpoint: "runs/a".into(), ..ScstConfig::default() });
        };
        let refuses_with = |key: &str, change: fn(&mut RunConfig, &mut ScstConfig)| {
            refuses(key, |config| {
                scst(config);
                let mut section = config.training.scst.take().unwrap();
                change(config, &mut section);
                config.training.scst = Some(section);
            });
        };
        allows(scst);
        refuses_with("training.scst.checkpoint", |_, scst| scst.checkpoint = PathBuf::new());
        refuses_with("training.scst.samples", |_, scst| scst.samples = 1);
        refuses_with("training.scst.samples", |_, scst| scst.samples = 1001);
        refuses_with("training.scst.temperature", |_, scst| scst.temperature = 0.0);
        refuses_with("training.scst.cross_entropy", |_, scst| scst.cross_entropy = 1.0);
        refuses_with("training.scst.validate_every", |_, scst| scst.validate_every = 0);
        refuses_with("training.batch_by", |config, _| config.training.batch_by = Some(BatchBy::Pair));
        refuses_with("training.label_smoothing", |config, _| config.training.label_smoothing = 0.1);
        refuses_with("training.best_metric", |config, _| config.training.best_metric = BestMetric::ValLoss);
        refuses_with("training.best_metric", |config, _| config.evaluation.metrics_interval = None);
    }

    #[test]
    fn optimizer_and_remaining_values_are_checked() {
        for rate in [0.0, -1.0, f64::INFINITY, f64::NAN] {
            refuses("optimizer.learning_rate", |config| config.optimizer.learning_rate = rate);
            refuses("optimizer.encoder_learning_rate", |config| config.optimizer.encoder_learning_rate = Some(rate));
            refuses("optimizer.eps", |config| config.optimizer.eps = rate);
        }
        refuses("optimizer.betas", |config| config.optimizer.betas = [1.0, 0.9]);
        refuses("optimizer.betas", |config| config.optimizer.betas = [0.9, -0.1]);
        refuses("optimizer.weight_decay", |config| config.optimizer.weight_decay = -0.1);
        allows(|config| config.optimizer.weight_decay = 0.0);
        for factor in [0.0, 1.1, f64::NAN] {
            refuses("optimizer.layer_decay", |config| config.optimizer.layer_decay = factor);
        }
        refuses("schedule.warmup_steps", |config| config.schedule.warmup_steps = usize::MAX);
        refuses("evaluation.batch_size", |config| config.evaluation.batch_size = 0);
        refuses("evaluation.caption_split", |config| config.evaluation.caption_split = Some("dev".to_owned()));
        refuses("checkpoint.keep_best", |config| config.checkpoint.keep_best = 0);
        refuses("checkpoint.keep_last", |config| config.checkpoint.keep_last = 0);
    }

    #[test]
    fn a_path_with_control_characters_was_misread_and_is_refused() {
        let checked = |text: &str| check_paths(&RunConfig { output_dir: text.into(), ..RunConfig::default() });
        for text in ["C:\new", "\\server\new", ".\new", "..\table", "wr\new", "data\u{8}ench", "runs\u{7f}"] {
            assert!(checked(text).is_err(), "{text:?}");
        }
        let mut named = RunConfig::default();
        for (name, is_refused) in [("C:\new", true), ("owner/\u{1b}[2J", false)] {
            named.model.encoder.name = Some(name.to_owned());
            assert_eq!(check_paths(&named).is_err(), is_refused, "{name:?}");
        }
        for text in ["C:\\new", "C:/new", "my runs", "data\\bench", ".hidden", "..", "катя/кот 🐈"] {
            assert!(checked(text).is_ok(), "{text:?}");
        }
    }
}
