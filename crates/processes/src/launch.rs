//! What the environment says of the processes that were started together.
//!
//! `mpirun`, `srun` and `torchrun` each tell a process its number in variables of their own. Variables also leak: a shell
//! inside an allocation of Slurm has those of its job. So a launcher is believed only when it names both a rank and a
//! size, and two launchers that disagree are an error.

use anyhow::Result;
use base::error::usage_error;
use base::visible;

/// Step numbers from here on are no steps of tasks: the shell of `salloc`, the script of `sbatch`, helpers of Slurm.
const FIRST_SPECIAL_STEP: u64 = 4_294_967_290;

const START_WITH_MPIRUN: &str = "start the program with `mpirun -n NUMBER caption-train ...`";

/// Who started the processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Launcher {
    /// `mpirun` or `mpiexec`.
    Mpi,
    /// `srun`.
    Slurm,
    /// `torchrun`, or a script that sets the same variables.
    Torchrun,
}

/// This process among those that were started together: at least two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// From 0.
    pub rank: usize,
    /// At least 2.
    pub size: usize,
    /// The rank among the processes of this machine, if the launcher says it.
    pub local_rank: Option<usize>,
    /// The number of processes on this machine, if the launcher says it.
    pub local_size: Option<usize>,
    pub launcher: Launcher,
    /// The variables that were believed, with their values, in one line.
    pub why: String,
}

/// The variables of a launcher.
struct Variables {
    launcher: Launcher,
    rank: &'static str,
    /// The first that is set counts.
    size: &'static [&'static str],
    local_rank: &'static str,
    local_size: Option<&'static str>,
}

const OPEN_MPI: Variables = Variables {
    launcher: Launcher::Mpi,
    rank: "OMPI_COMM_WORLD_RANK",
    size: &["OMPI_COMM_WORLD_SIZE"],
    local_rank: "OMPI_COMM_WORLD_LOCAL_RANK",
    local_size: Some("OMPI_COMM_WORLD_LOCAL_SIZE"),
};

/// MPICH, Intel MPI and others with the launcher Hydra; also `srun --mpi=pmi2`.
const HYDRA: Variables = Variables {
    launcher: Launcher::Mpi,
    rank: "PMI_RANK",
    size: &["PMI_SIZE"],
    local_rank: "MPI_LOCALRANKID",
    local_size: Some("MPI_LOCALNRANKS"),
};

const SLURM: Variables = Variables {
    launcher: Launcher::Slurm,
    rank: "SLURM_PROCID",
    size: &["SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"],
    local_rank: "SLURM_LOCALID",
    local_size: None,
};

const TORCHRUN: Variables = Variables {
    launcher: Launcher::Torchrun,
    rank: "RANK",
    size: &["WORLD_SIZE"],
    local_rank: "LOCAL_RANK",
    local_size: Some("LOCAL_WORLD_SIZE"),
};

/// Set by everything that speaks PMIx; it comes without a size.
const PMIX_RANK: &str = "PMIX_RANK";

type Get<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Launch {
    /// Reads the variables of the launchers; `None` is a process on its own, which one of one is too.
    ///
    /// # Errors
    /// A variable that is no number or out of range, a rank without a size, launchers that disagree.
    pub fn of_environment(get: Get<'_>) -> Result<Option<Self>> {
        let of_mpi = match (OPEN_MPI.read(get)?, HYDRA.read(get)?) {
            (Some(one), Some(other)) => Some(one.unless_contradicted(other)?),
            (one, other) => one.or(other),
        };
        // The daemons of mpirun may be tasks of srun, so next to mpirun's variables those of Slurm mean nothing.
        let of_cluster = match of_mpi {
            Some(launch) => Some(launch),
            None if is_slurm_step(get)? => SLURM.read(get)?,
            None => None,
        };
        if let Some(rank) = number(get, PMIX_RANK)? {
            check_pmix(rank, of_cluster.as_ref())?;
        }
        // The names of torchrun are so plain that one of them is no sign of it.
        let is_torchrun = get(TORCHRUN.rank).is_some() && get(TORCHRUN.size[0]).is_some();
        let of_torchrun = if is_torchrun { TORCHRUN.read(get)? } else { None };
        let launch = match (of_cluster, of_torchrun) {
            (Some(one), Some(other)) => Some(one.unless_contradicted(other)?),
            (one, other) => one.or(other),
        };
        Ok(launch.filter(|launch| launch.size > 1))
    }

    fn unless_contradicted(self, other: Self) -> Result<Self> {
        if (self.rank, self.size) == (other.rank, other.size) {
            return Ok(self);
        }
        Err(usage_error(
            format!("the environment names two different processes: {}; but {}", self.why, other.why),
            format!("unset the variables that another program left behind, or {START_WITH_MPIRUN} in a new shell"),
        ))
    }
}

impl Variables {
    fn read(&self, get: Get<'_>) -> Result<Option<Launch>> {
        let size_name = self.size.iter().copied().find(|name| get(name).is_some());
        let (rank, size) = match (number(get, self.rank)?, size_name) {
            (None, None) => return Ok(None),
            // An allocation of Slurm has a size and no rank.
            (None, Some(_)) if self.launcher == Launcher::Slurm => return Ok(None),
            (None, Some(name)) => return Err(half(name, self.rank)),
            (Some(_), None) => return Err(half(self.rank, self.size[0])),
            (Some(rank), Some(name)) => (rank, number(get, name)?.unwrap_or_default()),
        };
        let size_name = size_name.unwrap_or(self.size[0]);
        check_range(self.rank, rank, size_name, size)?;
        let local_rank = number(get, self.local_rank)?;
        let local_size = self.local_size.map_or(Ok(None), |name| number(get, name))?;
        if let (Some(name), Some(rank), Some(size)) = (self.local_size, local_rank, local_size) {
            check_range(self.local_rank, rank, name, size)?;
        }
        let why = format!("{}={rank}, {size_name}={size}", self.rank);
        Ok(Some(Launch { rank, size, local_rank, local_size, launcher: self.launcher, why }))
    }
}

/// Whether `srun` started this process: a batch script and a shell in an allocation have its variables as well.
fn is_slurm_step(get: Get<'_>) -> Result<bool> {
    let step = number(get, "SLURM_STEP_ID")?;
    Ok(get(SLURM.rank).is_some() && step.is_some_and(|step| (step as u64) < FIRST_SPECIAL_STEP))
}

fn check_pmix(rank: usize, launch: Option<&Launch>) -> Result<()> {
    match launch {
        Some(launch) if launch.rank == rank => Ok(()),
        Some(launch) => Err(usage_error(
            format!("the environment names two different processes: {}; but {PMIX_RANK}={rank}", launch.why),
            format!("unset {PMIX_RANK} if another program left it behind"),
        )),
        None => Err(usage_error(
            format!("{PMIX_RANK} is {rank}, but no variable says how many processes there are"),
            format!("{START_WITH_MPIRUN} of Open MPI or MPICH, or unset {PMIX_RANK} to train in one process"),
        )),
    }
}

fn number(get: Get<'_>, name: &str) -> Result<Option<usize>> {
    let Some(text) = get(name) else { return Ok(None) };
    match text.trim().parse::<u32>() {
        Ok(number) => Ok(Some(number as usize)),
        Err(_) => Err(usage_error(
            format!("expected {name} to be a whole number, found {}", visible::quoted(&text)),
            format!("{name} is set by the program that starts several processes; unset it to train in one process"),
        )),
    }
}

fn check_range(rank_name: &str, rank: usize, size_name: &str, size: usize) -> Result<()> {
    if rank < size {
        return Ok(());
    }
    Err(usage_error(
        format!("{rank_name} is {rank}, but {size_name} is {size}: ranks are from 0 to one less than the size"),
        format!("unset both to train in one process, or {START_WITH_MPIRUN}"),
    ))
}

fn half(set: &str, missing: &str) -> anyhow::Error {
    usage_error(
        format!("{set} is set, but {missing} is not"),
        format!("unset {set} to train in one process, or {START_WITH_MPIRUN}, which sets both"),
    )
}

#[cfg(test)]
mod tests {
    use base::error::{describe, is_usage_error};

    use super::*;

    fn read(variables: &str) -> Result<Option<Launch>> {
        let pairs: Vec<(&str, &str)> = variables.split_whitespace().map(|pair| pair.split_once('=').unwrap()).collect();
        Launch::of_environment(&|name| pairs.iter().find(|pair| pair.0 == name).map(|pair| pair.1.to_owned()))
    }

    fn launch(variables: &str) -> (Launcher, usize, usize, Option<usize>, Option<usize>) {
        let launch = read(variables).unwrap().unwrap();
        (launch.launcher, launch.rank, launch.size, launch.local_rank, launch.local_size)
    }

    fn refusal(variables: &str) -> String {
        let error = read(variables).unwrap_err();
        assert!(is_usage_error(&error));
        describe(&error)
    }

    #[test]
    fn each_launcher_is_known_by_its_variables() {
        let open_mpi = "OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=4 OMPI_COMM_WORLD_LOCAL_RANK=1 \
                        OMPI_COMM_WORLD_LOCAL_SIZE=2 PMIX_RANK=1";
        assert_eq!(launch(open_mpi), (Launcher::Mpi, 1, 4, Some(1), Some(2)));
        let hydra = "PMI_RANK=3 PMI_SIZE=4 MPI_LOCALRANKID=1 MPI_LOCALNRANKS=2";
        assert_eq!(launch(hydra), (Launcher::Mpi, 3, 4, Some(1), Some(2)));
        let slurm = "SLURM_PROCID=2 SLURM_NTASKS=8 SLURM_STEP_NUM_TASKS=4 SLURM_STEP_ID=0 SLURM_LOCALID=0 PMIX_RANK=2";
        assert_eq!(launch(slurm), (Launcher::Slurm, 2, 4, Some(0), None));
        let torchrun = "RANK=1 WORLD_SIZE=2 LOCAL_RANK=1 LOCAL_WORLD_SIZE=2 MASTER_ADDR=127.0.0.1";
        assert_eq!(launch(torchrun), (Launcher::Torchrun, 1, 2, Some(1), Some(2)));
        assert_eq!(read(hydra).unwrap().unwrap().why, "PMI_RANK=3, PMI_SIZE=4");
    }

    #[test]
    fn a_process_on_its_own_is_none() {
        for alone in [
            "",
            "OMPI_COMM_WORLD_RANK=0 OMPI_COMM_WORLD_SIZE=1",
            "PMI_RANK=0 PMI_SIZE=1",
            "RANK=3",
            "WORLD_SIZE=2",
            // salloc; its shell; the script of sbatch; srun -n1.
            "SLURM_NTASKS=4",
            "SLURM_PROCID=0 SLURM_NTASKS=4 SLURM_STEP_ID=4294967290",
            "SLURM_PROCID=0 SLURM_NTASKS=4",
            "SLURM_PROCID=0 SLURM_NTASKS=1 SLURM_STEP_ID=0",
        ] {
            assert_eq!(read(alone).unwrap(), None, "{alone}");
        }
    }

    #[test]
    fn mpirun_counts_within_an_allocation_of_slurm() {
        let inside = "SLURM_PROCID=0 SLURM_NTASKS=1 SLURM_STEP_ID=0 OMPI_COMM_WORLD_RANK=3 OMPI_COMM_WORLD_SIZE=4";
        assert_eq!(launch(inside), (Launcher::Mpi, 3, 4, None, None));
    }

    #[test]
    fn variables_that_cannot_be_true_are_named() {
        assert!(refusal("PMI_RANK=x PMI_SIZE=4").contains("expected PMI_RANK to be a whole number, found \"x\""));
        assert!(refusal("PMI_RANK=-1 PMI_SIZE=4").contains("PMI_RANK"));
        assert!(refusal("PMI_RANK=4 PMI_SIZE=4").contains("PMI_RANK is 4, but PMI_SIZE is 4"));
        assert!(refusal("PMI_RANK=0 PMI_SIZE=0").contains("PMI_SIZE is 0"));
        assert!(refusal("OMPI_COMM_WORLD_RANK=0").contains("OMPI_COMM_WORLD_SIZE is not"));
        assert!(refusal("PMI_SIZE=2").contains("PMI_SIZE is set, but PMI_RANK is not"));
        assert!(refusal("PMIX_RANK=1").contains("how many processes"));
        assert!(refusal("PMI_RANK=0 PMI_SIZE=2 MPI_LOCALRANKID=2 MPI_LOCALNRANKS=2").contains("MPI_LOCALRANKID is 2"));
    }

    #[test]
    fn launchers_that_disagree_are_both_named() {
        let both = refusal("OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=2 PMI_RANK=0 PMI_SIZE=2");
        assert!(both.contains("OMPI_COMM_WORLD_RANK=1") && both.contains("PMI_RANK=0"), "{both}");
        assert!(refusal("PMI_RANK=1 PMI_SIZE=2 RANK=0 WORLD_SIZE=2").contains("RANK=0, WORLD_SIZE=2"));
        assert!(refusal("PMI_RANK=1 PMI_SIZE=2 PMIX_RANK=0").contains("PMIX_RANK=0"));
        assert_eq!(launch("PMI_RANK=1 PMI_SIZE=2 RANK=1 WORLD_SIZE=2").0, Launcher::Mpi);
    }
}
