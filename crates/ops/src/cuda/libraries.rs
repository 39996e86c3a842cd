//! Opens the libraries of CUDA: the binary is not linked against them.
#![expect(unsafe_code, reason = "opening a library runs its code")]

use std::sync::OnceLock;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_LAZY};

/// NVIDIA's driver; without it there is no GPU.
pub const DRIVER: &str = "libcuda.so.1";

/// The libraries, each after those that it needs itself. The functions called here are the same in all versions listed.
const LIBRARIES: [&[&str]; 5] = [
    &[DRIVER],
    &["libnvrtc.so.13", "libnvrtc.so.12"],
    &["libcublasLt.so.13", "libcublasLt.so.12"],
    &["libcublas.so.13", "libcublas.so.12"],
    &["libcurand.so.10"],
];

/// Opens only the compiler of kernels.
pub(crate) fn open_compiler() -> Result<(), (&'static str, String)> {
    open_one(LIBRARIES[1])
}

/// Opens all libraries once for the whole process.
///
/// # Errors
/// The name of the first library that cannot be opened, and why.
pub(crate) fn open_libraries() -> Result<(), (&'static str, String)> {
    static OPENED: OnceLock<Result<(), (&'static str, String)>> = OnceLock::new();
    OPENED.get_or_init(|| LIBRARIES.iter().try_for_each(|names| open_one(names))).clone()
}

fn open_one(names: &[&'static str]) -> Result<(), (&'static str, String)> {
    let mut first_error = None;
    for name in names {
        // SAFETY: these are the vendor's libraries, which may be opened in any process; they are never closed.
        // RTLD_GLOBAL makes their functions visible: a binary that was linked without them finds them at the first
        // calls.
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
