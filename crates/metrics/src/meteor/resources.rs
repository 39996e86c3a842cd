//! Reads METEOR's resources as the Python package `pycocoevalcap` ships them: a jar, which is a zip archive, with the
//! synonyms, and a table of paraphrases. Both are checked as files of unknown origin.

use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::Path;

use anyhow::Context as _;
use zip::ZipArchive;

use super::paraphrase_file::{self, ParaphraseFault};
use super::paraphrases::Paraphrases;
use super::synonyms::{SynonymFault, Synonyms};
use base::bounded_file;
use base::error::WithHint as _;

const JAR: &str = "meteor-1.5.jar";
const SYNSETS: &str = "synonym/english.synsets";
const EXCEPTIONS: &str = "synonym/english.exceptions";
const PARAPHRASES: &str = "data/paraphrase-en.gz";
/// Largest member of the jar that is read: 18 times the largest in use.
const MEMBER_BYTES: u64 = 64 << 20;
const HINT: &str = "install the Python package pycocoevalcap 1.2 again and give its folder pycocoevalcap/meteor";

/// Synonyms and paraphrases.
#[derive(Debug, Default)]
pub(super) struct Resources {
    pub(super) synonyms: Synonyms,
    pub(super) paraphrases: Paraphrases,
}

impl Resources {
    /// Reads `meteor-1.5.jar` and `data/paraphrase-en.gz` in `folder`.
    ///
    /// # Errors
    /// A file that cannot be read, is damaged or contains something else.
    pub(super) fn read(folder: &Path) -> anyhow::Result<Self> {
        let synonyms = read_synonyms(&folder.join(JAR)).hint(|| HINT)?;
        let paraphrases = read_paraphrases(&folder.join(PARAPHRASES)).hint(|| HINT)?;
        Ok(Self { synonyms, paraphrases })
    }
}

fn read_synonyms(path: &Path) -> anyhow::Result<Synonyms> {
    let file = bounded_file::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let whole = || format!("{} is not a complete zip archive", path.display());
    let mut jar = ZipArchive::new(BufReader::new(file)).with_context(whole)?;
    let mut member =
        |name| read_member(&mut jar, name).with_context(|| format!("cannot read {name} of {}", path.display()));
    let (synsets, exceptions) = (member(SYNSETS)?, member(EXCEPTIONS)?);
    Synonyms::parse(&synsets, &exceptions).map_err(|fault| {
        let (name, message) = match fault {
            SynonymFault::Synsets(message) => (SYNSETS, message),
            SynonymFault::Exceptions(message) => (EXCEPTIONS, message),
        };
        anyhow::anyhow!("{message}").context(format!("{name} of {} is damaged", path.display()))
    })
}

#[expect(clippy::disallowed_methods, reason = "takes a bounded number of bytes")]
fn read_member(jar: &mut ZipArchive<BufReader<File>>, name: &str) -> anyhow::Result<String> {
    let mut text = String::new();
    jar.by_name(name)?.take(MEMBER_BYTES + 1).read_to_string(&mut text)?;
    anyhow::ensure!(text.len() as u64 <= MEMBER_BYTES, "it has more than {MEMBER_BYTES} bytes");
    Ok(text)
}

fn read_paraphrases(path: &Path) -> anyhow::Result<Paraphrases> {
    let file = bounded_file::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    paraphrase_file::read(BufReader::with_capacity(1 << 18, file)).map_err(|fault| match fault {
        ParaphraseFault::Io(error) => anyhow::Error::new(error).context(format!("cannot unpack {}", path.display())),
        ParaphraseFault::Content(message) => {
            anyhow::anyhow!("{message}").context(format!("{} is damaged", path.display()))
        }
    })
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use tempfile::TempDir;
    use zip::write::SimpleFileOptions;
    use zip::{CompressionMethod, ZipWriter};

    use super::*;
    use base::error::describe;

    /// A folder with a jar of these members and a table of these pairs.
    pub(crate) fn folder(members: &[(&str, &str)], paraphrases: &[(&str, &str)]) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        let mut jar = ZipWriter::new(File::create(folder.path().join(JAR)).unwrap());
        for (name, text) in members {
            // Not compressed, so that a test can damage the text.
            let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
            jar.start_file(*name, options).unwrap();
            jar.write_all(text.as_bytes()).unwrap();
        }
        jar.finish().unwrap();
        let path = folder.path().join(PARAPHRASES);
        fs::create_dir(path.parent().unwrap()).unwrap();
        let mut table = GzEncoder::new(File::create(path).unwrap(), Compression::fast());
        for (phrase, paraphrase) in paraphrases {
            write!(table, "0.5\n{phrase}\n{paraphrase}\n").unwrap();
        }
        table.finish().unwrap();
        folder
    }

    const MEMBERS: [(&str, &str); 2] = [(SYNSETS, "man\n1\n"), (EXCEPTIONS, "man\nmen\n")];

    #[track_caller]
    fn assert_fault(folder: &TempDir, expected: &[&str]) {
        let text = describe(&Resources::read(folder.path()).unwrap_err());
        for part in expected.iter().chain(&["hint: install the Python package"]) {
            assert!(text.contains(part), "{part:?} is missing in {text}");
        }
    }

    #[test]
    fn whole_resources_are_read() {
        assert!(Resources::read(folder(&MEMBERS, &[("a", "b")]).path()).is_ok());
    }

    #[test]
    fn a_missing_file_or_member_is_named() {
        let empty = tempfile::tempdir().unwrap();
        assert_fault(&empty, &["cannot open", JAR]);
        let folder = folder(&MEMBERS[..1], &[("a", "b")]);
        assert_fault(&folder, &["cannot read synonym/english.exceptions of", JAR]);
        let folder = super::tests::folder(&MEMBERS, &[("a", "b")]);
        fs::remove_file(folder.path().join(PARAPHRASES)).unwrap();
        assert_fault(&folder, &["cannot open", PARAPHRASES]);
    }

    #[test]
    fn a_damaged_jar_is_named() {
        let folder = folder(&MEMBERS, &[("a", "b")]);
        let path = folder.path().join(JAR);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        assert_fault(&folder, &[JAR, "is not a complete zip archive"]);
        let mut damaged = whole;
        let start = damaged.windows(5).position(|part| part == b"man\n1").unwrap();
        damaged[start] ^= 0x20;
        fs::write(&path, damaged).unwrap();
        assert_fault(&folder, &["cannot read synonym/english.synsets of", JAR]);
    }

    #[test]
    fn content_of_another_kind_is_named_with_its_line() {
        let members = [(SYNSETS, "man\nguy\n"), MEMBERS[1]];
        assert_fault(
            &folder(&members, &[("a", "b")]),
            &["english.synsets of", "is damaged", "line 2", "found \"guy\""],
        );
        assert_fault(&folder(&MEMBERS, &[("a", "")]), &[PARAPHRASES, "is damaged", "line 3: expected a paraphrase"]);
        let other = folder(&MEMBERS, &[("a", "b")]);
        fs::write(other.path().join(PARAPHRASES), "no gzip at all, but some text").unwrap();
        assert_fault(&other, &["cannot unpack", PARAPHRASES]);
    }
}
