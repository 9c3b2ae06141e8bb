//! Slots, queue, clients that leave, and pages that may not ask.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;
use serde_json::{Value, json};

use crate::endless::Endless;
use crate::server::{PATIENCE, Running, start};

fn chat(stream: bool) -> Value {
    json!({"model": "endless", "messages": [{"role": "user", "content": "x"}], "stream": stream})
}

/// A client that asks, and stays until the handle is aborted.
fn client(server: &Running, body: Value) -> tokio::task::JoinHandle<()> {
    let sent = server.client.post(server.url() + "/api/chat").json(&body).send();
    tokio::spawn(async move {
        let mut pieces = sent.await.unwrap().bytes_stream();
        while pieces.next().await.is_some() {}
    })
}

#[tokio::test]
async fn a_full_queue_answers_503_in_either_shape() {
    let model = Endless::saying("hm");
    let server = start(model.server(1, 1), PATIENCE).await;
    let clients = [client(&server, chat(true)), client(&server, chat(false))];
    server.until_load((1, 1)).await;
    let busy = "server busy, please try again.  maximum pending requests exceeded";
    assert_eq!(server.refused("/api/chat", chat(true)).await, (503, json!({"error": busy})));
    let (status, body) = server.refused("/v1/chat/completions", chat(true)).await;
    assert_eq!((status, &body["error"]["message"]), (503, &json!(busy)));
    assert_eq!(body["error"]["type"], "api_error");
    model.go_on.add_permits(2);
    for client in clients {
        client.await.unwrap();
    }
    server.until_load((0, 0)).await;
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_slot() {
    for stream in [true, false] {
        let model = Endless::saying("hm");
        let server = start(model.server(1, 4), PATIENCE).await;
        let (first, second) = (client(&server, chat(stream)), client(&server, chat(stream)));
        server.until_load((1, 1)).await;
        first.abort();
        server.until_load((1, 0)).await;
        // Also from the queue.
        let third = client(&server, chat(stream));
        server.until_load((1, 1)).await;
        third.abort();
        server.until_load((1, 0)).await;
        second.abort();
        server.until_load((0, 0)).await;
        assert_eq!(model.under_way.load(Ordering::SeqCst), 0, "the generation goes on");
    }
}

#[tokio::test]
async fn a_piece_is_sent_when_it_is_there() {
    let model = Endless::saying("hm");
    let server = start(model.server(1, 0), PATIENCE).await;
    let mut reply = server.post("/api/chat", chat(true)).await.bytes_stream();
    let first = tokio::time::timeout(PATIENCE, reply.next()).await.expect("the first piece waits");
    let first: Value = serde_json::from_slice(&first.unwrap().unwrap()).unwrap();
    assert_eq!(first["message"]["content"], "hm");
    model.go_on.add_permits(1);
    let last: Value = serde_json::from_slice(&reply.next().await.unwrap().unwrap()).unwrap();
    assert_eq!(last["done"], true);
}

#[tokio::test]
async fn what_a_model_cannot_is_refused() {
    let model = Endless::saying("hm");
    let server = start(model.server(1, 0), PATIENCE).await;
    model.go_on.add_permits(9);
    let mut with_logprobs = chat(false);
    with_logprobs["logprobs"] = json!(true);
    for (path, body, text) in [
        ("/api/embed", json!({"model": "endless", "input": "x"}), "embeddings"),
        ("/api/generate", json!({"model": "endless", "prompt": "x", "raw": true}), "raw prompts"),
        ("/api/chat", with_logprobs, "logprobs"),
    ] {
        let (status, body) = server.refused(path, body).await;
        let error = format!("\"endless\" does not support {text}");
        assert_eq!((status, &body["error"]), (400, &json!(error)));
    }
    server.until_load((0, 0)).await;
}

#[tokio::test]
async fn pages_of_other_sites_may_not_ask() {
    let server = start(Endless::saying("hm").server(1, 0), Duration::ZERO).await;
    let get = || server.client.get(server.url() + "/api/tags");
    let refused = get().header("origin", "https://example.com").send().await.unwrap();
    assert_eq!(refused.status(), 403);
    let rebound = get().header("host", "rebound.example.com").send().await.unwrap();
    assert_eq!(rebound.status(), 403);
    let allowed = get().header("origin", "http://localhost:3000").send().await.unwrap();
    assert_eq!(allowed.status(), 200);
    assert_eq!(allowed.headers()["access-control-allow-origin"], "http://localhost:3000");
    let preflight = server
        .client
        .request(reqwest::Method::OPTIONS, server.url() + "/api/chat")
        .header("origin", "http://127.0.0.1:1")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "content-type")
        .send()
        .await
        .unwrap();
    assert_eq!(preflight.status(), 204);
    assert_eq!(preflight.headers()["access-control-allow-headers"], "content-type");
}
