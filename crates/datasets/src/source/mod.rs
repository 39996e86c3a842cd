//! The files that you have, in folders and archives. Imports go down: `limits` < `packing` < `zip_archive`,
//! `tar_archive`, `parquet` < `archive` < `listing` < `pictures` < `files`.

mod archive;
mod files;
mod limits;
mod listing;
mod packing;
mod parquet;
mod pictures;
mod tar_archive;
mod zip_archive;

pub use self::parquet::{FirstRows, first_rows};
pub(crate) use self::parquet::{ImageColumn, Leaf, NoImage, Table, ValueKind, Values, share};
pub use crate::compression::Packing;
pub use crate::name_forms::without_ending;
pub use crate::stamp::Stamp;
pub use archive::{Archive, ArchiveFormat};
pub use files::{Source, SourceFile};
pub use limits::Limits;
pub use listing::{Listed, Listing};
pub(crate) use listing::{TEXTS, is_archive_name, is_packed_name, is_packed_text_name, is_parquet_name};
pub use pictures::{START, UnnamedPictures, UnreadPictures};
#[cfg(test)]
pub(crate) use {self::parquet::writing, crate::compression::packed};
