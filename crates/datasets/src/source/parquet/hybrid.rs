//! Small numbers as Parquet writes them, levels and places in a dictionary: runs of one, and groups of eight in bits.

/// The first `count` numbers of `width` bits, which are written as runs of one number and as groups of eight. The last
/// group may be cut.
pub(super) fn hybrid(bytes: &[u8], width: u8, count: usize) -> Option<Vec<u32>> {
    if width > 32 {
        return None;
    }
    let (width, mut at, mut numbers) = (usize::from(width), 0, Vec::with_capacity(count));
    // A dictionary of one value needs no bits, and some programs write none.
    if width == 0 {
        return Some(vec![0; count]);
    }
    while numbers.len() < count {
        let left = count - numbers.len();
        let header = varint(bytes, &mut at)?;
        if header & 1 == 0 {
            let value = bytes.get(at..at + width.div_ceil(8))?;
            at += value.len();
            let number = value.iter().rev().fold(0, |number, &byte| number << 8 | u32::from(byte));
            let run = usize::try_from(header >> 1).map_or(left, |run| run.min(left));
            numbers.resize(numbers.len() + run, number);
        } else {
            let groups = usize::try_from(header >> 1).ok()?;
            let num_here = groups.checked_mul(8)?.min(left);
            let packed = bytes.get(at..)?;
            for place in 0..num_here {
                numbers.push(bits(packed, place * width, width)?);
            }
            at = at.checked_add(groups.checked_mul(width)?)?;
        }
    }
    Some(numbers)
}

/// The number in `width` bits from this one on, the lowest bit first.
fn bits(bytes: &[u8], from: usize, width: usize) -> Option<u32> {
    let (first, shift) = (from / 8, from % 8);
    let part = bytes.get(first..(from + width).div_ceil(8))?;
    let all = part.iter().rev().fold(0_u64, |all, &byte| all << 8 | u64::from(byte));
    Some(((all >> shift) & ((1 << width) - 1)) as u32)
}

fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_and_groups_of_numbers_are_read_as_they_are_written() {
        // Five times 3, then eight numbers of three bits.
        let bytes = [10, 3, 3, 0b1000_1000, 0b1100_0110, 0b1111_1010];
        let expected = [3, 3, 3, 3, 3, 0, 1, 2, 3, 4, 5, 6, 7];
        assert_eq!(hybrid(&bytes, 3, 13).unwrap(), expected);
        assert_eq!(hybrid(&bytes, 3, 7).unwrap(), expected[..7]);
        assert_eq!(hybrid(&bytes[..4], 3, 7).unwrap(), expected[..7], "the last group is cut");
        assert_eq!(hybrid(&bytes, 3, 14), None);
        assert_eq!(hybrid(&[6, 0x34, 0x12], 13, 3).unwrap(), [0x1234; 3]);
        assert_eq!(hybrid(&[3, 1, 0, 0, 0x80], 32, 1).unwrap(), [0x8000_0001]);
        assert_eq!(
            (hybrid(&[], 0, 2), hybrid(&[2, 1], 33, 1), hybrid(&[0xff; 20], 1, 9)),
            (Some(vec![0; 2]), None, None)
        );
        assert_eq!(hybrid(&[0, 1], 1, 1), None, "a run of nothing");
    }
}
