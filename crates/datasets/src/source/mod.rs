//! The files that you have, in folders and archives. Imports go down: `limits` < `zip_archive`, `tar_archive` <
//! `archive` < `listing` < `pictures` < `files`.

mod archive;
mod files;
mod limits;
mod listing;
mod pictures;
mod tar_archive;
mod zip_archive;

pub use crate::name_forms::without_ending;
pub use archive::{Archive, ArchiveFormat};
pub use files::{Source, SourceFile};
pub use limits::Limits;
pub use listing::{Listed, Listing, Stamp};
pub(crate) use listing::{is_archive_name, is_packed_name};
pub use pictures::{START, UnnamedPictures, UnreadPictures};
