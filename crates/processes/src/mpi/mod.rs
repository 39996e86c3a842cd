//! The MPI library of the machine: found and opened at run time, so the program starts without one.
//!
//! There are three binary interfaces, which differ in what a handle is and in the values of constants ([`Family`]). The
//! functions called here are the same in all of them otherwise.

mod calls;
mod find;

pub(crate) use calls::Mpi;
pub use find::LIBRARY_VARIABLE;
pub(crate) use find::{HOW_TO_INSTALL, opening_impossible};

use base::error::failure;

/// An MPI library that was opened.
#[derive(Clone, Debug)]
pub(crate) struct Library {
    /// Where it was found.
    pub(crate) path: String,
    /// The first line of what it says of itself.
    pub(crate) version: String,
}

/// A binary interface of MPI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// Open MPI 4 and 5: `libmpi.so.40`. Handles are addresses of variables.
    OpenMpi,
    /// MPICH, Intel MPI, MVAPICH, Cray MPICH: `libmpi.so.12`. Handles are integers.
    Mpich,
    /// The binary interface that MPI 5 defines: `libmpi_abi.so`. Handles are constants of the size of a pointer.
    Standard,
}

impl Family {
    /// The family of a library, by the name of its file and what it says of itself.
    ///
    /// # Errors
    /// A library that is known under neither.
    pub(crate) fn of(file_name: &str, version: &str) -> anyhow::Result<Self> {
        if file_name.starts_with("libmpi_abi") {
            return Ok(Self::Standard);
        }
        let version_has = |names: &[&str]| names.iter().any(|name| version.contains(name));
        let family = if version_has(&["Open MPI"]) {
            Self::OpenMpi
        } else if version_has(&["MPICH", "Intel(R) MPI", "MVAPICH"]) {
            Self::Mpich
        } else {
            return Err(failure(
                format!("the MPI library {file_name} is of an unknown kind: {}", first_line(version)),
                format!(
                    "set {LIBRARY_VARIABLE} to the library of Open MPI 4 or 5 (libmpi.so.40), of MPICH 3 or later or \
                     Intel MPI (libmpi.so.12), or to one with the binary interface of MPI 5 (libmpi_abi.so)"
                ),
            ));
        };
        // Another major version of either has other handles.
        let other = match family {
            Self::OpenMpi => file_name.strip_prefix("libmpi.so.").filter(|number| !number.starts_with("40")),
            _ => file_name.strip_prefix("libmpi.so.").filter(|number| !number.starts_with("12")),
        };
        match other {
            None => Ok(family),
            Some(_) => Err(failure(
                format!("the MPI library {file_name} has an unknown binary interface: {}", first_line(version)),
                format!("set {LIBRARY_VARIABLE} to a libmpi.so.40 of Open MPI or a libmpi.so.12 of MPICH"),
            )),
        }
    }
}

pub(crate) fn first_line(version: &str) -> &str {
    version.lines().next().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use base::error::describe;

    use super::*;

    #[test]
    fn a_library_is_known_by_its_name_and_by_what_it_says() {
        let family = |name, version| Family::of(name, version).unwrap();
        assert_eq!(family("libmpi.so.40", "Open MPI v5.0.11, package: ..."), Family::OpenMpi);
        assert_eq!(family("libmpi.so", "Open MPI v4.1.4"), Family::OpenMpi);
        assert_eq!(family("libmpi.so.40.30.4", "Open MPI v4.1.4"), Family::OpenMpi);
        assert_eq!(family("libmpi.so.12", "MPICH Version:      5.0.2\nMPICH ..."), Family::Mpich);
        assert_eq!(family("libmpi.so.12", "Intel(R) MPI Library 2021.11 for Linux* OS"), Family::Mpich);
        assert_eq!(family("libmpi.so.12", "MVAPICH2 Version      :\t2.3.7"), Family::Mpich);
        assert_eq!(family("libmpi_abi.so.1", "MPICH Version:      5.0.2"), Family::Standard);
        assert_eq!(family("libmpi_abi.so.0", "Open MPI v6.0.0"), Family::Standard);
    }

    #[test]
    fn a_library_with_unknown_handles_is_refused() {
        let refusal = |name, version| describe(&Family::of(name, version).unwrap_err());
        assert!(
            refusal("libmpi.so.3", "Some MPI 1.0\nmore").contains("libmpi.so.3 is of an unknown kind: Some MPI 1.0")
        );
        assert!(refusal("libmpi.so.80", "Open MPI v6.0.0").contains("unknown binary interface"));
        assert!(refusal("libmpi.so.20", "Open MPI v2.1.0").contains("unknown binary interface"));
    }
}
