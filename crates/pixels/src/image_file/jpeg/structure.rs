//! What the markers of a JPEG say (ITU-T T.81, annex B), without decoding it.

use crate::image_file::decoded::{CONVERT, FETCH_AGAIN};
use base::error::{explained, failure};

/// Scans that a JPEG may have: each one costs time for the whole picture. Encoders write ten or so.
const MAX_SCANS: usize = 500;

/// What is known of a JPEG before it is decoded.
pub(super) struct Structure<'a> {
    /// Width, height.
    pub(super) size: [u32; 2],
    /// Samples of all components, in whole units.
    pub(super) sample_bytes: u64,
    /// Whether the coefficients of all samples have to be kept: they come in several scans.
    pub(super) is_in_scans: bool,
    /// The content of its Exif segment, which begins as a TIFF does.
    pub(super) exif: Option<&'a [u8]>,
}

/// Follows the markers to the end of the image.
pub(super) fn structure(bytes: &[u8]) -> anyhow::Result<Structure<'_>> {
    let mut segments = Segments::new(bytes);
    let (mut frame, mut exif, mut num_scans, mut is_in_scans) = (None, None, 0, false);
    for (marker, content) in &mut segments {
        match marker {
            0xe1 => exif = exif.or(content.strip_prefix(b"Exif\0\0")),
            0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf | 0xde | 0xf7 if frame.is_none() => {
                frame = Some(Frame::read(marker, content)?);
                is_in_scans = matches!(marker, 0xc2 | 0xca);
            }
            0xda => {
                num_scans += 1;
                let num_components = content.first().copied().unwrap_or(0);
                is_in_scans |= frame.as_ref().is_some_and(|frame| frame.num_components != num_components);
            }
            _ => {}
        }
    }
    let Some(frame) = frame else { return Err(damaged("it contains no image")) };
    if !segments.is_complete {
        return Err(failure("the JPEG is truncated: it has no end-of-image marker", FETCH_AGAIN));
    }
    if num_scans > MAX_SCANS {
        let message = format!("the JPEG has {num_scans} scans, more than {MAX_SCANS}");
        return Err(failure(message, CONVERT));
    }
    Ok(Structure { size: frame.size, sample_bytes: frame.sample_bytes(), is_in_scans, exif })
}

/// The segments of a JPEG with their markers, to the end of the image or of the file. Thumbnails have an end-of-image
/// marker too, inside a segment, which is why the segments are walked.
pub(super) struct Segments<'a> {
    rest: &'a [u8],
    /// Whether the end-of-image marker was reached. Bytes after it do not matter.
    is_complete: bool,
}

impl<'a> Segments<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes.get(2..).unwrap_or_default(), is_complete: false }
    }

    /// What follows the segment that was given last.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        // Coded data between segments hold 0xff only before 0x00 or a restart marker.
        while let Some(found) = self.rest.iter().position(|&byte| byte == 0xff) {
            self.rest = &self.rest[found + 1..];
            match self.rest {
                [0xd9, ..] => {
                    self.is_complete = true;
                    self.rest = &[];
                }
                // Stuffing, a fill byte, TEM, restart markers and start of image have no length.
                [0x00 | 0x01 | 0xd0..=0xd8 | 0xff, ..] => {}
                &[marker, high, low, ..] => {
                    let length = usize::from(u16::from_be_bytes([high, low]));
                    let content = self.rest.get(3..1 + length).unwrap_or_default();
                    self.rest = self.rest.get(1 + length..).unwrap_or_default();
                    return Some((marker, content));
                }
                _ => self.rest = &[],
            }
        }
        None
    }
}

/// What a frame header says.
struct Frame {
    size: [u32; 2],
    num_components: u8,
    /// Of each component, across and down.
    factors: Vec<[u8; 2]>,
}

impl Frame {
    /// From the frame header with this marker.
    fn read(marker: u8, content: &[u8]) -> anyhow::Result<Self> {
        let coding = match marker {
            0xc3 | 0xcb => Some("lossless coding".to_owned()),
            0xc5..=0xc7 | 0xcd..=0xcf | 0xde => Some("hierarchical coding".to_owned()),
            0xf7 => Some("the coding of JPEG-LS".to_owned()),
            _ => None,
        };
        if let Some(coding) = coding {
            return Err(not_supported(&coding));
        }
        let &[precision, high, low, wide, narrow, num_components, ref components @ ..] = content else {
            return Err(damaged("its frame header is too short"));
        };
        if precision != 8 {
            return Err(not_supported(&format!("{precision} bits for each sample, not 8")));
        }
        let size = [[wide, narrow], [high, low]].map(|side| u32::from(u16::from_be_bytes(side)));
        if size[1] == 0 {
            return Err(not_supported("a height that is given after its data"));
        }
        if !matches!(num_components, 1 | 3 | 4) {
            return Err(not_supported(&format!("{num_components} colour components, not 1, 3 or 4")));
        }
        let factors = components.chunks_exact(3).map(|component| [component[1] >> 4, component[1] & 15]);
        let factors: Vec<[u8; 2]> = factors.take(num_components.into()).collect();
        for side in 0..2 {
            let max = factors.iter().map(|factors| factors[side]).max().unwrap_or(0);
            if factors.iter().any(|factors| factors[side] > 0 && max % factors[side] != 0) {
                return Err(not_supported("components whose sizes are not multiples of one another"));
            }
        }
        Ok(Self { size, num_components, factors })
    }

    /// Samples of all components, which fill whole units of eight by eight of the smallest.
    fn sample_bytes(&self) -> u64 {
        let units = |side: usize| {
            let max = self.factors.iter().map(|factors| factors[side]).max().unwrap_or(1).max(1);
            u64::from(self.size[side].div_ceil(8 * u32::from(max)))
        };
        let blocks: u64 = self.factors.iter().map(|factors| u64::from(factors[0]) * u64::from(factors[1])).sum();
        64 * blocks * units(0) * units(1)
    }
}

fn not_supported(what: &str) -> anyhow::Error {
    failure(format!("not supported: a JPEG with {what}"), CONVERT)
}

/// An error about data that nothing can be made of.
pub(super) fn damaged(reason: &str) -> anyhow::Error {
    explained(anyhow::anyhow!("{reason}"), "the JPEG data are damaged", FETCH_AGAIN)
}
