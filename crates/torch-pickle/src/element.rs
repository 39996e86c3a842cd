//! The kinds of elements that a storage holds.

/// What the elements of a tensor are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Element {
    F32,
    F64,
    F16,
    Bf16,
    /// Whole numbers, truth values or complex numbers of this many bytes: listed, not read.
    Other(u8),
}

impl Element {
    /// The elements of a class `torch.NAME`.
    pub(crate) fn of_storage(name: &str) -> Option<Self> {
        Some(match name {
            "FloatStorage" => Self::F32,
            "DoubleStorage" => Self::F64,
            "HalfStorage" => Self::F16,
            "BFloat16Storage" => Self::Bf16,
            "ByteStorage" | "CharStorage" | "BoolStorage" => Self::Other(1),
            "ShortStorage" => Self::Other(2),
            "IntStorage" => Self::Other(4),
            "LongStorage" | "ComplexFloatStorage" => Self::Other(8),
            "ComplexDoubleStorage" => Self::Other(16),
            _ => return None,
        })
    }

    /// Bytes of an element.
    pub fn bytes(self) -> u64 {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
            Self::Other(bytes) => u64::from(bytes),
        }
    }

    /// Whether the elements are real numbers, which can be read.
    pub fn is_real(self) -> bool {
        !matches!(self, Self::Other(_))
    }
}
