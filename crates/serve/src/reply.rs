//! One reply: it waits for a slot, is generated in a task of its own, and comes as events. Dropping the receiving end
//! ends the generation and frees the slot.

use std::sync::Arc;
use std::time::{Duration, Instant};

use agentflow_llm::{ChatError, ChatEvent, ChatReply, ChatRequest, Finish, Message, Usage};
use futures::stream::{self, Stream, StreamExt};
use tokio::sync::mpsc;

use crate::error::ServeError;
use crate::gate::Slot;
use crate::model::{Job, Prompt, ScoredToken, ServedModel, unsupported};
use crate::pieces::Pieces;
use crate::server::Shared;
use crate::tool_calls::ToolCall;

/// Events that a slow client may leave waiting before the generation waits for it.
const EVENTS_AHEAD: usize = 64;

/// A reply that is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) prompt: Prompt,
    /// Tokens of an earlier exchange, to be read first.
    pub(crate) before: Vec<u32>,
    /// Without messages; its `max_tokens` is set here.
    pub(crate) request: ChatRequest,
    /// `None`: as many as the context holds.
    pub(crate) max_tokens: Option<u32>,
    /// A context smaller than the model's.
    pub(crate) num_ctx: Option<u32>,
    /// Log-probabilities, with this many likeliest tokens each.
    pub(crate) logprobs: Option<usize>,
}

#[derive(Debug)]
pub(crate) enum Event {
    Thinking(String),
    Text(String),
    /// The whole reply; nothing follows.
    Done(Box<Finished>),
}

/// A complete reply.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) text: String,
    pub(crate) thinking: Option<String>,
    pub(crate) calls: Vec<ToolCall>,
    pub(crate) finish: Finish,
    pub(crate) usage: Usage,
    pub(crate) timings: Timings,
    pub(crate) logprobs: Vec<ScoredToken>,
    /// Prompt and reply, where the model tells its tokens.
    pub(crate) tokens: Option<Vec<u32>>,
}

/// Where the time went.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Timings {
    pub(crate) total: Duration,
    /// Until there was a slot: the model itself is always loaded.
    pub(crate) load: Duration,
    /// From there to the first piece of the reply.
    pub(crate) prompt: Duration,
    /// From there to its end.
    pub(crate) eval: Duration,
}

/// The receiving end of a reply.
pub(crate) struct Replying {
    events: mpsc::Receiver<Result<Event, ServeError>>,
}

impl Replying {
    /// Waits for a slot and starts the reply.
    ///
    /// # Errors
    /// 503 where the queue is full.
    pub(crate) async fn start(
        shared: &Shared,
        model: Arc<dyn ServedModel>,
        ask: Ask,
    ) -> Result<Self, ServeError> {
        let arrived = Instant::now();
        let slot = shared.gate.enter().await?;
        let clock = Clock { arrived, entered: Instant::now(), first: None };
        let (sender, events) = mpsc::channel(EVENTS_AHEAD);
        let ending = shared.ending.clone();
        tokio::spawn(async move {
            let failed = tokio::select! {
                result = generate(&*model, ask, slot, clock, &sender) => result.err(),
                () = sender.closed() => None,
                () = ending.cancelled() => Some(ServeError::shutting_down()),
            };
            if let Some(error) = failed {
                let _ = sender.send(Err(error)).await; // nobody is left to hear it
            }
        });
        Ok(Self { events })
    }

    /// The next event; the last one is [`Event::Done`].
    pub(crate) async fn next(&mut self) -> Result<Event, ServeError> {
        self.events.recv().await.unwrap_or_else(|| {
            Err(ChatError::Engine {
                backend: "served".to_owned(),
                reason: "the generation ended without a reply".to_owned(),
            }
            .into())
        })
    }

    /// All events, once the first is there; an error is the last.
    ///
    /// # Errors
    /// If the reply fails before its first event.
    pub(crate) async fn begun(
        mut self,
    ) -> Result<impl Stream<Item = Result<Event, ServeError>> + Send + 'static, ServeError> {
        let first = self.next().await?;
        let following = match first {
            Event::Done(_) => None,
            _ => Some(self),
        };
        let rest = stream::unfold(following, async |replying| {
            let mut replying = replying?;
            let event = replying.next().await;
            let more = matches!(event, Ok(Event::Thinking(_) | Event::Text(_)));
            Some((event, more.then_some(replying)))
        });
        Ok(stream::once(std::future::ready(Ok(first))).chain(rest))
    }

    /// The whole reply.
    pub(crate) async fn finished(mut self) -> Result<Box<Finished>, ServeError> {
        loop {
            if let Event::Done(finished) = self.next().await? {
                return Ok(finished);
            }
        }
    }
}

struct Clock {
    arrived: Instant,
    entered: Instant,
    first: Option<Instant>,
}

impl Clock {
    fn timings(&self) -> Timings {
        let now = Instant::now();
        let first = self.first.unwrap_or(now);
        Timings {
            total: now - self.arrived,
            load: self.entered - self.arrived,
            prompt: first - self.entered,
            eval: now - first,
        }
    }
}

type Sender = mpsc::Sender<Result<Event, ServeError>>;

async fn generate(
    model: &dyn ServedModel,
    ask: Ask,
    slot: Slot,
    mut clock: Clock,
    sender: &Sender,
) -> Result<(), ServeError> {
    let job = prepare(model, &ask).await?;
    let prompt = job.tokens.clone();
    let takes_calls = matches!(&ask.prompt, Prompt::Chat(chat) if !chat.tools.is_empty());
    let mut pieces = Pieces::new(&job.request.stop, takes_calls);
    let mut stream = model.stream(job);
    let reply = loop {
        let event = match stream.next().await {
            Some(Ok(ChatEvent::Text(piece))) => pieces.text(&piece).map(Event::Text),
            Some(Ok(ChatEvent::Thinking(piece))) => pieces.thinking(&piece).map(Event::Thinking),
            Some(Ok(ChatEvent::Done(reply))) => break reply,
            Some(Err(error)) => break despite(error)?,
            None => return Ok(()), // the receiving end says that the reply is missing
        };
        clock.first.get_or_insert_with(Instant::now);
        if let Some(event) = event
            && sender.send(Ok(event)).await.is_err()
        {
            return Ok(());
        }
    };
    let mut timings = clock.timings();
    drop(stream);
    let rest = pieces.finish(&reply);
    if !rest.thinking.is_empty() {
        let _ = sender.send(Ok(Event::Thinking(rest.thinking))).await;
    }
    if !rest.text.is_empty() {
        let _ = sender.send(Ok(Event::Text(rest.text))).await;
    }
    let logprobs = match ask.logprobs {
        Some(top) => score(model, prompt.as_deref(), &reply, top).await?,
        None => Vec::new(),
    };
    timings.total = clock.arrived.elapsed();
    let tokens = prompt.zip(reply.token_ids).map(|(prompt, ids)| [prompt, ids].concat());
    let finished = Finished {
        text: rest.whole,
        thinking: reply.thinking,
        calls: rest.calls,
        finish: reply.finish,
        usage: reply.usage,
        timings,
        logprobs,
        tokens,
    };
    // Before the answer is out: who has it may ask the next question at once.
    drop(slot);
    let _ = sender.send(Ok(Event::Done(Box::new(finished)))).await;
    Ok(())
}

/// Reads the prompt and bounds the reply by the context.
async fn prepare(model: &dyn ServedModel, ask: &Ask) -> Result<Job, ServeError> {
    let card = model.card();
    let context = ask.num_ctx.unwrap_or(u32::MAX).min(card.context_length);
    let (tokens, room) = match model.tokens(&ask.prompt).await? {
        Some(tokens) => {
            let tokens = [ask.before.as_slice(), &tokens].concat();
            if tokens.len() >= context as usize {
                let text = format!("it has {} tokens, the context is {context}", tokens.len());
                return Err(ChatError::ContextTooLong { text }.into());
            }
            let room = context - tokens.len() as u32;
            (Some(tokens), room)
        }
        None if ask.before.is_empty() => (None, context),
        None => return Err(unsupported(card, "context").into()),
    };
    if tokens.as_ref().is_some_and(Vec::is_empty) {
        return Err(ServeError::bad_request("the prompt is empty"));
    }
    let mut request = ask.request.clone();
    request.max_tokens = ask.max_tokens.map_or(room, |most| most.min(room));
    check(&request)?;
    Ok(Job { prompt: ask.prompt.clone(), tokens, request })
}

/// What [`ChatRequest::check`] refuses, but for the messages, which stand in the prompt.
fn check(request: &ChatRequest) -> Result<(), ServeError> {
    let messages = vec![Message::user("")];
    Ok(ChatRequest { messages, ..request.clone() }.check()?)
}

/// Replies that are an error to us, and an answer on the wire: what was asked of the text, the client checks.
fn despite(error: ChatError) -> Result<ChatReply, ServeError> {
    match error {
        ChatError::SchemaViolated { reply, .. } | ChatError::ThinkingExhausted { reply } => {
            Ok(*reply)
        }
        other => Err(other.into()),
    }
}

/// From a second look at the whole reply where the model can be asked, which also tells the likeliest tokens.
async fn score(
    model: &dyn ServedModel,
    prompt: Option<&[u32]>,
    reply: &ChatReply,
    top: usize,
) -> Result<Vec<ScoredToken>, ServeError> {
    let (Some(prompt), Some(completion)) = (prompt, &reply.token_ids) else {
        return Err(unsupported(model.card(), "logprobs").into());
    };
    Ok(model.score(prompt, completion, top).await?)
}
