//! `caption-train look`: one HTML page of a prepared data set, to look at before it is trained on.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::commands::given_paths::path_argument;
use crate::run::report::page_file::{check_free, write_page};
use base::error::{WithHint as _, failure, one_line};
use base::terminal;
use datasets::look::{
    CaptionFacts, Duplicates, OddKind, Oddity, PairList, Picture, caption_facts, duplicates, read_pictures,
};
use datasets::output::caption_statistics::OutlierKind;
use datasets::output::{Preparation, read_preparation};
use datasets::prepared::{Dataset, IMAGE_FOLDER, Image, PREPARATION_FILE, Split};
use report::{
    LOOK_GENERATOR, LookCaption, LookData, LookImage, LookPair, LookPairs, OddCaptions, OddListed, RepeatedCaption,
    SplitCounts, WordCount, render_look,
};

/// The page, in the data set's folder.
const LOOK_FILE: &str = "look.html";

/// Writes one HTML page of a prepared data set, which works offline and links to its image files.
#[derive(Clone, Debug, clap::Args)]
pub struct LookArgs {
    /// Folder of the data set
    #[arg(value_name = "DIR", value_parser = path_argument())]
    pub directory: PathBuf,
    /// File to write; it shows the images as long as they are where they are, seen from it [default: look.html in DIR]
    #[arg(long, value_name = "FILE", value_parser = path_argument())]
    pub output: Option<PathBuf>,
}

/// Decodes all images and writes the page.
///
/// # Errors
/// A folder that is no data set, or whose images are in shards; a file that cannot be written, or is not such a page.
pub fn run(args: &LookArgs) -> Result<()> {
    let path = args.output.clone().unwrap_or_else(|| args.directory.join(LOOK_FILE));
    let dataset = Dataset::open(&args.directory)?;
    if dataset.in_shards.is_some() {
        let message = format!("the images of {} are in shards: a page links to files", args.directory.display());
        let hint = "prepare some of them as files, with `prepare-data --source SHARDS --limit 2000 --output DIR`, and look \
                    at these";
        return Err(failure(message, hint));
    }
    check_free(&path, "a page of a data set", |head| head.contains(LOOK_GENERATOR))?;
    let image_folder = image_folder(&dataset.directory, &path)?;
    let preparation = preparation(&dataset);
    let pictures = read_pictures(&dataset);
    let duplicates = duplicates(&dataset, &pictures);
    let captions = caption_facts(&dataset);
    let data = look_data(&dataset, image_folder, preparation, pictures, &captions, &duplicates);
    write_page(&path, &render_look(&data).context("cannot create the page")?)?;
    summary(&data).iter().for_each(|line| terminal::message(line));
    terminal::message(&format!("page        {}", path.display()));
    Ok(())
}

/// What is worth a look, in lines for the user.
fn summary(data: &LookData) -> Vec<String> {
    let unreadable = data.images.iter().filter(|image| image.size.is_err()).count();
    let unreadable = ("images that cannot be read".to_owned(), unreadable);
    let pairs = data.pairs.iter().map(|pairs| (format!("{}, pairs", inside(&pairs.title)), pairs.count));
    let odd = data.odd.iter().map(|odd| (format!("captions {}", inside(&odd.title)), odd.count));
    let repeated = ("captions of several images".to_owned(), data.num_repeated);
    let all = [unreadable].into_iter().chain(pairs).chain(odd).chain([repeated]);
    all.filter(|(_, count)| *count > 0).map(|(what, count)| format!("{what}: {count}")).collect()
}

/// A title as it is written inside a line.
fn inside(title: &str) -> String {
    let mut letters = title.chars();
    letters.next().into_iter().flat_map(char::to_lowercase).chain(letters).collect()
}

/// The report of the preparation that made the data set, as it is now.
fn preparation(dataset: &Dataset) -> Option<Preparation> {
    match read_preparation(&dataset.directory) {
        Ok(Some(preparation)) if preparation.dataset_sha256 != dataset.digest => {
            terminal::warning(&format!(
                "the page has nothing of {PREPARATION_FILE}: it is of another dataset.json than there is now"
            ));
            None
        }
        Ok(preparation) => preparation,
        Err(error) => {
            terminal::warning(&format!("the page has nothing of {PREPARATION_FILE}: {}", one_line(&error)));
            None
        }
    }
}

/// The folder of the images of `dataset` as a path from the folder of `page`.
fn image_folder(dataset: &Path, page: &Path) -> Result<PathBuf> {
    let parent = page.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let hint = || "give a file in a folder that exists with --output";
    let from = fs::canonicalize(parent).with_context(|| format!("cannot write {}", page.display())).hint(hint)?;
    let images = dataset.join(IMAGE_FOLDER);
    if fs::canonicalize(dataset).is_ok_and(|dataset| dataset == from) {
        return Ok(IMAGE_FOLDER.into());
    }
    let to = fs::canonicalize(&images).with_context(|| format!("cannot find {}", images.display()))?;
    let shared = from.components().zip(to.components()).take_while(|(one, other)| one == other).count();
    if shared == 0 {
        let message = format!("a page in {} cannot link to {}", from.display(), to.display());
        return Err(failure(message, "write it to the disk of the images"));
    }
    let up = from.components().skip(shared).map(|_| std::path::Component::ParentDir);
    Ok(up.chain(to.components().skip(shared)).collect())
}

fn look_data(
    dataset: &Dataset,
    image_folder: PathBuf,
    preparation: Option<Preparation>,
    pictures: Vec<Result<Picture, String>>,
    captions: &CaptionFacts,
    duplicates: &Duplicates,
) -> LookData {
    let is_prepared = preparation.is_some();
    let (rejects, repairs) = preparation.map_or_else(Default::default, |preparation| {
        let rejects = preparation.rejects.into_iter().map(|reject| (reject.what, reject.reason));
        let repairs = preparation.repairs.into_iter().map(|repair| (repair.what, repair.repair));
        (rejects.collect(), repairs.collect())
    });
    LookData {
        dataset: dataset.name.clone(),
        image_folder,
        splits: Split::ALL.map(|split| split_counts(dataset, split)).into(),
        images: dataset.images.iter().zip(pictures).map(|(image, picture)| look_image(image, picture)).collect(),
        num_of_length: captions.num_of_length.clone(),
        median_length: captions.lengths.median,
        vocabulary: captions.vocabulary,
        words: captions
            .words
            .iter()
            .map(|word| WordCount { text: word.text.clone(), count: word.count, num_images: word.num_images })
            .collect(),
        scripts: captions.scripts.iter().map(|&(name, count)| (name.to_owned(), count)).collect(),
        num_prompts: captions.num_prompts,
        num_weights: captions.num_weights,
        odd: captions.odd.iter().filter(|kind| kind.count > 0).map(odd_captions).collect(),
        num_repeated: captions.num_repeated,
        num_odd: captions.num_odd,
        repeated: captions
            .repeated
            .iter()
            .map(|caption| RepeatedCaption { num_images: caption.num_images, first: caption.first.clone() })
            .collect(),
        pairs: pairs(duplicates),
        num_not_compared: duplicates.num_not_compared,
        rejects,
        repairs,
        is_prepared,
    }
}

fn split_counts(dataset: &Dataset, split: Split) -> SplitCounts {
    let images = dataset.images.iter().filter(|image| image.split() == split);
    let (mut num_images, mut num_captions) = (0, 0);
    for image in images {
        num_images += 1;
        num_captions += image.num_captions();
    }
    SplitCounts { name: split.name().to_owned(), images: num_images, captions: num_captions }
}

fn look_image(image: Image<'_>, picture: Result<Picture, String>) -> LookImage {
    let caption = |(place, text): (usize, &str)| {
        let weight = image.weight(place);
        LookCaption {
            text: text.to_owned(),
            prompt: image.prompt(place).map(str::to_owned),
            weight: (!weight.is_one()).then(|| weight.value()),
        }
    };
    LookImage {
        name: image.filename().to_owned(),
        split: Split::ALL.iter().position(|&split| split == image.split()).unwrap_or_default(),
        size: picture.map(|picture| (picture.width, picture.height)),
        captions: image.captions().enumerate().map(caption).collect(),
    }
}

fn odd_captions(kind: &OddKind) -> OddCaptions {
    let (title, meaning) = match kind.oddity {
        Oddity::Outlier(OutlierKind::OtherScript) => {
            ("In another script", "More than half of their letters are of another script than those of most captions.")
        }
        Oddity::Outlier(OutlierKind::UnusualWords) => (
            "Of unusual words",
            "Fewer than a third of their words stand in captions of 5 or more images: another language, names, encoded \
             bytes.",
        ),
        Oddity::Outlier(OutlierKind::Long) => {
            ("Very long", "They have more than 50 words, and more than 4 times the median.")
        }
        Oddity::Outlier(OutlierKind::Short) => ("Very short", "They have fewer than 3 words."),
        Oddity::Hidden => {
            ("With hidden characters", "They have characters that nobody sees, or that stand for one that was lost.")
        }
        Oddity::Markup => ("With addresses or HTML", "They have an address, a tag or a character entity."),
    };
    let listed =
        kind.first.iter().map(|odd| OddListed { image: odd.image, caption: odd.caption, reason: odd.reason.clone() });
    OddCaptions { title: title.to_owned(), meaning: meaning.to_owned(), count: kind.count, first: listed.collect() }
}

fn pairs(duplicates: &Duplicates) -> Vec<LookPairs> {
    const SIMILAR: &str = "At most 4 of the 64 bits of their difference hashes differ: the same picture scaled, encoded \
                           again or touched up, now and then another one.";
    const SAME: &str = "Their files are equal; of a group of equal files each is paired with one other.";
    let kinds: [(&str, &str, bool, &PairList); 4] = [
        ("The same file in two splits", SAME, true, &duplicates.same_across),
        ("Similar pictures in two splits", SIMILAR, true, &duplicates.near_across),
        ("The same file twice in a split", SAME, false, &duplicates.same_within),
        ("Similar pictures in a split", SIMILAR, false, &duplicates.near_within),
    ];
    let note = |distance: Option<u32>| match distance {
        Some(bits) => format!("{bits} of 64 bits differ"),
        None => "equal files".to_owned(),
    };
    let kind = |(title, meaning, is_leak, list): (&str, &str, bool, &PairList)| {
        let pair =
            list.first.iter().map(|pair| LookPair { one: pair.one, other: pair.other, note: note(pair.distance) });
        LookPairs {
            title: title.to_owned(),
            meaning: meaning.to_owned(),
            is_leak,
            count: list.count,
            first: pair.collect(),
        }
    };
    kinds.into_iter().filter(|(.., list)| list.count > 0).map(kind).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_elsewhere_finds_the_images() {
        let folder = tempfile::tempdir().unwrap();
        let dataset = folder.path().join("data/x");
        fs::create_dir_all(dataset.join(IMAGE_FOLDER)).unwrap();
        fs::create_dir_all(folder.path().join("pages")).unwrap();
        let from = |page: &str| image_folder(&dataset, &folder.path().join(page));
        assert_eq!(from("data/x/look.html").unwrap(), Path::new("images"));
        assert_eq!(from("data/look.html").unwrap(), Path::new("x/images"));
        assert_eq!(from("pages/look.html").unwrap(), Path::new("../data/x/images"));
        assert!(from("absent/look.html").is_err());
    }
}
