//! Random views of a picture for training: a part of it (as `RandomResizedCrop` of torchvision takes it), mirrored
//! where that is allowed. Resizing to the encoder's size is in `image_processor`.

use image::RgbImage;
use image::imageops;

use base::random::Stream;

/// Widest and narrowest shape of the part, relative to a square: torchvision's default.
const LOG_RATIO: f64 = 0.287_682_072_451_780_9; // ln(4 / 3)
/// Draws of a part that fits before the centre is taken.
const ATTEMPTS: usize = 10;

/// How views differ from the picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Augmentation {
    /// Smallest share of the area that a view shows, where the picture has a part of that size and an allowed shape.
    pub min_area: f64,
    /// Whether half of the views are mirrored.
    pub flip: bool,
    /// Seed of the draws.
    pub seed: u64,
}

impl Augmentation {
    /// View `view` of the picture called `name`: the same for the same arguments.
    pub fn apply(&self, image: RgbImage, name: &str, view: u32) -> RgbImage {
        let mut stream = Stream::new(self.seed, "augmentation", &format!("{view}/{name}"));
        let part = self.part(image.width(), image.height(), &mut stream);
        let mut part = cropped(image, part);
        if self.flip && stream.uniform() < 0.5 {
            imageops::flip_horizontal_in_place(&mut part);
        }
        part
    }

    /// Left, top, width and height of the part that is shown.
    fn part(&self, width: u32, height: u32, stream: &mut Stream) -> (u32, u32, u32, u32) {
        let area = f64::from(width) * f64::from(height);
        for _ in 0..ATTEMPTS {
            let target = area * (self.min_area + (1.0 - self.min_area) * stream.uniform());
            let ratio = ((2.0 * stream.uniform() - 1.0) * LOG_RATIO).exp();
            let (w, h) = ((target * ratio).sqrt().round() as u32, (target / ratio).sqrt().round() as u32);
            if (1..=width).contains(&w) && (1..=height).contains(&h) {
                let left = stream.below((width - w) as usize + 1) as u32;
                let top = stream.below((height - h) as usize + 1) as u32;
                return (left, top, w, h);
            }
        }
        // The largest centred part of an allowed shape.
        let (narrow, wide) = ((-LOG_RATIO).exp(), LOG_RATIO.exp());
        let ratio = f64::from(width) / f64::from(height);
        let w = if ratio > wide { (f64::from(height) * wide).round() as u32 } else { width };
        let h = if ratio < narrow { (f64::from(width) / narrow).round() as u32 } else { height };
        ((width - w) / 2, (height - h) / 2, w, h)
    }
}

/// The part (left, top, width and height) of a picture, in its memory.
fn cropped(image: RgbImage, (left, top, width, height): (u32, u32, u32, u32)) -> RgbImage {
    let [from, row, first] = [image.width(), width, left].map(|pixels| 3 * pixels as usize);
    let mut pixels = image.into_raw();
    for y in 0..height as usize {
        let start = (top as usize + y) * from + first;
        pixels.copy_within(start..start + row, y * row);
    }
    pixels.truncate(row * height as usize);
    RgbImage::from_raw(width, height, pixels).expect("the part has three bytes for each pixel")
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    fn picture(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| Rgb([x as u8, y as u8, 0]))
    }

    fn augmentation(min_area: f64, flip: bool) -> Augmentation {
        Augmentation { min_area, flip, seed: 3 }
    }

    #[test]
    fn a_view_is_a_part_of_the_picture_of_allowed_area_and_shape() {
        for (width, height) in [(200, 150), (60, 250), (250, 40), (1, 1)] {
            let image = picture(width, height);
            for view in 0..200 {
                let part = augmentation(0.5, false).apply(image.clone(), "a.jpg", view);
                let first = part.get_pixel(0, 0);
                for (x, y, pixel) in part.enumerate_pixels() {
                    assert_eq!((pixel[0], pixel[1]), (first[0] + x as u8, first[1] + y as u8));
                }
                let ratio = f64::from(part.width()) / f64::from(part.height());
                assert!(width == 1 || (0.7..1.4).contains(&ratio), "{}x{}", part.width(), part.height());
                let share = f64::from(part.width() * part.height()) / f64::from(width * height);
                assert!((width, height) != (200, 150) || (0.48..=1.0).contains(&share), "{share}");
            }
        }
    }

    #[test]
    fn views_differ_and_each_comes_back() {
        let (image, augmentation) = (picture(200, 150), augmentation(0.3, false));
        let view = |name, number| augmentation.apply(image.clone(), name, number);
        assert_eq!(view("a.jpg", 1), view("a.jpg", 1));
        assert_ne!(view("a.jpg", 1), view("a.jpg", 2));
        assert_ne!(view("a.jpg", 1), view("b.jpg", 1));
    }

    #[test]
    fn half_of_the_views_are_mirrored_when_that_is_allowed() {
        let image = picture(200, 150);
        let mirrored = |flip: bool| {
            let views = (0..200).map(|view| augmentation(0.5, flip).apply(image.clone(), "a.jpg", view));
            views.filter(|part| part.get_pixel(0, 0)[0] > part.get_pixel(1, 0)[0]).count()
        };
        assert_eq!(mirrored(false), 0);
        assert!((70..130).contains(&mirrored(true)), "{}", mirrored(true));
    }

    #[test]
    fn the_whole_picture_is_shown_when_only_that_is_allowed_and_it_is_a_square() {
        let image = picture(64, 64);
        let part = augmentation(1.0, false).apply(image.clone(), "a.jpg", 5);
        assert_eq!(part.dimensions(), (64, 64));
    }
}
