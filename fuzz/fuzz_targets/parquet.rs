//! See `fuzz_bodies::parquet`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_bodies::parquet(data));
