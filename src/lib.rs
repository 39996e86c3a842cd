#![doc = include_str!("ARCHITECTURE.md")]

pub mod cli;
pub mod commands;
pub mod config;
pub mod data;
pub mod decoding;
pub mod evaluation;
pub mod model;
pub mod run;
pub mod tokenizer;
pub mod training;
