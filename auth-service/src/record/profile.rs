//! Who a subject is, as apps may see it. Copied into every record of the subject, so that one read answers an introspection.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Claims that the service sets itself; neither a profile nor a policy may name them.
pub const RESERVED_CLAIMS: [&str; 17] = [
    "iss",
    "sub",
    "aud",
    "exp",
    "nbf",
    "iat",
    "jti",
    "client_id",
    "scope",
    "auth_time",
    "acr",
    "amr",
    "sid",
    "act",
    "session",
    "active",
    "cnf",
];

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    #[serde(default)]
    pub email_verified: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// What the person's own sessions may do (rules of a policy can ask for scopes).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// Further claims, by name.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub claims: Map<String, Value>,
}

impl Profile {
    /// The value of a claim that a policy or client asks for, if the profile has it.
    pub fn claim(&self, name: &str) -> Option<Value> {
        let text = |value: &Option<String>| value.clone().map(Value::from);
        match name {
            "preferred_username" | "username" => text(&self.username),
            "name" => text(&self.name),
            "email" => text(&self.email),
            "email_verified" => self.email.as_ref().map(|_| Value::from(self.email_verified)),
            "roles" => (!self.roles.is_empty()).then(|| Value::from(self.roles.clone())),
            "groups" => (!self.groups.is_empty()).then(|| Value::from(self.groups.clone())),
            other if RESERVED_CLAIMS.contains(&other) => None,
            other => self.claims.get(other).cloned(),
        }
    }

    pub fn claims(&self, names: &[String]) -> Map<String, Value> {
        names.iter().filter_map(|name| Some((name.clone(), self.claim(name)?))).collect()
    }
}
