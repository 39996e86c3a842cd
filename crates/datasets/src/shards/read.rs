//! Reads images where they lie in their shards.

use std::fs::File;
use std::path::Path;

use crate::shards::index::ShardFile;
use crate::shards::place::Place;
use base::bounded_file;

#[derive(Debug)]
pub struct ShardReader {
    shards: Vec<(ShardFile, File)>,
}

impl ShardReader {
    pub fn open(shards: Vec<ShardFile>) -> anyhow::Result<Self> {
        let open = |shard: ShardFile| {
            let file = bounded_file::open(&shard.path)?;
            Ok((shard, file))
        };
        Ok(Self { shards: shards.into_iter().map(open).collect::<anyhow::Result<_>>()? })
    }

    pub fn path(&self, place: &Place) -> &Path {
        self.shards.get(place.shard as usize).map_or(Path::new(""), |(shard, _)| &shard.path)
    }

    pub fn read(&self, place: &Place) -> anyhow::Result<Vec<u8>> {
        use std::os::unix::fs::FileExt as _;
        let mut bytes = vec![0; place.bytes as usize];
        self.shards[place.shard as usize].1.read_exact_at(&mut bytes, place.block)?;
        Ok(bytes)
    }
}
