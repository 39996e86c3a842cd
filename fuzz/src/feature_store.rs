//! Cache files that are damaged or of unknown origin.

use caption_train::data::feature_store::{Description, FeatureStore, Key};
use serde_json::json;

use super::{json, scratch};

/// Bytes of a row.
const ROW: usize = 5;
/// The row that is appended to the existing ones.
const NEW: (Key, [u8; ROW]) = (*b"the key of the row that is added", *b"a new");

/// The first byte says what the others are: 1 `store.json`; 2 `index.bin`, its length first, and `rows.bin`; else the
/// keys of sound rows up to a 0xff, and patches of their index.
pub fn feature_store(data: &[u8]) {
    let folder = scratch::folder("feature_store");
    let [store, index, rows] = ["store.json", "index.bin", "rows.bin"].map(|name| folder.join(name));
    [&store, &index, &rows].into_iter().for_each(|path| scratch::remove(path));
    let description = Description { content: json!({ "encoder": "x", "views": 1 }), row_bytes: ROW };
    let mut keys: Vec<Key> = vec![[0; 32], [b'k'; 32]];
    match data.split_first() {
        Some((1, text)) => scratch::write(&store, text),
        Some((2, [length, data @ ..])) => {
            let (of_index, of_rows) = data.split_at(usize::from(*length).min(data.len()));
            keys.extend(of_index.chunks_exact(40).filter_map(|entry| Key::try_from(&entry[..32]).ok()));
            scratch::write(&index, of_index);
            scratch::write(&rows, of_rows);
        }
        _ => {
            let end = data.iter().position(|&byte| byte == 0xff).unwrap_or(data.len()).min(64);
            keys.extend(data[..end].iter().map(|&byte| [byte; 32]));
            let entries: Vec<u8> = data[..end].iter().flat_map(|&byte| entry(&[byte; 32], &[byte; ROW])).collect();
            scratch::write(&index, &json::patched(&entries, data.get(end + 1..).unwrap_or_default()));
            scratch::write(&rows, &data[..end].iter().flat_map(|&byte| [byte; ROW]).collect::<Vec<u8>>());
        }
    }
    // The fuzzer finds values that its bytes are compared with.
    keys.retain(|key| *key != NEW.0);
    let Ok(mut opened) = FeatureStore::open(&folder, &description) else { return };
    let before = read_all(&opened, &keys);
    if opened.contains(&NEW.0) {
        return;
    }
    let mut appender = opened.append(|_| true).expect("a cache can be appended to").expect("the lock is free");
    appender.push(&[NEW.0], &NEW.1).expect("a new row can be appended");
    appender.finish().expect("a new row can be appended");
    keys.push(NEW.0);
    let again = FeatureStore::open(&folder, &description).expect("a cache that was appended to can be opened");
    let after = read_all(&again, &keys);
    assert_eq!(after[..before.len()], before, "rows do not change");
    assert_eq!(after[before.len()], Some(NEW.1), "a row that was appended is there");
}

fn read_all(store: &FeatureStore, keys: &[Key]) -> Vec<Option<[u8; ROW]>> {
    let read = |key: &Key| {
        let mut row = [0; ROW];
        let read = store.find(key).map(|found| store.read(found, &mut row));
        assert_eq!(read.is_some(), store.contains(key), "what is there is found, and nothing else");
        read?.is_ok().then_some(row)
    };
    keys.iter().map(read).collect()
}

/// An entry of the index as `data::feature_store` writes it.
fn entry(key: &Key, row: &[u8]) -> Vec<u8> {
    let mut entry = key.to_vec();
    entry.extend(checksum(row).to_le_bytes());
    entry.extend(checksum(&entry).to_le_bytes());
    entry
}

/// CRC-32 (IEEE 802.3).
pub fn checksum(bytes: &[u8]) -> u32 {
    let bit = |crc: u32, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1));
    !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), bit))
}
