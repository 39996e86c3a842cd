//! Layer 3: from images to token ids.

pub mod greedy;
