//! Servers that fail: each failure has its own error, and only what can heal is tried again.

use agentflow_llm::{
    Break, ChatError, ChatEvent, ChatModel, ChatReply, Ollama, OllamaConfig, Phase,
};
use futures::StreamExt;
use serde_json::json;

use crate::server::{Answer, Server, config, eager, ollama, piece, raw, request, whole};

/// Asks in one piece and as a stream; both outcomes.
async fn both(ollama: &Ollama) -> [Result<ChatReply, ChatError>; 2] {
    let whole = ollama.chat(&request("hi")).await;
    let last = ollama.stream(request("hi")).collect::<Vec<_>>().await.pop();
    let streamed = match last.expect("a stream has an end") {
        Ok(ChatEvent::Done(reply)) => Ok(reply),
        Ok(event) => panic!("the stream ended with {event:?}"),
        Err(error) => Err(error),
    };
    [whole, streamed]
}

async fn both_fail(answer: fn() -> Answer) -> [ChatError; 2] {
    let server = Server::chats(vec![answer]).await;
    both(&ollama(&server)).await.map(Result::unwrap_err)
}

#[tokio::test]
async fn nobody_listens() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    for error in both(&Ollama::new(config(&url)).unwrap()).await.map(Result::unwrap_err) {
        assert!(matches!(error, ChatError::Unreachable { .. }), "{error:?}");
        let message = error.to_string();
        assert!(message.starts_with(&format!("cannot reach Ollama at `{url}`: ")), "{message}");
        assert!(message.contains("refused"), "{message}");
        assert!(
            message
                .ends_with("start it with `ollama serve`, or set `OLLAMA_HOST` to where it runs")
        );
    }
    let probed = agentflow_llm::ollama::probe(&url.parse().unwrap()).await;
    assert!(matches!(probed, Err(ChatError::Unreachable { .. })));
}

#[tokio::test]
async fn hangs_before_the_first_byte() {
    let [whole, streamed] = both_fail(Answer::silence).await;
    assert!(matches!(whole, ChatError::Timeout { phase: Phase::Reply, .. }), "{whole:?}");
    assert!(matches!(streamed, ChatError::Timeout { phase: Phase::FirstByte, .. }), "{streamed:?}");
    assert!(streamed.to_string().contains("did not begin to answer within 200ms"), "{streamed}");
    assert!(
        streamed.to_string().ends_with("raise the `first_byte` time-out (`--timeout`)"),
        "{streamed}"
    );
    assert!(!streamed.can_heal(), "the server may still be at work");
}

#[tokio::test]
async fn hangs_between_status_and_first_byte() {
    let [_, streamed] = both_fail(|| Answer::new(200, "").then_hang()).await;
    assert!(matches!(streamed, ChatError::Timeout { phase: Phase::FirstByte, .. }), "{streamed:?}");
}

#[tokio::test]
async fn hangs_in_the_middle() {
    for error in both_fail(|| Answer::lines(&[piece("Hi")]).then_hang()).await {
        assert!(matches!(error, ChatError::Timeout { phase: Phase::Idle, .. }), "{error:?}");
    }
}

#[tokio::test]
async fn breaks_off_in_the_middle() {
    let errors =
        both_fail(|| Answer::lines(&[piece("Hi")]).then(&b"{\"mess"[..]).then_lost()).await;
    for error in &errors {
        assert!(
            matches!(error, ChatError::BrokenStream { how: Break::ConnectionLost { .. }, .. }),
            "{error:?}"
        );
        assert!(error.can_heal());
    }
    assert!(matches!(&errors[1], ChatError::BrokenStream { text, .. } if text == "Hi"));
}

#[tokio::test]
async fn closes_at_once() {
    let (url, server) = raw(b"").await;
    for error in both(&Ollama::new(config(&url)).unwrap()).await.map(Result::unwrap_err) {
        assert!(
            matches!(error, ChatError::BrokenStream { how: Break::ConnectionLost { .. }, .. }),
            "{error:?}"
        );
    }
    server.abort();
}

/// 30 equal tokens in a row, and Ollama just stops: a 200 without `done: true`.
#[tokio::test]
async fn ends_without_being_done() {
    for error in both_fail(|| Answer::json(200, &piece("Hi"))).await {
        let expected = ChatError::BrokenStream { how: Break::NotDone, text: "Hi".into() };
        assert_eq!(error, expected);
    }
    let [_, cut] = both_fail(|| Answer::lines(&[piece("Hi")]).then(&b"{\"mess"[..])).await;
    assert_eq!(cut, ChatError::BrokenStream { how: Break::NotDone, text: "Hi".into() });
}

#[tokio::test]
async fn an_error_with_status_200_is_an_error() {
    for error in
        both_fail(|| Answer::json(200, &json!({"error": "llama runner process no longer running"})))
            .await
    {
        let how = Break::ServerError { text: "llama runner process no longer running".into() };
        assert_eq!(error, ChatError::BrokenStream { how, text: String::new() });
    }
}

#[tokio::test]
async fn speaks_garbage() {
    type Speak = fn() -> Answer;
    let answers: [(Speak, &str); 6] = [
        (|| Answer::new(200, ""), "it is empty"),
        (|| Answer::new(200, "\n\n"), "it is empty"),
        (
            || Answer::new(200, "<html><body>Welcome to nginx!"),
            "in `<html><body>Welcome to nginx!`",
        ),
        (|| Answer::new(200, &b"\xff\xfe\x00\x01\n\x9f"[..]), "expected value"),
        (|| Answer::json(200, &json!({"hello": 1})), "it has neither `message` nor `done`"),
        (|| Answer::json(200, &json!([1, "x"])), "invalid"),
    ];
    for (answer, problem) in answers {
        for error in both_fail(answer).await {
            assert!(matches!(error, ChatError::BadReply { .. }), "{error:?}");
            assert!(error.to_string().contains(problem), "{error}");
        }
    }
}

#[tokio::test]
async fn speaks_no_http() {
    let (url, server) = raw(b"SSH-2.0-OpenSSH_9.6\r\n").await;
    for error in both(&Ollama::new(config(&url)).unwrap()).await.map(Result::unwrap_err) {
        assert!(matches!(error, ChatError::BadReply { .. }), "{error:?}");
        assert!(error.to_string().contains("it is not HTTP"), "{error}");
    }
    server.abort();
}

#[tokio::test]
async fn redirects_are_shown_not_followed() {
    let answer = || Answer::new(302, "").header("location", "https://example.com/");
    let [error, _] = both_fail(answer).await;
    assert!(error.to_string().contains("redirects to `https://example.com/`"), "{error}");
}

#[tokio::test]
async fn a_character_split_between_chunks_is_read() {
    for size in 1..5 {
        let server = Server::start(move |_, _| {
            Answer::lines(&[piece("größer als 7 → 日本 🦀"), whole("é")]).in_chunks_of(size)
        })
        .await;
        for reply in both(&ollama(&server)).await {
            assert_eq!(reply.unwrap().text, "größer als 7 → 日本 🦀é");
        }
    }
}

#[tokio::test]
async fn busy_twice_then_well() {
    let busy = || {
        Answer::json(
            503,
            &json!({"error": "server busy, please try again.  maximum pending requests exceeded"}),
        )
        .header("retry-after", "0")
    };
    let server = Server::chats(vec![busy, busy, || Answer::json(200, &whole("ok"))]).await;
    let ollama = Ollama::new(OllamaConfig { retry: eager(3), ..config(&server.url) }).unwrap();
    assert_eq!(ollama.chat(&request("hi")).await.unwrap().text, "ok");
    assert_eq!(server.chats_asked().len(), 3);

    let server = Server::chats(vec![busy]).await;
    let ollama = Ollama::new(OllamaConfig { retry: eager(3), ..config(&server.url) }).unwrap();
    for outcome in both(&ollama).await {
        assert!(matches!(outcome, Err(ChatError::Overloaded { .. })));
    }
    assert_eq!(server.chats_asked().len(), 6);
}

#[tokio::test]
async fn a_bad_request_is_sent_once() {
    let server = Server::chats(vec![|| Answer::json(400, &json!({"error": "no"}))]).await;
    let ollama = Ollama::new(OllamaConfig { retry: eager(5), ..config(&server.url) }).unwrap();
    let error = ollama.chat(&request("hi")).await.unwrap_err();
    assert_eq!(error.to_string(), "the request is wrong: no");
    assert_eq!(server.chats_asked().len(), 1);
}

#[tokio::test]
async fn a_stream_starts_again_only_before_its_first_piece() {
    let lost = || Answer::new(200, "").then_lost();
    let well = || Answer::lines(&[piece("o"), whole("k")]);
    let server = Server::chats(vec![lost, well]).await;
    let again = Ollama::new(OllamaConfig { retry: eager(3), ..config(&server.url) }).unwrap();
    let events: Vec<_> = again.stream(request("hi")).map(Result::unwrap).collect().await;
    assert!(matches!(events.last(), Some(ChatEvent::Done(reply)) if reply.text == "ok"));
    assert_eq!(server.chats_asked().len(), 2);

    let server = Server::chats(vec![|| Answer::lines(&[piece("o")]).then_lost(), well]).await;
    let begun = Ollama::new(OllamaConfig { retry: eager(3), ..config(&server.url) }).unwrap();
    let events: Vec<_> = begun.stream(request("hi")).collect().await;
    assert_eq!(events.len(), 2, "the piece, then the error: {events:?}");
    assert!(matches!(events[1], Err(ChatError::BrokenStream { .. })));
    assert_eq!(server.chats_asked().len(), 1);
}

#[tokio::test]
async fn a_configuration_that_cannot_work_is_refused() {
    type Spoil = fn(&mut OllamaConfig);
    let wrong: [(&str, Spoil); 3] = [
        ("no name", |config| config.model = " ".into()),
        ("`num_ctx` is 0", |config| config.num_ctx = 0),
        ("concurrency", |config| config.concurrency = 0),
    ];
    for (problem, spoil) in wrong {
        let mut config = config("http://127.0.0.1:1");
        spoil(&mut config);
        let message = Ollama::new(config).unwrap_err().to_string();
        assert!(message.contains(problem), "{message}");
    }
}

/// A proxy from the environment would look for the server on its own machine, and plain HTTP needs no certificates.
/// The environment belongs to the whole process, so this runs a test of this file in another one.
#[test]
fn neither_proxies_nor_missing_certificates_get_in_the_way() {
    let nobody = "http://127.0.0.1:9";
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "ollama_wire::chat_stream_plain"])
        .envs(["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"].map(|name| (name, nobody)))
        .envs(["SSL_CERT_FILE", "SSL_CERT_DIR"].map(|name| (name, "/nonexistent")))
        .env_remove("NO_PROXY")
        .env_remove("no_proxy")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}
