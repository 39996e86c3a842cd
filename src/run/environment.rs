//! `environment.json`: machine and program of a run, with an entry for each process that computed a part of it.

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::run::run_directory::RunDirectory;
use crate::training::plan::RunPlan;
use base::bounded_file::{self, MAX_DESCRIPTION_BYTES};
use base::credentials::hidden;
use base::system_usage::{gpu_names, processor_name};
use base::{clock, memory};

const FILE: &str = "environment.json";
const FORMAT_VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    pub format_version: u32,
    /// The first began the run, later ones resumed it.
    pub processes: Vec<Process>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// Seconds since 1970.
    pub started_at: u64,
    /// Name, version, commit and features of the program.
    pub program: String,
    /// What was written on the command line, without passwords.
    pub arguments: Vec<String>,
    /// Operating system and architecture.
    pub system: String,
    /// Name of the processor, where the system says.
    pub processor: Option<String>,
    /// Processors that the process may use.
    pub num_processors: usize,
    /// The machine's memory in bytes, where the system says.
    pub memory_bytes: Option<u64>,
    /// Names of the GPUs.
    pub gpus: Vec<String>,
    /// What the model is computed on.
    pub device: String,
    pub compute_threads: usize,
    /// Threads that load images.
    pub loader_threads: usize,
}

impl Process {
    /// This process, which begins or resumes a run.
    pub fn of_this(plan: &RunPlan, program: String) -> Self {
        Self {
            started_at: clock::unix_seconds() as u64,
            program,
            arguments: std::env::args_os()
                .skip(1)
                .map(|argument| hidden(&argument.to_string_lossy()).into_owned())
                .collect(),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            processor: processor_name(),
            num_processors: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: memory::total_bytes(),
            gpus: gpu_names(),
            device: plan.gpu.clone().unwrap_or_else(|| "cpu".to_owned()),
            compute_threads: plan.num_pools * plan.threads_each,
            loader_threads: plan.num_workers,
        }
    }

    /// Adds it to the run's file.
    ///
    /// # Errors
    /// A file that is not ours, or that cannot be written.
    pub fn note(&self, run: &RunDirectory) -> anyhow::Result<()> {
        let mut environment = Environment::read(run)?
            .unwrap_or_else(|| Environment { format_version: FORMAT_VERSION, processes: Vec::new() });
        environment.processes.push(self.clone());
        let text = serde_json::to_string_pretty(&environment).context("cannot encode the environment")?;
        run.write(FILE, &format!("{text}\n"))
    }
}

impl Environment {
    /// That of a run; `None` where there is none.
    ///
    /// # Errors
    /// A file that cannot be read, or is not ours.
    pub fn read(run: &RunDirectory) -> anyhow::Result<Option<Self>> {
        let path = run.path().join(FILE);
        if !path.exists() {
            return Ok(None);
        }
        let cannot = || format!("cannot read {}", path.display());
        let bytes = bounded_file::read(&path, MAX_DESCRIPTION_BYTES).with_context(cannot)?;
        let environment: Self = serde_json::from_slice(&bytes).with_context(cannot)?;
        anyhow::ensure!(
            environment.format_version == FORMAT_VERSION,
            "{} has format version {}, and this program reads {FORMAT_VERSION}",
            path.display(),
            environment.format_version
        );
        Ok(Some(environment))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn process(started_at: u64) -> Process {
        Process {
            started_at,
            program: "caption-train".to_owned(),
            arguments: vec!["--config".to_owned(), "a.toml".to_owned()],
            system: "linux x86_64".to_owned(),
            processor: None,
            num_processors: 2,
            memory_bytes: Some(1),
            gpus: Vec::new(),
            device: "cpu".to_owned(),
            compute_threads: 2,
            loader_threads: 1,
        }
    }

    #[test]
    fn each_process_of_a_run_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDirectory::create(folder.path(), "run").unwrap();
        assert_eq!(Environment::read(&run).unwrap(), None);
        for started_at in [1, 2] {
            process(started_at).note(&run).unwrap();
        }
        let starts: Vec<u64> =
            Environment::read(&run).unwrap().unwrap().processes.iter().map(|one| one.started_at).collect();
        assert_eq!(starts, [1, 2]);
    }

    #[test]
    fn a_file_of_another_kind_is_an_error_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDirectory::create(folder.path(), "run").unwrap();
        run.write(FILE, "{}").unwrap();
        assert!(process(1).note(&run).is_err());
        assert_eq!(fs::read_to_string(run.path().join(FILE)).unwrap(), "{}");
    }
}
