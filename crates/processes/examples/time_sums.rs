//! Times the sum of 25 million floats (100 MB) over processes, in our order and in MPI's, in turns:
//! `mpirun -n 2 --bind-to none target/release/examples/time_sums`. An argument is another number of floats.

use std::time::Instant;

use anyhow::Result;
use caption_processes::{Launch, World};

const ROUNDS: usize = 11;

fn main() -> Result<()> {
    let length = std::env::args().nth(1).map_or(Ok(25_000_000), |text| text.parse())?;
    let launch = Launch::of_environment(&|name| std::env::var(name).ok())?;
    let world = World::open(&launch.ok_or_else(|| anyhow::anyhow!("start this with mpirun"))?)?;
    let mut values = vec![world.rank() as f32; length];
    let mut times: [Vec<f64>; 2] = Default::default();
    for round in 0..ROUNDS {
        for which in [round % 2, 1 - round % 2] {
            world.barrier()?;
            values.fill(1.0);
            let started = Instant::now();
            if which == 0 {
                world.sum_f32(&mut values)?
            } else {
                world.sum_f32_fast(&mut values)?
            }
            times[which].push(started.elapsed().as_secs_f64());
        }
    }
    for times in &mut times {
        times.sort_by(f64::total_cmp);
    }
    let [ours, theirs] = times.map(|times| 1e3 * times[ROUNDS / 2]);
    if world.rank() == 0 {
        base::terminal::data(&format!(
            "{}: {length} floats, {} processes: exact {ours:.2} ms, MPI_Allreduce {theirs:.2} ms",
            world.library(),
            world.size()
        ))?;
    }
    world.finish()
}
