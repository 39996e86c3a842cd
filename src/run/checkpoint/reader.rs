//! Reads and checks a checkpoint: header, names both ways, shapes, digest. One tensor at a time, so that a reader that
//! wants only the model never holds the optimizer's moments.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use candle_core::{DType, Device, Tensor};
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde_json::Value;

use crate::config;
use crate::model::parameters::Parameters;
use crate::run::checkpoint::adapter_base::FindBase;
use crate::run::checkpoint::digests::digest_head;
use crate::run::checkpoint::layout::{
    CheckpointMetadata, EXP_AVG_PREFIX, EXP_AVG_SQ_PREFIX, FORMAT_VERSION, METADATA_DIGEST_KEY, METADATA_KEY,
    MODEL_PREFIX, OLDEST_FORMAT_VERSION,
};
use crate::training::optimizer::Moments;
use base::bounded_file;
use base::digest::{self, Hasher};
use base::error::{WithHint as _, failure};

/// Longest header that is read, in bytes; real ones have a few hundred thousand.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// Names and shapes of tensors, in the order of the names.
pub type TensorShapes = Vec<(String, Vec<usize>)>;

/// A checkpoint in memory.
#[derive(Debug)]
pub struct Checkpoint {
    /// Everything that is not a tensor.
    pub metadata: CheckpointMetadata,
    /// The model's tensors, by parameter name.
    pub model: BTreeMap<String, Tensor>,
    /// The optimizer's moments, by parameter name; empty when only the model was read.
    pub moments: BTreeMap<String, Moments>,
    /// The tensors of its base, by parameter name, where they have been read.
    pub base: BTreeMap<String, Tensor>,
}

impl Checkpoint {
    /// The same with the tensors of its base, where it has one: see [`Base::read`].
    ///
    /// # Errors
    /// Those of [`Base::read`].
    pub fn with_base(mut self, find: &FindBase<'_>) -> Result<Self> {
        if let Some(base) = &self.metadata.base {
            let names = self.metadata.parameter_specs()?.into_iter().map(|spec| spec.name);
            let missing: BTreeSet<String> = names.filter(|name| !self.model.contains_key(name)).collect();
            self.base = base.read(&self.metadata.config.model, |name| missing.contains(name), find)?;
        }
        Ok(self)
    }

    /// The parameters of its model; the base must have been read.
    ///
    /// # Errors
    /// Tensors that are missing, left over or of another shape than the metadata says.
    pub fn parameters(&self, device: &Device) -> Result<Parameters> {
        let tensors = self.model.iter().chain(&self.base).map(|(name, tensor)| (name.clone(), tensor.clone()));
        let mut parameters = self.filled(tensors.collect(), |_| true, device)?;
        parameters.mark_base(|name, _| self.base.contains_key(name));
        Ok(parameters)
    }

    /// The same on the base of `others`, which is then in memory once.
    ///
    /// # Errors
    /// As [`Self::parameters`].
    pub fn parameters_beside(&self, others: &Parameters, device: &Device) -> Result<Parameters> {
        let is_in_base = |name: &str| others.get(name).is_some_and(|parameter| parameter.in_base);
        let mut parameters = self.filled(self.model.clone(), |name| !is_in_base(name), device)?;
        parameters.share_base(others);
        Ok(parameters)
    }

    fn filled(
        &self,
        tensors: BTreeMap<String, Tensor>,
        is_wanted: impl Fn(&str) -> bool,
        device: &Device,
    ) -> Result<Parameters> {
        let mut specs = self.metadata.parameter_specs()?;
        specs.retain(|spec| is_wanted(&spec.name));
        let parameters = Parameters::from_complete(&specs, tensors, DType::F32, device)
            .context("the tensors of the checkpoint do not fit its own description")?;
        Ok(match &self.metadata.config.model.lora {
            Some(lora) => parameters.adapted_by(lora),
            None => parameters,
        })
    }
}

/// Reads the whole file and verifies its digest.
///
/// # Errors
/// A file that is missing, truncated, altered, of a newer version, or no checkpoint of this program.
pub fn read_checkpoint(path: &Path) -> Result<Checkpoint> {
    read(path, Want::All)
}

/// As [`read_checkpoint`], without the optimizer's moments.
///
/// # Errors
/// As [`read_checkpoint`].
pub fn read_model(path: &Path) -> Result<Checkpoint> {
    read(path, Want::Model)
}

/// Checks all that [`read_checkpoint`] checks of the file, and keeps only its metadata.
///
/// # Errors
/// As [`read_checkpoint`].
pub fn verify(path: &Path) -> Result<CheckpointMetadata> {
    Ok(read(path, Want::Nothing)?.metadata)
}

/// Reads only the metadata, and the names and shapes of the tensors.
///
/// # Errors
/// As [`read_checkpoint`], except for the digest, which is not verified.
pub fn read_metadata(path: &Path) -> Result<(CheckpointMetadata, TensorShapes)> {
    let (_, header, metadata) = open(path)?;
    let shapes = header.tensors().into_iter().map(|(name, info)| (name, info.shape.clone()));
    let mut shapes: TensorShapes = shapes.collect();
    shapes.sort();
    Ok((metadata, shapes))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Want {
    All,
    Model,
    Nothing,
}

fn read(path: &Path, want: Want) -> Result<Checkpoint> {
    let (mut file, header, metadata) = open(path)?;
    read_tensors(&mut file, &header, metadata, want)
        .with_context(|| format!("cannot use the checkpoint {}", path.display()))
        .hint(|| "use another checkpoint of the same run")
}

/// The file after its header, the header, and the metadata in it.
fn open(path: &Path) -> Result<(BufReader<File>, Metadata, CheckpointMetadata)> {
    if path.is_dir() {
        return Err(failure(
            format!("{} is a folder, not a checkpoint file", path.display()),
            "give a file, e.g. checkpoints/last.safetensors in a run's folder",
        ));
    }
    let file = bounded_file::open(path)
        .with_context(|| format!("cannot read the checkpoint {}", path.display()))
        .hint(|| "checkpoints are in the folder checkpoints of a run")?;
    let mut file = BufReader::with_capacity(1 << 20, file);
    let read = read_header(&mut file).and_then(|header| {
        let metadata = read_description(&header)?;
        Ok((header, metadata))
    });
    let (header, metadata) = read.with_context(|| format!("cannot use {} as a checkpoint", path.display())).hint(
        || "checkpoints are the files in the folder checkpoints of a run; one of a newer version needs a newer program",
    )?;
    Ok((file, header, metadata))
}

/// Length and header of the safetensors format; the length of the file must be what the header says.
fn read_header(file: &mut BufReader<File>) -> Result<Metadata> {
    const NOT_SAFETENSORS: &str = "it is truncated or not a safetensors file";
    let found = file.get_ref().metadata().context("cannot read its size")?.len();
    let mut length = [0; 8];
    file.read_exact(&mut length).context(NOT_SAFETENSORS)?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER_BYTES || length + 8 > found {
        bail!("{NOT_SAFETENSORS}: a header of {length} bytes in a file of {found}");
    }
    let mut text = vec![0; usize::try_from(length)?];
    file.read_exact(&mut text).context(NOT_SAFETENSORS)?;
    let header: Metadata = serde_json::from_slice(&text).context(NOT_SAFETENSORS)?;
    // Offsets may lie anywhere below 2^64.
    let expected = (8 + length).checked_add(header.data_len() as u64);
    if expected != Some(found) {
        let expected = expected.map_or_else(|| "more than 2^64".to_owned(), |expected| expected.to_string());
        bail!("it is truncated or was changed: expected {expected} bytes, found {found}");
    }
    Ok(header)
}

fn read_description(header: &Metadata) -> Result<CheckpointMetadata> {
    #[derive(serde::Deserialize)]
    struct Version {
        format_version: u32,
    }
    let text = header.metadata().as_ref().and_then(|metadata| metadata.get(METADATA_KEY));
    let text = text.with_context(|| {
        format!("it has no {METADATA_KEY} metadata: it contains weights, but is not a checkpoint of caption-train")
    })?;
    let version: Version = serde_json::from_str(text).context("its metadata has no format_version")?;
    let version = version.format_version;
    if version > FORMAT_VERSION {
        bail!("its format version is {version}, and this program reads up to {FORMAT_VERSION}: a newer one wrote it");
    }
    if version < OLDEST_FORMAT_VERSION {
        bail!("its format version is {version}, and this program reads {OLDEST_FORMAT_VERSION} and newer");
    }
    let digest = header.metadata().as_ref().and_then(|metadata| metadata.get(METADATA_DIGEST_KEY));
    // The oldest version had none; one that is there holds whatever the version says.
    let is_expected = version > OLDEST_FORMAT_VERSION || digest.is_some();
    if is_expected && digest != Some(&digest::sha256(text.as_bytes())) {
        bail!("its metadata were altered: the digest differs from the recorded one");
    }
    let mut metadata: Value = serde_json::from_str(text).context("its metadata cannot be understood")?;
    for (section, key) in RETIRED_KEYS {
        if let Some(Value::Object(section)) = metadata.pointer_mut(&format!("/config/{section}")) {
            section.remove(key);
        }
    }
    let metadata: CheckpointMetadata = serde_json::from_value(metadata).context("its metadata cannot be understood")?;
    check_description(&metadata).context("its metadata is inconsistent")?;
    Ok(metadata)
}

/// What the rest of the program relies on and a type does not say.
fn check_description(metadata: &CheckpointMetadata) -> Result<()> {
    let CheckpointMetadata { config, shape, image_processor, .. } = metadata;
    config::check(config)?;
    shape.encoder.validate()?;
    shape.decoder.validate()?;
    image_processor.validate().context("its image processing cannot be used")?;
    let (size, output) = (shape.encoder.image_size(), image_processor.output_size());
    if output != (size, size) {
        bail!("its images are resized to {output:?} pixels in height and width, but its encoder expects {size}");
    }
    let (max_seq_len, num_positions) = (config.model.decoder.max_seq_len, shape.decoder.num_positions());
    if max_seq_len > num_positions {
        bail!("its captions have {max_seq_len} tokens at most, but its decoder has {num_positions} positions");
    }
    Ok(())
}

/// Keys that configs had once and that no result depends on.
const RETIRED_KEYS: [(&str, &str); 1] = [("data", "feature_memory_gb")];

fn read_tensors(
    file: &mut BufReader<File>,
    header: &Metadata,
    metadata: CheckpointMetadata,
    want: Want,
) -> Result<Checkpoint> {
    let mut names = header.offset_keys();
    // The digest goes by name; this program writes the tensors in that order, so that reading is one pass.
    if !names.is_sorted() {
        bail!("its tensors are not sorted by name");
    }
    let mut hasher = Hasher::new();
    let (mut model, mut exp_avg, mut exp_avg_sq) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let mut bytes = Vec::new();
    for name in names.drain(..) {
        let info = header.info(&name).with_context(|| format!("the tensor {name} is not described"))?;
        if info.dtype != Dtype::F32 {
            bail!("the tensor {name}: expected f32, found {:?}", info.dtype);
        }
        bytes.resize(info.data_offsets.1 - info.data_offsets.0, 0);
        file.read_exact(&mut bytes).with_context(|| format!("cannot read the tensor {name}"))?;
        digest_head(&mut hasher, &name, &info.shape);
        hasher.update(&bytes);
        let slot = [(MODEL_PREFIX, &mut model), (EXP_AVG_PREFIX, &mut exp_avg), (EXP_AVG_SQ_PREFIX, &mut exp_avg_sq)];
        let found = slot.into_iter().find_map(|(prefix, map)| name.strip_prefix(prefix).map(|rest| (rest, map)));
        let Some((rest, map)) = found else { bail!("the tensor {name} has no known prefix") };
        if want == Want::All || (want == Want::Model && name.starts_with(MODEL_PREFIX)) {
            let tensor = Tensor::from_raw_buffer(&bytes, DType::F32, &info.shape, &Device::Cpu)?;
            map.insert(rest.to_owned(), tensor);
        }
    }
    if hasher.finish() != metadata.tensors_digest {
        bail!("its tensors were altered: the digest differs from the recorded one");
    }
    Ok(Checkpoint { metadata, model, moments: pair_moments(exp_avg, exp_avg_sq)?, base: BTreeMap::new() })
}

fn pair_moments(
    exp_avg: BTreeMap<String, Tensor>,
    mut exp_avg_sq: BTreeMap<String, Tensor>,
) -> Result<BTreeMap<String, Moments>> {
    let mut moments = BTreeMap::new();
    for (name, exp_avg) in exp_avg {
        let exp_avg_sq = exp_avg_sq.remove(&name).with_context(|| format!("the second moment of {name} is missing"))?;
        moments.insert(name, Moments { exp_avg, exp_avg_sq });
    }
    if let Some(name) = exp_avg_sq.keys().next() {
        bail!("the first moment of {name} is missing");
    }
    Ok(moments)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::fs;

    use serde_json::json;

    use super::*;
    use crate::config::RunConfig;
    use crate::model::tensor_file::write_tensors;
    use crate::training::train_state::TrainState;
    use base::error::describe;
    use pixels::image_processor::ImageProcessor;

    fn sound() -> Value {
        let mut config = RunConfig::default();
        config.data.directory = Some("data".into());
        config.model.encoder.name = Some("encoder".to_owned());
        let shape = json!({
            "encoder": { "kind": "vit", "image_size": 8, "patch_size": 4, "hidden_size": 4, "num_hidden_layers": 1,
                "num_attention_heads": 1, "intermediate_size": 4 },
            "decoder": { "vocab_size": 260, "hidden_size": 4, "num_layers": 1, "num_heads": 1, "intermediate_size": 4,
                "num_positions": config.model.decoder.max_seq_len, "hidden_act": "gelu_new", "dropout": 0.0,
                "layer_norm_eps": 1e-5, "initializer_range": 0.02, "tie_word_embeddings": true },
        });
        let metadata = CheckpointMetadata {
            format_version: FORMAT_VERSION,
            written_by: "test".to_owned(),
            state: TrainState::default(),
            optimizer_step: 0,
            total_updates: 1,
            config,
            shape: serde_json::from_value(shape).unwrap(),
            image_processor: ImageProcessor::plain(8),
            tokenizer: String::new(),
            dataset_digest: String::new(),
            tensors_digest: String::new(),
            base: None,
            start: None,
            average_of: Vec::new(),
        };
        serde_json::to_value(metadata).unwrap()
    }

    fn refusal(metadata: &Value) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("last.safetensors");
        let text = metadata.to_string();
        let digest = digest::sha256(text.as_bytes());
        let metadata = [(METADATA_KEY.to_owned(), text), (METADATA_DIGEST_KEY.to_owned(), digest)];
        write_tensors(&path, &[], HashMap::from(metadata)).unwrap();
        read_metadata(&path).err().map_or_else(String::new, |error| describe(&error))
    }

    #[test]
    fn metadata_of_another_form_are_refused() {
        assert_eq!(refusal(&sound()), "");
        for other in
            [json!([2]), json!({ "format_version": 2, "config": 5 }), json!({ "format_version": 2, "config": [] })]
        {
            assert!(refusal(&other).contains("its metadata cannot be understood"), "{}", refusal(&other));
        }
    }

    #[test]
    fn values_that_the_program_never_writes_are_refused() {
        for (place, value, expected) in [
            ("/config/seed", json!(u64::MAX), "seed must be 0 to 2^63 - 1"),
            ("/config/model/decoder/max_seq_len", json!(33), "33 tokens at most, but its decoder has 32 positions"),
            ("/shape/encoder/patch_size", json!(0), "the encoder's patch_size is 0"),
            ("/shape/encoder/num_hidden_layers", json!(1 << 20), "expected 1 to 1024"),
            ("/shape/decoder/num_layers", json!(1 << 24), "expected 1 to 1024"),
            ("/image_processor/output/height", json!(1_u64 << 40), "its image processing cannot be used"),
            ("/image_processor/rescale_factor", json!(1e300), "its image processing cannot be used"),
            ("/image_processor/output/height", json!(9), "its images are resized to (9, 8) pixels"),
        ] {
            let mut metadata = sound();
            *metadata.pointer_mut(place).unwrap() = value;
            let text = refusal(&metadata);
            assert!(text.contains(expected) && text.contains("hint: "), "{place}: {text}");
        }
    }

    #[test]
    fn offsets_beyond_any_file_are_refused() {
        let most = (1_u64 << 59) - 1;
        let tensor = |index: u64| {
            let offsets = [index * 4 * most, (index + 1) * 4 * most];
            (format!("model.{index}"), json!({ "dtype": "F32", "shape": [most], "data_offsets": offsets }))
        };
        let header = Value::Object((0..8).map(tensor).collect()).to_string();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("last.safetensors");
        fs::write(&path, [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat()).unwrap();
        let text = describe(&read_metadata(&path).unwrap_err());
        assert!(text.contains("expected more than 2^64 bytes"), "{text}");
    }
}
