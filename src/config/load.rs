//! From TOML text and `--set` overrides to a [`RunConfig`]; every error names its place and a hint.
//!
//! The file and the overrides become one table with unique spans: an override is parsed after as many spaces as there
//! is text before it, so that each offset identifies one place. Only [`load`] reads the file system, and nothing reads
//! the environment. Messages quote the user's text safely for a terminal.

use std::ops::Range;
use std::path::Path;

use serde::Deserialize as _;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::RunConfig;
use super::source_text::read_text;
use super::validate::{self, ConfigError};
use crate::model::encoders::EncoderConfig;
use base::error::usage_error;
use base::visible;

/// All keys with their meanings and defaults; tests keep it equal to the structs.
const REFERENCE: &str = include_str!("../../configs/reference.toml");

/// What a resumed run may change: keys, and sections ending in a dot.
const SAFE_ON_RESUME: [&str; 19] = [
    "name",
    "output_dir",
    "data.workers",
    "data.directory",
    "data.shards",
    "data.cache_directory",
    "training.num_epochs",
    "training.validation_interval",
    "training.log_interval",
    "training.save_interval",
    "training.patience",
    "training.device",
    "training.recompute",
    "training.scst.validate_every",
    "evaluation.",
    "decoding.",
    "checkpoint.",
    "tracking.",
    "hub.",
];

/// Reads the config file at `path`, applies the overrides (`section.key=value`) in order and checks the result. All
/// errors are usage errors.
pub fn load(path: &Path, overrides: &[String]) -> anyhow::Result<RunConfig> {
    parse(&read_text(path)?, &path.display().to_string(), overrides)
}

/// Reads a config from `text`, which came from `origin` (named in errors), applies the overrides and checks the result.
///
/// The value of an override is read as TOML, or as a plain string if that fails: `training.batch_size=32`,
/// `training.device=cuda:0`, `optimizer.betas=[0.9, 0.98]`.
///
/// # Errors
/// A usage error for invalid TOML, an unknown key, a wrong type and a value outside its documented range.
pub fn parse(text: &str, origin: &str, overrides: &[String]) -> anyhow::Result<RunConfig> {
    let (config, document) = read(text, origin, overrides)?;
    validate::check(&config).map_err(|ConfigError { key, problem, hint }| {
        mistake(&format!("{key} {problem}{}", document.place_of(key)), &hint)
    })?;
    Ok(config)
}

/// Checks the values of a config that [`parse`] has not read, such as that of a checkpoint.
pub fn check(config: &RunConfig) -> anyhow::Result<()> {
    Ok(validate::check(config)?)
}

/// The config as TOML text without absent keys. [`parse`] of the text gives the same config.
pub fn to_toml(config: &RunConfig) -> String {
    toml::to_string(config).expect("a checked config holds only what TOML can say")
}

/// Applies overrides to the config of a checkpoint from which a run resumes.
///
/// # Errors
/// A usage error for everything that [`parse`] refuses, and for a key that a resumed run cannot change.
pub fn apply_safe_overrides(config: &RunConfig, overrides: &[String]) -> anyhow::Result<RunConfig> {
    let resumed = parse(&to_toml(config), "the config in the checkpoint", overrides)?;
    for text in overrides {
        let (key, _) = split_override(text)?;
        if !is_safe_on_resume(key) {
            let list: Vec<String> = SAFE_ON_RESUME
                .iter()
                .map(|allowed| if allowed.ends_with('.') { format!("{allowed}*") } else { (*allowed).to_owned() })
                .collect();
            return Err(usage_error(
                format!("{key} cannot change when a run resumes from a checkpoint"),
                format!("only these can: {}; for anything else, start a new run", list.join(", ")),
            ));
        }
    }
    Ok(resumed)
}

/// Whether a resumed run may change this dotted key.
pub(super) fn is_safe_on_resume(key: &str) -> bool {
    let safe = |allowed: &&str| key == *allowed || (allowed.ends_with('.') && key.starts_with(*allowed));
    SAFE_ON_RESUME.iter().any(safe)
}

/// The text value of `key` in the last override of it, before anything is checked.
pub fn overridden_text(overrides: &[String], key: &str) -> anyhow::Result<Option<String>> {
    let mut found = None;
    for text in overrides {
        let line = override_line(text)?;
        // Invalid TOML is refused with its place when the config is read.
        let Ok(table) = toml::from_str::<toml::Value>(&line) else { continue };
        let value = key.split('.').try_fold(&table, |table, part| table.get(part));
        found = value.and_then(toml::Value::as_str).map(str::to_owned).or(found);
    }
    Ok(found)
}

/// A usage error that quotes the user's text.
fn mistake(message: &str, hint: &str) -> anyhow::Error {
    usage_error(visible::line(message), visible::line(hint))
}

/// The config without checks of its values, and the origin of each key.
fn read<'a>(text: &'a str, origin: &'a str, overrides: &'a [String]) -> anyhow::Result<(RunConfig, Document<'a>)> {
    let mut document = Document { origin, text, overrides, starts: Vec::new(), entries: Vec::new() };
    let mut table = DeTable::parse(text).map_err(|error| document.syntax_error(&error))?;
    let mut padded = Vec::new();
    let mut start = text.len() + 1;
    for text in overrides {
        let line = override_line(text)?;
        document.starts.push(start);
        padded.push(format!("{}{line}", " ".repeat(start)));
        start += line.len() + 1;
    }
    for line in &padded {
        let parsed = DeTable::parse(line).map_err(|error| document.syntax_error(&error))?;
        merge(table.get_mut(), parsed.into_inner());
    }
    collect_entries(table.get_ref(), "", &mut document.entries);
    check_encoder_fields(table.get_ref()).map_err(|error| document.refuse(&error))?;
    let mut config =
        RunConfig::deserialize(toml::Deserializer::from(table)).map_err(|error| document.refuse(&error))?;
    config.written = document.entries.iter().map(|entry| entry.path.clone()).collect();
    Ok((config, document))
}

/// Checks `model.encoder.config` as its family does. [`EncoderConfig`] buffers the table to find the family in it,
/// which loses the place of each key; here a mistake still has its place.
fn check_encoder_fields(config: &DeTable<'_>) -> Result<(), toml::de::Error> {
    let found = ["model", "encoder", "config"].iter().try_fold(None, |found: Option<&Spanned<DeValue<'_>>>, key| {
        let table = found.map_or(Some(config), |value| value.get_ref().as_table())?;
        table.get(*key).map(Some)
    });
    let Some((mut table, span)) =
        found.flatten().and_then(|value| Some((value.get_ref().as_table()?.clone(), value.span())))
    else {
        return Ok(());
    };
    let Some(kind) = table.remove("kind") else { return Ok(()) };
    let Some(kind) = kind.get_ref().as_str() else { return Ok(()) };
    if !EncoderConfig::KINDS.contains(&kind) {
        return Ok(());
    }
    EncoderConfig::of_kind(kind, ValueDeserializer::from(Spanned::new(span, DeValue::Table(table)))).map(drop)
}

/// Splits `section.key=value`; the key is dotted and bare.
fn split_override(text: &str) -> anyhow::Result<(&str, &str)> {
    let hint = "write --set section.key=value, for example --set training.batch_size=32";
    let (key, value) = text.split_once('=').ok_or_else(|| mistake(&format!("--set {text} has no ="), hint))?;
    let (key, value) = (key.trim(), value.trim());
    let bare = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if !key.split('.').all(bare) {
        return Err(mistake(&format!("--set {text} does not start with a key"), hint));
    }
    Ok((key, value))
}

fn override_line(text: &str) -> anyhow::Result<String> {
    let (key, value) = split_override(text)?;
    let line = format!("{key} = {value}");
    // A value with a line break could add a second key; one that begins with a quote is meant as TOML.
    let is_toml = !value.contains('\n') && (value.starts_with(['"', '\'']) || DeTable::parse(&line).is_ok());
    Ok(if is_toml { line } else { format!("{key} = {}", toml::Value::from(value)) })
}

/// Merges `from` into `into`, table by table.
fn merge<'i>(into: &mut DeTable<'i>, from: DeTable<'i>) {
    for (key, value) in from {
        match (into.get_mut(&key).map(Spanned::get_mut), value.get_ref()) {
            (Some(DeValue::Table(old)), DeValue::Table(_)) => {
                if let DeValue::Table(new) = value.into_inner() {
                    merge(old, new);
                }
            }
            _ => {
                // Also replaces the key, which holds the old place.
                into.remove(&key);
                into.insert(key, value);
            }
        }
    }
}

/// The spans of a key and its value.
struct Entry {
    path: String,
    key: Range<usize>,
    value: Range<usize>,
}

fn collect_entries(table: &DeTable<'_>, prefix: &str, entries: &mut Vec<Entry>) {
    for (key, value) in table {
        let path = if prefix.is_empty() { key.get_ref().to_string() } else { format!("{prefix}.{}", key.get_ref()) };
        if let DeValue::Table(inner) = value.get_ref() {
            collect_entries(inner, &path, entries);
        }
        entries.push(Entry { path, key: key.span(), value: value.span() });
    }
}

/// The text of the file, the overrides, and where each key is.
struct Document<'a> {
    origin: &'a str,
    text: &'a str,
    overrides: &'a [String],
    /// Offset of each override.
    starts: Vec<usize>,
    entries: Vec<Entry>,
}

impl Document<'_> {
    /// ` in FILE, line N` or ` in --set KEY=VALUE`.
    fn place(&self, offset: usize) -> String {
        let later = self.starts.iter().filter(|&&start| start <= offset).count();
        if later > 0 {
            return format!(" in --set {}", self.overrides[later - 1]);
        }
        let before = &self.text.as_bytes()[..offset.min(self.text.len())];
        let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
        format!(" in {}, line {line}", self.origin)
    }

    /// The line of the file, or the override, at an offset.
    fn line_at(&self, offset: usize) -> String {
        let later = self.starts.iter().filter(|&&start| start <= offset).count();
        if later > 0 {
            return self.overrides[later - 1].clone();
        }
        let offset = offset.min(self.text.len());
        let from = self.text.as_bytes()[..offset].iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        self.text.get(from..).and_then(|text| text.lines().next()).unwrap_or_default().to_owned()
    }

    /// The place of a key, or the file if the key is absent.
    fn place_of(&self, path: &str) -> String {
        match self.entries.iter().find(|entry| entry.path == path) {
            Some(entry) => self.place(entry.key.start),
            None => format!(" in {}", self.origin),
        }
    }

    /// The dotted key that an error at `span` is about.
    fn key_at(&self, span: &Range<usize>) -> Option<&str> {
        let by_key = self.entries.iter().find(|entry| entry.key == *span);
        let inside = |entry: &&Entry| entry.value.start <= span.start && span.end <= entry.value.end;
        let by_value = || self.entries.iter().filter(inside).min_by_key(|entry| entry.value.len());
        by_key.or_else(by_value).map(|entry| entry.path.as_str())
    }

    fn syntax_error(&self, error: &toml::de::Error) -> anyhow::Error {
        let place = error.span().map_or_else(|| format!(" in {}", self.origin), |span| self.place(span.start));
        let line = error.span().map_or_else(String::new, |span| self.line_at(span.start));
        let has_escape = line.split('"').skip(1).step_by(2).any(|quoted| quoted.contains('\\'));
        let hint = if has_escape {
            "a backslash in \"...\" starts an escape: write a Windows path in single quotes, such as 'C:\\data\\new', or \
             with forward slashes"
        } else {
            "a line is `key = value`, a string is in \"quotes\", a section is `[name]`"
        };
        mistake(&format!("invalid TOML{place}: {}", error.message()), hint)
    }

    /// Serde's error in words for the user.
    fn refuse(&self, error: &toml::de::Error) -> anyhow::Error {
        let span = error.span();
        let place = span.as_ref().map_or_else(|| format!(" in {}", self.origin), |span| self.place(span.start));
        let key = span.as_ref().and_then(|span| self.key_at(span));
        let message = error.message();
        // serde quotes first what it found, then all known names.
        let mut quoted = message.split('`').skip(1).step_by(2);
        let found = quoted.next().unwrap_or_default();
        let known: Vec<&str> = quoted.collect();
        if message.starts_with("unknown field") {
            return mistake(&format!("unknown key {}{place}", key.unwrap_or(found)), &key_hint(found, &known));
        }
        let key = key.unwrap_or("a value");
        if message.starts_with("unknown variant") {
            let hint = nearest(found, &known).map_or_else(
                || format!("choose one of: {}", known.join(", ")),
                |near| format!("did you mean `{near}`? Choices: {}", known.join(", ")),
            );
            return mistake(&format!("{key} has the unknown value `{found}`{place}"), &hint);
        }
        if message.starts_with("missing field") {
            return mistake(
                &format!("{key} is missing the key {found}{place}"),
                "see configs/reference.toml for all keys",
            );
        }
        mistake(
            &format!("{key} is invalid{place}: {}", plain_types(message)),
            "see configs/reference.toml for all keys",
        )
    }
}

/// The hint for the unknown key `found` among the keys `known`.
fn key_hint(found: &str, known: &[&str]) -> String {
    let sections: Vec<String> = known_paths()
        .iter()
        .filter_map(|path| path.rsplit_once('.').filter(|(_, key)| *key == found))
        .map(|(section, _)| format!("[{section}]"))
        .collect();
    if !sections.is_empty() {
        return format!("`{found}` belongs to {}", sections.join(" or "));
    }
    match nearest(found, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known keys here: {}; configs/reference.toml explains each", known.join(", ")),
    }
}

/// All dotted keys with a value, in alphabetical order.
fn known_paths() -> Vec<String> {
    let text = with_optional_keys(REFERENCE);
    let table = DeTable::parse(&text).expect("the reference is valid TOML, as a test shows");
    let mut entries = Vec::new();
    collect_entries(table.get_ref(), "", &mut entries);
    let is_section = |path: &str| entries.iter().any(|entry| entry.path.starts_with(&format!("{path}.")));
    entries.iter().filter(|entry| !is_section(&entry.path)).map(|entry| entry.path.clone()).collect()
}

/// The reference with its commented lines `# key = example` uncommented.
fn with_optional_keys(reference: &str) -> String {
    let mut text = String::with_capacity(reference.len());
    for line in reference.lines() {
        let key = |rest: &&str| {
            rest.split_once(" = ")
                .is_some_and(|(key, _)| key.chars().all(|c| c.is_ascii_lowercase() || "._".contains(c)))
        };
        text.push_str(line.strip_prefix("# ").filter(key).unwrap_or(line));
        text.push('\n');
    }
    text
}

/// serde's names of types in words.
fn plain_types(message: &str) -> String {
    let words = [
        ("expected usize", "expected a whole number, 0 or more"),
        ("expected u64", "expected a whole number, 0 or more"),
        ("expected f64", "expected a number"),
        ("expected a boolean", "expected true or false"),
        ("expected path string", "expected a path in quotes"),
        ("expected a string", "expected text in quotes"),
        ("invalid type: ", "found the "),
        ("invalid value: ", "found the "),
        ("invalid length ", "found the length "),
    ];
    words.iter().fold(message.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// The known name most like `found`, if one is like it.
fn nearest<'a>(found: &str, known: &[&'a str]) -> Option<&'a str> {
    let distances = known.iter().map(|name| (strsim::levenshtein(found, name), *name));
    distances.min().filter(|&(distance, name)| distance <= 1 + name.len().min(found.len()) / 4).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::config::{
        AugmentationConfig, BatchBy, EncoderTraining, LoraConfig, SaveInterval, ScstConfig, Targets, WandbMode,
    };
    use base::error::{describe, is_usage_error};

    /// The least that a run needs.
    const SMALLEST: &str = "[data]\ndataset = \"shapes\"\n[model.encoder]\nname = \"vit\"\n";

    fn refusal(text: &str, overrides: &[&str]) -> String {
        let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
        let error = parse(text, "run.toml", &overrides).unwrap_err();
        assert!(is_usage_error(&error), "{error:?}");
        describe(&error)
    }

    fn with(overrides: &[&str]) -> anyhow::Result<RunConfig> {
        let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
        parse(SMALLEST, "run.toml", &overrides)
    }

    /// Every key has a value: each `Option` is `Some`.
    fn full() -> RunConfig {
        let mut config = RunConfig { name: Some("n".to_owned()), ..RunConfig::default() };
        config.data.dataset = Some("flickr8k".to_owned());
        config.data.directory = Some(PathBuf::from("d"));
        config.data.source = Some(PathBuf::from("s"));
        config.data.workers = Some(2);
        config.data.cache_directory = Some(PathBuf::from("c"));
        config.data.augmentation = Some(AugmentationConfig::default());
        config.tokenizer.directory = Some(PathBuf::from("t"));
        config.model.init_from = Some("m".to_owned());
        config.model.lora =
            Some(LoraConfig { targets: Some(Targets::Ends(vec!["query".to_owned()])), ..LoraConfig::default() });
        config.model.revision = Some("r".to_owned());
        config.model.encoder.revision = Some("r".to_owned());
        config.model.decoder.revision = Some("r".to_owned());
        config.model.decoder.name = Some("d".to_owned());
        config.model.encoder.name = Some("e".to_owned());
        config.model.encoder.image_size = Some(32);
        let encoder = serde_json::json!({ "kind": "vit", "image_size": 32, "patch_size": 8, "hidden_size": 16,
            "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "initializer_range": 0.05 });
        config.model.encoder.config = Some(serde_json::from_value(encoder).unwrap());
        config.training.max_grad_norm = Some(1.0);
        config.training.save_interval = Some(SaveInterval::Updates(7));
        config.data.prompt = Some("a picture of".to_owned());
        config.training.batch_by = Some(BatchBy::Pair);
        config.training.parts = Some(2);
        config.training.patience = Some(3);
        config.training.resume_from = Some(PathBuf::from("r"));
        config.training.scst = Some(ScstConfig { checkpoint: PathBuf::from("s"), ..ScstConfig::default() });
        config.optimizer.encoder_learning_rate = Some(1e-5);
        config.evaluation.caption_split = Some("val".to_owned());
        config.evaluation.metrics_interval = Some(1);
        config.evaluation.meteor_resources = Some("meteor".into());
        config.decoding.max_new_tokens = Some(32);
        config.tracking.wandb.mode = Some(WandbMode::Offline);
        config.tracking.wandb.project = Some("p".to_owned());
        config.tracking.wandb.entity = Some("e".to_owned());
        config.tracking.wandb.name = Some("n".to_owned());
        config.hub.repo = Some("owner/name".to_owned());
        config
    }

    fn paths_of(text: &str) -> Vec<String> {
        let table = DeTable::parse(text).unwrap();
        let mut entries = Vec::new();
        collect_entries(table.get_ref(), "", &mut entries);
        let mut paths: Vec<String> = entries.into_iter().map(|entry| entry.path).collect();
        paths.sort();
        paths
    }

    #[test]
    fn the_reference_as_it_stands_is_the_default() {
        let (config, _) = read(REFERENCE, "reference.toml", &[]).unwrap();
        assert_eq!(config, RunConfig::default());
    }

    #[test]
    fn the_reference_with_its_optional_keys_has_every_key_and_no_other() {
        let text = with_optional_keys(REFERENCE);
        read(&text, "reference.toml", &[]).unwrap();
        assert_eq!(paths_of(&text), paths_of(&to_toml(&full())));
        // `full` is full: no key of the Rust structs is left out of it as `None`.
        assert!(!format!("{:?}", full()).contains("None"));
    }

    #[test]
    fn the_reference_has_the_keys_in_the_order_of_the_structs() {
        let debug = format!("{:?}", full());
        let mut from = 0;
        for line in with_optional_keys(REFERENCE).lines().filter(|line| !line.starts_with(['#', '['])) {
            // The family is a variant, not a field.
            if let Some((key, _)) = line.split_once(" = ").filter(|(key, _)| *key != "config.kind") {
                let name = format!("{}: ", key.rsplit('.').next().unwrap());
                let at = debug[from..].find(&name).unwrap_or_else(|| panic!("{key} is out of order"));
                from += at + name.len();
            }
        }
    }

    #[test]
    fn toml_text_gives_back_the_same_config() {
        let mut config = full();
        config.optimizer.eps = 1.234_567_890_123_456_7e-9;
        config.seed = i64::MAX as u64;
        config.training.save_interval = Some(SaveInterval::Minutes(1));
        for train in [EncoderTraining::Frozen, EncoderTraining::Full, EncoderTraining::LastBlocks(3)] {
            config.model.encoder.train = train;
            let (again, _) = read(&to_toml(&config), "text", &[]).unwrap();
            assert_eq!(again, config);
        }
    }

    #[test]
    fn an_unknown_key_names_file_line_key_and_the_nearest_known_key() {
        insta::assert_snapshot!(refusal("seed = 1\n\n[training]\nbatch_siz = 3\n", &[]), @r"
        unknown key training.batch_siz in run.toml, line 4
          hint: did you mean `batch_size`?
        ");
        insta::assert_snapshot!(refusal("[training]\nlearning_rate = 3\n", &[]), @r"
        unknown key training.learning_rate in run.toml, line 2
          hint: `learning_rate` belongs to [optimizer]
        ");
        insta::assert_snapshot!(refusal("model.encoder.max_grad_norm = 3\n", &[]), @r"
        unknown key model.encoder.max_grad_norm in run.toml, line 1
          hint: `max_grad_norm` belongs to [training]
        ");
        insta::assert_snapshot!(refusal("[schedule]\nzebra = 3\n", &[]), @r"
        unknown key schedule.zebra in run.toml, line 2
          hint: known keys here: kind, warmup_steps; configs/reference.toml explains each
        ");
        insta::assert_snapshot!(refusal("[trainin]\nx = 3\n", &[]), @r"
        unknown key trainin in run.toml, line 1
          hint: did you mean `training`?
        ");
    }

    #[test]
    fn an_unknown_key_inside_an_inline_table_is_named_in_full() {
        let text = "[model.encoder]\nconfig = { kind = \"vit\", patchsize = 3 }\n";
        insta::assert_snapshot!(refusal(text, &[]), @r"
        unknown key model.encoder.config.patchsize in run.toml, line 2
          hint: did you mean `patch_size`?
        ");
    }

    #[test]
    fn a_missing_key_is_named_with_its_table() {
        for text in ["[model.encoder]\nconfig = { kind = \"vit\" }\n", "[model.encoder]\nconfig.kind = \"vit\"\n"] {
            insta::allow_duplicates! {
                insta::assert_snapshot!(refusal(text, &[]), @r"
                model.encoder.config is missing the key image_size in run.toml, line 2
                  hint: see configs/reference.toml for all keys
                ");
            }
        }
    }

    #[test]
    fn a_wrong_type_or_choice_is_named_with_its_place() {
        insta::assert_snapshot!(refusal("[training]\nbatch_size = \"big\"\n", &[]), @r#"
        training.batch_size is invalid in run.toml, line 2: found the string "big", expected a whole number, 0 or more
          hint: see configs/reference.toml for all keys
        "#);
        insta::assert_snapshot!(refusal("[training]\nbatch_size = -1\n", &[]), @r"
        training.batch_size is invalid in run.toml, line 2: found the integer `-1`, expected a whole number, 0 or more
          hint: see configs/reference.toml for all keys
        ");
        insta::assert_snapshot!(refusal("[optimizer]\nbetas = [0.9]\n", &[]), @r"
        optimizer.betas is invalid in run.toml, line 2: found the length 1, expected an array of length 2
          hint: see configs/reference.toml for all keys
        ");
        insta::assert_snapshot!(refusal("[schedule]\nkind = \"liner\"\n", &[]), @r"
        schedule.kind has the unknown value `liner` in run.toml, line 2
          hint: did you mean `linear`? Choices: linear, cosine, constant
        ");
        insta::assert_snapshot!(refusal("[model.encoder]\ntrain = \"none\"\n", &[]), @r"
        model.encoder.train has the unknown value `none` in run.toml, line 2
          hint: choose one of: frozen, full, last_blocks
        ");
    }

    #[test]
    fn invalid_toml_names_the_line() {
        insta::assert_snapshot!(refusal("seed = 1\nname = flickr\n", &[]), @r#"
        invalid TOML in run.toml, line 2: invalid boolean, expected `false`
          hint: a line is `key = value`, a string is in "quotes", a section is `[name]`
        "#);
    }

    #[test]
    fn a_path_of_windows_in_double_quotes_says_what_to_write() {
        for directory in [r#""C:\data\new""#, r#""C:\Users\ann""#, r#""C:\xampp""#, r#""D:\""#, r#""..\data""#] {
            let line = format!("directory = {directory}");
            for (text, overrides) in
                [(format!("[data]\n{line}\n"), vec![]), (SMALLEST.to_owned(), vec![format!("data.{line}")])]
            {
                let overrides: Vec<&str> = overrides.iter().map(String::as_str).collect();
                let text = refusal(&text, &overrides);
                assert!(text.starts_with("invalid TOML in ") && text.contains("write a Windows path in"), "{text}");
            }
        }
        // TOML finds nothing wrong with these.
        for directory in [r#""C:\new""#, r#""C:\table\frogs""#, r#""\\server\new""#, r#"".\new""#] {
            let text = refusal(&format!("[data]\ndirectory = {directory}\n"), &[]);
            assert!(
                text.starts_with("data.directory contains a line break, a tab or another control character: "),
                "{text}"
            );
            assert!(text.contains("in run.toml, line 2") && text.contains("write a Windows path in"), "{text}");
        }
        for override_ in
            [r"data.directory=C:\data\new", r"data.directory='C:\data\new'", r#"data.directory="C:\\data""#]
        {
            with(&[override_]).unwrap();
        }
    }

    #[test]
    fn what_a_terminal_would_act_on_is_escaped_in_messages() {
        let reversed = format!("{SMALLEST}[evaluation]\ncaption_split = \"\\u202Etset\"\n");
        for (text, overrides) in [
            ("\"see\\u001b[31m\\nerror: d\" = 1\n", vec![]),
            ("[data]\nsplit = \"fi\\u001b[2Jle\\r\"\n", vec![]),
            (&reversed, vec![]),
            ("name = \u{1b}[31m\n", vec![]),
            (SMALLEST, vec!["seed=\u{1b}]0;title\u{7}"]),
            (SMALLEST, vec!["\u{1b}[31m"]),
            (SMALLEST, vec!["se\u{202e}ed=1"]),
        ] {
            let text = refusal(text, &overrides);
            let is_hidden = |character: char| character != '\n' && visible::is_hidden(character);
            assert!(!text.contains(is_hidden), "{text:?}");
            assert_eq!(text.lines().count(), 2, "a message and its hint: {text}");
        }
    }

    #[test]
    fn the_text_that_overrides_give_a_key_is_that_of_the_last() {
        let found = |overrides: &[&str]| {
            let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
            overridden_text(&overrides, "data.directory").unwrap()
        };
        assert_eq!(found(&["data.directory=a", "data.directory = \"b c\"", "seed=1"]).as_deref(), Some("b c"));
        assert_eq!(found(&["data={ directory = 'x' }"]).as_deref(), Some("x"));
        assert_eq!(found(&["seed=1", "data.workers=2"]), None);
    }

    #[test]
    fn a_missing_file_is_a_usage_error() {
        let error = load(Path::new("no/such/file.toml"), &[]).unwrap_err();
        assert!(is_usage_error(&error));
        assert!(describe(&error).starts_with("cannot read the config file no/such/file.toml: "));
    }

    #[test]
    fn overrides_come_after_the_file_and_the_last_one_wins() {
        let config = with(&[
            "training.batch_size=3",
            "training.batch_size = 5",
            "training.device=cuda:0",
            "model.encoder.train={ last_blocks = 2 }",
            "optimizer.betas=[0.8, 0.9]",
            "optimizer.weight_decay=0",
            "data.dataset=flickr8k",
            "name=\"quoted\"",
        ])
        .unwrap();
        assert_eq!(config.training.batch_size, 5);
        assert_eq!(config.training.device, "cuda:0");
        assert_eq!(config.model.encoder.train, EncoderTraining::LastBlocks(2));
        assert_eq!(config.optimizer.betas, [0.8, 0.9]);
        assert_eq!(config.data.dataset.as_deref(), Some("flickr8k"));
        assert_eq!(config.name.as_deref(), Some("quoted"));
    }

    #[test]
    fn mistakes_in_overrides_name_the_override() {
        insta::assert_snapshot!(refusal(SMALLEST, &["seed=1", "training.batch_siz=3"]), @r"
        unknown key training.batch_siz in --set training.batch_siz=3
          hint: did you mean `batch_size`?
        ");
        insta::assert_snapshot!(refusal(SMALLEST, &["training.batch_size=many"]), @r#"
        training.batch_size is invalid in --set training.batch_size=many: found the string "many", expected a whole number, 0 or more
          hint: see configs/reference.toml for all keys
        "#);
        insta::assert_snapshot!(refusal(SMALLEST, &["training.batch_size=0", "seed=4"]), @r"
        training.batch_size must be 1 to 65536, found 0 in --set training.batch_size=0
          hint: see its description in configs/reference.toml
        ");
        insta::assert_snapshot!(refusal(SMALLEST, &["training.batch_size"]), @r"
        --set training.batch_size has no =
          hint: write --set section.key=value, for example --set training.batch_size=32
        ");
        insta::assert_snapshot!(refusal(SMALLEST, &["[training]=1"]), @r"
        --set [training]=1 does not start with a key
          hint: write --set section.key=value, for example --set training.batch_size=32
        ");
    }

    #[test]
    fn a_line_break_in_an_override_brings_in_no_second_key() {
        let config = with(&["name=a\nseed = 9"]);
        assert_eq!(config.unwrap().seed, 0);
    }

    #[test]
    fn values_out_of_range_name_the_place_in_the_file() {
        let text = format!("{SMALLEST}[model.decoder]\nnum_heads = 7\n");
        insta::assert_snapshot!(refusal(&text, &[]), @r"
        model.decoder.hidden_size must be a multiple of model.decoder.num_heads = 7, found 512 in run.toml
          hint: 511 and 518 are
        ");
        let text = format!("{SMALLEST}[model.decoder]\ndropout = 1\n");
        insta::assert_snapshot!(refusal(&text, &[]), @r"
        model.decoder.dropout must be 0 or more and below 1, found 1 in run.toml, line 6
          hint: see its default in configs/reference.toml
        ");
    }

    #[test]
    fn a_resumed_run_may_change_what_does_not_make_it_another_run() {
        let config = with(&[]).unwrap();
        let overrides = ["training.num_epochs=20", "checkpoint.keep_best=3", "evaluation.caption_split=test", "name=b"];
        let resumed = apply_safe_overrides(&config, &overrides.map(str::to_owned)).unwrap();
        assert_eq!((resumed.training.num_epochs, resumed.checkpoint.keep_best), (20, 3));
        assert_eq!(resumed.evaluation.caption_split.as_deref(), Some("test"));
        assert_eq!(apply_safe_overrides(&config, &[]).unwrap(), config);
    }

    #[test]
    fn a_resumed_run_may_change_nothing_else() {
        let config = with(&[]).unwrap();
        let refused = |text: &str| {
            let error = apply_safe_overrides(&config, &[text.to_owned()]).unwrap_err();
            assert!(is_usage_error(&error));
            describe(&error)
        };
        insta::assert_snapshot!(refused("optimizer.learning_rate=1"), @r"
        optimizer.learning_rate cannot change when a run resumes from a checkpoint
          hint: only these can: name, output_dir, data.workers, data.directory, data.shards, data.cache_directory, training.num_epochs, training.validation_interval, training.log_interval, training.save_interval, training.patience, training.device, training.recompute, training.scst.validate_every, evaluation.*, decoding.*, checkpoint.*, tracking.*, hub.*; for anything else, start a new run
        ");
        assert!(refused("training={ batch_size = 3 }").starts_with("training cannot change"));
        assert!(refused("training.num_epoch=3").contains("did you mean `num_epochs`?"));
        assert!(refused("training.num_epochs=0").contains("must be 1 to"));
    }
}
