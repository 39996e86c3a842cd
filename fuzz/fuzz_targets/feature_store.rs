//! See `fuzz_bodies::feature_store`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_bodies::feature_store(data));
