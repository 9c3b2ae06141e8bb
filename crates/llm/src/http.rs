//! One model server over HTTP: time-outs, and failures told apart.

use std::{error::Error, future::Future, net::IpAddr, time::Duration};

use reqwest::{Client, RequestBuilder, Response, Url, redirect::Policy};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};

use crate::error::{Break, ChatError, Phase, shorten};

/// No body is longer; a server that sends more is not a model server.
const MAX_BODY_BYTES: usize = 64 << 20;

/// How long to wait for what. Waiting for one's turn does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// For the connection.
    pub connect: Duration,
    /// For the first piece of a streamed reply; the model may have to be loaded, which takes minutes.
    pub first_byte: Duration,
    /// For the next piece, once a reply has begun.
    pub idle: Duration,
    /// For the whole of a reply that is not streamed, loading the model included.
    pub reply: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            first_byte: Duration::from_secs(300),
            idle: Duration::from_secs(120),
            reply: Duration::from_secs(900),
        }
    }
}

/// A server, how to name it, and how patient to be with it.
#[derive(Debug)]
pub(crate) struct Http {
    client: Client,
    /// Without a slash at its end.
    base: String,
    /// `Ollama`, or what else the server is called in messages.
    server: String,
    /// What to do when it cannot be reached.
    advice: String,
    pub(crate) timeouts: Timeouts,
}

impl Http {
    /// # Errors
    /// [`ChatError::BadRequest`] if `base` is not an `http` or `https` address, or has a password in it.
    pub(crate) fn new(
        base: &str,
        server: &str,
        advice: &str,
        timeouts: Timeouts,
    ) -> Result<Self, ChatError> {
        let base = base.trim().trim_end_matches('/');
        // Addresses get into logs and recordings, so a password in one would too; nor is it shown here.
        let shown = base.rsplit('@').next().unwrap_or(base);
        let wrong = |reason: String| ChatError::BadRequest {
            text: format!(
                "`{shown}` is not the address of {server} ({reason}); write it like `http://127.0.0.1:8000/v1`"
            ),
        };
        let url = Url::parse(base).map_err(|error| wrong(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(wrong("neither `http` nor `https`".to_owned()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("it has a user or password in front".to_owned()));
        }
        let client = client(&url, &timeouts).map_err(|error| ChatError::BadRequest {
            text: format!("no HTTP client can be made: {}", reason(&error)),
        })?;
        Ok(Self {
            client,
            base: base.to_owned(),
            server: server.to_owned(),
            advice: advice.to_owned(),
            timeouts,
        })
    }

    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(format!("{}{path}", self.base))
    }

    pub(crate) fn post(&self, path: &str) -> RequestBuilder {
        self.client.post(format!("{}{path}", self.base))
    }

    /// The address, for messages.
    pub(crate) fn shown(&self) -> &str {
        &self.base
    }

    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    /// Sends, and waits for the status until `deadline`.
    pub(crate) async fn send(
        &self,
        request: RequestBuilder,
        deadline: Deadline,
    ) -> Result<Response, ChatError> {
        let sent = self.within(deadline, request.send()).await?;
        let response = sent.map_err(|error| self.explain(&error, ""))?;
        if response.status().is_redirection() {
            let to = response.headers().get(reqwest::header::LOCATION);
            let to = to.and_then(|to| to.to_str().ok()).unwrap_or("elsewhere");
            return Err(self.bad_reply(format!("it redirects to `{to}`, so use that address")));
        }
        Ok(response)
    }

    /// The next piece of a body, waited for until `deadline`; `None` at its end. `so_far` is the reply's text yet.
    pub(crate) async fn chunk(
        &self,
        response: &mut Response,
        deadline: Deadline,
        so_far: &str,
    ) -> Result<Option<impl AsRef<[u8]> + use<>>, ChatError> {
        let chunk = self.within(deadline, response.chunk()).await?;
        chunk.map_err(|error| self.explain(&error, so_far))
    }

    /// The whole body. Each piece must come within the idle time-out, and the whole until `deadline`.
    pub(crate) async fn body(
        &self,
        mut response: Response,
        deadline: Deadline,
    ) -> Result<String, ChatError> {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk(&mut response, deadline.or_idle(self), "").await? {
            body.extend_from_slice(chunk.as_ref());
            if body.len() > MAX_BODY_BYTES {
                return Err(self.bad_reply(format!("it is longer than {MAX_BODY_BYTES} bytes")));
            }
        }
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    /// Reads a body as `T`.
    pub(crate) fn parse<T: DeserializeOwned>(&self, body: &str) -> Result<T, ChatError> {
        serde_json::from_str(body).map_err(|error| self.unreadable(body, &error))
    }

    /// The reply is not the JSON it should be.
    pub(crate) fn unreadable(&self, body: &str, error: &serde_json::Error) -> ChatError {
        if body.trim().is_empty() {
            return self.bad_reply("it is empty".to_owned());
        }
        self.bad_reply(format!("{error}, in `{}`", shorten(body, 120)))
    }

    pub(crate) fn bad_reply(&self, problem: String) -> ChatError {
        ChatError::BadReply { url: self.base.clone(), problem }
    }

    async fn within<F: Future>(
        &self,
        deadline: Deadline,
        future: F,
    ) -> Result<F::Output, ChatError> {
        timeout_at(deadline.at, future).await.map_err(|_| ChatError::Timeout {
            url: self.base.clone(),
            phase: deadline.phase,
            after: deadline.after,
        })
    }

    fn explain(&self, error: &reqwest::Error, so_far: &str) -> ChatError {
        let url = self.base.clone();
        let reason = reason(error);
        if error.is_connect() && error.is_timeout() {
            let after = self.timeouts.connect;
            return ChatError::Timeout { url, phase: Phase::Connect, after };
        }
        if error.is_connect() {
            let (server, advice) = (self.server.clone(), self.advice.clone());
            return ChatError::Unreachable { server, url, reason, advice };
        }
        if error.is_builder() {
            return ChatError::BadRequest { text: reason };
        }
        // hyper does not let its kinds through reqwest; its words for bytes that are no HTTP are stable.
        if reason.contains("invalid HTTP") || reason.contains("invalid URI") {
            return self.bad_reply(format!("it is not HTTP ({reason})"));
        }
        ChatError::BrokenStream { how: Break::ConnectionLost { reason }, text: so_far.to_owned() }
    }
}

/// Until when to wait, and for what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    at: Instant,
    phase: Phase,
    after: Duration,
}

impl Deadline {
    pub(crate) fn new(phase: Phase, after: Duration) -> Self {
        // A time-out too long for the clock is none: a century will do.
        let at = Instant::now()
            .checked_add(after)
            .unwrap_or_else(|| Instant::now() + Duration::from_secs(100 * 365 * 86_400));
        Self { at, phase, after }
    }

    /// The idle time-out, if it comes first.
    fn or_idle(self, http: &Http) -> Self {
        let idle = Self::new(Phase::Idle, http.timeouts.idle);
        if idle.at < self.at { idle } else { self }
    }
}

fn client(url: &Url, timeouts: &Timeouts) -> reqwest::Result<Client> {
    let mut builder = Client::builder()
        .user_agent(concat!("agentflow/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(timeouts.connect)
        // Following a redirect would turn our POST into a GET, and could carry a key to another host.
        .redirect(Policy::none());
    if is_loopback(url) {
        // A proxy from the environment would look for the server on its own machine.
        builder = builder.no_proxy();
    }
    if url.scheme() == "http" {
        // Otherwise a machine without CA certificates could not even speak plain HTTP.
        builder = builder.tls_certs_only([]);
    }
    builder.build()
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host.parse::<IpAddr>().map_or_else(
        |_| host.eq_ignore_ascii_case("localhost") || host.ends_with(".localhost"),
        |address| address.is_loopback(),
    )
}

/// The innermost causes of `error`, without the address: it may hold a password.
fn reason(error: &(dyn Error + 'static)) -> String {
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    // Each layer repeats the one inside, or says less.
    causes.pop().unwrap_or_else(|| "unknown cause".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http(base: &str) -> Result<Http, ChatError> {
        Http::new(base, "the server", "start it", Timeouts::default())
    }

    #[test]
    fn addresses_are_checked() {
        assert_eq!(http(" http://localhost:1/v1/ ").unwrap().shown(), "http://localhost:1/v1");
        let wrong = [
            "",
            "localhost:11434",
            "ftp://host",
            "http://",
            "https://me:secret@host/v1",
            "me:secret@host",
        ];
        for wrong in wrong {
            let message = http(wrong).unwrap_err().to_string();
            assert!(message.contains("is not the address of the server"), "{message}");
            assert!(!message.contains("secret"), "{message}");
        }
    }

    #[test]
    fn loopback_is_recognised() {
        let loopback = |url: &str| is_loopback(&Url::parse(url).unwrap());
        for url in ["http://127.0.0.1:1", "http://127.9.9.9", "http://[::1]:1", "http://LOCALHOST"]
        {
            assert!(loopback(url), "{url}");
        }
        for url in ["http://10.0.0.1", "http://example.com", "http://localhost.example.com"] {
            assert!(!loopback(url), "{url}");
        }
    }
}
