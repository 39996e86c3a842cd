//! Quotes within quotes that have a backslash in front, `"a \"red\" dog"`, as Spark, MySQL and pandas' `escapechar`
//! write them in place of two quotes.

/// The note on a file that is read this way.
pub(crate) const NOTE: &str =
    "quotes within quotes have a backslash in front, as Spark and MySQL write them: they are read as quotes";

/// The text of a table with two quotes for each such one; nothing where it is written as usual: unless fewer values
/// have something after the quote that closes them when it is read so.
pub(crate) fn doubled(text: &str, separator: u8) -> Option<String> {
    if !text.contains("\\\"") {
        return None;
    }
    let (mut usual, mut mended) = (Quotes::new(separator), Quotes::new(separator));
    text.bytes().for_each(|byte| usual.take(byte));
    let (mut written, mut characters) = (String::with_capacity(text.len()), text.chars().peekable());
    while let Some(character) = characters.next() {
        let is_escape = character == '\\' && mended.place == State::Quoted;
        match characters.next_if(|&next| is_escape && matches!(next, '"' | '\\')) {
            Some('"') => written.push_str("\"\""),
            Some(other) => written.push(other),
            None => {
                // No other character than those of one byte counts.
                mended.take(u8::try_from(character).unwrap_or(b'x'));
                written.push(character);
            }
        }
    }
    (mended.num_odd() < usual.num_odd()).then_some(written)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Start,
    Plain,
    Quoted,
    /// After a quote within quotes.
    Closed,
}

/// Scans a table, and counts quotes that no program writes.
struct Quotes {
    separator: u8,
    place: State,
    num_odd: usize,
}

impl Quotes {
    fn new(separator: u8) -> Self {
        Self { separator, place: State::Start, num_odd: 0 }
    }

    fn take(&mut self, byte: u8) {
        let ends = byte == self.separator || matches!(byte, b'\n' | b'\r');
        self.place = match (self.place, byte) {
            (State::Start | State::Closed, b'"') => State::Quoted,
            (State::Quoted, b'"') => State::Closed,
            (State::Quoted, _) => State::Quoted,
            _ if ends => State::Start,
            (State::Closed, _) => {
                self.num_odd += 1;
                State::Plain
            }
            (State::Start | State::Plain, _) => State::Plain,
        };
    }

    fn num_odd(&self) -> usize {
        self.num_odd + usize::from(self.place == State::Quoted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read_in_the_way_in_which_its_quotes_close() {
        for (text, expected) in [
            (r#"a.jpg,"a \"red\" dog""#, Some(r#"a.jpg,"a ""red"" dog""#)),
            (r#"a.jpg,"says \"stop, now\"""#, Some(r#"a.jpg,"says ""stop, now""""#)),
            (r#"a.jpg,"6\" é \\ \n""#, Some(r#"a.jpg,"6"" é \ \n""#)),
            ("a.jpg,\"\\\"A\\\"\"\nb.jpg,\"x, y\"\n", Some("a.jpg,\"\"\"A\"\"\"\nb.jpg,\"x, y\"\n")),
            // As usual.
            (r#"a.jpg,"C:\dir\",train"#, None),
            (r#"a.jpg,"a ""red"" dog""#, None),
            (r#"a.jpg,"a \""red\"" dog""#, None),
            (r#"a.jpg,a \"red\" dog"#, None),
            (r#"a.jpg,"a "red" dog""#, None),
            ("", None),
        ] {
            assert_eq!(doubled(text, b',').as_deref(), expected, "{text}");
        }
    }
}
