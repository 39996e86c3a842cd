//! See `fuzz_bodies::preprocessor`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_bodies::preprocessor(data));
