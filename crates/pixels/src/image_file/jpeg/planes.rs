//! Samples of luma and chroma to RGB, with the numbers of libjpeg's "fancy" upsampling: where chroma has half as many
//! samples, a pixel takes three quarters of the nearest sample and a quarter of the next one.

use image::RgbImage;

use base::simd::{Kernel, vectorized};

/// The samples of one component, row by row.
pub(super) struct Plane {
    pub(super) samples: Vec<u8>,
    /// Samples from one row to the next; those beyond the width are padding.
    pub(super) stride: usize,
    pub(super) width: usize,
    pub(super) height: usize,
}

/// A picture in Y, Cb and Cr (JFIF 1.02).
pub(super) struct Planes {
    /// Y, Cb, Cr.
    pub(super) planes: [Plane; 3],
    /// Columns and rows of Y for each of Cb and Cr, 1 or 2 each.
    pub(super) factors: (usize, usize),
}

impl Plane {
    /// A row; below the last one it is the last one again.
    fn row(&self, y: usize) -> &[u8] {
        &self.samples[y.min(self.height - 1) * self.stride..][..self.width]
    }
}

impl Planes {
    /// The picture, which has at least one pixel.
    pub(super) fn to_rgb(&self) -> Vec<u8> {
        vectorized(self)
    }
}

pub(super) fn gray_to_rgb(plane: &Plane) -> Vec<u8> {
    let mut pixels = Vec::with_capacity(3 * plane.width * plane.height);
    for y in 0..plane.height {
        pixels.extend(plane.row(y).iter().flat_map(|&gray| [gray; 3]));
    }
    pixels
}

pub(super) fn picture(width: usize, height: usize, pixels: Vec<u8>) -> Option<RgbImage> {
    RgbImage::from_raw(u32::try_from(width).ok()?, u32::try_from(height).ok()?, pixels)
}

impl Kernel for &Planes {
    type Output = Vec<u8>;

    #[inline(always)]
    fn run(self) -> Vec<u8> {
        let [luma, blue, red] = &self.planes;
        let (width, factors) = (luma.width, self.factors);
        let mut pixels = vec![0; 3 * width * luma.height];
        let mut sums = vec![0; blue.width];
        let [mut blues, mut reds] = [(); 2].map(|()| vec![0; blue.width * factors.0]);
        let mut greens = vec![0; width];
        for (y, row) in pixels.chunks_exact_mut(3 * width).enumerate() {
            upsample(blue, y, factors, &mut sums, &mut blues);
            upsample(red, y, factors, &mut sums, &mut reds);
            convert(luma.row(y), &mut blues[..width], &mut reds[..width], &mut greens);
            let colours = reds.iter().zip(&greens).zip(&blues);
            for (pixel, ((&red, &green), &blue)) in row.as_chunks_mut::<3>().0.iter_mut().zip(colours) {
                *pixel = [red, green, blue];
            }
        }
        pixels
    }
}

/// The samples of a component for row `y` of the picture (`h2v1_fancy_upsample` and its kin in jdsample.c).
#[inline(always)]
fn upsample(plane: &Plane, y: usize, factors: (usize, usize), sums: &mut [i16], row: &mut [u8]) {
    let near = plane.row(y / factors.1);
    if factors.0 == 2 && plane.width <= 2 {
        // Too narrow to be smoothed.
        for (pair, &sample) in row.as_chunks_mut::<2>().0.iter_mut().zip(near) {
            *pair = [sample; 2];
        }
        return;
    }
    if factors.1 == 1 {
        if factors.0 == 1 {
            row.copy_from_slice(near);
            return;
        }
        for (sum, &near) in sums.iter_mut().zip(near) {
            *sum = i16::from(near);
        }
        return widen::<2>(sums, [1, 2], row);
    }
    let far = plane.row(if y.is_multiple_of(2) { (y / 2).saturating_sub(1) } else { y / 2 + 1 });
    for ((sum, &near), &far) in sums.iter_mut().zip(near).zip(far) {
        *sum = 3 * i16::from(near) + i16::from(far);
    }
    if factors.0 == 2 {
        return widen::<4>(sums, [8, 7], row);
    }
    let bias = 1 + (y % 2) as i16;
    for (sample, &sum) in row.iter_mut().zip(&*sums) {
        *sample = ((sum + bias) >> 2) as u8;
    }
}

/// Twice as many columns: each value by three and its neighbour, rounded with the bias of its side, divided by 2^SHIFT.
/// At the ends a value is its own neighbour. There are more than two values.
#[inline(always)]
fn widen<const SHIFT: u32>(sums: &[i16], [left, right]: [i16; 2], row: &mut [u8]) {
    let pair = |before: i16, sum: i16, after: i16| {
        [((3 * sum + before + left) >> SHIFT) as u8, ((3 * sum + after + right) >> SHIFT) as u8]
    };
    let (last, pairs) = (sums.len() - 1, row.as_chunks_mut::<2>().0);
    pairs[0] = pair(sums[0], sums[0], sums[1]);
    let neighbours = sums[..last - 1].iter().zip(&sums[1..last]).zip(&sums[2..]);
    for (to, ((&before, &sum), &after)) in pairs[1..last].iter_mut().zip(neighbours) {
        *to = pair(before, sum, after);
    }
    pairs[last] = pair(sums[last - 1], sums[last], sums[last]);
}

/// Y, Cb and Cr to green, blue (in place of Cb) and red (in place of Cr): `ycc_rgb_convert` of jdcolor.c, constants in
/// 1/65536.
#[inline(always)]
fn convert(luma: &[u8], blue: &mut [u8], red: &mut [u8], green: &mut [u8]) {
    const HALF: i32 = 1 << 15;
    let sample = |value: i32| value.clamp(0, 255) as u8;
    for (((&luma, blue), red), green) in luma.iter().zip(blue).zip(red).zip(green) {
        let (y, cb, cr) = (i32::from(luma), i32::from(*blue) - 128, i32::from(*red) - 128);
        *red = sample(y + ((91_881 * cr + HALF) >> 16));
        *green = sample(y + ((-22_554 * cb - 46_802 * cr + HALF) >> 16));
        *blue = sample(y + ((116_130 * cb + HALF) >> 16));
    }
}
