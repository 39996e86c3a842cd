//! How much memory the process uses and may still use, as counted by the operating system.
//!
//! Not from the crate `sysinfo`: it has neither the peak nor the limit of the address space, and its free memory of a
//! control group counts droppable file pages as used, of which reading data makes many.

use std::fs;
use std::path::{Path, PathBuf};

/// Largest resident size so far in bytes; `None` if unknown, as for all values here on systems without `/proc`.
pub fn peak_resident_bytes() -> Option<u64> {
    status("VmHWM:")
}

/// Current resident size in bytes.
pub fn resident_bytes() -> Option<u64> {
    status("VmRSS:")
}

/// Bytes that can still be allocated before the system swaps or a limit of the process's control group (a container)
/// ends it.
pub fn available_bytes() -> Option<u64> {
    let system = kibibytes(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")?;
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let group = groups(&own).iter().filter_map(|folder| group_available(folder)).min();
    Some(group.map_or(system, |group| group.min(system)))
}

/// The machine's memory in bytes.
pub fn total_bytes() -> Option<u64> {
    kibibytes(&fs::read_to_string("/proc/meminfo").ok()?, "MemTotal:")
}

/// The most memory the process may use, in bytes: that of the machine, or less if a control group (a container) or a
/// limit of its address space allows less.
pub fn capacity_bytes() -> Option<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let group = groups(&own).iter().filter_map(|folder| group_limit(folder)).min();
    let space = fs::read_to_string("/proc/self/limits").ok().and_then(|text| address_space(&text));
    Some([group, space].into_iter().flatten().fold(total_bytes()?, u64::min))
}

/// Bytes of address space that the process may still map, if there is a limit (`ulimit -v`).
pub fn address_space_left() -> Option<u64> {
    let limit = address_space(&fs::read_to_string("/proc/self/limits").ok()?)?;
    Some(limit.saturating_sub(status("VmSize:")?))
}

/// The limit of `ulimit -v`, from `/proc/self/limits`.
fn address_space(limits: &str) -> Option<u64> {
    limits.lines().find_map(|line| line.strip_prefix("Max address space"))?.split_whitespace().next()?.parse().ok()
}

fn status(key: &str) -> Option<u64> {
    kibibytes(&fs::read_to_string("/proc/self/status").ok()?, key)
}

fn kibibytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// Folders of the control groups that limit the process, from `/proc/self/cgroup`: for version 2 the group and its
/// ancestors, for version 1 the one for memory. Inside a container the path may be that of the host, and the group is
/// the root of what is mounted.
fn groups(own: &str) -> Vec<PathBuf> {
    let mut folders = vec![PathBuf::from("/sys/fs/cgroup"), PathBuf::from("/sys/fs/cgroup/memory")];
    for line in own.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let path = Path::new(path.trim_start_matches('/'));
        if controllers.is_empty() {
            let above = path.ancestors().filter(|path| !path.as_os_str().is_empty());
            folders.extend(above.map(|path| Path::new("/sys/fs/cgroup").join(path)));
        } else if controllers.split(',').any(|controller| controller == "memory") {
            folders.push(Path::new("/sys/fs/cgroup/memory").join(path));
        }
    }
    folders
}

/// Bytes that a control group can still allocate: its limit minus its usage without droppable file pages. `None`
/// without a limit.
fn group_available(folder: &Path) -> Option<u64> {
    let limit = group_limit(folder)?;
    let used = number(folder, "memory.current").or_else(|| number(folder, "memory.usage_in_bytes"))?;
    let statistics = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let of = |key: &str| statistics.lines().find_map(|line| line.strip_prefix(key)?.trim().parse::<u64>().ok());
    let droppable = of("total_inactive_file ").or_else(|| of("inactive_file ")).unwrap_or(0);
    Some(limit.saturating_sub(used.saturating_sub(droppable)))
}

/// The limit of a control group, if it has one.
fn group_limit(folder: &Path) -> Option<u64> {
    number(folder, "memory.max").or_else(|| number(folder, "memory.limit_in_bytes"))
}

fn number(folder: &Path, name: &str) -> Option<u64> {
    fs::read_to_string(folder.join(name)).ok()?.trim().parse().ok()
}

/// Whether an error says that the memory of a GPU is full. The driver's and cuBLAS's codes arrive as text through the
/// layers above them.
pub fn is_gpu_full(error: &anyhow::Error) -> bool {
    let codes = ["OUT_OF_MEMORY", "CUBLAS_STATUS_ALLOC_FAILED"];
    error.chain().map(ToString::to_string).any(|link| codes.iter().any(|code| link.contains(code)))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_full_gpu_is_recognized_by_the_codes_of_its_libraries() {
        let said = |text: &'static str| anyhow::anyhow!(text).context("update 3");
        assert!(is_gpu_full(&said("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")")));
        assert!(is_gpu_full(&said("CublasError(CUBLAS_STATUS_ALLOC_FAILED)")));
        assert!(!is_gpu_full(&said("DriverError(CUDA_ERROR_UNKNOWN)")));
    }

    #[test]
    fn the_peak_is_at_least_what_is_resident_and_that_is_more_than_a_megabyte() {
        let resident = resident_bytes().unwrap();
        assert!(resident > 1 << 20);
        assert!(peak_resident_bytes().unwrap() >= resident);
    }

    #[test]
    fn what_is_available_is_at_most_what_the_machine_has() {
        let total = total_bytes().unwrap();
        assert!((1..=total).contains(&available_bytes().unwrap()));
        assert!((1..=total).contains(&capacity_bytes().unwrap()));
    }

    #[test]
    fn a_limit_of_the_address_space_is_read() {
        let line = |limit: &str| {
            format!("Limit  Soft Limit  Hard Limit  Units\nMax address space  {limit}  unlimited  bytes\n")
        };
        assert_eq!(address_space(&line("2097152000")), Some(2_097_152_000));
        assert_eq!(address_space(&line("unlimited")), None);
    }

    #[test]
    fn a_control_group_limits_what_is_available() {
        let folder = tempfile::tempdir().unwrap();
        let write =
            |name: &str, text: &str| crate::atomic_file::write(&folder.path().join(name), text.as_bytes()).unwrap();
        assert_eq!(group_available(folder.path()), None);
        write("memory.max", "max\n");
        write("memory.current", "3000\n");
        assert_eq!(group_available(folder.path()), None, "no limit");
        write("memory.max", "10000\n");
        assert_eq!(group_available(folder.path()), Some(7000));
        assert_eq!(group_limit(folder.path()), Some(10_000));
        write("memory.stat", "anon 1\ninactive_file 500\n");
        assert_eq!(group_available(folder.path()), Some(7500));
        write("memory.current", "20000\n");
        assert_eq!(group_available(folder.path()), Some(0));
    }

    #[test]
    fn the_groups_of_a_process_are_its_own_and_those_above_it() {
        let found = groups("12:cpu,memory:/docker/ab\n3:cpuset:/\n0::/user.slice/one.scope\n");
        let path = |name: &str| PathBuf::from("/sys/fs/cgroup").join(name);
        for name in ["", "memory/docker/ab", "user.slice/one.scope", "user.slice"] {
            assert!(found.contains(&path(name)), "{name}: {found:?}");
        }
    }
}
