//! Exchanges recorded and played back.

use std::{fs, io::Write};

use agentflow_llm::{
    ChatError, ChatEvent, ChatModel, ChatRequest, Message, Recorder, Replay, ReplayError,
};
use futures::StreamExt;
use serde_json::json;

use crate::server::{Answer, Server, ollama, piece, planner_request, request, whole};

/// A recording of one `a?`, one `b?` that failed, one streamed `a?`, and one plan.
async fn recording(path: &std::path::Path) {
    let server = Server::chats(vec![
        || Answer::json(200, &whole("first")),
        || Answer::json(500, &json!({"error": "CUDA error"})),
        || Answer::lines(&[piece("sec"), whole("ond")]),
        || Answer::json(200, &whole(r#"{"thought":"t","action":"code"}"#)),
    ])
    .await;
    let recorder = Recorder::new(ollama(&server), path).unwrap();
    recorder.chat(&request("a?")).await.unwrap();
    recorder.chat(&request("b?")).await.unwrap_err();
    let streamed: Vec<_> = recorder.stream(request("a?")).collect().await;
    assert_eq!(streamed.len(), 3);
    recorder.chat(&planner_request()).await.unwrap();
}

#[tokio::test]
async fn a_recording_plays_back_in_order_with_its_failures() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.jsonl");
    recording(&path).await;
    let replay = Replay::open(&path).unwrap();
    assert_eq!(replay.info().name, "qwen3:8b");
    assert_eq!(replay.info().backend, "replay");
    let failed = replay.chat(&request("b?")).await.unwrap_err();
    assert_eq!(failed, ChatError::Server { status: 500, text: "CUDA error".into() });
    assert_eq!(replay.chat(&request("a?")).await.unwrap().text, "first");
    let events: Vec<_> = replay.stream(request("a?")).map(Result::unwrap).collect().await;
    assert_eq!(events[0], ChatEvent::Text("second".into()));
    assert!(matches!(&events[1], ChatEvent::Done(reply) if reply.text == "second"));
    let used_up = replay.chat(&request("a?")).await.unwrap_err();
    assert!(
        matches!(&used_up, ChatError::Replay(ReplayError::UsedUp { recorded: 2, .. })),
        "{used_up:?}"
    );
}

#[tokio::test]
async fn a_missing_exchange_shows_the_nearest_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.jsonl");
    recording(&path).await;
    let replay = Replay::open(&path).unwrap();
    let complain = async |request: &ChatRequest| {
        let error = replay.chat(request).await.unwrap_err();
        assert!(matches!(error, ChatError::Replay(ReplayError::Missing { .. })), "{error:?}");
        error.to_string()
    };

    let message =
        complain(&ChatRequest { messages: vec![Message::user("b!")], ..request("") }).await;
    assert!(
        message.contains("exchange 2 is nearest, where `messages[0].content` differs at character 2: recorded `?`, asked `!`"),
        "{message}"
    );
    let mut warmer = planner_request();
    warmer.sampling.temperature = 0.5;
    let message = complain(&warmer).await;
    assert!(message.contains("exchange 4 is nearest, where `sampling.temperature` differs: recorded `0.0`, asked `0.5`"), "{message}");

    let mut longer = request("a?");
    longer.messages.push(Message::assistant("first"));
    let message = complain(&longer).await;
    assert!(
        message.contains("exchange 1 is nearest, where `messages` has 1 items, asked 2"),
        "{message}"
    );

    // The order of keys in a schema decides what a model writes.
    let mut sorted = planner_request();
    let properties = sorted.schema.as_mut().unwrap()["properties"].as_object_mut().unwrap();
    properties.sort_keys();
    let message = complain(&sorted).await;
    assert!(message.contains("`schema.properties` differs"), "{message}");
}

#[tokio::test]
async fn recording_goes_on_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.jsonl");
    recording(&path).await;
    let whole_lines = fs::read_to_string(&path).unwrap();
    assert_eq!(whole_lines.lines().count(), 4);
    write!(fs::OpenOptions::new().append(true).open(&path).unwrap(), "{{\"schema\":\"agentfl")
        .unwrap();
    assert!(Replay::open(&path).is_ok(), "a torn last line is left out");
    recording(&path).await;
    assert_eq!(fs::read_to_string(&path).unwrap(), whole_lines.repeat(2));
}

#[tokio::test]
async fn two_recorders_do_not_share_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.jsonl");
    recording(&path).await;
    let model = || Replay::open(&path).unwrap();
    let _first = Recorder::new(model(), &path).unwrap();
    let message = Recorder::new(model(), &path).unwrap_err().to_string();
    assert!(message.contains("another process records to it"), "{message}");
}

#[test]
fn a_file_that_is_no_recording_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.jsonl");
    let complain = || Replay::open(&path).unwrap_err().to_string();
    assert!(complain().starts_with("cannot read recording `"));
    fs::write(&path, "").unwrap();
    assert!(complain().ends_with("it has no exchanges"));
    fs::write(&path, "{\"hello\": 1}\n").unwrap();
    assert!(complain().starts_with("line 1 of recording `"), "{}", complain());
}
