//! The end of a server: replies under way are finished, as far as the grace goes.

use std::time::Duration;

use futures::StreamExt;
use serde_json::{Value, json};

use crate::endless::Endless;
use crate::server::{PATIENCE, start};

fn chat() -> Value {
    json!({"model": "endless", "messages": [{"role": "user", "content": "x"}]})
}

#[tokio::test]
async fn a_reply_under_way_is_finished_and_who_waits_is_told() {
    let model = Endless::saying("hm");
    let server = start(model.server(1, 1), PATIENCE).await;
    let running = server.post("/api/chat", chat()).await;
    let waiting = server.client.post(server.url() + "/api/chat").json(&chat()).send();
    let waiting = tokio::spawn(waiting);
    server.until_load((1, 1)).await;
    let ended = server.stop();
    let turned_away = waiting.await.unwrap().unwrap();
    assert_eq!(turned_away.status(), 503);
    let error: Value = turned_away.json().await.unwrap();
    assert_eq!(error["error"], "the server is shutting down");
    assert!(!ended.is_finished());
    model.go_on.add_permits(1);
    let text = running.text().await.unwrap();
    assert!(text.trim_end().lines().last().unwrap().contains("\"done\":true"), "{text}");
    tokio::time::timeout(PATIENCE, ended).await.expect("it ends").unwrap().unwrap();
}

#[tokio::test]
async fn after_the_grace_replies_are_cut_with_an_error() {
    let model = Endless::saying("hm");
    let server = start(model.server(1, 0), Duration::from_millis(50)).await;
    let mut running = server.post("/api/chat", chat()).await.bytes_stream();
    running.next().await.unwrap().unwrap();
    let ended = server.stop();
    let last = running.next().await.unwrap().unwrap();
    assert_eq!(last, "{\"error\":\"the server is shutting down\"}\n");
    assert!(running.next().await.is_none());
    tokio::time::timeout(PATIENCE, ended).await.expect("it ends").unwrap().unwrap();
}
