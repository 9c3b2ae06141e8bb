//! What Ollama does without a word is noticed: one test for each trap.

use agentflow_llm::{
    ChatError, ChatEvent, ChatModel, ChatRequest, Finish, Message, Ollama, OllamaConfig, Usage,
};
use futures::StreamExt;
use serde_json::{Value, json};

use crate::server::{Answer, Server, config, ollama, piece, planner_request, request, whole};

fn thinking_only(reason: &str) -> Value {
    json!({"message": {"role": "assistant", "content": "", "thinking": "Hmm, let me see"},
           "done": true, "done_reason": reason, "prompt_eval_count": 10, "eval_count": 64})
}

fn thoughtful() -> ChatRequest {
    ChatRequest { think: true, ..request("Is 91 prime?") }
}

/// PuPu#129: a prompt of 15 750 tokens, 2 051 of them read, status 200.
#[tokio::test]
async fn a_prompt_that_was_cut_is_noticed_by_its_size() {
    let server = Server::chats(vec![|| {
        let mut reply = whole("ok");
        reply["prompt_eval_count"] = json!(2051);
        Answer::json(200, &reply)
    }])
    .await;
    let reply = ollama(&server).chat(&request(&"word ".repeat(5000))).await.unwrap();
    assert_eq!(
        reply.warnings,
        [
            "The server read 2051 tokens of a prompt that has at least 5000, so it cut the prompt without saying so; \
          raise `num_ctx` (now 8192) or shorten the prompt."
        ]
    );
}

#[tokio::test]
async fn a_prompt_that_was_cut_is_noticed_by_its_history() {
    let server = Server::start(|asked, before| {
        let mut reply = whole("ok");
        reply["prompt_eval_count"] = json!([300, 340, 120][before.min(2)]);
        if asked.path == "/api/chat" { Answer::json(200, &reply) } else { Answer::new(404, "") }
    })
    .await;
    let ollama = ollama(&server);
    let mut conversation = request("one");
    for step in 0..3 {
        let warnings = ollama.chat(&conversation).await.unwrap().warnings;
        assert_eq!(warnings.len(), usize::from(step == 2), "{warnings:?}");
        if step == 2 {
            assert!(
                warnings[0].contains("read 120 tokens of a prompt that begins with one of 340")
            );
        }
        conversation.messages.push(Message::assistant("ok"));
        conversation.messages.push(Message::user("more"));
    }
}

/// What cannot fit is not even sent.
#[tokio::test]
async fn a_prompt_that_cannot_fit_is_refused() {
    let server = Server::chats(vec![|| Answer::json(200, &whole("ok"))]).await;
    let error = ollama(&server).chat(&request(&"word ".repeat(20_000))).await.unwrap_err();
    assert!(matches!(error, ChatError::ContextTooLong { .. }));
    assert!(error.to_string().contains("more than 20000 tokens, and `num_ctx` is 8192"), "{error}");
    assert!(server.chats_asked().is_empty());
}

#[tokio::test]
async fn a_smaller_context_than_asked_for_is_noticed_once() {
    let server = Server::start(|asked, _| match asked.path.as_str() {
        "/api/chat" => Answer::json(200, &whole("ok")),
        "/api/ps" => {
            let loaded = json!({"models": [{"name": "qwen3:8b", "context_length": 4096}]});
            Answer::json(200, &loaded)
        }
        _ => Answer::new(404, ""),
    })
    .await;
    let ollama = ollama(&server);
    let first = ollama.chat(&request("hi")).await.unwrap();
    assert_eq!(first.warnings.len(), 1);
    assert!(first.warnings[0].contains("with a context of 4096 tokens, not the 8192 asked for"));
    let second = ollama.chat(&request("hi")).await.unwrap();
    assert_eq!(second.warnings, Vec::<String>::new());
    assert_eq!(server.asked("/api/ps").len(), 1);
}

#[tokio::test]
async fn a_context_beyond_the_model_s_training_is_noticed() {
    let server = Server::start(|asked, _| match asked.path.as_str() {
        "/api/tags" => Answer::json(200, &json!({"models": [{"name": "qwen3:8b"}]})),
        "/api/show" => Answer::json(200, &json!({"model_info": {"qwen3.context_length": 2048}})),
        "/api/chat" => Answer::json(200, &whole("ok")),
        _ => Answer::new(404, ""),
    })
    .await;
    let ollama = Ollama::connect(config(&server.url)).await.unwrap();
    let warnings = ollama.chat(&request("hi")).await.unwrap().warnings;
    assert!(warnings[0].contains("was trained for 2048; lower `num_ctx`"), "{warnings:?}");
}

#[tokio::test]
async fn keys_in_another_order_are_noticed_once() {
    let server =
        Server::chats(vec![|| Answer::json(200, &whole(r#"{"action":"code","thought":"t"}"#))])
            .await;
    let ollama = ollama(&server);
    let first = ollama.chat(&planner_request()).await.unwrap();
    assert_eq!(first.warnings.len(), 1);
    assert!(
        first.warnings[0]
            .contains("in the order `action, thought`, but the schema says `thought, action`"),
        "{:?}",
        first.warnings
    );
    assert_eq!(ollama.chat(&planner_request()).await.unwrap().warnings, Vec::<String>::new());
}

#[tokio::test]
async fn a_format_that_was_dropped_is_an_error_that_shows_the_text() {
    let server = Server::chats(vec![|| Answer::json(200, &whole("Sure! First,\nI would"))]).await;
    let error = ollama(&server).chat(&planner_request()).await.unwrap_err();
    assert!(matches!(error, ChatError::SchemaViolated { .. }));
    assert!(error.to_string().ends_with("; it reads `Sure! First, I would`"), "{error}");
    assert_eq!(server.chats_asked().len(), 1, "asking again would give the same");
}

#[tokio::test]
async fn a_streamed_reply_is_validated_too() {
    let server = Server::chats(vec![|| Answer::lines(&[piece("no "), whole("JSON")])]).await;
    let events: Vec<_> = ollama(&server).stream(planner_request()).collect().await;
    assert_eq!(events.len(), 3);
    assert!(matches!(events[2], Err(ChatError::SchemaViolated { .. })));
}

#[tokio::test]
async fn thinking_that_uses_up_the_reply_is_tried_again_without() {
    let server = Server::chats(vec![|| Answer::json(200, &thinking_only("length")), || {
        Answer::json(200, &whole("No."))
    }])
    .await;
    let reply = ollama(&server).chat(&thoughtful()).await.unwrap();
    assert_eq!((reply.text.as_str(), reply.finish), ("No.", Finish::Stop));
    assert_eq!(reply.thinking.as_deref(), Some("Hmm, let me see"));
    assert_eq!(
        reply.usage,
        Usage { prompt_tokens: 30, completion_tokens: 69 },
        "both were paid for"
    );
    assert!(
        reply.warnings[0].starts_with("Thinking used up all 64 tokens"),
        "{:?}",
        reply.warnings
    );
    let think: Vec<Value> = server.chats_asked().iter().map(|body| body["think"].clone()).collect();
    assert_eq!(think, [true, false]);
}

#[tokio::test]
async fn a_stream_goes_on_without_thinking() {
    let server = Server::chats(vec![|| Answer::lines(&[thinking_only("length")]), || {
        Answer::lines(&[piece("No"), whole(".")])
    }])
    .await;
    let events: Vec<_> = ollama(&server).stream(thoughtful()).map(Result::unwrap).collect().await;
    assert_eq!(events[0], ChatEvent::Thinking("Hmm, let me see".into()));
    assert_eq!(events[1..3], [ChatEvent::Text("No".into()), ChatEvent::Text(".".into())]);
    assert!(matches!(&events[3], ChatEvent::Done(reply) if reply.text == "No."));
}

#[tokio::test]
async fn a_model_that_only_thinks_is_an_error() {
    let server = Server::chats(vec![|| Answer::json(200, &thinking_only("length"))]).await;
    for request in [thoughtful(), request("hi")] {
        let error = ollama(&server).chat(&request).await.unwrap_err();
        assert!(matches!(error, ChatError::ThinkingExhausted { .. }), "{error:?}");
    }
    assert_eq!(server.chats_asked().len(), 3);
}

#[tokio::test]
async fn thinking_is_not_asked_of_a_model_that_cannot() {
    let server = Server::start(|asked, _| match asked.path.as_str() {
        "/api/show" => Answer::json(200, &json!({"capabilities": ["completion"]})),
        "/api/chat" => Answer::json(200, &whole("No.")),
        _ => Answer::new(404, ""),
    })
    .await;
    let ollama = ollama(&server);
    let reply = ollama.chat(&thoughtful()).await.unwrap();
    assert!(reply.warnings[0].contains("cannot think"), "{:?}", reply.warnings);
    ollama.chat(&thoughtful()).await.unwrap();
    assert!(server.chats_asked().iter().all(|body| body["think"] == false));
    assert_eq!(server.asked("/api/show").len(), 1, "a model is asked once what it can do");
}

#[tokio::test]
async fn a_refusal_to_think_is_understood() {
    let server = Server::start(|asked, _| match &asked.body["think"] {
        Value::Bool(true) => {
            Answer::json(400, &json!({"error": "\"qwen3:8b\" does not support thinking"}))
        }
        _ => Answer::json(200, &whole("No.")),
    })
    .await;
    let reply = ollama(&server).chat(&thoughtful()).await.unwrap();
    assert_eq!(reply.text, "No.");
    assert!(reply.warnings[0].contains("cannot think"), "{:?}", reply.warnings);
}

#[tokio::test]
async fn thinking_left_in_the_text_is_taken_out_and_noticed() {
    let server =
        Server::chats(vec![|| Answer::json(200, &whole("<think>\nhm\n</think>\n\n42"))]).await;
    let reply = crate::server::ask(&server).await;
    assert_eq!(reply.text, "42");
    assert_eq!(reply.thinking.as_deref(), Some("\nhm\n"));
    assert!(reply.warnings[0].contains("thinks although thinking is off"), "{:?}", reply.warnings);
}

#[tokio::test]
async fn length_is_a_finish_and_zeros_may_be_left_out() {
    let server = Server::chats(vec![|| {
        let line = json!({"message": {"content": "cut"}, "done": true, "done_reason": "length"});
        Answer::json(200, &line)
    }])
    .await;
    let reply = crate::server::ask(&server).await;
    assert_eq!((reply.finish, reply.usage), (Finish::Length, Usage::default()));
    assert_eq!(reply.warnings, Vec::<String>::new());
}

#[tokio::test]
async fn log_probabilities_are_collected() {
    let server = Server::chats(vec![|| {
        let mut one = piece("a");
        one["logprobs"] = json!([{"token": "a", "logprob": -0.5}]);
        Answer::lines(&[one, whole("")])
    }])
    .await;
    let ollama = Ollama::new(OllamaConfig { logprobs: true, ..config(&server.url) }).unwrap();
    let last = ollama.stream(request("hi")).map(Result::unwrap).collect::<Vec<_>>().await.pop();
    assert!(matches!(last, Some(ChatEvent::Done(reply)) if reply.logprobs == Some(vec![-0.5])));
    assert_eq!(server.chats_asked()[0]["logprobs"], true);
}

/// A loaded model queues without bound and without a word; we queue here, and our clock starts afterwards.
#[tokio::test]
async fn no_more_requests_are_under_way_than_configured() {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    let under_way: Arc<Mutex<(usize, usize)>> = Arc::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let counter = under_way.clone();
    let app = axum::Router::new().route(
        "/api/chat",
        axum::routing::post(async move || {
            {
                let mut now = counter.lock().unwrap();
                now.0 += 1;
                now.1 = now.1.max(now.0);
            }
            tokio::time::sleep(Duration::from_millis(60)).await;
            counter.lock().unwrap().0 -= 1;
            whole("ok").to_string()
        }),
    );
    let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    // Ten turns one after the other take longer than the time-out of each.
    let ollama = Ollama::new(config(&url)).unwrap();
    let question = request("hi");
    let replies = futures::future::join_all((0..10).map(|_| ollama.chat(&question))).await;
    assert!(replies.iter().all(Result::is_ok), "{replies:?}");
    assert_eq!(under_way.lock().unwrap().1, 1);
    server.abort();
}
