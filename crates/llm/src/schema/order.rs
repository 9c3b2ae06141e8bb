//! Keys of a reply in the order of the schema.
//!
//! The order is part of what a planner was trained on: the thought comes before the action. Ollama re-encodes the
//! schemas of some models, our exported ones among them, through a sorted map, so that the grammar asks for
//! `action, action_input, thought`. Arrays keep their order: an `allOf` with one property each survives.

use serde_json::{Map, Value, json};

/// The same schema with every object's `properties` spread over an `allOf`, one property a part.
///
/// `allOf` makes all of them required, so an object with optional properties stays as it is. Beside the `allOf`
/// only `type` and `$defs` stand: next to `properties` or `additionalProperties` Ollama ignores it.
pub fn in_order(schema: &Value) -> Value {
    match schema {
        Value::Array(schemas) => schemas.iter().map(in_order).collect(),
        Value::Object(rules) => ordered_object(rules),
        other => other.clone(),
    }
}

fn ordered_object(rules: &Map<String, Value>) -> Value {
    let mut ordered: Map<String, Value> = rules
        .iter()
        .map(|(keyword, rule)| (keyword.clone(), ordered_rule(keyword, rule)))
        .collect();
    let Some(Value::Object(properties)) = ordered.get("properties").cloned() else {
        return ordered.into();
    };
    let is_spreadable = ["allOf", "anyOf", "oneOf", "$ref"].iter().all(|k| !rules.contains_key(*k))
        && !matches!(rules.get("additionalProperties"), Some(Value::Object(_) | Value::Bool(true)));
    if properties.is_empty() || !is_spreadable || !all_required(rules, &properties) {
        return ordered.into();
    }
    let parts: Vec<Value> = properties
        .iter()
        .map(|(key, schema)| json!({"properties": {key: schema}, "required": [key]}))
        .collect();
    for keyword in ["properties", "required", "additionalProperties"] {
        ordered.shift_remove(keyword);
    }
    ordered.entry("type").or_insert_with(|| json!("object"));
    ordered.insert("allOf".to_owned(), parts.into());
    ordered.into()
}

/// Schemas inside a keyword are ordered too; a keyword that holds values is left alone.
fn ordered_rule(keyword: &str, rule: &Value) -> Value {
    match (keyword, rule) {
        ("properties" | "$defs" | "definitions", Value::Object(schemas)) => {
            schemas.iter().map(|(key, schema)| (key.clone(), in_order(schema))).collect()
        }
        ("items" | "prefixItems" | "additionalProperties" | "anyOf" | "oneOf" | "allOf", _) => {
            in_order(rule)
        }
        _ => rule.clone(),
    }
}

fn all_required(rules: &Map<String, Value>, properties: &Map<String, Value>) -> bool {
    let required = rules.get("required").and_then(Value::as_array);
    properties.keys().all(|key| {
        required.is_some_and(|required| required.iter().any(|name| name.as_str() == Some(key)))
    })
}

/// Compares the order of the keys in `reply` with the schema's, at every depth the schema describes.
///
/// # Errors
/// A sentence part that shows both orders, `... but the schema says ...`.
pub fn check_key_order(schema: &Value, reply: &Value) -> Result<(), String> {
    match reply {
        Value::Array(items) => match schema.get("items") {
            Some(schema) => items.iter().try_for_each(|item| check_key_order(schema, item)),
            None => Ok(()),
        },
        Value::Object(object) => {
            let properties = properties_of(schema);
            let places: Vec<usize> = object
                .keys()
                .filter_map(|key| properties.iter().position(|(name, _)| *name == key))
                .collect();
            if !places.is_sorted() {
                let wrote: Vec<&str> = object.keys().map(String::as_str).collect();
                let asked: Vec<&str> = properties.iter().map(|(name, _)| *name).collect();
                return Err(format!(
                    "the reply has its keys in the order `{}`, but the schema says `{}`",
                    wrote.join(", "),
                    asked.join(", ")
                ));
            }
            properties
                .iter()
                .filter_map(|(name, schema)| Some((schema, object.get(*name)?)))
                .try_for_each(|(schema, item)| check_key_order(schema, item))
        }
        _ => Ok(()),
    }
}

/// Properties in order, whether they stand in `properties` or spread over an `allOf`.
fn properties_of(schema: &Value) -> Vec<(&str, &Value)> {
    let direct = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    let spread = schema.get("allOf").and_then(Value::as_array).into_iter().flatten();
    direct
        .map(|(name, schema)| (name.as_str(), schema))
        .chain(spread.flat_map(|part| properties_of(part)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planner() -> Value {
        json!({
            "type": "object",
            "properties": {"thought": {"type": "string"}, "action": {"enum": ["code"]}},
            "required": ["thought", "action"],
            "additionalProperties": false
        })
    }

    #[test]
    fn properties_become_an_all_of_in_the_same_order() {
        assert_eq!(
            in_order(&planner()).to_string(),
            r#"{"type":"object","allOf":[{"properties":{"thought":{"type":"string"}},"required":["thought"]},{"properties":{"action":{"enum":["code"]}},"required":["action"]}]}"#
        );
    }

    #[test]
    fn nested_objects_are_ordered_too() {
        let nested = json!({"type": "array", "items": {"anyOf": [planner(), {"type": "null"}]}});
        assert_eq!(in_order(&nested)["items"]["anyOf"][0], in_order(&planner()));
    }

    #[test]
    fn a_property_named_like_a_keyword_is_a_property() {
        let schema =
            json!({"type": "object", "properties": {"items": planner()}, "required": ["items"]});
        assert_eq!(in_order(&schema)["allOf"][0]["properties"]["items"], in_order(&planner()));
    }

    #[test]
    fn an_object_with_an_optional_property_stays_as_it_is() {
        let mut schema = planner();
        schema["required"] = json!(["thought"]);
        assert_eq!(in_order(&schema), schema);
    }

    #[test]
    fn both_forms_accept_the_same_replies() {
        let texts =
            [r#"{"thought":"","action":"code"}"#, r#"{"thought":""}"#, r#"{"action":1}"#, "[]"];
        for text in texts {
            assert_eq!(
                crate::schema::validate(&planner(), text).is_ok(),
                crate::schema::validate(&in_order(&planner()), text).is_ok(),
                "{text}"
            );
        }
    }

    #[test]
    fn keys_out_of_order_are_shown() {
        let sorted: Value = serde_json::from_str(r#"{"action":"code","thought":""}"#).unwrap();
        for schema in [planner(), in_order(&planner())] {
            assert_eq!(
                check_key_order(&schema, &sorted).unwrap_err(),
                "the reply has its keys in the order `action, thought`, but the schema says `thought, action`"
            );
            let ours: Value = serde_json::from_str(r#"{"thought":"","action":"code"}"#).unwrap();
            assert_eq!(check_key_order(&schema, &ours), Ok(()));
        }
    }
}
