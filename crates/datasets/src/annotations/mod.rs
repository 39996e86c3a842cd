//! The captions of a source: which of its files contain some, in which format, and what they say.
//!
//! `candidates` looks into the files that may hold captions. A format says which of them are its own (`find`), and
//! turns them into a [`RawDataset`] (`read`). It decides nothing silently: what it mended is a [`Repair`], what it left
//! out is a [`Reject`], and a file that no format takes is named by `unread`. Image files are the business of
//! `prepare`. `file_roles` judges files that are not here yet.
//!
//! Imports go down: words and texts (`split_names`, `fields`, `text`, ...) < `builder` < `json`, `layout`,
//! `table_columns` < `extras` < `pair_list`, `candidates` < `format` < `formats` < `unread` < `choice` < `scored`.

mod backslash_quotes;
mod builder;
mod candidates;
mod choice;
mod encoding;
mod entities;
mod extras;
mod family;
mod fields;
mod file_names;
mod file_roles;
mod format;
mod formats;
mod input;
mod json;
mod known_dataset;
mod layout;
mod list_text;
mod pair_list;
mod raw_dataset;
mod references;
mod scored;
mod split_names;
mod table_columns;
mod text;
mod training_files;
mod unread;

pub use builder::Reading;
pub(crate) use candidates::unnamed_pictures;
pub use choice::{Choice, Selector, choose};
pub use encoding::decode;
pub use fields::Columns;
pub(crate) use file_names::may_hold_captions;
pub use file_roles::{FileRole, role_of, split_named};
pub use format::{Format, Match};
pub use formats::{FORMATS, flickr8k, flickr30k_hub};
pub use known_dataset::KnownDataset;
pub use pair_list::{ListedPair, read_pair_list};
pub use raw_dataset::{RawDataset, RawImage, Reject, Repair, SplitFrom};
pub(crate) use references::split_of_folders;
pub use references::{Folders, are_others};
pub use scored::{Scored, read_captions, read_scored};
pub(crate) use split_names::{NamedSplit, split_of_path, split_of_word};
pub(crate) use table_columns::TableColumns;
pub use text::{Table, json, separator};
pub use training_files::TrainingFile;
