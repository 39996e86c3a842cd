//! Sums over the GPUs of several processes.

/// In which order the terms of several processes are added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SumOrder {
    /// That of a binary tree over the ranks, `((r0+r1)+(r2+r3))+((r4+r5)+(r6+r7))`.
    Tree,
    /// That which the library likes; the same on all processes.
    Any,
}

/// Why GPUs cannot be connected, or why a sum over them failed.
#[derive(Debug, thiserror::Error)]
pub enum NcclFailure {
    #[error("NCCL, which connects GPUs, cannot be opened: {0}")]
    Library(String),
    #[error("{function} of NCCL failed: {what}")]
    Call {
        function: &'static str,
        /// What NCCL says of it.
        what: String,
    },
    /// The sums that were under way are not whole.
    #[error("the sums over the GPUs broke off: {0}")]
    BrokenOff(String),
    #[error(transparent)]
    Device(#[from] candle_core::Error),
}

impl NcclFailure {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Library(_) => {
                "install it (`apt install libnccl2`, or `pip install nvidia-nccl-cu13`) and add its folder to \
                 LD_LIBRARY_PATH, or set CAPTION_TRAIN_NCCL to the file libnccl.so.2; Python's wheel has it in \
                 site-packages/nvidia/nccl/lib"
            }
            Self::Call { .. } | Self::BrokenOff(_) => {
                "set NCCL_DEBUG=INFO to see what NCCL does; between machines NCCL_SOCKET_IFNAME names the network \
                 interface to use"
            }
            Self::Device(_) => "check nvidia-smi and the memory of the GPU",
        }
    }
}
