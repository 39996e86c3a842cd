//! Uploads a folder: FOLDER REPO MESSAGE. For comparisons with other clients.
#![expect(clippy::unwrap_used, reason = "a tool for tests")]

use std::path::{Path, PathBuf};

use base::stop::StopFlag;
use base::{error, terminal};
use hub::{Upload, upload};

fn collect(root: &Path, folder: &Path, files: &mut Vec<(String, PathBuf)>) {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            collect(root, &path, files);
        } else {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            files.push((name, path));
        }
    }
}

fn main() -> std::process::ExitCode {
    let [_, folder, repo, message] = std::env::args().collect::<Vec<_>>().try_into().unwrap();
    let mut files = Vec::new();
    collect(Path::new(&folder), Path::new(&folder), &mut files);
    match upload(&Upload { repo, private: true, message, files }, &StopFlag::default()) {
        Ok(uploaded) => {
            terminal::message(&format!("{} {}", uploaded.url, uploaded.commit));
            std::process::ExitCode::SUCCESS
        }
        Err(error) => {
            terminal::error(&error::describe(&error));
            std::process::ExitCode::FAILURE
        }
    }
}
