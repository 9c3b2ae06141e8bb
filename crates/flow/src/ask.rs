//! Questions to a human: a step that asks, and a gate that lets pass.

use std::any::{Any, TypeId, type_name};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::context::Context;
use crate::data::Data;
use crate::error::{ErrorKind, StepError};
use crate::event::Kind;
use crate::id::{RunId, Token};
use crate::node::{Node, node};
use crate::recording::must_encode;
use crate::shape::{Shape, ShapeKind};
use crate::step::Step;

/// Asks a human something about the value, and gives value and answer on.
///
/// The answer comes from the journal, or from [`Run::answer`](crate::Run::answer), or the run pauses: the rest of it that
/// can go on does, and its report has a [`Pause`] with which another process may answer days later.
pub fn ask<I, Q, A>(
    name: &str,
    question: impl Fn(&I) -> Q + Send + Sync + 'static,
) -> Node<I, (I, A)>
where
    I: Data,
    Q: Data,
    A: Data,
{
    node(
        name,
        Ask { question, kind: ShapeKind::Ask, output: |input, answer: A| Ok((input, answer)) },
    )
}

/// A gate: asks a human for a [`Decision`], and lets the value pass if it is yes.
/// A no is [`ErrorKind::Denied`], which is never tried again.
pub fn approve<I, Q>(name: &str, request: impl Fn(&I) -> Q + Send + Sync + 'static) -> Node<I, I>
where
    I: Data,
    Q: Data,
{
    let output = |input, decision: Decision| match decision.approved {
        true => Ok(input),
        false => Err(StepError::new(ErrorKind::Denied(decision))),
    };
    node(name, Ask { question: request, kind: ShapeKind::Approve, output })
}

/// The answer to an [`approve`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Whether the value may pass.
    pub approved: bool,
    /// Who decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why, or on which terms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Decision {
    /// Let it pass.
    pub fn yes() -> Self {
        Self { approved: true, by: None, note: None }
    }

    /// Do not.
    pub fn no() -> Self {
        Self { approved: false, by: None, note: None }
    }

    /// The same, with who decided.
    pub fn by(self, who: &str) -> Self {
        Self { by: Some(who.to_owned()), ..self }
    }

    /// The same, with a note.
    pub fn note(self, text: &str) -> Self {
        Self { note: Some(text.to_owned()), ..self }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.approved { "approved" } else { "denied" })?;
        if let Some(by) = &self.by {
            write!(f, " by {by}")?;
        }
        match &self.note {
            Some(note) => write!(f, ": {note}"),
            None => Ok(()),
        }
    }
}

/// A question that waits for its answer: plain data, to be kept or sent to whoever decides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pause {
    /// The run that waits.
    pub run: RunId,
    /// Of the node that asks.
    pub path: String,
    /// Good for one answer. Whoever has it can answer, so it is a secret.
    pub token: Token,
    /// What it asks.
    pub question: Value,
}

/// An answer that was given to a [`Pause`].
pub(crate) struct Answer {
    pub(crate) path: String,
    pub(crate) token: Token,
    pub(crate) answer: Box<RawValue>,
}

impl Pause {
    pub(crate) fn answer(&self, answer: &impl Serialize) -> Result<Answer, StepError> {
        let answer = must_encode(&format!("the answer to `{}`", self.path), answer)?;
        Ok(Answer { path: self.path.clone(), token: self.token.clone(), answer })
    }

    /// The question, as the type that it was asked in.
    ///
    /// # Errors
    /// If it is of another type.
    pub fn question<Q: DeserializeOwned>(&self) -> Result<Q, serde_json::Error> {
        Q::deserialize(&self.question)
    }
}

struct Ask<I, A, O, F> {
    question: F,
    kind: ShapeKind,
    output: fn(I, A) -> Result<O, StepError>,
}

impl<I, Q, A, O, F> Step<I> for Ask<I, A, O, F>
where
    I: Data,
    Q: Data,
    A: Data,
    O: Data,
    F: Fn(&I) -> Q + Send + Sync + 'static,
{
    type Output = O;

    async fn run(&self, cx: Context, input: I) -> Result<O, StepError> {
        let answer = answer(&cx, (self.question)(&input)).await?;
        (self.output)(input, answer)
    }

    fn shape(&self) -> Shape {
        Shape::new(self.kind, Vec::new())
    }
}

async fn answer<Q: Data, A: Data>(cx: &Context, question: Q) -> Result<A, StepError> {
    let live = cx.live();
    let path = cx.path();
    let recording = live.recording.as_ref();
    let raw = must_encode("the question", &question)?;
    let earlier = recording.and_then(|recording| recording.asked(path)).cloned();
    if let (Some(recording), Some(token)) = (recording, &earlier) {
        match recording.answer(path) {
            None => {}
            Some(Ok(answer)) => {
                cx.emit(Kind::Replayed);
                return Ok(answer);
            }
            Some(Err(error)) => {
                // The question is open again, so that a slip of whoever answered does not end the run.
                recording.record_question(path, token, raw).await?;
                return Err(StepError::refused(format!(
                    "the answer is no `{}`: {error}; resume the run with another answer to the same pause",
                    type_name::<A>()
                )));
            }
        }
    }
    let shown: Value = serde_json::from_str(raw.get())?;
    let asked_before = earlier.is_some();
    let token = earlier.unwrap_or_else(Token::generate);
    if let Some(recording) = recording.filter(|_| !asked_before) {
        recording.record_question(path, &token, raw).await?;
    }
    cx.emit(Kind::Asked(shown.clone()));
    if let Some(answerer) = live.answerers.get::<Q>() {
        let answer = answerer.answer::<A>(question).await?;
        if let Some(recording) = recording {
            recording.record_answer(path, &token, must_encode("the answer", &answer)?).await?;
        }
        cx.emit(Kind::Answered);
        return Ok(answer);
    }
    if recording.is_none() {
        return Err(StepError::fatal(format!(
            "nobody can answer a `{}`: give the run an answerer with `Run::answer`, or a store to wait in with `Run::store`",
            type_name::<Q>()
        )));
    }
    let (run, path) = (live.id.clone(), path.to_string());
    live.pause(Pause { run, path, token, question: shown });
    Err(StepError::new(ErrorKind::Paused))
}

/// Those who answer at once, by the type of the question.
#[derive(Default)]
pub(crate) struct Answerers(HashMap<TypeId, Answerer>);

struct Answerer {
    answers: &'static str,
    ask: Box<dyn Fn(Box<dyn Any + Send>) -> BoxFuture<'static, AnyAnswer> + Send + Sync>,
}

type AnyAnswer = Result<Box<dyn Any + Send>, StepError>;

impl Answerers {
    pub(crate) fn insert<Q, A, F, R>(&mut self, answer: F)
    where
        Q: Data,
        A: Data,
        F: Fn(Q) -> R + Send + Sync + 'static,
        R: Future<Output = Result<A, StepError>> + Send + 'static,
    {
        let answer = Arc::new(answer);
        let ask = move |question: Box<dyn Any + Send>| -> BoxFuture<'static, AnyAnswer> {
            let answer = answer.clone();
            Box::pin(async move {
                let question = question.downcast::<Q>().expect("found by the type of the question");
                Ok(Box::new(answer(*question).await?) as Box<dyn Any + Send>)
            })
        };
        self.0
            .insert(TypeId::of::<Q>(), Answerer { answers: type_name::<A>(), ask: Box::new(ask) });
    }

    fn get<Q: 'static>(&self) -> Option<&Answerer> {
        self.0.get(&TypeId::of::<Q>())
    }
}

impl Answerer {
    async fn answer<A: 'static>(&self, question: impl Any + Send) -> Result<A, StepError> {
        let answer = (self.ask)(Box::new(question)).await?;
        match answer.downcast() {
            Ok(answer) => Ok(*answer),
            Err(_) => Err(StepError::fatal(format!(
                "the answerer gives a `{}`, and the step wants a `{}`; change one of them",
                self.answers,
                type_name::<A>()
            ))),
        }
    }
}
