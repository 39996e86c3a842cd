//! The scores of caption papers: text in, numbers out. Nothing here knows tensors or our own tokenizer.
//!
//! Definitions and results are those of the COCO caption evaluation code (Chen et al. 2015, arXiv:1504.00325; the PyPI
//! package `pycocoevalcap` 1.2). Captions are scored as they are, apart from what the PTB tokenizer removes. SPICE is
//! out of scope: it needs the Stanford scene-graph parser.

#![cfg_attr(test, expect(clippy::disallowed_methods, reason = "tests write files of their own"))]

pub mod bleu;
pub mod bootstrap;
pub mod chrf;
pub mod cider;
pub mod cider_reward;
pub mod comparison;
pub mod corpus;
pub mod meteor;
pub mod ptb_tokenizer;
pub mod rouge;
pub mod score;
pub mod scripts;
pub mod statistics;

mod ngrams;
