//! `caption-train plan`: what a run would do and need. Trains nothing and creates no run; a data set that is absent and
//! can be prepared is prepared, since the forecast needs its captions and images.

use std::path::PathBuf;
use std::rc::Rc;

use anyhow::Result;

use crate::commands::device::training_device;
use crate::commands::given_paths::path_argument;
use crate::commands::processes::Connected;
use crate::commands::train::{fresh_setup, settle};
use crate::config;
use crate::data::image_source::ImageSource;
use crate::run::capacity::{largest_part, memory_forecast};
use crate::training::collective::in_turns;
use crate::training::{pace, stopwatch};
use base::memory;
use base::terminal;
use base::worker_pools::WorkerPools;

/// Says what a run would do, with parameter counts, predicted memory and step time.
#[derive(Clone, Debug, clap::Args)]
pub struct PlanArgs {
    /// The run's config file
    #[arg(long, value_name = "FILE", value_parser = path_argument())]
    pub config: PathBuf,
    /// Override a value of the config; may be repeated
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub overrides: Vec<String>,
}

/// Prints the resolved config and the forecast, of this process and those that were started with it.
///
/// # Errors
/// Errors of setting up the run.
pub(crate) fn run(args: &PlanArgs, processes: &Connected) -> Result<()> {
    processes.part(plan(args, processes))
}

fn plan(args: &PlanArgs, processes: &Connected) -> Result<()> {
    let collective = &processes.collective;
    let load = || settle(config::load(&args.config, &args.overrides)?, &args.config);
    let config = in_turns(&**collective, "read the config", load)?;
    let device = training_device(&config.training, collective.size())?;
    let setup = fresh_setup(config, &device, &**collective)?;
    processes.reduce_by(setup.plan.config.training.reduction);
    let plan = setup.plan.clone();
    let files = ImageSource::files(setup.image_files(), plan.views());
    let counted = memory_forecast(&setup);
    let notes = setup.notes.clone();
    let part = largest_part(&setup);
    let trainer = setup.into_trainer(
        files.clone(),
        device,
        WorkerPools::new(plan.num_pools, plan.threads_each)?,
        Rc::clone(collective),
    );
    // What does not fit is not tried.
    let is_on_gpu = plan.gpu.is_some();
    let complaint = memory::available_bytes().filter(|_| !is_on_gpu).and_then(|available| counted.complaint(available));
    let fits = !collective.any(complaint.is_some())?;
    let time = if fits { Some(stopwatch::time(trainer, &files)?) } else { None };
    let needed = counted.with_trial_peak(memory::peak_resident_bytes());
    if !collective.is_main() {
        return Ok(());
    }

    terminal::data(&config::to_toml(&plan.config))?;
    terminal::data(&plan.describe())?;
    for note in &notes {
        terminal::data(&format!("weights     {note}"))?;
    }
    terminal::data(&format!(
        "memory      {:.2} GB at the peak{}: model {:.2}, activations {:.2}, batches {:.2}, program and captions \
         {:.2}",
        needed.total() as f64 / base::GIGABYTE,
        if is_on_gpu { " if computed on the CPU" } else { "" },
        needed.model as f64 / base::GIGABYTE,
        needed.activations as f64 / base::GIGABYTE,
        needed.batches as f64 / base::GIGABYTE,
        needed.process as f64 / base::GIGABYTE
    ))?;
    if let Some(time) = time {
        let epoch = time.step * plan.updates_per_epoch as f64;
        terminal::data(&format!(
            "time        {:.3} s per update, {:.0} s per epoch, at most {:.0} s to encode the images",
            time.step, epoch, time.encoding
        ))?;
        if let Some(reduction) = time.reduction {
            terminal::data(&format!(
                "reduction   {reduction:.3} s of an update: the sum of {:.3} GB of gradients over {} processes",
                (size_of::<f32>() * plan.num_trainable_parameters) as f64 / base::GIGABYTE,
                plan.num_processes
            ))?;
        }
    }
    let mut warnings = plan.warnings();
    if fits && !is_on_gpu {
        let pools = WorkerPools::new(1, plan.threads_each)?;
        let pace = pools.each(|_| pace::measure(&plan, part)).into_iter().collect::<candle_core::Result<Vec<_>>>()?;
        let processors = std::thread::available_parallelism().map_or(usize::MAX, std::num::NonZero::get);
        let num_threads = plan.num_pools * plan.threads_each;
        warnings.extend(pace.iter().flat_map(|pace| pace.advice(plan.precision(), num_threads, processors)));
    }
    for warning in warnings.into_iter().chain(complaint) {
        terminal::warning(&warning);
    }
    Ok(())
}
