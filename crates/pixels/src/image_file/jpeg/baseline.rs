//! The plain JPEG that nearly all photographs are, decoded fast: 8 bits, Huffman codes, all components in one scan,
//! gray or luma with chroma of the same or half the size.
//!
//! The pixels are those of `library`, to the bit, which is why it may be left out. It gives up on whatever is not
//! plain, or not as it should be: no decision about damaged data is made here.

use super::bits::{Bits, Table};
use super::inverse_dct::{BLOCKS, Coefficients, MAX_SUM, inverse_dct};
use super::planes::{Plane, Planes, gray_to_rgb};
use super::structure::Segments;
use base::simd::{Kernel, vectorized};

/// From the order in which coefficients are coded to that of rows.
const NATURAL_ORDER: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21,
    28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54,
    47, 55, 62, 63,
];

/// Steps of quantisation in the order of coding, each with its place in the order of rows. Twice as long, so that a run
/// of zeros beyond the block needs no question in the loop.
type Steps = [(i32, u8); 128];

/// What the segments before the scan say.
#[derive(Default)]
struct Header {
    steps: [Option<Box<Steps>>; 4],
    /// Huffman tables for DC and AC.
    tables: [[Option<Table>; 4]; 2],
    restart_interval: usize,
    is_jfif: bool,
    adobe_transform: Option<u8>,
    frame: Option<Frame>,
}

struct Frame {
    width: usize,
    height: usize,
    /// For each component its id, its samples in a unit of both directions, and the number of its steps.
    components: Vec<(u8, [usize; 2], u8)>,
}

struct Component {
    /// Blocks in a unit, across and down.
    blocks: [usize; 2],
    steps: Box<Steps>,
    dc: Table,
    ac: Table,
    samples: Vec<u8>,
    stride: usize,
}

struct Scan<'a> {
    data: &'a [u8],
    components: &'a mut [Component],
    /// Units across and down.
    units: [usize; 2],
    restart_interval: usize,
}

/// Blocks that wait to be transformed, with their component and the place of their first sample.
struct Waiting {
    coefficients: Coefficients,
    places: [(usize, usize); BLOCKS],
    count: usize,
}

/// A plain JPEG whose headers were read.
pub(super) struct Plain<'a> {
    header: Header,
    frame: Frame,
    factors: (usize, usize),
    /// What the header of the scan says.
    selection: &'a [u8],
    data: &'a [u8],
}

/// Width, height and RGB; `None` for a JPEG that is not plain.
pub(super) fn decode(bytes: &[u8]) -> Option<(usize, usize, Vec<u8>)> {
    Plain::of(bytes)?.decode()
}

impl<'a> Plain<'a> {
    /// `None` for a JPEG that is not plain.
    pub(super) fn of(bytes: &'a [u8]) -> Option<Self> {
        let (mut header, mut segments) = (Header::default(), Segments::new(bytes));
        let selection = loop {
            match segments.next()? {
                (0xda, content) => break content,
                (marker, content) => header.read(marker, content)?,
            }
        };
        let frame = header.frame.take()?;
        let factors = factors(&header, &frame)?;
        Some(Self { header, frame, factors, selection, data: segments.rest() })
    }

    /// Width, height and RGB; `None` for data that are not as they should be. Samples of all components and the pixels
    /// are in memory together.
    pub(super) fn decode(self) -> Option<(usize, usize, Vec<u8>)> {
        let Self { header, frame, factors, selection, data } = self;
        let units = [frame.width.div_ceil(8 * factors.0), frame.height.div_ceil(8 * factors.1)];
        let mut components = components(&header, &frame, selection, units)?;
        let restart_interval = header.restart_interval;
        vectorized(Scan { data, components: &mut components, units, restart_interval })?;
        let mut planes = components.into_iter().enumerate().map(|(index, Component { samples, stride, .. })| {
            let (across, down) = if index == 0 { (1, 1) } else { factors };
            Plane { samples, stride, width: frame.width.div_ceil(across), height: frame.height.div_ceil(down) }
        });
        let luma = planes.next()?;
        let pixels = match (planes.next(), planes.next()) {
            (Some(blue), Some(red)) => Planes { planes: [luma, blue, red], factors }.to_rgb(),
            _ => gray_to_rgb(&luma),
        };
        Some((frame.width, frame.height, pixels))
    }
}

impl Header {
    /// `None` for what no plain JPEG has.
    fn read(&mut self, marker: u8, mut content: &[u8]) -> Option<()> {
        match marker {
            0xdb => {
                while let Some((&kind, rest)) = content.split_first() {
                    let (steps, rest) = rest.split_first_chunk::<64>()?;
                    // The upper half says how many bits a step has.
                    let place = self.steps.get_mut(usize::from(kind))?;
                    let mut all = Box::new([(0, 63); 128]);
                    for ((to, &step), natural) in all.iter_mut().zip(steps).zip(NATURAL_ORDER) {
                        *to = (step.into(), natural);
                    }
                    *place = Some(all);
                    content = rest;
                }
            }
            0xc4 => {
                while let Some((&kind, rest)) = content.split_first() {
                    let (counts, rest) = rest.split_first_chunk::<16>()?;
                    let num_symbols = counts.iter().map(|&count| usize::from(count)).sum();
                    let (symbols, rest) = rest.split_at_checked(num_symbols)?;
                    let tables = self.tables.get_mut(usize::from(kind >> 4))?;
                    *tables.get_mut(usize::from(kind & 15))? = Some(Table::new(counts, symbols)?);
                    content = rest;
                }
            }
            0xc0 | 0xc1 if self.frame.is_none() => self.frame = Some(Frame::read(content)?),
            0xdd => self.restart_interval = u16::from_be_bytes(content.try_into().ok()?).into(),
            0xe0 => self.is_jfif |= content.len() >= 14 && content.starts_with(b"JFIF\0"),
            0xee if content.len() >= 12 && content.starts_with(b"Adobe") => {
                self.adobe_transform = Some(content[11]);
            }
            0xe1..=0xef | 0xfe => {}
            _ => return None,
        }
        Some(())
    }
}

impl Frame {
    fn read(content: &[u8]) -> Option<Self> {
        let &[8, high, low, wide, narrow, count, ref components @ ..] = content else { return None };
        (components.len() == 3 * usize::from(count)).then_some(())?;
        let component = |component: &[u8; 3]| {
            let [id, factors, steps] = *component;
            (id, [usize::from(factors >> 4), usize::from(factors & 15)], steps)
        };
        Some(Self {
            width: u16::from_be_bytes([wide, narrow]).into(),
            height: u16::from_be_bytes([high, low]).into(),
            components: components.as_chunks().0.iter().map(component).collect(),
        })
        .filter(|frame| frame.width > 0 && frame.height > 0)
    }
}

/// How much smaller chroma is than luma; `None` where the components are others.
fn factors(header: &Header, frame: &Frame) -> Option<(usize, usize)> {
    match *frame.components {
        // A unit of a single component is a block.
        [_] => Some((1, 1)),
        [(a, [across @ 1..=2, down @ 1..=2], _), (b, [1, 1], _), (c, [1, 1], _)] => {
            let is_ycc = header.is_jfif || header.adobe_transform.map_or([a, b, c] == [1, 2, 3], |kind| kind == 1);
            is_ycc.then_some((across, down))
        }
        _ => None,
    }
}

/// A component as the frame describes it, and its id and tables as the scan does.
type Selected<'a> = (&'a (u8, [usize; 2], u8), &'a [u8; 2]);

/// The components of a scan that has all of them, in their order.
fn components(header: &Header, frame: &Frame, selection: &[u8], units: [usize; 2]) -> Option<Vec<Component>> {
    let (&count, rest) = selection.split_first()?;
    let (selected, spectrum) = rest.split_at_checked(2 * usize::from(count))?;
    if usize::from(count) != frame.components.len() || !matches!(spectrum, [0, 63, 0]) {
        return None;
    }
    let component = |(index, (&(id, factors, steps), selected)): (usize, Selected<'_>)| {
        let [same_id, tables] = *selected;
        let table = |class: usize, number: u8| header.tables[class].get(usize::from(number))?.clone();
        // One component is in units of one block, and chroma is what luma is made smaller by.
        let blocks = if count == 1 || index > 0 { [1, 1] } else { factors };
        let stride = 8 * blocks[0] * units[0];
        (id == same_id).then_some(())?;
        Some(Component {
            blocks,
            steps: header.steps.get(usize::from(steps))?.clone()?,
            dc: table(0, tables >> 4)?,
            ac: table(1, tables & 15)?,
            samples: vec![0; stride * 8 * blocks[1] * units[1]],
            stride,
        })
    };
    frame.components.iter().zip(selected.as_chunks().0).enumerate().map(component).collect()
}

impl Kernel for Scan<'_> {
    type Output = Option<()>;

    /// `None` for data that are not as they should be.
    #[inline(always)]
    fn run(self) -> Option<()> {
        let Self { data, components, units, restart_interval } = self;
        let mut bits = Bits::new(data, 0);
        let mut waiting = Waiting { coefficients: [[0; BLOCKS]; 64], places: [(0, 0); BLOCKS], count: 0 };
        let (mut predictions, mut num_units) = ([0; 3], 0);
        for y in 0..units[1] {
            for x in 0..units[0] {
                if restart_interval > 0 && num_units > 0 && num_units % restart_interval == 0 {
                    let marker = 0xd0 + (num_units / restart_interval - 1) as u8 % 8;
                    let end = bits.end()?;
                    (data.get(end..end + 2)? == [0xff, marker]).then_some(())?;
                    bits = Bits::new(data, end + 2);
                    predictions = [0; 3];
                }
                num_units += 1;
                for index in 0..components.len().min(3) {
                    let [across, down] = components[index].blocks;
                    for block in 0..across * down {
                        let component = &components[index];
                        let (row, column) = (y * down + block / across, x * across + block % across);
                        let place = 8 * (row * component.stride + column);
                        let lane = waiting.count % BLOCKS;
                        component.read_block(&mut bits, &mut predictions[index], &mut waiting.coefficients, lane)?;
                        waiting.places[lane] = (index, place);
                        waiting.count += 1;
                        if waiting.count == BLOCKS {
                            waiting.transform(components);
                        }
                    }
                }
            }
        }
        waiting.transform(components);
        Some(())
    }
}

impl Component {
    /// Reads the coefficients of a block into a lane that is all zeros.
    #[inline(always)]
    fn read_block(
        &self,
        bits: &mut Bits<'_>,
        prediction: &mut i32,
        coefficients: &mut Coefficients,
        lane: usize,
    ) -> Option<()> {
        *prediction += self.dc.difference(bits)?;
        // No picture of 8 bits has more; libjpeg keeps 16 bits.
        (prediction.unsigned_abs() < 1 << 14).then_some(())?;
        let first = *prediction * self.steps[0].0;
        coefficients[0][lane] = first;
        let (mut sum, mut index) = (first.unsigned_abs(), 1);
        while index < 64 {
            let found = self.ac.coefficient(bits)?;
            if found.value == 0 {
                if found.run < 15 {
                    break;
                }
                index += 16;
                continue;
            }
            index += usize::from(found.run);
            let (step, place) = self.steps[index % 128];
            let value = i32::from(found.value) * step;
            sum += value.unsigned_abs();
            coefficients[usize::from(place % 64)][lane] = value;
            index += 1;
        }
        (index <= 64 && sum <= MAX_SUM && !bits.is_exhausted()).then_some(())
    }
}

impl Waiting {
    #[inline(always)]
    fn transform(&mut self, components: &mut [Component]) {
        let places = &self.places[..self.count];
        inverse_dct(&mut self.coefficients, |row, samples| {
            for (&(component, place), samples) in places.iter().zip(samples) {
                let Component { samples: to, stride, .. } = &mut components[component];
                let place = place + row * *stride;
                to[place..place + 8].copy_from_slice(samples);
            }
        });
        self.coefficients = [[0; BLOCKS]; 64];
        self.count = 0;
    }
}
