//! What the keys of a setting are, as JSON Schema for forms and programs: made of the entry's own type, its documentation and its defaults, so that
//! a key which is added there stands here too.

use control::ports::settings::SettingKind;
use serde_json::{Map, Value, json};
use utoipa::PartialSchema;

/// The schema of an entry's type. Its name has to be given, secrets are passwords, and a key that has a type of its own says what that is.
pub(super) fn keys<T: PartialSchema>(kind: SettingKind) -> Map<String, Value> {
    let Ok(Value::Object(mut schema)) = serde_json::to_value(T::schema()) else { return Map::new() };
    let mut required: Vec<Value> = schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    if let Some(keys) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        for (name, of) in &mut *keys {
            merge(of);
            if kind.secrets().contains(&name.as_str()) {
                hide(of);
            }
        }
        if let Some(name) = keys.get_mut(kind.key()).and_then(Value::as_object_mut) {
            name.remove("default");
            required.extend((!required.contains(&kind.key().into())).then(|| kind.key().into()));
        }
    }
    schema.insert("required".to_owned(), required.into());
    schema
}

/// One that has the keys of another too.
pub(super) fn joined(mut one: Map<String, Value>, other: Map<String, Value>) -> Map<String, Value> {
    let keys = |schema: &Map<String, Value>| schema.get("properties").and_then(Value::as_object).cloned();
    let all: Map<String, Value> = [keys(&one), keys(&other)].into_iter().flatten().flatten().collect();
    one.insert("properties".to_owned(), all.into());
    one
}

/// A type that stands in its key comes as one part, what is said of the key as another: together they are one.
fn merge(of: &mut Value) {
    let Some(Value::Array(parts)) = of.as_object_mut().and_then(|of| of.remove("allOf")) else { return };
    let mut whole = Map::new();
    for part in parts {
        let Value::Object(part) = part else { continue };
        let is_typed = whole.contains_key("type");
        whole.extend(part.into_iter().filter(|(name, _)| name != "type" || !is_typed));
    }
    *of = whole.into();
}

/// What is written and never shown.
fn hide(of: &mut Value) {
    if let Some(of) = of.as_object_mut() {
        of.remove("default");
    }
    let secret = if of["type"] == "array" { &mut of["items"] } else { of };
    secret["format"] = json!("password");
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::{DeviceConfig, RouteConfig, TrunkConfig};

    /// That every key of an entry stands in its schema, and nothing else.
    fn holds<T: PartialSchema + Default + serde::Serialize>(kind: SettingKind) -> Value {
        let schema = Value::Object(keys::<T>(kind));
        let entry = serde_json::to_value(T::default()).unwrap();
        let (entry, known) = (entry.as_object().unwrap(), schema["properties"].as_object().unwrap());
        assert_eq!(entry.keys().collect::<Vec<_>>(), known.keys().collect::<Vec<_>>());
        for (name, value) in entry {
            let of = &known[name];
            assert!(of["description"].as_str().is_some_and(|text| text.len() > 5), "{name}: {of}");
            assert!(of["type"].is_string(), "{name}: {of}");
            let is_open = name != kind.key() && !kind.secrets().contains(&name.as_str());
            assert_eq!(of.get("default"), is_open.then_some(value), "{name}");
            let variants = of["enum"].as_array();
            assert!(variants.is_none_or(|all| all.contains(value)), "{name}: {of}");
        }
        assert_eq!((&schema["additionalProperties"], &schema["required"]), (&json!(false), &json!([kind.key()])));
        schema
    }

    #[test]
    fn every_key_of_an_entry_stands_in_its_schema_with_its_default() {
        let device = holds::<DeviceConfig>(SettingKind::Device);
        let keys = &device["properties"];
        assert_eq!(
            (&keys["password"]["format"], &keys["ha1"]["items"]["format"]),
            (&json!("password"), &json!("password"))
        );
        let trunk = holds::<TrunkConfig>(SettingKind::Trunk);
        assert_eq!(trunk["properties"]["kind"]["enum"], json!(["static", "register"]));
        assert!(trunk["properties"]["kind"]["description"].as_str().unwrap().contains("the carrier knows us"));
        let route = holds::<RouteConfig>(SettingKind::Route);
        assert_eq!(route["properties"]["ring"]["enum"], json!(["in_turn", "at_once", "longest_idle"]));
    }
}
