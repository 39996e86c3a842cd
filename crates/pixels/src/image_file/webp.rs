//! What the headers of a WebP say: whether it is complete, and how much memory its decoder (of the crate `image`, which
//! accepts no limit) takes.

use crate::image_file::decoded::FETCH_AGAIN;
use base::error::failure;

/// Refuses a WebP that was cut off, which may lose its end unnoticed.
pub(super) fn check_complete(bytes: &[u8]) -> anyhow::Result<()> {
    let declared = bytes.get(4..8).and_then(|size| size.try_into().ok()).map_or(0, u32::from_le_bytes);
    let (expected, found) = (u64::from(declared) + 8, bytes.len());
    if (found as u64) < expected {
        return Err(failure(format!("the WebP is truncated: it has {found} of {expected} bytes"), FETCH_AGAIN));
    }
    Ok(())
}

/// Bytes that the decoder takes beside its output of this size. The chunks that it reads must be there as a whole.
pub(super) fn decoding_bytes(bytes: &[u8], width: u64, height: u64) -> anyhow::Result<u64> {
    let canvas = width * height;
    let mut chunks = Chunks::default();
    chunks.walk(bytes, 12)?;
    // Luma and chroma; what is lossless is in four bytes for a pixel, with its transforms in less than one more, and
    // the alpha of a lossy picture in one of its own; a frame of an animation is apart from the canvas that it is put
    // on.
    let lossless = if chunks.is_lossless { 5 * canvas } else { 0 };
    let alpha = if chunks.has_alpha { 6 * canvas } else { 0 };
    let animation = if chunks.is_animated { 8 * canvas } else { 0 };
    Ok(chunks.planes + lossless + alpha + animation)
}

#[derive(Default)]
struct Chunks {
    /// Of the largest lossy picture, whose header may say another size than the canvas has.
    planes: u64,
    is_lossless: bool,
    has_alpha: bool,
    is_animated: bool,
}

impl Chunks {
    fn walk(&mut self, bytes: &[u8], mut place: usize) -> anyhow::Result<()> {
        while let Some((name, rest)) = bytes.get(place..).and_then(|rest| rest.split_first_chunk::<4>()) {
            let Some((length, rest)) = rest.split_first_chunk() else { break };
            let length = u32::from_le_bytes(*length) as usize;
            let is_known = [b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"EXIF"].contains(&name);
            let Some(content) = rest.get(..length) else {
                if is_known {
                    let message = "the WebP data are damaged: one of its chunks is longer than the file";
                    return Err(failure(message, FETCH_AGAIN));
                }
                break;
            };
            match name {
                b"VP8 " => self.planes = self.planes.max(planes(content)),
                b"VP8L" => self.is_lossless = true,
                b"ALPH" => self.has_alpha = true,
                b"ANMF" => {
                    self.is_animated = true;
                    self.walk(content, 16)?;
                }
                _ => {}
            }
            place += 8 + length + length % 2;
        }
        Ok(())
    }
}

/// Bytes of luma and chroma of a lossy picture, in macroblocks of 16 x 16.
fn planes(content: &[u8]) -> u64 {
    let side = |at: usize| {
        let side = content.get(at..at + 2).and_then(|side| side.try_into().ok()).map_or(0, u16::from_le_bytes);
        u64::from(side & 0x3fff).next_multiple_of(16)
    };
    side(6) * side(8) * 3 / 2
}
