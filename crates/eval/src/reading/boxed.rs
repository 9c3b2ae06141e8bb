//! Boxes: `\boxed{…}`, `\fbox{…}`, `\framebox{…}`.

use super::Answer;

/// The box that counts, and where it ends.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) answer: Answer,
    pub(super) end: usize,
}

#[derive(Debug, Clone, Copy)]
struct Box<'a> {
    start: usize,
    end: usize,
    content: &'a str,
}

/// Boxes of one answer at most: a list longer than this is none.
const JOINED: usize = 64;
/// Bytes of a box; longer ones are no answers.
const LONGEST: usize = 16_384;
/// Text between two boxes that are joined.
const BETWEEN: usize = 60;

/// The last box that holds anything; with those before it, where nothing but commas and "and" lie between.
pub(super) fn last(text: &str) -> Option<Found> {
    // From the end: a text may hold thousands of boxes, and only the last few matter.
    let mut boxes: Vec<Box<'_>> = Vec::new();
    let mut end = text.len();
    while boxes.len() < JOINED
        && let Some(start) = text[..end].rfind(['\\', '\u{8}'])
    {
        end = start;
        let Some(found) = at(text, start) else { continue };
        if found.content.trim().is_empty() {
            continue;
        }
        match boxes.last_mut() {
            // A box around a box.
            Some(inner) if found.end > inner.start => *inner = found,
            Some(after) if !joins(&text[found.end..after.start]) => break,
            _ => boxes.push(found),
        }
    }
    let last = *boxes.first()?;
    boxes.reverse();
    let mut parts: Vec<&str> = Vec::new();
    for found in &boxes {
        let content = found.content.trim();
        // The same box twice is one answer said twice.
        if !parts.contains(&content) {
            parts.push(content);
        }
    }
    let how = if parts.len() > 1 { "boxed, several joined" } else { "boxed" };
    let mut content = parts.join(", ");
    if parts.len() == 1 && percent_follows(&text[last.end..]) && !content.contains('%') {
        content.push_str("\\%");
    }
    Some(Found { answer: Answer { text: content, math: true, how }, end: last.end })
}

/// Whether a text has a box, be it empty.
pub(super) fn opens(text: &str) -> bool {
    text.match_indices('\\').any(|(start, _)| at(text, start).is_some())
}

/// The box that begins here.
fn at(text: &str, start: usize) -> Option<Box<'_>> {
    // A backspace and `oxed` is what JSON makes of `\boxed` with a single backslash.
    const NAMES: &[&str] = &["\\boxed", "\\fbox", "\\framebox", "\u{8}oxed"];
    let name = NAMES.iter().find(|name| text[start..].starts_with(**name))?;
    let after = &text[start + name.len()..];
    if after.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return None;
    }
    let mut argument = after.trim_start();
    if *name == "\\framebox" && argument.starts_with('[') {
        argument = argument.split_once(']').map_or("", |(_, rest)| rest.trim_start());
    }
    let (content, rest) = match argument.strip_prefix('{') {
        Some(inside) => balanced(inside),
        None => {
            let end = argument.find(|c: char| c.is_whitespace() || matches!(c, '$' | '.' | ','));
            argument.split_at(end.unwrap_or(argument.len()))
        }
    };
    Some(Box { start, end: text.len() - rest.len(), content })
}

/// The text up to the brace that closes, and what follows. A box that never closes ends with its line or formula.
fn balanced(inside: &str) -> (&str, &str) {
    let mut depth = 1;
    let mut escaped = false;
    for (at, byte) in inside.bytes().enumerate().take(LONGEST) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return (&inside[..at], &inside[at + 1..]);
        }
    }
    let mut longest = LONGEST.min(inside.len());
    while !inside.is_char_boundary(longest) {
        longest -= 1;
    }
    let line = &inside[..longest];
    let ends = ["\n", "$", "\\]", "\\)"].iter().filter_map(|mark| line.find(mark)).min();
    inside.split_at(ends.unwrap_or(longest))
}

/// Whether what lies between two boxes makes them parts of one answer.
fn joins(between: &str) -> bool {
    if between.len() > BETWEEN {
        return false;
    }
    let plain = [
        "\\quad", "\\qquad", "\\text", "\\mathrm", "\\(", "\\)", "\\[", "\\]", "\\,", "\\;", "\\ ",
        "$", "{", "}", "*",
    ]
    .iter()
    .fold(between.to_ascii_lowercase(), |text, mark| text.replace(mark, " "));
    let words: Vec<&str> =
        plain.split(|c: char| c.is_whitespace()).filter(|w| !w.is_empty()).collect();
    if words.iter().all(|word| matches!(*word, "," | "and" | "or" | ",and" | "&")) {
        return true;
    }
    // `\boxed{1} papers and \boxed{2} bins`: a phrase that leads from one to the other.
    let phrase = words.iter().all(|word| {
        let word = word.trim_matches([',', '(', ')']);
        word.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'-') && !corrects(word)
    });
    phrase && words.len() <= 6 && matches!(words.last(), Some(&("and" | "or")))
}

/// Words after which a second box replaces the first.
fn corrects(word: &str) -> bool {
    matches!(
        word,
        "but"
            | "wait"
            | "no"
            | "not"
            | "instead"
            | "hence"
            | "so"
            | "thus"
            | "therefore"
            | "then"
            | "actually"
            | "correct"
            | "wrong"
            | "is"
            | "check"
            | "simplify"
            | "simplifies"
            | "hmm"
    )
}

fn percent_follows(after: &str) -> bool {
    let after = after.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, '$' | '}'));
    let after = after.strip_prefix("\\)").unwrap_or(after).trim_start();
    let lower: String = after.chars().take(10).collect::<String>().to_ascii_lowercase();
    lower.starts_with("\\%")
        || lower.starts_with('%')
        || lower.starts_with("percent")
        || lower.starts_with("pct")
}
