//! What each fuzzer does with its bytes: it reads them as the program reads an untrusted file, and asserts what must
//! hold for the result. An input that is refused with an error is fine; a panic is a bug.
//!
//! The same functions replay `corpus/` and `regressions/` in the ordinary tests (`tests/integration/fuzz_corpus.rs`),
//! so they do not change the process: files go into a folder of the thread, removed with it.

mod archive;
mod checkpoint;
mod config;
mod dataset;
mod feature_store;
mod json;
mod model;
mod pickle;
mod pictures;
mod samples;
mod scratch;
mod shards;
mod tokenizer;

pub use archive::archive;
pub use checkpoint::checkpoint;
pub use config::config;
pub use dataset::{annotations, dataset_json, flickr8k, parquet};
pub use feature_store::feature_store;
pub use model::{model_config, weight_files};
pub use pickle::pickle;
pub use pictures::{decoder_guard, image, preprocessor};
pub use shards::shards;
pub use tokenizer::tokenizer;

/// The body of a fuzzer.
pub type Body = fn(&[u8]);

/// Every fuzzer by its name, which is that of its file in `fuzz_targets/` and of its folder in `corpus/`.
pub const TARGETS: [(&str, Body); 16] = [
    ("annotations", annotations),
    ("archive", archive),
    ("checkpoint", checkpoint),
    ("config", config),
    ("dataset_json", dataset_json),
    ("decoder_guard", decoder_guard),
    ("feature_store", feature_store),
    ("flickr8k", flickr8k),
    ("image", image),
    ("model_config", model_config),
    ("parquet", parquet),
    ("pickle", pickle),
    ("preprocessor", preprocessor),
    ("shards", shards),
    ("tokenizer", tokenizer),
    ("weight_files", weight_files),
];
