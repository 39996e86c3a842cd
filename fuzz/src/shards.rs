//! A shard of unknown origin: what is found in it can be read where it lies.

use datasets::column_names::ColumnNames;
use datasets::prepare::shards::scan::scan;
use datasets::shards::place::{Place, digest_of};
use datasets::shards::read::{Shard, ShardReader};
use pixels::image_file::decode_rgb;

use super::scratch;

/// First byte 0: a tar archive. Otherwise a Parquet file.
pub fn shards(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else { return };
    let path = scratch::folder("shards").join(if *kind == 0 { "0.tar" } else { "0.parquet" });
    scratch::write(&path, bytes);
    let Ok(found) = scan(&path, &ColumnNames::default()) else { return };
    let shard = Shard::of(&path).expect("the file stays where it is");
    let reader = ShardReader::open(vec![shard]).expect("the file stays as it is");
    for image in &found.images {
        assert!(!image.captions.is_empty() && image.captions.iter().all(|caption| !caption.trim().is_empty()));
        let content = reader.read(&image.place).expect("what was found can be read");
        assert_eq!((content.len() as u64, digest_of(&content)), (image.place.bytes.into(), image.place.digest));
        assert!(decode_rgb(&content).is_ok(), "what was decoded can be decoded again");
        // Of a place that was changed nothing else is read.
        for wrong in lies(&image.place) {
            assert!(reader.read(&wrong).is_ok_and(|read| read == content) || reader.read(&wrong).is_err());
        }
    }
}

fn lies(place: &Place) -> [Place; 6] {
    [
        Place { block: place.block ^ 1, ..*place },
        Place { block_bytes: place.block_bytes.wrapping_sub(1), ..*place },
        Place { unpacked_bytes: place.unpacked_bytes.wrapping_add(1 << 20), ..*place },
        Place { offset: place.offset.wrapping_sub(1), ..*place },
        Place { bytes: place.bytes.wrapping_add(1), ..*place },
        Place { codec: place.codec ^ 1, ..*place },
    ]
}
