//! How the lines of a text file are laid out, judged by the first of them: a table with a header, lines
//! `1.jpg<TAB>caption`, or lines `1.jpg#0<TAB>caption`.

use crate::annotations::fields::{Columns, USUAL_NAMES};
use crate::annotations::split_names::split_of_word;
use crate::annotations::text::lines;
use crate::column_names::ColumnNames;
use pixels::picture_formats::is_image_name;

/// Separators between columns. One that is rare in captions comes before one that is common in them.
const SEPARATORS: [u8; 4] = [b'\t', b'|', b';', b','];
/// Lines that are looked at.
const MAX_LINES: usize = 50;

/// How the lines are laid out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// A header, with columns for the image and its captions.
    Table(TableLayout),
    /// `1.jpg#0<TAB>caption`; the first image.
    Tokens(String),
    /// An image and its caption, without a header.
    Pairs(PairLayout),
    /// None of them: what the text resembles, and whether it may have been meant to contain captions.
    Other(String, bool),
}

/// The columns of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TableLayout {
    /// What stands between them.
    pub(crate) separator: u8,
    /// Their names, as they are written.
    pub(crate) header: Vec<String>,
    /// What they hold.
    pub(crate) columns: Columns,
    /// The image of the first row.
    pub(crate) first_image: Option<String>,
}

/// How a line has an image and its caption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PairLayout {
    /// What stands between them.
    pub(crate) separator: u8,
    /// There is the number of the caption between them.
    pub(crate) has_numbers: bool,
    /// Only an image's name may come first.
    pub(crate) needs_image_name: bool,
}

impl Layout {
    /// The layout of a file that begins with `start`; `is_whole` where nothing follows.
    pub(crate) fn of(start: &str, is_whole: bool) -> Self {
        Self::named(start, is_whole, &ColumnNames::default())
    }

    /// [`Layout::of`], where the user names columns.
    pub(crate) fn named(start: &str, is_whole: bool, names: &ColumnNames) -> Self {
        let mut first: Vec<(usize, &str)> = lines(start).take(MAX_LINES + 1).collect();
        // The last line may be cut.
        if first.len() > MAX_LINES || first.len() > 1 && !is_whole {
            first.pop();
        }
        let Some(&(_, line)) = first.first() else { return Self::Other("it is empty".to_owned(), true) };
        if let Some((name, ..)) = token_parts(line)
            && first.iter().all(|(_, line)| token_parts(line).is_some())
        {
            return Self::Tokens(name.to_owned());
        }
        let table = TableLayout::of(&first, names);
        if table.columns.is_complete() {
            return Self::Table(table);
        }
        if let Some(pairs) = PairLayout::of(&first) {
            return Self::Pairs(pairs);
        }
        if first.iter().all(|(_, line)| is_image_name(line.trim()) && !line.contains(['\t', '|', ';'])) {
            return Self::Other("a list of image names, without captions".to_owned(), false);
        }
        Self::Other(explain(&table, &first), table.is_near() || names_image(line))
    }
}

fn names_image(line: &str) -> bool {
    line.split(['\t', '|', ';', ',', ' ', '#', '"']).any(is_image_name)
}

/// What the lines resemble, and which of them does not fit.
fn explain(table: &TableLayout, first: &[(usize, &str)]) -> String {
    let shown = |line: &str| format!("{:?}", line.chars().take(40).collect::<String>());
    if table.is_near() {
        let missing = if table.columns.image.is_none() { "for the image" } else { "for captions" };
        let names = table.header.join(", ");
        return format!("a table with the columns {names}, none of them {missing} (known names are {USUAL_NAMES})");
    }
    const FORM: &str = "lines of an image and its caption";
    const HEADER: &str = "give the columns a header such as image and caption";
    for separator in SEPARATORS {
        let is_of_form = |(_, line): &&(usize, &str)| name_and_rest(line, separator).is_some();
        if first.iter().any(|line| is_of_form(&line)) {
            return match first.iter().find(|line| !is_of_form(line)) {
                Some((number, line)) => format!("{FORM}, but not line {number}: {}", shown(line)),
                None => format!("{FORM}, but with other values too ({HEADER}): {}", shown(first[0].1)),
            };
        }
    }
    let (number, line) = first[0];
    format!("line {number} is in no known format: {}", shown(line))
}

impl TableLayout {
    /// The layout of a table, whatever its columns contain.
    pub(crate) fn of_text(text: &str, names: &ColumnNames) -> Self {
        Self::of(&lines(text).take(3).collect::<Vec<_>>(), names)
    }

    fn of(first: &[(usize, &str)], called: &ColumnNames) -> Self {
        let (mut header, mut separators, mut row) =
            (first.first().map_or("", |(_, line)| line), SEPARATORS.to_vec(), first.get(1));
        let sep = header.trim().get(..4).filter(|word| word.eq_ignore_ascii_case("sep="));
        if sep.is_some()
            && let (Some(&separator), Some((_, second))) = (header.trim().as_bytes().get(4), first.get(1))
        {
            (header, separators, row) = (second, vec![separator], first.get(2));
        }
        let layout = |separator: u8| {
            let names = cells(header, separator);
            let columns = Columns::named(names.iter().map(String::as_str), called);
            let of_row = |(_, row): &(usize, &str)| cells(row, separator).into_iter().nth(columns.image?);
            let first_image = row.and_then(of_row);
            Self { separator, header: names, columns, first_image }
        };
        let tables = || separators.iter().rev().map(|&separator| layout(separator));
        // The one that makes most sense of the header; of equals the one with most columns, then the first.
        let sense = |table: &Self| {
            let known = usize::from(table.columns.image.is_some()) + usize::from(!table.columns.captions.is_empty());
            (table.header.len() > 1, known, table.header.len())
        };
        tables().max_by_key(sense).unwrap_or_else(|| layout(b','))
    }

    /// Whether a column has a name that says that images or captions are in it.
    fn is_near(&self) -> bool {
        let of_images = self.first_image.as_ref().is_some_and(|image| is_image_name(image));
        of_images || self.header.len() > 1 && (self.columns.image.is_some() || !self.columns.captions.is_empty())
    }
}

fn cells(line: &str, separator: u8) -> Vec<String> {
    let cell = |cell: &str| cell.trim().trim_matches('"').trim().to_owned();
    line.split(char::from(separator)).map(cell).collect()
}

impl PairLayout {
    fn of(first: &[(usize, &str)]) -> Option<Self> {
        let holds = |separator: &u8| first.iter().all(|(_, line)| name_and_rest(line, *separator).is_some());
        let separator = SEPARATORS.into_iter().chain([b' ']).find(holds)?;
        let rests = || first.iter().filter_map(|(_, line)| name_and_rest(line, separator)).map(|(_, rest)| rest);
        let has_numbers = separator != b' ' && rests().all(|rest| number_and_rest(rest, separator).is_some());
        let layout = Self { separator, has_numbers, needs_image_name: true };
        let captions: Vec<&str> =
            first.iter().filter_map(|(_, line)| layout.parts(line)).map(|parts| parts.1).collect();
        // More columns than two may be anything; captions have commas and blanks.
        let is_one =
            matches!(separator, b',' | b' ') || captions.iter().all(|caption| !caption.contains(char::from(separator)));
        // Lists of boxes, of splits, of pairs of images, of labels.
        let is_caption = |caption: &&&str| {
            let words = caption.split_whitespace().count();
            caption.chars().any(char::is_alphabetic)
                && split_of_word(caption).is_none()
                && (separator != b' ' || words > 1)
        };
        let are_captions = 2 * captions.iter().filter(is_caption).count() > captions.len();
        let has_images = captions.iter().any(|caption| names_image(caption));
        (is_one && are_captions && !has_images && rests().all(|rest| !rest.trim().is_empty())).then_some(layout)
    }

    /// A file of one tab in each line, whose images may be called by anything.
    pub(crate) fn of_any_names(text: &str) -> Option<Self> {
        let layout = Self { separator: b'\t', has_numbers: false, needs_image_name: false };
        let mut all = lines(text).map(|(_, line)| line).peekable();
        (all.peek().is_some() && all.all(|line| line.matches('\t').count() == 1)).then_some(layout)
    }

    /// The image and the caption of a line.
    pub(crate) fn parts(self, line: &str) -> Option<(&str, &str)> {
        let (name, rest) = match self.needs_image_name {
            true => name_and_rest(line, self.separator)?,
            false => line.split_once(char::from(self.separator))?,
        };
        let caption = if self.has_numbers { number_and_rest(rest, self.separator)? } else { rest };
        Some((name.trim().trim_matches('"'), caption.trim()))
    }
}

/// The name of an image at the start of a line, and what follows the separator.
fn name_and_rest(line: &str, separator: u8) -> Option<(&str, &str)> {
    let separator = char::from(separator);
    let parts = line.match_indices(separator).map(|(at, _)| (&line[..at], &line[at + 1..]));
    parts.take(20).find(|(name, _)| is_image_name(name.trim().trim_matches('"')))
}

fn number_and_rest(rest: &str, separator: u8) -> Option<&str> {
    let (number, rest) = rest.split_once(char::from(separator))?;
    let number = number.trim();
    (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(rest)
}

/// The name, the number and the caption of a line. Where a blank is in place of the tab, the name must be an image's.
pub(crate) fn token_parts(line: &str) -> Option<(&str, u32, &str)> {
    let of_key = |key: &'_ str| {
        let (name, number) = key.trim().rsplit_once('#')?;
        (!name.is_empty()).then_some((name.len(), number.parse().ok()?))
    };
    if let Some((key, caption)) = line.split_once('\t') {
        let (length, number) = of_key(key)?;
        return Some((&key.trim()[..length], number, caption));
    }
    let at = line.match_indices('#').map(|(at, _)| at).find(|&at| is_image_name(line[..at].trim()))?;
    let after = &line[at + 1..];
    let digits = after.find(|character: char| !character.is_ascii_digit())?;
    let caption = after[digits..].strip_prefix([' ', ',', ';', '|'])?;
    Some((line[..at].trim(), after[..digits].parse().ok()?, caption))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> String {
        match Layout::of(text, true) {
            Layout::Table(table) => format!("table {:?} {:?}", char::from(table.separator), table.columns.captions),
            Layout::Tokens(first) => format!("tokens {first}"),
            Layout::Pairs(pairs) => format!("pairs {:?} {}", char::from(pairs.separator), pairs.has_numbers),
            Layout::Other(reason, is_near) => format!("{reason} {is_near}"),
        }
    }

    #[test]
    fn forms_are_known_by_their_first_lines() {
        for (text, expected) in [
            ("image|caption\na.jpg|A, b\n", "table '|' [1]"),
            ("Image;Caption, short\n", "lacks"),
            ("file_name\tsplit\ttext\n", "table '\\t' [2]"),
            ("image,caption_1,caption_2\n", "table ',' [1, 2]"),
            ("\"image\",\"caption\"\n", "table ',' [1]"),
            ("sep=;\nimage;caption\n", "table ';' [1]"),
            ("a.jpg#0\tA\na.jpg#1\tB\n", "tokens a.jpg"),
            ("a.jpg\tA, b\nx/b.jpg\tB\n", "pairs '\\t' false"),
            ("a.jpg,A, b\nb.jpg,\"B\"\n", "pairs ',' false"),
            ("my dog, 1.jpg,A\n", "pairs ',' false"),
            ("a.jpg|0|A\na.jpg|1|B\n", "pairs '|' true"),
            ("a.jpg,2 dogs\nb.jpg,3 dogs\n", "pairs ',' false"),
            ("my dog.jpg A dog\nb.jpg 2 dogs\n", "pairs ' ' false"),
        ] {
            let found = name(text);
            assert!(found == expected || expected == "lacks" && found.starts_with("a table"), "{text}: {found}");
        }
    }

    #[test]
    fn what_is_nearly_a_form_is_explained() {
        for (text, expected) in [
            ("image,label\na.jpg,3\n", "a table with the columns image, label, none of them for captions"),
            ("bild;caption\na.jpg;A\n", "a table with the columns bild, caption, none of them for the image"),
            ("a.jpg\tA\t0.5\nb.jpg\tB\t0.7\n", "lines of an image and its caption, but with other values too"),
            ("a.jpg\tb.jpg#1\t1\t1\n", "but with other values too (give the columns a header"),
            ("# mine\na.jpg\tA\n", "lines of an image and its caption, but not line 1: \"# mine\""),
            ("a.jpg 1,2,3,4,0\nb.jpg 5,6,7,8,1\n", "line 1 is in no known format"),
            ("a.jpg,train\nb.jpg,val\n", "but with other values too"),
            ("image\na.jpg\n", "a table with the columns image, none of them for captions"),
            ("a.jpg\nb.jpg\n", "a list of image names, without captions false"),
            ("A dog\ta.jpg\n", "line 1 is in no known format: \"A dog\\ta.jpg\" true"),
            ("Some words.\n", "line 1 is in no known format: \"Some words.\" false"),
            ("\n \n", "it is empty true"),
        ] {
            assert!(name(text).contains(expected), "{text}: {}", name(text));
        }
    }

    #[test]
    fn a_line_has_an_image_and_a_caption() {
        let pairs = |text: &str| match Layout::of(text, true) {
            Layout::Pairs(pairs) => pairs,
            other => panic!("{text}: {other:?}"),
        };
        let numbered = pairs("a.jpg,0,A\n");
        assert_eq!(numbered.parts("\"b.jpg\",1, B, c "), Some(("b.jpg", "B, c")));
        assert_eq!(numbered.parts("b.jpg,B"), None);
        assert_eq!(pairs("a.jpg\tA\n").parts("no image\tB"), None);
        let any = PairLayout::of_any_names("7\tA\nx\tB\n").unwrap();
        assert_eq!(any.parts("7\tA dog"), Some(("7", "A dog")));
        assert!(PairLayout::of_any_names("7 A\n").is_none() && PairLayout::of_any_names("").is_none());
    }
}
