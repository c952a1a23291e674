//! An error and its sources on one line, for the edges where an error turns into text.

use std::error::Error;

/// `what was tried: why: why that`, each said once.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // A transparent variant passes its source's text on; saying it twice helps nobody.
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
