//! Names of the files in a run's `checkpoints/`.

use crate::training::train_state::TrainState;

/// File name of the checkpoint of the best model that a run had at this state; `None` before its first validation. A run
/// that counts its validations by updates has its bests by update.
pub fn best_file_name(state: &TrainState) -> Option<String> {
    let val_loss = state.best_val_loss?;
    Some(match state.best_update {
        Some(update) => of_best("update", update, val_loss),
        None => of_best("epoch", state.best_epoch, val_loss),
    })
}

fn of_best(unit: &str, number: u64, val_loss: f64) -> String {
    format!("checkpoint_{unit}_{number}_val_loss_{val_loss:.4}.safetensors")
}

/// File name of the newest save point.
pub const LAST: &str = "last.safetensors";

/// File name under which the checkpoint of a save point stays when a newer one has taken the name `last.safetensors`.
pub fn step_file_name(global_step: u64) -> String {
    format!("last_step_{global_step}.safetensors")
}

/// Update in such a file name; `None` for other names.
pub fn step_of_file_name(name: &str) -> Option<u64> {
    let step = name.strip_prefix("last_step_")?.strip_suffix(".safetensors")?.parse().ok()?;
    (step_file_name(step) == name).then_some(step)
}

/// Epoch or update in the file name of a best checkpoint; `None` for other names.
pub fn number_of_best(name: &str) -> Option<u64> {
    let rest = name.strip_prefix("checkpoint_")?.strip_suffix(".safetensors")?;
    let (unit, rest) = rest.split_once('_').filter(|(unit, _)| ["epoch", "update"].contains(unit))?;
    let (number, loss) = rest.split_once("_val_loss_")?;
    let (number, loss) = (number.parse().ok()?, loss.parse().ok()?);
    // A copy that the user keeps has another name.
    (of_best(unit, number, loss) == name).then_some(number)
}
