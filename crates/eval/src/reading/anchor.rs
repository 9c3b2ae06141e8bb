//! Answers that the text announces: "the final answer is", "Answer:", `####`, `<answer>`, a JSON field, bold type.

use super::expression;
use super::{Answer, prose, refined};

/// A phrase, whether it outranks a box before it, and what the record says.
struct Anchor {
    phrase: &'static str,
    strong: bool,
    how: &'static str,
}

const ANCHORS: &[Anchor] = &[
    Anchor { phrase: "final answer", strong: true, how: "after \"final answer\"" },
    Anchor { phrase: "<answer>", strong: true, how: "in <answer>" },
    Anchor { phrase: "####", strong: true, how: "after ####" },
    Anchor { phrase: "\"answer\":", strong: true, how: "in a JSON field" },
    Anchor { phrase: "\"answer\" :", strong: true, how: "in a JSON field" },
    Anchor { phrase: "\"final_answer\":", strong: true, how: "in a JSON field" },
    Anchor { phrase: "answer", strong: false, how: "after \"answer\"" },
    Anchor { phrase: "result is", strong: false, how: "after \"result is\"" },
    Anchor { phrase: "solution is", strong: false, how: "after \"solution is\"" },
    Anchor { phrase: "solutions are", strong: false, how: "after \"solutions are\"" },
    Anchor { phrase: "答案", strong: false, how: "after \"答案\"" },
];

/// Bytes at the end of a text in which anchors are looked for.
const SEARCHED: usize = 65_536;
/// Occurrences looked at, from the end.
const OCCURRENCES: usize = 24;

/// The last announced answer; only after strong phrases where `strong_only`.
pub(super) fn last(text: &str, strong_only: bool) -> Option<Answer> {
    let text = &text[text.len() - floor_end(text)..];
    let lower = text.to_ascii_lowercase();
    let mut places: Vec<(usize, &Anchor)> = Vec::new();
    for anchor in ANCHORS.iter().filter(|anchor| anchor.strong || !strong_only) {
        let found = lower.rmatch_indices(anchor.phrase).take(OCCURRENCES);
        places.extend(found.map(|(at, phrase)| (at + phrase.len(), anchor)));
    }
    // Of phrases that end together ("final answer" and "answer") the longest.
    places.sort_by_key(|(at, anchor)| {
        (std::cmp::Reverse(*at), std::cmp::Reverse(anchor.phrase.len()))
    });
    let found = places.iter().take(OCCURRENCES).find_map(|(at, anchor)| {
        let (text, math) = read(&text[*at..], anchor)?;
        Some((*at, Answer { text, math, how: anchor.how }))
    });
    let bold = if strong_only { None } else { bold(text) };
    match (found, bold) {
        (Some((at, _)), Some((place, bold))) if place > at => Some(bold),
        (Some((_, found)), _) => Some(found),
        (None, bold) => bold.map(|(_, bold)| bold),
    }
}

fn read(after: &str, anchor: &Anchor) -> Option<(String, bool)> {
    match anchor.phrase {
        "<answer>" => {
            let end = after.to_ascii_lowercase().find("</answer").unwrap_or(after.len().min(4_000));
            tagged(after.get(..end)?, anchor.how)
        }
        "####" => tagged(after.lines().next()?, anchor.how),
        phrase if phrase.starts_with('"') => json(after),
        phrase => announced(after, phrase.ends_with("answer") || phrase == "答案"),
    }
}

/// What stands behind "answer": directly, behind "is" or a colon, or on the next line.
fn announced(after: &str, bare: bool) -> Option<(String, bool)> {
    let after = after.strip_prefix('s').unwrap_or(after);
    if after.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return None;
    }
    let sentence = sentence(after);
    if is_negated(sentence) {
        return None;
    }
    // "answer 25", "answer: 25", "answer is 25".
    if let Some(found) = expression::first(paragraph(after)) {
        return Some(found);
    }
    if !bare {
        return None;
    }
    // "Answer to the question is 25"; "Final Answer: The largest $n$ is 34."
    let colon = sentence.trim_start().starts_with([':', '*']);
    let mut tail = sentence;
    for _ in 0..4 {
        let Some((_, rest)) = tail.split_once(" is ").or_else(|| tail.split_once(" is:")) else {
            break;
        };
        if let Some(found) = expression::first(rest).filter(|_| !is_negated(rest)) {
            return Some(found);
        }
        tail = rest;
    }
    if !colon {
        return None;
    }
    if let Some(found) = expression::last(sentence) {
        return Some((found.text, found.math));
    }
    // Words: "Answer: Evelyn".
    let words =
        sentence.trim_matches(|c: char| c.is_whitespace() || matches!(c, ':' | '*' | '.' | '"'));
    let few = !words.is_empty() && words.split_whitespace().count() <= 6;
    few.then(|| (words.to_owned(), false))
}

/// The content of a tag or the rest of a line.
fn tagged(content: &str, how: &'static str) -> Option<(String, bool)> {
    let content = content.trim().trim_matches(['*', '"']);
    if content.is_empty() {
        return None;
    }
    if let Some(found) = super::boxed::last(content) {
        return Some((found.answer.text, true));
    }
    let (text, math) = expression::undelimited(content).unwrap_or((content.to_owned(), false));
    let answer = refined(Answer { text, math, how });
    (answer.text.len() <= 4_000).then_some((answer.text, answer.math))
}

/// The value of a JSON field: a string, with its escapes, or a number.
fn json(after: &str) -> Option<(String, bool)> {
    let after = after.trim_start();
    let end = floor(after, 4_000);
    let mut stream =
        serde_json::Deserializer::from_str(&after[..end]).into_iter::<serde_json::Value>();
    let text = match stream.next() {
        Some(Ok(serde_json::Value::String(text))) => text,
        Some(Ok(serde_json::Value::Number(number))) => number.to_string(),
        // Models write LaTeX into JSON without escaping its backslashes.
        _ => after.strip_prefix('"')?.split('"').next()?.to_owned(),
    };
    tagged(&text, "in a JSON field")
}

/// The last `**…**` that holds an expression.
fn bold(text: &str) -> Option<(usize, Answer)> {
    let mut end = text.len();
    for _ in 0..OCCURRENCES {
        let close = text[..end].rfind("**")?;
        let open = text[..close].rfind("**")?;
        let content = text[open + 2..close].trim();
        let (text_found, math) =
            expression::undelimited(content).unwrap_or((content.to_owned(), false));
        let fits = content.len() < 200
            && text_found.chars().any(|c| c.is_numeric())
            && !prose::is_prose(&text_found)
            && crate::equivalence::is_readable(&text_found)
            // Headings such as `**Step 2**` and list numbers are none.
            && !content.ends_with([':', '.'])
            && !text[close + 2..].trim_start().starts_with(':');
        if fits {
            return Some((open, Answer { text: text_found, math, how: "in bold" }));
        }
        end = open;
    }
    None
}

/// "is not 25", "cannot be 25".
fn is_negated(sentence: &str) -> bool {
    let start = sentence.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, '*' | ':'));
    let lower = start[..floor(start, 24)].to_ascii_lowercase();
    [
        "is not",
        "isn't",
        "cannot",
        "can't",
        "not ",
        "is never",
        "was not",
        "wasn't",
        "must not",
        "should not",
    ]
    .iter()
    .any(|negation| lower.starts_with(negation))
}

/// Up to the full stop or the end of the line that has anything on it.
fn sentence(text: &str) -> &str {
    let lead = text.len()
        - text.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, '*' | ':')).len();
    let body = &text[lead..floor(text, lead + 2_000).max(lead)];
    let end = body
        .match_indices(['.', '\n', '?', '!'])
        .find(|(at, mark)| {
            *mark == "\n" || body[at + 1..].starts_with(char::is_whitespace) || at + 1 == body.len()
        })
        .map_or(body.len(), |(at, _)| at);
    &text[..lead + end]
}

/// The lines up to the next empty one, from the first that has anything on it.
fn paragraph(text: &str) -> &str {
    let lead = text.len()
        - text.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, '*' | ':')).len();
    let end = text[lead..].find("\n\n").map_or(text.len(), |end| lead + end);
    &text[..floor(text, end.min(lead + 4_000))]
}

/// How many bytes at the end are searched.
fn floor_end(text: &str) -> usize {
    let mut start = text.len().saturating_sub(SEARCHED);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    text.len() - start
}

fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}
