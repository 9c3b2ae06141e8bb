//! What an error of Ollama means, from its status and its text: neither alone tells.

use std::time::Duration;

use serde_json::Value;

use crate::{
    error::{ChatError, shorten},
    http::Http,
};

/// Names the error that came with `status` and `body`.
pub(super) fn classify(
    http: &Http,
    model: &str,
    status: u16,
    body: &str,
    retry_after: Option<Duration>,
) -> ChatError {
    let text = error_text(body);
    // All of the body: the runner says most plainly in its `type` what the text words anew with each version.
    let lower = body.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    if has(&["invalid format:", "json schema", "json_schema", "failed to parse grammar"]) {
        return ChatError::SchemaRejected { reason: text };
    }
    if has(&[
        "longer than the context",
        "exceeds the context",
        "the available context",
        "exceed_context_size",
    ]) {
        return ChatError::ContextTooLong { text };
    }
    if has(&["server busy", "maximum pending requests", "too many requests"]) {
        return ChatError::Overloaded { text, retry_after };
    }
    match status {
        404 if has(&["not found", "try pulling"]) && lower.contains("model") => {
            missing(http, model, &[])
        }
        404 => http.bad_reply(format!("it knows no such page (status 404, `{text}`)")),
        401 | 403 => ChatError::Unauthorized {
            url: http.shown().to_owned(),
            text,
            advice: "cloud models of Ollama want `ollama signin` on the machine of the server"
                .to_owned(),
        },
        429 | 503 => ChatError::Overloaded { text, retry_after },
        400..500 => ChatError::BadRequest { text },
        _ => ChatError::Server { status, text },
    }
}

/// The model is not there; `others` are.
pub(super) fn missing(http: &Http, model: &str, others: &[String]) -> ChatError {
    let mut advice = format!("get it with `ollama pull {model}`");
    if !others.is_empty() {
        advice.push_str(&format!(", or use one that is there: `{}`", others.join("`, `")));
    }
    let server = format!("{} at `{}`", http.server(), http.shown());
    ChatError::ModelMissing { model: model.to_owned(), server, advice }
}

/// Whether the model was refused because it cannot think.
pub(super) fn cannot_think(error: &ChatError) -> bool {
    matches!(error, ChatError::BadRequest { text } if text.contains("does not support thinking"))
}

/// The innermost text: the body may be `{"error": text}`, the text itself the runner's JSON.
pub(super) fn error_text(body: &str) -> String {
    let mut text = body.trim().to_owned();
    // Two levels are known; a third costs nothing.
    for _ in 0..3 {
        let Ok(value) = serde_json::from_str::<Value>(&text) else { break };
        let error = value.get("error").unwrap_or(&value);
        match error.get("message").unwrap_or(error) {
            Value::String(inner) => text = inner.trim().to_owned(),
            _ => break,
        }
    }
    // Our messages go on after it.
    let text = text.trim_end_matches('.');
    if text.is_empty() { "no reason given".to_owned() } else { shorten(text, 400) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Timeouts;

    fn classified(status: u16, body: &str) -> ChatError {
        let http = Http::new("http://127.0.0.1:1", "Ollama", "", Timeouts::default()).unwrap();
        classify(&http, "m:1b", status, body, None)
    }

    #[test]
    fn errors_are_told_apart_by_status_and_text() {
        type Is = fn(&ChatError) -> bool;
        let cases: [(u16, &str, Is); 15] = [
            (404, r#"{"error":"model 'm:1b' not found"}"#, |e| {
                matches!(e, ChatError::ModelMissing { .. })
            }),
            (404, r#"{"error":"model \"m:1b\" not found, try pulling it first"}"#, |e| {
                matches!(e, ChatError::ModelMissing { .. })
            }),
            (404, "404 page not found", |e| matches!(e, ChatError::BadReply { .. })),
            (
                500,
                r#"{"error":"invalid format: \"\\\"xml\\\"\"; expected \"json\" or a valid JSON Schema object"}"#,
                |e| matches!(e, ChatError::SchemaRejected { .. }),
            ),
            (400, r#"{"error":"invalid JSON schema in format"}"#, |e| {
                matches!(e, ChatError::SchemaRejected { .. })
            }),
            (500, r#"{"error":"failed to parse grammar"}"#, |e| {
                matches!(e, ChatError::SchemaRejected { .. })
            }),
            (400, r#"{"error":"the prompt is longer than the context length"}"#, |e| {
                matches!(e, ChatError::ContextTooLong { .. })
            }),
            (
                503,
                r#"{"error":"server busy, please try again.  maximum pending requests exceeded"}"#,
                |e| matches!(e, ChatError::Overloaded { .. }),
            ),
            (503, "<html>upstream</html>", |e| matches!(e, ChatError::Overloaded { .. })),
            (429, "{}", |e| matches!(e, ChatError::Overloaded { .. })),
            (401, r#"{"error":"unauthorized"}"#, |e| matches!(e, ChatError::Unauthorized { .. })),
            (400, r#"{"error":"\"m:1b\" does not support thinking"}"#, cannot_think),
            (500, r#"{"error":"option \"num_ctx\" must be of type integer"}"#, |e| {
                matches!(e, ChatError::Server { status: 500, .. })
            }),
            (502, "", |e| matches!(e, ChatError::Server { status: 502, .. }) && e.can_heal()),
            (500, r#"{"error":"model requires more system memory"}"#, |e| {
                matches!(e, ChatError::Server { .. }) && !e.can_heal()
            }),
        ];
        for (status, body, is) in cases {
            let error = classified(status, body);
            assert!(is(&error), "{status} {body}: {error:?}");
        }
    }

    #[test]
    fn json_inside_json_is_opened() {
        let body = r#"{"error": "{\"error\":{\"code\":400,\"message\":\"JSON schema conversion failed:\\nPattern must start\"}}"}"#;
        assert_eq!(
            classified(400, body).to_string(),
            "the reply schema cannot be used: JSON schema conversion failed: Pattern must start; \
             change the schema to what the server supports"
        );
    }

    #[test]
    fn a_missing_model_says_how_to_get_it() {
        let message = classified(404, r#"{"error":"model 'm:1b' not found"}"#).to_string();
        assert_eq!(
            message,
            "model `m:1b` is not on Ollama at `http://127.0.0.1:1`; get it with `ollama pull m:1b`"
        );
    }
}
