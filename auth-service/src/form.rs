//! Forms and queries as OAuth wants them read: no parameter twice (RFC 6749 §3.1, §3.2), empty values as if absent.

use std::collections::HashMap;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    #[error("parameter {0:?} is given twice")]
    Duplicate(String),
    #[error("{0}")]
    Fields(String),
}

/// Parameters by name. `resource` and `audience` may repeat (RFC 8707 §2, RFC 8693 §2.1) and are kept space separated: neither has spaces.
#[derive(Clone, Default)]
pub struct Parameters(HashMap<String, String>);

impl Parameters {
    pub fn parse(encoded: &[u8]) -> Result<Self, FormError> {
        let mut parameters: HashMap<String, String> = HashMap::new();
        for (name, value) in url::form_urlencoded::parse(encoded) {
            if value.is_empty() {
                continue;
            }
            match parameters.entry(name.into_owned()) {
                std::collections::hash_map::Entry::Vacant(place) => {
                    place.insert(value.into_owned());
                }
                std::collections::hash_map::Entry::Occupied(mut held)
                    if matches!(held.key().as_str(), "resource" | "audience") =>
                {
                    let list = held.get_mut();
                    list.push(' ');
                    list.push_str(&value);
                }
                std::collections::hash_map::Entry::Occupied(held) => {
                    return Err(FormError::Duplicate(held.key().clone()));
                }
            }
        }
        Ok(Self(parameters))
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub fn owned(&self, name: &str) -> Option<String> {
        self.0.get(name).cloned()
    }

    /// With one parameter as it is known from elsewhere.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.0.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The values of a parameter that may repeat.
    pub fn list(&self, name: &str) -> Vec<String> {
        self.get(name).map(|list| list.split(' ').map(str::to_owned).collect()).unwrap_or_default()
    }
}

/// Into a struct of strings and numbers.
pub fn parse<T: DeserializeOwned>(encoded: &[u8]) -> Result<T, FormError> {
    let parameters = Parameters::parse(encoded)?;
    let as_text: Map<String, Value> =
        parameters.0.iter().map(|(name, value)| (name.clone(), Value::from(value.clone()))).collect();
    serde_json::from_value(Value::Object(as_text.clone())).or_else(|_| {
        // Numbers come as text; only canonical digits are taken for one.
        let mut with_numbers = as_text;
        for name in ["idle_for", "max_age", "version"] {
            if let Some(value) = with_numbers.get_mut(name)
                && let Some(number) = value.as_str().and_then(|text| text.parse::<u64>().ok())
            {
                *value = Value::from(number);
            }
        }
        serde_json::from_value(Value::Object(with_numbers)).map_err(|error| FormError::Fields(error.to_string()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_given_twice_is_refused_and_an_empty_one_is_absent() {
        assert_eq!(Parameters::parse(b"client_id=a&client_id=b").err(), Some(FormError::Duplicate("client_id".into())));
        let parameters = Parameters::parse(b"state=&scope=a+b&resource=https%3A%2F%2Fx&resource=y").unwrap();
        assert_eq!(parameters.get("state"), None);
        assert_eq!(parameters.get("scope"), Some("a b"));
        assert_eq!(parameters.list("resource"), ["https://x", "y"]);
    }

    #[test]
    fn a_form_reads_like_the_struct_that_it_is_for() {
        let form: cloakroom_protocol::internal_api::IntrospectForm = parse(b"token=t&policy=a%2Fb&idle_for=5").unwrap();
        assert_eq!((form.token.as_str(), form.policy.as_str(), form.idle_for), ("t", "a/b", Some(5)));
        assert!(parse::<cloakroom_protocol::internal_api::IntrospectForm>(b"token=t&policy=a&idle_for=x").is_err());
    }
}
