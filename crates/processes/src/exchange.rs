//! Sums and messages among processes, built from one thing: sending bytes to one process while receiving from another.
//!
//! A sum is a fixed binary tree over the ranks, `((r0+r1)+(r2+r3))+((r4+r5)+(r6+r7))`, element by element. It has the
//! same bits on every process, and the same as in one process that adds the arrays of all ranks in that order. Both ways
//! of computing it, for small and for large arrays, add in this order.

use std::ops::Range;

use anyhow::Result;
use base::error::{failure, usage_error};
use bytemuck::Pod;

/// Bytes of one message at most. What was received is added while the next message is on its way, and a message this
/// small fits the counts of MPI, which are C integers.
pub(crate) const CHUNK_BYTES: usize = 4 << 20;
/// Up to this size a sum takes the way with fewer messages and more bytes.
const SMALL_BYTES: usize = 32 << 10;

/// Connects this process with the others.
pub(crate) trait Exchange {
    fn rank(&self) -> usize;

    fn size(&self) -> usize;

    /// Sends bytes to one process and fills a buffer of the same length as the other process sends. An empty slice is
    /// no message. Runs `meanwhile` once, after both were started.
    ///
    /// # Errors
    /// A process that is gone.
    fn swap(&self, send: (usize, &[u8]), receive: (usize, &mut [u8]), meanwhile: &mut dyn FnMut()) -> Result<()>;

    fn send(&self, to: usize, bytes: &[u8]) -> Result<()> {
        let chunks = bytes.chunks(CHUNK_BYTES);
        chunks.into_iter().try_for_each(|chunk| self.swap((to, chunk), (to, &mut []), &mut || ()))
    }

    fn receive(&self, from: usize, bytes: &mut [u8]) -> Result<()> {
        let mut chunks = bytes.chunks_mut(CHUNK_BYTES);
        chunks.try_for_each(|chunk| self.swap((from, &[]), (from, chunk), &mut || ()))
    }
}

/// A number that can be summed.
pub(crate) trait Element: Pod {
    /// The sum; a NaN is always the same one. A processor would keep the payload of one of two NaNs, and a compiler may
    /// exchange the two.
    fn plus(self, other: Self) -> Self;
}

impl Element for f32 {
    #[inline]
    fn plus(self, other: Self) -> Self {
        let sum = self + other;
        if sum.is_nan() { Self::NAN } else { sum }
    }
}

impl Element for f64 {
    #[inline]
    fn plus(self, other: Self) -> Self {
        let sum = self + other;
        if sum.is_nan() { Self::NAN } else { sum }
    }
}

/// Replaces the values by their sums over all processes, in the order of the tree.
///
/// # Errors
/// A number of processes that is no power of two; a process that is gone.
pub(crate) fn sum<T: Element>(exchange: &impl Exchange, values: &mut [T]) -> Result<()> {
    let size = exchange.size();
    if !size.is_power_of_two() {
        return Err(usage_error(
            format!("expected a number of processes that is a power of two, found {size}"),
            "start 2, 4, 8, ... processes: only then do sums have the same bits as in one process",
        ));
    }
    if size_of_val(values) <= SMALL_BYTES { sum_small(exchange, values) } else { sum_large(exchange, values) }
}

/// Recursive doubling: in each of log2(size) rounds, everything goes to a partner twice as far away.
fn sum_small<T: Element>(exchange: &impl Exchange, values: &mut [T]) -> Result<()> {
    let rank = exchange.rank();
    let mut received = vec![T::zeroed(); values.len()];
    for distance in distances(exchange.size()) {
        let partner = rank ^ distance;
        let here = bytemuck::cast_slice(values);
        exchange.swap((partner, here), (partner, bytemuck::cast_slice_mut(&mut received)), &mut || ())?;
        add(values, &received, partner < rank);
    }
    Ok(())
}

/// Recursive halving, then doubling back: a process sends half of its range to a partner and adds the other half, then
/// half of that, and so on; the finished parts go back the same ways. Each byte is sent about twice, not log2(size)
/// times.
fn sum_large<T: Element>(exchange: &impl Exchange, values: &mut [T]) -> Result<()> {
    let rank = exchange.rank();
    let mut kept = 0..values.len();
    let mut given = Vec::new();
    for distance in distances(exchange.size()) {
        let partner = rank ^ distance;
        let middle = kept.start + kept.len() / 2;
        let (low, high) = (kept.start..middle, middle..kept.end);
        let (keep, give) = if rank < partner { (low, high) } else { (high, low) };
        reduce(exchange, partner, values, &keep, &give)?;
        given.push((partner, give));
        kept = keep;
    }
    for (partner, give) in given.into_iter().rev() {
        let (here, there) = two_parts(values, &kept, &give);
        let (here, there) = (bytemuck::cast_slice(here), bytemuck::cast_slice_mut(there));
        let mut send = here.chunks(CHUNK_BYTES);
        let mut receive = there.chunks_mut(CHUNK_BYTES);
        for _ in 0..send.len().max(receive.len()) {
            let (send, receive) = (send.next().unwrap_or_default(), receive.next().unwrap_or_default());
            exchange.swap((partner, send), (partner, receive), &mut || ())?;
        }
        kept = kept.start.min(give.start)..kept.end.max(give.end);
    }
    Ok(())
}

/// Sends the range `give` to the partner, and adds to the range `keep` what the partner sends.
fn reduce<T: Element>(
    exchange: &impl Exchange,
    partner: usize,
    values: &mut [T],
    keep: &Range<usize>,
    give: &Range<usize>,
) -> Result<()> {
    let partner_is_left = partner < exchange.rank();
    let length = CHUNK_BYTES / size_of::<T>();
    let (give, keep) = two_parts(values, give, keep);
    let mut send = give.chunks(length);
    let mut add_to = keep.chunks_mut(length);
    // Received and not yet added.
    let mut waiting: Option<(&mut [T], Vec<T>)> = None;
    let mut spare = Vec::new();
    for _ in 0..send.len().max(add_to.len()) {
        let target = add_to.next().unwrap_or_default();
        let mut received = std::mem::take(&mut spare);
        received.resize(target.len(), T::zeroed());
        let buffer = bytemuck::cast_slice_mut(&mut received);
        let add_waiting = &mut || {
            if let Some((target, received)) = &mut waiting {
                add(target, received, partner_is_left);
            }
        };
        let bytes = bytemuck::cast_slice(send.next().unwrap_or_default());
        exchange.swap((partner, bytes), (partner, buffer), add_waiting)?;
        spare = waiting.replace((target, received)).map(|(_, buffer)| buffer).unwrap_or_default();
    }
    if let Some((target, received)) = waiting {
        add(target, &received, partner_is_left);
    }
    Ok(())
}

/// Two disjoint ranges, the first to read and the second to write.
fn two_parts<'a, T>(values: &'a mut [T], read: &Range<usize>, write: &Range<usize>) -> (&'a [T], &'a mut [T]) {
    if read.end <= write.start {
        let (low, high) = values.split_at_mut(write.start);
        (&low[read.clone()], &mut high[..write.len()])
    } else {
        let (low, high) = values.split_at_mut(read.start);
        (&high[..read.len()], &mut low[write.clone()])
    }
}

/// Adds what a partner sent. The operand of the lower rank is the left one.
fn add<T: Element>(values: &mut [T], received: &[T], received_is_left: bool) {
    for (value, &received) in values.iter_mut().zip(received) {
        *value = if received_is_left { received.plus(*value) } else { value.plus(received) };
    }
}

/// 1, 2, 4, ... below `size`.
fn distances(size: usize) -> impl Iterator<Item = usize> {
    std::iter::successors(Some(1_usize), |distance| distance.checked_mul(2))
        .take_while(move |&distance| distance < size)
}

/// Whether any process says yes. Nobody returns before all have come.
///
/// # Errors
/// A process that is gone.
pub(crate) fn any(exchange: &impl Exchange, here: bool) -> Result<bool> {
    let (rank, size) = (exchange.rank(), exchange.size());
    let mut known = [u8::from(here)];
    for distance in distances(size) {
        let mut received = [0];
        let (to, from) = ((rank + distance) % size, (rank + size - distance) % size);
        exchange.swap((to, &known), (from, &mut received), &mut || ())?;
        known[0] |= received[0];
    }
    Ok(known[0] != 0)
}

/// Replaces the bytes by those of rank 0.
///
/// # Errors
/// A process that is gone; more bytes than this process has memory for.
pub(crate) fn broadcast(exchange: &impl Exchange, bytes: &mut Vec<u8>) -> Result<()> {
    let (rank, size) = (exchange.rank(), exchange.size());
    // A process receives from the one without its highest bit, and then sends to those with a higher bit.
    let is_new = |distance: &usize| rank < *distance;
    if rank > 0 {
        let highest = 1 << rank.ilog2();
        *bytes = receive_framed(exchange, rank - highest)?;
    }
    for distance in distances(size).filter(is_new).filter(|distance| rank + distance < size) {
        send_framed(exchange, rank + distance, bytes)?;
    }
    Ok(())
}

/// The bytes of all ranks, in their order, on every process.
///
/// # Errors
/// A process that is gone; more bytes than this process has memory for.
pub(crate) fn gather(exchange: &impl Exchange, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
    let (rank, size) = (exchange.rank(), exchange.size());
    let mut all = framed(bytes);
    for distance in distances(size) {
        if rank & distance != 0 {
            send_framed(exchange, rank - distance, &all)?;
            break;
        }
        if rank + distance < size {
            all.extend(receive_framed(exchange, rank + distance)?);
        }
    }
    broadcast(exchange, &mut all)?;
    let mut rest = all.as_slice();
    let mut take = || {
        let (length, after) = rest.split_first_chunk().expect("there is a frame for each rank");
        let (bytes, after) = after.split_at(u64::from_le_bytes(*length) as usize);
        rest = after;
        bytes.to_vec()
    };
    Ok((0..size).map(|_| take()).collect())
}

fn framed(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u64).to_le_bytes(), bytes].concat()
}

fn send_framed(exchange: &impl Exchange, to: usize, bytes: &[u8]) -> Result<()> {
    exchange.send(to, &(bytes.len() as u64).to_le_bytes())?;
    exchange.send(to, bytes)
}

fn receive_framed(exchange: &impl Exchange, from: usize) -> Result<Vec<u8>> {
    let mut length = [0; 8];
    exchange.receive(from, &mut length)?;
    let length = u64::from_le_bytes(length);
    let too_large = || {
        failure(
            format!("no memory for the {length} bytes that process {from} sent"),
            "start fewer processes on this machine",
        )
    };
    let mut bytes = Vec::new();
    let count = usize::try_from(length).map_err(|_| too_large())?;
    bytes.try_reserve_exact(count).map_err(|_| too_large())?;
    bytes.resize(count, 0);
    exchange.receive(from, &mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use base::error::describe;
    use base::random::mix_key;

    use super::*;

    /// A process that is a thread here.
    struct Channels {
        rank: usize,
        to: Vec<Sender<Vec<u8>>>,
        from: Vec<Receiver<Vec<u8>>>,
    }

    impl Exchange for Channels {
        fn rank(&self) -> usize {
            self.rank
        }

        fn size(&self) -> usize {
            self.to.len()
        }

        fn swap(&self, send: (usize, &[u8]), receive: (usize, &mut [u8]), meanwhile: &mut dyn FnMut()) -> Result<()> {
            assert!(send.1.len() <= CHUNK_BYTES && receive.1.len() <= CHUNK_BYTES);
            if !send.1.is_empty() {
                self.to[send.0].send(send.1.to_vec())?;
            }
            meanwhile();
            if !receive.1.is_empty() {
                receive.1.copy_from_slice(&self.from[receive.0].recv()?);
            }
            Ok(())
        }
    }

    type Ends = (Vec<Sender<Vec<u8>>>, Vec<Receiver<Vec<u8>>>);

    /// Runs `work` on each rank and returns the results in the order of ranks.
    fn on_ranks<T: Send>(size: usize, work: impl Fn(Channels) -> T + Sync) -> Vec<T> {
        let mut ends: Vec<Ends> = Vec::new();
        ends.resize_with(size, Ends::default);
        for from in 0..size {
            for to in 0..size {
                let (sender, receiver) = channel();
                ends[from].0.push(sender);
                ends[to].1.push(receiver);
            }
        }
        std::thread::scope(|scope| {
            let start = |(rank, (to, from))| {
                let work = &work;
                scope.spawn(move || work(Channels { rank, to, from }))
            };
            let threads: Vec<_> = ends.into_iter().enumerate().map(start).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    /// Numbers of such different sizes that another order of additions gives another sum.
    fn values(rank: usize, length: usize) -> Vec<f32> {
        let value = |index: usize| {
            let bits = mix_key(&[rank as u64, index as u64]);
            (bits as i32 as f32) * 2_f32.powi((bits >> 40) as i32 % 24 - 36)
        };
        (0..length).map(value).collect()
    }

    fn plain_tree(mut arrays: Vec<Vec<f32>>) -> Vec<f32> {
        while arrays.len() > 1 {
            let add = |pair: &[Vec<f32>]| pair[0].iter().zip(&pair[1]).map(|(a, b)| a + b).collect();
            arrays = arrays.chunks(2).map(add).collect();
        }
        arrays.remove(0)
    }

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|value| value.to_bits()).collect()
    }

    #[test]
    fn a_sum_is_the_plain_tree_bit_for_bit_on_every_rank() {
        for size in [1, 2, 4, 8] {
            for length in [0, 1, 2, 3, 7, 1000, 8192, 8193, (1 << 20) + 3, 3 * (1 << 20) + 1] {
                let arrays: Vec<Vec<f32>> = (0..size).map(|rank| values(rank, length)).collect();
                let expected = bits(&plain_tree(arrays.clone()));
                let sums = on_ranks(size, |exchange| {
                    let mut values = arrays[exchange.rank].clone();
                    sum(&exchange, &mut values).unwrap();
                    bits(&values)
                });
                assert!(sums.iter().all(|sum| *sum == expected), "{size} processes, {length} values");
            }
        }
    }

    #[test]
    fn both_ways_of_summing_give_the_same_bits() {
        for length in [1, 2, 3, 5, 8191] {
            let sums = on_ranks(8, |exchange| {
                let (mut small, mut large) = (values(exchange.rank, length), values(exchange.rank, length));
                sum_small(&exchange, &mut small).unwrap();
                sum_large(&exchange, &mut large).unwrap();
                (bits(&small), bits(&large))
            });
            assert!(sums.iter().all(|(small, large)| small == large && *small == sums[0].0));
        }
    }

    #[test]
    fn the_values_of_these_tests_tell_orders_apart() {
        let arrays: Vec<Vec<f32>> = (0..4).map(|rank| values(rank, 1000)).collect();
        let in_sequence: Vec<f32> =
            (0..1000).map(|index| arrays.iter().fold(0.0, |sum, array| sum + array[index])).collect();
        let swapped = plain_tree([0, 2, 1, 3].map(|rank| arrays[rank].clone()).to_vec());
        let tree = plain_tree(arrays);
        for other in [in_sequence, swapped] {
            assert!(tree.iter().zip(&other).filter(|(a, b)| a.to_bits() != b.to_bits()).count() > 100);
        }
    }

    #[test]
    fn a_nan_has_the_same_bits_on_every_rank() {
        let sums = on_ranks(4, |exchange| {
            let payload = f32::from_bits(0x7fc0_0001 + exchange.rank as u32);
            let mut values = [payload, f32::INFINITY * if exchange.rank == 2 { -1.0 } else { 1.0 }];
            sum(&exchange, &mut values).unwrap();
            bits(&values)
        });
        assert_eq!(sums, vec![vec![f32::NAN.to_bits(); 2]; 4]);
    }

    #[test]
    fn a_sum_of_three_processes_is_refused() {
        let refusals = on_ranks(3, |exchange| describe(&sum(&exchange, &mut [1.0_f64]).unwrap_err()));
        assert!(refusals[0].starts_with("expected a number of processes that is a power of two, found 3"));
    }

    #[test]
    fn any_number_of_processes_gathers_broadcasts_and_agrees() {
        for size in [1, 2, 3, 4, 5, 7, 8] {
            for length in [0, 1, 1000, CHUNK_BYTES + 1] {
                let of_rank = |rank: usize| vec![rank as u8; if rank == 1 { 3 } else { length }];
                let results = on_ranks(size, |exchange| {
                    let mut bytes = of_rank(exchange.rank);
                    let gathered = gather(&exchange, &bytes).unwrap();
                    broadcast(&exchange, &mut bytes).unwrap();
                    let answers = (0..=size).map(|rank| any(&exchange, exchange.rank == rank).unwrap());
                    (gathered, bytes, answers.collect::<Vec<bool>>())
                });
                let gathered: Vec<Vec<u8>> = (0..size).map(of_rank).collect();
                let answers: Vec<bool> = (0..=size).map(|rank| rank < size).collect();
                assert!(results.iter().all(|result| *result == (gathered.clone(), of_rank(0), answers.clone())));
            }
        }
    }
}
