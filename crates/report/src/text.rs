//! Untrusted text: names from a recorded program, made harmless to read.
//!
//! The page never treats text as markup, so this is not about scripts. It is about characters
//! that make a name look like another (direction overrides) and names that are books.

use std::borrow::Cow;

/// Longest text kept, in characters. C++ template names run to tens of thousands; beyond this
/// the middle is left out, since both ends tell functions apart.
const TEXT_CHARS_MAX: usize = 1200;

/// Whether a character would change the look of its neighbours or has none of its own.
fn is_treacherous(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// The text with treacherous characters shown as U+FFFD and the middle of a book left out.
///
/// O(length); borrows when there is nothing to do.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    let mut cleaned = Cow::Borrowed(text);
    if text.chars().any(is_treacherous) {
        cleaned = Cow::Owned(
            text.chars().map(|c| if is_treacherous(c) { '\u{fffd}' } else { c }).collect(),
        );
    }
    if cleaned.len() > TEXT_CHARS_MAX {
        let count = cleaned.chars().count();
        if count > TEXT_CHARS_MAX {
            let half = TEXT_CHARS_MAX / 2;
            let head = cleaned.chars().take(half);
            let tail = cleaned.chars().skip(count - half);
            cleaned = Cow::Owned(head.chain(['…']).chain(tail).collect());
        }
    }
    cleaned
}

/// [`clean`] in place.
pub(crate) fn clean_in_place(text: &mut String) {
    if let Cow::Owned(cleaned) = clean(text) {
        *text = cleaned;
    }
}

#[cfg(test)]
mod tests {
    use super::{TEXT_CHARS_MAX, clean};
    use std::borrow::Cow;

    #[test]
    fn ordinary_names_are_borrowed() {
        let name = "core::ops::Fn<(&'a str,)>::call — naïve 你好";
        assert!(matches!(clean(name), Cow::Borrowed(same) if same == name));
    }

    #[test]
    fn direction_overrides_and_controls_are_shown() {
        assert_eq!(clean("a\u{202e}b\0c\u{feff}"), "a\u{fffd}b\u{fffd}c\u{fffd}");
    }

    #[test]
    fn long_names_keep_both_ends() {
        let name = format!("begin{}end", "é".repeat(50_000));
        let short = clean(&name);
        assert_eq!(short.chars().count(), TEXT_CHARS_MAX + 1);
        assert!(short.starts_with("begin") && short.ends_with("end") && short.contains('…'));
    }
}
