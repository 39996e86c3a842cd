//! What the tool writes for a token.

use std::borrow::Cow;

use super::rules::Form;

/// The text of a token that is written `text` in the caption.
pub(super) fn written(form: Form, text: &str) -> Cow<'_, str> {
    match form {
        Form::Dropped | Form::LineEnd | Form::Text | Form::TextAndStop | Form::AcronymAndStop => text.into(),
        Form::Fixed(fixed) => fixed.into(),
        Form::Word if text.contains('\u{AD}') => {
            let rest = text.replace('\u{AD}', "");
            if rest.is_empty() { "-".into() } else { rest.into() }
        }
        Form::Word => text.into(),
        // All tokens become lower case in the end, and the entity is one in any case.
        Form::Ampersand if text.contains('&') => text.to_ascii_lowercase().replace("&amp;", "&").into(),
        Form::Ampersand => text.into(),
        Form::OpeningQuote => quotes(text, "`", "``").into(),
        Form::ClosingQuote => quotes(text, "'", "''").into(),
        Form::Fraction => each(text, |character| match character {
            '¼' => Some("1/4"),
            '½' => Some("1/2"),
            '¾' => Some("3/4"),
            '⅓' => Some("1/3"),
            '⅔' => Some("2/3"),
            _ => None,
        })
        .into(),
        // The treebank has dollars, cents and, for pounds, the number sign.
        Form::Currency => each(text, |character| match character {
            '¢' => Some("cents"),
            '£' => Some("#"),
            '\u{80}' | '¤' | '\u{20A0}' | '€' => Some("$"),
            _ => None,
        })
        .into(),
        Form::NoBreak => text.replace(' ', "\u{A0}").into(),
        Form::Brackets => text.replace('(', "-LRB-").replace(')', "-RRB-").into(),
        Form::NoBreakBrackets => text.replace(' ', "\u{A0}").replace('(', "-LRB-").replace(')', "-RRB-").into(),
        Form::Hyphens => if matches!(text.len(), 3 | 4) { "--" } else { text }.into(),
    }
}

/// `text` with the quotes of LaTeX: `single` and `double` for the straight ones.
fn quotes(text: &str, single: &'static str, double: &'static str) -> String {
    let text = text.replace("&apos;", "'").replace("&quot;", "\"");
    each(&text, |character| match character {
        '\'' => Some(single),
        '"' => Some(double),
        '\u{91}' | '‘' | '\u{201B}' | '‹' => Some("`"),
        '\u{92}' | '’' | '›' => Some("'"),
        '\u{93}' | '“' | '«' => Some("``"),
        '\u{94}' | '”' | '»' => Some("''"),
        _ => None,
    })
}

/// `text` with the characters replaced for which `replacement` has something.
fn each(text: &str, replacement: impl Fn(char) -> Option<&'static str>) -> String {
    let mut replaced = String::with_capacity(text.len());
    for character in text.chars() {
        match replacement(character) {
            Some(other) => replaced.push_str(other),
            None => replaced.push(character),
        }
    }
    replaced
}
