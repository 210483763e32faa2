//! The page for people: who is signed in, what the JWT says, and a way out.

use askama::Template;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use serde_json::{Map, Value};

use super::received_jwt;

#[derive(Template)]
#[template(path = "sample_app.html")]
struct Page {
    /// Name and claims of whoever is signed in.
    signed_in: Option<SignedIn>,
}

struct SignedIn {
    name: String,
    claims: Vec<(String, String)>,
}

pub(super) async fn page(headers: HeaderMap) -> Response {
    let claims = received_jwt::find(&headers).and_then(received_jwt::claims);
    match (Page { signed_in: claims.map(SignedIn::new) }).render() {
        Ok(html) => {
            let csp = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'";
            ([(CONTENT_SECURITY_POLICY, csp), (CACHE_CONTROL, "no-store")], Html(html)).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

impl SignedIn {
    fn new(claims: Map<String, Value>) -> Self {
        let name = ["name", "preferred_username", "username", "email", "sub"]
            .iter()
            .find_map(|claim| claims.get(*claim)?.as_str())
            .unwrap_or("somebody without a name")
            .to_owned();
        let claims = claims.into_iter().map(|(name, value)| (name, shown(&value))).collect();
        Self { name, claims }
    }
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn claims_are_text_on_the_page_and_never_markup() {
        let Value::Object(claims) = json!({"name": "<script>alert(1)</script>", "<b>": ["&"]}) else { unreachable!() };
        let html = Page { signed_in: Some(SignedIn::new(claims)) }.render().unwrap();
        assert!(!html.contains("<script") && !html.contains("<b>"), "{html}");
    }

    #[test]
    fn only_somebody_signed_in_can_sign_out() {
        let signed_in = SignedIn::new(Map::new());
        assert!(Page { signed_in: Some(signed_in) }.render().unwrap().contains("/.cloakroom/logout"));
        assert!(!Page { signed_in: None }.render().unwrap().contains("/.cloakroom/logout"));
    }
}
