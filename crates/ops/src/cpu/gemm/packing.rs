//! Packing without instructions of its own.
//!
//! A panel has the elements of one step of the sum for all of its lanes side by side, then those of the next step: in
//! the order in which a kernel reads them.

#![expect(unsafe_code, reason = "kernels work on pointers")]

use super::kernel::Strip;

/// Packs panels of `WIDTH` elements a step, those beyond the strip zero.
///
/// # Safety
/// The strip is readable, and its panels are writable.
#[inline(always)]
pub(super) unsafe fn pack<const WIDTH: usize, T: Copy + Default>(s: &Strip<T>, out: *mut T, map: impl Fn(T) -> T) {
    for (panel, first) in (0..s.lanes).step_by(s.panel_lanes).enumerate() {
        let lanes = s.panel_lanes.min(s.lanes - first);
        // SAFETY: lanes and steps are those of the strip, and the panel has `WIDTH` elements a step.
        unsafe {
            let (from, out) = (s.values.add(first * s.lane_stride), out.add(panel * s.panel_len));
            // Whole cache lines are read where steps lie side by side.
            for steps in (0..s.depth).step_by(16) {
                for lane in 0..WIDTH {
                    for step in steps..s.depth.min(steps + 16) {
                        let value = if lane < lanes {
                            map(*from.add(lane * s.lane_stride + step * s.depth_stride))
                        } else {
                            T::default()
                        };
                        out.add(step * WIDTH + lane).write(value);
                    }
                }
            }
        }
    }
}

/// The nearest bf16, ties to even; NaN stays NaN.
#[inline(always)]
pub(super) fn round_to_bf16(value: f32) -> f32 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7FFF + ((bits >> 16) & 1));
    // Rounding could carry a NaN over into an infinity.
    let bits = if value.is_nan() { bits | 0x0040_0000 } else { rounded };
    f32::from_bits(bits & 0xFFFF_0000)
}

#[cfg(test)]
pub(super) mod tests {
    use half::bf16;

    use super::*;

    /// Values whose rounding is special, and many others.
    pub(crate) fn values() -> Vec<f32> {
        let special = [0.0, -0.0, 1.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX, f32::MIN_POSITIVE, 1e-45];
        let halfway = [0x3F80_8000, 0x3F81_8000, 0x3F80_7FFF, 0x3F80_8001, 0x7F80_0001].map(f32::from_bits);
        let many = if cfg!(miri) { 200 } else { 200_000_u32 };
        let bits = (0..many).map(|i| f32::from_bits(i.wrapping_mul(0x9E37_79B9)));
        special.into_iter().chain(halfway).chain(bits).collect()
    }

    /// Whether `rounded` is the reference's rounding of `value`.
    pub(crate) fn assert_rounded(value: f32, rounded: f32) {
        let expected = bf16::from_f32(value).to_f32();
        assert_eq!(rounded.is_nan(), expected.is_nan(), "{value}");
        assert!(rounded.is_nan() || rounded.to_bits() == expected.to_bits(), "{value}: {rounded}, not {expected}");
    }

    #[test]
    fn rounding_to_bf16_is_that_of_the_reference() {
        for value in values() {
            assert_rounded(value, round_to_bf16(value));
        }
    }
}
