#![doc = include_str!("ARCHITECTURE.md")]
#![cfg_attr(test, expect(clippy::disallowed_methods, reason = "tests write files of their own"))]

pub mod cli;
pub mod commands;
pub mod config;
pub mod data;
pub mod decoding;
pub mod evaluation;
pub mod hf;
pub mod model;
pub mod run;
pub mod tokenizer;
pub mod training;
