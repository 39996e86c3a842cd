//! The tokenizer of COCO caption evaluation: Penn Treebank tokens in lower case without punctuation.
//!
//! It returns what PyPI's `pycocoevalcap` 1.2 gets from Stanford CoreNLP 3.4.1 (`PTBTokenizer -preserveLines
//! -lowerCase`) once it has dropped its list of punctuation tokens. Nothing else of CoreNLP is here: no options, no
//! positions.

mod classes;
mod form;
mod rules;
mod scanner;
mod sets;

use std::sync::{Mutex, MutexGuard, PoisonError};

use regex_automata::hybrid::dfa::{Cache, DFA};

use super::scripts::spaced;
use rules::Form;
use scanner::Scanner;

/// Tokens that `pycocoevalcap` drops. It also lists round and curly brackets, but by names in upper case, which lower
/// case has changed by then.
const DROPPED: [&str; 13] = ["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"];

/// Splits captions into the tokens that COCO's scores count.
///
/// Threads may share one: each call takes its own automaton from those that earlier calls returned.
#[derive(Debug)]
pub struct PtbTokenizer {
    dfa: DFA,
    caches: Mutex<Vec<Cache>>,
}

impl Default for PtbTokenizer {
    fn default() -> Self {
        Self::new()
    }
}

impl PtbTokenizer {
    /// A tokenizer. Its automaton is built as captions need it.
    pub fn new() -> Self {
        Self { dfa: scanner::automaton(), caches: Mutex::default() }
    }

    /// The tokens of `caption` as the Java tool gives them for a line of a file that an empty line follows.
    ///
    /// See [`Self::tokenize_all`] for what other captions after it change.
    pub fn tokenize(&self, caption: &str) -> Vec<String> {
        self.tokenize_all(&[caption, ""]).swap_remove(0)
    }

    /// The tokens of each of `captions` as the Java tool gives them for a file with a caption a line and no line end
    /// after the last.
    ///
    /// That file is what COCO scores, and captions are not quite independent in it, for the tool looks across line
    /// ends: `the letter P.` keeps the full stop in its last token unless the next caption begins like a sentence, and
    /// the last caption has no line end, which `:)`, `'90` or a file name needs at its end to be one token. This makes
    /// a difference to [`Self::tokenize`] for 6 of the 155,070 captions of Flickr30k.
    ///
    /// A token may contain no-break spaces, as in `1 1/2` and in telephone numbers: COCO's BLEU and CIDEr split there,
    /// its ROUGE-L does not.
    ///
    /// A line feed in a caption counts as a space, as in `pycocoevalcap`. Other line ends in captions would shift all
    /// later captions there; here they only part words.
    pub fn tokenize_all<S: AsRef<str>>(&self, captions: &[S]) -> Vec<Vec<String>> {
        let text = joined(captions);
        let units: Vec<u8> = text.chars().flat_map(classes::classes).collect();
        let mut cache = self.caches().pop().unwrap_or_else(|| self.dfa.create_cache());
        let mut lines = Lines { finished: Vec::with_capacity(captions.len()), last: Vec::new() };
        let mut rest = Rest { text: &text, taken: 0 };
        for piece in Scanner::new(&self.dfa, &mut cache, &units) {
            match piece.form {
                Form::Dropped => (),
                Form::LineEnd => (0..rest.first(piece.length).matches('\n').count()).for_each(|_| lines.finish()),
                form => lines.push(&form::written(form, rest.first(piece.length))),
            }
            rest.skip(piece.step);
        }
        self.caches().push(cache);
        if !captions.is_empty() {
            lines.finish();
        }
        lines.finished
    }

    /// [`Self::tokenize_all`] with the tokens of a caption joined by spaces. Characters of scripts that put no space
    /// between words are tokens by themselves; CoreNLP would take a whole caption for one.
    pub(crate) fn to_words<S: AsRef<str>>(&self, captions: &[S]) -> Vec<String> {
        let captions: Vec<_> = captions.iter().map(|caption| spaced(caption.as_ref())).collect();
        self.tokenize_all(&captions).into_iter().map(|tokens| tokens.join(" ")).collect()
    }

    /// The same for the captions of several images, one file for all of them.
    pub(crate) fn groups_to_words<G: AsRef<[String]>>(&self, groups: &[G]) -> Vec<Vec<String>> {
        let all: Vec<&String> = groups.iter().flat_map(AsRef::as_ref).collect();
        let mut words = self.to_words(&all).into_iter();
        groups.iter().map(|group| words.by_ref().take(group.as_ref().len()).collect()).collect()
    }

    fn caches(&self) -> MutexGuard<'_, Vec<Cache>> {
        self.caches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The captions, one a line.
fn joined<S: AsRef<str>>(captions: &[S]) -> String {
    let mut text = String::with_capacity(captions.iter().map(|caption| caption.as_ref().len() + 1).sum());
    for (index, caption) in captions.iter().enumerate() {
        if index > 0 {
            text.push('\n');
        }
        text.extend(caption.as_ref().chars().map(|character| if character == '\n' { ' ' } else { character }));
    }
    text
}

/// The part of a text that is still to come, counted in UTF-16 units.
struct Rest<'a> {
    text: &'a str,
    /// Units of the first character that are gone.
    taken: usize,
}

impl<'a> Rest<'a> {
    /// Its first units; a character of which only one unit is among them is among them.
    fn first(&self, units: usize) -> &'a str {
        let mut end = 0;
        let mut left = units + self.taken;
        for character in self.text.chars() {
            if left == 0 {
                break;
            }
            left = left.saturating_sub(character.len_utf16());
            end += character.len_utf8();
        }
        &self.text[..end]
    }

    /// Advances by this many units.
    fn skip(&mut self, units: usize) {
        self.taken += units;
        let mut start = 0;
        for character in self.text.chars() {
            if character.len_utf16() > self.taken {
                break;
            }
            self.taken -= character.len_utf16();
            start += character.len_utf8();
        }
        self.text = &self.text[start..];
    }
}

/// The tokens, line by line.
struct Lines {
    /// Without the tokens that are dropped.
    finished: Vec<Vec<String>>,
    /// With them.
    last: Vec<String>,
}

impl Lines {
    /// Adds what the tool writes, which may continue in the next line, as a tag does.
    fn push(&mut self, written: &str) {
        for (index, line) in written.split('\n').enumerate() {
            if index > 0 {
                self.finish();
            }
            self.last.extend(line.split(' ').map(str::to_lowercase));
        }
    }

    /// Ends the line as `pycocoevalcap` does, which strips it, and with it the spaces at the end of an address.
    fn finish(&mut self) {
        while let Some(token) = self.last.last_mut() {
            token.truncate(token.trim_end_matches(is_python_space).len());
            if !token.is_empty() {
                break;
            }
            self.last.pop();
        }
        self.last.retain(|token| !DROPPED.contains(&token.as_str()));
        self.finished.push(std::mem::take(&mut self.last));
    }
}

/// Whether Python strips `character`.
fn is_python_space(character: char) -> bool {
    character.is_whitespace() || ('\x1C'..='\x1F').contains(&character)
}

#[cfg(test)]
mod tests {
    //! All expectations are what the Java tool gives; `tests/reference/ptb_tokenizer.py` asks it.

    use proptest::prelude::*;

    use super::*;

    fn check(cases: &[(&str, &str)]) {
        let tokenizer = PtbTokenizer::new();
        for (caption, tokens) in cases {
            assert_eq!(tokenizer.tokenize(caption).join(" "), *tokens, "{caption:?}");
        }
    }

    fn all(captions: &[&str]) -> Vec<String> {
        PtbTokenizer::new().tokenize_all(captions).iter().map(|tokens| tokens.join(" ")).collect()
    }

    #[test]
    fn contractions_are_split() {
        check(&[
            ("isn't he wearing a hat?", "is n't he wearing a hat"),
            (
                "They can't and won't; he's sure I'm late, you're not.",
                "they ca n't and wo n't he 's sure i 'm late you 're not",
            ),
            ("we'd say they'll've gone, it'S", "we 'd say they 'll 've gone it 's"),
            ("cannot", "can not"),
            ("gonna wanna gotta lemme gimme", "gon na wan na got ta lem me gim me"),
            ("'Tis the cat, 'twas the dog", "'t is the cat 't was the dog"),
            ("the don’ts of it’s owner", "the do n’ts of it 's owner"),
            ("so&apos;s a dog&apos;s tail", "so 's a dog 's tail"),
            ("dunno y'all, y'know c'mon", "dunno y' all y' know c'mon"),
            ("couldn`t", "could n`t"),
        ]);
    }

    #[test]
    fn words_with_apostrophes_stay_whole() {
        check(&[
            ("O'Malley at six o'clock", "o'malley at six o'clock"),
            ("rock 'n' roll and rock'n'roll, more'n that", "rock 'n' roll and rock 'n' roll more 'n that"),
            ("the dogs' tails", "the dogs tails"),
            ("ol' Dunkin' coffee, somethin' nice", "ol' dunkin' coffee somethin' nice"),
            ("in the '90s and the 1980's", "in the '90s and the 1980 's"),
            ("d'ye see D'Avignon's l'amour", "d'ye see d'avignon 's l'amour"),
            ("li'l s'mores by a nor'easter, e'er so nat'l", "li'l s'mores by a nor'easter e'er so nat'l"),
            ("get 'em, 'til then 'cause", "get 'em 'til then 'cause"),
        ]);
    }

    #[test]
    fn abbreviations_keep_their_stop() {
        check(&[
            ("Mr. and Mrs. Smith on St. James Ave. by Ft. Worth", "mr. and mrs. smith on st. james ave. by ft. worth"),
            ("dogs vs. cats etc.", "dogs vs. cats etc."),
            ("Acme Inc. sells toys", "acme inc. sells toys"),
            ("Acme Co. Ltd. and Acme pty. ltd. Then", "acme co. ltd. and acme pty. ltd. then"),
            ("in fig. 3 of no. 5, but no. He says", "in fig. 3 of no. 5 but no he says"),
            ("a wash. Wash. ill. Ill.", "a wash wash. ill ill."),
            ("Jan. 3, Tues. Night", "jan. 3 tues. night"),
            ("Ph.D. students", "ph.d. students"),
        ]);
    }

    #[test]
    fn a_stop_after_an_acronym_is_both() {
        check(&[
            ("made in the U.S.A. The end", "made in the u.s.a. the end"),
            ("in the U.S. and the E.U.", "in the u.s. and the e.u."),
            ("at 5 a.m. in Washington D.C.", "at 5 a.m. in washington d.c."),
            ("plan B. The man and vitamin C. He runs", "plan b the man and vitamin c he runs"),
            ("a Sino-U.S. team", "a sino-u.s. team"),
            ("U.S.-U.K. talks", "u.s.-u.k. talks"),
        ]);
    }

    #[test]
    fn numbers_stay_whole() {
        check(&[
            ("1,000 men, 2.5 m and .5 l at -3 or +4", "1,000 men 2.5 m and .5 l at -3 or +4"),
            ("at 3:30pm or 12:15 on 12/25/2012", "at 3:30 pm or 12:15 on 12/25/2012"),
            ("the 2nd of 1st-grade 1980s", "the 2nd of 1st-grade 1980s"),
            ("5'10\" tall and 6' 2\" wide", "5 10 tall and 6 2 wide"),
            ("1/2 of 5 1/2 and 10-3/4 of 3\\/4", "1/2 of 5\u{a0}1/2 and 10-3/4 of 3\\/4"),
            ("½ a pie, 5½, ¼ ¾ ⅓ ⅔ ⅛", "1/2 a pie 5 1/2 1/4 3/4 1/3 2/3 ⅛"),
            ("x² H₂O 10⁻³", "x ² h ₂ o 10 ⁻³"),
            ("٣٫٥ and १२", "٣٫٥ and १२"),
            ("so\u{ad}ft 1\u{ad}2", "soft 12"),
        ]);
    }

    #[test]
    fn money_and_percents_are_split() {
        check(&[
            ("$5.00 or US$5 or 50%", "$ 5.00 or us$ 5 or 50 %"),
            ("#1 at £5, €6, 7¢, ¥8 and ₤9", "# 1 at # 5 $ 6 7 cents ¥ 8 and ₤ 9"),
            ("5€", "5 $"),
        ]);
    }

    #[test]
    fn telephone_numbers_are_one_token() {
        check(&[
            ("call 555-1234 or (555) 555-1234", "call 555-1234 or -lrb-555-rrb-\u{a0}555-1234"),
            (
                "call 555 555 1234, 555.555.1234 or +1 555 555 1234",
                "call 555\u{a0}555\u{a0}1234 555.555.1234 or +1 555\u{a0}555\u{a0}1234",
            ),
        ]);
    }

    #[test]
    fn hyphens_and_slashes_join_words() {
        check(&[
            ("an 8-year-old in a t-shirt.", "an 8-year-old in a t-shirt"),
            ("a black-and-white-dog, co-op; e-mail", "a black-and-white-dog co-op e-mail"),
            ("he/she and/or a/b/c w/ w/o", "he/she and/or a/b/c w / w/o"),
            ("pro-choice anti-war pro- and", "pro-choice anti-war pro- and"),
            ("a_b __init__ _", "a_b __ init __ _"),
            ("twenty\u{2010}one x\u{2011}y", "twenty\u{2010}one x\u{2011}y"),
            ("in a T.-shirt., so", "in a t.-shirt. so"),
        ]);
    }

    #[test]
    fn dashes_and_ellipses_are_dropped() {
        check(&[
            ("a - b -- c --- d ---- e", "a b c d e"),
            ("a – b — c―d &mdash; e &ndash; f", "a b c d e f"),
            ("well... so.. no.... yes…", "well so no yes"),
            ("and . . . then", "and then"),
            ("a ----- b ...... c", "a ----- b c"),
        ]);
    }

    #[test]
    fn brackets_get_names() {
        check(&[
            ("a man (smiling) [here] {now}", "a man -lrb- smiling -rrb- -lsb- here -rsb- -lcb- now -rcb-"),
            ("<3 << a >> b < c > d &lt;e&gt;", "< 3 << a >> b < c > d < e >"),
            ("-LRB- -rcb-", "-lrb- -rcb-"),
        ]);
    }

    #[test]
    fn quotes_are_dropped() {
        check(&[
            ("a \"red\" shirt with \"5\"", "a red shirt with 5"),
            ("a 'red' 'a' shirt", "a red a shirt"),
            ("“red” ‘blue’ „low‟ ‚l‛", "red blue „ low ‟ ‚ l"),
            ("``red'' `blue'", "red blue"),
            ("« oui » ‹non›", "oui non"),
            ("&quot;red&quot;", "red"),
            ("the sign reads 'STOP'", "the sign reads stop"),
        ]);
    }

    #[test]
    fn faces_stay_whole() {
        check(&[
            (":-) :o) ;P =D x", ":--rrb- :o-rrb- ;p =d x"),
            (":) :D", ":-rrb- :d"),
            ("a dog :)", "a dog :-rrb-"),
            ("^_^ -_- (^_^) ('-') (^-^)", "^_^ -_- -lrb-^_^-rrb- -lrb-'-'-rrb- -lrb-^-^-rrb-"),
            (":a c:d", "a c :d"),
        ]);
    }

    #[test]
    fn addresses_stay_whole() {
        check(&[
            (
                "see http://a.org/b?c=1&d=(e). Then https://x.de/",
                "see http://a.org/b?c=1&d= -lrb- e -rrb- then https://x.de/",
            ),
            ("www.foo.com, foo.org/bar. Bar.net", "www.foo.com foo.org/bar bar.net"),
            ("mail a.b@c.org, <x@y.com> or &lt;z@w.net&gt;", "mail a.b@c.org, <x@y.com> or &lt;z@w.net&gt;"),
            ("@user and #tag1 ##", "@user and #tag 1 ##"),
            ("a.b.jpg and prog.py, read_me.txt !", "a.b.jpg and prog.py read_me txt"),
            ("a@b.c\u{3000}", "a@b.c"),
        ]);
    }

    #[test]
    fn tags_and_entities_are_known() {
        check(&[
            (
                "a <b>bold</b> man<br/> <a href=\"x y\"> <!-- no --> <x",
                "a <b> bold </b> man <br/> <a\u{a0}href=\"x\u{a0}y\"> <!--\u{a0}no\u{a0}--> < x",
            ),
            ("R&amp;B R&B AT&T &amp; &nbsp; A&AMP;B", "r&b r&b at&t & a&b"),
            ("caf&eacute; &copy; &#39; &HT;", "caf&eacute; & copy &#39; &ht;"),
            ("S&P-500 and S&amp;Ls", "s&p-500 and s&ls"),
            ("c'est Cap'n C.D.s c++ C# f#", "c'est cap'n c.d.s c++ c# f#"),
        ]);
    }

    #[test]
    fn punctuation_is_dropped_and_symbols_are_not() {
        check(&[
            ("a, b; c: d. e! f? g?! h!!", "a b c d. e f g ?! h !!"),
            ("a * b ** c \\* d + e = f ~ g ^ h | i \\ j / k", "a * b ** c \\* d + e = f ~ g ^ h | i \\ j / k"),
            ("a & b @ c % d", "a & b @ c % d"),
            ("• · ° © ™ → ★ ¶ ¿qué? ¡no!", "• · ° © ™ → ★ ¶ ¿ qué ¡ no"),
            ("見る、食べる。", "見る 、 食べる 。"),
        ]);
    }

    #[test]
    fn spaces_of_all_kinds_part_words() {
        check(&[
            ("a\u{a0}b\u{3000}c\u{2003}d\te", "a b c d e"),
            ("  a   b  ", "a b"),
            ("", ""),
            ("   ", ""),
            ("a\u{200b}b\u{feff}c", "a b c"),
        ]);
    }

    #[test]
    fn letters_of_all_scripts_make_words() {
        check(&[
            ("Café NAÏVE ÜBER ß", "café naïve über ß"),
            ("Ελληνικά ΣΟΦΟΣ", "ελληνικά σοφος"),
            ("ПРИВЕТ мир", "привет мир"),
            ("你好 日本語 カタカナ 한국어", "你好 日本語 カタカナ 한국어"),
            ("नमस्ते สวัสดี", "नमस्ते สวัสดี"),
            ("e\u{301}te\u{301}", "e\u{301}te\u{301}"),
            ("\u{212A} ſ İ ı", "k ſ i\u{307} ı"),
            ("a ᲀb Ა", "a b"),
        ]);
    }

    #[test]
    fn what_is_unknown_is_dropped() {
        check(&[
            ("a 😀 dog 👍🏽 🇺🇸", "a dog"),
            ("a😀b", "a b"),
            ("😀.com a😀@b.c", "😀.com a😀@b.c"),
            ("etc.😀 x", "etc. x"),
            ("བོད་སྐད", "བ ད ས ད"),
            ("a\u{1}b\u{0}c\u{7f}d", "a b c d"),
        ]);
    }

    #[test]
    fn stops_inside_words_stay() {
        check(&[
            ("The end.Then yes!no what?so", "the end.then yes!no what?so"),
            ("dog. cat", "dog cat"),
            ("a.b. c", "a.b. c"),
            ("word.; next., x", "word. next. x"),
        ]);
    }

    #[test]
    fn the_next_caption_decides_on_a_final_stop() {
        assert_eq!(all(&["the letter P."]), ["the letter p."]);
        assert_eq!(all(&["the letter P.", "a man"]), ["the letter p.", "a man"]);
        assert_eq!(all(&["the letter P.", "A man"]), ["the letter p", "a man"]);
        assert_eq!(all(&["the letter P.", "", "The man", "b"]), ["the letter p", "", "the man", "b"]);
    }

    #[test]
    fn the_last_caption_has_no_line_end() {
        assert_eq!(all(&["in '90", "see 0.c", "a :)", "x"]), ["in '90", "see 0.c", "a :-rrb-", "x"]);
        assert_eq!(all(&["x", "in '90"]), ["x", "in 90"]);
        assert_eq!(all(&["see 0.c"]), ["see 0 c"]);
        assert_eq!(all(&["a :)"]), ["a -rrb-"]);
        check(&[("in '90", "in '90"), ("see 0.c", "see 0.c"), ("a :)", "a :-rrb-")]);
    }

    #[test]
    fn each_caption_has_its_tokens_whatever_line_ends_it_contains() {
        assert_eq!(all(&[]), [""; 0]);
        assert_eq!(all(&["", "a", "", ""]), ["", "a", "", ""]);
        assert_eq!(all(&["a\nb", "c\r\nd\r", "e\u{2028}f"]), ["a b", "c d", "e f"]);
        assert_eq!(all(&["a <b c=\"d", "e\"> f"]), ["a <b\u{A0}c=\"d", "e\"> f"], "a tag continues in the next line");
    }

    #[test]
    fn long_captions_that_begin_more_than_they_end_are_tokenized() {
        let tokenizer = PtbTokenizer::new();
        for (piece, tokens) in [("a,", 1), ("<!a ", 2), ("a@b ", 1), ("x=", 2), ("a-.", 1), ("😀", 0)] {
            let caption = piece.repeat(20_000);
            assert_eq!(tokenizer.tokenize(&caption).len(), 20_000 * tokens, "{piece:?}");
        }
    }

    #[test]
    fn threads_may_share_a_tokenizer() {
        let tokenizer = PtbTokenizer::new();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        assert_eq!(tokenizer.tokenize("Isn't it a dog's?"), ["is", "n't", "it", "a", "dog", "'s"]);
                    }
                });
            }
        });
    }

    proptest! {
        #[test]
        fn any_text_is_tokenized_without_what_is_dropped(captions in prop::collection::vec(any::<String>(), 0..4)) {
            let lines = PtbTokenizer::new().tokenize_all(&captions);
            prop_assert_eq!(lines.len(), captions.len());
            for token in lines.iter().flatten() {
                prop_assert!(!DROPPED.contains(&token.as_str()) && !token.contains([' ', '\n']), "{:?}", token);
            }
        }
    }
}
