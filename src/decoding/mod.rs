//! From images to token ids.
//!
//! Every way of decoding is a search for each image: which captions it continues, and what becomes of them when the
//! logits of their next tokens are known. [`decode`] runs the searches of a batch side by side. What gives the logits is one
//! decoder or several together (`steps.rs`), each on a key-value cache.

mod beam_search;
mod constraints;
mod decode;
mod greedy;
mod sampling;
mod search;
mod steps;

pub use constraints::Constraints;
pub use decode::{decode, decode_after};
pub use search::{DecodedCaption, Decoding, Strategy};
pub use steps::Member;
