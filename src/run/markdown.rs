//! Text of data inside of Markdown.

/// Text that Markdown takes for nothing but text.
pub(super) fn plain(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\r' => escaped.push(' '),
            '<' => escaped.push_str("&lt;"),
            '&' => escaped.push_str("&amp;"),
            _ => {
                if "\\`*_{}[]()#+!|~>".contains(character) {
                    escaped.push('\\');
                }
                escaped.push(character);
            }
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captions_are_text_and_nothing_else() {
        assert_eq!(plain("a | b\n*c* <script>"), "a \\| b \\*c\\* &lt;script\\>");
    }
}
