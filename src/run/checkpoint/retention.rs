//! Which checkpoints may go when a new one has been written: a pure function of their names.

use crate::run::checkpoint_names::{LAST, number_of_best, step_of_file_name};

/// The names among `files` to delete so that the newest `keep_best` best checkpoints, one at least, and the newest
/// `keep_last` checkpoints of save points stay. Other names are never given.
///
/// Each best checkpoint is better than all before it, so the newest are the best. The newest save point is [`LAST`], so
/// that no numbered one is needed where only one is kept.
pub fn to_delete(files: &[String], keep_best: usize, keep_last: usize) -> Vec<&String> {
    let is_last_there = files.iter().any(|name| name == LAST);
    let keep_numbered = if is_last_there && keep_last <= 1 { 0 } else { keep_last.max(1) };
    let mut old = all_but_newest(files, number_of_best, keep_best.max(1));
    old.extend(all_but_newest(files, step_of_file_name, keep_numbered));
    old
}

fn all_but_newest(files: &[String], number: fn(&str) -> Option<u64>, keep: usize) -> Vec<&String> {
    let mut found: Vec<(u64, &String)> =
        files.iter().filter_map(|name| number(name).map(|number| (number, name))).collect();
    found.sort_unstable();
    let num_old = found.len().saturating_sub(keep);
    found.into_iter().take(num_old).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bests_by_update_go_in_the_order_of_the_updates() {
        let names = [200, 0, 1000, 400].map(|update| format!("checkpoint_update_{update}_val_loss_2.5000.safetensors"));
        assert_eq!(to_delete(&names, 1, 1), [&names[1], &names[0], &names[3]]);
    }

    #[test]
    fn the_newest_stay_and_foreign_files_are_never_named() {
        let names = [
            "checkpoint_epoch_10_val_loss_2.0000.safetensors",
            "checkpoint_epoch_9_val_loss_2.1000.safetensors",
            "checkpoint_epoch_2_val_loss_3.0000.safetensors",
            "last.safetensors",
            "last_step_100.safetensors",
            "last_step_99.safetensors",
            "last_step_9.safetensors.12.partial",
            "checkpoint_epoch_x.safetensors",
            "checkpoint_epoch_1_val_loss_5.5821-backup.safetensors",
            "checkpoint_epoch_1_val_loss_my-favourite.safetensors",
            "checkpoint_epoch_01_val_loss_9.0000.safetensors",
            "last_step_005.safetensors",
        ]
        .map(str::to_owned);
        assert_eq!(to_delete(&names, 2, 2), [&names[2]]);
        assert_eq!(to_delete(&names, 1, 1), [&names[2], &names[1], &names[5], &names[4]]);
        let without_last = names.iter().filter(|name| *name != LAST).cloned().collect::<Vec<_>>();
        assert_eq!(to_delete(&without_last, 0, 0).len(), 3, "the only good one is never deleted");
    }
}
