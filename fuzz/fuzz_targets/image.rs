//! See `fuzz_bodies::image`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_bodies::image(data));
