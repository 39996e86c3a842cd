//! Rules about the source that no compiler checks: rooms import downwards and never in a circle, and every fault in the
//! table of `tests/README.md` has its test. What no code may call stands in `clippy.toml`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// Each room of `src/` and what it may import beside itself: other rooms and crates of this workspace.
const MAY_IMPORT: [(&str, &[&str]); 10] = [
    ("model", &["base", "ops", "pixels"]),
    ("config", &["base", "model", "ops"]),
    ("tokenizer", &["base", "config"]),
    ("hf", &["base", "config", "model", "pixels", "tokenizer"]),
    ("data", &["base", "config", "datasets", "ops", "pixels", "records", "tokenizer"]),
    ("decoding", &["base", "config", "model", "ops"]),
    (
        "evaluation",
        &["base", "config", "data", "datasets", "decoding", "metrics", "model", "ops", "pixels", "tokenizer"],
    ),
    (
        "training",
        &["base", "config", "data", "decoding", "evaluation", "metrics", "model", "ops", "records", "tokenizer"],
    ),
    (
        "run",
        &[
            "base",
            "config",
            "data",
            "datasets",
            "decoding",
            "evaluation",
            "hf",
            "metrics",
            "model",
            "ops",
            "pixels",
            "processes",
            "records",
            "report",
            "tensorboard",
            "tokenizer",
            "training",
            "wandb",
        ],
    ),
    (
        "commands",
        &[
            "base",
            "config",
            "data",
            "datasets",
            "decoding",
            "evaluation",
            "hub",
            "metrics",
            "ops",
            "pixels",
            "processes",
            "report",
            "run",
            "serve",
            "tokenizer",
            "training",
        ],
    ),
];

/// Modules that stand on top of all rooms.
const ON_TOP: [&str; 3] = ["cli", "lib", "main"];

/// What a room must not name, and why.
const BANS: [(&str, &[&str], &str); 3] = [
    ("candle_core", &["config"], "config is data: no tensors"),
    ("clap", &["config"], "config is data: no command line"),
    ("std::env", &["config", "model", "data", "training"], "what happens follows from the config and the plan"),
];

/// A path in the code, such as `crate::model::captioner` in `use crate::model::captioner::Captioner`.
#[derive(Debug)]
struct Reference {
    segments: Vec<String>,
    line: usize,
    /// It stands in a `pub use`, which passes a name on.
    is_reexport: bool,
}

/// A file of a crate: the path of its module below the crate's root, and what it names.
struct Module {
    path: Vec<String>,
    file: PathBuf,
    references: Vec<Reference>,
}

/// A crate: its modules by their paths.
struct Crate {
    modules: BTreeMap<Vec<String>, Module>,
}

impl Crate {
    fn read(root: &Path, folder: &Path) -> Self {
        let mut files = Vec::new();
        collect(root, folder, &mut files);
        let modules = files.into_iter().filter(|file| !is_for_tests(file)).map(|file| {
            let text = std::fs::read_to_string(root.join(&file)).unwrap();
            Module::parse(module_path(file.strip_prefix(folder).unwrap()), file, &text)
        });
        Self { modules: modules.map(|module| (module.path.clone(), module)).collect() }
    }

    /// The module that a reference leads to, through names that modules pass on; `None` outside of this crate.
    fn target(&self, from: &[String], reference: &Reference) -> Option<&Vec<String>> {
        let mut path = absolute(from, &reference.segments, |path| self.modules.contains_key(path))?;
        // A name is passed on a few times at most.
        for _ in 0..8 {
            let length = (0..=path.len()).rev().find(|&length| self.modules.contains_key(&path[..length]))?;
            let module = &self.modules[&path[..length]];
            let Some(name) = path.get(length) else { return Some(&module.path) };
            let passed_on = module
                .references
                .iter()
                .find(|passed| passed.is_reexport && passed.segments.last() == Some(name) && passed.segments.len() > 1);
            match passed_on
                .and_then(|passed| absolute(&module.path, &passed.segments, |path| self.modules.contains_key(path)))
            {
                Some(next) if next != path => path = next,
                _ => return Some(&module.path),
            }
        }
        None
    }

    /// Circles among what lies in one room: its own file (`.`) and its children with all that is in them.
    fn circles(&self) -> Vec<String> {
        // Room, from, to: where an import of that kind stands.
        let mut rooms: BTreeMap<&[String], BTreeMap<(&str, &str), String>> = BTreeMap::new();
        for module in self.modules.values() {
            for reference in &module.references {
                let Some(target) = self.target(&module.path, reference) else { continue };
                if *target == module.path || reference.is_reexport && target.starts_with(&module.path) {
                    continue;
                }
                let shared = module.path.iter().zip(target).take_while(|(a, b)| a == b).count();
                let (from, to) = (name_at(&module.path, shared), name_at(target, shared));
                let place = format!("{}:{}", module.file.display(), reference.line);
                let edges = rooms.entry(&module.path[..shared]).or_default();
                edges.entry((from, to)).or_insert(place);
            }
        }
        let mut found = Vec::new();
        for (room, edges) in &rooms {
            for circle in circles(edges) {
                found.push(format!(
                    "in {}: {circle}",
                    if room.is_empty() { "the root".into() } else { room.join("::") }
                ));
            }
        }
        found
    }
}

/// The child of a room that a path leads through; `.` for the room's own file.
fn name_at(path: &[String], depth: usize) -> &str {
    path.get(depth).map_or(".", String::as_str)
}

/// The shortest circles of a graph whose edges have a place each; one that holds a shorter one is left out.
fn circles(edges: &BTreeMap<(&str, &str), String>) -> Vec<String> {
    let way = |start: &str, goal: &str| -> Option<Vec<String>> {
        let mut paths = VecDeque::from([vec![start.to_owned()]]);
        let mut seen = BTreeSet::from([start.to_owned()]);
        while let Some(path) = paths.pop_front() {
            let last = path.last()?.clone();
            if last == goal {
                return Some(path);
            }
            for (_, to) in edges.keys().filter(|(from, _)| *from == last) {
                if seen.insert((*to).to_owned()) {
                    paths.push_back([path.clone(), vec![(*to).to_owned()]].concat());
                }
            }
        }
        None
    };
    let mut ways: Vec<(Vec<String>, &str)> =
        edges.iter().filter_map(|((from, to), place)| Some((way(to, from)?, place.as_str()))).collect();
    ways.sort_by_key(|(way, _)| way.len());
    let mut told: Vec<BTreeSet<String>> = Vec::new();
    let mut found = Vec::new();
    for (way, place) in ways {
        let members: BTreeSet<String> = way.iter().cloned().collect();
        if !told.iter().any(|shorter| shorter.is_subset(&members)) {
            let last = way.last().map_or("", String::as_str);
            found.push(format!("{last} -> {} ({place}; back at {})", way.join(" -> "), edges[&(&*way[0], &*way[1])]));
            told.push(members);
        }
    }
    found
}

impl Module {
    fn parse(path: Vec<String>, file: PathBuf, text: &str) -> Self {
        let tokens: TokenStream = text.parse().unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let mut references = Vec::new();
        scan(tokens, &mut references);
        Self { path, file, references }
    }
}

/// `a/b/mod.rs` and `a/b.rs` are `[a, b]`; `lib.rs` is the root.
fn module_path(file: &Path) -> Vec<String> {
    let mut parts: Vec<String> = file.with_extension("").iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    if parts.last().is_some_and(|last| last == "mod") || parts == ["lib"] {
        parts.pop();
    }
    parts
}

/// Where a path leads, from the crate's root on; `None` for one that leads to another crate.
fn absolute(from: &[String], segments: &[String], is_module: impl Fn(&[String]) -> bool) -> Option<Vec<String>> {
    let mut at = from.to_vec();
    let mut rest = segments;
    match rest.first()?.as_str() {
        "crate" => (at, rest) = (Vec::new(), &rest[1..]),
        "self" => rest = &rest[1..],
        "super" => {
            while rest.first().is_some_and(|segment| segment == "super") {
                at.pop()?;
                rest = &rest[1..];
            }
        }
        child => {
            let inside = [from, &[child.to_owned()]].concat();
            if !is_module(&inside) {
                return None;
            }
        }
    }
    at.extend_from_slice(rest);
    Some(at)
}

/// All paths with two segments or more in the code, items for tests left out.
fn scan(tokens: TokenStream, found: &mut Vec<Reference>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut at = 0;
    let mut is_public = false;
    while at < tokens.len() {
        match &tokens[at] {
            TokenTree::Punct(punct) if punct.as_char() == '#' && is_test_attribute(tokens.get(at + 1)) => {
                at = end_of_item(&tokens, at + 2);
                continue;
            }
            TokenTree::Group(group) if !is_restriction(&tokens, at) => scan(group.stream(), found),
            TokenTree::Ident(name) if *name == "pub" => is_public = true,
            TokenTree::Ident(name) if *name == "use" => {
                let end = (at..tokens.len()).find(|&end| is_punct(&tokens[end], ';')).unwrap_or(tokens.len());
                paths(&tokens[at + 1..end], &[], is_public, found);
                (at, is_public) = (end, false);
            }
            TokenTree::Ident(_) if is_path(&tokens, at) && !follows_path(&tokens, at) => {
                let mut end = at + 1;
                while is_separator(&tokens, end) && matches!(tokens.get(end + 2), Some(TokenTree::Ident(_))) {
                    end += 3;
                }
                paths(&tokens[at..end], &[], false, found);
                at = end;
                continue;
            }
            TokenTree::Punct(punct) if punct.as_char() == ';' => is_public = false,
            TokenTree::Ident(name) if *name != "crate" && *name != "unsafe" => is_public = false,
            _ => {}
        }
        at += 1;
    }
}

/// The paths of a `use` tree or of a plain path.
fn paths(tokens: &[TokenTree], prefix: &[String], is_reexport: bool, found: &mut Vec<Reference>) {
    for tree in tokens.split(|token| is_punct(token, ',')) {
        let mut segments = prefix.to_vec();
        let mut line = 0;
        for (at, token) in tree.iter().enumerate() {
            match token {
                TokenTree::Ident(name) if *name == "as" => break,
                // `{self, ..}` names what stands before it.
                TokenTree::Ident(name) if *name == "self" && !segments.is_empty() => {}
                TokenTree::Ident(name) => {
                    segments.push(name.to_string());
                    line = name.span().start().line;
                }
                TokenTree::Group(group) if at + 1 == tree.len() => {
                    let inside: Vec<TokenTree> = group.stream().into_iter().collect();
                    paths(&inside, &segments, is_reexport, found);
                    segments.clear();
                }
                _ => {}
            }
        }
        if segments.len() > 1 {
            found.push(Reference { segments, line, is_reexport });
        }
    }
}

fn is_punct(token: &TokenTree, sign: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == sign)
}

/// `::` at this place.
fn is_separator(tokens: &[TokenTree], at: usize) -> bool {
    tokens.get(at).is_some_and(|token| is_punct(token, ':'))
        && tokens.get(at + 1).is_some_and(|token| is_punct(token, ':'))
}

/// A name with `::` and another name behind it.
fn is_path(tokens: &[TokenTree], at: usize) -> bool {
    is_separator(tokens, at + 1) && matches!(tokens.get(at + 3), Some(TokenTree::Ident(_)))
}

fn follows_path(tokens: &[TokenTree], at: usize) -> bool {
    at >= 2 && is_separator(tokens, at - 2)
}

/// `(crate)` of `pub(crate)`, `(in crate::x)`.
fn is_restriction(tokens: &[TokenTree], at: usize) -> bool {
    at > 0
        && matches!(&tokens[at - 1], TokenTree::Ident(name) if *name == "pub")
        && matches!(&tokens[at], TokenTree::Group(group) if group.delimiter() == Delimiter::Parenthesis)
}

/// `[cfg(test)]`, also with further conditions.
fn is_test_attribute(token: Option<&TokenTree>) -> bool {
    let Some(TokenTree::Group(group)) = token else { return false };
    let text = group.stream().to_string().replace(' ', "");
    text == "cfg(test)" || text.starts_with("cfg(all(test,")
}

/// Behind the item that begins at `at`, its further attributes included.
fn end_of_item(tokens: &[TokenTree], at: usize) -> usize {
    let is_end = |token: &TokenTree| {
        is_punct(token, ';') || matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace)
    };
    // `use a::{b, c};` has braces before its end.
    let is_use = matches!(tokens.get(at), Some(TokenTree::Ident(name)) if *name == "use");
    (at..tokens.len())
        .find(|&end| if is_use { is_punct(&tokens[end], ';') } else { is_end(&tokens[end]) })
        .map_or(tokens.len(), |end| end + 1)
}

/// A file that its parent declares for tests only.
fn is_for_tests(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default();
    name == "tests.rs" || name == "testing.rs" || name == "main.rs" && file.starts_with("src")
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = std::fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap()).collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = folder.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            collect(root, &path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The crates of the workspace below `crates/`.
fn crate_names(root: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(root.join("crates"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

/// What rooms of `src/` import or name against the tables above.
fn imports_up(source: &Crate, crates: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for module in source.modules.values() {
        let Some(room) = module.path.first().filter(|room| !ON_TOP.contains(&room.as_str())) else { continue };
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| name == room) else {
            found.push(format!("{}: the room {room} has no layer; give it one in MAY_IMPORT", module.file.display()));
            continue;
        };
        for reference in &module.references {
            let first = &reference.segments[0];
            let imported = match source.target(&module.path, reference) {
                Some(target) => target.first(),
                None => crates.iter().find(|name| *name == first),
            };
            let place = format!("{}:{}", module.file.display(), reference.line);
            if let Some(imported) =
                imported.filter(|imported| *imported != room && !allowed.contains(&imported.as_str()))
            {
                found.push(format!("{place}: {room} must not import {imported}"));
            }
            for (banned, rooms, reason) in BANS {
                let path = reference.segments.join("::");
                let is_named = path == banned || path.starts_with(&format!("{banned}::"));
                if is_named && rooms.contains(&room.as_str()) {
                    found.push(format!("{place}: {banned}: {reason}"));
                }
            }
        }
    }
    found
}

fn assert_none(found: &[String]) {
    let mut text = String::new();
    for line in found {
        writeln!(text, "{line}").unwrap();
    }
    assert!(found.is_empty(), "\n{text}");
}

#[test]
fn rooms_import_downwards() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let source = Crate::read(root, Path::new("src"));
    assert!(source.modules.len() > 20, "the source was not found");
    assert_none(&imports_up(&source, &crate_names(root)));
}

#[test]
fn nothing_imports_in_a_circle() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = crate_names(root).into_iter().map(|name| Path::new("crates").join(name).join("src"));
    let mut found = Vec::new();
    for folder in folders.chain([PathBuf::from("src")]) {
        let of_crate = Crate::read(root, &folder).circles();
        found.extend(of_crate.into_iter().map(|circle| format!("{}: {circle}", folder.display())));
    }
    assert_none(&found);
}

#[test]
fn every_file_begins_with_what_it_does() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "crates", "tests/integration"] {
        collect(root, Path::new(folder), &mut files);
    }
    let is_bare = |file: &&PathBuf| {
        let text = std::fs::read_to_string(root.join(file)).unwrap();
        !text.starts_with("//!") && !text.starts_with("#![doc")
    };
    let bare: Vec<String> = files.iter().filter(is_bare).map(|file| file.display().to_string()).collect();
    assert_none(&bare);
}

#[test]
fn every_fault_in_the_table_has_its_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = std::fs::read_to_string(root.join("tests/README.md")).unwrap();
    let mut files = Vec::new();
    for folder in ["src", "crates", "tests/integration"] {
        collect(root, Path::new(folder), &mut files);
    }
    let files: Vec<(String, String)> = files
        .into_iter()
        .map(|file| (format!("/{}", file.display()), std::fs::read_to_string(root.join(&file)).unwrap()))
        .collect();
    let (mut num_found, mut missing) = (0, Vec::new());
    // The last table is about fuzzing.
    let (table, _) = table.split_once("## Fuzzing").unwrap();
    for line in table.lines().filter(|line| line.starts_with("| ") && !line.ends_with("| test |")) {
        let cell = line.trim_end_matches(['|', ' ']).rsplit(" | ").next().unwrap();
        let named: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
        let is_there = |name: &&str| match name.split_once("::") {
            Some((file, test)) => {
                let function = format!("fn {test}()");
                let ends = [format!("/{file}.rs"), format!("/{file}/mod.rs"), format!("/{file}/src/lib.rs")];
                files.iter().any(|(path, text)| ends.iter().any(|end| path.ends_with(end)) && text.contains(&function))
            }
            None => root.join(name).is_file(),
        };
        if named.is_empty() {
            missing.push(line.to_owned());
        }
        num_found += named.len();
        missing.extend(named.into_iter().filter(|name| !is_there(name)).map(str::to_owned));
    }
    assert!(num_found > 50, "the table was not found");
    assert!(missing.is_empty(), "no such test: {missing:#?}");
}

/// A crate of these files.
fn made_of(files: &[(&str, &str)]) -> Crate {
    let modules = files.iter().map(|(file, text)| {
        let file = PathBuf::from(file);
        Module::parse(module_path(&file), Path::new("src").join(&file), text)
    });
    Crate { modules: modules.map(|module| (module.path.clone(), module)).collect() }
}

#[test]
fn an_import_up_or_aside_is_found() {
    let crates = ["base", "hub", "ops"].map(str::to_owned);
    let rooms = [("training/mod.rs", ""), ("training/plan.rs", ""), ("tokenizer.rs", ""), ("evaluation.rs", "")];
    for (file, code, expected) in [
        ("config/paths.rs", "use crate::training::plan::RunPlan;", "config must not import training"),
        ("model/vit.rs", "use crate::{tokenizer::Ids, training::{plan, x}};", "model must not import tokenizer"),
        ("model/vit.rs", "fn f() { super::super::tokenizer::f() }", "model must not import tokenizer"),
        (
            "decoding/greedy.rs",
            "fn f<'a>(x: &'a str) { g(vec![crate::evaluation::h(x)]) }",
            "must not import evaluation",
        ),
        ("run/export.rs", "use hub::models;", "run must not import hub"),
        ("utils/mod.rs", "", "the room utils has no layer"),
        ("config/load.rs", "use candle_core::Tensor;", "no tensors"),
        ("data/loader.rs", "fn f() { std::env::var(\"X\") }", "what happens follows"),
    ] {
        let room = format!("{}/mod.rs", file.split('/').next().unwrap());
        let mut files = vec![(file, code), (room.as_str(), "")];
        files.extend(rooms);
        files.dedup_by_key(|(file, _)| *file);
        let found = imports_up(&made_of(&files), &crates);
        assert!(found.first().is_some_and(|found| found.contains(expected)), "{code}: {found:?}");
    }
}

#[test]
fn imports_down_and_what_stands_in_tests_comments_and_strings_are_fine() {
    let code = "use base::{digest, random};\nuse ops::linear;\n// as crate::training does\n\
                const X: &str = \"crate::training\";\n#[cfg(test)]\nmod tests { use crate::training::plan; }\n\
                #[cfg(test)]\nuse crate::training::{plan, x};\npub(in crate::training) fn f() {}";
    let files = [("model/vit.rs", code), ("model/mod.rs", ""), ("training/mod.rs", ""), ("config.rs", "")];
    assert_none(&imports_up(&made_of(&files), &["base".to_owned()]));
}

#[test]
fn a_circle_is_found_at_every_depth() {
    let sister = made_of(&[("lib.rs", ""), ("a.rs", "use crate::b::X;"), ("b.rs", "use super::a::Y;")]);
    assert_eq!(sister.circles(), ["in the root: a -> b -> a (src/a.rs:1; back at src/b.rs:1)"]);
    let rooms = made_of(&[
        ("lib.rs", ""),
        ("a/mod.rs", "mod c; mod d;"),
        ("a/c.rs", "fn f() { crate::b::g() }"),
        ("a/d.rs", ""),
        ("b.rs", "use crate::a::d::Y;"),
    ]);
    assert_eq!(rooms.circles().len(), 1);
    let parent = made_of(&[("lib.rs", ""), ("a/mod.rs", "mod c; fn f() { c::g() }"), ("a/c.rs", "use super::f;")]);
    assert_eq!(parent.circles(), ["in a: . -> c -> . (src/a/mod.rs:1; back at src/a/c.rs:1)"]);
}

#[test]
fn names_that_are_passed_on_lead_to_where_they_come_from() {
    let through = made_of(&[
        ("lib.rs", ""),
        ("a/mod.rs", "pub mod c; mod d; pub use d::Y;"),
        ("a/c.rs", "use crate::a::Y;"),
        ("a/d.rs", "use super::c::Z;"),
    ]);
    assert_eq!(through.circles().len(), 1, "c takes Y of d, and d takes Z of c");
    let down = made_of(&[
        ("lib.rs", "pub mod a;"),
        ("a/mod.rs", "pub mod c; mod d; pub use d::Y;"),
        ("a/c.rs", "use crate::a::Y;"),
        ("a/d.rs", ""),
    ]);
    assert_none(&down.circles());
}
