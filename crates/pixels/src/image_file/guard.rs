//! Runs third-party decoders so that a panic in one becomes an error about one picture.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

use base::error::failure;

thread_local! {
    /// Whether this thread runs a decoder whose panic is caught here.
    static IS_GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// What `decode` gives. A panic in it becomes an error, and the panic hook does not see it: it would print a message
/// that names no picture. Panics elsewhere reach the hook as before.
pub fn guarded<T>(decode: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    caught(decode).unwrap_or_else(|panic| {
        let message = format!("the decoder failed on it: {panic}");
        Err(failure(message, "convert it to another format or leave it out"))
    })
}

/// What `work` gives, or the message of its panic. For code of others that reads files of unknown origin.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |panic| {
            if !IS_GUARDED.get() {
                before(panic);
            }
        }));
    });
    let outer = IS_GUARDED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    IS_GUARDED.set(outer);
    result.map_err(|panic| message(panic.as_ref()).to_owned())
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use base::error::describe;

    #[test]
    fn a_decoder_that_panics_is_an_error_and_the_next_picture_is_decoded() {
        let text = describe(&guarded(|| -> anyhow::Result<()> { panic!("row {} of 3", 4) }).unwrap_err());
        assert_eq!(text, "the decoder failed on it: row 4 of 3\n  hint: convert it to another format or leave it out");
        let nested = guarded(|| Ok(guarded(|| -> anyhow::Result<()> { panic!("inner") }).is_err())).unwrap();
        assert!(nested && !IS_GUARDED.get());
        assert_eq!(guarded(|| Ok(7)).unwrap(), 7);
    }

    #[test]
    fn the_panic_hook_hears_of_other_panics_and_not_of_a_decoders() {
        static HEARD: AtomicUsize = AtomicUsize::new(0);
        assert!(caught(|| ()).is_ok());
        let before = take_hook();
        set_hook(Box::new(move |panic| {
            if panic.payload().downcast_ref::<&str>().is_some_and(|text| text.starts_with("heard")) {
                HEARD.fetch_add(1, Ordering::SeqCst);
            } else {
                before(panic);
            }
        }));
        assert!(catch_unwind(|| panic!("heard outside")).is_err());
        assert_eq!(HEARD.load(Ordering::SeqCst), 1);
        // Whoever sets a hook later hears all; what was there before is silenced.
        assert!(caught(|| panic!("not for the terminal")).is_err());
    }
}
