//! See `fuzz_bodies::shards`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_bodies::shards(data));
