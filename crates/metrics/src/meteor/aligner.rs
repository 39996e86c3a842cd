//! Chooses among all matches those that make the best alignment, by the beam search of METEOR 1.5.
//!
//! The search goes through the reference from left to right. It keeps the 40 best alignments of what it has seen; which
//! of equally good ones is kept depends on the order in which they were created, so that order is part of the result.

use std::cmp::Reverse;

use super::matches::{Match, Module};

/// Alignments that are followed at a time.
const BEAM_SIZE: usize = 40;
/// Paths beyond which the worse ones are dropped before all are built. It changes nothing but the memory.
const PATHS_TO_PRUNE: usize = 1000;

/// The chosen matches, by their first word in the reference. No word of either sentence is in two of them.
///
/// `matches` are sorted by their first word in the reference. Time grows with the words of the reference times the
/// matches of one of them times the beam.
pub(super) fn align(matches: &[Match], candidate_length: usize, reference_length: usize) -> Vec<Match> {
    let lattice = Lattice::new(matches, candidate_length, reference_length);
    let mut beam = Beam::new(candidate_length);
    for position in 0..reference_length as u32 {
        beam.advance(position, &lattice);
        beam.settle(matches);
    }
    let mut chosen = beam.into_best(matches);
    chosen.extend(lattice.fixed.iter().flatten());
    chosen.sort_unstable_by_key(|chosen| chosen.start);
    chosen
}

/// Number of chunks: runs of matches that are adjacent and in the same order in both sentences.
pub(super) fn count_chunks(chosen: &[Match]) -> u64 {
    let is_adjacent =
        |pair: &[Match]| pair[0].end() == pair[1].start && pair[0].candidate_end() == pair[1].candidate_start;
    let num_joints = chosen.windows(2).filter(|pair| is_adjacent(pair)).count();
    (chosen.len() - num_joints) as u64
}

/// The matches that begin at each word of the reference, and those that need no search.
struct Lattice<'a> {
    matches: &'a [Match],
    /// Where the matches of a word begin; one more than words.
    first: Vec<u32>,
    /// The match that begins at a word, if none other touches any of its words.
    fixed: Vec<Option<Match>>,
}

impl<'a> Lattice<'a> {
    fn new(matches: &'a [Match], candidate_length: usize, reference_length: usize) -> Self {
        let mut first = vec![0; reference_length + 1];
        let mut coverage = vec![0u32; reference_length];
        let mut candidate_coverage = vec![0u32; candidate_length];
        for found in matches {
            first[found.start as usize + 1] += 1;
            words(found.start, found.end()).for_each(|word| coverage[word] += 1);
            words(found.candidate_start, found.candidate_end()).for_each(|word| candidate_coverage[word] += 1);
        }
        for position in 0..reference_length {
            first[position + 1] += first[position];
        }
        let is_alone = |found: &Match| {
            words(found.start, found.end()).all(|word| coverage[word] == 1)
                && words(found.candidate_start, found.candidate_end()).all(|word| candidate_coverage[word] == 1)
        };
        let fixed = (0..reference_length).map(|position| match matches[words(first[position], first[position + 1])] {
            [found] if is_alone(&found) => Some(found),
            _ => None,
        });
        let fixed = fixed.collect();
        Self { matches, first, fixed }
    }

    /// Numbers of the matches that begin at a word.
    fn at(&self, position: u32) -> std::ops::Range<usize> {
        words(self.first[position as usize], self.first[position as usize + 1])
    }
}

fn words(start: u32, end: u32) -> std::ops::Range<usize> {
    start as usize..end as usize
}

/// An alignment of the words of the reference before some position.
#[derive(Clone, Copy, Debug, Default)]
struct Path {
    /// Weighted words of both sentences in its matches; more is better.
    weight: u32,
    /// Chunks that are closed; fewer is better.
    num_chunks: u32,
    /// How far matched words are from each other, as METEOR counts it; less is better.
    distance: u64,
    /// The first word of the reference after its last match or skipped word.
    next: u32,
    /// The word of the candidate after its last match, while the chunk is open.
    chunk_end: Option<u32>,
    /// Its last searched match in `Beam::steps`.
    last_step: Option<u32>,
    /// Which words of the candidate it uses: a row of `Beam::used`.
    row: u32,
    /// The number of a match that is still missing in both of the above.
    pending: Option<u32>,
}

impl Path {
    fn add(&mut self, found: &Match) {
        self.weight += weight(found);
        if self.chunk_end.is_some_and(|end| end != found.candidate_start) {
            self.num_chunks += 1;
        }
        self.next = found.end();
        self.chunk_end = Some(found.candidate_end());
    }

    fn close_chunk(&mut self) {
        if self.chunk_end.take().is_some() {
            self.num_chunks += 1;
        }
    }
}

/// Words of both sides if they are equal; else half of them, rounded down on each side.
fn weight(found: &Match) -> u32 {
    match found.module {
        Module::Exact => found.length + found.candidate_length,
        Module::Stem | Module::Synonym | Module::Paraphrase => found.length / 2 + found.candidate_length / 2,
    }
}

fn distance(found: &Match) -> u64 {
    found.start.abs_diff(found.candidate_start).into()
}

/// Sorts the paths, the best first and equal ones as they are, and drops those beyond the beam.
fn keep_best(paths: &mut Vec<Path>) {
    paths.sort_by_key(|path| (Reverse(path.weight), path.num_chunks, path.distance));
    paths.truncate(BEAM_SIZE);
}

/// The best paths, in order.
struct Beam {
    paths: Vec<Path>,
    /// One row for each path with one bit for each word of the candidate.
    used: Vec<u64>,
    row_length: usize,
    /// Searched matches, by number, each with the step before it.
    steps: Vec<(u32, Option<u32>)>,
}

impl Beam {
    fn new(candidate_length: usize) -> Self {
        let row_length = candidate_length.div_ceil(64);
        Self { paths: vec![Path::default()], used: vec![0; row_length], row_length, steps: Vec::new() }
    }

    /// Extends each path in all ways that the word at `position` allows.
    fn advance(&mut self, position: u32, lattice: &Lattice) {
        let mut paths = Vec::with_capacity(2 * self.paths.len());
        for mut path in self.paths.iter().copied() {
            if path.next > position {
                paths.push(path);
                continue;
            }
            if let Some(fixed) = &lattice.fixed[position as usize] {
                path.add(fixed);
                path.distance += distance(fixed);
                paths.push(path);
                continue;
            }
            for number in lattice.at(position) {
                let found = &lattice.matches[number];
                if self.is_used(path.row, found) {
                    continue;
                }
                let mut longer = Path { pending: Some(number as u32), ..path };
                longer.add(found);
                paths.push(longer);
                // METEOR adds the distance to the path that the match is not in, and so to all that are made of it
                // from here on.
                path.distance += distance(found);
            }
            path.close_chunk();
            path.next += 1;
            paths.push(path);
            if paths.len() > PATHS_TO_PRUNE {
                keep_best(&mut paths);
            }
        }
        keep_best(&mut paths);
        self.paths = paths;
    }

    fn is_used(&self, row: u32, found: &Match) -> bool {
        let row = row as usize * self.row_length;
        words(found.candidate_start, found.candidate_end())
            .any(|word| self.used[row + word / 64] >> (word % 64) & 1 == 1)
    }

    /// Gives each path its own row and its last step.
    fn settle(&mut self, matches: &[Match]) {
        let mut used = Vec::with_capacity(self.paths.len() * self.row_length);
        for (row, path) in self.paths.iter_mut().enumerate() {
            let before = path.row as usize * self.row_length;
            used.extend_from_slice(&self.used[before..before + self.row_length]);
            path.row = row as u32;
            if let Some(number) = path.pending.take() {
                let found = &matches[number as usize];
                for word in words(found.candidate_start, found.candidate_end()) {
                    used[row * self.row_length + word / 64] |= 1 << (word % 64);
                }
                self.steps.push((number, path.last_step));
                path.last_step = Some(self.steps.len() as u32 - 1);
            }
        }
        self.used = used;
    }

    /// The searched matches of the best path, once its last chunk is closed.
    fn into_best(mut self, matches: &[Match]) -> Vec<Match> {
        self.paths.iter_mut().for_each(Path::close_chunk);
        keep_best(&mut self.paths);
        let mut step = self.paths[0].last_step;
        let mut chosen = Vec::new();
        while let Some(index) = step {
            let (number, before) = self.steps[index as usize];
            chosen.push(matches[number as usize]);
            step = before;
        }
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(start: u32, candidate_start: u32) -> Match {
        Match { start, candidate_start, length: 1, candidate_length: 1, module: Module::Exact }
    }

    fn phrase(start: u32, candidate_start: u32, length: u32, candidate_length: u32) -> Match {
        Match { start, candidate_start, length, candidate_length, module: Module::Paraphrase }
    }

    #[test]
    fn without_a_choice_all_matches_are_taken() {
        let matches = [exact(0, 2), exact(1, 0), exact(3, 1)];
        assert_eq!(align(&matches, 3, 4), matches);
        assert_eq!(align(&[], 3, 4), []);
        assert_eq!(align(&[], 0, 0), []);
    }

    #[test]
    fn fewer_chunks_win_among_equally_many_words() {
        // "the dog" against "the cat the dog".
        let matches = [exact(0, 0), exact(2, 0), exact(3, 1)];
        assert_eq!(align(&matches, 2, 4), [exact(2, 0), exact(3, 1)]);
    }

    #[test]
    fn more_words_win_over_fewer_chunks() {
        // "a b a" against "a x b a".
        let matches = [exact(0, 0), exact(0, 2), exact(2, 1), exact(3, 0), exact(3, 2)];
        assert_eq!(align(&matches, 3, 4), [exact(0, 0), exact(2, 1), exact(3, 2)]);
    }

    #[test]
    fn no_word_is_used_twice() {
        let matches = [exact(0, 0), exact(1, 0), phrase(1, 0, 2, 2), exact(2, 1)];
        let chosen = align(&matches, 2, 3);
        let sum = |length: fn(&Match) -> u32| chosen.iter().map(length).sum::<u32>();
        assert!(sum(|found| found.candidate_length) <= 2 && sum(|found| found.length) <= 3, "{chosen:?}");
        assert_eq!(count_chunks(&chosen), 1);
    }

    #[test]
    fn words_beyond_the_64th_are_distinguished() {
        let matches: Vec<Match> = (0..200).flat_map(|word| [exact(word, word), exact(word, 199 - word)]).collect();
        let chosen = align(&matches, 200, 200);
        assert_eq!(chosen.len(), 200);
        assert_eq!(count_chunks(&chosen), 1, "in order, not reversed");
    }

    #[test]
    fn chunks_end_where_either_side_has_a_gap() {
        assert_eq!(count_chunks(&[]), 0);
        assert_eq!(count_chunks(&[exact(0, 0), exact(1, 1), exact(2, 2)]), 1);
        assert_eq!(count_chunks(&[exact(0, 0), exact(2, 1)]), 2);
        assert_eq!(count_chunks(&[exact(0, 0), exact(1, 2)]), 2);
        assert_eq!(count_chunks(&[exact(0, 1), exact(1, 0)]), 2);
        assert_eq!(count_chunks(&[phrase(0, 1, 2, 3), exact(2, 4)]), 1);
    }
}
