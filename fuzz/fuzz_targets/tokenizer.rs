//! See `fuzz_bodies::tokenizer`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_bodies::tokenizer(data));
