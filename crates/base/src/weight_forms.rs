//! The files in which a model's folder or its repository may have its weights.

/// A form of weights, by the file that one begins with.
#[derive(Debug, PartialEq, Eq)]
pub struct WeightForm {
    pub name: &'static str,
    pub format: WeightFormat,
    /// Whether it lists the files that have the weights.
    pub is_index: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightFormat {
    Safetensors,
    Pickle,
}

impl WeightFormat {
    /// The end of the names of its files.
    pub fn ending(self) -> &'static str {
        match self {
            Self::Safetensors => ".safetensors",
            Self::Pickle => ".bin",
        }
    }
}

/// The file of weights that are as they should be.
pub const PREFERRED: &str = "model.safetensors";

/// From the one that is preferred to the last resort: the names of transformers, then those of open_clip.
pub const WEIGHT_FORMS: [WeightForm; 6] = [
    WeightForm { name: PREFERRED, format: WeightFormat::Safetensors, is_index: false },
    WeightForm { name: "model.safetensors.index.json", format: WeightFormat::Safetensors, is_index: true },
    WeightForm { name: "open_clip_model.safetensors", format: WeightFormat::Safetensors, is_index: false },
    WeightForm { name: "pytorch_model.bin", format: WeightFormat::Pickle, is_index: false },
    WeightForm { name: "pytorch_model.bin.index.json", format: WeightFormat::Pickle, is_index: true },
    WeightForm { name: "open_clip_pytorch_model.bin", format: WeightFormat::Pickle, is_index: false },
];
