//! Classes of sizes and shapes of images, and how many images are in each.

/// (class, images) by the shorter side; classes without an image are left out.
pub(super) fn by_short_side(sizes: &[(u32, u32)]) -> Vec<(&'static str, usize)> {
    const CLASSES: [(u32, &str); 6] = [
        (64, "below 64"),
        (128, "64 to 127"),
        (256, "128 to 255"),
        (512, "256 to 511"),
        (1024, "512 to 1023"),
        (u32::MAX, "1024 and more"),
    ];
    let class = |&(width, height): &(u32, u32)| {
        let short = width.min(height);
        CLASSES.iter().position(|(end, _)| short < *end).unwrap_or(CLASSES.len() - 1)
    };
    counts(sizes, class, &CLASSES.map(|(_, name)| name))
}

/// (class, images) by the shape; classes without an image are left out.
pub(super) fn by_shape(sizes: &[(u32, u32)]) -> Vec<(&'static str, usize)> {
    const NAMES: [&str; 5] = ["1:2 and taller", "portrait", "square, within 10 %", "landscape", "2:1 and wider"];
    let class = |&(width, height): &(u32, u32)| match f64::from(width) / f64::from(height.max(1)) {
        ratio if ratio <= 0.5 => 0,
        ratio if ratio < 1.0 / 1.1 => 1,
        ratio if ratio <= 1.1 => 2,
        ratio if ratio < 2.0 => 3,
        _ => 4,
    };
    counts(sizes, class, &NAMES)
}

fn counts(
    sizes: &[(u32, u32)],
    class: impl Fn(&(u32, u32)) -> usize,
    names: &[&'static str],
) -> Vec<(&'static str, usize)> {
    let mut counts = vec![0; names.len()];
    sizes.iter().for_each(|size| counts[class(size)] += 1);
    names.iter().copied().zip(counts).filter(|(_, count)| *count > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_in_the_class_of_its_short_side() {
        let sizes = [(63, 900), (64, 64), (900, 255), (1024, 4096), (u32::MAX, u32::MAX)];
        let expected = [("below 64", 1), ("64 to 127", 1), ("128 to 255", 1), ("1024 and more", 2)];
        assert_eq!(by_short_side(&sizes), expected);
    }

    #[test]
    fn an_image_is_in_the_class_of_its_shape() {
        let sizes = [(100, 200), (100, 199), (100, 110), (110, 100), (111, 100), (199, 100), (200, 100), (5, 0)];
        let expected = [
            ("1:2 and taller", 1),
            ("portrait", 1),
            ("square, within 10 %", 2),
            ("landscape", 2),
            ("2:1 and wider", 2),
        ];
        assert_eq!(by_shape(&sizes), expected);
    }
}
