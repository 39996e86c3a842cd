//! What the operations and the kernels of every device share: options, sizes of a call, the parts of an update.

use candle_core::Layout;

pub(crate) mod attention;
pub(crate) mod dropout;
pub(crate) mod gpu_sum;
pub(crate) mod linear;
pub(crate) mod packing;
pub(crate) mod precision;
pub(crate) mod targets;
pub(crate) mod update;

/// The storage of an operand and where its elements are in it.
pub(crate) type Operand<'a, S> = (&'a S, &'a Layout);
