//! Checks of the parts around the model of a `tokenizer.json`: only those that a kind of tokenizer lists, each with the
//! parameters that it knows. Anything else could multiply a text without end, or take what the `tokenizers` crate does
//! not expect.

use anyhow::Context as _;
use regex_automata::util::syntax;
use serde_json::{Map, Value};

use super::kind::{KNOWN_KINDS, PartKind};
use base::error::failure;
use base::visible::quoted;

/// The part that represents each byte.
pub(super) const BYTE_LEVEL: &str = "ByteLevel";
/// Parts of a kind, those within sequences included.
const MAX_PARTS: usize = 16;
/// Characters of a regular expression.
const MAX_PATTERN: usize = 1000;
/// What the repetitions of a regular expression, such as `{1,3}`, make of it at most: each is written out as often.
const MAX_REPETITIONS: usize = 100;

impl PartKind {
    /// Makes sure that a part of this kind, with those in it, is one of the list.
    ///
    /// # Errors
    /// Another type or parameter, too many parts, a part that makes a text longer.
    pub(super) fn check(&self, part: &Value) -> anyhow::Result<()> {
        let mut seen = Vec::new();
        if !part.is_null() {
            self.walk(part, &mut seen)?;
        }
        // Each turns a byte into a character of one or two bytes, and the next one those bytes again.
        if seen.iter().filter(|&&kind| kind == BYTE_LEVEL).count() > 1 {
            return Err(self.refused("has ByteLevel more than once"));
        }
        Ok(())
    }

    fn walk(&self, part: &Value, seen: &mut Vec<&'static str>) -> anyhow::Result<()> {
        let table = part.as_object().ok_or_else(|| self.refused("is not a table"))?;
        let found = table.get("type").and_then(Value::as_str).unwrap_or_default();
        if found == "Sequence" {
            self.check_parameters(found, table, &[self.list])?;
            let parts = table.get(self.list).and_then(Value::as_array);
            let parts = parts.ok_or_else(|| self.refused(&format!("has a sequence without {}", self.list)))?;
            return parts.iter().try_for_each(|part| self.walk(part, seen));
        }
        let Some((known, parameters)) = self.types.iter().find(|(known, _)| *known == found) else {
            let known: Vec<&str> = self.types.iter().map(|(known, _)| *known).collect();
            let expected = known.join(", ");
            return Err(self.refused(&format!("has a part of the type {}, expected one of {expected}", quoted(found))));
        };
        seen.push(known);
        if seen.len() > MAX_PARTS {
            return Err(self.refused(&format!("has more than {MAX_PARTS} parts")));
        }
        self.check_parameters(known, table, parameters)?;
        let checked = match *known {
            "Replace" => check_replace(table),
            "Split" => check_pattern(&table["pattern"]).map(drop),
            "TemplateProcessing" => check_template(table),
            _ => Ok(()),
        };
        checked.with_context(|| format!("the tokenizer's {} has a {known} that cannot be used", self.key))
    }

    fn check_parameters(&self, part: &str, table: &Map<String, Value>, known: &[&str]) -> anyhow::Result<()> {
        match table.keys().find(|key| *key != "type" && !known.contains(&key.as_str())) {
            Some(other) => Err(self.refused(&format!("has a {part} with the unknown parameter {}", quoted(other)))),
            None => Ok(()),
        }
    }

    fn refused(&self, what: &str) -> anyhow::Error {
        failure(format!("the tokenizer's {} {what}", self.key), KNOWN_KINDS)
    }
}

/// A replacement that cannot make a text longer, however often it is done.
fn check_replace(table: &Map<String, Value>) -> anyhow::Result<()> {
    let content = table.get("content").and_then(Value::as_str).context("its content is not a string")?;
    let least = match check_pattern(&table["pattern"])? {
        Pattern::Text(text) => text.len(),
        Pattern::Regex(regex) => {
            let parsed = syntax::parse(regex).ok();
            parsed.and_then(|parsed| parsed.properties().minimum_len()).unwrap_or(0)
        }
    };
    if least == 0 || content.len() > least {
        let content = quoted(content);
        return Err(failure(
            format!("it would make a text longer: it replaces {least} bytes with {content}"),
            KNOWN_KINDS,
        ));
    }
    Ok(())
}

enum Pattern<'a> {
    Text(&'a str),
    Regex(&'a str),
}

fn check_pattern(pattern: &Value) -> anyhow::Result<Pattern<'_>> {
    let text =
        |key: &str| pattern.get(key).and_then(Value::as_str).filter(|_| pattern.as_object().map(Map::len) == Some(1));
    let found = text("String").map(Pattern::Text).or_else(|| text("Regex").map(Pattern::Regex));
    let found = found.context("its pattern is neither a String nor a Regex")?;
    let (Pattern::Text(text) | Pattern::Regex(text)) = found;
    if text.chars().count() > MAX_PATTERN {
        return Err(failure(
            format!("expected a pattern of at most {MAX_PATTERN} characters, found {}", quoted(text)),
            KNOWN_KINDS,
        ));
    }
    if matches!(found, Pattern::Regex(_)) && repetitions(text).is_none_or(|count| count > MAX_REPETITIONS) {
        return Err(failure(format!("the repetitions of the pattern {} are too many", quoted(text)), KNOWN_KINDS));
    }
    Ok(found)
}

/// How often the numbers in braces of a regular expression write out a part of it, if they are within one another;
/// `None` for braces that are no such numbers.
fn repetitions(regex: &str) -> Option<usize> {
    let (mut rest, mut in_class, mut product) = (regex, 0_usize, 1_usize);
    while let Some(character) = rest.chars().next() {
        rest = &rest[character.len_utf8()..];
        match character {
            '\\' => {
                let escaped = rest.chars().next()?;
                rest = &rest[escaped.len_utf8()..];
                // The name of a property or the number of a character.
                if matches!(escaped, 'p' | 'P' | 'x' | 'u' | 'U')
                    && let Some(inside) = rest.strip_prefix('{')
                {
                    rest = inside.split_once('}')?.1;
                }
            }
            '[' => in_class += 1,
            ']' => in_class = in_class.saturating_sub(1),
            '{' if in_class == 0 => {
                let (numbers, after) = rest.split_once('}')?;
                rest = after;
                let (low, high) = numbers.split_once(',').unwrap_or((numbers, numbers));
                let low: usize = low.trim().parse().ok()?;
                let high = if high.trim().is_empty() { low } else { high.trim().parse().ok()? };
                product = product.saturating_mul(low.max(high).max(1));
            }
            _ => {}
        }
    }
    Some(product)
}

/// A template that has the text once: each further place would be a copy of it.
fn check_template(table: &Map<String, Value>) -> anyhow::Result<()> {
    let pieces = table.get("single").and_then(Value::as_array).context("it has no template for a single text")?;
    let places: Vec<&Value> = pieces.iter().filter_map(|piece| piece.pointer("/Sequence/id")).collect();
    match places.as_slice() {
        // The second text is looked up in a list of as many texts as are encoded: one.
        [first] if *first == "A" => Ok(()),
        _ => Err(failure("expected one place for the text in its template for a single text", KNOWN_KINDS)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::byte_level_bpe::PARTS;
    use super::*;
    use base::error::describe;

    fn refusal(key: &str, part: &Value) -> String {
        let kind = PARTS.iter().find(|kind| kind.key == key).unwrap();
        kind.check(part).err().map_or_else(String::new, |error| describe(&error))
    }

    fn sequence(key: &str, parts: &[Value]) -> Value {
        let list = PARTS.iter().find(|kind| kind.key == key).unwrap().list;
        json!({ "type": "Sequence", list: parts })
    }

    fn replace(pattern: &Value, content: &str) -> Value {
        json!({ "type": "Replace", "pattern": pattern, "content": content })
    }

    const GPT_2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
    const GPT_4: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

    #[test]
    fn the_parts_of_byte_level_tokenizers_pass() {
        let bytes = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
        let split = |regex: &str| json!({ "type": "Split", "pattern": { "Regex": regex }, "behavior": "Isolated", "invert": false });
        let digits = json!({ "type": "Digits", "individual_digits": true });
        let spaces = replace(&json!({ "Regex": r"\s+" }), " ");
        let template = json!({
            "type": "TemplateProcessing",
            "single": [{ "SpecialToken": { "id": "<s>", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }],
            "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 1 } }],
            "special_tokens": { "<s>": { "id": "<s>", "ids": [1], "tokens": ["<s>"] } }
        });
        let roberta = json!({ "type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0], "trim_offsets": true, "add_prefix_space": true });
        for (key, part) in [
            ("normalizer", Value::Null),
            ("normalizer", json!({ "type": "NFC" })),
            ("normalizer", sequence("normalizer", &[json!({ "type": "NFC" }), spaces, json!({ "type": "Lowercase" })])),
            ("normalizer", json!({ "type": "Strip", "strip_left": true, "strip_right": false })),
            ("pre_tokenizer", bytes.clone()),
            ("pre_tokenizer", sequence("pre_tokenizer", &[split(GPT_2), digits, bytes.clone()])),
            ("pre_tokenizer", sequence("pre_tokenizer", &[split(GPT_4), bytes.clone()])),
            ("post_processor", template.clone()),
            ("post_processor", sequence("post_processor", &[bytes.clone(), template])),
            ("post_processor", roberta),
            ("decoder", bytes.clone()),
            ("decoder", sequence("decoder", &[bytes, json!({ "type": "Fuse" })])),
        ] {
            assert_eq!(refusal(key, &part), "", "{key} {part}");
        }
    }

    #[test]
    fn a_replacement_that_makes_a_text_longer_is_refused_whatever_it_looks_for() {
        for (pattern, content) in [
            (json!({ "String": "a" }), "aa"),
            (json!({ "String": "" }), "a"),
            (json!({ "String": "" }), ""),
            (json!({ "Regex": "a|" }), "a"),
            (json!({ "Regex": "x*" }), "x"),
            (json!({ "Regex": r"\b" }), "x"),
            (json!({ "Regex": "(?=a)" }), "x"),
            (json!({ "Regex": "." }), "é"),
        ] {
            let text = refusal("normalizer", &replace(&pattern, content));
            assert!(text.contains("would make a text longer") && text.contains("hint: "), "{pattern} {text}");
        }
        let bomb = sequence(
            "normalizer",
            &[json!({ "type": "Lowercase" }), replace(&json!({ "String": "a" }), &"a".repeat(1000))],
        );
        let text = refusal("normalizer", &bomb);
        assert!(text.contains("(1000 characters)") && text.len() < 600, "{text}");
        assert!(!refusal("decoder", &replace(&json!({ "String": "aa" }), "a")).is_empty());
    }

    #[test]
    fn parts_that_no_byte_level_tokenizer_needs_are_refused_by_type() {
        let bytes = json!({ "type": "ByteLevel" });
        for (key, part) in [
            ("normalizer", json!({ "type": "Prepend", "prepend": "x" })),
            ("normalizer", bytes.clone()),
            ("normalizer", json!({ "type": "Precompiled", "precompiled_charsmap": "AAAA" })),
            ("normalizer", json!({ "precompiled_charsmap": "AAAA" })),
            ("normalizer", json!({ "type": "\u{1b}[2J" })),
            ("pre_tokenizer", json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always" })),
            ("pre_tokenizer", json!({ "type": "FixedLength", "length": 0 })),
            ("decoder", json!({ "type": "CTC" })),
            ("decoder", json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 })),
            ("post_processor", json!({})),
        ] {
            let text = refusal(key, &part);
            assert!(text.contains("has a part of the type") && !text.contains('\u{1b}'), "{part} {text}");
        }
        let twice = refusal("pre_tokenizer", &sequence("pre_tokenizer", &[bytes.clone(), bytes]));
        assert!(twice.contains("ByteLevel more than once"), "{twice}");
        let many = sequence("normalizer", &vec![json!({ "type": "NFC" }); 17]);
        assert!(refusal("normalizer", &many).contains("more than 16 parts"));
        // Read by the library as whatever fits the parameters.
        let hidden = json!({ "type": "Lowercase", "normalizers": [] });
        assert!(refusal("normalizer", &hidden).contains("the unknown parameter \"normalizers\""));
        assert!(refusal("normalizer", &json!(["NFC"])).contains("is not a table"));
    }

    #[test]
    fn a_regular_expression_that_takes_memory_is_refused() {
        let split = |regex: &str| json!({ "type": "Split", "pattern": { "Regex": regex }, "behavior": "Isolated", "invert": false });
        for regex in
            ["(?:(?:(?=a)a){1000}){1000}", "a{0,101}", "(?:(?:a{9}){9}){9}", "a{99999999999999999999}", "a{b}", "a\\"]
        {
            let text = refusal("pre_tokenizer", &split(regex));
            assert!(text.contains("are too many"), "{regex} {text}");
        }
        assert!(refusal("pre_tokenizer", &split(&"a".repeat(1001))).contains("at most 1000 characters"));
        assert_eq!(repetitions(r"\p{L}{1,3}[{5000}]\{\x{1F600}{2,}"), Some(6));
    }

    #[test]
    fn a_template_with_more_or_less_than_one_place_for_the_text_is_refused() {
        for ids in [&[] as &[&str], &["A", "A"], &["B"], &["A", "B"]] {
            let pieces: Vec<Value> = ids.iter().map(|id| json!({ "Sequence": { "id": id, "type_id": 0 } })).collect();
            let part = json!({ "type": "TemplateProcessing", "single": pieces, "pair": [], "special_tokens": {} });
            assert!(refusal("post_processor", &part).contains("one place for the text"), "{ids:?}");
        }
    }
}
