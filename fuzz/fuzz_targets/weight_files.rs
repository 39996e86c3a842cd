//! See `fuzz_bodies::weight_files`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_bodies::weight_files(data));
