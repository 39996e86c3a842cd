//! Quotes names and paths in commands, config lines and code that are printed to be copied: the copy refers to the same
//! file, whatever its name contains, and nothing controls the terminal that shows it.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::path::Path;

use super::visible::is_hidden;

/// Characters without a meaning to a shell, anywhere in a word.
fn is_plain(character: char) -> bool {
    character.is_alphanumeric() || "_./:=@%+,-".contains(character)
}

/// A word of a command for a POSIX shell: unchanged if that is safe, else in single quotes, or in `$'...'` if it
/// contains what a terminal would not show.
pub fn shell_word(word: &str) -> String {
    quoted_for_shell(word.as_bytes())
}

/// A path as a word of a command.
pub fn shell_path(path: &Path) -> String {
    quoted_for_shell(below_here(path).as_os_str().as_encoded_bytes())
}

/// `./-name` for `-name`, which would be an option, and `./~` for `~`, which would be the home folder.
fn below_here(path: &Path) -> Cow<'_, Path> {
    match path.as_os_str().as_encoded_bytes() {
        [b'-' | b'~', ..] => Path::new(".").join(path).into(),
        _ => path.into(),
    }
}

fn quoted_for_shell(bytes: &[u8]) -> String {
    let is_shown = |text: &str| !text.contains(is_hidden);
    match std::str::from_utf8(bytes) {
        // zsh expands =NAME to the path of a program.
        Ok(text) if !matches!(bytes, [] | [b'=', ..]) && text.chars().all(is_plain) => text.to_owned(),
        Ok(text) if is_shown(text) => format!("'{}'", text.replace('\'', r"'\''")),
        _ => ansi_quoted(bytes),
    }
}

/// `$'...'`, which bash, zsh, ksh and POSIX 2024 support: bytes as octal numbers of three digits.
fn ansi_quoted(bytes: &[u8]) -> String {
    let mut quoted = "$'".to_owned();
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\n' => quoted.push_str("\\n"),
                '\t' => quoted.push_str("\\t"),
                '\'' | '\\' => quoted.extend(['\\', character]),
                _ if is_hidden(character) => push_octal(&mut quoted, character.encode_utf8(&mut [0; 4]).as_bytes()),
                _ => quoted.push(character),
            }
        }
        push_octal(&mut quoted, chunk.invalid());
    }
    quoted.push('\'');
    quoted
}

fn push_octal(quoted: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing into a string cannot fail.
        let _ = write!(quoted, "\\{byte:03o}");
    }
}

/// `KEY = VALUE` as a line of a TOML file; `None` for a path that is not UTF-8, which TOML cannot express.
pub fn toml_line(key: &str, path: &Path) -> Option<String> {
    let path = below_here(path);
    let text = path.to_str()?;
    Some(if text.contains(is_hidden) {
        format!("{key} = {}", escaped_string(text))
    } else {
        format!("{key} = {}", toml::Value::from(text))
    })
}

/// A Python string. Bytes that are not UTF-8 become what `os.fsdecode` makes of them.
pub fn python_string(path: &Path) -> String {
    let mut quoted = "\"".to_owned();
    for chunk in path.as_os_str().as_encoded_bytes().utf8_chunks() {
        push_escaped(&mut quoted, chunk.valid());
        for byte in chunk.invalid() {
            let _ = write!(quoted, "\\udc{byte:02x}");
        }
    }
    quoted.push('"');
    quoted
}

/// A basic string of TOML: in double quotes, with hidden characters as `\uXXXX`.
fn escaped_string(text: &str) -> String {
    let mut quoted = "\"".to_owned();
    push_escaped(&mut quoted, text);
    quoted.push('"');
    quoted
}

fn push_escaped(quoted: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\n' => quoted.push_str("\\n"),
            _ if is_hidden(character) => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(character));
            }
            _ => quoted.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names that a shell would split or interpret, or that would control a terminal.
    const NAMES: [&str; 20] = [
        "plain-1.5_a/b",
        "my run (1) & more",
        "it's",
        "a\"b",
        "$HOME `id` $(id)",
        "~",
        "~/runs",
        "a*b?[c]",
        "semi;colon|pipe>out<in",
        "back\\slash",
        "#hash!bang",
        "new\nline\ttab",
        "\u{1b}[31mred\u{7}",
        "\u{202e}txt.exe\u{2066}",
        "'\n'",
        "{a,b}",
        "кошка и 犬",
        "tail ",
        "",
        "=ls^c%d",
    ];

    #[test]
    fn plain_words_stay_as_they_are() {
        for word in ["runs/a-b_1.5/checkpoints/last.safetensors", "--set", "seed=1", "кошка/犬", "C:/data"] {
            assert_eq!(shell_word(word), word);
        }
    }

    #[test]
    fn quotes_are_the_least_that_does() {
        assert_eq!(shell_word("my run"), "'my run'");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
        assert_eq!(shell_word("a\nb'\u{1b}"), r"$'a\nb\'\033'");
        assert_eq!(shell_path(Path::new("-rf")), "./-rf");
        assert_eq!(shell_path(Path::new("-a b")), "'./-a b'");
        assert_eq!(shell_path(Path::new("~/x")), "'./~/x'");
    }

    #[cfg(unix)]
    #[test]
    fn a_shell_reads_back_every_word() {
        let command = format!("printf '%s\\0' {}", NAMES.map(shell_word).join(" "));
        let output = std::process::Command::new("bash").args(["-c", &command]).output().unwrap();
        let read: Vec<&[u8]> = output.stdout.split(|&byte| byte == 0).collect();
        let (last, words) = read.split_last().unwrap();
        assert!(output.status.success() && last.is_empty());
        assert_eq!(words, NAMES.map(str::as_bytes));
    }

    #[cfg(unix)]
    #[test]
    fn a_path_that_is_not_utf_8_can_be_copied_too() {
        use std::os::unix::ffi::OsStrExt as _;
        let path = Path::new(std::ffi::OsStr::from_bytes(b"caf\xe9 1\xff"));
        let command = format!("printf %s {}", shell_path(path));
        let output = std::process::Command::new("bash").args(["-c", &command]).output().unwrap();
        assert_eq!(output.stdout, b"caf\xe9 1\xff");
        assert_eq!(toml_line("output_dir", path), None);
        assert_eq!(python_string(path), r#""caf\udce9 1\udcff""#);
    }

    #[test]
    fn a_line_of_toml_gives_back_the_path() {
        for name in NAMES {
            let line = toml_line("data.directory", Path::new(name)).unwrap();
            let table: toml::Table = toml::from_str(&line).unwrap();
            let read = table["data"]["directory"].as_str().unwrap();
            assert_eq!(read.strip_prefix("./").unwrap_or(read), name, "{line}");
            assert_eq!(name.starts_with('~'), read.starts_with("./~"), "{line}");
            assert_eq!(line.lines().count(), 1, "{line}");
        }
    }

    #[test]
    fn nothing_that_is_printed_acts_on_a_terminal() {
        for name in NAMES {
            let path = Path::new(name);
            let line = toml_line("k", path).unwrap();
            for text in [shell_word(name), shell_path(path), line, python_string(path)] {
                assert!(!text.contains(is_hidden), "{text:?}");
            }
        }
    }
}
