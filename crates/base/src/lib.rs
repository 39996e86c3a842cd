//! Layer 0: what every other layer may use and what uses none of them.

/// The name of the program, as it signs files and requests.
pub const PROGRAM: &str = "caption-train";
/// Its version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

pub mod atomic_file;
pub mod bounded_file;
pub mod clock;
pub mod credentials;
pub mod digest;
pub mod disk;
pub mod fault;
pub mod home;
pub mod lock;
pub mod memory;
pub mod place;
pub mod process;
pub mod protobuf;
pub mod quoting;
pub mod random;
pub mod simd;
pub mod stop;
pub mod system_usage;
pub mod team;
pub mod terminal;
pub mod threads;
pub mod visible;
