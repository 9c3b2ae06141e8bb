//! The one place that makes the text which a process reward model (PRM) reads: for labelling, training and reward alike.
//!
//! The text is a conversation in ChatML, written here and not by a model's chat template, so that a PRM reads the same
//! whatever its template does to thoughts and roles: the question, each earlier decision with what it gave, and last the
//! decision to be rated. *Its* result is left out: the decision is rated, not its luck. The text ends in `<|im_end|>`,
//! which is no padding, so that the last token of the text is the last real one for every reader.

use agentflow_llm::{Message, Role};
use agentflow_tools::Observation;

use crate::prompt::{Profile, shorten, written};
use crate::trajectory::{Decision, Step};

/// Most characters of an earlier result, for models that read whole results.
const RESULT: usize = 2000;

impl Profile {
    /// Version of the PRM text; it travels with labels, PRM and reward, and two that differ do not go together.
    pub const fn prm_version(self) -> &'static str {
        match self {
            Self::Full => "prm-full/1",
            Self::Compact => "prm-compact/1",
        }
    }

    /// The profile of planner prompts of `version`, as trajectories name it, e.g. `full/1`.
    pub fn of_version(version: &str) -> Option<Self> {
        [Self::Full, Self::Compact].into_iter().find(|profile| profile.version() == version)
    }
}

/// The text that rates `decision`, made after the steps `previous`.
///
/// Tokens that open and close turns are written by this function alone: in question, replies and results `<|` becomes
/// `< |`, so no decision can end the text early or add a turn of its own.
pub fn prm_input(
    profile: Profile,
    question: &str,
    previous: &[Step],
    decision: &Decision,
) -> String {
    let mut text = String::new();
    let mut turn = |role: Role, content: &str| {
        text.push_str("<|im_start|>");
        text.push_str(match role {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        });
        text.push('\n');
        text.push_str(&content.replace("<|", "< |"));
        text.push_str("<|im_end|>\n");
    };
    match profile {
        // What the planner of this profile reads, message by message.
        Profile::Compact => {
            let steps = previous.iter().map(|step| (written(step), &step.observation));
            for Message { role, content, .. } in crate::prompt::compact(question, steps) {
                turn(role, &content);
            }
        }
        Profile::Full => {
            turn(Role::User, question);
            for step in previous {
                turn(Role::Assistant, &written(step));
                turn(Role::Tool, &result(&step.observation));
            }
        }
    }
    turn(Role::Assistant, &decision.to_json());
    // What stands after the last token of the decision tells nothing.
    text.truncate(text.trim_end().len());
    text
}

fn result(observation: &Observation) -> String {
    let outcome = if observation.ok { "result" } else { "failed" };
    format!("{outcome}: {}", shorten(&observation.text, RESULT))
}
