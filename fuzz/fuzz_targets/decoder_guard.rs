//! See `fuzz_bodies::decoder_guard`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_bodies::decoder_guard(data));
