//! Five hundred requests at once, half of whose clients leave when they please.

use std::time::Duration;

use agentflow_serve::{Limits, Server};
use futures::StreamExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::server::{MODEL, Running, planner, start};

const REQUESTS: u64 = 500;

/// How a request ended, from the client's side.
#[derive(Debug, PartialEq)]
enum Ended {
    Complete,
    /// Turned away with a status and a readable error.
    Refused,
    /// The client left.
    Left,
}

/// One client, whose doings `seed` decides.
async fn client(server: &Running, seed: u64) -> Ended {
    let mut random = StdRng::seed_from_u64(seed);
    let (path, stream) = match random.random_range(0..4) {
        0 => ("/v1/chat/completions", true),
        1 => ("/api/generate", false),
        2 => ("/api/chat", false),
        _ => ("/api/chat", true),
    };
    let mut body = json!({
        "model": MODEL,
        "stream": stream,
        "messages": [{"role": "user", "content": format!("What is {seed} + {seed}?")}],
        "prompt": "What is 1 + 1?",
        "options": {"num_predict": random.random_range(1..12), "seed": seed},
        "max_tokens": 6,
    });
    if path != "/v1/chat/completions" && random.random_bool(0.3) {
        body["format"] = json!("json");
    }
    let patience = match random.random_range(0..4) {
        0 => Some(Duration::from_micros(random.random_range(0..400_000))),
        _ => None,
    };
    let pieces_wanted = match random.random_range(0..3) {
        0 => random.random_range(1..3),
        _ => usize::MAX,
    };
    let talk = async {
        let response =
            server.client.post(server.url() + path).json(&body).send().await.expect("an answer");
        let status = response.status().as_u16();
        let mut pieces = response.bytes_stream();
        let (mut text, mut taken) = (Vec::new(), 0);
        while let Some(piece) = pieces.next().await {
            text.extend(piece.expect("no broken connection"));
            taken += 1;
            if taken == pieces_wanted && status == 200 && stream {
                return Ended::Left;
            }
        }
        let text = String::from_utf8(text).expect("text");
        match status {
            200 => assert!(is_complete(&text), "seed {seed}, {path}: {text}"),
            503 => {
                let error: Value = serde_json::from_str(&text).expect("an error in JSON");
                assert!(error["error"].to_string().contains("server busy"), "{text}");
                return Ended::Refused;
            }
            other => panic!("seed {seed}, {path}: {other} {text}"),
        }
        Ended::Complete
    };
    match patience {
        None => talk.await,
        Some(patience) => tokio::time::timeout(patience, talk).await.unwrap_or(Ended::Left),
    }
}

fn is_complete(text: &str) -> bool {
    match text.strip_suffix("data: [DONE]\n\n") {
        Some(events) => {
            events.contains("\"finish_reason\":\"length\"")
                || events.contains("\"finish_reason\":\"stop\"")
        }
        None => text.lines().last().is_some_and(|line| {
            let line: Value = serde_json::from_str(line).expect("a whole line");
            line["done"] == true && line["done_reason"].is_string()
        }),
    }
}

/// All requests at once; how many ended how.
async fn flood(server: &Running) -> [usize; 3] {
    let ended = futures::future::join_all((0..REQUESTS).map(|seed| client(server, seed))).await;
    let count = |how: Ended| ended.iter().filter(|ended| **ended == how).count();
    [count(Ended::Complete), count(Ended::Refused), count(Ended::Left)]
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_leaks_and_every_answer_is_whole() {
    let limits = Limits { concurrency: 8, queue: 512, ..Limits::default() };
    let server = start(Server::of_local(planner(), MODEL, limits), Duration::ZERO).await;
    // Once, for what is allocated once.
    flood(&server).await;
    server.until_load((0, 0)).await;
    let before = resident_mib();
    let [complete, refused, left] = flood(&server).await;
    server.until_load((0, 0)).await;
    assert_eq!(refused, 0, "the queue is long enough");
    assert!(complete >= 150 && left >= 50, "{complete} complete, {left} left");
    // Loose on purpose: five hundred lost replies would hold far more.
    let after = resident_mib();
    assert!(after < before + 100, "{before} MiB grew to {after} MiB");
    // And it still works.
    let body =
        json!({"model": MODEL, "prompt": "x", "stream": false, "options": {"num_predict": 2}});
    assert_eq!(server.ask("/api/generate", body).await["done"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_short_queue_the_others_are_turned_away() {
    let limits = Limits { concurrency: 4, queue: 16, ..Limits::default() };
    let server = start(Server::of_local(planner(), MODEL, limits), Duration::ZERO).await;
    let [complete, refused, _] = flood(&server).await;
    server.until_load((0, 0)).await;
    assert!(complete > 0 && refused > 0, "{complete} complete, {refused} refused");
}

/// Resident memory of this process; 0 where the system does not tell.
fn resident_mib() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096 / (1 << 20)
}
