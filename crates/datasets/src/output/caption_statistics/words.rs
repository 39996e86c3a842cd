//! The words of a caption, without a copy of each of them.

use crate::output::caption_statistics::script::is_written_without_spaces;

/// The words of a [`plain`] caption: what white space divides. Where a piece has characters of a script that is written
/// without spaces, each of them is a word, and so is what is between them, unless it is punctuation.
///
/// Source: `BasicTokenizer` of BERT divides Chinese in this way.
pub(crate) fn words(plain: &str) -> impl Iterator<Item = &str> {
    plain.split_whitespace().flat_map(pieces)
}

fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    let next = move || {
        let first = rest.chars().next()?;
        let end = if is_written_without_spaces(first) {
            first.len_utf8()
        } else {
            rest.find(is_written_without_spaces).unwrap_or(rest.len())
        };
        let (piece, after) = rest.split_at(end);
        rest = after;
        Some(piece)
    };
    let is_word = move |piece: &&str| piece.len() == text.len() || piece.contains(char::is_alphanumeric);
    std::iter::from_fn(next).filter(is_word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset_file::plain;

    fn words_of(caption: &str) -> Vec<String> {
        words(&plain(caption)).map(str::to_owned).collect()
    }

    #[test]
    fn words_are_those_of_a_prepared_data_set() {
        assert_eq!(words_of("A man 's  hat, two-tone ."), ["a", "man", "s", "hat", "twotone"]);
        assert_eq!(words_of("Ein Hund\tLÄUFT – schnell"), ["ein", "hund", "läuft", "–", "schnell"]);
        assert_eq!(words_of(" ... "), [""; 0]);
    }

    #[test]
    fn each_character_of_a_script_without_spaces_is_a_word() {
        assert_eq!(words_of("犬が、走る。"), ["犬", "が", "走", "る"]);
        assert_eq!(words_of("Ein T恤 で2人"), ["ein", "t", "恤", "で", "2", "人"]);
        assert_eq!(words_of("개가 달린다"), ["개가", "달린다"]);
    }
}
