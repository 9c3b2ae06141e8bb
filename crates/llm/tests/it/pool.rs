//! Several endpoints as one model, against real servers that refuse, die and come back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use agentflow_llm::{
    ChatError, ChatEvent, ChatModel, OpenAi, OpenAiConfig, Pool, PoolConfig, Retry,
};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use futures::future::join_all;
use serde_json::json;
use tokio::runtime::Runtime;

use crate::server::{Answer, Server, impatient, request};

/// What a server bears, and what it saw.
#[derive(Default)]
struct Load {
    under_way: AtomicUsize,
    highest: AtomicUsize,
    served: AtomicUsize,
    refused: AtomicUsize,
}

impl Load {
    fn served(&self) -> usize {
        self.served.load(Ordering::SeqCst)
    }
}

/// A server with a runtime of its own: when it dies, its open connections die with it.
struct Mortal {
    address: SocketAddr,
    load: Arc<Load>,
    /// Requests that it takes at the same time; further ones get a 429.
    bears: usize,
    takes: Duration,
    alive: Option<Runtime>,
}

impl Mortal {
    fn start(bears: usize, takes: Duration) -> Self {
        let load = Arc::new(Load::default());
        let address = ([127, 0, 0, 1], 0).into();
        let mut server = Self { address, load, bears, takes, alive: None };
        server.rise();
        server
    }

    fn rise(&mut self) {
        let listener = std::net::TcpListener::bind(self.address).expect("the port is free");
        self.address = listener.local_addr().expect("an address");
        listener.set_nonblocking(true).expect("a socket");
        let (load, bears, takes) = (self.load.clone(), self.bears, self.takes);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.spawn(async move {
            let app = axum::Router::new().fallback(move || answer(load.clone(), bears, takes));
            let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
            axum::serve(listener, app).await.expect("serves");
        });
        self.alive = Some(runtime);
    }

    fn die(&mut self) {
        if let Some(runtime) = self.alive.take() {
            runtime.shutdown_background();
        }
    }

    fn model(&self) -> OpenAi {
        openai(&format!("http://{}/v1", self.address))
    }
}

impl Drop for Mortal {
    fn drop(&mut self) {
        self.die();
    }
}

async fn answer(load: Arc<Load>, bears: usize, takes: Duration) -> Response {
    let now = load.under_way.fetch_add(1, Ordering::SeqCst) + 1;
    let response = if now > bears {
        load.refused.fetch_add(1, Ordering::SeqCst);
        (StatusCode::TOO_MANY_REQUESTS, "busy").into_response()
    } else {
        load.highest.fetch_max(now, Ordering::SeqCst);
        tokio::time::sleep(takes).await;
        load.served.fetch_add(1, Ordering::SeqCst);
        axum::Json(reply()).into_response()
    };
    load.under_way.fetch_sub(1, Ordering::SeqCst);
    response
}

fn reply() -> serde_json::Value {
    json!({
        "choices": [{"message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1},
    })
}

fn openai(url: &str) -> OpenAi {
    let config = OpenAiConfig {
        timeouts: impatient(),
        concurrency: 1000,
        retry: Retry::never(),
        ..OpenAiConfig::new(url, "m", None)
    };
    OpenAi::new(config).expect("a configuration that works")
}

fn config(most: usize) -> PoolConfig {
    PoolConfig {
        most,
        retry: Retry {
            attempts: 3,
            first_wait: Duration::from_millis(10),
            longest_wait: Duration::from_millis(50),
        },
        patience: Duration::from_secs(60),
    }
}

fn pool<const N: usize>(servers: [&Mortal; N], config: PoolConfig) -> Pool<OpenAi> {
    Pool::new(servers.map(Mortal::model).into(), config).expect("a pool")
}

/// Asks `count` times at once, and expects all of it to be answered.
async fn all_answered(pool: &Pool<OpenAi>, count: usize) {
    let request = request("hi");
    let outcomes = join_all((0..count).map(|_| pool.chat(&request))).await;
    for outcome in outcomes {
        assert_eq!(outcome.expect("an answer").text, "hello");
    }
}

async fn until(what: &str, mut is: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is() {
        assert!(started.elapsed() < Duration::from_secs(60), "not within a minute: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_server_that_refuses_is_asked_for_as_much_as_it_bears() {
    let server = Mortal::start(5, Duration::from_millis(5));
    let pool = pool([&server], config(64));
    all_answered(&pool, 400).await;
    let refused = server.load.refused.load(Ordering::SeqCst);
    assert!(refused > 0, "it was never asked for more than it bears");
    // Without a limit, 64 at a time would be refused nearly all the time.
    assert!(refused < 200, "{refused} refusals for 400 answers");
    let limit = pool.states()[0].limit;
    assert!((1..=8).contains(&limit), "the limit ended at {limit}, the server bears 5");
    assert_eq!(server.load.highest.load(Ordering::SeqCst), 5);
}

#[tokio::test]
async fn a_server_that_bears_everything_gets_all_that_is_allowed() {
    let server = Mortal::start(1000, Duration::from_millis(5));
    let pool = pool([&server], config(32));
    all_answered(&pool, 400).await;
    assert_eq!(pool.states()[0].limit, 32);
    assert!(server.load.highest.load(Ordering::SeqCst) <= 32);
    assert_eq!(server.load.served(), 400);
}

#[tokio::test]
async fn retry_after_closes_the_endpoint_and_not_the_run() {
    let busy = || Answer::new(503, "loading").header("retry-after", "1");
    let server = Server::chats(vec![busy, || Answer::json(200, &reply())]).await;
    let patient = PoolConfig { patience: Duration::from_secs(60), ..PoolConfig::new(4) };
    let pool = Pool::new(vec![openai(&format!("{}/v1", server.url))], patient).expect("a pool");
    let started = Instant::now();
    assert_eq!(pool.chat(&request("hi")).await.expect("an answer").text, "hello");
    assert!(started.elapsed() >= Duration::from_secs(1), "it did not wait as it was asked to");
    assert_eq!(server.asked("/v1/chat/completions").len(), 2);
}

#[tokio::test]
async fn longer_than_our_patience_is_an_error_at_once() {
    let server = Server::chats(vec![|| Answer::new(429, "later").header("retry-after", "3600")]);
    let server = server.await;
    let pool = Pool::new(vec![openai(&format!("{}/v1", server.url))], PoolConfig::new(4));
    let error = pool.expect("a pool").chat(&request("hi")).await.expect_err("an hour is too long");
    assert!(matches!(error, ChatError::Overloaded { .. }), "{error}");
    assert_eq!(server.asked("/v1/chat/completions").len(), 1);
}

#[tokio::test]
async fn requests_go_where_fewest_are_outstanding() {
    let (quick, slow) = (
        Mortal::start(1000, Duration::from_millis(2)),
        Mortal::start(1000, Duration::from_millis(40)),
    );
    let pool = pool([&quick, &slow], config(4));
    all_answered(&pool, 200).await;
    let (quick, slow) = (quick.load.served(), slow.load.served());
    assert!(slow >= 4 && quick > 3 * slow, "{quick} and {slow}");
}

#[tokio::test]
async fn a_dead_endpoint_is_taken_out_and_brought_back() {
    let (steady, mut mortal) = (
        Mortal::start(1000, Duration::from_millis(3)),
        Mortal::start(1000, Duration::from_millis(3)),
    );
    let pool = Arc::new(pool([&steady, &mortal], config(4)));
    all_answered(&pool, 40).await;
    assert!(mortal.load.served() > 0 && pool.states()[1].up);

    // Dies with requests under way: those go to the other.
    let running = tokio::spawn({
        let pool = pool.clone();
        async move { all_answered(&pool, 200).await }
    });
    let before = mortal.load.served();
    until("the second server works", || mortal.load.served() > before + 4).await;
    mortal.die();
    running.await.expect("no request was lost");
    assert!(!pool.states()[1].up);
    let begun = pool.states()[1].begun;
    all_answered(&pool, 40).await;
    assert!(pool.states()[1].begun - begun < 20, "a dead endpoint is only tried now and then");

    mortal.rise();
    let before = mortal.load.served();
    let asking = pool.clone();
    until("the second server is back", || {
        pool.states()[1].up || {
            let asking = asking.clone();
            tokio::spawn(async move { asking.chat(&request("hi")).await });
            false
        }
    })
    .await;
    all_answered(&pool, 40).await;
    assert!(mortal.load.served() > before + 10, "it is back, and gets its share");
}

#[tokio::test]
async fn a_lonely_server_is_waited_for_while_it_restarts() {
    let mut server = Mortal::start(1000, Duration::from_millis(2));
    let pool = Arc::new(pool([&server], config(8)));
    all_answered(&pool, 10).await;
    server.die();
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { all_answered(&pool, 30).await }
    });
    until("it was found dead", || !pool.states()[0].up).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    server.rise();
    waiting.await.expect("all were answered after all");
}

#[tokio::test]
async fn without_patience_a_dead_server_is_an_error_after_a_few_attempts() {
    let mut server = Mortal::start(1000, Duration::ZERO);
    server.die();
    let pool = pool([&server], PoolConfig { patience: Duration::ZERO, ..config(8) });
    let error = pool.chat(&request("hi")).await.expect_err("nobody is there");
    assert!(matches!(error, ChatError::Unreachable { .. }), "{error}");
    assert_eq!(pool.states()[0].begun, 3);
}

#[tokio::test]
async fn what_cannot_heal_is_passed_on_at_once() {
    let server = Server::chats(vec![|| Answer::new(400, "no such thing")]).await;
    let pool = Pool::new(vec![openai(&format!("{}/v1", server.url))], config(8)).expect("a pool");
    let error = pool.chat(&request("hi")).await.expect_err("refused");
    assert!(matches!(error, ChatError::BadRequest { .. }), "{error}");
    assert_eq!(server.asked("/v1/chat/completions").len(), 1);
    assert!(pool.states()[0].up, "it answered");
}

#[tokio::test]
async fn a_stream_is_passed_through_and_tried_again_before_its_first_piece() {
    let event = json!({"choices": [{"delta": {"content": "hel"}}]});
    let last = json!({"choices": [{"delta": {"content": "lo"}, "finish_reason": "stop"}]});
    let server = Server::start(move |_, before| match before {
        0 => Answer::new(503, "starting"),
        _ => Answer::events(&[event.clone(), last.clone()]).then("data: [DONE]\n\n"),
    })
    .await;
    let pool = Pool::new(vec![openai(&format!("{}/v1", server.url))], config(8)).expect("a pool");
    let events: Vec<_> =
        pool.stream(request("hi")).map(|event| event.expect("no error")).collect().await;
    let [ChatEvent::Text(first), ChatEvent::Text(second), ChatEvent::Done(reply)] = &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!((first.as_str(), second.as_str(), reply.text.as_str()), ("hel", "lo", "hello"));
    assert_eq!(pool.states()[0].outstanding, 0);
}

#[tokio::test]
async fn a_request_that_is_dropped_frees_its_place() {
    let server = Mortal::start(1000, Duration::from_millis(50));
    let pool = pool([&server], config(1));
    for _ in 0..5 {
        let waited =
            tokio::time::timeout(Duration::from_millis(5), pool.chat(&request("hi"))).await;
        assert!(waited.is_err());
    }
    assert_eq!(pool.states()[0].outstanding, 0);
    all_answered(&pool, 2).await;
}

#[test]
fn endpoints_of_different_models_are_refused() {
    let named = |model: &str| {
        OpenAi::new(OpenAiConfig::new("http://127.0.0.1:9/v1", model, None)).expect("a model")
    };
    let error = Pool::new(vec![named("a"), named("b")], config(1)).err().expect("refused");
    assert!(error.to_string().contains("`a` and `b`"), "{error}");
    assert!(Pool::<OpenAi>::new(vec![], config(1)).is_err());
    assert!(Pool::new(vec![named("a")], config(0)).is_err());
}
