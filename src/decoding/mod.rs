//! From images to token ids.
//!
//! Every way of decoding is a search for each image: which captions it continues, and what becomes of them when the
//! logits of their next tokens are known. [`decode`] runs the searches of a batch side by side on a key-value cache.

mod beam_search;
mod constraints;
mod decode;
mod greedy;
mod sampling;
mod search;

pub use constraints::Constraints;
pub use decode::{decode, decode_after};
pub use search::{DecodedCaption, Decoding, Strategy};
