//! A data set whose files are found: which they are, what of them is wanted, and the folder in which they lie together.

use std::collections::{HashMap, HashSet};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::path::PathBuf;

use anyhow::Context as _;

use super::card::{Card, MAX_CARD_BYTES};
use super::layout::{self, Chosen, ChosenFile};
use super::listing::{self, ListedFile};
use super::parts::{self, PartOfFile};
use crate::content_hash::ContentHasher;
use crate::http_client::{Failure, Remote};
use crate::repository::{MAIN, Repository, RepositoryKind};
use crate::requests::{
    DatasetPlan, DatasetRequest, DownloadedDataset, DownloadedFile, FileRole, Part, PlannedFile, Reading, Search,
    is_relative,
};
use crate::settings::Settings;
use crate::source::{Along, Conditions, Source, State, Subject};
use base::bounded_file;
use base::digest::sha256;
use base::error::{failure, usage_error};
use base::terminal::{message, warning};

/// The branch on which the Hub keeps its own conversion of data sets to Parquet.
const CONVERTED: &str = "refs/convert/parquet";
const CARD: &str = "README.md";

/// The repository of a request.
pub(super) fn repository<'a>(request: &DatasetRequest<'a>) -> Repository<'a> {
    let DatasetRequest { id, revision, manual, copied_to, .. } = *request;
    Repository { kind: RepositoryKind::Dataset, id, revision: revision.unwrap_or(MAIN), manual, copied_to }
}

/// What is known of a file before it is downloaded.
pub(super) fn planned(name: &str, state: &State) -> PlannedFile {
    let absent_bytes = if matches!(state, State::Absent(_)) { state.bytes() } else { 0 };
    PlannedFile { name: name.to_owned(), absent_bytes }
}

/// A revision, its commit and its files.
struct Revision<'a> {
    source: Source<'a>,
    commit: String,
    files: Vec<ListedFile>,
}

/// One file of the data set.
enum Wanted {
    Whole(ListedFile, State),
    Part(Box<PartOfFile>),
}

impl Wanted {
    fn path(&self) -> &str {
        match self {
            Self::Whole(file, _) => &file.path,
            Self::Part(part) => &part.path,
        }
    }
}

/// What will be downloaded.
pub(super) struct Found<'a> {
    main: Revision<'a>,
    /// Where the data are, if not at `main`.
    converted: Option<Revision<'a>>,
    config: Option<String>,
    terms: String,
    /// Each with its path in the folder.
    wanted: Vec<(String, Wanted)>,
    /// Whether there are rows that are not wanted.
    is_cut: bool,
}

impl<'a> Revision<'a> {
    fn paths(&self) -> Vec<&str> {
        self.files.iter().map(|file| file.path.as_str()).collect()
    }

    fn list(source: Source<'a>, commit: String) -> anyhow::Result<Self> {
        let files =
            listing::of(&source, &commit).map_err(|failure| source.place.explain(Subject::Revision, failure.into()))?;
        let files = files.ok_or_else(|| source.not_cached("the list of files"))?;
        Ok(Self { source, commit, files })
    }

    fn file(&self, path: &str) -> Option<&ListedFile> {
        self.files.binary_search_by(|file| file.path.as_str().cmp(path)).ok().map(|at| &self.files[at])
    }

    /// What the Hub says of a file.
    fn remote(&self, file: &ListedFile) -> anyhow::Result<Remote> {
        let unnamed = || {
            let message = format!("the server's list of files has no hash of {}", file.path);
            self.source.explain(&self.commit, &file.path, Failure::Malformed(message).into())
        };
        file.remote().ok_or_else(unnamed)
    }

    fn state(&self, file: &ListedFile) -> anyhow::Result<State> {
        if let Some(state) = self.source.cached(&self.commit, &file.path)? {
            return Ok(state);
        }
        match self.source.held(&self.commit, &file.path, self.remote(file)?)? {
            State::Absent(_) if self.source.is_offline() => Err(self.source.not_cached(&file.path)),
            state => Ok(state),
        }
    }

    /// Whether a Parquet file has a column that may be images, by what its end says.
    fn may_have_images(&self, path: &str, reading: &Reading) -> anyhow::Result<bool> {
        let Some(file) = self.file(path) else { return Ok(false) };
        Ok(first_rows(self, file, 1, reading)?.part.has_bytes)
    }

    /// The text of the card; nothing if there is none.
    fn card(&self) -> anyhow::Result<String> {
        let Some(file) = self.file(CARD).filter(|file| file.bytes <= MAX_CARD_BYTES) else { return Ok(String::new()) };
        let text = match self.source.cached(&self.commit, CARD)? {
            Some(_) => {
                let path = self.source.cache.snapshot(&self.commit).join(CARD);
                bounded_file::read(&path, MAX_CARD_BYTES).with_context(|| format!("cannot read {}", path.display()))?
            }
            None if self.source.is_offline() => return Err(self.source.not_cached(CARD)),
            None => self.receive_card(file).map_err(|error| self.source.explain(&self.commit, CARD, error))?,
        };
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    fn receive_card(&self, file: &ListedFile) -> anyhow::Result<Vec<u8>> {
        let (http, remote) = (&self.source.http, self.remote(file)?);
        let (url, mut retries) = (http.file_address(&self.commit, CARD)?, http.retries(CARD));
        loop {
            let received = http.content(&url, 0).and_then(|answer| {
                let mut text = Vec::new();
                let read = answer.take(remote.bytes + 1).read_to_end(&mut text);
                read.map(|_| text).map_err(|error| Failure::Cut(Box::new(error)))
            });
            match received {
                Ok(text) => {
                    let mut hasher = ContentHasher::new(&remote.hash, remote.bytes);
                    hasher.update(&text);
                    let (expected, found) = (remote.hash.as_str().to_owned(), hasher.finish().named);
                    anyhow::ensure!(found == expected, Failure::Damaged { expected, found });
                    return Ok(text);
                }
                Err(failure) => retries.wait(failure)?,
            }
        }
    }
}

impl<'a> Found<'a> {
    /// Finds out what would be downloaded. Writes nothing.
    pub(super) fn plan(
        request: &DatasetRequest<'a>,
        search: &Search<'_>,
        settings: &Settings,
        conditions: &Conditions,
    ) -> anyhow::Result<Self> {
        let source = Source::open(&repository(request), settings, conditions)?;
        let commit = source.commit(&[])?;
        let main = Revision::list(source, commit)?;
        let card = Card::parse(&main.card()?).unwrap_or_else(|reason| {
            warning(&format!("the card of {} cannot be read: {reason}", request.id));
            Card::default()
        });
        let (id, reading) = (request.id, search.reading);
        let page = main.source.place.repository.page(&main.source.place.endpoint);
        let terms = match card.licence.as_str() {
            "" => format!("the card of {id} names no licence: see {page} before you use it"),
            licence => format!("the licence of {id} is {licence}, as its card says: see {page}"),
        };
        let paths = main.paths();
        let mut chosen = layout::by_card(id, &card, &paths, search.config, reading)?;
        if chosen.is_none() {
            chosen = layout::parquet_by_names(id, &paths, search.config, reading)?;
        }
        if let Some(own) = &mut chosen
            && let Some(first) = own.parquet(reading).filter(|_| !own.has_images_apart(reading))
            && layout::images_of(&paths, reading).next().is_some()
            && !main.may_have_images(first, reading)?
        {
            own.files.extend(layout::images_of(&paths, reading));
        }
        let mut converted = None;
        let is_parquet = chosen.as_ref().is_some_and(|chosen| chosen.parquet(reading).is_some());
        if !is_parquet
            && request.revision.is_none()
            && let Some((revision, found)) = conversion(request, search, &main, chosen.as_ref(), settings, conditions)?
        {
            (converted, chosen) = (Some(revision), Some(found));
        }
        let Chosen { config, files, notes } = match chosen {
            Some(chosen) => chosen,
            None => layout::others(id, &paths, search.config, reading)?,
        };
        notes.iter().for_each(|note| warning(note));
        let data = converted.as_ref().unwrap_or(&main);
        let (wanted, is_cut) = wanted(data, files, search)?;
        Ok(Self { main, converted, config, terms, wanted, is_cut })
    }

    fn data(&self) -> &Revision<'a> {
        self.converted.as_ref().unwrap_or(&self.main)
    }

    pub(super) fn describe(&self) -> DatasetPlan {
        let source = &self.data().source;
        let file = |(_, wanted): &(String, Wanted)| match wanted {
            Wanted::Whole(file, state) => planned(&file.path, state),
            Wanted::Part(part) => PlannedFile { name: part.title(), absent_bytes: part.absent_bytes(source) },
        };
        DatasetPlan {
            commit: self.data().commit.clone(),
            config: self.config.clone(),
            terms: self.terms.clone(),
            files: self.wanted.iter().map(file).collect(),
        }
    }

    /// Downloads it and brings it together in a folder of links.
    pub(super) fn fetch(
        self,
        request: &DatasetRequest<'_>,
        conditions: &Conditions,
    ) -> anyhow::Result<DownloadedDataset> {
        let Self { main, converted, config, terms, wanted, is_cut } = self;
        if let Some(card) = main.file(CARD).filter(|file| file.bytes <= MAX_CARD_BYTES) {
            main.source.fetch(&main.commit, vec![(CARD, main.state(card)?)], Along::default(), conditions)?;
        }
        let data = converted.as_ref().unwrap_or(&main);
        let (source, commit) = (&data.source, data.commit.as_str());
        let (mut places, mut files, mut states, mut parts) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut taken = HashSet::from([CARD.to_owned(), ".gitattributes".to_owned()]);
        for (place, wanted) in wanted {
            taken.insert(wanted.path().to_owned());
            match wanted {
                Wanted::Whole(file, state) => {
                    places.push(place);
                    files.push(file.path);
                    states.push(state);
                }
                Wanted::Part(part) => parts.push((place, part)),
            }
        }
        let bytes = parts.iter().map(|(_, part)| part.absent_bytes(source)).sum();
        let states = files.iter().map(String::as_str).zip(states).collect();
        let along = Along { terms: &terms, bytes };
        let mut fetched = source.fetch(commit, states, along, conditions)?;
        for (place, part) in parts {
            fetched.push(part.fetch(source, commit)?);
            places.push(place);
        }
        let folder = together(source, commit, places.iter().map(String::as_str).zip(&fetched))?;
        for revision in [Some(&main), converted.as_ref()].into_iter().flatten() {
            listing::keep(&revision.source, &revision.commit, &revision.files);
            revision.source.finish(&revision.commit);
        }
        let revision = if converted.is_some() { CONVERTED } else { main.source.place.repository.revision };
        let left_out = || data.files.iter().map(|file| file.path.as_str()).filter(|path| !taken.contains(*path));
        if let Some(first) = left_out().next() {
            let count = left_out().count();
            message(&format!("{count} other files of {} are not downloaded, such as {first}", request.id));
        }
        let commit = commit.to_owned();
        Ok(DownloadedDataset { folder, commit, revision: revision.to_owned(), config, files: fetched, is_cut })
    }
}

/// What the Hub has converted to Parquet, if it has and if it is better than what `main` has: `own` are the files of its
/// card.
fn conversion<'a>(
    request: &DatasetRequest<'a>,
    search: &Search<'_>,
    main: &Revision<'_>,
    own: Option<&Chosen>,
    settings: &Settings,
    conditions: &Conditions,
) -> anyhow::Result<Option<(Revision<'a>, Chosen)>> {
    let (id, reading) = (request.id, search.reading);
    let source = Source::open(&Repository { revision: CONVERTED, ..repository(request) }, settings, conditions)?;
    if main.source.is_offline() {
        source.cut_off();
    }
    let Some(commit) = source.find_commit()? else { return Ok(None) };
    let revision = Revision::list(source, commit)?;
    let own_paths = main.paths();
    let is_readable = own.is_some() || layout::others(id, &own_paths, None, reading).is_ok();
    // What `main` has is of no config that was asked for.
    let is_only_here = own.is_none() && search.config.is_some();
    let config = |path: &str| path.split('/').next().unwrap_or_default().to_owned();
    let mut paths = revision.paths();
    if is_readable && !is_only_here && search.limit.is_none() {
        // A first part is enough for the first rows, and no data set where the whole one can be read.
        let of = paths.iter().filter(|path| layout::is_partial(path)).map(|path| config(path));
        let partial: HashSet<String> = of.collect();
        paths.retain(|path| !partial.contains(&config(path)));
    }
    let of_card = own.and_then(|own| own.config.as_deref());
    let wanted = of_card.or(search.config);
    let is_wanted = |path: &&&str| wanted.is_none_or(|wanted| config(path) == wanted);
    // Not every config of a card is converted.
    if of_card.is_some() && !paths.iter().any(|path| is_wanted(&path)) {
        return Ok(None);
    }
    let is_parquet = |path: &&&str| (reading.role_of)(path) == FileRole::Parquet;
    if is_readable
        && layout::images_of(&own_paths, reading).next().is_some()
        && let Some(first) = paths.iter().filter(is_wanted).find(is_parquet)
        && !revision.may_have_images(first, reading)?
    {
        if let Some(config) = search.config.filter(|_| is_only_here) {
            let message = format!(
                "{id} has the config {config} (--config-name) on the branch {CONVERTED} alone, \
                                   without images"
            );
            return Err(usage_error(message, "leave out --config-name to use the images of main"));
        }
        return Ok(None);
    }
    let Some(mut chosen) = layout::parquet_by_names(id, &paths, wanted, reading)? else { return Ok(None) };
    if search.limit.is_none() && chosen.files.iter().any(|file| layout::is_partial(&file.path)) {
        warning(&format!("the Hub has converted only the first part of {id} to Parquet, which is used"));
    }
    // A folder for the config, in it one for each split.
    let splits = chosen.files.iter().filter_map(|file| file.path.rsplit('/').nth(1));
    let note = layout::unknown_splits(id, splits, reading);
    chosen.notes.extend(note);
    Ok(Some((revision, chosen)))
}

/// What of the files is wanted, and the path of each in the folder; and whether there is more.
fn wanted(
    data: &Revision<'_>,
    files: Vec<ChosenFile>,
    search: &Search<'_>,
) -> anyhow::Result<(Vec<(String, Wanted)>, bool)> {
    let mut rows = search.limit.map(|limit| Shares::new(limit, data, &files, search.reading));
    let (mut wanted, mut is_cut) = (Vec::new(), false);
    let mut taken: HashSet<String> = files.iter().map(|file| file.path.clone()).collect();
    for (number, chosen) in files.into_iter().enumerate() {
        let place = placed(&chosen, number, &mut taken, search.reading)?;
        let Some(file) = data.file(&chosen.path) else { continue };
        let is_parquet = (search.reading.role_of)(&chosen.path) == FileRole::Parquet;
        let Some(rows) = rows.as_mut().filter(|_| is_parquet) else {
            wanted.push((place, Wanted::Whole(file.clone(), data.state(file)?)));
            continue;
        };
        let left = rows.left_of(&chosen, search.reading);
        if *left == 0 {
            is_cut = true;
            continue;
        }
        let FirstRows { part, reads, whole } = first_rows(data, file, *left, search.reading)?;
        *left = left.saturating_sub(part.num_rows);
        if part.num_rows == 0 {
            continue;
        }
        let one = match part.is_whole {
            true => Wanted::Whole(file.clone(), data.state(file)?),
            false => {
                is_cut = true;
                let (path, remote) = (file.path.clone(), data.remote(file)?);
                Wanted::Part(Box::new(PartOfFile { path, remote, part, reads, whole }))
            }
        };
        wanted.push((place, one));
    }
    Ok((wanted, is_cut))
}

/// Rows that are still wanted of each split: each has its share by the bytes of its files.
struct Shares(HashMap<String, u64>);

impl Shares {
    fn new(limit: u64, data: &Revision<'_>, files: &[ChosenFile], reading: &Reading) -> Self {
        let mut bytes: HashMap<String, u64> = HashMap::new();
        let is_parquet = |file: &&ChosenFile| (reading.role_of)(&file.path) == FileRole::Parquet;
        for file in files.iter().filter(is_parquet) {
            *bytes.entry(split_of(file, reading)).or_default() += data.file(&file.path).map_or(0, |file| file.bytes);
        }
        let total = u128::from(bytes.values().sum::<u64>()).max(1);
        let share = |bytes: u64| (u128::from(limit) * u128::from(bytes)).div_ceil(total) as u64;
        Self(bytes.into_iter().map(|(split, bytes)| (split, share(bytes))).collect())
    }

    fn left_of(&mut self, file: &ChosenFile, reading: &Reading) -> &mut u64 {
        self.0.entry(split_of(file, reading)).or_default()
    }
}

fn split_of(file: &ChosenFile, reading: &Reading) -> String {
    let named = || (reading.split_of)(&file.path).unwrap_or_default().to_owned();
    file.split.clone().unwrap_or_else(named)
}

/// The path of a file in the folder, which says its split, and which no other file has: `taken` are the paths of all
/// files in the repository and the places of those before.
fn placed(file: &ChosenFile, number: usize, taken: &mut HashSet<String>, reading: &Reading) -> anyhow::Result<String> {
    let ChosenFile { path, split } = file;
    let Some(split) = split else { return Ok(path.clone()) };
    if !is_relative(split) || split.contains('/') {
        let message = format!("the card names a split {split:?}, which cannot be the name of a folder");
        return Err(failure(message, "download the files yourself and give their folder with `--source`"));
    }
    let (own, named) = ((reading.split_of)(path), (reading.split_of)(split));
    let mut below = match own {
        // A split whose name means nothing leaves what the file's own name says.
        own if own == named || named.is_none() => return Ok(path.clone()),
        None => path.clone(),
        // Nothing refers to such a file by its name.
        Some(_) if matches!((reading.role_of)(path), FileRole::Parquet | FileRole::Archive) => {
            let name = path.rsplit('/').next().unwrap_or(path);
            format!("{number:05}{}", name.find('.').map_or("", |dot| &name[dot..]))
        }
        Some(own) => {
            warning(&format!(
                "the card says that {path} is of split {split}, and its name that it is of {own}, which counts"
            ));
            return Ok(path.clone());
        }
    };
    while !taken.insert(format!("{split}/{below}")) {
        below = format!("{number:05}/{below}");
    }
    Ok(format!("{split}/{below}"))
}

/// The first rows of a file.
struct FirstRows {
    part: Part,
    /// What was read of the file to find them.
    reads: Vec<(Range<u64>, Vec<u8>)>,
    /// The file, if the cache has it.
    whole: Option<PathBuf>,
}

fn first_rows(data: &Revision<'_>, file: &ListedFile, rows: u64, reading: &Reading) -> anyhow::Result<FirstRows> {
    let (source, commit) = (&data.source, data.commit.as_str());
    let hash = data.remote(file)?.hash;
    let whole = source.cached(commit, &file.path)?.map(|_| source.cache.snapshot(commit).join(&file.path));
    let mut reads = Vec::new();
    let mut read = |range: Range<u64>| -> anyhow::Result<Vec<u8>> {
        if let Some(path) = &whole {
            let mut opened = bounded_file::open(path)?;
            opened.seek(SeekFrom::Start(range.start))?;
            let mut bytes = Vec::new();
            opened.take(range.end - range.start).read_to_end(&mut bytes)?;
            return Ok(bytes);
        }
        let bytes = match parts::kept_range(source, &hash, &range) {
            Some(bytes) => bytes,
            None if source.is_offline() => return Err(source.not_cached(&file.path)),
            None => parts::read(source, commit, &file.path, &range, file.bytes)
                .map_err(|error| source.explain(commit, &file.path, error))?,
        };
        reads.push((range, bytes.clone()));
        Ok(bytes)
    };
    let unusable = || format!("cannot use {} of {}", file.path, source.place.repository.id);
    let part = (reading.first_rows)(file.bytes, rows, &mut read).with_context(unusable)?;
    Ok(FirstRows { part, reads, whole })
}

/// The folder with a link to each of the files, and nothing else.
fn together<'f>(
    source: &Source<'_>,
    commit: &str,
    files: impl Iterator<Item = (&'f str, &'f DownloadedFile)> + Clone,
) -> anyhow::Result<PathBuf> {
    let lines = files.clone().map(|(place, file)| format!("{} {place}\n", file.sha256));
    let key = sha256(format!("{commit}\n{}", lines.collect::<String>()).as_bytes());
    let folder = source.cache.own_folder().join("sets").join(&key[..16]);
    for (place, file) in files {
        let path = folder.join(place);
        source.cache.link_to(&path, &file.path).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(folder)
}

#[cfg(test)]
mod tests;
