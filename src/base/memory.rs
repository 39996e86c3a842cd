//! How much memory the process has used, as the operating system counts it.

/// Largest resident size so far in bytes; nothing where the system does not tell (it is read from `/proc`).
pub fn peak_resident_bytes() -> Option<u64> {
    status("VmHWM:")
}

/// Resident size now in bytes; nothing where the system does not tell.
pub fn resident_bytes() -> Option<u64> {
    status("VmRSS:")
}

fn status(key: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #[test]
    fn the_peak_is_at_least_what_is_resident_and_that_is_more_than_a_megabyte() {
        let resident = super::resident_bytes().unwrap();
        assert!(resident > 1 << 20);
        assert!(super::peak_resident_bytes().unwrap() >= resident);
    }
}
