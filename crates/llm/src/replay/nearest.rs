//! Which recorded request is most like one that is missing, and where the two differ.

use serde_json::Value;

use crate::{chat::ChatRequest, error::shorten};

/// Characters shown from where two texts part.
const SHOWN: usize = 60;

/// E.g. ``exchange 3 is nearest, where `messages[1].content` differs at character 8: recorded `b`, asked `c` ``.
pub(super) fn describe<'a>(
    asked: &ChatRequest,
    recorded: impl Iterator<Item = &'a ChatRequest>,
) -> String {
    let nearest = recorded
        .enumerate()
        .max_by_key(|(place, request)| (likeness(asked, request), std::cmp::Reverse(*place)));
    let Some((place, request)) = nearest else { return "there is none at all".to_owned() };
    format!("exchange {} is nearest, where {}", place + 1, differences(asked, request))
}

/// Larger is more alike: first by the text that the conversations share, then by equal settings.
fn likeness(asked: &ChatRequest, recorded: &ChatRequest) -> (usize, usize) {
    let mut shared = 0;
    for (asked, recorded) in asked.messages.iter().zip(&recorded.messages) {
        if asked.role != recorded.role {
            break;
        }
        let common = common_characters(&asked.content, &recorded.content);
        shared += common + usize::from(asked == recorded);
        if asked != recorded {
            break;
        }
    }
    let settings = [
        asked.messages == recorded.messages,
        asked.schema == recorded.schema,
        asked.think == recorded.think,
        asked.sampling == recorded.sampling,
        asked.max_tokens == recorded.max_tokens,
        asked.stop == recorded.stop,
    ];
    (shared, settings.iter().filter(|equal| **equal).count())
}

fn differences(asked: &ChatRequest, recorded: &ChatRequest) -> String {
    let to_value = |request| serde_json::to_value(request).expect("a request is plain data");
    let mut found = Vec::new();
    compare(&to_value(asked), &to_value(recorded), "", &mut found);
    let more = found.len().saturating_sub(3);
    found.truncate(3);
    if more > 0 {
        found.push(format!("{more} more places differ"));
    }
    found.join("; ")
}

fn compare(asked: &Value, recorded: &Value, path: &str, found: &mut Vec<String>) {
    match (asked, recorded) {
        (Value::Object(one), Value::Object(other)) if one.keys().eq(other.keys()) => {
            for (key, value) in one {
                let dot = if path.is_empty() { "" } else { "." };
                compare(value, &other[key], &format!("{path}{dot}{key}"), found);
            }
        }
        (Value::Array(one), Value::Array(other)) => {
            for (index, (value, other)) in one.iter().zip(other).enumerate() {
                compare(value, other, &format!("{path}[{index}]"), found);
            }
            if one.len() != other.len() {
                found.push(format!("`{path}` has {} items, asked {}", other.len(), one.len()));
            }
        }
        (Value::String(one), Value::String(other)) if one != other => {
            let common = common_characters(one, other);
            let rest = |text: &str| shorten(&text.chars().skip(common).collect::<String>(), SHOWN);
            found.push(format!(
                "`{path}` differs at character {}: recorded `{}`, asked `{}`",
                common + 1,
                rest(other),
                rest(one)
            ));
        }
        _ => {
            // Compared as text, where the order of keys counts.
            let (one, other) = (asked.to_string(), recorded.to_string());
            if one != other {
                let (one, other) = (shorten(&one, SHOWN), shorten(&other, SHOWN));
                found.push(format!("`{path}` differs: recorded `{other}`, asked `{one}`"));
            }
        }
    }
}

fn common_characters(one: &str, other: &str) -> usize {
    one.chars().zip(other.chars()).take_while(|(a, b)| a == b).count()
}
