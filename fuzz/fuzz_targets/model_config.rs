//! See `fuzz_bodies::model_config`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_bodies::model_config(data));
