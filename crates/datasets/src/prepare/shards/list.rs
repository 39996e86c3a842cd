//! The shards that patterns mean: `*` and `?` in names of files and folders, `{00000..01242}` and `{a,b}` for several
//! names, and folders with all the shards in them.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::Context as _;

use crate::annotations::Repair;
use crate::name_forms::without_ending;
use crate::prepare::shards::scan::{is_shard_name, is_tar_name};
use crate::shards::read::Shard;
use crate::source::{is_archive_name, is_packed_name, is_packed_text_name, is_parquet_name};
use base::bounded_file;
use base::error::{WithHint as _, failure, usage_error};

/// Shards of a data set: ten times those of the largest in use.
const MAX_SHARDS: usize = 1_000_000;

/// A shard and what its images are called by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedShard {
    /// Its file name without the ending; with folders before it where others are called alike.
    pub name: String,
    pub shard: Shard,
}

/// Shards in the order of their paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardList {
    pub shards: Vec<ListedShard>,
    /// What was left aside.
    pub repairs: Vec<Repair>,
}

/// The shards that `patterns` mean.
///
/// # Errors
/// A pattern that means nothing, names that mean a file that is not there, is no shard or cannot be read, a shard that
/// two patterns mean.
pub fn list<P: AsRef<str>>(patterns: &[P]) -> anyhow::Result<ShardList> {
    let (mut paths, mut list) = (Vec::new(), ShardList::default());
    let mut meant: HashMap<PathBuf, &str> = HashMap::new();
    for pattern in patterns.iter().map(AsRef::as_ref) {
        let found = of_pattern(pattern, &mut list.repairs)?;
        for path in found {
            let real = fs::canonicalize(&path).with_context(|| format!("cannot access {}", path.display()))?;
            if let Some(other) = meant.insert(real, pattern) {
                let message = format!("the shard {} is meant twice, by {other:?} and by {pattern:?}", path.display());
                return Err(usage_error(message, "leave one of them out, so that no image counts twice"));
            }
            paths.push(path);
        }
    }
    if paths.len() > MAX_SHARDS {
        let message = format!("there are {} shards, at most {MAX_SHARDS} are accepted", paths.len());
        return Err(usage_error(message, "give larger shards: ten thousand images each are usual"));
    }
    paths.sort();
    for (path, name) in paths.iter().zip(names(&paths)) {
        let open = || format!("cannot read the shard {}", path.display());
        bounded_file::open(path).with_context(open).hint(|| "make it readable, or leave it out")?;
        // A run may be started in another folder.
        let shard = Shard::of(&std::path::absolute(path).with_context(open)?).with_context(open)?;
        list.shards.push(ListedShard { name, shard });
    }
    if list.shards.is_empty() {
        return Err(usage_error("no shards are named", "give patterns such as \"/data/cc12m/*.tar\""));
    }
    Ok(list)
}

/// The shards of one pattern.
fn of_pattern(pattern: &str, repairs: &mut Vec<Repair>) -> anyhow::Result<Vec<PathBuf>> {
    let is_there = |path: &Path| fs::metadata(path).is_ok();
    let names = if is_there(Path::new(pattern)) { vec![pattern.to_owned()] } else { braces(pattern)? };
    let (mut shards, mut absent, mut others, mut packed) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    // Of those with wildcards, the first that matches no shard.
    let mut unmatched = None;
    for name in &names {
        let path = Path::new(name);
        if is_there(path) {
            let metadata = fs::metadata(path).with_context(|| format!("cannot access {}", path.display()))?;
            if metadata.is_dir() {
                shards.extend(of_folder(path, &mut packed)?);
            } else if is_shard_name(name) {
                shards.push(path.to_owned());
            } else {
                let message = format!("{} is no shard: its name ends in neither .tar nor .parquet", path.display());
                let hint = "give tar files and Parquet files; a compressed tar file has to be unpacked to .tar first";
                return Err(usage_error(message, hint));
            }
        } else if has_wildcards(name) {
            let before = shards.len();
            for found in expand(path)? {
                let is_file = fs::metadata(&found).is_ok_and(|metadata| metadata.is_file());
                let is_shard = is_file && found.file_name().is_some_and(|name| is_shard_name(&name.to_string_lossy()));
                if is_file && is_packed(&found) {
                    packed.push(found.clone());
                }
                if is_shard { shards.push(found) } else { others.push(found) }
            }
            if shards.len() == before {
                unmatched = unmatched.or(Some(name));
            }
        } else {
            absent.push(name);
        }
    }
    if let Some(first) = absent.first() {
        let of = if names.len() > 1 { format!(" of the {} names of {pattern:?}", names.len()) } else { String::new() };
        let message = match absent.len() {
            1 => format!("the shard {first}{of} is not there"),
            count => format!("{count} shards{of} are not there, such as {first}"),
        };
        return Err(failure(
            message,
            "download what is missing, or give a pattern of what is there, such as \"*.tar\"",
        ));
    }
    if let Some(unmatched) = unmatched {
        let such = others.first().map_or_else(String::new, |first| format!("; it matches {}", first.display()));
        return Err(failure(
            format!("no .tar or .parquet file matches {unmatched:?}{such}"),
            "check the pattern, and quote it so that the shell leaves it as it is",
        ));
    }
    if let Some(first) = packed.first() {
        let note = format!(
            "not read, since no image in a compressed archive can be read on its own: unpack them to .tar files, such as {}",
            first.display()
        );
        repairs.push(Repair::new(format!("{} compressed archives", packed.len()), note));
    }
    leave_tables_of_downloads(&mut shards, repairs);
    Ok(shards)
}

/// Leaves out `00000.parquet` beside `00000.tar`: it says where the images of the tar file came from.
fn leave_tables_of_downloads(shards: &mut Vec<PathBuf>, repairs: &mut Vec<Repair>) {
    let stem = |path: &Path| path.with_extension("");
    let is_tar = |path: &&PathBuf| is_tar_name(&path.to_string_lossy());
    let tars: HashSet<PathBuf> = shards.iter().filter(is_tar).map(|path| stem(path)).collect();
    let is_table = |path: &PathBuf| is_parquet_name(&path.to_string_lossy()) && tars.contains(&stem(path));
    let left: Vec<PathBuf> = shards.extract_if(.., |path| is_table(path)).collect();
    if let Some(first) = left.first() {
        let what = format!("{} Parquet files", left.len());
        let note = format!("not read, since tar files of their names lie beside them, such as {}", first.display());
        repairs.push(Repair::new(what, note));
    }
}

fn is_packed(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    !is_shard_name(&name) && (is_archive_name(&name) || is_packed_name(&name)) && !is_packed_text_name(&name)
}

/// The shards that lie in a folder; `packed` gets the archives that are none.
fn of_folder(folder: &Path, packed: &mut Vec<PathBuf>) -> anyhow::Result<Vec<PathBuf>> {
    let names = names_in(folder)?;
    packed.extend(names.iter().map(|name| folder.join(name)).filter(|path| is_packed(path) && path.is_file()));
    let shards: Vec<PathBuf> =
        names.into_iter().filter(|name| is_shard_name(name)).map(|name| folder.join(name)).collect();
    let shards: Vec<PathBuf> = shards.into_iter().filter(|path| path.is_file()).collect();
    if shards.is_empty() {
        let message = format!("the folder {} has no .tar or .parquet file", folder.display());
        return Err(failure(message, "give the folder that has the shards, or a pattern such as \"/data/*/*.tar\""));
    }
    Ok(shards)
}

/// Names in a folder that are UTF-8 and not hidden, sorted.
fn names_in(folder: &Path) -> anyhow::Result<Vec<String>> {
    let cannot = || format!("cannot list the folder {}", folder.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).with_context(cannot).hint(|| "give a folder that you may read")? {
        names.extend(entry.with_context(cannot)?.file_name().into_string().ok().filter(|name| !name.starts_with('.')));
    }
    names.sort_unstable();
    Ok(names)
}

fn has_wildcards(name: &str) -> bool {
    name.contains(['*', '?'])
}

/// What matches a path with `*` and `?` in it.
fn expand(pattern: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = vec![PathBuf::new()];
    for part in pattern.components() {
        let Component::Normal(name) = part else {
            found.iter_mut().for_each(|path| path.push(part));
            continue;
        };
        let name = name.to_string_lossy();
        if !has_wildcards(&name) {
            found.iter_mut().for_each(|path| path.push(&*name));
            continue;
        }
        let mut next = Vec::new();
        for folder in found {
            let here = if folder.as_os_str().is_empty() { Path::new(".") } else { &folder };
            // Beside folders there may be files.
            if here.is_dir() {
                let names = names_in(here)?;
                next.extend(names.iter().filter(|there| matches(&name, there)).map(|there| folder.join(there)));
            }
        }
        found = next;
    }
    found.retain(|path| fs::symlink_metadata(path).is_ok());
    Ok(found)
}

/// Whether `name` is as `pattern` says, where `*` is any text and `?` any character.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    // Where the last star is, and up to where it reaches.
    let (mut at, mut place, mut star) = (0, 0, None);
    while place < name.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, place));
                at += 1;
            }
            Some(&letter) if letter == '?' || letter == name[place] => (at, place) = (at + 1, place + 1),
            _ => match &mut star {
                Some((first, reach)) => {
                    *reach += 1;
                    (at, place) = (*first + 1, *reach);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|&letter| letter == '*')
}

/// The names that a pattern with braces stands for.
fn braces(pattern: &str) -> anyhow::Result<Vec<String>> {
    let (mut all, mut rest) = (vec![String::new()], pattern);
    while let Some((before, after)) = rest.split_once('{') {
        let Some((inside, after)) = after.split_once('}') else {
            let message = format!("{pattern:?} has a {{ without a }}");
            return Err(usage_error(message, "write ranges as {00000..01242}, and choices as {a,b}"));
        };
        let choices = match inside.split_once("..") {
            Some((first, last)) => range(pattern, first, last)?,
            None => inside.split(',').map(str::to_owned).collect(),
        };
        if all.len().saturating_mul(choices.len()) > MAX_SHARDS {
            let message = format!("{pattern:?} means more than {MAX_SHARDS} shards");
            return Err(usage_error(message, "write a smaller range"));
        }
        all =
            all.iter().flat_map(|start| choices.iter().map(move |choice| format!("{start}{before}{choice}"))).collect();
        rest = after;
    }
    all.iter_mut().for_each(|name| name.push_str(rest));
    Ok(all)
}

/// The numbers from `first` to `last`, with as many digits as the first has.
fn range(pattern: &str, first: &str, last: &str) -> anyhow::Result<Vec<String>> {
    let number = |text: &str| text.parse::<u64>().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
    match (number(first), number(last)) {
        (Some(from), Some(to)) if from <= to && to - from < MAX_SHARDS as u64 => {
            let width = first.len();
            Ok((from..=to).map(|number| format!("{number:0width$}")).collect())
        }
        _ => Err(usage_error(
            format!("the range {{{first}..{last}}} in {pattern:?} is not one of at most {MAX_SHARDS} numbers"),
            "write ranges as {00000..01242}, the smaller number first",
        )),
    }
}

/// What each shard is called: the name of its file without the ending, with as many folders before it as it takes to
/// tell it from all others.
fn names(paths: &[PathBuf]) -> Vec<String> {
    let parts: Vec<Vec<String>> = paths.iter().map(|path| parts(path)).collect();
    let last = |parts: &[String], count: usize| parts[parts.len().saturating_sub(count)..].join("/");
    let mut names: Vec<String> = parts.iter().map(|parts| last(parts, 1)).collect();
    for count in 2.. {
        let mut times: HashMap<&str, usize> = HashMap::new();
        names.iter().for_each(|name| *times.entry(name).or_default() += 1);
        let shared: Vec<usize> = (0..names.len()).filter(|&place| times[names[place].as_str()] > 1).collect();
        let longest = shared.iter().map(|&place| parts[place].len()).max().unwrap_or(0);
        for &place in &shared {
            names[place] = last(&parts[place], count);
        }
        if count > longest {
            break;
        }
    }
    // `a.tar` and `a.parquet` in one folder.
    let mut taken = HashSet::new();
    for name in &mut names {
        while !taken.insert(name.clone()) {
            name.push('_');
        }
    }
    names
}

/// The names of a path's folders and of the file without its ending.
fn parts(path: &Path) -> Vec<String> {
    let named = |part: Component<'_>| match part {
        Component::Normal(name) => Some(name.to_string_lossy().replace(['\\', ':'], "_")),
        _ => None,
    };
    let mut parts: Vec<String> = path.components().filter_map(named).collect();
    if let Some(last) = parts.last_mut() {
        *last = without_ending(last).to_owned();
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::error::describe;

    fn put(folder: &Path, path: &str) {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"x").unwrap();
    }

    /// Names of the shards that patterns below `folder` mean.
    fn listed(folder: &Path, patterns: &[&str]) -> anyhow::Result<Vec<String>> {
        let patterns: Vec<String> =
            patterns.iter().map(|pattern| folder.join(pattern).to_str().unwrap().to_owned()).collect();
        Ok(list(&patterns)?.shards.into_iter().map(|shard| shard.name).collect())
    }

    #[test]
    fn stars_question_marks_braces_and_folders_mean_the_shards_that_are_there() {
        let folder = tempfile::tempdir().unwrap();
        for path in [
            "00000.tar",
            "00001.tar",
            "00010.tar",
            "00000_stats.json",
            "x.parquet",
            "a/1.tar",
            "b/1.tar",
            "b/c.PARQUET",
        ] {
            put(folder.path(), path);
        }
        let of = |patterns: &[&str]| listed(folder.path(), patterns).unwrap();
        assert_eq!(of(&["*.tar"]), ["00000", "00001", "00010"]);
        assert_eq!(of(&["0000?.tar"]), ["00000", "00001"]);
        assert_eq!(of(&["*"]), ["00000", "00001", "00010", "x"]);
        assert_eq!(of(&["{00000..00001}.tar"]), ["00000", "00001"]);
        assert_eq!(of(&["{x.parquet,00010.tar}"]), ["00010", "x"]);
        assert_eq!(of(&["*/1.tar"]), ["a/1", "b/1"], "called by their folders where they are called alike");
        assert_eq!(of(&["b"]), ["1", "c"]);
        assert_eq!(of(&["b/c.PARQUET", "00001.tar"]), ["00001", "c"]);
        assert_eq!(of(&["{a,b}/?.tar"]), ["a/1", "b/1"]);
    }

    #[test]
    fn tables_beside_tar_files_of_their_names_are_left_out_with_a_note() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["00000.tar", "00000.parquet", "00001.tar", "00001.parquet", "other.parquet"] {
            put(folder.path(), path);
        }
        let found = list(&[folder.path().to_str().unwrap()]).unwrap();
        assert_eq!(
            found.shards.iter().map(|shard| shard.name.as_str()).collect::<Vec<_>>(),
            ["00000", "00001", "other"]
        );
        assert!(found.repairs.len() == 1 && found.repairs[0].what == "2 Parquet files", "{:?}", found.repairs);
        assert_eq!(listed(folder.path(), &["*.parquet"]).unwrap(), ["00000", "00001", "other"], "asked for alone");
    }

    #[test]
    fn compressed_archives_among_shards_are_left_out_with_a_note() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["0.tar", "1.tar.gz", "2.tgz", "3.zip", "notes.txt.gz"] {
            put(folder.path(), path);
        }
        for pattern in ["", "*"] {
            let found = list(&[folder.path().join(pattern).to_str().unwrap()]).unwrap();
            let [repair] = &found.repairs[..] else { panic!("{:?}", found.repairs) };
            assert_eq!((found.shards.len(), repair.what.as_str()), (1, "3 compressed archives"));
            assert!(repair.repair.contains("1.tar.gz"), "{repair:?}");
        }
    }

    #[test]
    fn patterns_that_mean_nothing_or_something_twice_are_explained() {
        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), "0.tar");
        put(folder.path(), "1.tar.gz");
        fs::create_dir(folder.path().join("empty")).unwrap();
        for (patterns, expected) in [
            (&["*.parquet"][..], "no .tar or .parquet file matches"),
            (&["*.gz"], "1.tar.gz"),
            (&["1.tar.gz"], "is no shard"),
            (&["2.tar"], "2.tar is not there"),
            (&["{0,7}*.tar"], "7*.tar"),
            (&["{0..3}.tar"], "3 shards of the 4 names of"),
            (&["empty"], "empty has no .tar or .parquet file"),
            (&["0.tar", "*.tar"], "is meant twice"),
            (&["{0..1.tar"], "has a { without a }"),
            (&["{3..1}.tar"], "the range {3..1}"),
            (&["{0..99999999}.tar"], "is not one of at most 1000000 numbers"),
            (&["{0..2000}{0..2000}.tar"], "means more than 1000000 shards"),
        ] {
            let text = describe(&listed(folder.path(), patterns).unwrap_err());
            assert!(text.contains(expected) && text.contains("hint: "), "{patterns:?}: {text}");
        }
        assert!(describe(&list::<&str>(&[]).unwrap_err()).contains("no shards are named"));
    }

    #[test]
    fn names_match_where_stars_stand_for_any_text() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abcd", false),
            ("*.tar", "a.tar.gz", false),
            ("*ab", "aab", true),
            ("?", "é", true),
            ("?", "", false),
            ("a**", "a", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
