//! Whether memory and disk suffice for a run, before it begins.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use crate::run::run_directory::RunDirectory;
use crate::run::setup::Setup;
use crate::training::forecast::{self, BatchSizes, MemoryForecast};
use base::{disk, memory};

/// The memory that a run needs in addition to what this process uses now.
pub fn memory_forecast(setup: &Setup) -> MemoryForecast {
    let largest = forecast::largest_batch(&setup.plan, &setup.train);
    let moments = setup.optimizer.moments().map(|(_, moments)| 2 * moments.exp_avg.elem_count()).sum();
    forecast::memory(&setup.plan, largest, memory::resident_bytes(), moments)
}

/// The sizes of the largest part of a batch.
pub fn largest_part(setup: &Setup) -> BatchSizes {
    let largest = forecast::largest_batch(&setup.plan, &setup.train);
    largest.part(largest.examples.div_ceil(setup.plan.num_parts))
}

/// Why the machine's memory does not suffice. `None`: it does, or the system does not say; that of a GPU is not
/// forecast.
pub fn memory_complaint(setup: &Setup) -> Option<String> {
    if setup.plan.gpu.is_some() {
        return None;
    }
    memory_forecast(setup).complaint(memory::available_bytes()?)
}

/// Why the disk has too little space for the checkpoints that are kept and the one being written. `None`: it will, or
/// the system does not say.
pub fn disk_complaint(setup: &Setup, run: &RunDirectory) -> Option<String> {
    let (plan, kept) = (&setup.plan, &setup.plan.config.checkpoint);
    let one = (size_of::<f32>() * (plan.num_parameters + 2 * plan.num_trainable_parameters)) as u64;
    // No run writes more of them than it has updates, its first and the one that is not renamed yet.
    let most = (kept.keep_best as u64 + kept.keep_last as u64 + 1).min(2 * plan.total_updates + 2);
    let (needed, free) = (one.saturating_mul(most), disk::free_bytes(run.path())?);
    lack_of_room(needed, bytes_of_checkpoints(run), free, run.path())
}

/// `taken` bytes of what is `needed` lie on the disk already.
fn lack_of_room(needed: u64, taken: u64, free: u64, folder: &Path) -> Option<String> {
    (needed > free.saturating_add(taken)).then(|| {
        format!(
            "the run's checkpoints may take {:.2} GB; {:.2} GB of them are already there, but only {:.2} GB are free \
             in {}: free some space, lower checkpoint.keep_best and checkpoint.keep_last, or set output_dir elsewhere",
            needed as f64 / base::GIGABYTE,
            taken as f64 / base::GIGABYTE,
            free as f64 / base::GIGABYTE,
            folder.display()
        )
    })
}

/// Bytes of the run's checkpoints; two names of one file count once.
fn bytes_of_checkpoints(run: &RunDirectory) -> u64 {
    let entries = fs::read_dir(run.checkpoints()).into_iter().flatten().flatten();
    let sizes: HashMap<_, u64> = entries
        .filter_map(|entry| entry.metadata().ok().map(|metadata| (identity(&entry, &metadata), metadata.len())))
        .collect();
    sizes.values().sum()
}

#[cfg(unix)]
fn identity(_: &fs::DirEntry, metadata: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn identity(entry: &fs::DirEntry, _: &fs::Metadata) -> std::ffi::OsString {
    entry.file_name()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lack_of_room_is_a_warning_and_checkpoints_that_are_there_count_as_room() {
        const GB: u64 = 1_000_000_000;
        let lack = |taken, free| lack_of_room(4 * GB, taken, free, Path::new("runs/a"));
        let text = lack(GB, 2 * GB).unwrap();
        assert!(
            text.contains("may take 4.00 GB; 1.00 GB of them are already there, but only 2.00 GB are free in runs/a"),
            "{text}"
        );
        assert_eq!((lack(GB, 3 * GB), lack(0, 4 * GB)), (None, None));
    }

    #[test]
    fn two_names_of_one_checkpoint_take_its_room_once() {
        let output = tempfile::tempdir().unwrap();
        let run = RunDirectory::create(output.path(), "run").unwrap();
        fs::write(run.last_checkpoint(), [0; 100]).unwrap();
        fs::write(run.checkpoints().join("other.safetensors"), [0; 10]).unwrap();
        base::atomic_file::link_or_copy(&run.last_checkpoint(), &run.checkpoints().join("second")).unwrap();
        assert_eq!(bytes_of_checkpoints(&run), 110);
    }
}
