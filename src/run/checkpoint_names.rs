//! Names of the files in a run's `checkpoints/`.

/// File name of the checkpoint of a new best.
pub fn best_file_name(epoch: u64, val_loss: f64) -> String {
    format!("checkpoint_epoch_{epoch}_val_loss_{val_loss:.4}.safetensors")
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

/// Epoch in the file name of a best checkpoint; `None` for other names.
pub fn epoch_of_file_name(name: &str) -> Option<u64> {
    let rest = name.strip_prefix("checkpoint_epoch_")?.strip_suffix(".safetensors")?;
    let (epoch, loss) = rest.split_once("_val_loss_")?;
    let (epoch, loss) = (epoch.parse().ok()?, loss.parse().ok()?);
    // A copy that the user keeps has another name.
    (best_file_name(epoch, loss) == name).then_some(epoch)
}
