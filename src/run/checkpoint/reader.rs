//! Reads and checks a checkpoint: header, names both ways, shapes, digest.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use candle_core::{DType, Device, Tensor};
use safetensors::{Dtype, SafeTensors};

use crate::base::digest::Hasher;
use crate::base::fault::{WithHint as _, fault};
use crate::model::parameters::Parameters;
use crate::run::checkpoint::layout::{
    CheckpointMetadata, EXP_AVG_PREFIX, EXP_AVG_SQ_PREFIX, FORMAT_VERSION, METADATA_KEY, MODEL_PREFIX,
};
use crate::run::checkpoint::writer::digest_head;
use crate::training::optimizer::Moments;

/// A checkpoint in memory.
#[derive(Debug)]
pub struct Checkpoint {
    /// All that is no tensor.
    pub metadata: CheckpointMetadata,
    /// The model's tensors, by parameter name.
    pub model: BTreeMap<String, Tensor>,
    /// The optimizer's moments, by parameter name.
    pub moments: BTreeMap<String, Moments>,
}

impl Checkpoint {
    /// The parameters of its model.
    ///
    /// # Errors
    /// Tensors that are missing, left over or of another shape than the metadata says.
    pub fn parameters(&self, device: &Device) -> Result<Parameters> {
        let specs = self.metadata.shape.parameter_specs();
        Parameters::from_complete(&specs, self.model.clone(), DType::F32, device)
            .context("the tensors of the checkpoint do not fit its own description")
    }
}

/// Reads the whole file and verifies its digest.
///
/// # Errors
/// A file that is missing, truncated, altered, of a newer version, or no checkpoint of this program.
pub fn read_checkpoint(path: &Path) -> Result<Checkpoint> {
    let bytes = read_bytes(path)?;
    parse(&bytes)
        .with_context(|| format!("cannot use the checkpoint {}", path.display()))
        .hint(|| "use another checkpoint of the same run")
}

/// Reads the metadata alone, and the names and shapes of the tensors.
///
/// # Errors
/// As [`read_checkpoint`], except for the digest, which is not verified.
pub fn read_metadata(path: &Path) -> Result<(CheckpointMetadata, Vec<(String, Vec<usize>)>)> {
    let bytes = read_bytes(path)?;
    let read = || -> Result<_> {
        let (metadata, file) = open(&bytes)?;
        let mut tensors: Vec<_> = file.tensors().into_iter().map(|(name, view)| (name, view.shape().to_vec())).collect();
        tensors.sort();
        Ok((metadata, tensors))
    };
    read().with_context(|| format!("cannot read the checkpoint {}", path.display()))
}

fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    if path.is_dir() {
        return Err(fault(
            format!("{} is a folder, not a checkpoint file", path.display()),
            "name a file, e.g. checkpoints/last.safetensors in a run's folder",
        ));
    }
    std::fs::read(path)
        .with_context(|| format!("cannot read the checkpoint {}", path.display()))
        .hint(|| "checkpoints are in the folder checkpoints of a run")
}

fn open(bytes: &[u8]) -> Result<(CheckpointMetadata, SafeTensors<'_>)> {
    let file = SafeTensors::deserialize(bytes).context("it is truncated or not a safetensors file")?;
    let (_, header) = SafeTensors::read_metadata(bytes).context("its header cannot be read")?;
    let text = header.metadata().as_ref().and_then(|metadata| metadata.get(METADATA_KEY));
    let text = text.with_context(|| {
        format!("it has no {METADATA_KEY} metadata: it holds weights, but no checkpoint of caption-train")
    })?;
    #[derive(serde::Deserialize)]
    struct Version {
        format_version: u32,
    }
    let version: Version = serde_json::from_str(text).context("its metadata has no format_version")?;
    if version.format_version != FORMAT_VERSION {
        bail!("its format version is {}; this program reads version {FORMAT_VERSION}", version.format_version);
    }
    let metadata = serde_json::from_str(text).context("its metadata cannot be understood")?;
    Ok((metadata, file))
}

fn parse(bytes: &[u8]) -> Result<Checkpoint> {
    let (metadata, file) = open(bytes)?;
    let mut views = file.tensors();
    views.sort_by(|a, b| a.0.cmp(&b.0));
    let mut hasher = Hasher::new();
    for (name, view) in &views {
        digest_head(&mut hasher, name, view.shape());
        hasher.update(view.data());
    }
    if hasher.finish() != metadata.tensors_digest {
        bail!("its tensors were altered: the digest differs from the recorded one");
    }
    let (mut model, mut exp_avg, mut exp_avg_sq) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for (name, view) in &views {
        if view.dtype() != Dtype::F32 {
            bail!("the tensor {name}: expected f32, found {:?}", view.dtype());
        }
        let tensor = Tensor::from_raw_buffer(view.data(), DType::F32, view.shape(), &Device::Cpu)?;
        let slot = [(MODEL_PREFIX, &mut model), (EXP_AVG_PREFIX, &mut exp_avg), (EXP_AVG_SQ_PREFIX, &mut exp_avg_sq)];
        let found = slot.into_iter().find_map(|(prefix, map)| name.strip_prefix(prefix).map(|rest| (rest, map)));
        let Some((rest, map)) = found else { bail!("the tensor {name} has no known prefix") };
        map.insert(rest.to_owned(), tensor);
    }
    let mut moments = BTreeMap::new();
    for (name, exp_avg) in exp_avg {
        let exp_avg_sq = exp_avg_sq.remove(&name).with_context(|| format!("the second moment of {name} is missing"))?;
        moments.insert(name, Moments { exp_avg, exp_avg_sq });
    }
    if let Some(name) = exp_avg_sq.keys().next() {
        bail!("the first moment of {name} is missing");
    }
    Ok(Checkpoint { metadata, model, moments })
}
