//! Sums over all GPUs that there are, with a thread in the place of each process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};
use ops::cuda::{self, CudaFailure};
use ops::nccl::{self, Communicator};
use ops::{NcclFailure, SumOrder};

use crate::{random, values};

fn num_gpus() -> usize {
    match cuda::open(usize::MAX) {
        Err(CudaFailure::NoSuchGpu { count, .. }) => count,
        other => panic!("these tests need a GPU: {other:?}"),
    }
}

/// What each of `size` processes finds.
fn on_each<T: Send>(size: usize, work: impl Fn(usize, &Device, &[u8]) -> T + Sync) -> Vec<T> {
    let id = nccl::unique_id().unwrap();
    let (id, work) = (&id, &work);
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..size).map(|rank| scope.spawn(move || work(rank, &cuda::open(rank).unwrap(), id))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// The tensors of a process. The last two do not fit into what is summed at once.
fn terms(rank: usize, size: usize) -> Vec<Tensor> {
    let name = format!("process {rank}");
    let mut terms = vec![
        random((), &name),
        random((3, 5), &name),
        random(70_001, &name),
        random((300, 200), &name).t().unwrap(),
        random((2, 1), &name),
    ];
    if size == 2 {
        let large = random(1 << 10, &name).repeat(9 << 10).unwrap();
        terms.extend([large.clone(), large]);
    }
    terms
}

/// The sum in the order of the tree.
fn tree(mut terms: Vec<Tensor>) -> Tensor {
    while terms.len() > 1 {
        terms = terms
            .chunks(2)
            .map(|pair| pair.iter().skip(1).fold(pair[0].clone(), |sum, term| (sum + term).unwrap()))
            .collect();
    }
    terms.remove(0)
}

#[test]
fn sums_over_gpus_have_the_bits_of_the_tree_or_nearly() {
    let num_gpus = num_gpus();
    for size in [1, 2, 3, 4, 8].into_iter().filter(|&size| size <= num_gpus) {
        let sums = |order: SumOrder| {
            on_each(size, |rank, device, id| {
                let communicator = Communicator::new(device, id, (rank, size), || false).unwrap();
                let own = terms(rank, size);
                let mut tensors: Vec<Tensor> = own.iter().map(|tensor| tensor.to_device(device).unwrap()).collect();
                communicator.sum(&mut tensors.iter_mut().collect::<Vec<_>>(), order).unwrap();
                let found: Vec<Vec<f64>> = tensors.iter().map(values).collect();
                assert!(tensors.iter().zip(&own).all(|(tensor, own)| tensor.shape() == own.shape()));
                communicator.check().unwrap();
                communicator.finish().unwrap();
                found
            })
        };
        let all: Vec<Vec<Tensor>> = (0..size).map(|rank| terms(rank, size)).collect();
        let expected: Vec<Vec<f64>> = (0..all[0].len())
            .map(|place| values(&tree(all.iter().map(|terms| terms[place].clone()).collect())))
            .collect();
        for (rank, found) in sums(SumOrder::Tree).into_iter().enumerate() {
            assert!(found == expected, "process {rank} of {size}");
        }
        let of_library = sums(SumOrder::Any);
        for found in &of_library {
            assert!(*found == of_library[0], "processes have different sums");
            for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
                assert!((found - expected).abs() < 1e-5, "{found}, expected {expected}");
            }
        }
    }
}

#[test]
fn a_sum_that_waits_for_a_process_that_is_gone_is_broken_off_and_said_to_be() {
    let size = num_gpus().min(2);
    let is_lost = Arc::new(AtomicBool::new(false));
    on_each(size, |rank, device, id| {
        let signal = Arc::clone(&is_lost);
        let communicator = Communicator::new(device, id, (rank, size), move || signal.load(Ordering::Relaxed)).unwrap();
        let started = Instant::now();
        let mut tensor = random(1000, "a sum").to_device(device).unwrap();
        // The stand-in waits for a sum as soon as its stream is used again, if only to free this.
        let _before = tensor.clone();
        if rank == 0 {
            communicator.sum(&mut [&mut tensor], SumOrder::Any).unwrap();
            communicator.check().unwrap();
            is_lost.store(true, Ordering::Relaxed);
        }
        device.synchronize().unwrap();
        while communicator.check().is_ok() {
            assert!(started.elapsed() < Duration::from_secs(20), "nothing was broken off");
            std::thread::sleep(Duration::from_millis(10));
        }
        let refused = communicator.sum(&mut [&mut tensor], SumOrder::Any).unwrap_err();
        // The one that waits may notice first that the other has ended.
        let is_right = match &refused {
            NcclFailure::BrokenOff(why) => rank == 0 || why.contains("another process is gone"),
            _ => false,
        };
        assert!(is_right, "{refused}");
    });
}

#[test]
fn nccl_is_found_and_has_what_is_called() {
    let version = nccl::version().unwrap();
    assert!(version.starts_with("2."), "{version}");
    let ids = [nccl::unique_id().unwrap(), nccl::unique_id().unwrap()];
    assert_eq!(ids[0].len(), 128);
    assert_ne!(ids[0], ids[1]);
}
