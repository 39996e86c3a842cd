//! What every other crate may use and what uses none of them.

#![cfg_attr(test, expect(clippy::disallowed_methods, reason = "tests write files of their own"))]

/// The name of the program, as it signs files and requests.
pub const PROGRAM: &str = "caption-train";
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Bytes, as sizes are shown.
pub const GIGABYTE: f64 = 1e9;

#[expect(clippy::disallowed_methods, reason = "the one place that names files")]
pub mod atomic_file;
pub mod bounded_file;
pub mod clock;
pub mod column;
pub mod credentials;
pub mod digest;
pub mod disk;
pub mod error;
pub mod home;
pub mod lists;
#[expect(clippy::disallowed_methods, reason = "opens without truncating")]
pub mod lock;
#[expect(clippy::disallowed_methods, reason = "reads what the system says of itself")]
pub mod memory;
pub mod place;
pub mod process;
pub mod protobuf;
pub mod quoting;
pub mod random;
pub mod simd;
pub mod sorted_map;
pub mod stop;
#[expect(clippy::disallowed_methods, reason = "reads what the system says of itself")]
pub mod system_usage;
#[expect(clippy::disallowed_methods, reason = "the one module that prints")]
pub mod terminal;
pub mod threads;
pub mod visible;
pub mod weight_forms;
pub mod worker_pools;
