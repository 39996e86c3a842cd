//! Thread pools that compute in parallel, each on its own part of the work.
//!
//! Two halves of a batch on one thread each take less time than the whole batch on two threads: threads that share
//! every operation wait for each other at the end of each.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use rayon::ThreadPool;

use crate::threads;

/// Thread pools; none if the caller does the work, with the global thread pool.
#[derive(Debug)]
pub struct WorkerPools {
    members: Vec<ThreadPool>,
}

impl WorkerPools {
    /// Only the caller.
    pub fn alone() -> Self {
        Self { members: Vec::new() }
    }

    /// `num_pools` pools with `threads_each` threads.
    pub fn new(num_pools: usize, threads_each: usize) -> Result<Self> {
        if num_pools <= 1 {
            return Ok(Self::alone());
        }
        let pool = |member: usize| threads::pool(member, threads_each.max(1));
        Ok(Self { members: (0..num_pools).map(pool).collect::<Result<_>>()? })
    }

    /// The number of pools: at least 1.
    pub fn size(&self) -> usize {
        self.members.len().max(1)
    }

    /// The results of `work` for the index of each pool, in order.
    pub fn each<R: Send>(&self, work: impl Fn(usize) -> R + Sync) -> Vec<R> {
        if self.members.is_empty() {
            return vec![work(0)];
        }
        let mut results: Vec<Option<R>> = self.members.iter().map(|_| None).collect();
        spawn(&self.members, 0, &mut results, &work);
        results.into_iter().map(|result| result.expect("a scope ends when its tasks have ended")).collect()
    }

    /// The results of `work` for each item, in order; each pool takes one item after the other.
    pub fn map<T: Sync, R: Send>(&self, items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
        let next = AtomicUsize::new(0);
        let take = |_: usize| {
            let mut done = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(item) = items.get(index) else { return done };
                done.push((index, work(item)));
            }
        };
        let mut results: Vec<(usize, R)> = self.each(take).into_iter().flatten().collect();
        results.sort_unstable_by_key(|(index, _)| *index);
        results.into_iter().map(|(_, result)| result).collect()
    }
}

/// Starts the first pool's task and, while it runs, those of the others.
fn spawn<R: Send>(pools: &[ThreadPool], index: usize, results: &mut [Option<R>], work: &(impl Fn(usize) -> R + Sync)) {
    let (Some((pool, other_pools)), Some((result, other_results))) = (pools.split_first(), results.split_first_mut())
    else {
        return;
    };
    pool.in_place_scope(|scope| {
        scope.spawn(|_| *result = Some(work(index)));
        spawn(other_pools, index + 1, other_results, work);
    });
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn members_work_at_the_same_time_and_results_come_in_their_order() {
        let pools = WorkerPools::new(3, 2).unwrap();
        let all_there = Barrier::new(3);
        let found = pools.each(|member| {
            all_there.wait();
            (member, rayon::current_num_threads())
        });
        assert_eq!(found, [(0, 2), (1, 2), (2, 2)]);
    }

    #[test]
    fn every_item_is_taken_once_and_results_come_in_the_order_of_the_items() {
        for pools in [WorkerPools::alone(), WorkerPools::new(3, 1).unwrap()] {
            for count in [0, 1, 2, 3, 20] {
                let items: Vec<usize> = (0..count).collect();
                assert_eq!(pools.map(&items, |item| item * 10), items.iter().map(|item| item * 10).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn a_team_of_one_is_the_caller() {
        let caller = std::thread::current().id();
        for pools in [WorkerPools::alone(), WorkerPools::new(1, 4).unwrap(), WorkerPools::new(0, 4).unwrap()] {
            assert_eq!(pools.size(), 1);
            assert_eq!(pools.each(|member| (member, std::thread::current().id())), [(0, caller)]);
        }
    }
}
