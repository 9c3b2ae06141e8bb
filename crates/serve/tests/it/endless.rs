//! A model that says one word, and then nothing until it is told to go on or dropped: what a reply under way looks like
//! from outside.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use agentflow_llm::{
    ChatError, ChatEvent, ChatModel, ChatReply, ChatRequest, Finish, ModelInfo, Usage,
};
use agentflow_serve::{AnyChat, Card, Limits, Server};
use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::Semaphore;

pub(crate) struct Endless {
    info: ModelInfo,
    /// What the reply says.
    text: String,
    pub(crate) under_way: Arc<AtomicUsize>,
    /// A permit ends one reply.
    pub(crate) go_on: Arc<Semaphore>,
}

impl Endless {
    pub(crate) fn saying(text: &str) -> Arc<Self> {
        let info = ModelInfo {
            name: "endless".into(),
            backend: "test".into(),
            digest: None,
            adapter: None,
            num_ctx: None,
            prompt_profile: None,
        };
        let (under_way, go_on) = (Arc::default(), Arc::new(Semaphore::new(0)));
        Arc::new(Self { info, text: text.to_owned(), under_way, go_on })
    }

    pub(crate) fn server(self: &Arc<Self>, concurrency: usize, queue: usize) -> Server {
        let limits = Limits { concurrency, queue, ..Limits::default() };
        Server::new(vec![Arc::new(AnyChat::new(self.clone(), card()))], limits)
    }
}

pub(crate) fn card() -> Card {
    Card {
        name: "endless".into(),
        digest: "sha256:0".into(),
        family: "none".into(),
        parameters: 0,
        dtype: "F32".into(),
        size: 0,
        context_length: 100,
        embedding_length: 0,
        template: String::new(),
        thinks: false,
        calls_tools: false,
        info: Default::default(),
    }
}

struct UnderWay(Arc<AtomicUsize>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl ChatModel for Endless {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    async fn chat(&self, _: &ChatRequest) -> Result<ChatReply, ChatError> {
        unreachable!("the server streams")
    }

    fn stream(&self, _: ChatRequest) -> BoxStream<'_, Result<ChatEvent, ChatError>> {
        self.under_way.fetch_add(1, Ordering::SeqCst);
        let under_way = UnderWay(self.under_way.clone());
        let first = stream::iter([Ok(ChatEvent::Text(self.text.clone()))]);
        let last = stream::once(async move {
            let _under_way = under_way;
            self.go_on.acquire().await.expect("it is never closed").forget();
            Ok(ChatEvent::Done(ChatReply {
                text: self.text.clone(),
                thinking: None,
                finish: Finish::Stop,
                usage: Usage { prompt_tokens: 1, completion_tokens: 1 },
                token_ids: None,
                logprobs: None,
                warnings: Vec::new(),
            }))
        });
        first.chain(last).boxed()
    }
}
