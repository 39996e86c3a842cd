//! A synthetic data set that the program draws itself: two objects on a plain background, and captions that name both
//! with size, colour, shape and their relation.
//!
//! It is for trying things out within minutes and without a download. It still asks for more than remembering: no pair
//! of (colour, shape) objects of a validation or test picture is together in any training picture, and no two pictures
//! of these splits have a caption in common. There are enough training pictures that a model learns to look: one that
//! sees the same few often remembers which objects go together. Everything is a function of [`Drawing`] only: every run
//! writes the same bytes.

use std::path::Path;

use anyhow::Context as _;
use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;
use rayon::prelude::*;

use crate::annotations::{RawDataset, RawImage, SplitFrom};
use crate::output::{self, Preparation, ownership};
use crate::prepared::{IMAGE_FOLDER, Split};
use base::digest;
use base::random::Stream;
use base::terminal::Progress;

#[derive(Clone, Copy, Debug)]
pub struct Drawing {
    /// Training pictures. Beyond 3,648 they repeat a scene with other places and colours.
    pub num_train: usize,
    /// Validation pictures: at most 384.
    pub num_val: usize,
    /// Test pictures: at most 384.
    pub num_test: usize,
    /// Side of the square pictures in pixels.
    pub side: u32,
    /// Seed of all that is random about them.
    pub seed: u64,
}

pub const SHAPES: Drawing = Drawing { num_train: 22_000, num_val: 100, num_test: 100, side: 64, seed: 20 };

/// Pairs of objects that only validation pictures show, and as many that only test pictures show, of 276.
const NUM_HELD_OUT_PAIRS: usize = 24;
const JPEG_QUALITY: u8 = 92;

/// Draws the data set `shapes` into `output`: `images/`, `dataset.json`, `preparation.json`.
pub fn draw(output: &Path) -> anyhow::Result<Preparation> {
    draw_with(&SHAPES, output)
}

pub fn draw_with(drawing: &Drawing, output: &Path) -> anyhow::Result<Preparation> {
    let scenes = compose(drawing);
    let names: Vec<String> = (0..scenes.len()).map(filename).collect();
    let ours = ownership::begin(output, names.iter().map(String::as_str))?;
    let progress = Progress::new("drawing", scenes.len() as u64, 0);
    let draw = |(filename, scene): (&String, &Scene)| -> anyhow::Result<String> {
        let jpeg = picture(drawing, scene, filename).with_context(|| format!("cannot encode {filename}"))?;
        let sum = digest::sha256(&jpeg);
        ours.write(output, &format!("{IMAGE_FOLDER}/{filename}"), &jpeg, &sum, true)?;
        progress.advance(1, "");
        Ok(sum)
    };
    let sums = names.par_iter().zip(&scenes).map(draw).collect::<anyhow::Result<Vec<String>>>()?;
    let image = |(number, scene): (usize, &Scene)| RawImage {
        filename: filename(number),
        captions: scene.captions(),
        extras: Vec::new(),
        split: Some(scene.split),
        split_from: SplitFrom::Annotations,
        cocoid: None,
    };
    let images = scenes.iter().enumerate().map(image).collect();
    let raw = RawDataset { name: "shapes".to_owned(), images, has_paths: true, ..RawDataset::default() };
    output::finish(output, &raw, output::About::default(), &ours, &sums)
}

fn filename(number: usize) -> String {
    format!("{number:06}.jpg")
}

/// A word and how it is drawn: the red, green and blue of a colour.
const COLOURS: [(&str, [f64; 3]); 6] = [
    ("red", [215.0, 40.0, 40.0]),
    ("green", [40.0, 160.0, 60.0]),
    ("blue", [40.0, 90.0, 220.0]),
    ("yellow", [240.0, 205.0, 30.0]),
    ("purple", [150.0, 50.0, 180.0]),
    ("black", [28.0, 28.0, 28.0]),
];
const SHAPE_NAMES: [&str; 4] = ["circle", "square", "triangle", "cross"];
/// Half the width of an object in a picture of 64 pixels: least and most.
const SIZES: [(&str, f64, f64); 2] = [("small", 8.5, 9.5), ("large", 12.8, 13.8)];
/// What the first object is to the second, and the second to the first.
const RELATIONS: [(&str, &str); 4] = [
    ("to the left of", "to the right of"),
    ("to the right of", "to the left of"),
    ("above", "below"),
    ("below", "above"),
];

/// An object without its size: index into [`COLOURS`] and into [`SHAPE_NAMES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct ObjectKind {
    colour: usize,
    shape: usize,
}

/// What a picture shows: two objects of different kinds.
#[derive(Clone, Copy, Debug)]
struct Scene {
    split: Split,
    kinds: [ObjectKind; 2],
    /// Indices into [`SIZES`].
    sizes: [usize; 2],
    /// Index into [`RELATIONS`].
    relation: usize,
}

impl Scene {
    fn object(&self, which: usize) -> String {
        let ObjectKind { colour, shape } = self.kinds[which];
        format!("a {} {} {}", SIZES[self.sizes[which]].0, COLOURS[colour].0, SHAPE_NAMES[shape])
    }

    /// Two templates, each phrased from both objects.
    fn captions(&self) -> Vec<String> {
        let (forward, backward) = RELATIONS[self.relation];
        let (first, second) = (self.object(0), self.object(1));
        vec![
            format!("{first} is {forward} {second}"),
            format!("{second} is {backward} {first}"),
            format!("there is {first} {forward} {second}"),
            format!("there is {second} {backward} {first}"),
        ]
    }
}

/// What all pictures show: first those for training, then validation, then testing.
fn compose(drawing: &Drawing) -> Vec<Scene> {
    let kinds: Vec<ObjectKind> = (0..COLOURS.len())
        .flat_map(|colour| (0..SHAPE_NAMES.len()).map(move |shape| ObjectKind { colour, shape }))
        .collect();
    let mut pairs: Vec<[ObjectKind; 2]> = Vec::new();
    for (index, &first) in kinds.iter().enumerate() {
        pairs.extend(kinds[index + 1..].iter().map(|&second| [first, second]));
    }
    Stream::new(drawing.seed, "shapes", "pairs").shuffle(&mut pairs);
    let (val, rest) = pairs.split_at(NUM_HELD_OUT_PAIRS);
    let (test, train) = rest.split_at(NUM_HELD_OUT_PAIRS);
    let mut scenes = Vec::new();
    for (split, pairs, number) in [
        (Split::Train, train, drawing.num_train),
        (Split::Val, val, drawing.num_val),
        (Split::Test, test, drawing.num_test),
    ] {
        let mut all = arrangements(split, pairs);
        Stream::new(drawing.seed, "shapes", split.name()).shuffle(&mut all);
        assert!(split == Split::Train || number <= all.len(), "{number} {} pictures, {}", split.name(), all.len());
        scenes.extend(all.into_iter().cycle().take(number));
    }
    scenes
}

/// Every scene that shows one of `pairs`.
fn arrangements(split: Split, pairs: &[[ObjectKind; 2]]) -> Vec<Scene> {
    let mut scenes = Vec::new();
    for &kinds in pairs {
        for relation in 0..RELATIONS.len() {
            for sizes in [[0, 0], [0, 1], [1, 0], [1, 1]] {
                scenes.push(Scene { split, kinds, sizes, relation });
            }
        }
    }
    scenes
}

/// Where an object is drawn; all in pixels of a picture of 64.
#[derive(Clone, Copy, Debug)]
struct Placed {
    x: f64,
    y: f64,
    radius: f64,
}

/// The picture's side in the units of [`SIZES`] and [`Placed`].
const CANVAS: f64 = 64.0;
/// Least distance of an object to the border, and of the two objects from each other.
const MARGIN: f64 = 1.5;
const GAP: f64 = 4.0;
/// How far each object may be off the line between the two.
const SWAY: f64 = 2.5;

/// Places the two objects on a horizontal or vertical line: clearly apart along it, nearly level across it.
fn place(scene: &Scene, stream: &mut Stream) -> [Placed; 2] {
    let mut between = |least: f64, max: f64| least + stream.uniform() * (max - least);
    let radii = scene.sizes.map(|size| between(SIZES[size].1, SIZES[size].2));
    // Along the line: the object that comes first (left or above), then the other.
    let first_leads = matches!(RELATIONS[scene.relation].0, "to the left of" | "above");
    let (leading, trailing) = if first_leads { (radii[0], radii[1]) } else { (radii[1], radii[0]) };
    let room = CANVAS - 2.0 * MARGIN - GAP - 2.0 * (leading + trailing);
    let extra_gap = between(0.0, room);
    let start = MARGIN + leading + between(0.0, room - extra_gap);
    let end = start + leading + GAP + extra_gap + trailing;
    let along = if first_leads { [start, end] } else { [end, start] };
    // Across it.
    let reach = MARGIN + radii[0].max(radii[1]) + SWAY;
    let middle = between(reach, CANVAS - reach);
    let across = [middle + between(-SWAY, SWAY), middle + between(-SWAY, SWAY)];
    let horizontal = scene.relation < 2;
    [0, 1].map(|which| {
        let (x, y) = if horizontal { (along[which], across[which]) } else { (across[which], along[which]) };
        Placed { x, y, radius: radii[which] }
    })
}

/// Whether a point, in units of the object's radius from its centre (y downwards), belongs to a shape.
fn covers(shape: usize, x: f64, y: f64) -> bool {
    match SHAPE_NAMES[shape] {
        "circle" => x * x + y * y <= 1.0,
        "square" => x.abs() <= 0.88 && y.abs() <= 0.88,
        "triangle" => (-1.0..=0.85).contains(&y) && x.abs() <= (y + 1.0) * 0.54,
        _ => (x.abs() <= 0.32 && y.abs() <= 1.0) || (y.abs() <= 0.32 && x.abs() <= 1.0),
    }
}

fn picture(drawing: &Drawing, scene: &Scene, filename: &str) -> anyhow::Result<Vec<u8>> {
    let pixels = render(drawing, scene, filename);
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, JPEG_QUALITY).encode(
        &pixels,
        drawing.side,
        drawing.side,
        ExtendedColorType::Rgb8,
    )?;
    Ok(jpeg)
}

/// RGB bytes, row by row.
fn render(drawing: &Drawing, scene: &Scene, filename: &str) -> Vec<u8> {
    let mut stream = Stream::new(drawing.seed, "shapes picture", filename);
    let placed = place(scene, &mut stream);
    let mut near = |centre: f64, range: f64| centre + (stream.uniform() * 2.0 - 1.0) * range;
    let light = near(215.0, 20.0);
    let background = [near(light, 6.0), near(light, 6.0), near(light, 6.0)];
    let slope = [near(0.0, 8.0), near(0.0, 8.0)];
    let colours = scene.kinds.map(|kind| COLOURS[kind.colour].1.map(|channel| near(channel, 12.0)));
    let side = drawing.side as usize;
    let unit = CANVAS / f64::from(drawing.side);
    let mut pixels = Vec::with_capacity(side * side * 3);
    for row in 0..side {
        for column in 0..side {
            let (x, y) = (column as f64 * unit, row as f64 * unit);
            let shade = slope[0] * (x / CANVAS - 0.5) + slope[1] * (y / CANVAS - 0.5) + near(0.0, 2.0);
            let mut colour = background.map(|channel| channel + shade);
            for ((object, kind), paint) in placed.iter().zip(scene.kinds).zip(colours) {
                let share = coverage(object, kind.shape, x, y, unit);
                colour = [0, 1, 2].map(|channel| colour[channel] + share * (paint[channel] - colour[channel]));
            }
            pixels.extend(colour.map(|channel| channel.round().clamp(0.0, 255.0) as u8));
        }
    }
    pixels
}

/// The share of the pixel with the corner (x, y) and the side `unit` that the object covers, from 4 x 4 points.
fn coverage(object: &Placed, shape: usize, x: f64, y: f64, unit: f64) -> f64 {
    const POINTS: u32 = 4;
    let reach = object.radius + unit;
    if (x - object.x).abs() > reach || (y - object.y).abs() > reach {
        return 0.0;
    }
    let offset = |index: u32| (f64::from(index) + 0.5) / f64::from(POINTS) * unit;
    let mut hits = 0;
    for row in 0..POINTS {
        for column in 0..POINTS {
            let dx = (x + offset(column) - object.x) / object.radius;
            let dy = (y + offset(row) - object.y) / object.radius;
            hits += u32::from(covers(shape, dx, dy));
        }
    }
    f64::from(hits) / f64::from(POINTS * POINTS)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashMap};
    use std::fs;

    use super::*;
    use crate::prepared::Dataset;

    fn of(scenes: &[Scene], split: Split) -> Vec<&Scene> {
        scenes.iter().filter(|scene| scene.split == split).collect()
    }

    fn pair(scene: &Scene) -> [ObjectKind; 2] {
        let mut kinds = scene.kinds;
        kinds.sort_unstable();
        kinds
    }

    #[test]
    fn splits_have_their_sizes_and_objects_differ_in_colour_or_shape() {
        let scenes = compose(&SHAPES);
        let sizes = Split::ALL.map(|split| of(&scenes, split).len());
        assert_eq!(sizes, [SHAPES.num_train, 100, 100]);
        assert!(scenes.iter().all(|scene| scene.kinds[0] != scene.kinds[1]));
    }

    #[test]
    fn pairs_of_held_out_pictures_are_in_no_training_picture() {
        let scenes = compose(&SHAPES);
        let [train, val, test] =
            Split::ALL.map(|split| of(&scenes, split).into_iter().map(pair).collect::<BTreeSet<_>>());
        assert!(train.is_disjoint(&val) && train.is_disjoint(&test) && val.is_disjoint(&test));
        assert!(val.len() >= 20 && test.len() >= 20, "{} and {} held-out pairs", val.len(), test.len());
    }

    #[test]
    fn training_pictures_show_every_attribute_and_every_object() {
        let scenes = compose(&SHAPES);
        let train = of(&scenes, Split::Train);
        let mut objects: HashMap<(usize, usize, usize), usize> = HashMap::new();
        let mut relations = [0; 4];
        for scene in &train {
            relations[scene.relation] += 1;
            for which in 0..2 {
                let ObjectKind { colour, shape } = scene.kinds[which];
                *objects.entry((scene.sizes[which], colour, shape)).or_default() += 1;
            }
        }
        assert_eq!(objects.len(), 2 * 6 * 4);
        assert!(objects.values().all(|&number| number > 400), "{objects:?}");
        assert!(relations.iter().all(|&number| number > 4000), "{relations:?}");
    }

    #[test]
    fn captions_are_diverse_and_no_constant_or_shuffled_caption_does_well() {
        let scenes = compose(&SHAPES);
        let distinct: BTreeSet<String> = scenes.iter().flat_map(Scene::captions).collect();
        assert!(distinct.len() >= 500, "{}", distinct.len());
        let references: Vec<Vec<String>> = of(&scenes, Split::Test).into_iter().map(Scene::captions).collect();
        let hits = |caption: &String| references.iter().filter(|captions| captions.contains(caption)).count();
        let best = distinct.iter().map(hits).max().unwrap();
        assert!(best <= 5, "a constant caption is right for {best} test pictures");
        let mut shuffled = references.clone();
        Stream::new(1, "test", "shuffle").shuffle(&mut shuffled);
        let right = references.iter().zip(&shuffled).filter(|(own, other)| own.contains(&other[0])).count();
        assert!(right <= 10, "shuffled captions are right for {right} test pictures");
    }

    #[test]
    fn captions_name_both_objects_from_both_sides() {
        let scene = Scene {
            split: Split::Train,
            kinds: [ObjectKind { colour: 0, shape: 0 }, ObjectKind { colour: 2, shape: 1 }],
            sizes: [0, 1],
            relation: 2,
        };
        let expected = [
            "a small red circle is above a large blue square",
            "a large blue square is below a small red circle",
            "there is a small red circle above a large blue square",
            "there is a large blue square below a small red circle",
        ];
        assert_eq!(scene.captions(), expected);
    }

    #[test]
    fn objects_stand_clearly_apart_in_the_picture_and_as_the_caption_says() {
        for (number, scene) in compose(&SHAPES).iter().enumerate() {
            let [a, b] = place(scene, &mut Stream::new(SHAPES.seed, "shapes picture", &filename(number)));
            for object in [a, b] {
                let inside = |centre: f64| centre - object.radius > 1.0 && centre + object.radius < CANVAS - 1.0;
                assert!(inside(object.x) && inside(object.y), "{scene:?} {object:?}");
            }
            let (dx, dy) = (b.x - a.x, b.y - a.y);
            let (along, across) = if scene.relation < 2 { (dx, dy) } else { (dy, dx) };
            let first_leads = matches!(RELATIONS[scene.relation].0, "to the left of" | "above");
            assert!((along > 0.0) == first_leads, "{scene:?}");
            assert!(along.abs() > a.radius + b.radius + GAP - 1e-9 && across.abs() <= 2.0 * SWAY, "{scene:?}");
        }
    }

    #[test]
    fn pixels_show_the_colours_where_the_objects_are() {
        for (number, scene) in compose(&SHAPES).iter().enumerate().skip(SHAPES.num_train) {
            let jpeg = picture(&SHAPES, scene, &filename(number)).unwrap();
            let decoded = image::load_from_memory(&jpeg).unwrap().to_rgb8();
            let placed = place(scene, &mut Stream::new(SHAPES.seed, "shapes picture", &filename(number)));
            for (object, kind) in placed.iter().zip(scene.kinds) {
                let pixel = decoded.get_pixel(object.x as u32, object.y as u32).0;
                let distance = |colour: &[f64; 3]| -> f64 {
                    colour.iter().zip(pixel).map(|(channel, seen)| (channel - f64::from(seen)).powi(2)).sum()
                };
                let nearest = (0..COLOURS.len())
                    .min_by(|&a, &b| distance(&COLOURS[a].1).total_cmp(&distance(&COLOURS[b].1)))
                    .unwrap();
                assert_eq!(nearest, kind.colour, "picture {number}: {pixel:?}");
            }
        }
    }

    #[test]
    fn drawing_twice_gives_the_same_files() {
        let drawing = Drawing { num_train: 12, num_val: 4, num_test: 4, ..SHAPES };
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let contents = folders.each_ref().map(|folder| {
            draw_with(&drawing, folder.path()).unwrap();
            let mut names: Vec<_> =
                fs::read_dir(folder.path().join(IMAGE_FOLDER)).unwrap().map(|entry| entry.unwrap().path()).collect();
            names.sort();
            assert_eq!(names.len(), 20);
            names.extend(["dataset.json", "preparation.json"].map(|name| folder.path().join(name)));
            names.iter().map(|path| fs::read(path).unwrap()).collect::<Vec<_>>()
        });
        assert!(contents[0] == contents[1]);
        let dataset = Dataset::open(folders[0].path()).unwrap();
        assert_eq!(dataset.images.len(), 20);
        assert!(dataset.images.iter().all(|image| image.num_captions() == 4));
        assert_eq!(output::finished(Some("shapes"), folders[0].path()).unwrap().unwrap().images.train, 12);
    }
}
