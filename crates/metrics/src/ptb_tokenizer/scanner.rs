//! Cuts text into tokens: at each place the rule with the longest match decides.

use std::collections::HashSet;

use regex_automata::hybrid::LazyStateID;
use regex_automata::hybrid::dfa::{Cache, Config, DFA};
use regex_automata::nfa::thompson;
use regex_automata::util::{start, syntax};
use regex_automata::{Anchored, MatchKind};

use super::rules::{self, Extent, Form, RULES};

/// Bytes that the states of an automaton may take. All 7,592 that the rules can reach take 8 MiB, so that a state, once
/// it is there, stays.
const CACHE_CAPACITY: usize = 32 << 20;
/// Units that a search may go beyond the last match before it remembers where it has been.
const FREE_OVERRUN: usize = 256;
/// Units between two places that it remembers.
const CHECKPOINT_INTERVAL: usize = 64;

/// The automaton of all rules.
pub(super) fn automaton() -> DFA {
    let patterns: Vec<String> = RULES.iter().map(|rule| rules::expand(rule.pattern)).collect();
    DFA::builder()
        .configure(Config::new().match_kind(MatchKind::All).cache_capacity(CACHE_CAPACITY))
        .syntax(syntax::Config::new().unicode(false).utf8(false))
        .thompson(thompson::Config::new().utf8(false))
        .build_many(&patterns)
        .expect("the rules are regular expressions")
}

/// One cut of the text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    /// What becomes of its text.
    pub(super) form: Form,
    /// Units of its text.
    pub(super) length: usize,
    /// Units from its start to the start of the next piece, at least one.
    pub(super) step: usize,
}

/// Cuts one text.
#[derive(Debug)]
pub(super) struct Scanner<'a> {
    dfa: &'a DFA,
    cache: &'a mut Cache,
    units: &'a [u8],
    at: usize,
    /// States and places from which no search gets to a match: without them a text that begins many tokens that it
    /// does not end would take quadratic time (Reps, "Maximal-munch tokenization in linear time", 1998).
    futile: HashSet<(LazyStateID, usize)>,
    visited: Vec<(LazyStateID, usize)>,
}

impl<'a> Scanner<'a> {
    /// A scanner of the text whose classes are `units`.
    pub(super) fn new(dfa: &'a DFA, cache: &'a mut Cache, units: &'a [u8]) -> Self {
        Self { dfa, cache, units, at: 0, futile: HashSet::new(), visited: Vec::new() }
    }

    /// The longest match here, as its end and the first rule that has it.
    fn longest_match(&mut self) -> (usize, usize) {
        const TOTAL: &str = "an automaton that may clear its cache and has no look-around never fails";
        let config = start::Config::new().anchored(Anchored::Yes);
        let mut state = self.dfa.start_state(self.cache, &config).expect(TOTAL);
        let (mut end, mut matched) = (self.at, state);
        for position in self.at..=self.units.len() {
            state = match self.units.get(position) {
                Some(&unit) => self.dfa.next_state(self.cache, state, unit),
                None => self.dfa.next_eoi_state(self.cache, state),
            }
            .expect(TOTAL);
            if state.is_match() {
                // The automaton reports a match one unit late.
                (end, matched) = (position, state);
                self.visited.clear();
            } else if state.is_dead() {
                break;
            } else if position.is_multiple_of(CHECKPOINT_INTERVAL) && position > end + FREE_OVERRUN {
                if self.futile.contains(&(state, position)) {
                    break;
                }
                self.visited.push((state, position));
            }
        }
        if !self.visited.is_empty() {
            self.futile.extend(self.visited.drain(..));
        }
        let rules = (0..self.dfa.match_len(self.cache, matched))
            .map(|index| self.dfa.match_pattern(self.cache, matched, index).as_usize());
        (end, rules.min().expect("the last rules match any unit"))
    }
}

impl Iterator for Scanner<'_> {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        if self.at == self.units.len() {
            return None;
        }
        let (end, rule) = self.longest_match();
        let form = RULES[rule].form;
        let length = extent(RULES[rule].extent, &self.units[self.at..end]);
        let (length, step) = match form {
            Form::AcronymAndStop if length == 2 => (1, 1),
            Form::AcronymAndStop | Form::TextAndStop => (length, length - 1),
            _ => (length, length),
        };
        self.at += step;
        Some(Piece { form, length, step })
    }
}

/// Units of `matched` that belong to the token. Why each is right: what stands before the cut has no unit like the one
/// that is looked for, or what stands after it has none.
fn extent(extent: Extent, matched: &[u8]) -> usize {
    let length = matched.len();
    let position = |is: fn(&u8) -> bool| matched.iter().position(is);
    let last_apostrophe =
        || matched.iter().rposition(|unit| matches!(unit, b'\'' | b'`' | b'&' | 0x97 | 0x98)).unwrap_or(length);
    match extent {
        Extent::Whole => length,
        Extent::AllBut(units) => length.saturating_sub(units),
        Extent::FirstUnit => 1,
        Extent::BeforeSpace => position(|unit| rules::is_blank(*unit)).unwrap_or(length),
        Extent::BeforeApostrophe => last_apostrophe(),
        Extent::BeforeNot => last_apostrophe().saturating_sub(1),
        Extent::ThroughStop => position(|&unit| unit == b'.').map_or(length, |stop| stop + 1),
        Extent::BeforeLineEnd => length - if matched.ends_with(b"\r\n") { 2 } else { 1 },
    }
}
