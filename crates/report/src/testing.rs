//! What each page is tested for.

/// A text that would act on a browser.
pub(super) const HOSTILE: &str = "</script><img src=x onerror=alert(1)>\"'&\u{2028}\u{202e}";

/// Asserts that a page whose every text is [`HOSTILE`] has no other markup than the same page of plain texts.
#[track_caller]
pub(super) fn assert_no_markup(hostile: &str, plain: &str) {
    for sign in ["<img src=x", "onerror=alert(1)>", "\u{2028}", "\u{202e}"] {
        assert!(!hostile.contains(sign), "{sign:?}");
    }
    for tag in ["<script", "</script", "<img", "<style", "<a "] {
        assert_eq!(hostile.matches(tag).count(), plain.matches(tag).count(), "{tag}");
    }
    assert!(hostile.contains("⟨U+202E⟩") && hostile.contains("&lt;img src=x"));
}
