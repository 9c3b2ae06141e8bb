//! A model that says what the test tells it to.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use agentflow_llm::{
    ChatError, ChatEvent, ChatModel, ChatReply, ChatRequest, Finish, ModelInfo, Usage,
};
use futures::stream::BoxStream;
use serde_json::{Value, json};

/// What the model does with one request.
#[derive(Debug, Clone)]
pub(crate) enum Turn {
    Reply(ChatReply),
    Error(ChatError),
    /// Never answers.
    Hang,
}

/// Plays its turns in order and keeps the requests. A request without a turn fails the test.
#[derive(Clone)]
pub(crate) struct Scripted {
    info: ModelInfo,
    turns: Arc<Mutex<VecDeque<Turn>>>,
    requests: Arc<Mutex<Vec<ChatRequest>>>,
}

impl Scripted {
    pub(crate) fn new(turns: impl IntoIterator<Item = Turn>) -> Self {
        let info = ModelInfo {
            name: "scripted".to_owned(),
            backend: "replay".to_owned(),
            digest: Some("sha256:0".to_owned()),
            adapter: None,
            num_ctx: Some(4096),
            prompt_profile: None,
        };
        let turns = Arc::new(Mutex::new(turns.into_iter().collect()));
        Self { info, turns, requests: Arc::default() }
    }

    pub(crate) fn requests(&self) -> Vec<ChatRequest> {
        self.requests.lock().unwrap().clone()
    }

    /// The actions that each request offered.
    pub(crate) fn offered(&self) -> Vec<Vec<String>> {
        let offered = |request: &ChatRequest| {
            let schema = request.schema.as_ref().expect("the agent always sends a schema");
            let names = schema["properties"]["action"]["enum"].as_array().expect("an enum");
            names.iter().map(|name| name.as_str().unwrap().to_owned()).collect()
        };
        self.requests().iter().map(offered).collect()
    }

    /// Turns that no request asked for.
    pub(crate) fn left(&self) -> usize {
        self.turns.lock().unwrap().len()
    }
}

#[async_trait::async_trait]
impl ChatModel for Scripted {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    async fn chat(&self, request: &ChatRequest) -> Result<ChatReply, ChatError> {
        request.check().expect("a request that backends take");
        self.requests.lock().unwrap().push(request.clone());
        let turn = self.turns.lock().unwrap().pop_front();
        match turn {
            Some(Turn::Reply(reply)) => request.conforming(reply),
            Some(Turn::Error(error)) => Err(error),
            Some(Turn::Hang) => std::future::pending().await,
            None => panic!("the script is over, but the model is asked: {:#?}", request.messages),
        }
    }

    fn stream(&self, _: ChatRequest) -> BoxStream<'_, Result<ChatEvent, ChatError>> {
        unreachable!("the agent asks for whole replies")
    }
}

/// A reply of 10 prompt and 5 completion tokens.
pub(crate) fn reply(text: impl Into<String>) -> ChatReply {
    ChatReply {
        text: text.into(),
        thinking: None,
        finish: Finish::Stop,
        usage: Usage { prompt_tokens: 10, completion_tokens: 5 },
        token_ids: None,
        logprobs: None,
        warnings: Vec::new(),
    }
}

pub(crate) fn says(text: impl Into<String>) -> Turn {
    Turn::Reply(reply(text))
}

/// What [`decides`] says.
pub(crate) fn decision(action: &str, input: &str) -> Value {
    json!({ "thought": format!("I choose {action}"), "action": action, "action_input": input })
}

pub(crate) fn decides(action: &str, input: &str) -> Turn {
    says(decision(action, input).to_string())
}

pub(crate) fn judges(sufficient: bool) -> Turn {
    says(json!({ "reason": "the judge says so", "sufficient": sufficient }).to_string())
}

pub(crate) fn unreachable() -> ChatError {
    ChatError::Unreachable {
        server: "Ollama".to_owned(),
        url: "http://127.0.0.1:11434".to_owned(),
        reason: "connection refused".to_owned(),
        advice: "start it with `ollama serve`".to_owned(),
    }
}
