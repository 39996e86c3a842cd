//! Connects the GPUs of the processes of a run: each has one of its own, and NCCL adds up their gradients.

use std::collections::BTreeMap;

use anyhow::Result;
use candle_core::Device;
use ops::NcclFailure;
use ops::nccl::{self, Communicator};
use processes::World;

use crate::training::collective::{AnotherFailed, Collective, agreed};
use base::error::{failure, with_hint};
use base::terminal;

/// Tells NCCL on which machine a process is. Different ones for processes of one machine let them share a GPU, which is
/// slow and for tests.
const HOST_VARIABLE: &str = "NCCL_HOSTID";

/// Connects the GPUs; nothing where the processes compute on CPUs.
///
/// # Errors
/// Some processes on a CPU and some on a GPU, or two on the same one; no NCCL, or different ones; an error of NCCL.
pub fn connect(collective: &dyn Collective, world: &World, device: &Device) -> Result<Option<Communicator>> {
    let identity = if device.is_cpu() { Ok(String::new()) } else { nccl::identity(device).map_err(hinted) };
    let identity = agreed(collective, "identify its GPU", identity)?;
    let devices: Vec<String> = texts(collective, &identity)?;
    let may_share = std::env::var_os(HOST_VARIABLE).is_some();
    same_everywhere(collective, check_devices(&devices, world.hosts(), may_share))?;
    if device.is_cpu() {
        return Ok(None);
    }
    let version = agreed(collective, "open NCCL", nccl::version().map_err(hinted))?;
    same_everywhere(collective, check_versions(&texts(collective, &version)?, world.hosts()))?;
    let id = if collective.is_main() { nccl::unique_id().map_err(hinted) } else { Ok(Vec::new()) };
    let mut id = agreed(collective, "begin to connect the GPUs", id)?;
    collective.broadcast(&mut id)?;
    let place = (collective.rank(), collective.size());
    // Who fails here says so to the others by its end: they may be waiting for it within NCCL.
    let communicator = Communicator::new(device, &id, place, world.loss_signal()).map_err(hinted)?;
    terminal::message(&format!("GPUs        {}, connected by NCCL {version}", place.1));
    Ok(Some(communicator))
}

fn hinted(failure: NcclFailure) -> anyhow::Error {
    let hint = failure.hint();
    with_hint(failure.into(), hint)
}

/// The texts of all processes.
fn texts(collective: &dyn Collective, own: &str) -> Result<Vec<String>> {
    let all = collective.gather(own.as_bytes())?;
    Ok(all.iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect())
}

/// What all processes find alike is said once.
fn same_everywhere(collective: &dyn Collective, found: Result<()>) -> Result<()> {
    found.map_err(|error| if collective.is_main() { error } else { AnotherFailed(format!("{error:#}")).into() })
}

/// Whether each process has a GPU of its own, or all compute on CPUs. A device is empty for a CPU.
fn check_devices(devices: &[String], hosts: &[String], may_share: bool) -> Result<()> {
    let place = |rank: usize| format!("process {rank} on host {}", hosts[rank]);
    let on_cpu = devices.iter().position(String::is_empty);
    let on_gpu = devices.iter().position(|device| !device.is_empty());
    if let (Some(on_cpu), Some(on_gpu)) = (on_cpu, on_gpu) {
        return Err(failure(
            format!("{} would compute on its CPU and {} on a GPU", place(on_cpu), place(on_gpu)),
            "check nvidia-smi there, or set training.device = \"cpu\" for all; \"cuda\" says why a GPU cannot be used",
        ));
    }
    let mut users = BTreeMap::new();
    for (rank, device) in devices.iter().enumerate().filter(|_| on_gpu.is_some() && !may_share) {
        let Some(other) = users.insert(device, rank) else { continue };
        let here: Vec<&String> =
            (0..devices.len()).filter(|&one| hosts[one] == hosts[rank]).map(|one| &devices[one]).collect();
        let num_gpus = here.iter().collect::<std::collections::BTreeSet<_>>().len();
        return Err(failure(
            format!(
                "the {} processes on host {} have {num_gpus} GPU{}: process {rank} would share that of process {other}",
                here.len(),
                hosts[rank],
                if num_gpus == 1 { "" } else { "s" },
            ),
            "start no more processes on a machine than it has GPUs, and set training.device = \"cuda\": then each takes \
             the GPU of its number",
        ));
    }
    Ok(())
}

/// Whether all have the same NCCL: others do not understand it.
fn check_versions(versions: &[String], hosts: &[String]) -> Result<()> {
    match versions.iter().position(|version| *version != versions[0]) {
        None => Ok(()),
        Some(rank) => Err(failure(
            format!(
                "process {rank} on host {} has NCCL {}, and process 0 on host {} has NCCL {}",
                hosts[rank], versions[rank], hosts[0], versions[0]
            ),
            "install the same NCCL on all machines, or set CAPTION_TRAIN_NCCL to the file to use",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::error::describe;

    fn of(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    fn refusal(devices: &[&str], hosts: &[&str]) -> String {
        describe(&check_devices(&of(devices), &of(hosts), false).unwrap_err())
    }

    #[test]
    fn each_process_has_a_gpu_of_its_own_or_all_have_none() {
        check_devices(&of(&["", "", ""]), &of(&["a", "a", "b"]), false).unwrap();
        check_devices(&of(&["g0", "g1", "g2"]), &of(&["a", "a", "b"]), false).unwrap();
        let text = refusal(&["g0", "g1", "g0", "g1"], &["a", "a", "a", "a"]);
        assert!(
            text.contains("the 4 processes on host a have 2 GPUs: process 2 would share that of process 0"),
            "{text}"
        );
        let text = refusal(&["g2", "g0", "g0"], &["b", "a", "a"]);
        assert!(text.contains("the 2 processes on host a have 1 GPU: process 2"), "{text}");
    }

    #[test]
    fn a_gpu_is_shared_where_nccl_is_told_so() {
        check_devices(&of(&["g0", "g0"]), &of(&["a", "a"]), true).unwrap();
    }

    #[test]
    fn a_cpu_among_gpus_is_named() {
        let text = refusal(&["g0", "g1", ""], &["a", "a", "b"]);
        assert!(
            text.contains("process 2 on host b would compute on its CPU and process 0 on host a on a GPU"),
            "{text}"
        );
    }

    #[test]
    fn another_nccl_is_named() {
        check_versions(&of(&["2.29.7", "2.29.7"]), &of(&["a", "b"])).unwrap();
        let text = describe(&check_versions(&of(&["2.29.7", "2.27.3"]), &of(&["a", "b"])).unwrap_err());
        assert!(
            text.contains("process 1 on host b has NCCL 2.27.3, and process 0 on host a has NCCL 2.29.7"),
            "{text}"
        );
    }
}
