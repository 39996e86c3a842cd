//! Samples the machine every few seconds in a separate thread: asking the driver of a GPU takes longer than an update.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Map, Value};

use base::clock::unix_seconds;
use base::error::one_line;
use base::system_usage::{GpuUsage, ProcessorTime, gpus, memory_percent};
use base::{memory, terminal, threads};

/// Seconds between two samples: the interval of W&B.
pub const INTERVAL: Duration = Duration::from_secs(15);

#[derive(Clone, Debug)]
pub struct SystemSample {
    /// When, in seconds since 1970.
    pub time: f64,
    /// Under the names that W&B's own client uses.
    pub values: Map<String, Value>,
}

/// The thread; it ends when this is dropped.
pub struct SystemMonitor {
    samples: Receiver<SystemSample>,
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl SystemMonitor {
    /// Takes a sample every `interval`; none if no thread can be started.
    pub fn start(interval: Duration) -> Self {
        let (sender, samples) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        let look = move || {
            let mut before = ProcessorTime::now();
            while ended.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                let now = ProcessorTime::now();
                let (time, values) = (unix_seconds(), values(before, now, &gpus()));
                before = now;
                if sender.send(SystemSample { time, values }).is_err() {
                    break;
                }
            }
        };
        let warn =
            |error: &anyhow::Error| terminal::warning(&format!("cannot measure the machine: {}", one_line(error)));
        let thread = threads::spawn("system", look).inspect_err(warn).ok();
        Self { samples, end: Some(end), thread }
    }

    /// The samples since the last call.
    pub fn take(&self) -> Vec<SystemSample> {
        self.samples.try_iter().collect()
    }
}

impl Drop for SystemMonitor {
    fn drop(&mut self) {
        self.end = None;
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so itself.
            let _ = thread.join();
        }
    }
}

fn values(before: Option<ProcessorTime>, now: Option<ProcessorTime>, gpus: &[GpuUsage]) -> Map<String, Value> {
    const MEBIBYTE: f64 = 1024.0 * 1024.0;
    let num_processors = std::thread::available_parallelism().map_or(1, usize::from);
    let mut values: Vec<(String, f64)> = Vec::new();
    let mut put = |name: &str, value: Option<f64>| values.extend(value.map(|value| (name.to_owned(), value)));
    let usage = before.zip(now).and_then(|(before, now)| now.since(&before, num_processors));
    put("cpu", usage.map(|(busy, _)| busy));
    put("proc.cpu.cores", usage.map(|(_, own)| own));
    put("memory_percent", memory_percent());
    put("proc.memory.rssMB", memory::resident_bytes().map(|bytes| bytes as f64 / MEBIBYTE));
    put("proc.memory.availableMB", memory::available_bytes().map(|bytes| bytes as f64 / MEBIBYTE));
    for (index, gpu) in gpus.iter().enumerate() {
        let mut put = |name: &str, value: f64| put(&format!("gpu.{index}.{name}"), Some(value));
        put("gpu", gpu.busy_percent);
        put("memoryAllocatedBytes", gpu.memory_bytes);
        put("memoryAllocated", 100.0 * gpu.memory_bytes / gpu.memory_total_bytes);
        put("temp", gpu.temperature);
        put("powerWatts", gpu.power);
    }
    values.into_iter().filter(|(_, value)| value.is_finite()).map(|(name, value)| (name, value.into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_has_its_number_and_what_is_not_a_number_is_left_out() {
        let gpu = GpuUsage {
            busy_percent: 50.0,
            memory_bytes: 1e9,
            memory_total_bytes: 4e9,
            temperature: 60.0,
            power: f64::NAN,
        };
        let values = values(None, None, &[GpuUsage::default(), gpu]);
        assert_eq!((&values["gpu.1.gpu"], &values["gpu.1.memoryAllocated"]), (&50.0.into(), &25.0.into()));
        assert!(!values.contains_key("gpu.1.powerWatts") && !values.contains_key("gpu.0.memoryAllocated"));
        assert!(!values.contains_key("cpu"));
    }

    #[test]
    fn samples_come_with_their_time_until_the_monitor_is_dropped() {
        let begun = unix_seconds();
        let monitor = SystemMonitor::start(Duration::from_millis(1));
        let first = monitor.samples.recv_timeout(Duration::from_secs(60)).unwrap();
        assert!((begun..=unix_seconds()).contains(&first.time));
        assert!(first.values.values().all(Value::is_number), "{first:?}");
        drop(monitor);
    }
}
