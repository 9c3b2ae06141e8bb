//! What a judge is asked about a decision, and the rule that makes one number of its answers.

use serde_json::{Map, Value, json};

use crate::label::record::Scores;

/// Changes whenever the prompts under `prompts/judge/`, the scale or the rule change.
const VERSION: &str = "rubric/1";

/// The best grade of a sub-score.
pub(super) const BEST: u8 = 4;

/// The highest label of a decision whose correctness is 0: neat form does not lift a mistake.
pub const WRONG_AT_MOST: f64 = 0.25;

/// Bounds the reason, lest a small model under a grammar goes on for ever. Printable ASCII without quotes, brackets and
/// backslashes, for these mean different things to different grammars; and not `maxLength`, which OpenAI's strict mode
/// refuses.
const REASON: &str = "^[ !#-Z^-~]{1,300}$";

/// What the judge is told of the right answer.
///
/// A judge without it has to solve the problem itself, and misses the mistakes that it would make, too. A judge that is
/// told how the attempt ended rates the ending: the labels become an outcome model in disguise (arXiv 2501.07301,
/// section 3). Hence [`Gold`](Self::Gold) unless one asks for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sight {
    /// Only what the agent saw. For questions without a right answer, and to see what the others add.
    Blind,
    /// The right answer, but not whether the attempt reached it.
    #[default]
    Gold,
    /// The right answer, and whether the attempt reached it.
    Outcome,
}

impl Sight {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Blind => "blind",
            Self::Gold => "gold",
            Self::Outcome => "outcome",
        }
    }
}

/// In which order the sub-scores are explained and written. The order should not matter: see
/// [`agreement`](crate::label::agreement).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    #[default]
    Forward,
    Reversed,
}

/// What is asked, in which order, and on what knowledge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rubric {
    pub sight: Sight,
    pub order: Order,
}

/// The grades of one decision, each 0 to 4, in the order of [`Criterion::ALL`].
pub(super) type Grades = [u8; 5];

/// One sub-score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Criterion {
    Progress,
    Correctness,
    Tool,
    Input,
    Novelty,
}

impl Criterion {
    pub(super) const ALL: [Self; 5] =
        [Self::Progress, Self::Correctness, Self::Tool, Self::Input, Self::Novelty];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Progress => "progress",
            Self::Correctness => "correctness",
            Self::Tool => "tool",
            Self::Input => "input",
            Self::Novelty => "novelty",
        }
    }

    /// In twentieths: whether it is right, and whether it helps, before how it is done.
    const fn weight(self) -> u16 {
        match self {
            Self::Progress => 6,
            Self::Correctness => 7,
            Self::Tool => 3,
            Self::Input | Self::Novelty => 2,
        }
    }
}

impl Rubric {
    /// Version of the prompts and the rule, and what the judge knew, e.g. `rubric/1+gold`; labels of different ones are
    /// not on one scale.
    pub fn version(self) -> String {
        format!("{VERSION}+{}", self.sight.name())
    }

    fn criteria(self) -> [Criterion; 5] {
        let mut criteria = Criterion::ALL;
        if self.order == Order::Reversed {
            criteria.reverse();
        }
        criteria
    }

    /// The sub-scores as the judge is told of them, one a line.
    pub(super) fn explained(self) -> String {
        let lines: Vec<&str> = include_str!("../../../prompts/judge/criteria.md").lines().collect();
        let line = |criterion: Criterion| {
            let head = format!("- `{}`:", criterion.name());
            let found = lines.iter().find(|line| line.starts_with(&head));
            *found.expect("the prompt explains every sub-score")
        };
        self.criteria().map(line).join("\n")
    }

    /// The reply as the judge is told of it.
    pub(super) fn form(self) -> String {
        let grades = self.criteria().map(|criterion| format!("\"{}\": 0-4", criterion.name()));
        format!("{{\"step\": number, \"reason\": \"...\", {}}}", grades.join(", "))
    }

    /// The JSON schema of a reply about an attempt of `steps` steps.
    ///
    /// The step is any of the attempt's, not only the rated one: a grammar that forced the right number would hide that
    /// the judge rates another. It comes first, and the reason before the grades, so that each is written in the light of
    /// what stands before it.
    pub(super) fn schema(self, steps: usize) -> Value {
        let numbers: Vec<usize> = (1..=steps).collect();
        let grades: Vec<u8> = (0..=BEST).collect();
        let mut properties = Map::new();
        properties.insert("step".to_owned(), json!({"type": "integer", "enum": numbers}));
        properties.insert("reason".to_owned(), json!({"type": "string", "pattern": REASON}));
        for criterion in self.criteria() {
            let schema = json!({"type": "integer", "enum": grades});
            properties.insert(criterion.name().to_owned(), schema);
        }
        let required: Vec<&String> = properties.keys().collect();
        json!({
            "type": "object",
            "required": required,
            "properties": properties,
            "additionalProperties": false,
        })
    }
}

/// The label that `grades` give, 0 to 1: their weighted mean (progress 0.30, correctness 0.35, tool 0.15, input 0.10,
/// novelty 0.10), divided by the best grade; at most [`WRONG_AT_MOST`] where correctness is 0.
pub(super) fn combine(grades: Grades) -> f64 {
    let weighted = |(criterion, grade): (Criterion, u8)| criterion.weight() * u16::from(grade);
    let sum: u16 = Criterion::ALL.into_iter().zip(grades).map(weighted).sum();
    let all: u16 = Criterion::ALL.map(Criterion::weight).iter().sum();
    let label = f64::from(sum) / f64::from(all * u16::from(BEST));
    match grades[1] {
        0 => label.min(WRONG_AT_MOST),
        _ => label,
    }
}

/// The grades as shares of the best.
pub(super) fn scores(grades: Grades) -> Scores {
    let [progress, correctness, tool, input, novelty] =
        grades.map(|grade| f64::from(grade) / f64::from(BEST));
    Scores { progress, correctness, tool, input, novelty }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_is_the_one_that_is_documented() {
        assert_eq!(combine([4; 5]), 1.0);
        assert_eq!(combine([0; 5]), 0.0);
        // 0.30 × 1/4 + 0.35 × 2/4 + 0.15 × 3/4 + 0.10 × 4/4 + 0.10 × 0
        assert!((combine([1, 2, 3, 4, 0]) - 0.4625).abs() < 1e-12);
        assert_eq!(combine([4, 0, 4, 4, 4]), WRONG_AT_MOST, "neat and wrong");
        assert_eq!(combine([0, 0, 0, 0, 4]), 0.1, "below the cap it is the mean");
    }

    /// Every one of the 3125 possible replies.
    #[test]
    fn a_better_grade_never_lowers_the_label() {
        for code in 0..5_u32.pow(5) {
            let grades: Grades = std::array::from_fn(|at| (code / 5_u32.pow(at as u32) % 5) as u8);
            let label = combine(grades);
            assert!((0.0..=1.0).contains(&label));
            for at in 0..5 {
                let mut better = grades;
                better[at] = (better[at] + 1).min(BEST);
                assert!(combine(better) >= label, "{grades:?} {better:?}");
            }
        }
    }

    #[test]
    fn the_order_turns_prompt_form_and_schema_around() {
        let (forward, reversed) =
            (Rubric::default(), Rubric { order: Order::Reversed, ..Rubric::default() });
        assert!(forward.explained().starts_with("- `progress`"));
        assert!(reversed.explained().starts_with("- `novelty`"));
        let keys = |rubric: Rubric| {
            let schema = rubric.schema(3);
            let keys = schema["properties"].as_object().unwrap().keys().cloned();
            keys.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(keys(forward), "step reason progress correctness tool input novelty");
        assert_eq!(keys(reversed), "step reason novelty input tool correctness progress");
        assert!(reversed.form().find("novelty") < reversed.form().find("progress"));
        assert_eq!(forward.version(), reversed.version(), "they are to agree");
    }

    /// What Ollama would ignore without a word, and what OpenAI's strict mode cannot express.
    #[test]
    fn every_server_can_be_sent_the_schema() {
        let schema = Rubric::default().schema(8);
        assert_eq!(agentflow_llm::schema::lint(&schema), Ok(()));
        assert_eq!(agentflow_llm::schema::strict(&schema), Some(schema));
    }
}
