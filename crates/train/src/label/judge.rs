//! A language model that rates decisions by a rubric.
//!
//! Holistic marks of a judge are less consistent than marks for single things, so it is asked for five sub-scores, and a
//! stated rule makes the label of them (`rubric.rs`). It sees the whole attempt, and rates one decision (`messages.rs`). A
//! reply that is no rating of that decision on that scale is asked for once more, with the error shown; then the label is
//! *missing*, with the cause, and never 0 (`reply.rs`).

mod cost;
mod messages;
mod reply;
mod rubric;

use std::sync::Arc;

use agentflow_agent::CallSettings;
use agentflow_agent::trajectory::ModelRecord;
use agentflow_llm::{ChatError, ChatModel, ChatReply, ChatRequest, Usage};
use async_trait::async_trait;
use sha2::{Digest, Sha256};

use super::labeller::{Case, Labelled, Labeller, LabellerError};
use super::record::Provenance;
pub use cost::tokens;
use reply::{Rating, Unusable, read};
pub use rubric::{Order, Rubric, Sight, WRONG_AT_MOST};

/// Rates decisions with a model.
#[derive(Clone)]
pub struct Judge {
    pub model: Arc<dyn ChatModel>,
    pub rubric: Rubric,
    /// Temperature 0, if ratings are to be repeatable.
    pub settings: CallSettings,
    /// Attempts that take more are shortened; by [`tokens`], which errs on the high side.
    pub most_prompt_tokens: u64,
}

impl Judge {
    /// The same judge, asked in another order and with another seed: what it says then should be the same.
    pub fn again(&self) -> Self {
        let mut again = self.clone();
        again.rubric.order = match self.rubric.order {
            Order::Forward => Order::Reversed,
            Order::Reversed => Order::Forward,
        };
        again.settings.sampling.seed = self.settings.sampling.seed.map(|seed| seed.wrapping_add(1));
        again
    }

    fn request(&self, case: &Case) -> ChatRequest {
        ChatRequest {
            messages: messages::messages(self.rubric, case, self.most_prompt_tokens),
            schema: Some(self.rubric.schema(case.sample.trajectory.steps.len())),
            think: self.settings.think,
            sampling: self.settings.sampling.clone(),
            max_tokens: self.settings.max_tokens,
            stop: Vec::new(),
        }
    }

    fn labelled(&self, asked: Asked, usage: Usage) -> Labelled {
        let (label, scores, reason) = match asked.rating {
            Ok(Rating { reason, grades }) => {
                (Ok(rubric::combine(grades)), Some(rubric::scores(grades)), Some(reason))
            }
            Err(problem) => (Err(problem.to_string()), None, None),
        };
        let by = Provenance::Judge {
            model: ModelRecord::from(self.model.info()),
            rubric: self.rubric.version(),
            scores,
            reason,
            raw: asked.reply.map(|reply| reply.text),
        };
        Labelled { label, by, usage }
    }

    async fn ask(&self, request: &ChatRequest, step: usize) -> Result<Asked, ChatError> {
        let reply = match self.model.chat(request).await {
            Ok(reply) => reply,
            // Read here all the same, which names what is wrong in the terms of the rubric.
            Err(ChatError::SchemaViolated { reply, .. }) => *reply,
            Err(ChatError::ThinkingExhausted { reply }) => {
                return Ok(Asked { reply: Some(*reply), rating: Err(Unusable::OnlyThought) });
            }
            // Neither another try nor another run would make it fit.
            Err(error @ ChatError::ContextTooLong { .. }) => {
                let rating = Err(Unusable::TooLong(error.to_string()));
                return Ok(Asked { reply: None, rating });
            }
            Err(error) => return Err(error),
        };
        let rating = read(&reply, step + 1);
        Ok(Asked { reply: Some(reply), rating })
    }
}

/// One reply, read.
struct Asked {
    /// `None` where the prompt was too long.
    reply: Option<ChatReply>,
    rating: Result<Rating, Unusable>,
}

impl Asked {
    fn usage(&self) -> Usage {
        self.reply.as_ref().map(|reply| reply.usage).unwrap_or_default()
    }
}

#[async_trait]
impl Labeller for Judge {
    /// SHA-256 of the model, the rubric and the whole request.
    fn key(&self, case: &Case) -> String {
        let model = ModelRecord::from(self.model.info());
        let asked = (model, self.rubric.version(), case.step, self.request(case));
        let bytes = serde_json::to_vec(&asked).expect("a request is plain data");
        format!("{:x}", Sha256::digest(bytes))
    }

    /// If the first reply is good.
    fn estimate(&self, case: &Case) -> Usage {
        let CallSettings { think, max_tokens, .. } = self.settings;
        cost::of_rating(&self.request(case).messages, think, max_tokens)
    }

    async fn label(&self, case: &Case) -> Result<Labelled, LabellerError> {
        let mut request = self.request(case);
        let first = self.ask(&request, case.step).await?;
        let mut usage = first.usage();
        let (Err(problem), Some(reply)) = (&first.rating, &first.reply) else {
            return Ok(self.labelled(first, usage));
        };
        let shown = messages::correction(self.rubric, case, &reply.text, &problem.to_string());
        request.messages.extend(shown);
        request.think &= *problem != Unusable::OnlyThought;
        let second = self.ask(&request, case.step).await?;
        usage += second.usage();
        Ok(self.labelled(second, usage))
    }
}
