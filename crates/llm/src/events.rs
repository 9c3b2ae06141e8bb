//! A call that reports its progress, seen as a stream of events.

use std::{future::Future, task::Poll};

use futures::{
    StreamExt,
    channel::mpsc::{self, UnboundedSender},
    stream::{self, BoxStream},
};

use crate::{
    chat::{ChatEvent, ChatReply},
    error::ChatError,
};

/// Where a call puts the pieces of its reply as they come; nowhere, for a one-shot call.
pub(crate) struct Emitter {
    sender: Option<UnboundedSender<ChatEvent>>,
    pieces: usize,
}

impl Emitter {
    pub(crate) fn silent() -> Self {
        Self { sender: None, pieces: 0 }
    }

    /// Whether somebody listens.
    pub(crate) fn is_streaming(&self) -> bool {
        self.sender.is_some()
    }

    /// How many pieces have been given out: what was given out cannot be taken back, or said again.
    pub(crate) fn pieces(&self) -> usize {
        self.pieces
    }

    pub(crate) fn text(&mut self, piece: &str) {
        self.emit(piece, ChatEvent::Text);
    }

    pub(crate) fn thinking(&mut self, piece: &str) {
        self.emit(piece, ChatEvent::Thinking);
    }

    fn emit(&mut self, piece: &str, event: fn(String) -> ChatEvent) {
        if let Some(sender) = &self.sender
            && !piece.is_empty()
        {
            self.pieces += 1;
            // The receiver lives in the same stream as the call; both are dropped together.
            let _ = sender.unbounded_send(event(piece.to_owned()));
        }
    }
}

/// The pieces that `call` emits, then its reply or its error.
///
/// The queue cannot grow without bound: the call runs only when the stream is polled.
pub(crate) fn events<'a, F>(
    call: impl FnOnce(Emitter) -> F,
) -> BoxStream<'a, Result<ChatEvent, ChatError>>
where
    F: Future<Output = Result<ChatReply, ChatError>> + Send + 'a,
{
    let (sender, mut receiver) = mpsc::unbounded();
    let mut running = Some(Box::pin(call(Emitter { sender: Some(sender), pieces: 0 })));
    let mut outcome = None;
    stream::poll_fn(move |context| {
        if let Some(call) = &mut running
            && let Poll::Ready(result) = call.as_mut().poll(context)
        {
            outcome = Some(result.map(ChatEvent::Done));
            running = None;
        }
        match receiver.poll_next_unpin(context) {
            Poll::Ready(Some(event)) => Poll::Ready(Some(Ok(event))),
            // The sender is gone with the call, and the queue is empty.
            Poll::Ready(None) => Poll::Ready(outcome.take()),
            Poll::Pending => Poll::Pending,
        }
    })
    .boxed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{Finish, Usage};

    #[tokio::test]
    async fn pieces_come_before_the_end_even_when_all_are_ready_at_once() {
        let reply = ChatReply {
            text: "ab".into(),
            thinking: None,
            finish: Finish::Stop,
            usage: Usage::default(),
            token_ids: None,
            logprobs: None,
            warnings: vec![],
        };
        let expected = reply.clone();
        let stream = events(async |mut emitter: Emitter| {
            emitter.text("a");
            emitter.text("");
            tokio::task::yield_now().await;
            emitter.text("b");
            Ok(reply)
        });
        let seen: Vec<_> = stream.map(Result::unwrap).collect().await;
        assert_eq!(
            seen,
            [ChatEvent::Text("a".into()), ChatEvent::Text("b".into()), ChatEvent::Done(expected)]
        );
    }
}
