//! Damage that stays well-formed: a valid JSON document with some values replaced, swapped or removed, so that a fuzzer
//! gets past the parser.

use serde_json::{Value, json};

/// The bytes of a JSON document. An input whose first byte numbers one of `bases` is a list of edits of that document,
/// two bytes each; any other input, such as every text, is the document itself.
pub fn document(data: &[u8], bases: &[Value]) -> Vec<u8> {
    match data.split_first().and_then(|(&first, edits)| Some((bases.get(usize::from(first))?, edits))) {
        Some((base, edits)) => edited(base, edits).to_string().into_bytes(),
        None => data.to_vec(),
    }
}

/// Edits that are applied; more only cost time.
const MOST_EDITS: usize = 8;
/// Maximum number of values inside a copied value, so that a document does not double with each edit.
const MOST_COPIED: usize = 32;

/// `base` with each pair of `edits` applied: which value, and what becomes of it.
pub fn edited(base: &Value, edits: &[u8]) -> Value {
    let mut document = base.clone();
    let values = values();
    for edit in edits.chunks_exact(2).take(MOST_EDITS) {
        let size = count(&document);
        let (place, change) = (usize::from(edit[0]) % size, usize::from(edit[1]));
        let value = match values.get(change) {
            Some(value) => value.clone(),
            None if change == 255 => {
                remove(&mut document, place);
                continue;
            }
            None => match nth(&mut document, &mut (change % size)) {
                Some(other) if count(other) <= MOST_COPIED => other.clone(),
                _ => continue,
            },
        };
        if let Some(target) = nth(&mut document, &mut { place }) {
            *target = value;
        }
    }
    document
}

/// Values at the edges of what readers expect.
fn values() -> Vec<Value> {
    vec![
        Value::Null,
        json!(true),
        json!(false),
        json!(0),
        json!(1),
        json!(2),
        json!(3),
        json!(8),
        json!(-1),
        json!(255),
        json!(1025),
        json!(65_536),
        json!(1 << 20),
        json!(1 << 24),
        json!(1_u64 << 32),
        json!(i64::MAX),
        json!(u64::MAX),
        json!(0.5),
        json!(-0.0),
        json!(1e-320),
        json!(1e300),
        json!(""),
        json!("a"),
        json!("\u{0}"),
        json!("../x"),
        json!("\u{120}\u{1f415}\u{df}"),
        json!([]),
        json!({}),
        json!([1, 2]),
        json!({"height": 3, "width": 8192}),
        json!({"shortest_edge": 1}),
    ]
}

/// The values in a document, itself included.
fn count(value: &Value) -> usize {
    1 + match value {
        Value::Object(table) => table.values().map(count).sum(),
        Value::Array(list) => list.iter().map(count).sum(),
        _ => 0,
    }
}

/// The value of this number, counted from the document itself inwards.
fn nth<'a>(value: &'a mut Value, number: &mut usize) -> Option<&'a mut Value> {
    if *number == 0 {
        return Some(value);
    }
    *number -= 1;
    match value {
        Value::Object(table) => table.values_mut().find_map(|inner| nth(inner, number)),
        Value::Array(list) => list.iter_mut().find_map(|inner| nth(inner, number)),
        _ => None,
    }
}

/// Takes the value of this number out of the object or list that it is in.
fn remove(value: &mut Value, mut number: usize) {
    // The document itself stays.
    let Some(inner) = number.checked_sub(1) else { return };
    number = inner;
    let sizes: Vec<usize> = match value {
        Value::Object(table) => table.values().map(count).collect(),
        Value::Array(list) => list.iter().map(count).collect(),
        _ => return,
    };
    for (index, size) in sizes.into_iter().enumerate() {
        if number >= size {
            number -= size;
            continue;
        }
        match value {
            Value::Object(table) => {
                let key = table.keys().nth(index).cloned().unwrap_or_default();
                if number == 0 {
                    table.remove(&key);
                } else if let Some(inner) = table.get_mut(&key) {
                    remove(inner, number);
                }
            }
            Value::Array(list) if number == 0 => {
                list.remove(index);
            }
            Value::Array(list) => remove(&mut list[index], number),
            _ => {}
        }
        return;
    }
}

/// `bytes` with three bytes of `patches` for each change: where (two bytes) and by what.
pub fn patched(bytes: &[u8], patches: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for patch in patches.chunks_exact(3) {
        let place = usize::from(u16::from_le_bytes([patch[0], patch[1]]));
        if let Some(byte) = bytes.get_mut(place) {
            *byte = patch[2];
        }
    }
    bytes
}
