//! Tools: rendered where the template can, and calls taken out of the reply.

use std::path::Path;

use agentflow_model::{Local, ModelFiles, bundled};
use agentflow_serve::{Limits, Server};
use candle_core::{DType, Device};
use serde_json::{Value, json};

use crate::endless::{Endless, card};
use crate::server::{PATIENCE, start};

/// As Qwen's templates show tools and calls, cut to what matters here.
const TEMPLATE: &str = r#"{%- if tools %}{{- '<|im_start|>system\n<tools>' }}{%- for tool in tools %}{{- '\n' + (tool | tojson) }}{%- endfor %}{{- '\n</tools>\nCall as <tool_call>{"name": …}</tool_call><|im_end|>\n' }}{%- endif %}
{%- for message in messages %}{{- '<|im_start|>' + message.role + '\n' + message.content }}
{%- for call in message.tool_calls %}{{- '<tool_call>' + (call.function.arguments | tojson) + '</tool_call>' }}{%- endfor %}{{- '<|im_end|>\n' }}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"#;

fn tool() -> Value {
    let parameters = json!({"type": "object", "properties": {"a": {"type": "integer"}}});
    json!({"type": "function", "function": {"name": "add", "description": "a < b & 'c'", "parameters": parameters}})
}

/// The bundled planner with a template that knows tools.
fn model(dir: &Path) -> Local {
    let ModelFiles::Embedded(files) = bundled::files() else { panic!("it is embedded") };
    for (name, content) in files {
        std::fs::write(dir.join(name), content).unwrap();
    }
    std::fs::write(dir.join("chat_template.jinja"), TEMPLATE).unwrap();
    let files = ModelFiles::directory(dir).unwrap();
    Local::load(&files, "m", None, DType::F32, &Device::Cpu).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_template_renders_tools_and_earlier_calls() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::of_local(model(dir.path()), "m", Limits::default());
    let server = start(server, PATIENCE).await;
    let tags = server.get("/api/tags").await;
    assert_eq!(tags["models"][0]["capabilities"], json!(["completion", "tools"]));
    let messages = json!([
        {"role": "user", "content": "2 + 3?"},
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "add", "arguments": {"a": 2}}}]},
        {"role": "tool", "content": "5", "tool_name": "add"}
    ]);
    let options = json!({"num_predict": 4, "temperature": 0});
    let chat = json!({
        "model": "m", "messages": messages, "tools": [tool()], "stream": false, "options": options
    });
    let reply = server.ask("/api/chat", chat.clone()).await;
    // What the template makes of it, written out: JSON as Python spaces it, and not escaped for HTML.
    let rendered = "<|im_start|>system\n<tools>\n{\"type\": \"function\", \"function\": {\"name\": \"add\", \
        \"description\": \"a < b & 'c'\", \"parameters\": {\"type\": \"object\", \"properties\": {\"a\": {\"type\": \
        \"integer\"}}}}}\n</tools>\nCall as <tool_call>{\"name\": …}</tool_call><|im_end|>\n<|im_start|>user\n2 + 3?\
        <|im_end|>\n<|im_start|>assistant\n<tool_call>{\"a\": 2}</tool_call><|im_end|>\n<|im_start|>tool\n5<|im_end|>\n\
        <|im_start|>assistant\n";
    let raw =
        json!({"model": "m", "prompt": rendered, "raw": true, "stream": false, "options": options});
    let raw = server.ask("/api/generate", raw).await;
    assert_eq!(reply["prompt_eval_count"], raw["prompt_eval_count"]);
    assert_eq!(reply["message"]["content"], raw["response"]);
    // OpenAI's arguments are text on the wire, and the same in the prompt.
    let mut messages = messages;
    messages[1]["tool_calls"][0]["function"]["arguments"] = json!("{\"a\": 2}");
    let openai = json!({
        "model": "m", "messages": messages, "tools": [tool()], "max_tokens": 4, "temperature": 0
    });
    let openai = server.ask("/v1/chat/completions", openai).await;
    assert_eq!(openai["usage"]["prompt_tokens"], reply["prompt_eval_count"]);
}

/// A small model calls nothing reliably, so this one only repeats a call.
#[tokio::test]
async fn calls_are_told_in_either_shape() {
    let text = "Well.\n<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": 2, \"b\": 3}}\n</tool_call>";
    let server = Server::new(vec![std::sync::Arc::new(Calling::new(text))], Limits::default());
    let server = start(server, PATIENCE).await;
    let messages = json!([{"role": "user", "content": "2 + 3?"}]);
    let body = |stream: bool| json!({"model": "endless", "messages": messages, "tools": [tool()], "stream": stream});
    let whole = server.ask("/api/chat", body(false)).await;
    let message = &whole["message"];
    assert_eq!((&message["content"], &whole["done_reason"]), (&json!("Well."), &json!("stop")));
    let call = &message["tool_calls"][0];
    let wanted = json!({"index": 0, "name": "add", "arguments": {"a": 2, "b": 3}});
    assert_eq!(call["function"], wanted);
    assert!(call["id"].as_str().is_some_and(|id| id.starts_with("call_") && id.len() == 13));
    let lines = server.lines("/api/chat", body(true)).await;
    let text: String =
        lines.iter().map(|line| line["message"]["content"].as_str().unwrap()).collect();
    assert_eq!(text, "Well.");
    assert_eq!(lines.last().unwrap()["message"]["tool_calls"][0]["function"], wanted);
    let openai = server.ask("/v1/chat/completions", body(false)).await;
    let choice = &openai["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls");
    let function = &choice["message"]["tool_calls"][0]["function"];
    assert_eq!(function, &json!({"name": "add", "arguments": "{\"a\":2,\"b\":3}"}));
}

/// [`Endless`], let go on for ever, behind a card that says that it calls tools.
struct Calling {
    model: std::sync::Arc<Endless>,
    card: agentflow_serve::Card,
}

impl Calling {
    fn new(text: &str) -> Self {
        let model = Endless::saying(text);
        model.go_on.add_permits(99);
        Self { model, card: agentflow_serve::Card { calls_tools: true, ..card() } }
    }
}

#[async_trait::async_trait]
impl agentflow_serve::ServedModel for Calling {
    fn card(&self) -> &agentflow_serve::Card {
        &self.card
    }

    fn stream(
        &self,
        job: agentflow_serve::Job,
    ) -> futures::stream::BoxStream<'_, Result<agentflow_llm::ChatEvent, agentflow_llm::ChatError>>
    {
        agentflow_llm::ChatModel::stream(&*self.model, job.request)
    }
}
