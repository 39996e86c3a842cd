//! Everything that is tested from outside of the library, in one binary: one link for all of it.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, its helpers too")]
#![expect(clippy::disallowed_methods, reason = "tests write files of their own")]

mod averages;
mod bad_checkpoints;
mod blip;
mod captions;
mod collective;
mod commands;
mod comparison;
mod config;
mod copied_commands;
mod documentation;
mod ensembles;
mod faults;
mod filters;
mod foreign_files;
mod formats;
mod fuzz_corpus;
#[cfg(feature = "hub")]
mod hub_datasets;
mod image_cache;
mod interruption;
mod kills;
mod long_captions;
mod look;
mod lora;
mod model;
mod output_places;
mod parity;
mod pickles;
#[cfg(feature = "serve")]
mod picture_bombs;
mod pictures;
mod places;
mod preparation;
mod pretrained;
#[cfg(unix)]
mod processes;
mod prompts;
mod readers;
mod releases;
mod resume;
#[cfg(feature = "hub")]
mod revisions;
mod scores;
mod self_critical;
#[cfg(feature = "serve")]
mod serve;
#[cfg(unix)]
mod several_processes;
mod shards;
mod showing;
mod sources;
mod strangers;
mod support;
mod texts;
mod tidy;
mod tracking;
mod training;
#[cfg(feature = "hub")]
mod uploads;
