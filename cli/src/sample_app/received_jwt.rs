//! The JWT that came with a request. An app that decides by it verifies it first (`CLOAKROOM_JWKS_URL`); this one only shows it.

use axum::http::HeaderMap;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

/// In `Authorization`, or in whichever header the policy's `jwt.header` names.
pub(super) fn find(headers: &HeaderMap) -> Option<&str> {
    headers.values().filter_map(|value| value.to_str().ok()).find_map(|value| {
        let jwt = value.strip_prefix("Bearer ").unwrap_or(value);
        is_access_token(jwt).then_some(jwt)
    })
}

pub(super) fn claims(jwt: &str) -> Option<Map<String, Value>> {
    object(jwt.split('.').nth(1)?)
}

/// RFC 9068 §2.1: `typ` is `at+jwt`.
fn is_access_token(text: &str) -> bool {
    let mut parts = text.split('.');
    let (Some(header), Some(_), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    object(header).is_some_and(|header| header.get("typ").is_some_and(|typ| typ == "at+jwt"))
}

fn object(part: &str) -> Option<Map<String, Value>> {
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(axum::http::HeaderName::from_static(name), value.parse().unwrap())])
    }

    fn jwt() -> String {
        let encode = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.c2ln", encode(r#"{"typ":"at+jwt","alg":"ES256"}"#), encode(r#"{"sub":"ada"}"#))
    }

    #[test]
    fn the_jwt_is_found_in_any_header_that_a_policy_may_name() {
        let bearer = headers("authorization", &format!("Bearer {}", jwt()));
        assert_eq!(claims(find(&bearer).unwrap()).unwrap()["sub"], "ada");
        assert!(find(&headers("x-jwt", &jwt())).is_some());
    }

    #[test]
    fn anything_else_is_no_jwt() {
        for junk in ["", "Bearer", "Bearer a.b.c", "a.b", "....", "eyJ.eyJ.eyJ", "Basic YTpi"] {
            assert!(find(&headers("authorization", junk)).is_none(), "{junk}");
        }
        assert!(claims("x").is_none());
    }
}
