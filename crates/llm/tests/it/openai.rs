//! OpenAI-compatible servers, each with its own idea of what can be asked.

use std::error::Error;

use agentflow_llm::{
    ApiKey, Break, ChatError, ChatEvent, ChatModel, ChatRequest, Finish, OpenAi, OpenAiConfig,
    Retry, Usage,
};
use futures::StreamExt;
use serde_json::{Value, json};

use crate::server::{Answer, Server, eager, impatient, planner_request, request};

const KEY: &str = "sk-very-secret";
const PATH: &str = "/v1/chat/completions";

fn openai(server: &Server) -> OpenAi {
    let base = format!("{}/v1/", server.url);
    OpenAi::new(OpenAiConfig {
        timeouts: impatient(),
        retry: Retry::never(),
        ..OpenAiConfig::new(base, "qwen3", ApiKey::new(KEY))
    })
    .unwrap()
}

fn whole(content: &str) -> Value {
    json!({"choices": [{"message": {"role": "assistant", "content": content}, "finish_reason": "stop"}],
           "usage": {"prompt_tokens": 9, "completion_tokens": 3}})
}

fn delta(delta: &Value) -> Value {
    json!({"choices": [{"delta": delta, "finish_reason": null}]})
}

fn sent(server: &Server) -> Vec<Value> {
    server.asked(PATH).into_iter().map(|asked| asked.body).collect()
}

#[tokio::test]
async fn a_whole_reply_is_asked_for_and_read() {
    let server = Server::chats(vec![|| {
        let mut reply = whole(r#"{"thought": "t", "action": "code"}"#);
        reply["choices"][0]["message"]["reasoning_content"] = json!("hm");
        reply["choices"][0]["logprobs"] = json!({"content": [{"token": "{", "logprob": -0.25}]});
        Answer::json(200, &reply)
    }])
    .await;
    let mut asked = ChatRequest { think: true, stop: vec!["END".into()], ..planner_request() };
    asked.sampling.seed = Some(7);
    asked.sampling.top_k = Some(20);
    let reply = openai(&server).chat(&asked).await.unwrap();
    assert_eq!(reply.text, r#"{"thought": "t", "action": "code"}"#);
    assert_eq!(reply.thinking.as_deref(), Some("hm"));
    assert_eq!(reply.logprobs, Some(vec![-0.25]));
    assert_eq!(reply.usage, Usage { prompt_tokens: 9, completion_tokens: 3 });
    assert_eq!(reply.warnings, Vec::<String>::new());

    let request = &server.asked(PATH)[0];
    assert_eq!(request.authorization.as_deref(), Some("Bearer sk-very-secret"));
    let mut schema = asked.schema.clone().unwrap();
    schema["additionalProperties"] = json!(false);
    assert_eq!(
        request.body,
        json!({
            "model": "qwen3", "stream": false, "temperature": 0.0, "top_p": 1.0, "max_tokens": 64,
            "top_k": 20, "seed": 7, "stop": ["END"],
            "chat_template_kwargs": {"enable_thinking": true},
            "response_format": {"type": "json_schema", "json_schema": {
                "name": "reply", "strict": true, "schema": schema
            }},
            "messages": [{"role": "user", "content": "Plan."}]
        })
    );
}

#[tokio::test]
async fn thinking_is_switched_off_in_both_dialects() {
    let server = Server::chats(vec![|| Answer::json(200, &whole("hi"))]).await;
    openai(&server).chat(&request("hi")).await.unwrap();
    assert_eq!(sent(&server)[0]["reasoning_effort"], "none");
    assert_eq!(sent(&server)[0]["chat_template_kwargs"], json!({"enable_thinking": false}));
}

#[tokio::test]
async fn a_stream_is_read_however_it_is_cut() {
    for size in [1, 3, 1 << 20] {
        let server = Server::start(move |_, _| {
            Answer::new(200, ": keep-alive\n\n")
                .then(format!(
                    "data: {}\r\n\r\n",
                    delta(&json!({"role": "assistant", "content": null}))
                ))
                .then(format!("data: {}\n\n", delta(&json!({"reasoning": "hm ü"}))))
                .then(format!("data:{}\n\n", delta(&json!({"content": "größ"}))))
                .then(format!(
                    "data: {}\n\n",
                    json!({"choices": [{"delta": {"content": "er"}, "finish_reason": "length"}]})
                ))
                .then(format!(
                    "data: {}\n\n",
                    json!({"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 2}})
                ))
                .then(&b"data: [DONE]\n\n"[..])
                .in_chunks_of(size)
        })
        .await;
        let request = ChatRequest { think: true, ..request("hi") };
        let events: Vec<_> = openai(&server).stream(request).map(Result::unwrap).collect().await;
        let pieces = [
            ChatEvent::Thinking("hm ü".into()),
            ChatEvent::Text("größ".into()),
            ChatEvent::Text("er".into()),
        ];
        assert_eq!(events[..3], pieces);
        let ChatEvent::Done(reply) = &events[3] else { panic!("{events:?}") };
        assert_eq!(reply.finish, Finish::Length);
        assert_eq!(reply.usage, Usage { prompt_tokens: 4, completion_tokens: 2 });
        assert_eq!(sent(&server)[0]["stream_options"], json!({"include_usage": true}));
    }
}

#[tokio::test]
async fn a_stream_without_an_end_is_broken() {
    let server = Server::chats(vec![|| Answer::events(&[delta(&json!({"content": "Hi"}))])]).await;
    let last = openai(&server).stream(request("hi")).collect::<Vec<_>>().await.pop().unwrap();
    assert_eq!(last, Err(ChatError::BrokenStream { how: Break::NotDone, text: "Hi".into() }));

    let server =
        Server::chats(vec![|| Answer::events(&[json!({"error": {"message": "out of memory"}})])])
            .await;
    let last = openai(&server).stream(request("hi")).collect::<Vec<_>>().await.pop().unwrap();
    let how = Break::ServerError { text: "out of memory".into() };
    assert_eq!(last, Err(ChatError::BrokenStream { how, text: String::new() }));
}

#[tokio::test]
async fn what_a_server_refuses_is_left_out_from_then_on_and_said_once() {
    let server = Server::start(|asked, _| {
        let refuse = |text: &str| Answer::json(400, &json!({"error": {"message": text}}));
        if asked.body.get("response_format").is_some() {
            refuse("This response_format type is unavailable now")
        } else if asked.body.get("chat_template_kwargs").is_some() {
            refuse("Unrecognized request argument supplied: chat_template_kwargs")
        } else if asked.body.get("max_tokens").is_some() {
            refuse("Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.")
        } else {
            Answer::json(200, &whole("```json\n{\"thought\": \"t\", \"action\": \"code\"}\n```"))
        }
    })
    .await;
    let openai = openai(&server);
    let first = openai.chat(&planner_request()).await.unwrap();
    assert_eq!(first.text, "{\"thought\": \"t\", \"action\": \"code\"}");
    assert_eq!(first.warnings.len(), 3, "{:?}", first.warnings);
    assert!(
        first.warnings[0]
            .contains("does not take `response_format`, so only the prompt asks for JSON")
    );
    let last = sent(&server).pop().unwrap();
    assert_eq!(last["max_completion_tokens"], 64);
    let content = last["messages"][0]["content"].as_str().unwrap();
    assert!(
        content.starts_with("Plan.\n\nReply with one JSON object")
            && content.contains("\"thought\"")
    );

    let second = openai.chat(&planner_request()).await.unwrap();
    assert_eq!(second.warnings, Vec::<String>::new());
    assert_eq!(sent(&server).len(), 5);
}

#[tokio::test]
async fn a_reply_that_breaks_the_schema_is_an_error() {
    let server = Server::chats(vec![|| Answer::json(200, &whole("Sure!"))]).await;
    let error = openai(&server).chat(&planner_request()).await.unwrap_err();
    assert!(matches!(error, ChatError::SchemaViolated { .. }));
}

#[tokio::test]
async fn errors_are_told_apart() {
    type Is = fn(&ChatError) -> bool;
    type Refuse = fn() -> Answer;
    let cases: [(Refuse, Is); 9] = [
        (
            || {
                Answer::json(
                    404,
                    &json!({"error": {"message": "The model `qwen3` does not exist"}}),
                )
            },
            |e| matches!(e, ChatError::ModelMissing { .. }),
        ),
        (|| Answer::new(404, "Not Found"), |e| matches!(e, ChatError::BadReply { .. })),
        (
            || {
                Answer::json(
                    400,
                    &json!({"error": {"message": "This model's maximum context length is 4096"}}),
                )
            },
            |e| matches!(e, ChatError::ContextTooLong { .. }),
        ),
        (
            || {
                Answer::json(
                    400,
                    &json!({"error": {"message": "Invalid schema for response_format 'reply'"}}),
                )
            },
            |e| matches!(e, ChatError::SchemaRejected { .. }),
        ),
        (
            || {
                Answer::json(429, &json!({"error": {"message": "Rate limit"}}))
                    .header("retry-after", "2")
            },
            |e| e.retry_after().is_some_and(|wait| wait.as_secs() == 2) && e.can_heal(),
        ),
        (
            || Answer::json(429, &json!({"error": {"message": "You exceeded your current quota"}})),
            |e| !e.can_heal(),
        ),
        (
            || Answer::json(503, &json!({"error": {"message": "Loading model"}})),
            ChatError::can_heal,
        ),
        (|| Answer::new(200, "<html>"), |e| matches!(e, ChatError::BadReply { .. })),
        (|| Answer::new(200, ""), |e| matches!(e, ChatError::BadReply { .. })),
    ];
    for (answer, is) in cases {
        let server = Server::chats(vec![answer]).await;
        let error = openai(&server).chat(&planner_request()).await.unwrap_err();
        assert!(is(&error), "{error:?}");
        let streamed = openai(&server).stream(planner_request()).collect::<Vec<_>>().await;
        assert_eq!(streamed.len(), 1);
        assert!(is(streamed[0].as_ref().unwrap_err()), "{streamed:?}");
    }
}

#[tokio::test]
async fn what_can_heal_is_tried_again() {
    let server =
        Server::chats(vec![|| Answer::new(503, ""), || Answer::new(200, "").then_lost(), || {
            Answer::json(200, &whole("ok"))
        }])
        .await;
    let config = OpenAiConfig {
        timeouts: impatient(),
        retry: eager(3),
        ..OpenAiConfig::new(format!("{}/v1", server.url), "qwen3", None)
    };
    assert_eq!(OpenAi::new(config).unwrap().chat(&request("hi")).await.unwrap().text, "ok");
    assert_eq!(server.asked(PATH)[2].authorization, None);
}

/// Servers quote the key they refuse; it must not come out anywhere.
#[tokio::test]
async fn the_key_never_shows() {
    let server = Server::chats(vec![|| {
        let text = format!("Incorrect API key provided: {KEY}. You can find your key online.");
        Answer::json(401, &json!({"error": {"message": text}}))
    }])
    .await;
    let openai = openai(&server);
    let error = openai.chat(&request("hi")).await.unwrap_err();
    assert!(matches!(error, ChatError::Unauthorized { .. }));
    assert!(error.source().is_none());
    for shown in [error.to_string(), format!("{error:?}"), format!("{openai:?}")] {
        assert!(!shown.contains("very-secret"), "{shown}");
    }
    assert!(error.to_string().contains("provided: [key]."), "{error}");
    assert_eq!(format!("{:?}", ApiKey::new(KEY)), "Some(ApiKey([hidden]))");
    assert_eq!(ApiKey::new("  "), None);
    let unsendable = OpenAiConfig::new("http://127.0.0.1:1", "m", ApiKey::new("sk-very-secret\nx"));
    let message = OpenAi::new(unsendable).unwrap_err().to_string();
    assert!(message.contains("copy it again") && !message.contains("very-secret"), "{message}");
}

#[tokio::test]
async fn a_refusal_is_told_from_a_reply() {
    let refused = Server::chats(vec![|| {
        let message = json!({"role": "assistant", "content": null, "refusal": "I cannot."});
        let choice = json!({"message": message, "finish_reason": "stop"});
        Answer::json(200, &json!({"choices": [choice]}))
    }])
    .await;
    let reply = openai(&refused).chat(&request("Rate it.")).await.unwrap();
    assert_eq!((reply.finish, reply.text.as_str()), (Finish::Refused, "I cannot."));

    let filtered = Server::chats(vec![|| {
        let mut reply = whole("It is");
        reply["choices"][0]["finish_reason"] = json!("content_filter");
        reply["choices"][0]["message"]["refusal"] = json!(null);
        Answer::json(200, &reply)
    }])
    .await;
    let reply = openai(&filtered).chat(&request("Rate it.")).await.unwrap();
    assert_eq!((reply.finish, reply.warnings.len()), (Finish::Refused, 1));
}
