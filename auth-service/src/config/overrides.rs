//! `CLOAKROOM_AUTH__SECTION__FIELD=value` on top of the file.

use serde_json::{Map, Value};

use super::ConfigError;

const PREFIX: &str = "CLOAKROOM_AUTH__";

/// A value is YAML; where the result would be a number or so and the field is text, quotes are not needed for tokens.
pub(super) fn apply(tree: &mut Value, environment: impl Iterator<Item = (String, String)>) -> Result<(), ConfigError> {
    let mut given: Vec<(String, String)> =
        environment.filter_map(|(name, value)| Some((name.strip_prefix(PREFIX)?.to_owned(), value))).collect();
    // A section before its fields, whatever the environment's order.
    given.sort();
    for (path, text) in given {
        let place = || format!("{PREFIX}{path}");
        let lower = path.to_lowercase();
        let names: Vec<&str> = lower.split("__").collect();
        let value =
            if names.last().is_some_and(|name| matches!(*name, "token" | "username" | "prefix" | "issuer" | "name")) {
                Value::from(text)
            } else {
                serde_norway::from_str(&text)
                    .map_err(|error| ConfigError::Syntax { place: place(), error: error.to_string() })?
            };
        set(tree, &names, value).ok_or_else(|| ConfigError::Syntax {
            place: place(),
            error: "no such place in the configuration".to_owned(),
        })?;
    }
    Ok(())
}

fn set(tree: &mut Value, names: &[&str], value: Value) -> Option<()> {
    let (first, rest) = names.split_first()?;
    if tree.is_null() || tree.is_string() {
        *tree = Value::Object(Map::new());
    }
    let object = tree.as_object_mut()?;
    if rest.is_empty() {
        object.insert((*first).to_owned(), value);
        return Some(());
    }
    set(object.entry(*first).or_insert(Value::Null), rest, value)
}
