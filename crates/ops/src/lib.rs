//! Layer 1: differentiable fused tensor operations, generic over f32 and f64, and the in-place updates of training.
//!
//! Legend of shapes: B batch, L caption length, N keys (patches + class token, or cached positions), D hidden size,
//! H heads, K head size, V vocabulary, R rows (all leading dimensions together).
//!
//! What all operations share: inputs may have any layout; nothing is computed for an operand without gradient (frozen
//! weights handed out detached, constant inputs); a result depends on the operands and the number of threads, never
//! on which thread computed what. Nothing here knows layers, parameters' names or captions.

pub mod accumulate;
pub mod adamw;
pub mod append;
pub mod attention;
pub mod cross_entropy;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod dropout;
pub mod embedding;
pub mod gelu;
pub mod layer_norm;
pub mod linear;
pub mod log_sum_exp;
pub mod profile;
pub mod reduce;
pub mod update;
pub mod upload;
pub mod upstream;

mod attention_backward;
mod attention_forward;
mod buffer;
mod gemm;
mod narrow;
mod operand;
mod vector_math;

/// Gives `$body` back from the function when the tensor is on a GPU.
macro_rules! on_gpu {
    ($tensor:expr => $body:expr) => {
        #[cfg(feature = "cuda")]
        if $tensor.device().is_cuda() {
            return $body;
        }
    };
}
pub(crate) use on_gpu;

#[cfg(test)]
mod testing;

pub use accumulate::add_assign;
pub use adamw::{AdamW, adamw_update};
pub use append::append;
pub use attention::{AttentionOptions, attention, cross_attention, self_attention};
pub use cross_entropy::{IGNORE_INDEX, cross_entropy};
pub use dropout::{Dropout, DropoutSite, dropout};
pub use embedding::embedding;
pub use gelu::{Gelu, gelu};
pub use layer_norm::layer_norm;
pub use linear::{GradientSink, LinearOptions, Weight, WeightLayout, linear};
pub use log_sum_exp::log_sum_exp;
pub use narrow::{Precision, has_fast_bf16};
pub use reduce::sum_of_squares;
pub use update::{PendingUpdate, UpdateReport, UpdateRule, UpdatedParameter, Updater};
pub use upload::upload;
pub use upstream::upstream;
