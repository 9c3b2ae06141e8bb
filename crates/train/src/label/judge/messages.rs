//! What the judge reads: the question, the whole attempt, and which step is to be rated.
//!
//! Decisions and results are written as JSON, on one line each: no text of theirs can look like another step. Long ones
//! lose their middle. An attempt that is too long all the same gives way step by step, from the one that is furthest from
//! the rated one: first results are cut to [`GLANCE`] characters, then decisions, then whole steps are left out, and what
//! is missing is said. The rated decision and the question stay.

use std::fmt::Write;

use agentflow_agent::prompt::shorten;
use agentflow_agent::trajectory::{Decision, Step};
use agentflow_eval::Outcome;
use agentflow_llm::Message;
use serde_json::Value;

use super::cost::tokens;
use super::rubric::{Rubric, Sight};
use crate::label::labeller::Case;

/// Most characters of the rated decision, of another, and of a result.
const RATED: usize = 12_000;
const DECISION: usize = 6_000;
const RESULT: usize = 2_000;
/// What is left of a text that had to give way.
const GLANCE: usize = 200;

/// The messages that rate `case`, at most about `most_tokens` of them where that can be had by leaving out other steps.
pub(super) fn messages(rubric: Rubric, case: &Case, most_tokens: u64) -> Vec<Message> {
    let system = fill(
        include_str!("../../../prompts/judge/system.md"),
        &[("{criteria}", &rubric.explained()), ("{form}", &rubric.form())],
    );
    let (number, known) = ((case.step + 1).to_string(), known(rubric.sight, case));
    let ask = |steps: &str| {
        let values = [
            ("{question}", &*case.sample.trajectory.question),
            ("{known}", &known),
            ("{steps}", steps),
            ("{step}", &number),
        ];
        fill(include_str!("../../../prompts/judge/case.md"), &values)
    };
    let room = most_tokens.saturating_sub(tokens(&system) + tokens(&ask("")));
    let steps = steps(&case.sample.trajectory.steps, case.step, room);
    vec![Message::system(system), Message::user(ask(&steps))]
}

/// The turns that ask once more, and show what was wrong with `reply`.
pub(super) fn correction(rubric: Rubric, case: &Case, reply: &str, problem: &str) -> [Message; 2] {
    // Templates want the roles in turn, and some servers refuse a message without content.
    let said = if reply.trim().is_empty() { "(no reply)".to_owned() } else { shorten(reply, 1000) };
    let values = [
        ("{problem}", problem),
        ("{step}", &(case.step + 1).to_string()),
        ("{form}", &rubric.form()),
    ];
    let text = fill(include_str!("../../../prompts/judge/again.md"), &values);
    [Message::assistant(said), Message::user(text)]
}

/// What the judge knows and the agent did not.
fn known(sight: Sight, case: &Case) -> String {
    let eval = &case.sample.eval;
    let gold = match sight {
        Sight::Blind => return String::new(),
        Sight::Gold | Sight::Outcome => eval.gold.text(),
    };
    let mut text = format!("The right answer, which the agent did not know:\n{gold}\n\n");
    if sight == Sight::Outcome {
        text.push_str(match eval.verdict.outcome {
            Outcome::Right => "The attempt ended with the right answer.\n\n",
            Outcome::Wrong => "The attempt ended with a wrong answer.\n\n",
            Outcome::NoAnswer | Outcome::Failed => "The attempt ended without an answer.\n\n",
        });
    }
    text
}

/// How much of a step is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Detail {
    Whole,
    ShortResult,
    Short,
    Missing,
}

/// The steps, `rated` marked, in about `room` tokens.
fn steps(steps: &[Step], rated: usize, room: u64) -> String {
    let mut blocks: Vec<(Detail, String)> =
        steps.iter().map(|step| (Detail::Whole, block(step, rated, Detail::Whole))).collect();
    // A block and the empty line after it; two gaps, before and behind the rated step, are said at the end.
    let size = |text: &str| if text.is_empty() { 0 } else { tokens(text) + 1 };
    let gaps = 2 * size("(steps 100 to 100 are left out)");
    let mut used: u64 = gaps + blocks.iter().map(|(_, text)| size(text)).sum::<u64>();
    // What came after the decision matters least to it.
    let mut furthest_first: Vec<usize> = (0..steps.len()).filter(|at| *at != rated).collect();
    furthest_first.sort_by_key(|at| (at.abs_diff(rated), *at));
    furthest_first.reverse();
    for detail in [Detail::ShortResult, Detail::Short, Detail::Missing] {
        for &at in &furthest_first {
            if used <= room {
                break;
            }
            let shorter = block(&steps[at], rated, detail);
            used = used.saturating_sub(size(&blocks[at].1)) + size(&shorter);
            blocks[at] = (detail, shorter);
        }
    }
    joined(&blocks)
}

/// The blocks in order; neighbours that are missing are said together.
fn joined(blocks: &[(Detail, String)]) -> String {
    let mut text = String::new();
    let mut at = 0;
    while let Some((detail, block)) = blocks.get(at) {
        let gap = blocks[at..].iter().take_while(|(detail, _)| *detail == Detail::Missing).count();
        if !text.is_empty() {
            text.push_str("\n\n");
        }
        match (detail, gap) {
            (Detail::Missing, 1) => {
                let _ = write!(text, "(step {} is left out)", at + 1);
            }
            (Detail::Missing, _) => {
                let _ = write!(text, "(steps {} to {} are left out)", at + 1, at + gap);
            }
            _ => text.push_str(block),
        }
        at += gap.max(1);
    }
    text
}

fn block(step: &Step, rated: usize, detail: Detail) -> String {
    let is_rated = step.index == rated;
    let (decision, result) = match detail {
        Detail::Whole if is_rated => (RATED, RESULT),
        Detail::Whole => (DECISION, RESULT),
        Detail::ShortResult => (DECISION, GLANCE),
        Detail::Short => (GLANCE, GLANCE),
        Detail::Missing => return String::new(),
    };
    let mark = if is_rated { " (rate this one)" } else { "" };
    let quoted = |text: &str, limit| Value::from(shorten(text, limit)).to_string();
    let decided = match &step.reply {
        Some(reply) => format!("decision: {}", shorten(&Decision::to_json(reply), decision)),
        None => format!("unreadable reply: {}", quoted(&step.raw, decision)),
    };
    let outcome = if step.observation.ok { "result" } else { "failed" };
    let result = quoted(&step.observation.text, result);
    format!("Step {}{mark}\n{decided}\n{outcome}: {result}", step.index + 1)
}

/// `template` with each name replaced by its value. In one pass, so that a value which looks like a name stays.
fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut text = String::new();
    let mut rest = template.trim_end();
    while let Some(at) = rest.find('{') {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        let named = values.iter().find(|(name, _)| rest.starts_with(name));
        let (value, length) = named.map_or(("{", 1), |(name, value)| (*value, name.len()));
        text.push_str(value);
        rest = &rest[length..];
    }
    text + rest
}
