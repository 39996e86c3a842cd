//! The images given on the command line: files, and folders of files.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use base::error::{describe, failure};
use base::{bounded_file, terminal};
use datasets::source::{START, UnnamedPictures, UnreadPictures};
use pixels::picture_formats::{READ, format_of_name};

/// The given files, whatever their names, and the images of the given folders, in order; and the number of folders that
/// failed. Prints what is skipped in a folder.
pub(super) fn picture_files(paths: &[PathBuf]) -> (Vec<PathBuf>, usize) {
    let mut files = Vec::new();
    let mut failed = 0;
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        match Contents::of(path).and_then(|contents| contents.pictures(path)) {
            Ok(found) => files.extend(found),
            Err(error) => {
                failed += 1;
                terminal::error(&describe(&error));
            }
        }
    }
    (files, failed)
}

#[derive(Debug, Default)]
struct Contents {
    pictures: Vec<PathBuf>,
    unread: Vec<UnreadPictures>,
    unnamed: Option<UnnamedPictures>,
    num_subfolders: usize,
}

impl Contents {
    /// Hidden files, such as those that macOS adds, are skipped.
    fn of(folder: &Path) -> Result<Self> {
        let entries = || -> std::io::Result<Vec<PathBuf>> {
            std::fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect()
        };
        let mut paths = entries().with_context(|| format!("cannot list {}", folder.display()))?;
        paths.sort();
        let name_of = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        paths.retain(|path| !name_of(path).starts_with('.') && name_of(path) != "__MACOSX");
        let (subfolders, mut files): (Vec<_>, Vec<_>) = paths.into_iter().partition(|path| path.is_dir());
        let names: Vec<String> = files.iter().map(name_of).collect();
        let unread = UnreadPictures::among(names.iter().map(String::as_str));
        let unnamed = UnnamedPictures::among(&names, |name| start_of(&folder.join(name)));
        files.retain(|path| format_of_name(&name_of(path)).is_some());
        Ok(Self { pictures: files, unread, unnamed, num_subfolders: subfolders.len() })
    }

    /// The images, after printing what is skipped.
    fn pictures(self, folder: &Path) -> Result<Vec<PathBuf>> {
        let notes = self.notes();
        if self.pictures.is_empty() {
            let notes: String = notes.iter().map(|note| format!("; {note}")).collect();
            let message = format!("the folder {} contains no {READ} files{notes}", folder.display());
            return Err(failure(message, "give another folder, or the files themselves"));
        }
        if !notes.is_empty() {
            terminal::message(&format!("{}: {}", folder.display(), notes.join("; ")));
        }
        Ok(self.pictures)
    }

    fn notes(&self) -> Vec<String> {
        let mut notes: Vec<String> = self
            .unread
            .iter()
            .map(|unread| {
                let are = if unread.count == 1 { "is" } else { "are" };
                format!("{unread}, {are} skipped: unsupported format")
            })
            .collect();
        notes.extend(self.unnamed.as_ref().map(|unnamed| format!("{unnamed}: give such a file itself to include it")));
        match self.num_subfolders {
            0 => {}
            1 => notes.push("1 subfolder is not searched: give it to include its images".to_owned()),
            count => notes.push(format!("{count} subfolders are not searched: give them to include their images")),
        }
        notes
    }
}

/// The first bytes of a file; empty if it cannot be read.
fn start_of(path: &Path) -> Vec<u8> {
    bounded_file::read_start(path, START).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder_of(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            let path = folder.path().join(name);
            if name.ends_with('/') {
                std::fs::create_dir(path).unwrap();
            } else {
                std::fs::write(path, b"x").unwrap();
            }
        }
        folder
    }

    #[test]
    fn a_folder_gives_its_pictures_and_counts_what_it_skips() {
        let folder = folder_of(&[
            "b.JPG",
            "a.jfif",
            "t.tiff",
            "g.gif",
            "._b.JPG",
            ".hidden.png",
            "Thumbs.db",
            "notes.txt",
            "1.heic",
            "2.heif",
            "r.nef",
            "sub/",
            "old/",
            ".git/",
            "__MACOSX/",
        ]);
        let contents = Contents::of(folder.path()).unwrap();
        assert_eq!(
            contents.notes(),
            [
                "2 HEIC pictures, such as 1.heic, are skipped: unsupported format",
                "1 camera raw picture, such as r.nef, is skipped: unsupported format",
                "2 subfolders are not searched: give them to include their images",
            ]
        );
        let names = ["a.jfif", "b.JPG", "g.gif", "t.tiff"].map(|name| folder.path().join(name));
        let mut found = contents.pictures(folder.path()).unwrap();
        found.sort();
        assert_eq!(found, names);
    }

    #[test]
    fn pictures_that_are_not_called_so_are_named() {
        let folder = folder_of(&["b.jpg", "notes"]);
        for name in ["img_1", "a.photo"] {
            std::fs::write(folder.path().join(name), b"\xff\xd8\xff\xe0").unwrap();
        }
        let expected = "2 files are pictures by their content and not by their names, such as a.photo: give such a file \
                        itself to include it";
        assert_eq!(Contents::of(folder.path()).unwrap().notes(), [expected]);
    }

    #[test]
    fn a_folder_without_pictures_says_what_it_has() {
        let folder = folder_of(&["1.avif", "sub/"]);
        let text = describe(&Contents::of(folder.path()).unwrap().pictures(folder.path()).unwrap_err());
        assert!(
            text.contains("contains no JPEG") && text.contains("1 AVIF picture") && text.contains("1 subfolder"),
            "{text}"
        );
        let (files, failed) = picture_files(&[folder.path().to_owned(), PathBuf::from("named.heic")]);
        assert_eq!((files, failed), (vec![PathBuf::from("named.heic")], 1));
    }
}
