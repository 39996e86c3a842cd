//! JSON annotations: what objects in them say about images, wherever they are. Imports go down: `values` < `record` <
//! `columns`, `walk` < `shape`; `text` stands for itself.

pub(crate) mod columns;
pub(crate) mod record;
pub(crate) mod shape;
pub(crate) mod text;
pub(crate) mod values;
pub(crate) mod walk;
