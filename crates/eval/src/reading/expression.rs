//! Expressions in a text: at the beginning of a passage, or the last of it.

use super::segment::{Segment, segments};
use super::{Answer, prose};
use crate::equivalence::{bounds, is_readable, is_unit};

/// Words of one expression in plain text.
const WORDS: usize = 24;
/// Bytes at the end of a text in which an expression without anchor is looked for.
const SEARCHED: usize = 8_192;
/// Runs of words that are tried as an expression.
const TRIED: usize = 100;

/// The text without delimiters of mathematics; `true` where it had any. `None` where words stand beside the formulas.
pub(super) fn undelimited(text: &str) -> Option<(String, bool)> {
    let trimmed = text.trim().trim_end_matches('.').trim_end();
    let formulas = segments(trimmed);
    if formulas.is_empty() {
        return Some((trimmed.to_owned(), false));
    }
    let joined = join(trimmed, &formulas)?;
    let lead = &trimmed[..formulas[0].start];
    let rest = &trimmed[formulas[formulas.len() - 1].end..];
    let lead = lead.trim_matches(|c: char| c.is_whitespace() || matches!(c, '*' | '-' | '+'));
    if !lead.is_empty() {
        return None;
    }
    let sign = trimmed[..formulas[0].start].trim().trim_matches('*');
    let mark = rest.trim_matches(|c: char| c.is_whitespace() || matches!(c, '*' | '.' | ','));
    if mark.is_empty() {
        return Some((format!("{sign}{joined}"), true));
    }
    let with_mark = format!("{sign}{joined} {mark}");
    (!prose::is_prose(mark) && mark.len() < 40).then_some((with_mark, true))
}

/// Formulas that only commas, "and" and "or" separate, as one list.
fn join(text: &str, formulas: &[Segment<'_>]) -> Option<String> {
    let mut joined = formulas.first()?.content.trim().to_owned();
    for pair in formulas.windows(2) {
        let between = text[pair[0].end..pair[1].start].trim().trim_matches('*');
        match &between.to_ascii_lowercase()[..] {
            "," | "and" | ", and" | ";" | "" => joined.push_str(", "),
            "or" | ", or" => joined.push_str(" \\text{ or } "),
            _ => return None,
        }
        joined.push_str(pair[1].content.trim());
    }
    Some(joined)
}

/// The expression that a passage begins with, after words such as "is" and decoration.
pub(super) fn first(passage: &str) -> Option<(String, bool)> {
    let passage = without_lead(passage);
    let formulas = segments(passage);
    if let Some(formula) = formulas.first()
        && formula.start == 0
    {
        let mut count = 1;
        while count < formulas.len() && join(passage, &formulas[..count + 1]).is_some() {
            count += 1;
        }
        let mut text = join(passage, &formulas[..count])?;
        if let Some(mark) = mark_after(&passage[formulas[count - 1].end..]) {
            text.push_str(mark);
        }
        return readable(&text).map(|text| (text, true));
    }
    let line = passage.lines().next().unwrap_or("");
    let line = &line[..floor(line, 600)];
    // The longest beginning that is an expression; sentences end it.
    let mut ends = Vec::new();
    for (start, word) in words(line).take(WORDS) {
        ends.push(start + word.len());
        if word.ends_with(['.', '?']) {
            break;
        }
    }
    ends.iter().rev().find_map(|end| {
        let text = line[..*end].trim_matches(['*', '"', '\'', '`', ' ']);
        let text = text.trim_end_matches(['.', ',', ';', ':', '!', '?', '*']);
        plain_expression(text).map(|text| (text, false))
    })
}

/// The last formula or number of a text, a guess.
pub(super) fn last(text: &str) -> Option<Answer> {
    let mut start = text.len().saturating_sub(SEARCHED);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    let text = &text[start..];
    let formulas = segments(text);
    let formula = formulas.iter().enumerate().rev().take(8).find_map(|(at, segment)| {
        if is_lone_variable(segment.content) {
            return None;
        }
        let mut from = at;
        while from > 0 && join(text, &formulas[from - 1..=at]).is_some() {
            from -= 1;
        }
        let mut content = join(text, &formulas[from..=at])?;
        if let Some(mark) = mark_after(&text[segment.end..]) {
            content.push_str(mark);
        }
        readable(&content).map(|content| (segment.end, content))
    });
    let after = formula.as_ref().map_or(0, |(end, _)| *end);
    if let Some(text) = last_plain(&text[after..]) {
        return Some(Answer { text, math: false, how: "guess: last expression" });
    }
    formula.map(|(_, text)| Answer { text, math: true, how: "guess: last formula" })
}

/// The last run of words that is an expression with a digit, a root or π in it.
fn last_plain(text: &str) -> Option<String> {
    let words: Vec<(usize, &str)> = words(text).collect();
    let mut tried = 0;
    for end in (0..words.len()).rev() {
        if tried > TRIED {
            return None;
        }
        let (_, word) = words[end];
        let core = word.trim_matches(['*', '"', '\'', '`', '.', ',', ';', ':', '!', '?', '(', ')']);
        let counts = core.chars().any(|c| c.is_numeric() || matches!(c, '√' | 'π' | '∞'))
            || core.contains("\\frac");
        if !counts {
            continue;
        }
        // `1,000.99m²` is a number and its unit.
        if let Some(number) = number_in(core)
            && let Some((_, suffix)) = core.split_once(number.trim_start_matches('-'))
            && is_unit(suffix)
        {
            return Some(number);
        }
        // As far back as words may belong to the expression.
        let mut from = end;
        while from > 0 && end - from < WORDS {
            let before = words[from - 1].1;
            let ends =
                before.ends_with([',', ';', ':', '.', '?', '!']) && !before.starts_with(['(', '[']);
            if ends || prose::is_prose(before) {
                break;
            }
            from -= 1;
        }
        for from in from..=end {
            let lone =
                words[from].1.len() == 1 && words[from].1.starts_with(|c: char| c.is_alphabetic());
            let operator = words.get(from + 1).is_some_and(|(_, next)| {
                next.starts_with(['=', '+', '-', '*', '/', '<', '>', '^', '≤', '≥', '∈', '×', '·'])
            });
            if lone && from < end && !operator {
                continue;
            }
            let (start, last) = (words[from].0, words[end].0 + words[end].1.len());
            let run = text[start..last].trim_matches(['*', '"', '`', ' ']);
            let run = run.trim_end_matches(['.', ',', ';', ':', '!', '?', '*']);
            tried += 1;
            if let Some(found) = plain_expression(run) {
                let mark = mark_after(&text[last..]).unwrap_or("");
                return Some(format!("{found}{mark}"));
            }
        }
        if let Some(number) = number_in(core) {
            return Some(number);
        }
    }
    None
}

/// `1,000.99` of `1,000.99m²`: a number with something glued to its end, but not the 2 of `UK2A`.
fn number_in(word: &str) -> Option<String> {
    let start = word.find(|c: char| c.is_ascii_digit())?;
    let lead = &word[..start];
    let clean = lead.chars().all(|c| {
        matches!(c, '-' | '−' | '+' | '$' | '€' | '£' | '=' | '(' | '[' | '.' | '~' | '≈')
    });
    if !clean {
        return None;
    }
    let sign = if lead.ends_with(['-', '−']) { "-" } else { "" };
    let digits: String = word[start..]
        .chars()
        .take_while(|c| c.is_ascii_digit() || matches!(c, '.' | ','))
        .collect();
    let digits = digits.trim_end_matches(['.', ',']);
    let percent = if word[start + digits.len()..].starts_with(['%']) { "%" } else { "" };
    let number = format!("{sign}{digits}{percent}");
    is_readable(&number).then_some(number)
}

fn plain_expression(text: &str) -> Option<String> {
    let fits = !text.is_empty()
        && text.len() <= bounds::CANDIDATE_BYTES
        && text.chars().any(|c| c.is_alphanumeric() || matches!(c, '∞' | '∅'))
        && !prose::is_prose(text)
        && !ends_open(text)
        && is_readable(text);
    fits.then(|| text.to_owned())
}

/// Plain text never begins with a closing bracket, or with an operator other than a sign.
fn ends_open(text: &str) -> bool {
    text.starts_with(['=', '<', '>', '*', '/', ')', ']', '^', '|'])
}

fn readable(text: &str) -> Option<String> {
    let text = text.trim();
    (text.len() <= bounds::CANDIDATE_BYTES && is_readable(text)).then(|| text.to_owned())
}

/// The percent sign or degree that stands behind an expression.
fn mark_after(after: &str) -> Option<&'static str> {
    let after = after.trim_start_matches([' ', '*']).trim_start_matches("\\");
    let word = after.split(|c: char| !c.is_alphabetic()).next().unwrap_or("");
    if after.starts_with('%')
        || matches!(&word.to_ascii_lowercase()[..], "percent" | "percentage" | "pct")
    {
        return Some("\\%");
    }
    (after.starts_with('°') || word.eq_ignore_ascii_case("degrees")).then_some("^\\circ")
}

fn is_lone_variable(formula: &str) -> bool {
    let formula = formula.trim();
    formula.chars().count() == 1 && formula.chars().all(char::is_alphabetic)
}

/// Without "is", "equals", colons, quotes, list marks and emphasis.
fn without_lead(passage: &str) -> &str {
    let mut rest = passage;
    loop {
        let before = rest;
        rest = rest.trim_start_matches(|c: char| {
            c.is_whitespace()
                || matches!(c, '*' | ':' | '=' | '"' | '“' | '`' | '_' | '#' | '>' | '≈')
        });
        for word in [
            "is",
            "are",
            "was",
            "be",
            "equals",
            "equal to",
            "approximately",
            "about",
            "exactly",
            "simply",
            "therefore",
            "thus",
            "indeed",
            "the",
            "a",
            "an",
            "option",
            "given by",
            "then",
            "must",
            "only",
        ] {
            let head = rest.get(..word.len());
            if head.is_some_and(|head| head.eq_ignore_ascii_case(word))
                && rest[word.len()..]
                    .starts_with(|c: char| c.is_whitespace() || matches!(c, ':' | '*'))
                && !(word == "a" && rest[1..].trim_start().starts_with(['=', '+', '-', '<', '>']))
            {
                rest = &rest[word.len()..];
            }
        }
        if rest == before {
            return rest;
        }
    }
}

fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.split_whitespace().map(|word| (word.as_ptr() as usize - text.as_ptr() as usize, word))
}

fn floor(text: &str, mut at: usize) -> usize {
    at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}
