//! Layer 4: the loop. Emits events; opens no output file and no socket of its own.

pub mod alarms;
pub mod captioned_split;
pub mod checkpointer;
pub mod events;
pub mod forecast;
pub mod gradients;
pub mod loss_watch;
pub mod optimizer;
pub mod plan;
pub mod schedule;
pub mod segments;
pub mod train_state;
pub mod train_step;
pub mod trainer;
