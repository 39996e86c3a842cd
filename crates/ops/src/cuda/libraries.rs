//! Opens the libraries of CUDA, for a binary that is not linked against them.
#![expect(unsafe_code, reason = "opening a library runs code of it")]

use std::sync::OnceLock;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_LAZY};

/// NVIDIA's driver; where it is missing there is no GPU.
pub const DRIVER: &str = "libcuda.so.1";

/// What is needed, in an order in which each finds those that it needs itself, under the names of the versions that the
/// functions called here are the same in.
const LIBRARIES: [&[&str]; 5] = [
    &[DRIVER],
    &["libnvrtc.so.13", "libnvrtc.so.12"],
    &["libcublasLt.so.13", "libcublasLt.so.12"],
    &["libcublas.so.13", "libcublas.so.12"],
    &["libcurand.so.10"],
];

/// Opens what compiles kernels, alone.
///
/// # Errors
/// As [`open_libraries`].
pub(crate) fn open_compiler() -> Result<(), (&'static str, String)> {
    open_one(LIBRARIES[1])
}

/// Opens them once for the whole process; what comes of it is kept.
///
/// # Errors
/// The name of the first that cannot be opened, and why.
pub(crate) fn open_libraries() -> Result<(), (&'static str, String)> {
    static OPENED: OnceLock<Result<(), (&'static str, String)>> = OnceLock::new();
    OPENED.get_or_init(|| LIBRARIES.iter().try_for_each(|names| open_one(names))).clone()
}

fn open_one(names: &[&'static str]) -> Result<(), (&'static str, String)> {
    let mut first_error = None;
    for name in names {
        // SAFETY: these are the vendor's libraries, which may be opened in any process; they are never closed.
        // Their functions become visible to all: a binary that was linked without them finds them at its first calls.
        match unsafe { Library::open(Some(*name), RTLD_LAZY | RTLD_GLOBAL) } {
            Ok(library) => {
                std::mem::forget(library);
                return Ok(());
            }
            Err(error) => {
                first_error.get_or_insert((names[0], error.to_string()));
            }
        }
    }
    Err(first_error.unwrap_or((names[0], "it has no name".to_owned())))
}
