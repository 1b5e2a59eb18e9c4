//! Holds a value against a JSON schema (draft 7), as far as the schema of OSCAL uses it.

use std::collections::BTreeMap;

use regex_lite::Regex;
use serde_json::Value;

/// A schema.
pub(super) struct Schema {
    root: Value,
    /// What `$id` within it names.
    named: BTreeMap<String, Value>,
}

impl Schema {
    pub fn new(root: Value) -> Self {
        let mut named = BTreeMap::new();
        for (name, definition) in root["definitions"].as_object().unwrap() {
            if let Some(id) = definition["$id"].as_str() {
                named.insert(id.to_owned(), definition.clone());
            }
            named.insert(format!("#/definitions/{name}"), definition.clone());
        }
        Self { root, named }
    }

    /// All that is wrong with a value.
    pub fn check(&self, value: &Value) -> Vec<String> {
        let mut wrong = Vec::new();
        self.at(&self.root, value, "", &mut wrong);
        wrong
    }

    fn holds(&self, schema: &Value, value: &Value) -> bool {
        let mut wrong = Vec::new();
        self.at(schema, value, "", &mut wrong);
        wrong.is_empty()
    }

    fn at(&self, schema: &Value, value: &Value, path: &str, wrong: &mut Vec<String>) {
        for (word, rule) in schema.as_object().unwrap() {
            let mut no = |why: String| wrong.push(format!("{path}: {why}"));
            match word.as_str() {
                "$ref" => {
                    let target = &self.named[rule.as_str().unwrap()];
                    self.at(target, value, path, wrong);
                }
                "type" => {
                    let is = match rule.as_str().unwrap() {
                        "object" => value.is_object(),
                        "array" => value.is_array(),
                        "string" => value.is_string(),
                        "boolean" => value.is_boolean(),
                        "integer" => value.is_i64() || value.is_u64(),
                        "number" => value.is_number(),
                        other => panic!("type {other}"),
                    };
                    if !is {
                        no(format!("is not of type {rule}"));
                    }
                }
                "required" => {
                    for name in rule.as_array().unwrap() {
                        if value.get(name.as_str().unwrap()).is_none() {
                            no(format!("lacks {name}"));
                        }
                    }
                }
                "properties" => {
                    for (name, value) in value.as_object().into_iter().flatten() {
                        if let Some(schema) = rule.get(name) {
                            self.at(schema, value, &format!("{path}/{name}"), wrong);
                        }
                    }
                }
                "additionalProperties" => {
                    assert_eq!(rule, &Value::Bool(false));
                    for name in value.as_object().into_iter().flat_map(|map| map.keys()) {
                        if schema["properties"].get(name).is_none() {
                            no(format!("may not have {name}"));
                        }
                    }
                }
                "items" => {
                    for (n, value) in value.as_array().into_iter().flatten().enumerate() {
                        self.at(rule, value, &format!("{path}/{n}"), wrong);
                    }
                }
                "minItems" => {
                    let least = rule.as_u64().unwrap() as usize;
                    if value.as_array().is_some_and(|list| list.len() < least) {
                        no("has too few".into());
                    }
                }
                "enum" => {
                    if !rule.as_array().unwrap().contains(value) {
                        no(format!("{value} is none of {rule}"));
                    }
                }
                "pattern" => {
                    // Only ASCII is written where letters of all scripts are allowed.
                    let pattern = rule.as_str().unwrap();
                    let pattern = pattern.replace(r"\p{L}", "[A-Za-z]").replace(r"\p{N}", "[0-9]");
                    let text = value.as_str().unwrap_or_default();
                    if !Regex::new(&pattern).unwrap().is_match(text) {
                        no(format!("{text:?} is not as {pattern} wants it"));
                    }
                }
                "allOf" => {
                    for schema in rule.as_array().unwrap() {
                        self.at(schema, value, path, wrong);
                    }
                }
                "anyOf" | "oneOf" => {
                    let holds = rule.as_array().unwrap().iter();
                    let count = holds.filter(|schema| self.holds(schema, value)).count();
                    if count == 0 || word == "oneOf" && count > 1 {
                        no(format!("{count} of {word} hold"));
                    }
                }
                "format" | "$id" | "$schema" | "$comment" | "title" | "description" | "definitions"
                | "maxProperties" => {}
                other => panic!("the schema uses {other}, which is not known here"),
            }
        }
    }
}
