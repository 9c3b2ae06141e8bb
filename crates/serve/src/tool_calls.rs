//! Tool calls in a reply, as Qwen and Hermes models write them: `<tool_call>{"name": …, "arguments": {…}}</tool_call>`.

use rand::Rng;
use serde::Deserialize;
use serde_json::{Map, Value};

/// What begins a call; the template says so, and we stream no text from here on.
pub(crate) const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";

/// What the model wants called.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct ToolCall {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) arguments: Map<String, Value>,
}

/// The text before the first call, and the calls. A reply with a call that cannot be read is text as a whole: what the
/// model wrote is not lost.
pub(crate) fn split(text: &str) -> (&str, Vec<ToolCall>) {
    let Some(start) = text.find(OPEN) else { return (text, Vec::new()) };
    let calls: Result<Vec<ToolCall>, _> = text[start..]
        .split(OPEN)
        .skip(1)
        .map(|call| serde_json::from_str(call.split(CLOSE).next().unwrap_or_default().trim()))
        .collect();
    match calls {
        Ok(calls) => (text[..start].trim_end(), calls),
        Err(_) => (text, Vec::new()),
    }
}

/// A new name for a call, as Ollama writes them.
pub(crate) fn id() -> String {
    const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut random = rand::rng();
    let letters = (0..8).map(|_| char::from(LETTERS[random.random_range(0..LETTERS.len())]));
    format!("call_{}", letters.collect::<String>())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn calls_are_taken_out_of_the_text() {
        let text = "Let me see.\n<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": 1, \"b\": \"</x>\"}}\n</tool_call>\n\
                    <tool_call>\n{\"name\": \"now\"}";
        let (before, calls) = split(text);
        assert_eq!(before, "Let me see.");
        let arguments = json!({"a": 1, "b": "</x>"}).as_object().cloned().unwrap();
        assert_eq!(
            calls,
            [
                ToolCall { name: "add".into(), arguments },
                ToolCall { name: "now".into(), arguments: Map::new() }
            ]
        );
    }

    #[test]
    fn what_cannot_be_read_stays_text() {
        for text in
            ["no call", "<tool_call>oops</tool_call>", "<tool_call>{\"name\": \"x\", \"argum"]
        {
            assert_eq!(split(text), (text, Vec::new()));
        }
    }
}
