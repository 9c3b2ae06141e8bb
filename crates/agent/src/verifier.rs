//! The verifier: a separate judge that says whether the results already hold the answer. Conservative: what it cannot
//! say clearly means "go on".

use std::sync::Arc;

use agentflow_llm::{ChatError, ChatModel, ChatRequest, Usage};

use crate::planner::CallSettings;
use crate::prompt::{verifier_messages, verifier_schema};
use crate::trajectory::{Step, Verdict};

/// Judges the state after each step.
#[derive(Clone)]
pub enum Verifier {
    /// Asks a model.
    Model { model: Arc<dyn ChatModel>, settings: CallSettings },
    /// Leaves it to the planner to stop, by `answer`: for planners too small to judge.
    Planner,
}

/// What came of asking for a verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    pub verdict: Verdict,
    pub usage: Usage,
    /// What the backend noticed and could live with.
    pub warnings: Vec<String>,
}

impl Verifier {
    /// The verdict on `steps`.
    ///
    /// # Errors
    /// Where the model did not reply at all. A reply that cannot be read is a verdict: not sufficient.
    pub async fn verify(&self, question: &str, steps: &[Step]) -> Result<Judged, ChatError> {
        let Self::Model { model, settings } = self else {
            return Ok(Judged::unasked(false, "the planner decides when to answer"));
        };
        let request = ChatRequest {
            messages: verifier_messages(question, steps),
            schema: Some(verifier_schema()),
            think: settings.think,
            sampling: settings.sampling.clone(),
            max_tokens: settings.max_tokens,
            stop: Vec::new(),
        };
        let (reply, conforms) = match model.chat(&request).await {
            Ok(reply) => (reply, true),
            Err(
                ChatError::SchemaViolated { reply, .. } | ChatError::ThinkingExhausted { reply },
            ) => (*reply, false),
            Err(error) => return Err(error),
        };
        let verdict = conforms.then(|| serde_json::from_str(&reply.text).ok()).flatten();
        let verdict = verdict.unwrap_or_else(|| Verdict {
            sufficient: false,
            reason: "the verifier's reply could not be read".to_owned(),
        });
        Ok(Judged { verdict, usage: reply.usage, warnings: reply.warnings })
    }
}

impl Judged {
    /// What can be said without a model.
    pub(crate) fn unasked(sufficient: bool, reason: &str) -> Self {
        let verdict = Verdict { sufficient, reason: reason.to_owned() };
        Self { verdict, usage: Usage::default(), warnings: Vec::new() }
    }
}
