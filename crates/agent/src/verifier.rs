//! The verifier: a separate judge that says whether the results already hold the answer. Conservative: what it cannot
//! say clearly means "go on".

use agentflow_llm::{ChatError, ChatModel, ChatRequest, Usage};

use crate::planner::CallSettings;
use crate::prompt::{verifier_messages, verifier_schema};
use crate::trajectory::{Step, Verdict};

/// Judges the state after each step.
pub enum Verifier<'a> {
    /// Asks a model.
    Model { model: &'a dyn ChatModel, settings: CallSettings },
    /// Leaves it to the planner to stop, by `answer`: for planners too small to judge.
    Planner,
}

impl Verifier<'_> {
    /// The verdict on `steps`, and what it cost.
    ///
    /// # Errors
    /// Where the model did not reply at all. A reply that cannot be read is a verdict: not sufficient.
    pub async fn verify(
        &self,
        question: &str,
        steps: &[Step],
    ) -> Result<(Verdict, Usage), ChatError> {
        let Self::Model { model, settings } = self else {
            return Ok((go_on("the planner decides when to answer"), Usage::default()));
        };
        let request = ChatRequest {
            messages: verifier_messages(question, steps),
            schema: Some(verifier_schema()),
            think: settings.think,
            sampling: settings.sampling.clone(),
            max_tokens: settings.max_tokens,
            stop: Vec::new(),
        };
        match model.chat(&request).await {
            Ok(reply) => {
                let verdict = serde_json::from_str(&reply.text)
                    .unwrap_or_else(|_| go_on("the verifier's reply could not be read"));
                Ok((verdict, reply.usage))
            }
            Err(ChatError::SchemaViolated { reply, .. } | ChatError::ThinkingExhausted { reply }) => {
                Ok((go_on("the verifier's reply could not be read"), reply.usage))
            }
            Err(error) => Err(error),
        }
    }
}

fn go_on(reason: &str) -> Verdict {
    Verdict { sufficient: false, reason: reason.to_owned() }
}
