//! Who a token stands for, as cached. An identity is cached, a decision never.

use std::sync::Arc;

use bytes::Bytes;
use cloakroom_protocol::introspection::ActiveToken;
use cloakroom_protocol::presented::Kind;
use cloakroom_protocol::token::TokenId;
use http::{HeaderName, HeaderValue};
use serde_json::{Map, Value};

use crate::config::JwtHeader;
pub use crate::open_streams::Life;

/// One introspection's answer, ready for use on the hot path.
pub struct Identity {
    pub kind: Kind,
    /// Of the session, grant or API key behind the token; may be logged.
    pub id: TokenId,
    pub sub: String,
    pub client_id: String,
    pub username: Option<String>,
    /// Space separated.
    pub scope: String,
    pub roles: Vec<String>,
    pub acr: Option<String>,
    /// Unix seconds.
    pub auth_time: Option<u64>,
    /// When the token ends if nobody revokes it, Unix seconds.
    pub expires: u64,
    pub session: Map<String, Value>,
    pub session_version: u64,
    /// The configured header's whole value, `Bearer <jwt>` or the bare JWT; kept once and shared by every request.
    pub jwt_header: Bytes,
    /// Where in it the JWT begins.
    jwt_at: usize,
    /// `claimHeaders`, rendered.
    pub claim_headers: Vec<(HeaderName, HeaderValue)>,
    pub life: Arc<Life>,
}

/// The JWT is not one that a header can carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the JWT is not in compact serialization")]
pub struct InvalidJwt;

impl Identity {
    pub fn new(active: ActiveToken, header: &JwtHeader, life: Arc<Life>) -> Result<Self, InvalidJwt> {
        if active.jwt.is_empty() || !is_compact(active.jwt.as_bytes()) {
            return Err(InvalidJwt);
        }
        // One allocation of exactly this size: what the cache keeps must not pin a larger read buffer.
        let jwt_header = Bytes::from([header.prefix(), &active.jwt].concat());
        let claims = header.claim_headers.iter();
        Ok(Self {
            claim_headers: claims
                .filter_map(|(name, claim)| Some((name.clone(), header_value(&claim_of(&active, claim)?)?)))
                .collect(),
            jwt_at: header.prefix().len(),
            jwt_header,
            kind: active.kind,
            id: active.id,
            sub: active.sub,
            client_id: active.client_id,
            username: active.username,
            scope: active.scope,
            roles: active.roles,
            acr: active.acr,
            auth_time: active.auth_time,
            expires: active.exp,
            session: active.session,
            session_version: active.session_version,
            life,
        })
    }

    /// Compact serialization.
    pub fn jwt(&self) -> &[u8] {
        &self.jwt_header[self.jwt_at..]
    }

    pub fn has_scope(&self, wanted: &str) -> bool {
        self.scope.split(' ').any(|scope| !scope.is_empty() && scope == wanted)
    }
}

/// Looks at every byte, without a branch for each: so the compiler takes many at a time.
fn is_compact(jwt: &[u8]) -> bool {
    let compact = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    jwt.iter().fold(true, |all, b| all & compact(*b))
}

/// What the JWT says under that name, without a look into the JWT.
fn claim_of(active: &ActiveToken, claim: &str) -> Option<Value> {
    let list = |values: &[String]| (!values.is_empty()).then(|| Value::from(values.to_vec()));
    match claim {
        "sub" => Some(active.sub.clone().into()),
        "client_id" => Some(active.client_id.clone().into()),
        "scope" => (!active.scope.is_empty()).then(|| active.scope.clone().into()),
        "acr" => active.acr.clone().map(Value::from),
        "amr" => list(&active.amr),
        "auth_time" => active.auth_time.map(Value::from),
        "sid" => active.sid.map(|sid| sid.to_string().into()),
        "roles" => list(&active.roles),
        "groups" => list(&active.groups),
        "preferred_username" => active.username.clone().map(Value::from),
        other => active.claims.get(other).cloned(),
    }
}

/// Lists become `a,b`; one with a comma inside an item stays JSON, so that no item can pass for two. What no header can carry is left out.
fn header_value(claim: &Value) -> Option<HeaderValue> {
    let text = match claim {
        Value::Null => return None,
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let plain: Option<Vec<&str>> =
                items.iter().map(|item| item.as_str().filter(|text| !text.contains(','))).collect();
            plain.map_or_else(|| claim.to_string(), |items| items.join(","))
        }
        other => other.to_string(),
    };
    HeaderValue::from_bytes(text.as_bytes()).ok()
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("kind", &self.kind).field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
pub mod tests {
    use cloakroom_protocol::presented::Presented;
    use cloakroom_protocol::token::{OpaqueToken, TokenKind};
    use serde_json::json;

    use super::*;

    /// What the auth service says about `token` of `sub`.
    pub fn active(token: &Presented, sub: &str) -> ActiveToken {
        serde_json::from_value(json!({
            "active": true, "kind": token.kind(), "id": token.id(), "sub": sub, "client_id": "shop/web", "scope": "a b",
            "exp": 4_000_000_000_u64, "iat": 1, "roles": ["r"], "groups": ["g", "h"], "username": "ann",
            "claims": {"email": "ann@example.com", "odd": ["a,admin", "b"], "evil": "x\r\ny: z", "name": "Zoë"},
            "session_version": 3, "session": {"cart": 1}, "jwt": "eyJ.eyJ.sig", "jwt_exp": 4_000_000_000_u64,
        }))
        .unwrap()
    }

    /// Somebody, with a JWT in `Authorization`.
    pub fn identity() -> Identity {
        Identity::new(active(&token(), "u"), &header("authorization", &[]), Arc::default()).unwrap()
    }

    fn header(name: &'static str, claims: &[(&'static str, &str)]) -> JwtHeader {
        let claim_headers = claims.iter().map(|(h, c)| (HeaderName::from_static(h), (*c).to_owned())).collect();
        JwtHeader { name: HeaderName::from_static(name), audience: "a".into(), claim_headers }
    }

    fn token() -> Presented {
        use rand::SeedableRng as _;
        OpaqueToken::generate(TokenKind::Session, &mut rand::rngs::StdRng::seed_from_u64(1)).into()
    }

    #[test]
    fn the_jwt_is_kept_once() {
        let identity = Identity::new(active(&token(), "u"), &header("authorization", &[]), Arc::default()).unwrap();
        assert_eq!(identity.jwt_header, "Bearer eyJ.eyJ.sig");
        assert_eq!(identity.jwt(), b"eyJ.eyJ.sig");
        let bare = Identity::new(active(&token(), "u"), &header("x-jwt", &[]), Arc::default()).unwrap();
        assert_eq!(bare.jwt_header, "eyJ.eyJ.sig");
        assert_eq!(bare.jwt(), b"eyJ.eyJ.sig");
    }

    #[test]
    fn a_scope_is_had_in_whole_or_not_at_all() {
        let identity = identity();
        assert!(identity.has_scope("a") && identity.has_scope("b"));
        for scope in ["", " ", "a b", "c", "A"] {
            assert!(!identity.has_scope(scope), "{scope:?}");
        }
    }

    #[test]
    fn claims_become_headers_and_none_can_pass_for_another() {
        let names = [
            ("x-email", "email"),
            ("x-groups", "groups"),
            ("x-odd", "odd"),
            ("x-evil", "evil"),
            ("x-none", "none"),
            ("x-sub", "sub"),
            ("x-name", "name"),
        ];
        let identity =
            Identity::new(active(&token(), "u-1"), &header("authorization", &names), Arc::default()).unwrap();
        let value = |name: &str| {
            identity
                .claim_headers
                .iter()
                .find(|(n, _)| n == name)
                .map(|(_, v)| String::from_utf8_lossy(v.as_bytes()).into_owned())
        };
        assert_eq!(value("x-email").as_deref(), Some("ann@example.com"));
        assert_eq!(value("x-groups").as_deref(), Some("g,h"));
        assert_eq!(value("x-odd").as_deref(), Some(r#"["a,admin","b"]"#));
        assert_eq!(value("x-evil"), None);
        assert_eq!(value("x-none"), None);
        assert_eq!(value("x-sub").as_deref(), Some("u-1"));
        assert_eq!(value("x-name").as_deref(), Some("Zoë"));
    }

    #[test]
    fn a_jwt_that_could_break_a_header_is_refused() {
        for byte in 0..=u8::MAX {
            let known = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
            assert_eq!(is_compact(&[b'a', byte]), known, "{byte}");
        }
        for jwt in ["", "a b", "a\r\nX: y", "a,b"] {
            let mut active = active(&token(), "u");
            active.jwt = jwt.into();
            assert!(Identity::new(active, &header("authorization", &[]), Arc::default()).is_err(), "{jwt:?}");
        }
    }
}
