//! The one place that turns the state of an attempt into messages for planner and verifier.
//!
//! Prompt texts are the files under `prompts/`. A *profile* is a set of them: `full` for instruction-tuned models,
//! `compact` for models of a few million parameters that were trained on it and know nothing else. The profile travels
//! with the model directory (`agentflow.json`).

use std::fmt::Write;
use std::str::FromStr;

use agentflow_llm::Message;
use agentflow_tools::Observation;
use serde_json::{Value, json};

use crate::memory::repeats;
use crate::trajectory::{Decision, Step};

/// Which set of prompts a model reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    Full,
    Compact,
}

/// A profile that does not exist.
#[derive(Debug, thiserror::Error)]
#[error(
    "unknown prompt profile `{0}`; known are `full` and `compact`, so correct `prompt_profile` in the model's agentflow.json"
)]
pub struct UnknownProfile(String);

impl FromStr for Profile {
    type Err = UnknownProfile;

    fn from_str(name: &str) -> Result<Self, UnknownProfile> {
        match name {
            "full" => Ok(Self::Full),
            "compact" => Ok(Self::Compact),
            other => Err(UnknownProfile(other.to_owned())),
        }
    }
}

impl Profile {
    /// Name and version; changes whenever what a model reads changes, and travels with everything trained on it.
    pub const fn version(self) -> &'static str {
        match self {
            Self::Full => "full/1",
            Self::Compact => "compact/1",
        }
    }
}

/// A tool as the planner is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolLine {
    pub name: String,
    pub description: String,
}

/// What the planner knows when it decides.
pub struct State<'a> {
    pub question: &'a str,
    pub steps: &'a [Step],
    /// The tools on offer; `answer` alone where the planner has to conclude.
    pub tools: &'a [ToolLine],
    /// How many steps there may be in all.
    pub max_steps: usize,
}

/// Renders planner prompts of one profile.
#[derive(Debug, Clone, Copy)]
pub struct PlannerPrompt {
    pub profile: Profile,
}

impl PlannerPrompt {
    /// The messages that the planner reads.
    pub fn render(&self, state: &State) -> Vec<Message> {
        match self.profile {
            Profile::Full => full(state),
            Profile::Compact => compact(
                state.question,
                state.steps.iter().map(|step| (written(step), &step.observation)),
            ),
        }
    }
}

/// The conversation of a compact model: question, then reply and result in turn.
///
/// Public because demonstrations are built of it: what is trained is what is asked.
pub fn compact<'a>(
    question: &str,
    steps: impl Iterator<Item = (String, &'a Observation)>,
) -> Vec<Message> {
    let mut messages = vec![
        Message::system(include_str!("../prompts/compact/planner.md").trim()),
        Message::user(question),
    ];
    for (reply, observation) in steps {
        messages.push(Message::assistant(reply));
        // The first line says it all: a printed integer, or the name of the exception.
        let line = observation.text.lines().next().unwrap_or_default();
        messages.push(Message::tool(shorten(line, 120)));
    }
    messages
}

/// The turns that ask for a reply once more, and show what was wrong with it.
pub(crate) fn correction(reply: &str, problem: &str) -> [Message; 2] {
    // Templates want the roles in turn, and some servers refuse a message without content.
    let said = if reply.trim().is_empty() { "(no reply)".to_owned() } else { shorten(reply, 2000) };
    let text = format!(
        "Your reply could not be used: {problem}. Reply with exactly one JSON object with `thought`, `action` and \
         `action_input`, and keep it short."
    );
    [Message::assistant(said), Message::user(text)]
}

/// The JSON schema of a planner reply, for the tools on offer.
pub fn planner_schema(actions: &[&str]) -> Value {
    json!({
        "type": "object",
        "properties": {
            "thought": {"type": "string"},
            "action": {"type": "string", "enum": actions},
            "action_input": {"type": "string"},
        },
        "required": ["thought", "action", "action_input"],
        "additionalProperties": false,
    })
}

/// The JSON schema of a verifier reply.
pub fn verifier_schema() -> Value {
    json!({
        "type": "object",
        "properties": {"reason": {"type": "string"}, "sufficient": {"type": "boolean"}},
        "required": ["reason", "sufficient"],
        "additionalProperties": false,
    })
}

/// The messages that the verifier reads.
pub fn verifier_messages(question: &str, steps: &[Step]) -> Vec<Message> {
    let mut text = format!("Question:\n{question}\n\n");
    push_steps(&mut text, steps);
    vec![
        Message::system(include_str!("../prompts/full/verifier.md").trim()),
        Message::user(text.trim()),
    ]
}

fn full(state: &State) -> Vec<Message> {
    let mut tools = String::new();
    for tool in state.tools {
        let _ = writeln!(tools, "- {}: {}", tool.name, tool.description);
    }
    let actions: Vec<&str> = state.tools.iter().map(|tool| tool.name.as_str()).collect();
    let system = include_str!("../prompts/full/planner.md")
        .replace("{tools}", tools.trim_end())
        .replace("{actions}", &actions.join(" | "));

    let mut text = format!("Question:\n{}\n\n", state.question);
    push_steps(&mut text, state.steps);
    if repeats(state.steps) > 0 {
        text.push_str("The last step repeated an earlier one and gave the same result. Do something else, or answer.\n\n");
    }
    match state.tools {
        [only] if only.name == "answer" => {
            text.push_str("No further steps are possible. Give your best final answer now, with the action `answer`.");
        }
        _ => {
            let _ = write!(
                text,
                "Decide step {} of at most {}.",
                state.steps.len() + 1,
                state.max_steps
            );
        }
    }
    vec![Message::system(system.trim()), Message::user(text)]
}

fn push_steps(text: &mut String, steps: &[Step]) {
    if steps.is_empty() {
        text.push_str("No steps so far.\n\n");
        return;
    }
    text.push_str("Steps so far:\n");
    for step in steps {
        let outcome = if step.observation.ok { "result" } else { "failed" };
        let _ = writeln!(
            text,
            "Step {}: {}\n{outcome}: {}",
            step.index + 1,
            written(step),
            shorten(&step.observation.text, 2000)
        );
    }
    text.push('\n');
}

/// A step's reply as the planner sees it again.
pub(crate) fn written(step: &Step) -> String {
    step.reply.as_ref().map_or_else(|| shorten(&step.raw, 400), Decision::to_json)
}

/// At most `limit` characters of `text`: its head and its tail, with what is missing counted between them.
pub fn shorten(text: &str, limit: usize) -> String {
    let length = text.chars().count();
    if length <= limit {
        return text.to_owned();
    }
    let head: String = text.chars().take(limit * 2 / 3).collect();
    let tail: String = text.chars().skip(length - limit / 3).collect();
    format!("{head} … [{} characters left out] … {tail}", length - limit * 2 / 3 - limit / 3)
}
