//! Formulas in a text: `$…$`, `$$…$$`, `\(…\)`, `\[…\]`, and aligned environments.

use super::prose::is_prose;

/// A formula, with its delimiters from `start` to `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment<'a> {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) content: &'a str,
}

/// Every formula, in order. A dollar sign that opens none is a currency's.
pub(super) fn segments(text: &str) -> Vec<Segment<'_>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(offset) = text[at..].find(['$', '\\']) {
        let start = at + offset;
        match one(text, start) {
            Some(segment) => {
                at = segment.end;
                found.push(segment);
            }
            None => {
                let escaped = text[start..].starts_with('\\')
                    && text[start + 1..].starts_with(|c: char| !c.is_ascii_alphabetic());
                let skip = if escaped {
                    text[start + 1..].chars().next().map_or(0, char::len_utf8)
                } else {
                    0
                };
                at = start + 1 + skip;
            }
        }
    }
    found
}

fn one(text: &str, start: usize) -> Option<Segment<'_>> {
    let rest = &text[start..];
    let between = |open: &str, close: &str| {
        let inside = rest.strip_prefix(open)?;
        let length = closing(inside, close)?;
        let end = start + open.len() + length + close.len();
        Some(Segment { start, end, content: &inside[..length] })
    };
    if rest.starts_with("$$") {
        return between("$$", "$$");
    }
    if rest.starts_with('$') {
        // Inline formulas end with their line, and are not sentences between two prices.
        let segment = between("$", "$")?;
        let fits = !segment.content.trim().is_empty()
            && !segment.content.trim().contains('\n')
            && !is_prose(segment.content);
        return fits.then_some(segment);
    }
    for (open, close) in [("\\[", "\\]"), ("\\(", "\\)")] {
        if rest.starts_with(open) {
            return between(open, close);
        }
    }
    for name in ["align*", "align", "equation*", "equation", "gather*", "gather", "aligned"] {
        if rest.strip_prefix("\\begin{").is_some_and(|rest| rest.starts_with(name)) {
            let close = format!("\\end{{{name}}}");
            let length = rest.find(&close)?;
            let end = start + length + close.len();
            return Some(Segment { start, end, content: &text[start..end] });
        }
    }
    None
}

/// Where the delimiter stands that is not escaped; formulas are bounded.
fn closing(inside: &str, close: &str) -> Option<usize> {
    const LONGEST: usize = 2_048;
    let mut longest = LONGEST.min(inside.len());
    while !inside.is_char_boundary(longest) {
        longest -= 1;
    }
    let inside = &inside[..longest];
    let mut at = 0;
    loop {
        let found = at + inside[at..].find(close)?;
        if close.starts_with('$') && inside[..found].ends_with('\\') {
            at = found + 1;
            continue;
        }
        return Some(found);
    }
}
