//! What servers make of a schema: the grammar dialect behind Ollama's `format`, and OpenAI's strict mode.
//!
//! Ollama passes the schema to llama.cpp, which turns it into a grammar, ignores what it does not know, and says
//! nothing. A schema that is silently half applied is worse than one that is refused, so [`lint`] refuses it.

use serde_json::{Map, Value, json};

use super::child;
use crate::error::ChatError;

/// Keywords that shape the grammar.
const APPLIED: [&str; 21] = [
    "type",
    "properties",
    "required",
    "additionalProperties",
    "enum",
    "const",
    "anyOf",
    "oneOf",
    "allOf",
    "$ref",
    "$defs",
    "definitions",
    "items",
    "prefixItems",
    "minItems",
    "maxItems",
    "minLength",
    "maxLength",
    "pattern",
    "format",
    "$schema",
];

/// Keywords that only describe; ignoring them loses nothing.
const DESCRIPTIVE: [&str; 6] = ["title", "description", "default", "examples", "$id", "$comment"];

/// From here on the grammar grows so large that it may not parse (llama.cpp#25746).
const MAX_LENGTH: u64 = 2000;

/// Refuses what Ollama's grammar cannot express, or would leave out without a word.
///
/// # Errors
/// [`ChatError::SchemaRejected`] with every problem and its place.
pub fn lint(schema: &Value) -> Result<(), ChatError> {
    let mut problems = Vec::new();
    if !schema.is_object() {
        problems.push("it is not a JSON object".to_owned());
    }
    inspect(schema, "", &mut problems);
    if problems.is_empty() {
        return Ok(());
    }
    Err(ChatError::SchemaRejected { reason: problems.join("; ") })
}

fn inspect(schema: &Value, path: &str, problems: &mut Vec<String>) {
    let Value::Object(rules) = schema else { return };
    let here = if path.is_empty() { "the top".to_owned() } else { format!("`{path}`") };
    for (keyword, rule) in rules {
        if let Some(problem) = keyword_problem(keyword, rule, rules) {
            problems.push(format!("at {here}, {problem}"));
        }
        match (keyword.as_str(), rule) {
            ("properties" | "$defs" | "definitions", Value::Object(schemas)) => {
                for (key, schema) in schemas {
                    inspect(schema, &child(path, key), problems);
                }
            }
            ("anyOf" | "oneOf" | "allOf" | "prefixItems", Value::Array(schemas)) => {
                for schema in schemas {
                    inspect(schema, path, problems);
                }
            }
            ("items" | "additionalProperties", schema) => {
                inspect(schema, &format!("{path}[]"), problems);
            }
            _ => {}
        }
    }
}

fn keyword_problem(keyword: &str, rule: &Value, rules: &Map<String, Value>) -> Option<String> {
    match keyword {
        "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" => {
            let integer = rules.get("type").and_then(Value::as_str) == Some("integer");
            (!integer).then(|| format!("`{keyword}` binds only values of type `integer`"))
        }
        "pattern" => pattern_problem(rule.as_str().unwrap_or_default()),
        "format" => {
            let format = rule.as_str().unwrap_or_default();
            let known =
                format.starts_with("uuid") || ["date", "time", "date-time"].contains(&format);
            (!known).then(|| format!("the format `{format}` is not known"))
        }
        "maxLength" => {
            let large = rule.as_u64().is_none_or(|length| length >= MAX_LENGTH);
            large.then(|| {
                format!("`maxLength` must be below {MAX_LENGTH}; bound the reply by its tokens")
            })
        }
        "$ref" => {
            let reference = rule.as_str().unwrap_or_default();
            (!reference.starts_with('#')).then(|| format!("`{reference}` is not in this schema"))
        }
        "allOf"
            if rules.contains_key("properties") || rules.contains_key("additionalProperties") =>
        {
            Some("`allOf` is ignored beside `properties` or `additionalProperties`".to_owned())
        }
        _ if APPLIED.contains(&keyword) || DESCRIPTIVE.contains(&keyword) => None,
        _ => Some(format!("`{keyword}` is not supported")),
    }
}

fn pattern_problem(pattern: &str) -> Option<String> {
    if !(pattern.starts_with('^') && pattern.ends_with('$')) {
        return Some(format!("the pattern `{pattern}` must begin with `^` and end with `$`"));
    }
    if ["(?=", "(?!", "(?<"].iter().any(|group| pattern.contains(group)) {
        return Some(format!("the pattern `{pattern}` looks around, which a grammar cannot"));
    }
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        if character == '\\'
            && let Some(class @ ('d' | 'D' | 'w' | 'W' | 's' | 'S' | 'b' | 'B')) = characters.next()
        {
            let problem = format!(
                "the pattern `{pattern}` has `\\{class}`; write the class out, e.g. `[0-9]`"
            );
            return Some(problem);
        }
    }
    None
}

/// The form for OpenAI's strict mode: `additionalProperties: false` in every object.
///
/// `None` where strict mode cannot express the schema: an object with an optional property.
pub fn strict(schema: &Value) -> Option<Value> {
    match schema {
        Value::Array(schemas) => schemas.iter().map(strict).collect(),
        Value::Object(rules) => {
            let mut strict_rules = Map::new();
            for (keyword, rule) in rules {
                let rule = match (keyword.as_str(), rule) {
                    ("properties" | "$defs" | "definitions", Value::Object(schemas)) => schemas
                        .iter()
                        .map(|(key, schema)| Some((key.clone(), strict(schema)?)))
                        .collect::<Option<Map<_, _>>>()?
                        .into(),
                    ("items" | "anyOf", schema) => strict(schema)?,
                    _ => rule.clone(),
                };
                strict_rules.insert(keyword.clone(), rule);
            }
            if let Some(Value::Object(properties)) = rules.get("properties") {
                let required = rules.get("required").and_then(Value::as_array);
                let names = |key: &String| required.is_some_and(|r| r.contains(&json!(key)));
                if !properties.keys().all(names) {
                    return None;
                }
                strict_rules.insert("additionalProperties".to_owned(), Value::Bool(false));
            }
            Some(strict_rules.into())
        }
        other => Some(other.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(schema: &Value) -> String {
        lint(schema).expect_err("the schema should be refused").to_string()
    }

    #[test]
    fn the_schemas_we_send_pass() {
        let planner = json!({
            "type": "object", "title": "Decision",
            "properties": {
                "thought": {"type": "string", "description": "why"},
                "action": {"type": "string", "enum": ["think", "code"]},
                "digits": {"type": "string", "pattern": "^[0-9]{1,4}\\.$"},
                "count": {"type": "integer", "minimum": 1, "maximum": 9}
            },
            "required": ["thought", "action", "digits", "count"]
        });
        assert_eq!(lint(&planner), Ok(()));
        assert_eq!(lint(&crate::schema::in_order(&planner)), Ok(()));
    }

    #[test]
    fn what_would_be_ignored_is_refused_with_its_place() {
        let refused = [
            (json!({"not": {"type": "string"}}), "at the top, `not` is not supported"),
            (json!({"if": {}}), "`if` is not supported"),
            (
                json!({"type": "number", "minimum": 1}),
                "`minimum` binds only values of type `integer`",
            ),
            (json!({"type": "number", "multipleOf": 2}), "`multipleOf` is not supported"),
            (json!({"type": "array", "uniqueItems": true}), "`uniqueItems` is not supported"),
            (json!({"pattern": "\\d+"}), "must begin with `^` and end with `$`"),
            (json!({"pattern": "^\\d+$"}), "`\\d`; write the class out, e.g. `[0-9]`"),
            (json!({"pattern": "^(?!a)b$"}), "looks around"),
            (json!({"format": "email"}), "the format `email` is not known"),
            (json!({"maxLength": 2000}), "`maxLength` must be below 2000"),
            (json!({"$ref": "https://example.com/s"}), "is not in this schema"),
            (json!({"properties": {}, "allOf": []}), "`allOf` is ignored beside `properties`"),
            (json!(true), "it is not a JSON object"),
        ];
        for (schema, problem) in refused {
            let complaint = complaint(&schema);
            assert!(complaint.contains(problem), "{schema}: {complaint}");
        }
        let nested =
            json!({"type": "object", "properties": {"a": {"type": "array", "items": {"not": {}}}}});
        assert!(complaint(&nested).contains("at `a[]`, `not` is not supported"));
    }

    #[test]
    fn an_escaped_backslash_is_no_class() {
        assert_eq!(lint(&json!({"type": "string", "pattern": r"^\\d$"})), Ok(()));
    }

    #[test]
    fn strict_closes_every_object_and_gives_up_on_optional_properties() {
        let schema = json!({"type": "object", "properties": {
            "a": {"type": "object", "properties": {"b": {"type": "string"}}, "required": ["b"]}
        }, "required": ["a"]});
        let strict_schema = strict(&schema).unwrap();
        assert_eq!(strict_schema["additionalProperties"], false);
        assert_eq!(strict_schema["properties"]["a"]["additionalProperties"], false);
        assert_eq!(strict(&json!({"type": "object", "properties": {"a": {}}})), None);
    }
}
