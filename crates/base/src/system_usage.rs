//! How busy the machine is, from the operating system and the driver of NVIDIA GPUs.

use std::fs;
use std::io::Read as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::memory;

/// How long `nvidia-smi` may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Processor time since an arbitrary moment, in ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessorTime {
    /// Of all processors of the machine, including idle time.
    pub total: u64,
    /// Idle time.
    pub idle: u64,
    /// Of this process.
    pub own: u64,
}

impl ProcessorTime {
    /// The time up to now, from `/proc`; `None` if unknown.
    pub fn now() -> Option<Self> {
        let machine = fs::read_to_string("/proc/stat").ok()?;
        let own = fs::read_to_string("/proc/self/stat").ok()?;
        Self::parse(&machine, &own)
    }

    fn parse(machine: &str, own: &str) -> Option<Self> {
        let numbers = |text: &str| text.split_whitespace().map(|word| word.parse().ok()).collect::<Option<Vec<u64>>>();
        let ticks = numbers(machine.lines().next()?.strip_prefix("cpu ")?)?;
        // user, nice, system, idle, iowait, irq, softirq, steal; the rest is already included in user and nice.
        let total = ticks.iter().take(8).sum();
        let idle = ticks.get(3)? + ticks.get(4)?;
        // The name of the program, in brackets, may contain anything.
        let fields: Vec<&str> = own.rsplit_once(')')?.1.split_whitespace().collect();
        let own = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
        Some(Self { total, idle, own })
    }

    /// Percent of the machine that was busy since `earlier`, and how many processors this process kept busy.
    pub fn since(&self, earlier: &Self, num_processors: usize) -> Option<(f64, f64)> {
        let total = self.total.checked_sub(earlier.total).filter(|&total| total > 0)? as f64;
        let idle = self.idle.saturating_sub(earlier.idle) as f64;
        let own = self.own.saturating_sub(earlier.own) as f64;
        Some((100.0 * (1.0 - idle / total).max(0.0), own / total * num_processors as f64))
    }
}

/// Percent of the machine's memory in use; `None` if unknown.
pub fn memory_percent() -> Option<f64> {
    let total = memory::total_bytes()? as f64;
    Some(100.0 * (1.0 - memory::available_bytes()? as f64 / total).max(0.0))
}

/// One NVIDIA GPU; NaN for what the driver does not report.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GpuUsage {
    /// Percent of the time in which it was computing.
    pub busy_percent: f64,
    /// Memory in use, in bytes.
    pub memory_bytes: f64,
    pub memory_total_bytes: f64,
    /// In degrees Celsius.
    pub temperature: f64,
    /// In watts.
    pub power: f64,
}

/// Usage of each GPU, from `nvidia-smi`; empty without that program or a GPU.
pub fn gpus() -> Vec<GpuUsage> {
    const QUERY: [&str; 2] = [
        "--query-gpu=utilization.gpu,memory.used,memory.total,temperature.gpu,power.draw",
        "--format=csv,noheader,nounits",
    ];
    nvidia_smi(&QUERY).lines().filter_map(parse_gpu).collect()
}

/// Names of the NVIDIA GPUs.
pub fn gpu_names() -> Vec<String> {
    let names = nvidia_smi(&["--query-gpu=name", "--format=csv,noheader"]);
    names.lines().map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
}

/// The output of `nvidia-smi`; empty if it fails or exceeds [`TIMEOUT`]: a hanging driver must not delay a run.
fn nvidia_smi(arguments: &[&str]) -> String {
    let mut command = Command::new("nvidia-smi");
    let command = command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let Ok(mut child) = command.spawn() else { return String::new() };
    let started = Instant::now();
    loop {
        match child.try_wait() {
            Ok(None) if started.elapsed() < TIMEOUT => std::thread::sleep(Duration::from_millis(10)),
            Ok(Some(status)) if status.success() => break,
            _ => {
                // It may have ended meanwhile.
                let _ = child.kill().and_then(|()| child.wait().map(drop));
                return String::new();
            }
        }
    }
    let mut text = String::new();
    // A few lines, which fit in the pipe.
    match child.stdout.take().map(|mut stdout| stdout.read_to_string(&mut text)) {
        Some(Ok(_)) => text,
        _ => String::new(),
    }
}

fn parse_gpu(line: &str) -> Option<GpuUsage> {
    const MEBIBYTE: f64 = 1024.0 * 1024.0;
    let values: Vec<f64> = line.split(',').map(|value| value.trim().parse().unwrap_or(f64::NAN)).collect();
    let &[busy_percent, used, total, temperature, power] = values.as_slice() else { return None };
    Some(GpuUsage {
        busy_percent,
        memory_bytes: used * MEBIBYTE,
        memory_total_bytes: total * MEBIBYTE,
        temperature,
        power,
    })
}

/// The host name; `None` if unknown.
pub fn host_name() -> Option<String> {
    Some(fs::read_to_string("/proc/sys/kernel/hostname").ok()?.trim().to_owned())
}

/// The name of the processor; `None` if unknown.
pub fn processor_name() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_that_of_proc() {
        let machine = "cpu  100 10 50 800 40 0 5 5 7 0\ncpu0 1 2 3";
        let own = "42 (a) b (c) R 1 1 1 0 -1 4194304 1 0 0 0 30 12 0 0 20 0 4 0 100 1 1";
        let first = ProcessorTime::parse(machine, own).unwrap();
        assert_eq!(first, ProcessorTime { total: 1010, idle: 840, own: 42 });
        let later = ProcessorTime { total: 1210, idle: 890, own: 142 };
        assert_eq!(later.since(&first, 2), Some((75.0, 1.0)));
        assert_eq!(first.since(&first, 2), None);
        assert_eq!(ProcessorTime::parse("cpu  1 x", own), None);
        assert_eq!(ProcessorTime::parse(machine, ""), None);
    }

    #[test]
    fn a_gpu_is_a_line_and_what_it_does_not_say_is_not_a_number() {
        let gpu = parse_gpu("87, 1024, 81559, 55, [N/A]").unwrap();
        assert_eq!((gpu.busy_percent, gpu.memory_bytes, gpu.temperature), (87.0, 1_073_741_824.0, 55.0));
        assert!(gpu.power.is_nan());
        assert_eq!(parse_gpu("No devices were found"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_describes_itself() {
        assert!(ProcessorTime::now().unwrap().total > 0);
        assert!((0.0..=100.0).contains(&memory_percent().unwrap()));
    }
}
