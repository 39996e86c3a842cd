//! See `fuzz_bodies::pickle`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_bodies::pickle(data));
