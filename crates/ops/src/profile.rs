//! Where the time of a step goes: seconds in each kind of operation, and in the matrix products and activations inside
//! them, multiplied by the number of threads that work or wait. Off by default; when on, a call reads the clock twice.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Part {
    /// Matrix products of all operations.
    Gemm,
    /// Affine maps, products and activations included.
    Linear,
    /// Attention, products included.
    Attention,
    LayerNorm,
    /// GELU inside affine maps.
    Gelu,
    /// Dropout outside of attention.
    Dropout,
    CrossEntropy,
    Embedding,
    Norm,
    AdamW,
}

impl Part {
    pub fn name(self) -> &'static str {
        match self {
            Self::Gemm => "matrix products",
            Self::Linear => "linear",
            Self::Attention => "attention",
            Self::LayerNorm => "layer_norm",
            Self::Gelu => "gelu",
            Self::Dropout => "dropout",
            Self::CrossEntropy => "cross_entropy",
            Self::Embedding => "embedding",
            Self::Norm => "sum_of_squares",
            Self::AdamW => "adamw",
        }
    }

    pub const ALL: [Self; 10] = [
        Self::Gemm,
        Self::Linear,
        Self::Attention,
        Self::LayerNorm,
        Self::Gelu,
        Self::Dropout,
        Self::CrossEntropy,
        Self::Embedding,
        Self::Norm,
        Self::AdamW,
    ];
}

#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// Seconds of each part, in the order of [`Part::ALL`], summed over threads.
    pub seconds: Vec<(Part, f64)>,
    /// Multiplications and additions in matrix products.
    pub flops: f64,
}

static IS_ON: AtomicBool = AtomicBool::new(false);
static NANOS: [AtomicU64; Part::ALL.len()] = [const { AtomicU64::new(0) }; Part::ALL.len()];
static MULTIPLICATIONS: AtomicU64 = AtomicU64::new(0);

/// Starts to measure, from zero.
pub fn start() {
    for nanos in &NANOS {
        nanos.store(0, Ordering::Relaxed);
    }
    MULTIPLICATIONS.store(0, Ordering::Relaxed);
    IS_ON.store(true, Ordering::Relaxed);
}

/// Stops, and gives what was measured.
pub fn stop() -> Profile {
    IS_ON.store(false, Ordering::Relaxed);
    let seconds = |part: Part| NANOS[part as usize].load(Ordering::Relaxed) as f64 / 1e9;
    Profile {
        seconds: Part::ALL.into_iter().map(|part| (part, seconds(part))).collect(),
        flops: 2.0 * MULTIPLICATIONS.load(Ordering::Relaxed) as f64,
    }
}

/// Adds the time until it is dropped to a part.
pub(crate) struct Timer {
    part: Part,
    started: Option<Instant>,
}

/// Starts the clock, if profiling is on.
#[inline]
pub(crate) fn timer(part: Part) -> Timer {
    Timer { part, started: IS_ON.load(Ordering::Relaxed).then(Instant::now) }
}

impl Drop for Timer {
    #[inline]
    fn drop(&mut self) {
        if let Some(started) = self.started {
            // Idle threads of a parallel loop count too.
            add(self.part, started, rayon::current_num_threads() as u64);
        }
    }
}

/// Runs a product of this many multiplications on this many threads.
#[inline]
pub(crate) fn timed_product<R>(multiplications: usize, threads: usize, f: impl FnOnce() -> R) -> R {
    if !IS_ON.load(Ordering::Relaxed) {
        return f();
    }
    let started = Instant::now();
    let result = f();
    add(Part::Gemm, started, threads as u64);
    MULTIPLICATIONS.fetch_add(multiplications as u64, Ordering::Relaxed);
    result
}

fn add(part: Part, started: Instant, threads: u64) {
    let nanos = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
    NANOS[part as usize].fetch_add(nanos.saturating_mul(threads), Ordering::Relaxed);
}
