//! The planner: decides the next step. The only module that is trained.

use agentflow_llm::{ChatError, ChatModel, ChatReply, ChatRequest, Message, Sampling, Usage};

use crate::prompt::{PlannerPrompt, State, planner_schema};
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
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// The messages the planner read (those of the first try).
    pub prompt: Vec<Message>,
    /// The decision, or why the reply could not be read, twice.
    pub decision: Result<Decision, String>,
    pub reply: ChatReply,
    /// All tries together.
    pub usage: Usage,
}

impl Planner<'_> {
    /// The next decision. A reply that cannot be read is asked for once more, with the error shown.
    ///
    /// # Errors
    /// Where the model did not reply at all.
    pub async fn plan(&self, state: &State<'_>) -> Result<Planned, ChatError> {
        let actions: Vec<&str> = state.tools.iter().map(|tool| tool.name.as_str()).collect();
        let prompt = self.prompt.render(state);
        let mut request = ChatRequest {
            messages: prompt.clone(),
            schema: Some(planner_schema(&actions)),
            think: self.settings.think,
            sampling: step_sampling(&self.settings.sampling, state.steps.len()),
            max_tokens: self.settings.max_tokens,
            stop: Vec::new(),
        };
        let (reply, problem) = match self.ask(&request, &actions).await? {
            Asked { reply, decision: Ok(decision) } => {
                let usage = reply.usage;
                return Ok(Planned { prompt, decision: Ok(decision), reply, usage });
            }
            Asked { reply, decision: Err(problem) } => (reply, problem),
        };
        let mut usage = reply.usage;
        request.messages.push(Message::assistant(reply.text));
        request.messages.push(Message::user(format!(
            "Your reply could not be used: {problem}. Reply with exactly one JSON object with `thought`, `action` and \
             `action_input`, and keep it short."
        )));
        let Asked { reply, decision } = self.ask(&request, &actions).await?;
        usage += reply.usage;
        Ok(Planned { prompt, decision, reply, usage })
    }

    async fn ask(&self, request: &ChatRequest, actions: &[&str]) -> Result<Asked, ChatError> {
        let reply = match self.model.chat(request).await {
            Ok(reply) => reply,
            Err(ChatError::SchemaViolated { violation, reply }) => {
                return Ok(Asked { reply: *reply, decision: Err(violation.to_string()) });
            }
            Err(ChatError::ThinkingExhausted { reply }) => {
                let problem = "it was all thinking and no answer".to_owned();
                return Ok(Asked { reply: *reply, decision: Err(problem) });
            }
            Err(error) => return Err(error),
        };
        let decision = read(&reply.text, actions);
        Ok(Asked { reply, decision })
    }
}

struct Asked {
    reply: ChatReply,
    decision: Result<Decision, String>,
}

/// Every step draws from a stream of its own, so that a repeated prompt is not answered by the same tokens.
fn step_sampling(sampling: &Sampling, step: usize) -> Sampling {
    let seed = sampling.seed.map(|seed| seed.wrapping_add(step as u64));
    Sampling { seed, ..sampling.clone() }
}

/// Reads a decision, whatever the server promised about it.
fn read(text: &str, actions: &[&str]) -> Result<Decision, String> {
    let decision: Decision = serde_json::from_str(text).map_err(|e| e.to_string())?;
    if actions.contains(&decision.action.as_str()) {
        Ok(decision)
    } else {
        Err(format!("`{}` is no action; there are {}", decision.action, actions.join(", ")))
    }
}
