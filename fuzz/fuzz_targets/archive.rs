//! See `fuzz_bodies::archive`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_bodies::archive(data));
