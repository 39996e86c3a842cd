//! The loop. Emits events; opens neither output files nor sockets.

pub mod alarms;
pub mod captioned_split;
pub mod checkpointer;
pub mod collective;
pub mod events;
pub mod forecast;
mod gpu_memory;
pub mod gradients;
pub mod loss;
pub mod loss_watch;
pub mod optimizer;
mod outputs;
pub mod pace;
pub mod plan;
mod plan_text;
pub mod reward_sums;
pub mod reward_watch;
pub mod rewards;
pub mod schedule;
pub mod segments;
pub mod self_critical;
pub mod shared_captions;
pub mod stopwatch;
pub mod train_state;
pub mod train_step;
pub mod trainer;
pub mod tree_sum;
