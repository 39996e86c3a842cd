#![doc = include_str!("ARCHITECTURE.md")]

pub mod base;
pub mod cli;
pub mod commands;
pub mod config;
pub mod data;
pub mod decoding;
pub mod evaluation;
pub mod hub;
pub mod metrics;
pub mod model;
pub mod ops;
pub mod run;
#[cfg(feature = "serve")]
pub mod serve;
pub mod tokenizer;
pub mod training;
