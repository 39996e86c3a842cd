//! The README, the pages of `docs/` and the comments of `configs/` say what the program does: their commands parse, and
//! the keys, formats, files and links that they name exist.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use base::error::describe;
use caption_train::cli;
use caption_train::config::{self, RunConfig};
use clap::error::ErrorKind;
use datasets::annotations::FORMATS;

use crate::support::{binary, files_below, shapes_folder, small_config, stderr, train};

/// The least that a config needs, for a block that shows only some sections.
const DATA: &str = "dataset = \"shapes\"";
const MODEL: &str = "encoder = { name = \"a/b\" }";
/// Programs of others that a block of commands may call.
const OTHERS: [&str; 6] = ["curl", "jq", "mpirun", "pip", "apt", "sbatch"];
/// Code that starts like this is a path in the repository.
const FOLDERS: [&str; 8] = ["src/", "crates/", "configs/", "docs/", "scripts/", "tests/", "benches/", "fuzz/"];

/// A Markdown file and what its code says.
struct Page {
    /// Below the root of the repository.
    path: PathBuf,
    text: String,
    /// Language and text of each block.
    blocks: Vec<(String, String)>,
    /// Code within a line, without its backticks.
    spans: Vec<String>,
}

impl Page {
    fn read(path: &str) -> Self {
        let text = fs::read_to_string(root().join(path)).unwrap();
        let (mut blocks, mut prose) = (Vec::new(), String::new());
        let mut is_block = false;
        for line in text.lines() {
            match (line.strip_prefix("```"), is_block) {
                (Some(language), false) => {
                    blocks.push((language.to_owned(), String::new()));
                    is_block = true;
                }
                (Some(_), true) => is_block = false,
                (None, true) => writeln!(blocks.last_mut().unwrap().1, "{line}").unwrap(),
                (None, false) => writeln!(prose, "{line}").unwrap(),
            }
        }
        assert!(!is_block, "{path}: a block does not end");
        let spans = prose.split('`').skip(1).step_by(2).map(|span| span.replace('\n', " ")).collect();
        Self { path: PathBuf::from(path), text, blocks, spans }
    }

    fn blocks_in(&self, language: &str) -> impl Iterator<Item = &str> {
        self.blocks.iter().filter(move |(own, _)| own == language).map(|(_, text)| text.as_str())
    }

    /// The code in the first column of the table that follows `heading`.
    #[track_caller]
    fn first_column(&self, heading: &str) -> BTreeSet<String> {
        let (_, rest) = self.text.split_once(heading).unwrap_or_else(|| panic!("no {heading:?}"));
        let rows = rest.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
        let cells = rows.skip(2).map(|row| row.split('|').nth(1).unwrap());
        cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The README and `docs/`.
fn pages() -> Vec<Page> {
    let mut names = vec!["README.md".to_owned()];
    for entry in fs::read_dir(root().join("docs")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".md") {
            names.push(format!("docs/{name}"));
        }
    }
    assert!(names.len() > 5, "docs/ was not found");
    names.sort();
    names.iter().map(|name| Page::read(name)).collect()
}

/// The words of a line, split as a shell does, up to a comment.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for character in line.chars() {
        match (quote, character) {
            (Some(open), close) if open == close => quote = None,
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, space) if space.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(character),
        }
    }
    assert!(quote.is_none(), "a quote does not end: {line}");
    words.extend(word);
    words
}

/// What is wrong with a line of a shell.
fn complaint(line: &str) -> Option<String> {
    let words = words(line);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        [] => None,
        ["caption-train", ref arguments @ ..] | ["cargo", "run", "--release", "--", ref arguments @ ..] => {
            complaint_of_ours(arguments)
        }
        ["cargo", "install", "--path", "."] | ["cargo", "build" | "test", "--release"] => None,
        ["cargo", "build", "--release", "--features", feature] => {
            let manifest: toml::Table = fs::read_to_string(root().join("Cargo.toml")).unwrap().parse().unwrap();
            let is_known = manifest["features"].as_table().unwrap().contains_key(feature);
            (!is_known).then(|| format!("no feature {feature}"))
        }
        [script, ..] if script.starts_with("scripts/") => {
            (!root().join(script).is_file()).then(|| format!("no script {script}"))
        }
        [other, ..] if OTHERS.contains(&other) => None,
        _ => Some("this test does not know the command".to_owned()),
    }
}

fn complaint_of_ours(arguments: &[&str]) -> Option<String> {
    if let Err(error) = cli::command().try_get_matches_from([&["caption-train"], arguments].concat())
        && error.kind() != ErrorKind::DisplayHelp
    {
        return Some(error.to_string());
    }
    let pairs = || arguments.windows(2).map(|pair| (pair[0], pair[1]));
    let overrides: Vec<String> =
        pairs().filter(|(flag, _)| *flag == "--set").map(|(_, text)| text.to_owned()).collect();
    let checked = match pairs().find(|(flag, path)| *flag == "--config" && path.starts_with("configs/")) {
        Some((_, path)) => config::load(&root().join(path), &overrides),
        None => config::parse(&format!("data.{DATA}\nmodel.{MODEL}"), "the least of configs", &overrides),
    };
    checked.err().map(|error| describe(&error))
}

/// Whether a run's config has this key, given as a path with dots.
fn is_key(path: &str) -> bool {
    // A list fits hardly any key; for a known one, serde then complains about its type.
    match toml::from_str::<RunConfig>(&format!("{path} = []")) {
        Ok(_) => true,
        Err(error) => !error.message().contains("unknown field"),
    }
}

/// What is wrong with code within a line that names a key, a section, an option or a command.
fn complaint_of_span(span: &str, sections: &BTreeSet<String>, options: &BTreeSet<String>) -> Option<String> {
    if let Some(rest) = span.strip_prefix("--") {
        let option = rest.split([' ', '=']).next().unwrap();
        return (!options.contains(option)).then(|| format!("no option --{option}"));
    }
    if let Some(rest) = span.strip_prefix("caption-train ") {
        let arguments: Vec<&str> = rest.split_whitespace().collect();
        let error = cli::command().try_get_matches_from([&["caption-train"], &arguments[..]].concat()).err()?;
        let is_mention = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::MissingRequiredArgument);
        return (!is_mention).then(|| error.to_string());
    }
    let (key, value) = span.split_once(" = ").map_or((span, None), |(key, value)| (key, Some(value)));
    let section = key.trim_matches(['[', ']']).split('.').next().unwrap();
    let is_dotted = key.contains('.') && key.chars().all(|c| c.is_ascii_lowercase() || "._*".contains(c));
    if !sections.contains(section) || !(is_dotted || key.starts_with('[')) || key.ends_with(".json") {
        return None;
    }
    if let Some(name) = key.strip_suffix(".*") {
        return toml::from_str::<RunConfig>(&format!("[{name}]")).err().map(|error| error.message().to_owned());
    }
    if value.is_some() || key.starts_with('[') {
        return toml::from_str::<RunConfig>(span).err().map(|error| error.message().to_owned());
    }
    (!is_key(key)).then(|| format!("no key {key}"))
}

#[test]
fn every_command_of_the_documentation_is_one_of_the_program() {
    let (mut complaints, mut count) = (String::new(), 0);
    let mut check = |path: &Path, line: &str| {
        count += 1;
        if let Some(complaint) = complaint(line) {
            writeln!(complaints, "{}: {line}\n  {complaint}", path.display()).unwrap();
        }
    };
    for page in pages() {
        for block in page.blocks_in("sh") {
            block.replace("\\\n", " ").lines().for_each(|line| check(&page.path, line));
        }
    }
    for path in files_below(&root().join("configs")) {
        let text = fs::read_to_string(&path).unwrap();
        // A comment that shows a command has it on a line of its own.
        let lines = text.lines().filter_map(|line| line.strip_prefix("#   "));
        let lines = lines.filter(|line| line.starts_with("caption-train ") || line.starts_with("cargo "));
        for line in lines {
            check(&path, &line.replace("[--set section.key=value ...]", "").replace("1|5", "5"));
        }
    }
    assert!(count > 30, "the commands were not found");
    assert!(complaints.is_empty(), "\n{complaints}");
}

#[test]
fn every_config_of_the_documentation_is_accepted() {
    let mut count = 0;
    for page in pages() {
        for block in page.blocks_in("toml") {
            let written: toml::Table = block.parse().unwrap();
            let sections = [("data", DATA), ("model", MODEL)];
            let missing = sections.into_iter().filter(|(name, _)| !written.contains_key(*name));
            let missing: String = missing.map(|(name, least)| format!("{name}.{least}\n")).collect();
            if let Err(error) = config::parse(&format!("{missing}{block}"), "the block", &[]) {
                panic!("{}: {}\n{block}", page.path.display(), describe(&error));
            }
            count += 1;
        }
    }
    assert!(count > 2, "the configs were not found");
}

#[test]
fn every_key_and_option_that_the_documentation_names_exists() {
    let defaults: toml::Table = config::to_toml(&RunConfig::default()).parse().unwrap();
    let sections: BTreeSet<String> =
        defaults.into_iter().filter(|(_, value)| value.is_table()).map(|(name, _)| name).collect();
    let command = cli::command();
    let all = command.get_arguments().chain(command.get_subcommands().flat_map(clap::Command::get_arguments));
    let mut options: BTreeSet<String> = all.filter_map(clap::Arg::get_long).map(str::to_owned).collect();
    options.extend(["help", "version"].map(str::to_owned));
    let (mut complaints, mut count) = (String::new(), 0);
    for page in pages() {
        for span in &page.spans {
            count += 1;
            if let Some(complaint) = complaint_of_span(span, &sections, &options) {
                writeln!(complaints, "{}: `{span}`: {complaint}", page.path.display()).unwrap();
            }
        }
    }
    assert!(count > 100, "the code within lines was not found");
    assert!(complaints.is_empty(), "\n{complaints}");
}

#[test]
fn every_caption_format_is_documented() {
    let named = Page::read("docs/formats.md").first_column("## Caption formats");
    let known: BTreeSet<String> = FORMATS.iter().map(|format| format.name.to_owned()).collect();
    assert_eq!(named, known);
}

#[test]
fn the_documented_files_of_a_data_set_are_those_that_a_preparation_writes() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    fs::create_dir(&source).unwrap();
    let mut pictures = files_below(&shapes_folder().join("images"));
    pictures.sort();
    for (number, picture) in pictures.iter().take(4).enumerate() {
        fs::copy(picture, source.join(format!("{number}.png"))).unwrap();
        fs::write(source.join(format!("{number}.txt")), format!("picture {number}")).unwrap();
    }
    let output = folder.path().join("output");
    let mut command = binary();
    let prepared = command.arg("prepare-data").arg("--source").arg(&source).arg("--output").arg(&output).output();
    let prepared = prepared.unwrap();
    assert!(prepared.status.success(), "{}", stderr(&prepared));
    let mut written: BTreeSet<String> = entries(&output).collect();
    // The lock remains.
    written.retain(|name| !name.starts_with('.'));
    assert_eq!(Page::read("docs/formats.md").first_column("## What it writes"), written);
}

#[test]
fn the_documented_files_of_a_run_are_those_that_it_writes() {
    let folder = tempfile::tempdir().unwrap();
    let config = small_config(folder.path()).replace("[schedule]", "save_interval = 20\n[schedule]")
        + "[checkpoint]\nkeep_last = 3\n[evaluation]\ncaption_split = \"test\"\n";
    let trained = train(folder.path(), &config, &[]);
    assert!(trained.status.success(), "{}", stderr(&trained));
    let run = folder.path().join("run");
    let checkpoints = entries(&run.join("checkpoints")).map(|name| match name.as_str() {
        name if name.starts_with("last_step_") => "checkpoints/last_step_N.safetensors".to_owned(),
        name if name.starts_with("checkpoint_") => "checkpoints/checkpoint_epoch_E_val_loss_V.safetensors".to_owned(),
        name => format!("checkpoints/{name}"),
    });
    let written: BTreeSet<String> = entries(&run).filter(|name| name != "checkpoints/").chain(checkpoints).collect();
    let page = Page::read("docs/runs.md");
    let mut documented = page.first_column("## Files");
    documented.retain(|name| cfg!(feature = "wandb") || !name.starts_with("wandb"));
    assert_eq!(documented, written);
    let tokenizer: BTreeSet<String> = entries(&run.join("tokenizer")).collect();
    let row = page.text.lines().find(|line| line.starts_with("| `tokenizer/`")).unwrap();
    assert_eq!(row.split('`').skip(3).step_by(2).map(str::to_owned).collect::<BTreeSet<_>>(), tokenizer);
}

/// The names in a folder; those of folders end in a slash.
fn entries(folder: &Path) -> impl Iterator<Item = String> + use<> {
    fs::read_dir(folder).unwrap().map(|entry| {
        let entry = entry.unwrap();
        let slash = if entry.path().is_dir() { "/" } else { "" };
        format!("{}{slash}", entry.file_name().into_string().unwrap())
    })
}

#[test]
fn every_file_that_the_documentation_names_exists() {
    let others = [
        "src/ARCHITECTURE.md",
        "configs/RESULTS.md",
        "benches/RESULTS.md",
        "tests/README.md",
        "tests/cuda_emulator/README.md",
    ];
    let (mut missing, mut count) = (Vec::new(), 0);
    for page in pages().into_iter().chain(others.map(Page::read)) {
        let folder = page.path.parent().unwrap();
        let links = page.text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap());
        let links = links.filter(|link| !link.contains("://")).map(|link| folder.join(link.split('#').next().unwrap()));
        // `NAME` is a placeholder.
        let is_path = |span: &&String| {
            FOLDERS.iter().any(|folder| span.starts_with(folder)) && !span.contains("NAME") && !span.contains(' ')
        };
        let spans = page.spans.iter().filter(is_path).map(PathBuf::from);
        for path in links.chain(spans) {
            count += 1;
            if !root().join(&path).exists() {
                missing.push(format!("{}: {}", page.path.display(), path.display()));
            }
        }
    }
    assert!(count > 15, "the links were not found");
    assert!(missing.is_empty(), "{missing:#?}");
}
