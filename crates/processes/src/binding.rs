//! Whether the processes of a machine were bound to fewer cores than each could have: `mpirun` of Open MPI binds each to
//! one core when there are two, and the compute threads of the program would share it.

use base::bounded_file;

/// Bytes of a file of the system, more than enough.
const MAX_BYTES: u64 = 1 << 20;

/// The cores that this process may use; a limit on the time of processors, as containers have, is none on cores.
pub fn affinity() -> usize {
    #[cfg(target_os = "linux")]
    if let Ok(set) = rustix::thread::sched_getaffinity(None) {
        return set.count() as usize;
    }
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// The cores that a process may use, as the system lists them, such as `0-3,8`.
fn allowed(process: &str) -> Option<String> {
    let text = bounded_file::read_text(format!("/proc/{process}/status").as_ref(), MAX_BYTES).ok()?;
    let list = text.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    Some(list.trim().to_owned())
}

/// Those of this process; empty where the system does not say.
pub(crate) fn own_cores() -> String {
    allowed("self").unwrap_or_default()
}

/// The cores that the processes of this machine have together: what the program that started this one may use, which is
/// not bound itself. Less than the machine has in a container, for example.
pub fn cores() -> usize {
    let parent = rustix::process::getppid().map(|parent| parent.as_raw_nonzero().get());
    let of_parent = parent.and_then(|parent| count(&allowed(&parent.to_string())?));
    of_parent.unwrap_or_else(affinity)
}

/// The number of cores in a list of the system, such as `0-3,8`.
fn count(list: &str) -> Option<usize> {
    let part = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        (last + 1).checked_sub(first)
    };
    list.trim().split(',').map(part).sum()
}

/// A warning if a process may use so few cores (`affinity`) that some of the `cores` are idle with `local_size`
/// processes on this machine.
pub fn binding_warning(local_size: usize, affinity: usize, cores: usize) -> Option<String> {
    let share = cores / local_size.max(1);
    (affinity < share).then(|| {
        let was = if affinity == 1 { "1 core".to_owned() } else { format!("{affinity} cores") };
        format!(
            "each process is bound to {was}, although {local_size} processes on {cores} cores could have {share} each: \
             start them with `mpirun --bind-to none` (Open MPI), `mpiexec -bind-to none` (MPICH), I_MPI_PIN=off (Intel \
             MPI) or `srun --cpu-bind=none`"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_less_than_its_share_is_told_the_flag() {
        assert!(binding_warning(2, 1, 16).unwrap().contains("bound to 1 core, although 2 processes on 16 cores"));
        assert!(binding_warning(2, 7, 16).unwrap().contains("--bind-to none"));
        for (local_size, affinity, cores) in [(2, 8, 16), (2, 16, 16), (4, 1, 2), (3, 5, 16), (1, 1, 1)] {
            assert_eq!(binding_warning(local_size, affinity, cores), None);
        }
    }

    #[test]
    fn the_lists_of_the_system_are_counted() {
        assert_eq!((count("\t0-3,8\n"), count("5"), count("0-63")), (Some(5), Some(1), Some(64)));
        assert_eq!((count(""), count("3-1"), count("x")), (None, None, None));
        assert!(cores() >= 1);
    }
}
