//! Token in, JWT and facts out: RFC 7662 with the JWT in the same answer.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::presented::Kind;
use crate::token::TokenId;

/// Answer of `POST /internal/v1/introspect`, and a line of that of `POST /internal/v1/introspect/many`, which has one for each token, in
/// their order; `null` is the line of a token of which nothing could be found out. Inactive answers carry nothing else (RFC 7662 §2.2).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Introspection {
    Active(Box<ActiveToken>),
    Inactive(Inactive),
}

/// `{"active": false}` and no word more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inactive {
    pub active: False,
}

/// What an active token stands for, at one policy.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct ActiveToken {
    pub active: True,
    pub kind: Kind,
    /// Id of the token's record: a session's `sid`, a grant's or an API key's id. Of another issuer's token, which has no record here, one
    /// made of its digest.
    pub id: TokenId,
    pub sub: String,
    pub client_id: String,
    /// Space separated (RFC 6749 §3.3).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub scope: String,
    /// When the opaque token ends if nobody revokes it, Unix seconds.
    pub exp: u64,
    pub iat: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_time: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acr: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub amr: Vec<String>,
    /// The session behind the token, if a person signed in for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<TokenId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// The claims that the policy asked for (`jwt.claims`), as the JWT carries them.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub claims: Map<String, Value>,
    /// Version of the session's data, for compare-and-set.
    #[serde(default)]
    pub session_version: u64,
    /// The session's own data, as the JWT's `session` carries it.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub session: Map<String, Value>,
    /// RFC 9068 access token for the app, compact serialization.
    pub jwt: String,
    /// Unix seconds.
    pub jwt_exp: u64,
    /// Milliseconds from the question within which it must be asked again, lease or not: another issuer tells of no revocation, so its
    /// word is believed for as long as the auth service's configuration says. Absent: as long as JWT and lease allow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub believe_ms: Option<u64>,
    /// Of one token among several: whether the event stream that the question named tells of changes to it. Of a single one the answer's
    /// header says that.
    #[serde(default, skip_serializing_if = "is_false")]
    pub covered: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_false(value: &bool) -> bool {
    !value
}

impl std::fmt::Debug for ActiveToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ActiveToken")
            .field("kind", &self.kind)
            .field("id", &self.id)
            .field("sub", &self.sub)
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

/// Only `true` deserializes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "bool", into = "bool")]
pub struct True;

/// Only `false` deserializes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "bool", into = "bool")]
pub struct False;

impl Introspection {
    pub const INACTIVE: Self = Self::Inactive(Inactive { active: False });

    /// As deserializing does, but without keeping the whole in memory first to see which of the two it is.
    pub fn parse(json: &[u8]) -> serde_json::Result<Self> {
        Self::parse_line(json)?.ok_or_else(|| serde::de::Error::custom("null is no answer"))
    }

    /// `None`: nothing could be found out.
    pub fn parse_line(json: &[u8]) -> serde_json::Result<Option<Self>> {
        // As it is usually written; anything that says the same is found out below.
        if json == br#"{"active":false}"# {
            return Ok(Some(Self::INACTIVE));
        }
        // An answer that is neither is most likely a broken active one.
        serde_json::from_slice(json).map(|active: Option<_>| active.map(Self::Active)).or_else(|broken| {
            serde_json::from_slice(json).map(|inactive| Some(Self::Inactive(inactive))).map_err(|_| broken)
        })
    }
}

impl From<True> for bool {
    fn from(_: True) -> Self {
        true
    }
}

impl From<False> for bool {
    fn from(_: False) -> Self {
        false
    }
}

impl TryFrom<bool> for True {
    type Error = &'static str;

    fn try_from(value: bool) -> Result<Self, Self::Error> {
        value.then_some(Self).ok_or("expected true")
    }
}

impl TryFrom<bool> for False {
    type Error = &'static str;

    fn try_from(value: bool) -> Result<Self, Self::Error> {
        (!value).then_some(Self).ok_or("expected false")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_neither_whole_nor_inactive_is_an_error() {
        assert_eq!(serde_json::from_str::<Introspection>(r#"{"active":false}"#).unwrap(), Introspection::INACTIVE);
        assert_eq!(serde_json::to_string(&Introspection::INACTIVE).unwrap(), r#"{"active":false}"#);
        for broken in ["{}", r#"{"active":true}"#, r#"{"active":"false"}"#, r#"{"active":false,"sub":"x"}"#, "null"] {
            assert!(serde_json::from_str::<Introspection>(broken).is_err(), "{broken}");
            assert!(Introspection::parse(broken.as_bytes()).is_err(), "{broken}");
        }
        for inactive in [r#"{"active":false}"#, "{ \"active\": false }\n"] {
            assert_eq!(Introspection::parse(inactive.as_bytes()).unwrap(), Introspection::INACTIVE);
        }
        assert_eq!(Introspection::parse_line(b"null").unwrap(), None);
    }

    #[test]
    fn an_active_answer_is_read_as_it_was_written() {
        let id: TokenId = "0123456789ABCDEFGHIJKL".parse().unwrap();
        let told = serde_json::json!({
            "active": true, "kind": "session", "id": id, "sub": "u", "client_id": "c", "exp": 2, "iat": 1, "session_version": 3,
            "claims": {"email": "a@b"}, "jwt": "a.b.c", "jwt_exp": 2, "covered": true,
        });
        let Introspection::Active(active) = Introspection::parse(told.to_string().as_bytes()).unwrap() else {
            panic!("not active")
        };
        assert!(active.covered && active.id == id && active.claims["email"] == "a@b");
        assert_eq!(serde_json::to_value(Introspection::Active(active)).unwrap(), told);
        let Introspection::Active(active) = serde_json::from_value(without(told, "covered")).unwrap() else {
            panic!("not active")
        };
        assert!(!active.covered);
        let written = serde_json::to_value(active).unwrap();
        for name in ["active", "kind", "id", "sub", "client_id", "exp", "iat", "jwt", "jwt_exp"] {
            let broken = without(written.clone(), name).to_string();
            assert!(Introspection::parse(broken.as_bytes()).is_err(), "without {name}");
        }
    }

    fn without(mut told: Value, name: &str) -> Value {
        told.as_object_mut().unwrap().remove(name);
        told
    }
}
