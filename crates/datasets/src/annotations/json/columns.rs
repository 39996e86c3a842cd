//! A table as a JSON object of its columns, as pandas writes it: `{"image": {"0": "1.jpg"}, "caption": {"0": "A
//! dog."}}`, or a list for each column; also `{"columns": [...], "data": [[...]]}`.

use std::collections::HashMap;

use serde_json::value::RawValue;

use crate::annotations::fields::Columns;
use crate::annotations::json::record::Record;
use crate::annotations::json::values::{entries, string};
use crate::column_names::ColumnNames;

/// Whether the keys at the top of an object are the columns of a table of images and captions, or say that there are
/// some.
pub(crate) fn is_table(keys: &[String], names: &ColumnNames) -> bool {
    let has = |wanted: &str| keys.iter().any(|key| key == wanted);
    Columns::named(keys.iter().map(String::as_str), names).is_complete() || has("columns") && has("data")
}

/// The rows of the table. None where the object is none.
pub(crate) fn rows<'a>(text: &'a str, called: &ColumnNames) -> Vec<Record<'a>> {
    let columns = entries(text).unwrap_or_default();
    let under = |name: &str| columns.iter().find(|(key, _)| key == name).map(|(_, raw)| *raw);
    if let (Some(names), Some(data)) = (under("columns"), under("data")) {
        let names: Vec<_> = list(names).into_iter().map(|name| string(name).unwrap_or_default()).collect();
        let row = |raw| {
            let mut record = Record::default();
            names.iter().zip(list(raw)).for_each(|(name, value)| record.set(name, value, called));
            record
        };
        return list(data).into_iter().map(row).collect();
    }
    let (mut rows, mut place) = (Vec::new(), HashMap::new());
    for (name, column) in &columns {
        let cells = match column.starts_with('[') {
            true => list(column).into_iter().enumerate().map(|(row, raw)| (row.to_string().into(), raw)).collect(),
            false => entries(column).unwrap_or_default(),
        };
        for (row, raw) in cells {
            let row = *place.entry(row).or_insert_with(|| {
                rows.push(Record::default());
                rows.len() - 1
            });
            rows[row].set(name, raw, called);
        }
    }
    rows
}

fn list(raw: &str) -> Vec<&str> {
    let all: Vec<&RawValue> = serde_json::from_str(raw).unwrap_or_default();
    all.into_iter().map(RawValue::get).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_as_pandas_writes_them_are_rows() {
        for text in [
            r#"{"image": {"0": "a.jpg", "1": "b.jpg"}, "caption": {"0": "A", "1": "B"}, "n": {"0": 1, "1": 2}}"#,
            r#"{"image": ["a.jpg", "b.jpg"], "caption": ["A", ["B"]]}"#,
            r#"{"columns": ["n", "image", "caption"], "index": [0, 1], "data": [[1, "a.jpg", "A"], [2, "b.jpg", "B"]]}"#,
        ] {
            let keys: Vec<String> = entries(text).unwrap().into_iter().map(|(key, _)| key.into_owned()).collect();
            assert!(is_table(&keys, &ColumnNames::default()), "{text}");
            let rows: Vec<String> = rows(text, &ColumnNames::default())
                .iter()
                .map(|row| format!("{} {}", row.image().unwrap(), row.captions().join(" ")))
                .collect();
            assert_eq!(rows, ["a.jpg A", "b.jpg B"], "{text}");
        }
        let none = |text| rows(text, &ColumnNames::default()).is_empty();
        assert!(none("[]") && none(r#"{"image": 3}"#));
    }
}
