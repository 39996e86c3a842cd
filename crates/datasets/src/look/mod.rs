//! What there is to see in a prepared data set before it is trained on: pictures that cannot be read, their sizes, those
//! that are there twice, and captions that are worth a look.
//!
//! Everything is found anew from the files as they are, whoever made them. It judges nothing and changes nothing.
//!
//! Imports go down: `pictures` < `duplicates`; `captions` stands alone.

mod captions;
mod duplicates;
mod pictures;

pub use captions::{CaptionFacts, OddCaption, OddKind, Oddity, RepeatedCaption, Word, caption_facts};
pub use duplicates::{Duplicates, Pair, PairList, duplicates};
pub use pictures::{Picture, read_pictures};
