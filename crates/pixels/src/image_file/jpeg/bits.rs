//! Bits and Huffman codes of coded JPEG data (ITU-T T.81, annexes C and F).

/// Reads bits from coded data. After their end there are zeros; [`Bits::is_exhausted`] says whether some were used.
pub(super) struct Bits<'a> {
    data: &'a [u8],
    at: usize,
    /// The next bits, the first one highest.
    buffer: u64,
    /// How many of them are from the data; negative when more were used.
    count: i32,
}

impl<'a> Bits<'a> {
    pub(super) fn new(data: &'a [u8], at: usize) -> Self {
        Self { data, at, buffer: 0, count: 0 }
    }

    /// Whether more bits were used than there are.
    #[inline(always)]
    pub(super) fn is_exhausted(&self) -> bool {
        self.count < 0
    }

    /// Where a marker begins that follows directly; `None` where bits are left.
    pub(super) fn end(&self) -> Option<usize> {
        (0..8).contains(&self.count).then_some(self.at)
    }

    /// Brings 32 bits or more into the buffer, as far as there are some.
    #[inline(always)]
    fn refill(&mut self) {
        const ONES: u64 = 0x0101_0101_0101_0101;
        if self.count >= 32 {
            return;
        }
        if let Some(next) = self.data.get(self.at..).and_then(|data| data.first_chunk())
            && self.count >= 0
        {
            let word = u64::from_be_bytes(*next);
            let has_marker = (!word).wrapping_sub(ONES) & word & (ONES << 7) != 0;
            if !has_marker {
                self.buffer |= word >> self.count;
                let num_bytes = (63 - self.count) / 8;
                self.at += num_bytes as usize;
                self.count += 8 * num_bytes;
                return;
            }
        }
        self.refill_by_byte();
    }

    #[cold]
    #[inline(never)]
    fn refill_by_byte(&mut self) {
        while (0..=56).contains(&self.count) {
            let (byte, length) = match self.data.get(self.at..) {
                Some([0xff, 0, ..]) => (0xff, 2),
                // A marker.
                Some([0xff, ..] | []) | None => return,
                Some(&[byte, ..]) => (byte, 1),
            };
            self.buffer |= u64::from(byte) << (56 - self.count);
            self.at += length;
            self.count += 8;
        }
    }

    #[inline(always)]
    fn peek(&self, count: u32) -> usize {
        (self.buffer >> (64 - count)) as usize
    }

    #[inline(always)]
    fn skip(&mut self, count: u32) {
        self.buffer <<= count;
        self.count -= count as i32;
    }

    /// A number of `size` bits, 1 to 15, as the standard's RECEIVE and EXTEND give it.
    #[inline(always)]
    fn number(&mut self, size: u32) -> i32 {
        let bits = self.peek(size);
        self.skip(size);
        extend(bits, size)
    }
}

#[inline(always)]
fn extend(bits: usize, size: u32) -> i32 {
    let bits = bits as i32;
    if bits < 1 << (size - 1) { bits - (1 << size) + 1 } else { bits }
}

/// Bits of which a code or a whole coefficient is looked up at once.
const LOOK_AHEAD: u32 = 10;
const NUM_LOOKED_UP: usize = 1 << LOOK_AHEAD;

#[derive(Clone)]
pub(super) struct Table {
    /// By the next bits: symbol and length of a code that they begin with; length 0 for a longer one.
    codes: Box<[(u8, u8); NUM_LOOKED_UP]>,
    /// By the next bits: a whole coefficient, where they hold code and number.
    coefficients: Box<[Coefficient; NUM_LOOKED_UP]>,
    /// For each length the first code that is longer, as the beginning of 16 bits.
    ends: [u32; 17],
    /// For each length what to add to a code to get the place of its symbol.
    offsets: [i32; 17],
    symbols: Vec<u8>,
}

/// What follows in a block.
#[derive(Clone, Copy, Default)]
pub(super) struct Coefficient {
    /// Zeros before it.
    pub(super) run: u8,
    /// Bits; 0 where it is not known.
    length: u8,
    /// Its value; 0 for a run of zeros only, which ends the block if it is not 15.
    pub(super) value: i16,
}

impl Table {
    /// The table with this number of codes of each length; `None` where they do not fit or symbols are missing.
    pub(super) fn new(counts: &[u8; 16], symbols: &[u8]) -> Option<Self> {
        let mut table = Self {
            codes: Box::new([(0, 0); NUM_LOOKED_UP]),
            coefficients: Box::new([Coefficient::default(); NUM_LOOKED_UP]),
            ends: [0; 17],
            offsets: [0; 17],
            symbols: symbols.to_vec(),
        };
        let (mut code, mut place) = (0u32, 0usize);
        for length in 1..=16 {
            table.offsets[length as usize] = place as i32 - code as i32;
            for _ in 0..counts[length as usize - 1] {
                let symbol = *symbols.get(place)?;
                if code >> length != 0 {
                    return None;
                }
                if length <= LOOK_AHEAD {
                    let first = (code << (LOOK_AHEAD - length)) as usize;
                    table.codes[first..][..1 << (LOOK_AHEAD - length)].fill((symbol, length as u8));
                }
                (code, place) = (code + 1, place + 1);
            }
            table.ends[length as usize] = code << (16 - length);
            code <<= 1;
        }
        for (bits, coefficient) in table.coefficients.iter_mut().enumerate() {
            let (symbol, length) = table.codes[bits];
            let size = symbol & 15;
            if length > 0 && size > 0 && u32::from(length + size) <= LOOK_AHEAD {
                let number = bits >> (LOOK_AHEAD - u32::from(length + size)) & ((1 << size) - 1);
                let value = extend(number, size.into()) as i16;
                *coefficient = Coefficient { run: symbol >> 4, length: length + size, value };
            }
        }
        Some(table)
    }

    /// The symbol of the next code; `None` for bits that are no code.
    #[inline(always)]
    fn symbol(&self, bits: &mut Bits<'_>) -> Option<u8> {
        let (symbol, length) = self.codes[bits.peek(LOOK_AHEAD)];
        if length > 0 {
            bits.skip(length.into());
            return Some(symbol);
        }
        self.long_symbol(bits)
    }

    #[cold]
    #[inline(never)]
    fn long_symbol(&self, bits: &mut Bits<'_>) -> Option<u8> {
        let code = bits.peek(16) as u32;
        let length = (LOOK_AHEAD + 1..=16).find(|&length| code < self.ends[length as usize])?;
        let place = (code >> (16 - length)) as i32 + self.offsets[length as usize];
        bits.skip(length);
        self.symbols.get(usize::try_from(place).ok()?).copied()
    }

    /// The difference of a DC coefficient from the one before; `None` for bits that no picture of 8 bits has.
    #[inline(always)]
    pub(super) fn difference(&self, bits: &mut Bits<'_>) -> Option<i32> {
        bits.refill();
        match self.symbol(bits)? {
            0 => Some(0),
            size @ 1..=11 => Some(bits.number(size.into())),
            _ => None,
        }
    }

    /// The next AC coefficient; `None` for bits that are no code.
    #[inline(always)]
    pub(super) fn coefficient(&self, bits: &mut Bits<'_>) -> Option<Coefficient> {
        bits.refill();
        let coefficient = self.coefficients[bits.peek(LOOK_AHEAD)];
        if coefficient.length > 0 {
            bits.skip(coefficient.length.into());
            return Some(coefficient);
        }
        let symbol = self.symbol(bits)?;
        let size = u32::from(symbol & 15);
        let value = if size == 0 { 0 } else { bits.number(size) as i16 };
        Some(Coefficient { run: symbol >> 4, length: 0, value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Codes 0 (symbol 0x01), 10 (0x00), 110 (0x32) and, of 12 bits, 111000000000 (0xf0).
    fn table() -> Table {
        let mut counts = [0; 16];
        (counts[0], counts[1], counts[2], counts[11]) = (1, 1, 1, 1);
        Table::new(&counts, &[0x01, 0x00, 0x32, 0xf0]).unwrap()
    }

    #[test]
    fn coefficients_are_read_across_bytes_and_stuffing() {
        // 110 11 | 0 1 | 110 00 | 111000000000 | 10, filled up with ones.
        let data = [0b1101_1011, 0b1000_1110, 0b0000_0000, 0b1011_1111, 0xff, 0xd9];
        let mut bits = Bits::new(&data, 0);
        let found: Vec<(u8, i16)> =
            (0..5).map(|_| table().coefficient(&mut bits).map(|found| (found.run, found.value)).unwrap()).collect();
        assert_eq!(found, [(3, 3), (0, 1), (3, -3), (15, 0), (0, 0)]);
        assert_eq!((bits.end(), bits.is_exhausted()), (Some(4), false));
        // 0xff 0x00 stands for 0xff: 1111 1111 1111 is not a code.
        assert!(table().coefficient(&mut Bits::new(&[0xff, 0, 0xff, 0], 0)).is_none());
        let mut bits = Bits::new(&[0b0101_0101, 0xff, 0xd9], 0);
        while !bits.is_exhausted() {
            table().coefficient(&mut bits).unwrap();
        }
        assert_eq!(bits.end(), None);
    }

    #[test]
    fn tables_that_cannot_be_are_refused() {
        let mut counts = [0; 16];
        counts[0] = 3;
        assert!(Table::new(&counts, &[1, 2, 3]).is_none(), "three codes of one bit");
        counts[0] = 2;
        assert!(Table::new(&counts, &[1]).is_none(), "a symbol is missing");
        assert!(Table::new(&counts, &[1, 2]).is_some());
    }
}
