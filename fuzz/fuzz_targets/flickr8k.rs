//! See `fuzz_bodies::flickr8k`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_bodies::flickr8k(data));
