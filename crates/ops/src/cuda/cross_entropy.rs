//! Cross-entropy on a GPU: a block for each row.

use candle_core::{CudaDevice, CudaStorage, DType, Result, Tensor};

use super::array::{Array, Buffer, Scratch, device_of};
use super::kernels::Module;
use super::launch::{Grid, arguments, launch};
use crate::types::Operand;
use crate::types::targets::Targets;

/// The sum of the losses of the rows, a scalar of f32.
pub(crate) fn forward(logits: Operand<'_, CudaStorage>, targets: &Targets) -> Result<CudaStorage> {
    let (device, logits, rows) = (&logits.0.device, Array::of_operand(logits)?, targets.classes.len());
    if rows == 0 {
        return Ok(Buffer::zeros(device, DType::F32, 1)?.into_storage());
    }
    let (vocabulary, lists) = (logits.len / rows, Lists::copy_of(device, targets)?);
    let losses = Buffer::new(device, DType::F32, rows)?;
    let name = format!("cross_entropy_{}", logits.suffix()?);
    let smoothing = targets.label_smoothing as f32;
    let (classes, weights) = lists.addresses();
    let arguments = arguments![logits, classes, weights, losses.array(), rows, vocabulary, smoothing];
    launch(device, Module::CrossEntropy, &name, Grid::blocks(rows, 1), arguments)?;
    let sum = Buffer::new(device, DType::F32, 1)?;
    let arguments = arguments![losses.array(), sum.array(), rows];
    launch(device, Module::CrossEntropy, "sum_f32", Grid::blocks(1, 1), arguments)?;
    Ok(sum.into_storage())
}

/// The gradient of the logits from that of the sum.
pub(crate) fn backward(logits: &Tensor, targets: &Targets, grad: &Tensor) -> Result<Tensor> {
    let (device, rows) = (device_of(logits)?, targets.classes.len());
    let (values, scale) = (Array::of(logits)?, Array::of_f32(grad)?);
    let out = Buffer::new(device, values.dtype, values.len)?;
    if let Some(vocabulary) = values.len.checked_div(rows) {
        let lists = Lists::copy_of(device, targets)?;
        let name = format!("cross_entropy_backward_{}", values.suffix()?);
        let smoothing = targets.label_smoothing as f32;
        let (classes, weights) = lists.addresses();
        let arguments = arguments![values, classes, weights, scale, out.array(), rows, vocabulary, smoothing];
        launch(device, Module::CrossEntropy, &name, Grid::blocks(rows, 1), arguments)?;
    }
    Ok(out.into_tensor(logits.shape()))
}

/// The targets on the GPU.
struct Lists {
    classes: Scratch<u32>,
    weights: Option<Scratch<f32>>,
}

impl Lists {
    fn copy_of(device: &CudaDevice, targets: &Targets) -> Result<Self> {
        let narrow = |weights: &Vec<f64>| weights.iter().map(|&weight| weight as f32).collect::<Vec<f32>>();
        let weights = targets.weights.as_ref().map(narrow);
        Ok(Self {
            classes: Scratch::copy_of(device, &targets.classes)?,
            weights: weights.map(|weights| Scratch::copy_of(device, &weights)).transpose()?,
        })
    }

    /// Of classes and weights; the kernel takes 0 for weights of 1.
    fn addresses(&self) -> (u64, u64) {
        (self.classes.address, self.weights.as_ref().map_or(0, |weights| weights.address))
    }
}
