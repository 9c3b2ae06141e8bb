//! Whether a reply conforms to its schema.

use serde_json::{Map, Value};

use super::{SchemaViolation, child};
use crate::error::shorten;

/// Schemas and values nested deeper than this are refused, so that a `$ref` to itself ends.
const MAX_DEPTH: usize = 64;

/// Reads `text` as one JSON value and checks it against `schema`.
///
/// Understood: `type` (also a list), `properties`, `required`, `additionalProperties`, `enum`, `const`, `items`,
/// `minItems`, `maxItems`, `minLength`, `maxLength`, `minimum`, `maximum`, `anyOf`, `oneOf`, `allOf` and local
/// `$ref`. `pattern` and `format` bind the server's grammar only: a text that breaks them passes here.
///
/// # Errors
/// The first place that does not conform; what the text is instead, where it is not JSON at all.
pub fn validate(schema: &Value, text: &str) -> Result<Value, SchemaViolation> {
    let value = serde_json::from_str(text).map_err(|error| not_json(text, &error))?;
    validate_value(schema, &value)?;
    Ok(value)
}

/// Checks a value that has been read already, like [`validate`].
///
/// # Errors
/// The first place that does not conform.
pub fn validate_value(schema: &Value, value: &Value) -> Result<(), SchemaViolation> {
    Checker { root: schema }.check(schema, value, "", 0)
}

fn not_json(text: &str, error: &serde_json::Error) -> SchemaViolation {
    let problem = if text.trim().is_empty() {
        "it is empty".to_owned()
    } else if error.is_eof() {
        "it is JSON that was cut off".to_owned()
    } else {
        format!("it is not JSON ({error})")
    };
    SchemaViolation::new("", problem)
}

struct Checker<'a> {
    /// The whole schema, for `$ref`.
    root: &'a Value,
}

impl Checker<'_> {
    fn check(
        &self,
        schema: &Value,
        value: &Value,
        path: &str,
        depth: usize,
    ) -> Result<(), SchemaViolation> {
        if depth > MAX_DEPTH {
            return Err(SchemaViolation::new(path, "it or its schema is nested too deeply"));
        }
        let rules = match schema {
            Value::Object(rules) => rules,
            Value::Bool(false) => {
                return Err(SchemaViolation::new(path, "nothing is allowed here"));
            }
            _ => return Ok(()),
        };
        self.check_reference(rules, value, path, depth)?;
        check_type(rules, value, path)?;
        check_choice(rules, value, path)?;
        check_size(rules, value, path)?;
        if let Value::Object(object) = value {
            self.check_object(rules, object, path, depth)?;
        }
        if let Value::Array(array) = value {
            self.check_array(rules, array, path, depth)?;
        }
        self.check_combinations(rules, value, path, depth)
    }

    fn check_reference(
        &self,
        rules: &Map<String, Value>,
        value: &Value,
        path: &str,
        depth: usize,
    ) -> Result<(), SchemaViolation> {
        let Some(Value::String(reference)) = rules.get("$ref") else { return Ok(()) };
        let target = reference.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
        let Some(target) = target else {
            let problem = format!("the schema refers to `{reference}`, which is not in it");
            return Err(SchemaViolation::new(path, problem));
        };
        self.check(target, value, path, depth + 1)
    }

    fn check_object(
        &self,
        rules: &Map<String, Value>,
        object: &Map<String, Value>,
        path: &str,
        depth: usize,
    ) -> Result<(), SchemaViolation> {
        for key in rules.get("required").and_then(Value::as_array).into_iter().flatten() {
            let Some(key) = key.as_str() else { continue };
            if !object.contains_key(key) {
                return Err(SchemaViolation::new(path, format!("the key `{key}` is missing")));
            }
        }
        let properties = rules.get("properties").and_then(Value::as_object);
        for (key, item) in object {
            if let Some(schema) = properties.and_then(|properties| properties.get(key)) {
                self.check(schema, item, &child(path, key), depth + 1)?;
            } else if let Some(schema) = rules.get("additionalProperties") {
                if schema == &Value::Bool(false) {
                    let problem = format!("the key `{}` is not in the schema", shorten(key, 40));
                    return Err(SchemaViolation::new(path, problem));
                }
                self.check(schema, item, &child(path, key), depth + 1)?;
            }
        }
        Ok(())
    }

    fn check_array(
        &self,
        rules: &Map<String, Value>,
        array: &[Value],
        path: &str,
        depth: usize,
    ) -> Result<(), SchemaViolation> {
        let Some(schema) = rules.get("items") else { return Ok(()) };
        for (index, item) in array.iter().enumerate() {
            self.check(schema, item, &format!("{path}[{index}]"), depth + 1)?;
        }
        Ok(())
    }

    fn check_combinations(
        &self,
        rules: &Map<String, Value>,
        value: &Value,
        path: &str,
        depth: usize,
    ) -> Result<(), SchemaViolation> {
        for schema in schemas(rules, "allOf") {
            self.check(schema, value, path, depth + 1)?;
        }
        for keyword in ["anyOf", "oneOf"] {
            let failures: Vec<SchemaViolation> = match schemas(rules, keyword)
                .map(|schema| self.check(schema, value, path, depth + 1))
                .map(Result::err)
                .collect::<Option<Vec<_>>>()
            {
                // One of them holds. `oneOf` is read as `anyOf`, as Ollama's grammar does.
                None => continue,
                Some(failures) => failures,
            };
            if let Some(first) = failures.first() {
                let problem = format!("it fits none of {} choices; first: {first}", failures.len());
                return Err(SchemaViolation::new(path, problem));
            }
        }
        Ok(())
    }
}

fn schemas<'a>(
    rules: &'a Map<String, Value>,
    keyword: &str,
) -> impl Iterator<Item = &'a Value> + use<'a> {
    rules.get(keyword).and_then(Value::as_array).into_iter().flatten()
}

fn check_type(
    rules: &Map<String, Value>,
    value: &Value,
    path: &str,
) -> Result<(), SchemaViolation> {
    let wanted: Vec<&str> = match rules.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => return Ok(()),
    };
    if wanted.iter().any(|wanted| is_a(value, wanted)) {
        return Ok(());
    }
    let problem = format!("it is {}, not of type `{}`", article(value), wanted.join("` or `"));
    Err(SchemaViolation::new(path, problem))
}

fn is_a(value: &Value, wanted: &str) -> bool {
    match wanted {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        // JSON Schema counts 3.0 as an integer.
        "integer" => {
            value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|x| x.fract() == 0.0)
        }
        _ => false,
    }
}

fn article(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

fn check_choice(
    rules: &Map<String, Value>,
    value: &Value,
    path: &str,
) -> Result<(), SchemaViolation> {
    let shown = || shorten(&value.to_string(), 60);
    if let Some(Value::Array(choices)) = rules.get("enum")
        && !choices.contains(value)
    {
        let choices: Vec<String> = choices.iter().map(Value::to_string).collect();
        let problem = format!("`{}` is not one of {}", shown(), shorten(&choices.join(", "), 200));
        return Err(SchemaViolation::new(path, problem));
    }
    if let Some(only) = rules.get("const")
        && only != value
    {
        return Err(SchemaViolation::new(path, format!("`{}` is not `{only}`", shown())));
    }
    Ok(())
}

fn check_size(
    rules: &Map<String, Value>,
    value: &Value,
    path: &str,
) -> Result<(), SchemaViolation> {
    let (size, least, most, unit) = match value {
        Value::String(text) => {
            (text.chars().count() as f64, "minLength", "maxLength", " characters")
        }
        Value::Array(array) => (array.len() as f64, "minItems", "maxItems", " items"),
        Value::Number(number) => (number.as_f64().unwrap_or(f64::NAN), "minimum", "maximum", ""),
        _ => return Ok(()),
    };
    let bound = |keyword: &str| rules.get(keyword).and_then(Value::as_f64);
    if let Some(least) = bound(least)
        && size < least
    {
        let problem = format!("{size}{unit} is less than the least allowed, {least}");
        return Err(SchemaViolation::new(path, problem));
    }
    if let Some(most) = bound(most)
        && size > most
    {
        let problem = format!("{size}{unit} is more than the most allowed, {most}");
        return Err(SchemaViolation::new(path, problem));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn planner() -> Value {
        json!({
            "type": "object",
            "properties": {
                "thought": {"type": "string"},
                "action": {"type": "string", "enum": ["think", "code", "answer"]},
                "action_input": {"type": "string"}
            },
            "required": ["thought", "action", "action_input"]
        })
    }

    fn complaint(schema: &Value, text: &str) -> String {
        validate(schema, text).expect_err("the text should violate the schema").to_string()
    }

    #[test]
    fn a_conforming_reply_is_returned() {
        let text = r#"{"thought": "t", "action": "code", "action_input": "1"}"#;
        assert_eq!(validate(&planner(), text).unwrap()["action"], "code");
    }

    #[test]
    fn complaints_name_place_and_problem() {
        let schema = planner();
        assert_eq!(complaint(&schema, ""), "it is empty");
        assert_eq!(complaint(&schema, r#"{"thought": "We ne"#), "it is JSON that was cut off");
        assert!(complaint(&schema, "Sure! Here is").starts_with("it is not JSON ("));
        assert_eq!(complaint(&schema, "[]"), "it is an array, not of type `object`");
        assert_eq!(
            complaint(&schema, r#"{"thought": "", "action": "code"}"#),
            "the key `action_input` is missing"
        );
        assert_eq!(
            complaint(&schema, r#"{"thought": "", "action": "calc", "action_input": ""}"#),
            r#"at `action`, `"calc"` is not one of "think", "code", "answer""#
        );
        assert_eq!(
            complaint(&schema, r#"{"thought": 3, "action": "code", "action_input": ""}"#),
            "at `thought`, it is a number, not of type `string`"
        );
    }

    #[test]
    fn nested_places_are_spelled_out() {
        let schema = json!({"type": "object", "properties": {"steps": {"type": "array", "items": {
            "type": "object", "properties": {"n": {"type": "integer"}}, "additionalProperties": false
        }}}});
        assert!(validate(&schema, r#"{"steps": [{"n": 1}, {"n": 2.0}]}"#).is_ok());
        assert_eq!(
            complaint(&schema, r#"{"steps": [{"n": 1}, {"n": 2.5}]}"#),
            "at `steps[1].n`, it is a number, not of type `integer`"
        );
        assert_eq!(
            complaint(&schema, r#"{"steps": [{"m": 1}]}"#),
            "at `steps[0]`, the key `m` is not in the schema"
        );
    }

    #[test]
    fn combinations_and_references_hold() {
        let schema = json!({
            "$defs": {"word": {"type": "string", "minLength": 1}},
            "type": "object",
            "allOf": [
                {"properties": {"a": {"$ref": "#/$defs/word"}}, "required": ["a"]},
                {"properties": {"b": {"anyOf": [{"type": "null"}, {"type": "number", "maximum": 5}]}}}
            ]
        });
        assert!(validate(&schema, r#"{"a": "x", "b": null}"#).is_ok());
        assert!(validate(&schema, r#"{"a": "x", "b": 5}"#).is_ok());
        assert_eq!(
            complaint(&schema, r#"{"a": ""}"#),
            "at `a`, 0 characters is less than the least allowed, 1"
        );
        assert!(
            complaint(&schema, r#"{"a": "x", "b": 6}"#).starts_with("at `b`, it fits none of 2")
        );
        assert_eq!(complaint(&schema, r#"{"b": 1}"#), "the key `a` is missing");
    }

    #[test]
    fn a_schema_that_refers_to_itself_ends() {
        let schema = json!({"$ref": "#"});
        assert_eq!(complaint(&schema, "1"), "it or its schema is nested too deeply");
        let dangling = json!({"$ref": "#/$defs/x"});
        assert!(complaint(&dangling, "1").contains("`#/$defs/x`, which is not in it"));
    }

    proptest! {
        /// Every true prefix of a reply is refused: a reply cut by the token limit never passes.
        #[test]
        fn no_prefix_of_a_reply_passes(thought in ".*", cut in 0.0..1.0f64) {
            let text = json!({"thought": thought, "action": "code", "action_input": "1"}).to_string();
            let count = text.chars().count();
            let prefix: String = text.chars().take((count as f64 * cut) as usize).collect();
            prop_assert!(validate(&planner(), &prefix).is_err());
            prop_assert!(validate(&planner(), &text).is_ok());
        }
    }
}
