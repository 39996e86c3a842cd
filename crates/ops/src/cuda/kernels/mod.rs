//! The sources of the kernels, compiled when they are first used.

use std::sync::OnceLock;

use candle_core::cuda_backend::cudarc::nvrtc::{CompileError, CompileOptions, compile_ptx_with_opts};
use candle_core::{Result, bail};

/// Put before each of the others.
const COMMON: &str = include_str!("common.cuh");
/// The oldest GPUs that have bf16; PTX for them runs on all newer ones.
const ARCHITECTURE: &str = "--gpu-architecture=compute_80";

macro_rules! modules {
    ($($(#[$doc:meta])* $variant:ident = $file:literal,)*) => {
        /// A source file.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Module {
            $($(#[$doc])* $variant,)*
        }

        impl Module {
            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$variant => concat!("caption_train_", $file),)* }
            }

            fn source(self) -> &'static str {
                match self { $(Self::$variant => include_str!(concat!($file, ".cu")),)* }
            }

            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant,)*];
        }
    };
}

modules! {
    /// Appending to sequences.
    Append = "append",
    /// f32 to bf16.
    Convert = "convert",
    CrossEntropy = "cross_entropy",
    /// Dropout outside of attention.
    Dropout = "dropout",
    /// Rows of a table.
    Embedding = "embedding",
    Gelu = "gelu",
    /// Addresses of attention heads.
    Heads = "heads",
    LayerNorm = "layer_norm",
    /// Norm of the gradients and AdamW.
    Optimizer = "optimizer",
    /// Biases, their gradients, sums in place.
    Rows = "rows",
    /// Softmax and dropout of attention.
    Softmax = "softmax",
}

static PTX: [OnceLock<String>; Module::ALL.len()] = [const { OnceLock::new() }; Module::ALL.len()];

/// The compiled source.
pub(crate) fn ptx(module: Module) -> Result<&'static str> {
    let cell = &PTX[module as usize];
    if let Some(ptx) = cell.get() {
        return Ok(ptx);
    }
    let source = format!("{COMMON}\n{}", module.source());
    let options = CompileOptions {
        options: vec![ARCHITECTURE.to_owned(), "--std=c++17".to_owned()],
        name: Some(module.name().to_owned()),
        ..CompileOptions::default()
    };
    match compile_ptx_with_opts(source, options) {
        Ok(ptx) => Ok(cell.get_or_init(|| ptx.to_src())),
        Err(CompileError::CompileError { log, .. }) => {
            bail!("NVRTC cannot compile {}: {}", module.name(), log.to_string_lossy())
        }
        Err(error) => bail!("NVRTC cannot compile {}: {error:?}", module.name()),
    }
}
