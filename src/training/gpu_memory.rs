//! What to do when the memory of a GPU is full.

use base::error::explained;
use base::memory;

/// Adds a hint to an error of a GPU whose memory is full.
pub(super) fn explain(error: anyhow::Error) -> anyhow::Error {
    if !memory::is_gpu_full(&error) {
        return error;
    }
    explained(
        error,
        "the memory of the GPU is full",
        "in a new run lower training.batch_size and raise training.gradient_accumulation_steps by the same factor; \
         evaluation.batch_size and data.workers, whose batches take GPU memory too, can be lowered at any time",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_whose_memory_is_full_says_what_to_do() {
        use base::error::describe;
        let full = explain(anyhow::anyhow!("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")"));
        assert!(describe(&full).contains("lower training.batch_size"), "{}", describe(&full));
        let other = describe(&explain(anyhow::anyhow!("DriverError(CUDA_ERROR_UNKNOWN)")));
        assert!(!other.contains("batch_size"), "{other}");
    }
}
