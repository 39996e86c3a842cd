//! Writes a safetensors file of f32 tensors through the atomic writer, one tensor in memory at a time.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use candle_core::{DType, Tensor};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use base::atomic_file;

/// Writes `tensors` in their order, with `metadata` in the header.
///
/// # Errors
/// A tensor that is not f32; a disk that is full or cannot be written, and the file that was there before is then
/// untouched.
pub fn write_tensors(path: &Path, tensors: &[(String, Tensor)], metadata: HashMap<String, String>) -> Result<()> {
    let header = header(tensors, metadata)?;
    atomic_file::write_with(path, |file| -> Result<()> {
        file.write_all(&header)?;
        for (_, tensor) in tensors {
            for_each_block(tensor, |bytes| file.write_all(bytes))?;
        }
        Ok(())
    })
}

/// The little-endian f32 values of a tensor, a block at a time.
///
/// # Errors
/// A tensor that is not f32; what `take` gives.
pub fn for_each_block(tensor: &Tensor, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> Result<()> {
    const BLOCK: usize = 1 << 16;
    if tensor.dtype() != DType::F32 {
        bail!("the file holds f32 values, not {:?}", tensor.dtype());
    }
    let values: Vec<f32> = tensor.flatten_all()?.to_vec1()?;
    let mut bytes = Vec::with_capacity(4 * BLOCK);
    for block in values.chunks(BLOCK) {
        bytes.clear();
        bytes.extend(block.iter().flat_map(|value| value.to_le_bytes()));
        take(&bytes)?;
    }
    Ok(())
}

/// Length and header of the safetensors format, padded so that the values begin at a multiple of 8.
fn header(tensors: &[(String, Tensor)], metadata: HashMap<String, String>) -> Result<Vec<u8>> {
    let mut offset = 0;
    let infos = tensors.iter().map(|(name, tensor)| {
        let begin = offset;
        offset += tensor.elem_count() * size_of::<f32>();
        let info = TensorInfo { dtype: Dtype::F32, shape: tensor.dims().to_vec(), data_offsets: (begin, offset) };
        (name.clone(), info)
    });
    let metadata = Metadata::new(Some(metadata), infos.collect())?;
    let mut json = serde_json::to_vec(&metadata).context("cannot write the header as JSON")?;
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut header = (json.len() as u64).to_le_bytes().to_vec();
    header.extend(json);
    Ok(header)
}
