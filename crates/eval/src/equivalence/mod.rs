//! Whether two answers are equivalent, in a grammar of our own.
//!
//! LaTeX, plain text and Unicode become tokens ([`token`]), a bounded tree ([`syntax`]), and values ([`value`]): exact
//! rational numbers first, then normal forms of symbolic expressions ([`algebra`]), sets, intervals, relations, matrices,
//! units and words. Floating point decides last, where atoms may depend on each other in ways the normal form does not
//! see, and for decimals that round a value.
//!
//! Nothing of a text is ever run, and all work is bounded by sizes and counts ([`bounds`]), so a verdict depends on
//! neither the machine nor the number of threads.

mod algebra;
pub(crate) mod bounds;
mod call;
mod command;
mod compare;
mod evaluate;
mod matrix;
mod number;
mod parse;
mod region;
mod scalar;
mod structure;
mod syntax;
mod term;
mod text;
mod token;
mod unit;
mod value;

use algebra::Atoms;
use bounds::Read;
use compare::Comparison;
use evaluate::Evaluator;
use number::Commas;
use syntax::Node;

/// An answer taken out of its text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate<'a> {
    pub(crate) text: &'a str,
    /// It stood in delimiters of mathematics, or in a box.
    pub(crate) math: bool,
}

/// How the two were found to be the same; `None` where they are not, as far as we can tell.
pub(crate) fn compare(gold: Candidate<'_>, pred: Candidate<'_>) -> Option<String> {
    let (g, p) = (gold.text.trim(), pred.text.trim());
    if g.is_empty() || p.is_empty() || g.len().max(p.len()) > bounds::CANDIDATE_BYTES {
        return None;
    }
    if g == p {
        return Some("same text".into());
    }
    if text::same_words(g, p) {
        return Some("same text but for notation".into());
    }
    // Choices and names of one letter are the same in any case, unless they are variables.
    if !(gold.math && pred.math)
        && is_letter(g)
        && text::plain(g).eq_ignore_ascii_case(&text::plain(p))
    {
        return Some("same letter".into());
    }
    let golds = readings(gold);
    if golds.is_empty() {
        return None;
    }
    let preds = readings(pred);
    // All readings share one measure of work.
    let mut work = bounds::WORK;
    for gold in &golds {
        for pred in &preds {
            let mut atoms = Atoms::new(work);
            if let Ok(Some(how)) = compare_readings(gold, pred, &mut atoms) {
                return Some(how);
            }
            work = atoms.work_left();
        }
    }
    None
}

/// Whether a text is an expression of the grammar and has a value.
pub(crate) fn is_readable(text: &str) -> bool {
    parse::parse(text, Commas::Thousands).is_ok()
}

/// Whether a run of letters is a function, a unit, or a word such as "and" that expressions hold.
pub(crate) fn is_mathematical_word(word: &str) -> bool {
    command::word(word).is_some() || unit::Unit::of_word(word).is_some()
}

/// Whether a text is a unit of measurement, such as `m²`.
pub(crate) fn is_unit(text: &str) -> bool {
    matches!(unit::Unit::read(text), unit::Unit::Measure { .. })
}

/// Whether two texts are the same but for notation and, in words, case.
pub(crate) fn is_same_text(a: &str, b: &str) -> bool {
    text::same_words(a, b)
}

fn compare_readings(gold: &Node, pred: &Node, atoms: &mut Atoms) -> Read<Option<String>> {
    let gold = Evaluator::new(atoms).value(gold)?;
    let pred = Evaluator::new(atoms).value(pred)?;
    let mut comparison = Comparison::new(atoms);
    Ok(comparison.equal(&gold, &pred)?.then(|| comparison.how()))
}

/// The trees that a text can mean: more than one where a comma between digits is ambiguous.
fn readings(candidate: Candidate<'_>) -> Vec<Node> {
    let text = candidate.text;
    let mut kinds = vec![Commas::Thousands];
    if let Some((before, after)) = digits_around_comma(text) {
        if after == 3 && before <= 3 {
            kinds.push(Commas::Swapped);
        }
        let clear = after >= 2
            && (after != 3 || before > 3 || text.trim_start_matches('-').starts_with("0,"));
        if !candidate.math && text.matches(',').count() == 1 && clear {
            kinds.push(Commas::Decimal);
        }
    }
    kinds.into_iter().filter_map(|commas| parse::parse(text, commas).ok()).collect()
}

/// How many digits stand directly before and after the first comma that has digits on both sides.
fn digits_around_comma(text: &str) -> Option<(usize, usize)> {
    text.match_indices(',').find_map(|(at, _)| {
        let before = text[..at].bytes().rev().take_while(u8::is_ascii_digit).count();
        let after = text[at + 1..].bytes().take_while(u8::is_ascii_digit).count();
        (before > 0 && after > 0).then_some((before, after))
    })
}

fn is_letter(text: &str) -> bool {
    let plain = text::plain(text);
    plain.len() == 1 && plain.as_bytes()[0].is_ascii_alphabetic()
}

#[cfg(test)]
mod tests;
