//! What `--version` says: version, commit, features.

/// Version, commit and features of this binary.
pub const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (commit ",
    env!("CAPTION_TRAIN_COMMIT"),
    ", features: ",
    env!("CAPTION_TRAIN_FEATURES"),
    ")"
);

/// Name and version, as files record it.
pub fn written_by() -> String {
    format!("caption-train {VERSION}")
}
