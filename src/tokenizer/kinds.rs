//! The kinds of tokenizers.

use super::kind::Kind;
use super::{byte_level_bpe, word_piece};

pub(super) static KINDS: [&Kind; 2] = [&byte_level_bpe::KIND, &word_piece::KIND];
