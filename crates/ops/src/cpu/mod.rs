//! The operations on the CPU, generic over f32 and f64.
//!
//! Work is cut into chunks by shape only, and sums run in a fixed order: a result does not depend on which thread
//! computed what.

pub(crate) mod adamw;
pub(crate) mod add_assign;
pub(crate) mod append;
pub(crate) mod attention;
pub(crate) mod cross_entropy;
pub(crate) mod dropout;
pub(crate) mod embedding;
pub(crate) mod layer_norm;
pub(crate) mod linear;
pub(crate) mod log_sum_exp;
pub(crate) mod sum_of_squares;

mod buffer;
pub(crate) mod gelu;
mod gemm;
mod storage;
mod vector_math;
