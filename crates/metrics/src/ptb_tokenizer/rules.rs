//! The tokenizer's rules, in order: of the rules with the longest match the first one wins.
//!
//! Together they take every text apart as the lexer of CoreNLP 3.4.1 does: the automaton of these rules and the one in
//! its jar agree in all states that they reach together.
//!
//! Patterns are regular expressions over the classes of [`super::classes`], one byte per UTF-16 unit, with two
//! liberties that [`expand`] takes away: `{Name}` stands for a definition, and a letter outside brackets stands for
//! both of its cases.

use Extent::{AllBut, BeforeApostrophe, BeforeLineEnd, BeforeNot, BeforeSpace, FirstUnit, ThroughStop, Whole};
use Form::{
    AcronymAndStop, Ampersand, Brackets, ClosingQuote, Currency, Dropped, Fixed, Fraction, Hyphens, LineEnd, NoBreak,
    NoBreakBrackets, OpeningQuote, Text, TextAndStop, Word,
};

/// How much of a match belongs to the token; the rest is looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    Whole,
    /// All but this many units at the end.
    AllBut(usize),
    FirstUnit,
    /// What precedes the first space or line end.
    BeforeSpace,
    /// What precedes the last apostrophe, which may be an entity.
    BeforeApostrophe,
    /// What precedes the `n` of a final `n't`.
    BeforeNot,
    /// Up to the first full stop.
    ThroughStop,
    /// All but the last unit or line end.
    BeforeLineEnd,
}

/// What becomes of a token's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// It is not a token.
    Dropped,
    LineEnd,
    /// It stays.
    Text,
    /// It is replaced.
    Fixed(&'static str),
    /// Soft hyphens go.
    Word,
    /// Entities of an ampersand become one.
    Ampersand,
    /// Quotes become those of LaTeX, straight ones opening ones.
    OpeningQuote,
    /// Quotes become those of LaTeX, straight ones closing ones.
    ClosingQuote,
    /// A fraction is written out.
    Fraction,
    /// A currency becomes one that the Penn Treebank has.
    Currency,
    /// Spaces become no-break spaces.
    NoBreak,
    /// Round brackets get their name.
    Brackets,
    /// Both of them.
    NoBreakBrackets,
    /// Three or four become two.
    Hyphens,
    /// It stays, and its full stop is looked at again.
    TextAndStop,
    /// The same, but of a single letter the full stop goes.
    AcronymAndStop,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    pub(super) pattern: &'static str,
    pub(super) extent: Extent,
    pub(super) form: Form,
}

const fn rule(pattern: &'static str, extent: Extent, form: Form) -> Rule {
    Rule { pattern, extent, form }
}

/// What the patterns call by name.
const DEFINITIONS: &[(&str, &str)] = &[
    ("Space", r"[ \t\x86\x8F]"),
    ("LineEnd", r"(\r?\n|[\r\x0B\x0C\x87\x88])"),
    ("Blank", r"({Space}|{LineEnd})"),
    ("Letter", r"[A-Za-z\x81-\x84\x93\x94]"),
    ("Upper", r"[A-Z\x83\x84\x89\x94\x9E]"),
    ("Digit", r"[0-9\x8A]"),
    ("Alphanumeric", r"[{Letter}{Digit}]"),
    ("Apostrophe", r"(['\x97]|&apos;)"),
    // Includes what stands for an apostrophe inside words, rightly or not.
    ("InnerApostrophe", r"({Apostrophe}|[`\x98])"),
    ("Inside", r"[,;:\x9B]"),
    // Letters, marks, soft hyphens and the entities of accented vowels.
    ("Character", r"([{Letter}\x95\x96]|&[AEIOUaeiou](acute|grave|uml);)"),
    ("WordPart", r"{Character}({Character}|{Digit})*"),
    ("Word", r"{WordPart}([.!?]{WordPart})*"),
    // What n't follows cannot end with n.
    ("BeforeNot", r"[A-Za-z\x96]*[A-MO-Za-mo-z]\x96*"),
    ("Not", r"n{InnerApostrophe}t"),
    ("Auxiliary", r"{Apostrophe}([DMSdms]|ll|re|ve)"),
    ("TagName", r"[A-Za-z][A-Za-z0-9_:.\-]*"),
    ("TagValue", r"('[^']*'|\x22[^\x22]*\x22)"),
    ("Tag", r"<([!?][A-Za-z\-][^>\r\n]*|{TagName}( +{TagName}( *= *{TagValue})?)* */?|/{TagName}) *>"),
    ("Number", r"[+\-]?({Digit}+|{Digit}*([.:,\x8B\x96]{Digit}+)+)"),
    // How telephone numbers begin.
    ("AreaInBrackets", r"\([0-9]{2,3}\)[ \x8F]?"),
    ("Area", r"(\+\+?)?([0-9]{2,4}[- \x8F])?[0-9]{2,4}[- \x8F]"),
    ("Slash", r"(\\?/)"),
    // Words joined by hyphens, each perhaps after an elided article as in d'Avignon.
    ("Elided", r"([DLOdlo]{InnerApostrophe}{Alphanumeric})?{Alphanumeric}+"),
    ("Thing", r"{Elided}([-_\x99]{Elided})*"),
    ("AmpersandWord", r"[A-Z]+(([+&]|&amp;)[A-Z]+)+"),
    ("Hyphenated", r"[A-Za-z0-9][A-Za-z0-9.,\x96]*(-([A-Za-z0-9\x96]+|{Acronym}\.))+"),
    ("NationalAcronym", r"(Canada|EU|Japan|Korean|non|Sino)-U\.S|U\.S\.-U\.(K|S\.S\.R)"),
    ("Acronym", r"([A-Za-z](\.[A-Za-z])+|{NationalAcronym})"),
    ("LetterOrAcronym", r"([A-Za-z]|{Acronym})"),
    // Mostly before lower case: before upper case they end a sentence.
    (
        "Abbreviation",
        concat!(
            "(al|Ala|Apr|Ariz|[A]rk|Assn|Aug|[A]z|Bancorp|Bhd|Bldg|Blvd|Bros|Calif|Colo|Conn|Corp|Cos?|Ct|Dak|Dec",
            r"|[D]el|(Ed|Ph)\.D|Esq|est|etc|ext|Feb|Fla|Fri|Ga|[I]ll|Inc|Ind|Intl|Jan|Jr|Jul|Jun|Kans?|Ky|[L]a|Ltd|Mar",
            "|[M]ass|Md|Mich|Minn|[M]iss|Mo|Mon|Mont|Neb|Nev|Nov|Oct|Okla|[O]re|[P]a|Penn|Plc|Pp?t[ey]s?|Rd|Rt|Sep",
            r"|Sept|seq|sq|Sr|Sys|tel|Tenn|[T]ex|Thu|Thurs|Tue|Tues|Univ|Va|Vt|[W]ash|Wed|Wisc?|Wyo)\.",
        ),
    ),
    // Mostly before a name: they end no sentence.
    (
        "Title",
        concat!(
            r"(Adj|Adm|Adv|a\.k\.a|Alex|Assoc|Asst|Attys?|Ave|Brig|Capt|cf|Cie|Cmdr|Col|Comdr|Cpl|Dept|Det|Drs?|Elec",
            "|Ens|Ft|Gen|Govs?|Hon|Insp|Invt|Jos|Lieut|Lt|Maj|Messrs|M[ft]g|[M]iss|Mlle|Mme|Mr|Mrs|Ms|Msgr|Mt|Natl|Pfc",
            "|Ph|Pres|Profs?|Pvt|Reps?|Rev|Sens?|Sfc|Sgt|Spc|Ste?|Supts?|TREAS|vs|Wm|{LetterOrAcronym})",
        ),
    ),
    // Words that begin a sentence: only with a capital letter, so that the stop before them ends the last one.
    (
        "Opening",
        concat!(
            "([A](bout|ccording|dditionally|fter|n|s|t)?|[B]ut|[E]arlier|[H](e|er|ere|owever)|[I](f|n|t)|[L]ast",
            r"|[M](any|ore|r\.|s\.)|[N]ow|[O](nce|ne|ther|ur)|[S](he|ince|o|ome|uch)|[T](h(at|e|eir|en|ere|ese|ey|is))",
            "|[W](e|hen|hile|hat)|[Y](et|ou)|{Tag})",
        ),
    ),
    (
        "FileType",
        concat!(
            "(bat|bmp|c|class|cgi|cpp|dll|docx?|exe|gif|gz|h|html?|jar|java|jpe?g|mov|mp3|pdf|php|pl|png|ppt|ps|py|sql",
            "|tar|txt|wav|x|xml|zip)",
        ),
    ),
    // What ends an address.
    ("Delimiter", r"[ \t\n\x0C\r\x22<>|()]"),
    ("AddressEnd", r"[^{Delimiter}{}.,!?\-]"),
    ("WorldWideHost", r"www\.([^{Delimiter}{}.,!?]+\.)+[A-Za-z]{2,4}"),
    // A slip: all that ASCII has from the comma to the underscore is excluded, with digits and capital letters.
    ("OtherHost", r"([^{Delimiter}{},-_!'`$]+\.)+(com|edu|net|org)"),
    ("EmailUnit", r"[^{Delimiter}{}\x8F]"),
    ("EmailPart", r"[^{Delimiter}{}.\x8F]+"),
    ("Quote", r"({Apostrophe}|''|[`\x97\x98\x9C]{1,2})"),
    ("Eye", r"[-^x=~<>']"),
    ("OpenEye", r"[\^x=~<>']"),
    ("Mouth", r"[()DPdpO\\{@|\[\]]"),
];

/// The rules.
pub(super) const RULES: &[Rule] = &[
    // Words, contracted and whole.
    rule(r"cannot|'twas", AllBut(3), Text),
    rule(r"'tis|gimme|gonna|gotta|lemme|wanna", AllBut(2), Text),
    rule(r"{Word}{Auxiliary}", BeforeApostrophe, Word),
    rule(r"{BeforeNot}{Not}", BeforeNot, Word),
    rule(r"{Word}", Whole, Word),
    rule(r"{Apostrophe}(cause|em|n{Apostrophe}?|till?|[2-9]0s)|([DJLdjl]|Dunkin|ol|somethin){Apostrophe}", Whole, Text),
    rule(r"c'mon|cont'd\.?|e'er|ev'ry|li'l|nat'l|nor'easter|O{InnerApostrophe}o|s'mores", Whole, Text),
    rule(r"[A-HJ-XZn]{InnerApostrophe}{Letter}{2}{Letter}*", Whole, Text),
    rule(r"{Letter}+[AEIOUYaeiouy]{InnerApostrophe}[A-Zaeiou]{Letter}*", Whole, Text),
    rule(r"y{Apostrophe}{Letter}", AllBut(1), Text),
    rule(r"({Auxiliary}|{Not})[^A-Za-z]", AllBut(1), ClosingQuote),
    // Addresses.
    rule(r"{Tag}", Whole, NoBreak),
    rule(r"https?://[^{Delimiter}{}]+{AddressEnd}", Whole, Text),
    rule(r"({WorldWideHost}|{OtherHost})(/[^{Delimiter}]+{AddressEnd})?", Whole, Text),
    rule(r"(<|&lt;)?[A-Za-z0-9]{EmailUnit}*@({EmailPart}\.)*{EmailPart}(>|&gt;)?", Whole, Text),
    rule(r"@[A-Za-z_][A-Za-z0-9_]*|#{Character}+", Whole, Text),
    // Numbers.
    rule(r"{Digit}{1,2}[-/]{Digit}{1,2}[-/]{Digit}{2,4}", Whole, Text),
    rule(r"{Number}", Whole, Word),
    rule(r"\x8C?(\x8D+|\x8E+)", Whole, Text),
    rule(r"({Digit}{1,4}[- \x8F])?{Digit}{1,4}({Slash}|\x90){Digit}{1,4}", Whole, NoBreak),
    rule(r"\x91", Whole, Fraction),
    rule(r"[A-Z]*\$|#", Whole, Text),
    rule(r"\x92", Whole, Currency),
    rule(r"({AreaInBrackets}|{Area})[0-9]{3,4}[- \x8F]?[0-9]{3,5}", Whole, NoBreakBrackets),
    rule(r"((\+\+?)?[0-9]{2,4}\.)?[0-9]{2,4}\.[0-9]{3,4}\.[0-9]{3,5}", Whole, NoBreakBrackets),
    rule(r"{Apostrophe}[0-9]{2}{Blank}", BeforeSpace, Text),
    // Faces.
    rule(r"[<>]?[:;=][-o*']?{Mouth}[^A-Za-z0-9]", AllBut(1), Brackets),
    rule(r"{Eye}_{Eye}|\({Eye}[_.]?{Eye}\)|\({OpenEye}-[{OpenEye}`]\)", Whole, Brackets),
    // A slip in the tool's own rule, where ~ means "up to".
    rule(r"[\^x=~<>]\.\[\^x=[^<]*<>\]", Whole, Brackets),
    // Compounds.
    rule(r"c\+\+|(c|f)#", Whole, Text),
    rule(r"-(L|R)(C|R|S)B-|anti-|pro-|C\.D\.s|c{Apostrophe}est|Cap{Apostrophe}n", Whole, Ampersand),
    rule(r"S(&|&amp;)(Ls|P-500)", Whole, Ampersand),
    rule(r"[A-Za-z0-9]+(-[A-Za-z]+){0,2}({Slash}[A-Za-z0-9]+(-[A-Za-z]+){0,2}){1,2}", Whole, Text),
    // Abbreviations.
    rule(r"{LetterOrAcronym}\.{Blank}+{Opening}{Blank}", BeforeSpace, AcronymAndStop),
    rule(r"(art|bldg|ca|figs?|nos?|op|pp|prop)\.{Blank}?{Digit}", ThroughStop, Text),
    rule(r"(co|pt[EYey])\.{Space}(ltd|lim)", AllBut(4), Text),
    rule(r"{Abbreviation}{Blank}({Blank}|{Upper}|{Tag})", BeforeSpace, TextAndStop),
    rule(r"{Abbreviation}[\x00-\xFF]{2}", AllBut(2), Text),
    rule(r"{Abbreviation}", Whole, TextAndStop),
    rule(r"{Title}\.", Whole, Text),
    rule(r"{Title}{Space}", AllBut(1), Text),
    rule(r"{LetterOrAcronym}{Blank}", BeforeSpace, Text),
    rule(r"({Character}|{Digit})+(\.({Character}|{Digit})+)*\.{FileType}({Blank}|[.?!,])", BeforeLineEnd, Text),
    rule(r"{Word}\.{Inside}", AllBut(1), Word),
    rule(r"{Hyphenated}\.{Inside}", AllBut(1), Word),
    rule(r"{Hyphenated}", Whole, Word),
    rule(r"{Thing}\.{Inside}", AllBut(1), Text),
    rule(r"{Thing}", Whole, Text),
    rule(r"{AmpersandWord}\.{Inside}", AllBut(1), Ampersand),
    rule(r"{AmpersandWord}|&amp;", Whole, Ampersand),
    // Quotes.
    rule(r"(\x22|&quot;)[A-Za-z0-9$]", AllBut(1), OpeningQuote),
    rule(r"'[A-Za-z][^ \t\r\n\x8F]", FirstUnit, OpeningQuote),
    rule(r"\x22|&quot;|{Quote}|{Auxiliary}|{Not}", Whole, ClosingQuote),
    // Brackets.
    rule(r"<|&lt;", Whole, Fixed("<")),
    rule(r">|&gt;", Whole, Fixed(">")),
    rule(r"\(", Whole, Fixed("-LRB-")),
    rule(r"\)", Whole, Fixed("-RRB-")),
    rule(r"\[", Whole, Fixed("-LSB-")),
    rule(r"\]", Whole, Fixed("-RSB-")),
    rule(r"\{", Whole, Fixed("-LCB-")),
    rule(r"\}", Whole, Fixed("-RCB-")),
    // Punctuation and symbols.
    rule(r"&(MD|mdash|ndash);|\x85", Whole, Fixed("--")),
    rule(r"-+", Whole, Hyphens),
    rule(r"\.{3,5}|(\.[ \x8F]){2,4}\.|[\x88\x9A]", Whole, Fixed("...")),
    rule(r"&(cdq|HT|LR|odq|QC|QL|QR|TL|UR|#[0-9]+);", Whole, Text),
    rule(r"@+|#+|_+|\*+|(\\\*){1,3}|[?!]+|<<|>>|[.=/+%&~^|\\{Inside}\x8C\x90\x9D\x9E]", Whole, Text),
    // Space, and what is not known.
    rule(r"{LineEnd}", Whole, LineEnd),
    rule(r"&nbsp;|{Space}+|[^\n]", Whole, Dropped),
];

/// Whether a unit of this class is a space or a line end.
pub(super) fn is_blank(class: u8) -> bool {
    matches!(class, b'\t'..=b'\r' | b' ' | 0x86..=0x88 | 0x8F)
}

/// The regular expression for a pattern.
pub(super) fn expand(pattern: &str) -> String {
    let mut expanded = String::new();
    expand_into(pattern, &mut expanded);
    expanded
}

fn expand_into(pattern: &str, expanded: &mut String) {
    let mut depth = 0_usize;
    let mut rest = pattern;
    while let Some(first) = rest.chars().next() {
        let mut length = first.len_utf8();
        match first {
            '{' if rest[1..].starts_with(|c: char| c.is_ascii_uppercase()) => {
                let (name, _) = rest[1..].split_once('}').expect("a name in a pattern ends with a brace");
                let (_, definition) =
                    DEFINITIONS.iter().find(|(known, _)| *known == name).expect("a name in a pattern is defined");
                length = name.len() + 2;
                if definition.starts_with('[') && definition.ends_with(']') {
                    expand_into(definition, expanded);
                } else {
                    expanded.push_str("(?:");
                    expand_into(definition, expanded);
                    expanded.push(')');
                }
            }
            '\\' => {
                length = if rest[1..].starts_with('x') { 4 } else { 2 };
                expanded.push_str(&rest[..length]);
            }
            '[' => {
                depth += 1;
                expanded.push('[');
            }
            ']' => {
                depth -= 1;
                expanded.push(']');
            }
            '(' if depth == 0 => expanded.push_str("(?:"),
            'i' | 'I' if depth == 0 => expanded.push_str(r"[iI\x82\x83]"),
            'k' | 'K' if depth == 0 => expanded.push_str(r"[kK\x84]"),
            's' | 'S' if depth == 0 => expanded.push_str(r"[sS\x81]"),
            letter if depth == 0 && letter.is_ascii_alphabetic() => {
                expanded.extend(['[', letter.to_ascii_lowercase(), letter.to_ascii_uppercase(), ']']);
            }
            other => expanded.push(other),
        }
        rest = &rest[length..];
    }
}
