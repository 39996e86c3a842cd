//! Starts several processes of a program on this machine.

use std::collections::HashMap;
use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use base::bounded_file;
use base::error::failure;
use rustix::process::{Pid, Signal, geteuid, kill_process};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::mpi::{HOW_TO_INSTALL, LIBRARY_VARIABLE, opening_impossible};

/// How often signals and the end of the processes are looked for.
const LOOKING: Duration = Duration::from_millis(20);
/// Bytes that are read of a file of the system.
const MAX_BYTES: u64 = 1 << 16;

/// Which kind of `mpiexec` it is: they differ in their options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    OpenMpi,
    /// MPICH, Intel MPI and others.
    Hydra,
}

/// Starts `count` processes of the program on this machine with the `mpiexec` of the MPI that is there, and waits for
/// them. A first SIGINT or SIGTERM goes to the processes themselves, so that they stop as if each ran on its own: Open
/// MPI would kill them. A second one ends them all.
///
/// # Errors
/// No `mpiexec`; one that cannot be run. How the processes end is in the result.
pub fn processes_here(count: usize, program: &Path, args: &[OsString]) -> Result<ExitStatus> {
    if let Some(why) = opening_impossible() {
        return Err(failure(why, "use the binary for glibc, or train in one process"));
    }
    let mpiexec = find(&|name| env::var_os(name)).ok_or_else(|| {
        failure("no mpiexec, which starts several processes, is in PATH", format!("{HOW_TO_INSTALL}; then try again"))
    })?;
    let kind = kind(&mpiexec)?;
    let mut command = Command::new(&mpiexec);
    command.args(options(kind, count)).arg(program).args(args);
    // Away from the terminal: it would send Ctrl-C to mpiexec too, and stop one that reads from it.
    command.process_group(0).stdin(Stdio::null());
    if kind == Kind::OpenMpi && geteuid().is_root() {
        command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    }
    let mut signals = Vec::new();
    for (number, signal) in [(SIGINT, Signal::INT), (SIGTERM, Signal::TERM)] {
        let came = Arc::new(AtomicBool::new(false));
        let id = signal_hook::flag::register(number, Arc::clone(&came)).context("cannot wait for signals")?;
        signals.push((id, signal, came));
    }
    let mut child = command.spawn().with_context(|| format!("cannot run {}", mpiexec.display()))?;
    let launcher = Pid::from_child(&child);
    let mut is_first = true;
    let status = loop {
        if let Some(status) = child.try_wait().context("cannot wait for the processes")? {
            break status;
        }
        for (_, signal, came) in &signals {
            if came.swap(false, Ordering::Relaxed) {
                forward(launcher, *signal, program, is_first);
                is_first = false;
            }
        }
        std::thread::sleep(LOOKING);
    };
    for (id, ..) in signals {
        signal_hook::low_level::unregister(id);
    }
    Ok(status)
}

/// Sends a signal to the processes of the program, or to `mpiexec` if there are none or it is to end them.
fn forward(launcher: Pid, signal: Signal, program: &Path, is_first: bool) {
    let processes = if is_first { descendants(launcher, program) } else { Vec::new() };
    if processes.is_empty() {
        // One that has just ended needs no signal.
        let _ = kill_process(launcher, signal);
    }
    for process in processes {
        let _ = kill_process(process, signal);
    }
}

/// The processes below `root` that run the program.
fn descendants(root: Pid, program: &Path) -> Vec<Pid> {
    let Ok(program) = program.canonicalize() else { return Vec::new() };
    let Ok(entries) = Path::new("/proc").read_dir() else { return Vec::new() };
    let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let with_parent = ids.filter_map(|id| Some((id, parent(id)?)));
    let parents: HashMap<i32, i32> = with_parent.collect();
    let is_below = |mut id: i32| {
        // Processes start and end meanwhile, so the way up is bounded.
        for _ in 0..64 {
            match parents.get(&id) {
                Some(&parent) if parent == root.as_raw_nonzero().get() => return true,
                Some(&parent) => id = parent,
                None => return false,
            }
        }
        false
    };
    let runs_it = |id: i32| std::fs::read_link(format!("/proc/{id}/exe")).is_ok_and(|path| path == program);
    parents.keys().copied().filter(|&id| is_below(id) && runs_it(id)).filter_map(Pid::from_raw).collect()
}

fn parent(id: i32) -> Option<i32> {
    let text = bounded_file::read_text(format!("/proc/{id}/status").as_ref(), MAX_BYTES).ok()?;
    text.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

/// The `mpiexec` of the library that the user names, or the first in `PATH`.
fn find(get: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let named = get(LIBRARY_VARIABLE).filter(|named| !named.is_empty()).map(PathBuf::from);
    // A library is in PREFIX/lib, or deeper in the folders of Linux distributions.
    let of_library = named.iter().flat_map(|named| named.ancestors().take(5).map(|folder| folder.join("bin")));
    let library = named.as_deref().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
    let own_name = match library.as_str() {
        name if name.contains(".so.40") => "mpiexec.openmpi",
        "" => "mpiexec",
        _ => "mpiexec.mpich",
    };
    let of_system = get("PATH").map(|path| env::split_paths(&path).collect::<Vec<PathBuf>>()).unwrap_or_default();
    let folders: Vec<PathBuf> = of_library.chain(of_system).collect();
    let files = folders.iter().flat_map(|folder| [own_name, "mpiexec", "mpirun"].map(|name| folder.join(name)));
    files.into_iter().find(|path| path.is_file())
}

fn kind(mpiexec: &Path) -> Result<Kind> {
    let output = Command::new(mpiexec).arg("--version").stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot run {}", mpiexec.display()))?;
    let text = [output.stdout, output.stderr].concat();
    kind_of(&String::from_utf8_lossy(&text)).ok_or_else(|| {
        failure(
            format!("{} is the launcher of an unknown MPI", mpiexec.display()),
            format!("{HOW_TO_INSTALL}; or start the processes with its own options instead of --processes"),
        )
    })
}

/// What a launcher says when it is asked for its version.
fn kind_of(version: &str) -> Option<Kind> {
    let has = |names: &[&str]| names.iter().any(|name| version.contains(name));
    if has(&["Open MPI", "OpenRTE", "PRRTE", "prte"]) {
        Some(Kind::OpenMpi)
    } else if has(&["HYDRA", "Intel(R) MPI", "MPICH", "mpich", "MVAPICH"]) {
        Some(Kind::Hydra)
    } else {
        None
    }
}

fn options(kind: Kind, count: usize) -> Vec<String> {
    let options: &[&str] = match kind {
        // Otherwise each process gets one core, and there can be no more processes than cores.
        Kind::OpenMpi => &["--bind-to", "none", "--oversubscribe"],
        Kind::Hydra => &[],
    };
    ["-n", &count.to_string()].iter().chain(options).map(|&option| option.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn launchers_are_known_by_their_version() {
        assert_eq!(kind_of("mpiexec (Open MPI) 5.0.11\n\nReport bugs to ..."), Some(Kind::OpenMpi));
        assert_eq!(kind_of("mpirun (Open MPI) 4.1.4"), Some(Kind::OpenMpi));
        assert_eq!(kind_of("HYDRA build details:\n    Version: 5.0.2"), Some(Kind::Hydra));
        assert_eq!(kind_of("Intel(R) MPI Library for Linux* OS, Version 2021.11"), Some(Kind::Hydra));
        assert_eq!(kind_of("something else"), None);
    }

    #[test]
    fn the_launcher_of_the_named_library_comes_first() {
        let prefix = env::temp_dir().join(format!("caption-processes-start-{}", std::process::id()));
        for file in ["bin/mpiexec", "lib/deep/libmpi.so.40", "other/mpirun"] {
            let file = prefix.join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, "").unwrap();
        }
        let (library, path) = (prefix.join("lib/deep/libmpi.so.40"), prefix.join("other"));
        let get = |with_library: bool| {
            let (library, path) = (library.clone(), path.clone());
            move |name: &str| match name {
                "CAPTION_TRAIN_MPI" if with_library => Some(library.clone().into_os_string()),
                "PATH" => Some(path.clone().into_os_string()),
                _ => None,
            }
        };
        assert_eq!(find(&get(true)), Some(prefix.join("bin/mpiexec")));
        assert_eq!(find(&get(false)), Some(prefix.join("other/mpirun")));
        assert_eq!(find(&|_| None), None);
        std::fs::remove_dir_all(prefix).unwrap();
    }
}
