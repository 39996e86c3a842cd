//! See `fuzz_bodies::dataset_json`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_bodies::dataset_json(data));
