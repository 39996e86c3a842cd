//! Rules about the source that no compiler checks: imports point down, one module prints, one module names final
//! files, nothing calls what cuts gradients or draws unseeded random numbers. `src/ARCHITECTURE.md` gives the reasons.

use std::fmt::Write as _;
use std::path::Path;

/// Each module and what it may import besides itself. `cli`, `lib` and `main` stand on top and may import all.
const MAY_IMPORT: [(&str, &[&str]); 14] = [
    ("base", &[]),
    ("config", &["base"]),
    ("ops", &["base"]),
    ("metrics", &["base"]),
    ("hub", &["base"]),
    ("serve", &["base"]),
    ("tokenizer", &["base", "config"]),
    ("model", &["base", "config", "ops"]),
    ("data", &["base", "config", "ops", "tokenizer"]),
    ("decoding", &["base", "config", "ops", "tokenizer", "model", "data"]),
    ("evaluation", &["base", "config", "ops", "tokenizer", "metrics", "model", "data", "decoding"]),
    ("training", &["base", "config", "ops", "tokenizer", "metrics", "model", "data", "decoding", "evaluation"]),
    ("run", &["base", "config", "ops", "tokenizer", "metrics", "model", "data", "decoding", "evaluation", "training"]),
    (
        "commands",
        &[
            "base",
            "config",
            "ops",
            "tokenizer",
            "metrics",
            "hub",
            "serve",
            "model",
            "data",
            "decoding",
            "evaluation",
            "training",
            "run",
        ],
    ),
];
const ON_TOP: [&str; 3] = ["cli", "lib", "main"];

/// Lines of a file without its tests, at most.
const MOST_LINES: usize = 450;

/// Text that must not stand in the code (tests aside), where, where it may, and why.
struct Ban {
    text: &'static str,
    /// Prefixes of paths; `src/` is everywhere.
    within: &'static [&'static str],
    except: &'static [&'static str],
    reason: &'static str,
}

const EVERYWHERE: &[&str] = &["src/"];
const PRINTS: &str = "only base::terminal prints";
const NAMES_FILES: &str = "a final file name appears only through base::atomic_file";
const PANICS: &str = "it panics where the system gives no thread; use base::threads";
const UNBOUNDED: &str = "a file may be a pipe or endless; it is read through base::bounded_file";
/// What the system tells of itself, the output of a program of ours, a member that was bounded, and the person's token,
/// which may come through a pipe.
const WITHOUT_BOUNDS: &[&str] =
    &["src/base/memory.rs", "src/base/system_usage.rs", "src/metrics/meteor/resources.rs", "src/hub/settings.rs"];
const UNSEEDED: &str = "candle's random numbers cannot be seeded on a CPU; use base::random";
const CUTS: &str = "it cuts the gradient without an error; use crate::ops";
const DATA_ONLY: &str = "config is data: no tensors, no command line, no environment";
const DECIDED: &str = "what happens follows from the config and the plan, not from the environment";

const fn ban(
    text: &'static str,
    within: &'static [&'static str],
    except: &'static [&'static str],
    reason: &'static str,
) -> Ban {
    Ban { text, within, except, reason }
}

const BANS: [Ban; 27] = [
    ban("println!", EVERYWHERE, &[], PRINTS),
    ban("eprintln!", EVERYWHERE, &[], PRINTS),
    ban("print!", EVERYWHERE, &[], PRINTS),
    ban("eprint!", EVERYWHERE, &[], PRINTS),
    ban("dbg!", EVERYWHERE, &[], PRINTS),
    ban("stdout()", EVERYWHERE, &["src/base/terminal.rs"], PRINTS),
    ban("stderr()", EVERYWHERE, &["src/base/terminal.rs"], PRINTS),
    ban("fs::rename", EVERYWHERE, &["src/base/atomic_file.rs"], NAMES_FILES),
    ban("fs::write", EVERYWHERE, &["src/base/atomic_file.rs"], NAMES_FILES),
    ban("fs::copy", EVERYWHERE, &["src/base/atomic_file.rs"], NAMES_FILES),
    ban("File::create", EVERYWHERE, &["src/base/atomic_file.rs"], NAMES_FILES),
    ban(".truncate(true)", EVERYWHERE, &["src/base/atomic_file.rs"], NAMES_FILES),
    ban("thread::spawn", EVERYWHERE, &["src/run/tracking/wandb/recorder.rs"], PANICS),
    ban("fs::read(", EVERYWHERE, &["src/base/bounded_file.rs"], UNBOUNDED),
    ban("read_to_string(", EVERYWHERE, WITHOUT_BOUNDS, UNBOUNDED),
    ban("File::open", EVERYWHERE, &["src/base/bounded_file.rs", "src/base/atomic_file.rs"], UNBOUNDED),
    ban("Tensor::rand", EVERYWHERE, &[], UNSEEDED),
    ban("rand_like", EVERYWHERE, &[], UNSEEDED),
    ban("randn_like", EVERYWHERE, &[], UNSEEDED),
    ban("Var::rand", EVERYWHERE, &[], UNSEEDED),
    ban("softmax_last_dim", EVERYWHERE, &[], CUTS),
    ban("candle_nn::ops::layer_norm", EVERYWHERE, &[], CUTS),
    ban("candle_nn::LayerNorm", EVERYWHERE, &[], CUTS),
    ban("candle_transformers", EVERYWHERE, &[], CUTS),
    ban("candle", &["src/config/"], &[], DATA_ONLY),
    ban("clap", &["src/config/"], &[], DATA_ONLY),
    ban("std::env", &["src/config/", "src/model/", "src/data/", "src/training/"], &[], DECIDED),
];

#[test]
fn the_source_keeps_its_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "tests/integration"] {
        collect(root, Path::new(folder), &mut files);
    }
    assert!(files.len() > 20, "the source was not found");
    let mut found = String::new();
    for (path, text) in &files {
        for violation in violations(path, text) {
            writeln!(found, "{violation}").unwrap();
        }
    }
    assert!(found.is_empty(), "\n{found}");
}

#[test]
fn every_fault_in_the_table_has_its_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = std::fs::read_to_string(root.join("tests/README.md")).unwrap();
    let mut files = Vec::new();
    for folder in ["src", "tests/integration"] {
        collect(root, Path::new(folder), &mut files);
    }
    let (mut num_found, mut missing) = (0, Vec::new());
    // The last table tells of fuzzing.
    let (table, _) = table.split_once("## Fuzzing").unwrap();
    for line in table.lines().filter(|line| line.starts_with("| ") && !line.ends_with("| test |")) {
        let cell = line.trim_end_matches(['|', ' ']).rsplit(" | ").next().unwrap();
        let named: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
        let is_there = |name: &&str| match name.split_once("::") {
            Some((file, test)) => {
                let (stem, function) = (format!("/{file}.rs"), format!("fn {test}()"));
                files.iter().any(|(path, text)| path.ends_with(&stem) && text.contains(&function))
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

fn collect(root: &Path, folder: &Path, files: &mut Vec<(String, String)>) {
    let mut entries: Vec<_> = std::fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap()).collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = folder.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            collect(root, &path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.to_str().unwrap().replace('\\', "/");
            files.push((name, std::fs::read_to_string(entry.path()).unwrap()));
        }
    }
}

/// What is wrong with one file, each as `path:line: what`.
fn violations(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    if !text.starts_with("//!") && !text.starts_with("#![doc") {
        found.push(format!("{path}:1: a file begins with //! and what it does"));
    }
    if !path.starts_with("src/") {
        return found;
    }
    let code = code_of(text);
    found.extend(imports_up(path, &code));
    if is_test_file(path) {
        return found;
    }
    let shipped = without_tests(&code);
    let lines = shipped.lines().count();
    if lines > MOST_LINES {
        found.push(format!("{path}:{lines}: at most {MOST_LINES} lines without tests; divide it by concept"));
    }
    for ban in &BANS {
        let concerned = ban.within.iter().any(|prefix| path.starts_with(prefix)) && !ban.except.contains(&path);
        for at in
            shipped.match_indices(ban.text).map(|(at, _)| at).filter(|&at| concerned && begins_a_word(shipped, at))
        {
            found.push(format!("{path}:{}: {}: {}", line_of(shipped, at), ban.text, ban.reason));
        }
    }
    found
}

/// A file that its parent declares for tests alone.
fn is_test_file(path: &str) -> bool {
    path.ends_with("/testing.rs") || path.ends_with("/tests.rs") || path.contains("/tests/")
}

fn imports_up(path: &str, code: &str) -> Vec<String> {
    let inside: Vec<&str> = path.trim_start_matches("src/").trim_end_matches(".rs").split('/').collect();
    let module = inside[0];
    if ON_TOP.contains(&module) {
        return Vec::new();
    }
    let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == module) else {
        return vec![format!("{path}:1: the module {module} has no layer; give it one in MAY_IMPORT")];
    };
    let is_module = |name: &str| ON_TOP.contains(&name) || MAY_IMPORT.iter().any(|(known, _)| *known == name);
    let depth = inside.iter().filter(|part| **part != "mod").count();
    let mut found = Vec::new();
    for (at, name) in references(code, depth) {
        if name != module && is_module(&name) && !allowed.contains(&name.as_str()) {
            found.push(format!("{path}:{}: {module} must not import {name}", line_of(code, at)));
        }
    }
    found
}

/// The first names behind every `crate::`, and behind every chain of `super::` that leads to the crate's root from a
/// module `depth` names deep; each with its offset.
fn references(code: &str, depth: usize) -> Vec<(usize, String)> {
    let root = "super::".repeat(depth);
    let mut found = Vec::new();
    for prefix in ["crate::", root.as_str()] {
        for (at, _) in code.match_indices(prefix).filter(|(at, _)| begins_a_word(code, *at)) {
            let rest = &code[at + prefix.len()..];
            // A longer chain is found from its own beginning.
            if !rest.starts_with("super::") && !code[..at].ends_with("super::") {
                found.extend(first_names(rest).into_iter().map(|name| (at, name)));
            }
        }
    }
    found
}

/// `a::b` gives `a`; `{a::{b, c}, d}` gives `a` and `d`.
fn first_names(path: &str) -> Vec<String> {
    let Some(group) = path.strip_prefix('{') else {
        return vec![identifier(path)];
    };
    let mut names = vec![identifier(group)];
    let mut depth = 0;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(identifier(&group[at + 1..])),
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

fn identifier(text: &str) -> String {
    text.trim_start().chars().take_while(|&c| is_word(c)).collect()
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn begins_a_word(code: &str, at: usize) -> bool {
    let starts_with_word = code[at..].starts_with(is_word);
    !starts_with_word || !code[..at].ends_with(is_word)
}

fn line_of(text: &str, at: usize) -> usize {
    1 + text[..at].matches('\n').count()
}

/// The code in front of the test module that closes a file, whoever else may see it.
fn without_tests(code: &str) -> &str {
    let modules = ["mod tests {", "pub(super) mod tests {", "pub(super) mod testing {"];
    let places = modules.iter().filter_map(|module| code.find(&format!("#[cfg(test)]\n{module}")));
    places.min().map_or(code, |at| &code[..at])
}

/// The text with comments and the content of strings and characters made blank; lines stay where they are.
fn code_of(text: &str) -> String {
    let bytes: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            '/' if bytes.get(at + 1) == Some(&'/') => end_of_line(&bytes, at),
            '/' if bytes.get(at + 1) == Some(&'*') => end_of_block_comment(&bytes, at),
            '"' => end_of_quoted(&bytes, at, '"'),
            '\'' if is_character(&bytes, at) => end_of_quoted(&bytes, at, '\''),
            'r' if !code.ends_with(is_word) || code.ends_with('b') => end_of_raw_string(&bytes, at).unwrap_or(at),
            _ => at,
        };
        if end == at {
            code.push(bytes[at]);
            at += 1;
        } else {
            code.extend(bytes[at..end].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    code
}

fn end_of_line(text: &[char], at: usize) -> usize {
    text[at..].iter().position(|&c| c == '\n').map_or(text.len(), |length| at + length)
}

fn end_of_block_comment(text: &[char], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while at < text.len() {
        match text[at..] {
            ['/', '*', ..] => (at, depth) = (at + 2, depth + 1),
            ['*', '/', ..] => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

fn end_of_quoted(text: &[char], start: usize, quote: char) -> usize {
    let mut at = start + 1;
    while at < text.len() && text[at] != quote {
        at += if text[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(text.len())
}

/// `'a'` and `'\n'`, not the lifetime `'a`.
fn is_character(text: &[char], at: usize) -> bool {
    text.get(at + 1) == Some(&'\\') || text.get(at + 2) == Some(&'\'')
}

/// The end of `r"..."` or `r#"..."#` at `start`, if it is one.
fn end_of_raw_string(text: &[char], start: usize) -> Option<usize> {
    let hashes = text[start + 1..].iter().take_while(|&&c| c == '#').count();
    let content = start + 1 + hashes;
    if text.get(content) != Some(&'"') {
        return None;
    }
    let is_end = |&at: &usize| text[at] == '"' && text[at + 1..].iter().take_while(|&&c| c == '#').count() >= hashes;
    Some((content + 1..text.len()).find(is_end).map_or(text.len(), |at| at + 1 + hashes))
}

/// What is wrong with `code` in a file of that path which otherwise keeps every rule.
fn found_in(path: &str, code: &str) -> Vec<String> {
    violations(path, &format!("//! Does something.\n{code}\n"))
}

#[test]
fn imports_down_are_fine() {
    for (path, code) in [
        (
            "src/data/loader.rs",
            "use crate::base::random;\nuse crate::{config::RunConfig, tokenizer::{self, SpecialIds}};",
        ),
        ("src/data/prepare/mod.rs", "use super::dataset;\nuse crate::data::split;\npub(crate) fn f() {}"),
        ("src/evaluation/captions.rs", "use crate::decoding::decode;"),
        ("src/model/encoder.rs", "// as crate::training does\nconst X: &str = \"crate::training\"; /* crate::run */"),
        ("src/config/load.rs", "use super::model::X;"),
        ("src/cli.rs", "use crate::commands::train;"),
    ] {
        assert_eq!(found_in(path, code), Vec::<String>::new());
    }
}

#[test]
fn imports_up_or_aside_are_found() {
    for (path, code, name) in [
        ("src/base/random.rs", "use crate::config::RunConfig;", "config"),
        ("src/metrics/bleu.rs", "use crate::tokenizer::CaptionTokenizer;", "tokenizer"),
        ("src/model/encoder.rs", "use crate::{base::random, training::{plan, events}};", "training"),
        ("src/model/encoder.rs", "use crate::tokenizer::SpecialIds;", "tokenizer"),
        ("src/data/mod.rs", "use super::model;", "model"),
        ("src/data/prepare/mod.rs", "fn f() { super::super::hub::encoder_folder(\"x\") }", "hub"),
        ("src/data/prepare/source.rs", "use super::super::super::run;", "run"),
        ("src/decoding/greedy.rs", "fn f<'a>(x: &'a str) { crate::evaluation::g(x, 'c') }", "evaluation"),
        ("src/run/export.rs", "use crate::hub;", "hub"),
        ("src/commands/train.rs", "use crate::cli::Cli;", "cli"),
    ] {
        let found = found_in(path, code);
        let end = format!("must not import {name}");
        assert!(found.len() == 1 && found[0].ends_with(&end), "{path}: {found:?}");
        assert!(found[0].starts_with(&format!("{path}:2: ")), "{found:?}");
    }
}

#[test]
fn a_module_without_a_layer_is_found() {
    assert!(found_in("src/utils/mod.rs", "")[0].contains("has no layer"));
}

#[test]
fn banned_code_is_found_outside_of_tests_and_strings() {
    let path = "src/model/encoder.rs";
    for code in [
        "fn f() { println!(\"x\") }",
        "fn f() { io::stderr().lock(); }",
        "fn f() { std::fs::write(path, bytes) }",
        "fn f() { File::create(path) }",
        "fn f() { std::thread::spawn(g) }",
        "fn f() { Tensor::randn(0f32, 1f32, 3, &Device::Cpu) }",
        "fn f() { x.rand_like(0.0, 1.0) }",
        "use candle_nn::ops::softmax_last_dim;",
        "fn f() { candle_nn::ops::layer_norm(&x, &w, &b, 1e-5) }",
    ] {
        assert_eq!(found_in(path, code).len(), 1, "{code}");
        assert_eq!(found_in(path, &format!("#[cfg(test)]\nmod tests {{\n{code}\n}}")).len(), 0, "{code}");
        assert_eq!(found_in(path, &format!("const X: &str = r#\"{code}\"#;")).len(), 0, "{code}");
        assert_eq!(found_in(path, &format!("/// {code}")).len(), 0, "{code}");
    }
    assert_eq!(found_in("src/config/load.rs", "use candle_core::Tensor;").len(), 1);
    assert_eq!(found_in("src/config/load.rs", "use clap::Parser;").len(), 1);
    assert_eq!(found_in("src/base/atomic_file.rs", "fn f() { fs::rename(a, b) }").len(), 0);
    assert_eq!(found_in("src/run/tracking/jsonl.rs", "fn f() { OpenOptions::new().append(true) }").len(), 0);
}

#[test]
fn a_file_without_a_header_or_with_too_many_lines_is_found() {
    assert_eq!(violations("src/ops/gelu.rs", "use std::fs;\n").len(), 1);
    assert_eq!(violations("tests/integration/x.rs", "use std::fs;\n").len(), 1);
    let lines = "const X: u8 = 0;\n".repeat(MOST_LINES);
    assert_eq!(found_in("src/ops/gelu.rs", &lines).len(), 1);
    assert_eq!(found_in("src/ops/gelu.rs", &format!("#[cfg(test)]\nmod tests {{\n{lines}}}")).len(), 0);
}

#[test]
fn code_keeps_lines_lifetimes_and_what_follows_a_string() {
    let text = "a(\"x \\\" y\", 'z', '\\'', b'q', br#\"\n\"#); // c\n/* /* n */ d */ f::<'a>(r\"\\\"); for r in r {}";
    assert_eq!(code_of(text).replace(' ', ""), "a(,,,b,b\n);\nf::<'a>();forrinr{}");
}
