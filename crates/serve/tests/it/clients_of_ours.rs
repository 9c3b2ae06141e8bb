//! Our own clients against our own server: their detectors find nothing to complain about, and the reply is the
//! engine's.

use agentflow_llm::ollama::{Host, probe};
use agentflow_llm::{
    ApiKey, ChatError, ChatEvent, ChatModel, ChatRequest, Message, Ollama, OllamaConfig, OpenAi,
    OpenAiConfig, Retry, Sampling,
};
use futures::StreamExt;
use serde_json::json;

use crate::server::{MODEL, planner, planning};

fn requests() -> [ChatRequest; 3] {
    let schema = json!({
        "type": "object",
        "properties": {
            "thought": {"type": "string"}, "action": {"enum": ["code", "answer"]}, "action_input": {"type": "string"}
        },
        "required": ["thought", "action", "action_input"],
        "additionalProperties": false
    });
    let plain = ChatRequest {
        messages: vec![Message::user("Question: What is 12% of 350?")],
        schema: None,
        think: false,
        sampling: Sampling::greedy(),
        max_tokens: 64,
        stop: vec![],
    };
    let sampling =
        Sampling { temperature: 1.2, top_p: 0.95, top_k: Some(50), min_p: 0.01, seed: Some(11) };
    [
        ChatRequest { schema: Some(schema.clone()), ..plain.clone() },
        ChatRequest { schema: Some(schema), sampling, ..plain.clone() },
        plain,
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ollama_client_has_no_complaints() {
    let server = planning().await;
    let host: Host = server.url().parse().unwrap();
    let probed = probe(&host).await.unwrap();
    assert!(probed.has(MODEL));
    let config = OllamaConfig { num_ctx: 1024, ..OllamaConfig::new(host.clone(), MODEL) };
    let client = Ollama::connect(config.clone()).await.unwrap();
    assert_eq!(client.info().prompt_profile.as_deref(), Some("compact"));
    assert_eq!(
        client.info().digest.as_deref().map(|digest| format!("sha256:{digest}")),
        planner().info().digest
    );
    client.warm_up().await.unwrap();
    for request in requests() {
        let reply = client.chat(&request).await.unwrap();
        let direct = planner().chat(&request).await.unwrap();
        assert_eq!((&reply.text, reply.usage), (&direct.text, direct.usage));
        assert_eq!((reply.finish, &reply.warnings), (direct.finish, &Vec::new()));
        let events: Vec<_> = client.stream(request).collect().await;
        let Some(Ok(ChatEvent::Done(streamed))) = events.last() else { panic!("{events:?}") };
        assert_eq!((&streamed.text, &streamed.warnings), (&direct.text, &Vec::new()));
    }
    let retry = Retry::never();
    let missing = OllamaConfig { model: "m".into(), retry: retry.clone(), ..config.clone() };
    let missing = Ollama::connect(missing).await.unwrap_err();
    assert!(matches!(missing, ChatError::ModelMissing { .. }), "{missing:?}");
    let [request, ..] = requests();
    let long = ChatRequest { messages: vec![Message::user("!".repeat(4000))], ..request.clone() };
    let client = Ollama::new(OllamaConfig { retry, ..config }).unwrap();
    let error = client.chat(&long).await.unwrap_err();
    assert!(matches!(error, ChatError::ContextTooLong { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_openai_client_has_no_complaints() {
    let server = planning().await;
    let config = OpenAiConfig::new(&(server.url() + "/v1"), MODEL, ApiKey::from_env("NOT_SET"));
    let client = OpenAi::new(config).unwrap();
    let [schema, _, plain] = requests();
    for request in [schema, plain] {
        let reply = client.chat(&request).await.unwrap();
        let direct = planner().chat(&request).await.unwrap();
        assert_eq!((&reply.text, reply.usage), (&direct.text, direct.usage));
        assert_eq!(reply.warnings, Vec::<String>::new());
    }
}
