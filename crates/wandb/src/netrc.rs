//! Reads the password of one machine from a netrc file.
//!
//! `wandb login` stores the key there. An entry `default` is not used: it is a password for other servers, which must
//! not be disclosed to this one. Macros are skipped.

/// The password of the first of `machines` that has an entry with one.
pub(crate) fn password(text: &str, machines: &[&str]) -> Option<String> {
    let words = words(text);
    machines.iter().find_map(|machine| password_of(&words, machine))
}

fn password_of(words: &[String], machine: &str) -> Option<String> {
    let mut rest = words.iter();
    let mut is_here = false;
    while let Some(word) = rest.next() {
        match word.as_str() {
            "machine" => is_here = rest.next().is_some_and(|name| name == machine),
            "default" => is_here = false,
            "login" | "account" => {
                rest.next();
            }
            "password" => {
                let password = rest.next()?;
                if is_here && !password.is_empty() {
                    return Some(password.clone());
                }
            }
            _ => {}
        }
    }
    None
}

/// The words of the file without comments and macros. A quoted word may contain spaces; a backslash escapes the next
/// character.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let found = words_of_line(line);
        if found.iter().any(|word| word == "macdef") {
            // A macro ends at the next empty line.
            lines.by_ref().find(|line| line.trim().is_empty());
        } else {
            words.extend(found);
        }
    }
    words
}

fn words_of_line(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = line.chars().peekable();
    loop {
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
        match rest.peek() {
            // A password may begin with this character.
            Some('#') if words.last().is_none_or(|word| word != "password") => return words,
            Some(_) => {}
            None => return words,
        }
        let mut word = String::new();
        let mut quote = None;
        while let Some(c) = rest.next_if(|c| quote.is_some() || !c.is_whitespace()) {
            match c {
                '\\' => word.extend(rest.next()),
                '"' | '\'' if quote == Some(c) => quote = None,
                '"' | '\'' if quote.is_none() => quote = Some(c),
                _ => word.push(c),
            }
        }
        words.push(word);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_of_the_machine_is_found() {
        let text = "# keys\nmachine other login a password no\nmachine api.wandb.ai\n  login user\n  password yes\n";
        assert_eq!(password(text, &["api.wandb.ai"]).as_deref(), Some("yes"));
        assert_eq!(password(text, &["absent", "other"]).as_deref(), Some("no"));
        assert_eq!(
            password("machine h login user password 'with \"two\" words' # note", &["h"]).unwrap(),
            "with \"two\" words"
        );
        assert_eq!(password("machine h password #1", &["h"]).unwrap(), "#1");
    }

    #[test]
    fn words_that_only_look_like_entries_are_not_taken() {
        let text = "macdef init\nmachine h password macro\n\nmachine h login password password real";
        assert_eq!(password(text, &["h"]).as_deref(), Some("real"));
        assert_eq!(password("default login a password other", &["h"]), None);
        assert_eq!(password("machine h login a\nmachine i password b", &["h"]), None);
        for broken in ["machine", "machine h password", "password x", "machine h password \"", "\\"] {
            assert_eq!(password(broken, &["h"]), None, "{broken}");
        }
    }
}
