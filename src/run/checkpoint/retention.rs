//! Which checkpoints may go when a new best is written: a pure function of their names.

use crate::run::checkpoint::layout::epoch_of_file_name;

/// The names among `files` to delete so that the newest `keep_best` best checkpoints stay. Other names are never given.
///
/// Each best checkpoint is better than all before it, so the newest are the best.
pub fn to_delete(files: &[String], keep_best: usize) -> Vec<&String> {
    let mut best: Vec<(u64, &String)> =
        files.iter().filter_map(|name| epoch_of_file_name(name).map(|epoch| (epoch, name))).collect();
    best.sort_unstable();
    let keep = keep_best.max(1);
    best.iter().take(best.len().saturating_sub(keep)).map(|(_, name)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_stay_and_foreign_files_are_never_named() {
        let names = [
            "checkpoint_epoch_10_val_loss_2.0000.safetensors",
            "checkpoint_epoch_9_val_loss_2.1000.safetensors",
            "checkpoint_epoch_2_val_loss_3.0000.safetensors",
            "last.safetensors",
            "checkpoint_epoch_x.safetensors",
        ]
        .map(str::to_owned);
        assert_eq!(to_delete(&names, 2), [&names[2]]);
        assert_eq!(to_delete(&names, 1), [&names[2], &names[1]]);
        assert_eq!(to_delete(&names, 0).len(), 2, "the only good one is never deleted");
    }
}
