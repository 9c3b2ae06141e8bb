//! Recordings of model calls: made while a run goes on, played back in its place.
//!
//! A recording is a file of JSON lines, one exchange each: the request, and the reply or the error. Equal requests
//! are played back in the order in which they were recorded, so a run that samples is repeated too.

mod nearest;

use std::{
    collections::HashMap,
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Mutex,
};

use async_trait::async_trait;
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use serde::{Deserialize, Serialize};

use crate::{
    chat::{ChatEvent, ChatModel, ChatReply, ChatRequest, ModelInfo},
    error::{ChatError, ReplayError},
};

/// What every line says it is; a reader refuses anything else.
const SCHEMA: &str = "agentflow.exchange/1";

/// One call and its outcome, a line of a recording.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Exchange {
    schema: String,
    model: ModelInfo,
    request: ChatRequest,
    outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Reply(ChatReply),
    Error(ChatError),
}

/// A model that records every exchange of another.
///
/// A stream that is dropped before its end leaves no exchange behind.
#[derive(Debug)]
pub struct Recorder<M> {
    model: M,
    path: PathBuf,
    file: Mutex<File>,
}

impl<M: ChatModel> Recorder<M> {
    /// Records to `path`, after what is there already. A last line torn by a crash is dropped.
    ///
    /// # Errors
    /// [`ReplayError::File`] if the file cannot be written, or another process records to it.
    pub fn new(model: M, path: impl Into<PathBuf>) -> Result<Self, ReplayError> {
        let path = path.into();
        let failed = |error: std::io::Error| file_error("write", &path, &error.to_string());
        let mut file =
            OpenOptions::new().create(true).read(true).append(true).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(file_error("write", &path, "another process records to it"));
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        drop_torn_line(&mut file, &path).map_err(failed)?;
        Ok(Self { model, path, file: Mutex::new(file) })
    }

    fn record(
        &self,
        request: &ChatRequest,
        outcome: &Result<ChatReply, ChatError>,
    ) -> Result<(), ReplayError> {
        let exchange = Exchange {
            schema: SCHEMA.to_owned(),
            model: self.model.info().clone(),
            request: request.clone(),
            outcome: match outcome {
                Ok(reply) => Outcome::Reply(reply.clone()),
                Err(error) => Outcome::Error(error.clone()),
            },
        };
        let failed = |reason: String| file_error("write", &self.path, &reason);
        let mut line =
            serde_json::to_string(&exchange).map_err(|error| failed(error.to_string()))?;
        line.push('\n');
        let mut file = self.file.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // One write, so that a crash tears the last line at most.
        file.write_all(line.as_bytes()).map_err(|error| failed(error.to_string()))
    }
}

#[async_trait]
impl<M: ChatModel> ChatModel for Recorder<M> {
    fn info(&self) -> &ModelInfo {
        self.model.info()
    }

    async fn chat(&self, request: &ChatRequest) -> Result<ChatReply, ChatError> {
        let outcome = self.model.chat(request).await;
        self.record(request, &outcome)?;
        outcome
    }

    fn stream(&self, request: ChatRequest) -> BoxStream<'_, Result<ChatEvent, ChatError>> {
        let events = self.model.stream(request.clone());
        events
            .map(move |event| {
                match &event {
                    Ok(ChatEvent::Done(reply)) => self.record(&request, &Ok(reply.clone()))?,
                    Err(error) => self.record(&request, &Err(error.clone()))?,
                    Ok(_) => {}
                }
                event
            })
            .boxed()
    }
}

/// A model that plays a recording back.
#[derive(Debug)]
pub struct Replay {
    path: PathBuf,
    info: ModelInfo,
    exchanges: Vec<Exchange>,
    /// By request, in JSON: places in `exchanges`, in order.
    places: HashMap<String, Vec<usize>>,
    /// How often each request has been played.
    played: Mutex<HashMap<String, usize>>,
}

impl Replay {
    /// Reads the recording at `path`. A last line torn by a crash is dropped.
    ///
    /// # Errors
    /// [`ReplayError`] if it cannot be read, is empty, or has a line that is not an exchange.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, ReplayError> {
        let path = path.into();
        let text = std::fs::read_to_string(&path)
            .map_err(|error| file_error("read", &path, &error.to_string()))?;
        let mut exchanges = Vec::new();
        for (index, line) in text.split_inclusive('\n').enumerate() {
            match read_exchange(line) {
                Ok(exchange) => exchanges.push(exchange),
                Err(_) if !line.ends_with('\n') => {
                    tracing::warn!(path = %path.display(), "the last line was torn and is left out");
                }
                Err(reason) => {
                    let path = path.display().to_string();
                    return Err(ReplayError::Line { path, line: index + 1, reason });
                }
            }
        }
        let Some(first) = exchanges.first() else {
            return Err(file_error("read", &path, "it has no exchanges"));
        };
        let info = ModelInfo { backend: "replay".to_owned(), ..first.model.clone() };
        let mut places: HashMap<String, Vec<usize>> = HashMap::new();
        for (place, exchange) in exchanges.iter().enumerate() {
            places.entry(key(&exchange.request)).or_default().push(place);
        }
        Ok(Self { path, info, exchanges, places, played: Mutex::default() })
    }

    fn next(&self, request: &ChatRequest) -> Result<ChatReply, ChatError> {
        let key = key(request);
        let path = || self.path.display().to_string();
        let Some(places) = self.places.get(&key) else {
            let requests = self.exchanges.iter().map(|exchange| &exchange.request);
            let nearest = nearest::describe(request, requests);
            return Err(ReplayError::Missing { path: path(), nearest }.into());
        };
        let mut all_played = self.played.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let played = all_played.entry(key).or_default();
        let Some(place) = places.get(*played) else {
            return Err(ReplayError::UsedUp { path: path(), recorded: places.len() }.into());
        };
        *played += 1;
        match &self.exchanges[*place].outcome {
            Outcome::Reply(reply) => Ok(reply.clone()),
            Outcome::Error(error) => Err(error.clone()),
        }
    }
}

#[async_trait]
impl ChatModel for Replay {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    async fn chat(&self, request: &ChatRequest) -> Result<ChatReply, ChatError> {
        self.next(request)
    }

    fn stream(&self, request: ChatRequest) -> BoxStream<'_, Result<ChatEvent, ChatError>> {
        let events = match self.next(&request) {
            Err(error) => vec![Err(error)],
            Ok(reply) => {
                let thinking = reply.thinking.clone().map(ChatEvent::Thinking);
                let text = Some(reply.text.clone()).filter(|text| !text.is_empty());
                let pieces = thinking.into_iter().chain(text.map(ChatEvent::Text));
                pieces.chain([ChatEvent::Done(reply)]).map(Ok).collect()
            }
        };
        stream::iter(events).boxed()
    }
}

/// Requests are equal when they are the same on paper, keys of the schema in order included.
fn key(request: &ChatRequest) -> String {
    serde_json::to_string(request).expect("a request is plain data")
}

fn read_exchange(line: &str) -> Result<Exchange, String> {
    let exchange: Exchange = serde_json::from_str(line).map_err(|error| error.to_string())?;
    if exchange.schema == SCHEMA {
        Ok(exchange)
    } else {
        Err(format!("its schema is `{}`, not `{SCHEMA}`", exchange.schema))
    }
}

/// Cuts `file` back to its last whole line.
fn drop_torn_line(file: &mut File, path: &Path) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut bytes)?;
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    if whole < bytes.len() {
        tracing::warn!(path = %path.display(), "the last line was torn and is dropped");
        file.set_len(whole as u64)?;
    }
    Ok(())
}

fn file_error(action: &str, path: &Path, reason: &str) -> ReplayError {
    ReplayError::File {
        action: action.to_owned(),
        path: path.display().to_string(),
        reason: reason.to_owned(),
    }
}
