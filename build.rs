//! Gives the program what `--version` says: the git commit and the features. It is run again only when the commit
//! changes, and needs neither git nor a repository.

#![expect(clippy::disallowed_methods, reason = "reads files of git, without the crate that bounds reads")]

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// Characters of a commit that are shown.
const SHORT: usize = 10;

fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| ".".into()));
    let commit = commit(&root).unwrap_or_else(|| {
        // Without any such line cargo would watch every file of the package.
        println!("cargo::rerun-if-changed=build.rs");
        "unknown".to_owned()
    });
    println!("cargo::rustc-env=CAPTION_TRAIN_COMMIT={commit}");
    println!("cargo::rustc-env=CAPTION_TRAIN_FEATURES={}", features());
}

/// The features that are switched on, without `default`, which only names others.
fn features() -> String {
    let mut names: Vec<String> = env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok()?.strip_prefix("CARGO_FEATURE_").map(str::to_lowercase))
        .filter(|name| name != "default")
        .map(|name| name.replace('_', "-"))
        .collect();
    names.sort();
    if names.is_empty() { "none".to_owned() } else { names.join(" ") }
}

/// The commit that is checked out, shortened. The files that tell it are watched.
fn commit(root: &Path) -> Option<String> {
    let git = git_folder(root)?;
    let head = watched(&git.join("HEAD"))?;
    let full = match head.trim().strip_prefix("ref: ") {
        None => head,
        Some(branch) => branch_commit(&git, branch)?,
    };
    let full = full.trim();
    let is_commit = full.len() >= SHORT && full.bytes().all(|c| c.is_ascii_hexdigit());
    is_commit.then(|| full[..SHORT].to_owned())
}

/// `.git`, or the folder that a file of that name points to (a linked worktree, a submodule).
fn git_folder(root: &Path) -> Option<PathBuf> {
    let git = root.join(".git");
    if git.is_dir() {
        return Some(git);
    }
    let pointer = fs::read_to_string(git).ok()?;
    Some(root.join(pointer.strip_prefix("gitdir: ")?.trim()))
}

fn branch_commit(git: &Path, branch: &str) -> Option<String> {
    // A linked worktree keeps its branches in the main repository.
    let shared = match fs::read_to_string(git.join("commondir")) {
        Ok(path) => git.join(path.trim()),
        Err(_) => git.to_owned(),
    };
    if let Some(commit) = watched(&shared.join(branch)) {
        return Some(commit);
    }
    // A packed branch gets a file of its own with the next commit.
    println!("cargo::rerun-if-changed={}", shared.join("refs/heads").display());
    let packed = watched(&shared.join("packed-refs"))?;
    let line = packed.lines().find(|line| line.split(' ').nth(1) == Some(branch))?;
    line.split(' ').next().map(str::to_owned)
}

/// The text of a file that is there, from now on watched.
fn watched(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    println!("cargo::rerun-if-changed={}", path.display());
    Some(text)
}
