//! Any [`ChatModel`] as a served one: it chats, and refuses what needs its tokens.

use std::sync::Arc;

use agentflow_llm::{ChatError, ChatEvent, ChatModel, Message, Role};
use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt};

use crate::model::{Card, ChatMessage, Conversation, Job, Prompt, ServedModel, unsupported};

/// A model of which only the replies are known.
pub struct AnyChat {
    model: Arc<dyn ChatModel>,
    card: Card,
}

impl AnyChat {
    pub fn new(model: Arc<dyn ChatModel>, card: Card) -> Self {
        Self { model, card }
    }

    fn messages(&self, prompt: &Prompt) -> Result<Vec<Message>, ChatError> {
        match prompt {
            Prompt::Chat(Conversation { messages, tools, .. }) if tools.is_empty() => {
                messages.iter().map(message).collect()
            }
            Prompt::Chat(_) => Err(unsupported(&self.card, "tools")),
            Prompt::Raw(_) => Err(unsupported(&self.card, "raw prompts")),
        }
    }
}

#[async_trait]
impl ServedModel for AnyChat {
    fn card(&self) -> &Card {
        &self.card
    }

    fn stream(&self, job: Job) -> BoxStream<'_, Result<ChatEvent, ChatError>> {
        match self.messages(&job.prompt) {
            Ok(messages) => {
                self.model.stream(agentflow_llm::ChatRequest { messages, ..job.request })
            }
            Err(error) => stream::iter([Err(error)]).boxed(),
        }
    }
}

fn message(message: &ChatMessage) -> Result<Message, ChatError> {
    let role = match message.role.as_str() {
        "system" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" => Role::Tool,
        other => {
            let text = format!("unknown role `{other}`; use system, user, assistant or tool");
            return Err(ChatError::BadRequest { text });
        }
    };
    Ok(Message { role, content: message.content.clone() })
}
