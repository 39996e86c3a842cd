//! Characters that a page on the web writes as entities, in captions that were taken from pages: `&amp;`, `&#39;`.

use std::borrow::Cow;

/// Names of entities that captions have.
const NAMED: [(&str, &str); 45] = [
    ("amp", "&"),
    ("lt", "<"),
    ("gt", ">"),
    ("quot", "\""),
    ("apos", "'"),
    ("nbsp", " "),
    ("hellip", "…"),
    ("ndash", "–"),
    ("mdash", "—"),
    ("lsquo", "‘"),
    ("rsquo", "’"),
    ("ldquo", "“"),
    ("rdquo", "”"),
    ("laquo", "«"),
    ("raquo", "»"),
    ("bull", "•"),
    ("middot", "·"),
    ("deg", "°"),
    ("copy", "©"),
    ("reg", "®"),
    ("trade", "™"),
    ("euro", "€"),
    ("pound", "£"),
    ("cent", "¢"),
    ("times", "×"),
    ("frac12", "½"),
    ("frac14", "¼"),
    ("agrave", "à"),
    ("aacute", "á"),
    ("acirc", "â"),
    ("atilde", "ã"),
    ("auml", "ä"),
    ("ccedil", "ç"),
    ("egrave", "è"),
    ("eacute", "é"),
    ("ecirc", "ê"),
    ("iacute", "í"),
    ("ntilde", "ñ"),
    ("oacute", "ó"),
    ("ocirc", "ô"),
    ("ouml", "ö"),
    ("uacute", "ú"),
    ("uuml", "ü"),
    ("szlig", "ß"),
    ("oslash", "ø"),
];
/// `&amp;quot;` was written twice as entities.
const MAX_TIMES: usize = 3;

/// The text with characters in place of entities; borrowed where there are none.
pub(crate) fn decode(text: &str) -> Cow<'_, str> {
    let mut decoded = Cow::Borrowed(text);
    for _ in 0..MAX_TIMES {
        match decode_once(&decoded) {
            Some(next) => decoded = Cow::Owned(next),
            None => break,
        }
    }
    decoded
}

/// `None` where there are none.
fn decode_once(text: &str) -> Option<String> {
    /// Letters and digits of the longest entity.
    const MAX_LENGTH: usize = 10;
    let (mut decoded, mut copied) = (String::new(), 0);
    for (at, _) in text.match_indices('&') {
        let after = &text[at + 1..];
        let Some(end) = after.bytes().take(MAX_LENGTH + 1).position(|byte| byte == b';') else { continue };
        let Some(character) = character(&after[..end]) else { continue };
        decoded.push_str(&text[copied..at]);
        decoded.push_str(&character);
        copied = at + 1 + end + 1;
    }
    if copied == 0 {
        return None;
    }
    decoded.push_str(&text[copied..]);
    Some(decoded)
}

fn character(entity: &str) -> Option<String> {
    let Some(number) = entity.strip_prefix('#') else {
        let named = NAMED.iter().find(|(name, _)| *name == entity || name.to_uppercase() == entity);
        return named.map(|(_, character)| (*character).to_owned());
    };
    let code = match number.strip_prefix(['x', 'X']) {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => number.parse(),
    };
    let character = char::from_u32(code.ok()?)?;
    Some(if character == '\u{a0}' { " ".to_owned() } else { character.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entities_become_characters_and_other_text_stays() {
        for (text, expected) in [
            ("a man &amp; a dog", "a man & a dog"),
            ("&quot;it&#39;s&quot; &lt;b&gt;", "\"it's\" <b>"),
            ("caf&eacute; &#xe9;&#233;&#x1F415;", "café éé🐕"),
            ("a&nbsp;dog&#160;", "a dog "),
            ("&amp;quot;x&amp;quot;", "\"x\""),
            ("&AMP;", "&"),
            (
                "AT&T; R&D and & ; &unknown; &#xd800; &#; &#99999999999;",
                "AT&T; R&D and & ; &unknown; &#xd800; &#; &#99999999999;",
            ),
            ("&&amp;&", "&&&"),
            ("&é; &éééééé;", "&é; &éééééé;"),
            ("", ""),
        ] {
            assert_eq!(decode(text), expected, "{text}");
        }
        assert!(matches!(decode("a & b"), Cow::Borrowed(_)));
    }
}
