//! Taking the answer out of a model's text, and saying how it was found.
//!
//! In this order: thinking is removed; the last box; what follows an anchor such as "the final answer is"; the whole
//! text, where it is nothing but an answer; the last expression, marked as a guess. "No answer" is an outcome of its own.

mod anchor;
mod boxed;
mod choice;
mod expression;
mod prose;
mod segment;
mod thinking;

pub(crate) use choice::read_choice;

use crate::equivalence::{bounds, is_readable};

/// An answer as it stands in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) text: String,
    /// It stood in delimiters of mathematics, or in a box.
    pub(crate) math: bool,
    /// How it was found, e.g. `boxed` or `after "final answer is"`.
    pub(crate) how: &'static str,
}

/// Reads the answer of a model to a mathematical question.
pub(crate) fn read_answer(text: &str) -> Option<Answer> {
    let text = tail(text);
    let thinking::Visible { text: visible, unclosed } = thinking::remove(text);
    if let Some(answer) = read_visible(&visible, true) {
        return Some(answer);
    }
    // A chain of thought that was cut off has no answer unless it states one.
    let thoughts = unclosed?;
    let answer = explicit(thoughts)?;
    let how = match answer.how {
        "boxed" | "boxed, several joined" => "boxed in unclosed thinking",
        _ => "stated in unclosed thinking",
    };
    Some(Answer { how, ..answer })
}

/// Reads a gold answer: an expression as a data set writes it, or a whole solution.
///
/// More than one where the data set says that each was accepted.
pub(crate) fn read_gold(gold: &str) -> Vec<Answer> {
    if gold.to_ascii_lowercase().contains("accepted") {
        let start = gold.find('(').unwrap_or(gold.len());
        let each = gold[..start].split(" or ").map(str::trim).filter(|text| !text.is_empty());
        let each: Vec<_> =
            each.map(|text| Answer { text: text.to_owned(), math: false, how: "gold" }).collect();
        if each.len() > 1 {
            return each;
        }
    }
    let found = match gold.contains("boxed") || gold.contains("box{") {
        true => read_visible(gold, false),
        false => whole(gold).or_else(|| read_visible(gold, false)),
    };
    let raw = || Answer { text: gold.trim().to_owned(), math: false, how: "gold" };
    let answer = found.unwrap_or_else(raw);
    if answer.text.is_empty() { Vec::new() } else { vec![answer] }
}

fn read_visible(text: &str, mut guess: bool) -> Option<Answer> {
    guess |= text.len() > bounds::CANDIDATE_BYTES || prose::is_prose(text);
    explicit(text).or_else(|| whole(text)).or_else(|| {
        let found = guess.then(|| expression::last(text)).flatten();
        found.or_else(|| words(text))
    })
}

/// A box or an anchored answer: the one that comes last, but a box before all anchors except the strongest.
fn explicit(text: &str) -> Option<Answer> {
    let found = boxed::last(text);
    let after = found.as_ref().map_or(0, |found| found.end);
    let stated = anchor::last(&text[after..], found.is_some());
    match (stated, found) {
        (Some(stated), _) => Some(stated),
        (None, Some(found)) => Some(refined(found.answer)),
        (None, None) => None,
    }
}

/// What a box or a tag holds may again be a sentence: `\boxed{The answer is 5}`.
fn refined(answer: Answer) -> Answer {
    let text = answer.text.trim();
    if !prose::is_prose(text) || is_readable(text) {
        return answer;
    }
    let inside = anchor::last(text, false).or_else(|| expression::last(text));
    match inside {
        Some(inside) => Answer { how: answer.how, ..inside },
        None => answer,
    }
}

/// The whole text, where it is an answer and nothing else.
fn whole(text: &str) -> Option<Answer> {
    if text.len() > bounds::CANDIDATE_BYTES {
        return None;
    }
    let (content, math) = expression::undelimited(text)?;
    let fits = !content.is_empty() && !prose::is_prose(&content) && is_readable(&content);
    fits.then_some(Answer { text: content, math, how: "whole text" })
}

/// A name or a few words.
fn words(text: &str) -> Option<Answer> {
    let text = text.trim();
    let few = text.split_whitespace().count() <= 12 && text.len() <= 200;
    let said = text.chars().any(char::is_alphanumeric);
    (few && said && !boxed::opens(text)).then(|| Answer {
        text: text.trim_matches(['*', '"', ' ']).to_owned(),
        math: false,
        how: "whole text, words",
    })
}

/// The end of a text that is too long: answers stand there.
fn tail(text: &str) -> &str {
    let mut start = text.len().saturating_sub(bounds::TEXT_BYTES);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}

#[cfg(test)]
mod tests;
