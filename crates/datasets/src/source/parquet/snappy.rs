//! Where a page that snappy compressed can be cut, so that an image in it is read without all that is before it.
//! Programs compress 64 KiB at a time, and what is copied within them is never from before.

/// What is compressed at a time.
const FRAGMENT: usize = 1 << 16;

/// A place between two elements of a compressed page after which nothing is copied from before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// Bytes before it, as they are in the file.
    pub(super) packed: usize,
    /// Bytes before it, unpacked.
    pub(super) unpacked: usize,
}

/// The places where a page can be cut, its beginning and its end among them; `None` where it cannot be read.
pub(super) fn cuts(packed: &[u8]) -> Option<Vec<Cut>> {
    let header = packed.iter().position(|byte| byte & 0x80 == 0)? + 1;
    let mut cuts = vec![Cut { packed: header, unpacked: 0 }];
    let (mut at, mut done) = (header, 0_usize);
    while at < packed.len() {
        if done > 0 && done % FRAGMENT == 0 && cuts.last().is_some_and(|last| last.unpacked < done) {
            cuts.push(Cut { packed: at, unpacked: done });
        }
        let tag = usize::from(packed[at]);
        at += 1;
        let number = |count: usize| {
            let bytes = packed.get(at..at + count)?;
            Some(bytes.iter().rev().fold(0, |number: usize, &byte| number << 8 | usize::from(byte)))
        };
        let (length, back, taken) = match tag & 3 {
            0 => {
                let (more, short) = ((tag >> 2).saturating_sub(59), (tag >> 2) + 1);
                let length = if more == 0 { short } else { number(more)?.checked_add(1)? };
                (length, 0, more.checked_add(length)?)
            }
            1 => (((tag >> 2) & 7) + 4, (tag >> 5) << 8 | number(1)?, 1),
            2 => ((tag >> 2) + 1, number(2)?, 2),
            _ => ((tag >> 2) + 1, number(4)?, 4),
        };
        let from = done.checked_sub(back)?;
        while cuts.last().is_some_and(|last| last.unpacked > from) {
            cuts.pop();
        }
        at = at.checked_add(taken).filter(|&at| at <= packed.len())?;
        done = done.checked_add(length)?;
    }
    if cuts.last().is_some_and(|last| last.unpacked < done) {
        cuts.push(Cut { packed: at, unpacked: done });
    }
    Some(cuts)
}

/// The last cut before the values from `start` to `end`, and the first one after them.
pub(super) fn around(cuts: &[Cut], start: usize, end: usize) -> Option<(Cut, Cut)> {
    let first = cuts.partition_point(|cut| cut.unpacked <= start).checked_sub(1)?;
    let last = cuts.partition_point(|cut| cut.unpacked < end);
    Some((*cuts.get(first)?, *cuts.get(last)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shards::place::Codec;
    use crate::shards::unpack::unpack;
    use base::random::Stream;

    /// Noise with parts that were there before.
    fn content() -> Vec<u8> {
        let mut stream = Stream::new(0, "test", "snappy");
        let mut content: Vec<u8> = Vec::new();
        while content.len() < 300_000 {
            let length = 1 + stream.below(9000);
            if stream.below(3) > 0 && content.len() > 20_000 {
                let from = content.len() - 10_000 - stream.below(9000);
                content.extend_from_within(from..from + length);
            } else {
                content.extend((0..length).map(|_| stream.next_u64() as u8));
            }
        }
        content
    }

    #[test]
    fn each_part_between_two_cuts_unpacks_alone() {
        let content = content();
        let packed = snap::raw::Encoder::new().compress_vec(&content).unwrap();
        let cuts = cuts(&packed).unwrap();
        assert_eq!(cuts.len(), 1 + content.len().div_ceil(FRAGMENT));
        assert_eq!(cuts.last().unwrap(), &Cut { packed: packed.len(), unpacked: content.len() });
        for (start, length) in
            [(0, 1), (70_000, 2000), (65_000, 1000), (131_072, 65_536), (299_000, 1000), (0, 300_000)]
        {
            let (first, last) = around(&cuts, start, start + length).unwrap();
            assert!(last.unpacked - first.unpacked <= length + 2 * FRAGMENT);
            let part = &packed[first.packed..last.packed];
            let part = unpack(Codec::SnappyPart, part, last.unpacked - first.unpacked).unwrap();
            assert!(part[start - first.unpacked..][..length] == content[start..start + length], "{start} {length}");
        }
        assert_eq!(around(&cuts, 0, content.len() + 1), None);
    }

    #[test]
    fn a_page_that_copies_from_far_before_is_not_cut_there() {
        // 65,536 bytes as they are, then 4 of them again from the beginning.
        let mut packed = vec![0x84, 0x80, 0x04, 61 << 2, 0xff, 0xff];
        packed.extend(vec![7; FRAGMENT]);
        packed.extend([3 << 2 | 3, 0, 0, 1, 0]);
        assert_eq!(snap::raw::Decoder::new().decompress_vec(&packed).unwrap(), vec![7; FRAGMENT + 4]);
        let end = Cut { packed: packed.len(), unpacked: FRAGMENT + 4 };
        assert_eq!(cuts(&packed).unwrap(), [Cut { packed: 3, unpacked: 0 }, end]);
    }

    #[test]
    fn what_is_cut_or_copies_from_before_the_beginning_is_nothing() {
        for packed in
            [&b""[..], b"\x80", b"\x04\x0cab", b"\x04\x01", b"\x04\x0d\x01", b"\x04\xf0", b"\x04\xfc\xff\xff\xff\xff"]
        {
            assert_eq!(cuts(packed), None, "{packed:?}");
        }
        assert_eq!(cuts(b"\x00").unwrap(), [Cut { packed: 1, unpacked: 0 }]);
    }
}
