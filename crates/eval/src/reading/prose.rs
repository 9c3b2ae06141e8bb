//! Telling sentences from expressions.

use crate::equivalence::is_mathematical_word;

/// Whether a text has words that no expression has.
pub(super) fn is_prose(text: &str) -> bool {
    words(text).any(is_english)
}

/// Runs of letters outside commands and `\text{…}`.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            let first = rest.chars().next()?;
            if let Some(after) = rest.strip_prefix('\\') {
                let length = after.bytes().take_while(u8::is_ascii_alphabetic).count();
                let name = &after[..length];
                rest = &after[length..];
                if length == 0 {
                    rest = &after[after.chars().next().map_or(0, char::len_utf8)..];
                } else if is_wrapper(name)
                    && let Some(inside) = rest.trim_start().strip_prefix('{')
                {
                    rest = inside.find('}').map_or("", |end| &inside[end + 1..]);
                }
                continue;
            }
            if !first.is_alphabetic() {
                rest = &rest[first.len_utf8()..];
                continue;
            }
            let end = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
            let word = &rest[..end];
            rest = &rest[end..];
            return Some(word);
        }
    })
}

fn is_wrapper(name: &str) -> bool {
    name.starts_with("text")
        || matches!(name, "mathrm" | "mbox" | "hbox" | "operatorname" | "begin" | "end")
}

fn is_english(word: &str) -> bool {
    let length = word.chars().count();
    if length < 2 || is_mathematical_word(word) {
        return false;
    }
    length > 3
        || matches!(
            &word.to_ascii_lowercase()[..],
            "is" | "it"
                | "so"
                | "we"
                | "no"
                | "of"
                | "to"
                | "by"
                | "be"
                | "as"
                | "at"
                | "an"
                | "do"
                | "if"
                | "in"
                | "on"
                | "he"
                | "my"
                | "us"
                | "up"
                | "the"
                | "are"
                | "was"
                | "for"
                | "not"
                | "but"
                | "has"
                | "had"
                | "can"
                | "all"
                | "any"
                | "one"
                | "two"
                | "six"
                | "ten"
                | "out"
                | "her"
                | "his"
                | "its"
                | "yes"
                | "you"
                | "our"
                | "get"
                | "let"
                | "now"
                | "how"
                | "per"
                | "way"
                | "who"
        )
}
