//! Ways out of a download that failed, in the same words for models and data sets. `otherwise` is the way without a
//! network.

use std::fmt::Display;
use std::path::Path;

use crate::base::fault::fault;

/// For a repository that is not there or not shown.
pub(super) const NOT_SHOWN: &str =
    "check the id; for a private or gated repository accept its terms on its page and set HF_TOKEN";
/// For a server that has had enough requests.
pub(super) const TOO_MANY: &str = "wait some minutes, or set HF_TOKEN, which raises the limit";

pub(super) fn check_cache(cache: &Path) -> String {
    format!("check the space and the rights in {}, or set HF_HUB_CACHE to another folder", cache.display())
}

pub(super) fn check_network(otherwise: impl Display) -> String {
    format!("check the network; without one set HF_HUB_OFFLINE=1 to use what was downloaded before, or {otherwise}")
}

pub(super) fn later(otherwise: impl Display) -> String {
    format!("try again later, or {otherwise}")
}

/// Something that must be in the cache when there is nothing else, and is not.
pub(super) fn not_cached(what: impl Display, cache: &Path, otherwise: impl Display) -> anyhow::Error {
    fault(
        format!("{what} is not in the cache {}, and HF_HUB_OFFLINE is set", cache.display()),
        format!("unset HF_HUB_OFFLINE to download it, or {otherwise}"),
    )
}
