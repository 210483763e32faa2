//! JSON objects in which no name stands twice: of two, one reader takes the first and another the last (RFC 8725 §2.4).

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::{Map, Value};

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Object(Map<String, Value>);

impl Object {
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_str()
    }

    /// By name, or by JSON pointer (RFC 6901) where it begins as one.
    pub(super) fn find(&self, place: &str) -> Option<&Value> {
        let Some(pointer) = place.strip_prefix('/') else { return self.get(place) };
        let (first, rest) = pointer.split_at(pointer.find('/').unwrap_or(pointer.len()));
        let first = first.replace("~1", "/").replace("~0", "~");
        self.get(&first)?.pointer(rest).filter(|value| !value.is_null())
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Object, A::Error> {
                let mut map = Map::new();
                while let Some((name, value)) = members.next_entry::<String, Value>()? {
                    if map.insert(name, value).is_some() {
                        return Err(A::Error::custom("a name stands twice"));
                    }
                }
                Ok(Object(map))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_stands_twice_is_no_object() {
        assert!(serde_json::from_str::<Object>(r#"{"sub":"a","sub":"b"}"#).is_err());
        assert!(serde_json::from_str::<Object>(r#"{"sub":"a","s\u0075b":"b"}"#).is_err());
        assert!(serde_json::from_str::<Object>("[]").is_err());
        let object: Object = serde_json::from_str(r#"{"a/b":{"c":["d"]},"n":null}"#).unwrap();
        assert_eq!(object.find("/a~1b/c/0"), Some(&Value::from("d")));
        assert_eq!(object.find("/a~1b/x"), None);
        assert_eq!((object.get("n"), object.find("/n"), object.find("/")), (None, None, None));
    }
}
