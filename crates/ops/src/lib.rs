//! Differentiable fused tensor operations, generic over f32 and f64, and the in-place updates of training.
//!
//! Shapes: B batch, L caption length, N keys (patches + class token, or cached positions), D hidden size, H heads, K
//! head size, V vocabulary, R rows (all leading dimensions together).
//!
//! All operations have in common: inputs may have any layout; nothing is computed for an operand without gradient (a
//! detached weight, a constant input); a result depends on the operands and the number of threads, never on which
//! thread computed what.
//!
//! The modules here check shapes and connect kernels to candle's autograd. `cpu` and `cuda` have the kernels, `types`
//! what all of them share. Imports go in one direction: operations, kernels, types.

mod add_assign;
mod append;
mod attention;
mod cpu;
mod cross_entropy;
#[cfg(feature = "cuda")]
pub mod cuda;
#[cfg(not(feature = "cuda"))]
#[path = "cuda_absent.rs"]
mod cuda;
mod dropout;
mod embedding;
mod gelu;
mod layer_norm;
mod linear;
mod low_rank;
mod operation;
pub mod profile;
#[cfg(test)]
mod testing;
mod types;
mod update;
mod upload;
mod upstream;
mod weight;

pub use add_assign::add_assign;
pub use append::append;
pub use attention::{AttentionOptions, attention, cross_attention, self_attention};
pub use cpu::adamw::{AdamW, adamw_update};
pub use cpu::log_sum_exp::log_sum_exp;
pub use cpu::sum_of_squares::sum_of_squares;
pub use cross_entropy::{cross_entropy, weighted_cross_entropy};
pub use cuda::nccl;
pub use dropout::{dropout, packed_dropout};
pub use embedding::embedding;
pub use gelu::gelu;
pub use layer_norm::layer_norm;
pub use linear::GradientSink;
pub use low_rank::LowRank;
pub use types::dropout::{Dropout, DropoutSite};
pub use types::gpu_sum::{NcclFailure, SumOrder};
pub use types::linear::{Gelu, LinearOptions, WeightLayout};
pub use types::packing::Packing;
pub use types::precision::{Precision, has_bf16_instructions};
pub use types::update::{UpdateReport, UpdateRule, UpdatedParameter};
pub use update::{PendingUpdate, Updater};
pub use upload::upload;
pub use upstream::upstream;
pub use weight::{Weight, linear};
