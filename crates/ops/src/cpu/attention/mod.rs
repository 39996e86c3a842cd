//! Attention on the CPU, parallel over examples and heads.
//!
//! Nothing of size queries x keys leaves a thread: the backward pass recomputes the probabilities.

use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, Result, Tensor, WithDType};

use self::backward::{Gradients, fill_gradients};
use self::forward::attend;
use self::heads::Operands;
use self::spans::Spans;
use super::storage::{elements, for_float, tensor_elements};
use super::vector_math::Element;
use crate::profile::Part;
use crate::types::Operand;
use crate::types::attention::Geometry;
use crate::types::packing::Packing;

mod backward;
mod forward;
mod heads;
mod softmax;
mod spans;

/// What looks at what: see `Attention`.
#[derive(Clone, Copy)]
pub(crate) struct Layout<'a> {
    pub(crate) geometry: Geometry,
    pub(crate) packing: Option<&'a Packing>,
    /// The keys are rows of the packed sequences too, not of their images.
    pub(crate) keys_are_packed: bool,
}

/// The result, in the shape of q, from one (qkv), two (q, kv) or three (q, k, v) tensors.
pub(crate) fn forward(layout: Layout<'_>, tensors: &[Operand<'_, CpuStorage>]) -> Result<CpuStorage> {
    for_float!(tensors[0].0.dtype(), Part::Attention, T => {
        let slices: Vec<&[T]> = tensors.iter().map(|&tensor| elements::<T>(tensor)).collect::<Result<_>>()?;
        let (geometry, spans) = (&layout.geometry, layout.spans());
        Ok(T::to_cpu_storage_owned(attend(geometry, &spans, &Operands::new(geometry, &slices))?))
    })
}

/// The gradient of each tensor that has one, from the gradient of the result.
pub(crate) fn backward(layout: Layout<'_>, tensors: &[&Tensor], grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
    for_float!(grad.dtype(), Part::Attention, T => typed_backward::<T>(layout, tensors, grad))
}

impl Layout<'_> {
    fn spans(&self) -> Spans {
        Spans::new(&self.geometry, self.packing, self.keys_are_packed)
    }
}

fn typed_backward<T: Element>(layout: Layout<'_>, tensors: &[&Tensor], grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
    let storages: Vec<_> = tensors.iter().map(|tensor| tensor.storage_and_layout()).collect();
    let slices: Vec<&[T]> = storages.iter().map(tensor_elements::<T>).collect::<Result<_>>()?;
    let grad_storage = grad.storage_and_layout();
    let grad = tensor_elements::<T>(&grad_storage)?;
    let mut gradients = Gradients::new(tensors.iter().map(|tensor| (tensor.elem_count(), tensor.track_op())));
    let geometry = &layout.geometry;
    fill_gradients(geometry, &layout.spans(), &Operands::new(geometry, &slices), grad, &mut gradients)?;
    let values = gradients.into_values().into_iter().zip(tensors);
    values.map(|(v, t)| v.map(|v| Tensor::from_vec(v, t.shape(), t.device())).transpose()).collect()
}
