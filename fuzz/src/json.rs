//! Damage that stays well-formed: a sound JSON document with some of its values replaced, swapped or removed, so that
//! a fuzzer gets past the parser and to what is made of the values.

use serde_json::{Value, json};

/// The bytes of a JSON document. An input whose first byte numbers one of `bases` is a list of edits of that document,
/// two bytes each; any other input, such as every text, is the document itself.
pub fn document(data: &[u8], bases: &[Value]) -> Vec<u8> {
    match data.split_first().and_then(|(&first, edits)| Some((bases.get(usize::from(first))?, edits))) {
        Some((base, edits)) => edited(base, edits).to_string().into_bytes(),
        None => data.to_vec(),
    }
}

/// `base` with each pair of `edits` carried out: which value, and what becomes of it.
pub fn edited(base: &Value, edits: &[u8]) -> Value {
    let mut document = base.clone();
    let values = values();
    for edit in edits.chunks_exact(2) {
        let (place, change) = (usize::from(edit[0]), usize::from(edit[1]));
        let mut places = Vec::new();
        collect(&document, String::new(), &mut places);
        let path = places[place % places.len()].clone();
        if let Some(value) = values.get(change) {
            replace(&mut document, &path, value.clone());
        } else if change == 255 {
            remove(&mut document, &path);
        } else {
            let other = document.pointer(&places[change % places.len()]).cloned();
            replace(&mut document, &path, other.unwrap_or_default());
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

fn collect(value: &Value, path: String, places: &mut Vec<String>) {
    match value {
        Value::Object(table) => table.iter().for_each(|(key, value)| {
            let key = key.replace('~', "~0").replace('/', "~1");
            collect(value, format!("{path}/{key}"), places);
        }),
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(index, value)| collect(value, format!("{path}/{index}"), places));
        }
        _ => {}
    }
    places.push(path);
}

fn replace(document: &mut Value, path: &str, value: Value) {
    if let Some(place) = document.pointer_mut(path) {
        *place = value;
    }
}

fn remove(document: &mut Value, path: &str) {
    let Some((parent, key)) = path.rsplit_once('/') else { return };
    match document.pointer_mut(parent) {
        Some(Value::Object(table)) => {
            table.remove(&key.replace("~1", "/").replace("~0", "~"));
        }
        Some(Value::Array(list)) => {
            if let Some(index) = key.parse().ok().filter(|&index: &usize| index < list.len()) {
                list.remove(index);
            }
        }
        _ => {}
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
