//! The planner: decides the next step. The only module that is trained.

use agentflow_llm::{ChatError, ChatModel, ChatReply, ChatRequest, Message, Sampling, Usage};
use serde::{Deserialize, Serialize};

use crate::prompt::{PlannerPrompt, State, correction, planner_schema, shorten};
use crate::trajectory::Decision;

/// How model calls of planner and verifier are made.
#[derive(Debug, Clone, PartialEq)]
pub struct CallSettings {
    pub sampling: Sampling,
    pub think: bool,
    /// Upper bound of one reply in tokens, thinking included.
    pub max_tokens: u32,
}

/// Asks a model for decisions.
pub struct Planner<'a> {
    pub model: &'a dyn ChatModel,
    pub prompt: PlannerPrompt,
    pub settings: CallSettings,
}

/// What came of asking for a decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Planned {
    /// The messages that `reply` answers.
    pub prompt: Vec<Message>,
    /// The decision, or why the reply could not be read, twice.
    pub decision: Result<Decision, String>,
    pub reply: ChatReply,
    /// All tries together.
    pub usage: Usage,
    /// Of all tries.
    pub warnings: Vec<String>,
}

impl Planner<'_> {
    /// The next decision. A reply that cannot be read is asked for once more, with the error shown, and without
    /// thinking where thinking left no room for a reply.
    ///
    /// # Errors
    /// Where the model did not reply at all.
    pub async fn plan(&self, state: &State<'_>) -> Result<Planned, ChatError> {
        let actions: Vec<&str> = state.tools.iter().map(|tool| tool.name.as_str()).collect();
        let mut request = ChatRequest {
            messages: self.prompt.render(state),
            schema: Some(planner_schema(&actions)),
            think: self.settings.think,
            sampling: step_sampling(&self.settings.sampling, state.steps.len()),
            max_tokens: self.settings.max_tokens,
            stop: Vec::new(),
        };
        let mut asked = self.ask(&request, &actions).await?;
        let mut usage = asked.reply.usage;
        let mut warnings = asked.reply.warnings.clone();
        if let Err(problem) = &asked.decision {
            request.messages.extend(correction(&asked.reply.text, problem));
            request.think &= !asked.only_thought;
            asked = self.ask(&request, &actions).await?;
            usage += asked.reply.usage;
            warnings.extend_from_slice(&asked.reply.warnings);
        }
        let Asked { decision, reply, .. } = asked;
        Ok(Planned { prompt: request.messages, decision, reply, usage, warnings })
    }

    async fn ask(&self, request: &ChatRequest, actions: &[&str]) -> Result<Asked, ChatError> {
        let (reply, violation, only_thought) = match self.model.chat(request).await {
            Ok(reply) => (reply, None, false),
            Err(ChatError::SchemaViolated { violation, reply }) => {
                (*reply, Some(violation.to_string()), false)
            }
            Err(ChatError::ThinkingExhausted { reply }) => {
                (*reply, Some("it was all thinking and no answer".to_owned()), true)
            }
            Err(error) => return Err(error),
        };
        // What breaks the schema may still be a decision, e.g. one in a code fence.
        let decision = read(&reply.text, actions).map_err(|problem| violation.unwrap_or(problem));
        Ok(Asked { reply, decision, only_thought })
    }
}

struct Asked {
    reply: ChatReply,
    decision: Result<Decision, String>,
    /// The token limit was used up before the reply began.
    only_thought: bool,
}

/// Every step draws from a stream of its own, so that a repeated prompt is not answered by the same tokens.
fn step_sampling(sampling: &Sampling, step: usize) -> Sampling {
    let seed = sampling.seed.map(|seed| seed.wrapping_add(step as u64));
    Sampling { seed, ..sampling.clone() }
}

/// Reads a decision, whatever the server promised about it.
fn read(text: &str, actions: &[&str]) -> Result<Decision, String> {
    let decision: Decision = serde_json::from_str(object(text)).map_err(|e| e.to_string())?;
    let Decision { action, action_input, .. } = &decision;
    if !actions.contains(&action.as_str()) {
        let action = shorten(action, 60);
        Err(format!("`{action}` is no action; there are {}", actions.join(", ")))
    } else if action == "answer" && action_input.trim().is_empty() {
        Err("`action_input` of `answer` is empty, and should be the answer".to_owned())
    } else {
        Ok(decision)
    }
}

/// The object in `text`: servers that do not constrain the reply let models put fences and words around it.
fn object(text: &str) -> &str {
    match (text.find('{'), text.rfind('}')) {
        (Some(first), Some(last)) if first < last => &text[first..=last],
        _ => text,
    }
}
