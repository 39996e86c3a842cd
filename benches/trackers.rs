//! What logging to Weights & Biases adds to a step: off, to a file, to a server that answers, to one that is dead. A
//! step is some milliseconds of products here, and something is sent all the time. The four are measured in turn,
//! several rounds; the median is shown.
//!
//!     cargo bench --bench trackers

#![expect(clippy::disallowed_methods, reason = "a bench writes files of its own")]

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use candle_core::{Device, Tensor};
use serde_json::{Map, Value};
use wandb::{Context, Metadata, Options, Run, Settings, number};

#[path = "../crates/wandb/src/tests/recorder.rs"]
#[expect(dead_code, clippy::unwrap_used, reason = "the client's own tests need all of it")]
mod recorder;

use recorder::Recorder;

const KEY: &str = "0123456789abcdef0123456789abcdef01234567";
const NUM_UPDATES: u64 = 40;
const NUM_ROUNDS: usize = 9;
/// Rows and columns of what is multiplied in a step.
const SIDE: usize = 512;

#[derive(Clone, Copy, Debug)]
enum Server {
    Off,
    File,
    Healthy,
    Dead,
}

fn start(server: Server, folder: &Path) -> Result<(Run, Option<Recorder>)> {
    let recorder = matches!(server, Server::Healthy).then(Recorder::start);
    let url = recorder.as_ref().map_or_else(test_server::closed_address, |recorder| recorder.url.clone());
    let mode = match server {
        Server::Off => "disabled",
        Server::File => "offline",
        Server::Healthy | Server::Dead => "online",
    };
    let environment = |name: &str| match name {
        "WANDB_MODE" => Some(mode.to_owned()),
        "WANDB_BASE_URL" => Some(url.clone()),
        "WANDB_API_KEY" => Some(KEY.to_owned()),
        _ => None,
    };
    let settings = Settings::resolve(&Options::default(), folder, &environment)?;
    let mut context = Context::real(Arc::new(|_, _| {}));
    context.pace.interval = Duration::from_millis(5);
    context.pace.min_retry_wait = Duration::from_millis(5);
    context.pace.max_retry_wait = Duration::from_millis(5);
    context.pace.connect_wait = Duration::from_secs(1);
    let run = Run::start(&settings, &Metadata::default(), None, context)?;
    Ok((run, recorder))
}

/// Milliseconds for a step that is logged.
fn measure(run: &mut Run, first: u64) -> Result<f64> {
    let matrix = Tensor::full(0.5f32, (SIDE, SIDE), &Device::Cpu)?;
    let started = Instant::now();
    for step in first..first + NUM_UPDATES {
        matrix.matmul(&matrix)?.matmul(&matrix)?;
        let names = ["train/loss", "train/learning_rate", "train/grad_norm", "train/images_per_second"];
        let values: Map<String, Value> =
            names.iter().map(|name| ((*name).to_owned(), number(1.0 / step as f64))).collect();
        run.log(step, &values)?;
    }
    Ok(started.elapsed().as_secs_f64() * 1e3 / NUM_UPDATES as f64)
}

fn main() -> Result<()> {
    let servers = [Server::Off, Server::File, Server::Healthy, Server::Dead];
    let folder = tempfile::tempdir()?;
    let mut runs = Vec::new();
    for server in servers {
        let (run, recorder) = start(server, &folder.path().join(format!("{server:?}")))?;
        runs.push((server, run, recorder, Vec::new()));
    }
    for round in 0..NUM_ROUNDS as u64 {
        for (_, run, _, times) in &mut runs {
            times.push(measure(run, 1 + round * NUM_UPDATES)?);
        }
    }
    let mut out = std::io::stdout();
    for (server, run, recorder, mut times) in runs {
        times.sort_by(f64::total_cmp);
        writeln!(out, "{server:?}: {:.2} ms for a step", times[NUM_ROUNDS / 2])?;
        // The dead one is not waited for.
        if matches!(server, Server::Dead) {
            drop(run)
        } else {
            run.finish(0)?
        }
        drop(recorder);
    }
    Ok(())
}
