//! From a model's text to a verdict: reading, then comparing.

use std::borrow::Cow;

use crate::equivalence::{Candidate, compare};
use crate::reading::{Answer, read_answer, read_choice, read_gold};
use crate::{Gold, Outcome, Verdict};

/// Reads the answer out of `text`, the whole of what a model said, and compares it with the gold one.
///
/// The same verdict on every machine: work is bounded by sizes and counts, not by time.
pub fn judge(gold: &Gold, text: &str) -> Verdict {
    match gold {
        Gold::Math { answer } => judge_math(answer, text),
        Gold::Choice { letter, shown } => judge_choice(*letter, shown, text),
    }
}

/// Whether two answers, as they were read, are the same: so that 1/2 and 0.5 vote together in maj@k.
pub fn same_answer(a: &str, b: &str) -> bool {
    a == b || judge_math(a, b).outcome == Outcome::Right
}

fn judge_math(gold: &str, text: &str) -> Verdict {
    let (gold, text) = (unescaped(gold), unescaped(text));
    let (gold, text) = (&*gold, &*text);
    let golds = read_gold(gold);
    let gold_read = golds.first().map(|gold| gold.text.clone()).unwrap_or_default();
    let Some(pred) = read_answer(text) else {
        let how = "no answer found".to_owned();
        return Verdict { outcome: Outcome::NoAnswer, gold_read, pred_read: None, how };
    };
    let found = golds.iter().find_map(|gold| Some((gold, same(gold, &pred)?)));
    let (outcome, gold_read, how) = match found {
        Some((gold, how)) => (Outcome::Right, gold.text.clone(), how),
        None => (Outcome::Wrong, gold_read, "different".to_owned()),
    };
    let how = format!("{}, {how}", pred.how);
    Verdict { outcome, gold_read, pred_read: Some(pred.text), how }
}

fn same(gold: &Answer, pred: &Answer) -> Option<String> {
    let (g, p) = (unescaped(&gold.text), unescaped(&pred.text));
    let gold = Candidate { text: &g, math: gold.math };
    compare(gold, Candidate { text: &p, math: pred.math })
}

/// Text in which every command has two backslashes, as one escaping too many leaves it, with one.
fn unescaped(text: &str) -> Cow<'_, str> {
    let letter = |after: &str| after.starts_with(|c: char| c.is_ascii_alphabetic());
    if !text.match_indices("\\\\").any(|(at, _)| letter(&text[at + 2..])) {
        return text.into();
    }
    // A matrix ends its rows so, but has commands with one backslash, too. `\n` is a line's end, escaped likewise.
    let others = text.replace("\\\\", "");
    let single = others.match_indices('\\').any(|(at, _)| {
        let name = &others.as_bytes()[at + 1..];
        name.len() > 1 && name[..2].iter().all(u8::is_ascii_alphabetic) && name[0] != b'n'
    });
    match single {
        true => text.into(),
        false => text.replace("\\\\", "\\").into(),
    }
}

fn judge_choice(gold: char, shown: &[String], text: &str) -> Verdict {
    let gold = gold.to_ascii_uppercase();
    let last = (gold as usize).saturating_sub('A' as usize) + 1;
    let count = if shown.is_empty() { last.clamp(4, 26) } else { shown.len() };
    let gold_read = gold.to_string();
    match read_choice(text, shown, count) {
        None => {
            let how = "no answer found".to_owned();
            Verdict { outcome: Outcome::NoAnswer, gold_read, pred_read: None, how }
        }
        Some((letter, how)) => {
            let outcome = if letter == gold { Outcome::Right } else { Outcome::Wrong };
            Verdict { outcome, gold_read, pred_read: Some(letter.to_string()), how: how.to_owned() }
        }
    }
}
