use cloakroom_protocol::internal_api;
use cloakroom_protocol::sign_in::CodeExchange;
use cloakroom_protocol::token::{OpaqueToken, TokenKind};
use http::header::RETRY_AFTER;
use serde_json::json;

use super::*;
use crate::auth_client::fake::respond;
use crate::control::tests::{Fixture, cookies, head, text};
use crate::own_paths;

const FLOW: &str = "__Host-cloakroom-flow-";

/// A fake that pushes and redeems; the token it hands out, and the return address.
fn signs_in(f: &Fixture, return_to: &str) -> OpaqueToken {
    let token = f.session();
    let answer = json!({"session_token": token.expose(), "expires_in": 43200, "return_to": return_to}).to_string();
    f.fake.with(|told| {
        told.script = Some(Box::new(move |path, _| match path {
            internal_api::PAR => {
                Some(respond(StatusCode::CREATED, r#"{"request_uri":"urn:x:1&evil=1","expires_in":60}"#))
            }
            internal_api::TOKEN => Some(respond(StatusCode::OK, &answer)),
            _ => None,
        }));
    });
    token
}

fn sent<T: serde::de::DeserializeOwned>(f: &Fixture, to: &str) -> T {
    let body = f.fake.with(|told| told.bodies.iter().rfind(|(path, _)| path == to).unwrap().1.clone());
    serde_urlencoded::from_str(&body).unwrap()
}

/// Starts a flow and gives its state and the browser's cookie.
async fn begin(f: &Fixture, path: &str) -> (String, String) {
    let response = start(&f.control, &head("GET", path, &[]), StepUp::default()).await.unwrap();
    let cookie = cookies(&response)[0].split(';').next().unwrap().to_owned();
    let state = cookie.strip_prefix(FLOW).unwrap().split('=').next().unwrap().to_owned();
    (state, cookie)
}

async fn call_back(f: &Fixture, query: &str, cookie: &str, token: Option<OpaqueToken>) -> LocalResponse {
    let head = head("GET", &format!("/.cloakroom/callback?{query}"), &[("cookie", cookie)]);
    own_paths::answer(&f.control, &head, 8080, token.map(Into::into)).await
}

const ISS: &str = "iss=https%3A%2F%2Fauth.example.com";

#[tokio::test]
async fn a_person_is_sent_to_sign_in_with_what_only_this_browser_holds() {
    let f = Fixture::new().await;
    signs_in(&f, "/");
    let step_up = StepUp { acr: Some("mfa".into()), max_age: Some(900) };
    let response = start(&f.control, &head("GET", "/orders?a=1&b=2", &[]), step_up).await.unwrap();
    assert_eq!(response.status, StatusCode::SEE_OTHER);
    assert_eq!(response.headers[CACHE_CONTROL], "no-store");
    assert_eq!(
        response.headers[LOCATION],
        "https://auth.example.com/oauth2/authorize?client_id=shop%2Fweb&request_uri=urn%3Ax%3A1%26evil%3D1"
    );
    let pushed: PushedAuthorization = sent(&f, internal_api::PAR);
    assert_eq!(pushed.redirect_uri, "https://shop.example.com/.cloakroom/callback");
    assert_eq!(pushed.return_to, "/orders?a=1&b=2");
    assert_eq!((pushed.acr_values.as_deref(), pushed.max_age), (Some("mfa"), Some(900)));
    assert_eq!((pushed.response_type.as_str(), pushed.code_challenge_method.as_str()), ("code", "S256"));

    let cookie = cookies(&response)[0];
    let rest = cookie.strip_prefix(&format!("{FLOW}{}=", pushed.state)).unwrap();
    let (verifier, attributes) = rest.split_once("; ").unwrap();
    assert_eq!(attributes, "Max-Age=600; Path=/; HttpOnly; Secure; SameSite=Lax");
    assert_eq!(verifier.len(), 43);
    assert_eq!(pushed.code_challenge, URL_SAFE_NO_PAD.encode(Sha256::digest(verifier)));
    assert!(!response.headers[LOCATION].to_str().unwrap().contains(verifier));
}

#[tokio::test]
async fn people_return_only_to_where_a_get_can_go_again() {
    let f = Fixture::new().await;
    signs_in(&f, "/");
    let long = format!("/{}", "a".repeat(5000));
    for (method, path, expected) in [
        ("GET", "/a?b=%2F%2Fevil", "/a?b=%2F%2Fevil"),
        ("HEAD", "/a", "/a"),
        ("POST", "/a", "/"),
        ("GET", "/.cloakroom/logout", "/"),
        ("GET", "//evil.example", "/"),
        ("GET", &long, "/"),
    ] {
        start(&f.control, &head(method, path, &[]), StepUp::default()).await.unwrap();
        assert_eq!(sent::<PushedAuthorization>(&f, internal_api::PAR).return_to, expected, "{method} {path}");
    }
}

#[tokio::test]
async fn an_address_that_the_policy_does_not_name_is_explained() {
    let f = Fixture::new().await;
    signs_in(&f, "/");
    let mut elsewhere = head("GET", "/", &[]);
    elsewhere.origin = "https://evil.example<script>".into();
    let response = start(&f.control, &elsewhere, StepUp::default()).await.unwrap();
    assert_eq!(response.status, StatusCode::MISDIRECTED_REQUEST);
    assert!(text(&response).contains("spec.origins") && !text(&response).contains("<script>"));
    assert!(f.fake.with(|told| told.asked.iter().all(|asked| !asked.contains("/par"))));
}

#[tokio::test]
async fn going_round_in_circles_ends_on_a_page() {
    let f = Fixture::new().await;
    signs_in(&f, "/");
    let mut returns = String::new();
    for round in 0..4 {
        let (state, cookie) = begin(&f, "/").await;
        let response =
            call_back(&f, &format!("code=c&state={state}&{ISS}"), &format!("{cookie}; {returns}"), None).await;
        assert_eq!(response.status, StatusCode::SEE_OTHER, "round {round}");
        returns = cookies(&response)[2].split(';').next().unwrap().to_owned();
    }
    let response = start(&f.control, &head("GET", "/", &[("cookie", &returns)]), StepUp::default()).await.unwrap();
    assert_eq!(response.status, StatusCode::FORBIDDEN);
    assert!(cookies(&response)[0].contains("returns=; Max-Age=0"), "trying again must be possible");
}

#[tokio::test]
async fn without_the_auth_service_nobody_is_sent_anywhere() {
    let mut f = Fixture::new().await;
    f.fake.stop();
    assert!(start(&f.control, &head("GET", "/", &[]), StepUp::default()).await.is_err());
    for status in [StatusCode::BAD_REQUEST, StatusCode::UNAUTHORIZED, StatusCode::INTERNAL_SERVER_ERROR] {
        let f = Fixture::new().await;
        f.fake.with(|told| told.script = Some(Box::new(move |_, _| Some(respond(status, "{}")))));
        assert!(start(&f.control, &head("GET", "/", &[]), StepUp::default()).await.is_err());
    }
}

#[tokio::test]
async fn a_code_becomes_a_session_cookie_and_the_way_back() {
    let f = Fixture::new().await;
    let token = signs_in(&f, "/orders?a=1");
    let (state, cookie) = begin(&f, "/orders?a=1").await;
    let response = call_back(&f, &format!("code=c%2B1&state={state}&{ISS}"), &cookie, None).await;
    assert_eq!(response.status, StatusCode::SEE_OTHER);
    assert_eq!(response.headers[LOCATION], "/orders?a=1");
    let set = cookies(&response);
    assert_eq!(
        set[0],
        format!("__Host-cloakroom={}; Max-Age=43200; Path=/; HttpOnly; Secure; SameSite=Lax", token.expose())
    );
    assert!(set[1].starts_with(&format!("{FLOW}{state}=; Max-Age=0; ")));
    let exchange: CodeExchange = sent(&f, internal_api::TOKEN);
    assert_eq!((exchange.code.as_str(), exchange.client_id.as_str()), ("c+1", "shop/web"));
    assert_eq!(format!("{FLOW}{state}={}", exchange.code_verifier), cookie);
    assert_eq!(exchange.redirect_uri, "https://shop.example.com/.cloakroom/callback");
}

#[tokio::test]
async fn a_return_address_that_leaves_the_site_is_not_followed() {
    for evil in [
        "//evil.example",
        "/\\evil.example",
        "https://evil.example",
        "javascript:alert(1)",
        "",
        "evil",
        "/\t/evil.example",
        "/a\r\nSet-Cookie: x=y",
        "/\u{e9}",
        "\\\\evil.example",
        "/a\\..\\..\\evil",
        " /evil",
        "/ /evil",
    ] {
        let f = Fixture::new().await;
        signs_in(&f, evil);
        let (state, cookie) = begin(&f, "/").await;
        let response = call_back(&f, &format!("code=c&state={state}&{ISS}"), &cookie, None).await;
        assert_eq!(response.headers[LOCATION], "/", "{evil:?}");
    }
}

#[tokio::test]
async fn an_answer_that_is_not_for_this_browser_is_refused_and_never_redeemed() {
    let f = Fixture::new().await;
    signs_in(&f, "/");
    let (state, cookie) = begin(&f, "/").await;
    let other = "0".repeat(22);
    for (query, cookie, why) in [
        (format!("code=c&state={state}&{ISS}"), "", "no cookie"),
        (format!("code=c&state={other}&{ISS}"), cookie.as_str(), "another flow"),
        (format!("code=c&{ISS}"), &cookie, "no state"),
        (format!("code=c&state=&{ISS}"), &cookie, "empty state"),
        (format!("code=c&state={state}&state={state}&{ISS}"), &cookie, "state twice"),
        (format!("code=c&code=d&state={state}&{ISS}"), &cookie, "code twice"),
        (format!("code=c&state={state}"), &cookie, "no issuer"),
        (format!("code=c&state={state}&iss=https%3A%2F%2Fevil.example"), &cookie, "another issuer"),
        (format!("state={state}&{ISS}"), &cookie, "no code"),
        (String::new(), &cookie, "nothing"),
    ] {
        let response = call_back(&f, &query, cookie, None).await;
        assert_eq!(response.status, StatusCode::BAD_REQUEST, "{why}");
        assert!(cookies(&response).iter().all(|set| set.contains("Max-Age=0")), "{why}");
    }
    assert!(f.fake.with(|told| told.asked.iter().all(|asked| !asked.contains("/token"))));
}

#[tokio::test]
async fn only_a_session_token_becomes_a_cookie() {
    for token in ["", "cs_x", "a; Domain=evil.example"] {
        let f = Fixture::new().await;
        signs_in(&f, "/");
        let (state, cookie) = begin(&f, "/").await;
        let answer = json!({"session_token": token, "expires_in": 1, "return_to": "/"}).to_string();
        f.fake.with(|told| told.script = Some(Box::new(move |_, _| Some(respond(StatusCode::OK, &answer)))));
        let response = call_back(&f, &format!("code=c&state={state}&{ISS}"), &cookie, None).await;
        assert_eq!(response.status, StatusCode::BAD_REQUEST, "{token}");
    }
    let f = Fixture::new().await;
    signs_in(&f, "/");
    let (state, cookie) = begin(&f, "/").await;
    let access = f.control.with_rng(|rng| OpaqueToken::generate(TokenKind::Access, rng));
    let answer = json!({"session_token": access.expose(), "expires_in": 1, "return_to": "/"}).to_string();
    f.fake.with(|told| told.script = Some(Box::new(move |_, _| Some(respond(StatusCode::OK, &answer)))));
    assert_eq!(
        call_back(&f, &format!("code=c&state={state}&{ISS}"), &cookie, None).await.status,
        StatusCode::BAD_REQUEST
    );
}

#[tokio::test]
async fn an_outage_at_the_callback_keeps_the_flow() {
    let f = Fixture::new().await;
    signs_in(&f, "/");
    let (state, cookie) = begin(&f, "/").await;
    f.fake.with(|told| told.script = Some(Box::new(|_, _| Some(respond(StatusCode::SERVICE_UNAVAILABLE, "")))));
    let response = call_back(&f, &format!("code=c&state={state}&{ISS}"), &cookie, None).await;
    assert_eq!(response.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(response.headers.contains_key(RETRY_AFTER) && cookies(&response).is_empty());
}

#[tokio::test]
async fn what_the_auth_service_refuses_is_explained_without_echoing_markup() {
    let f = Fixture::new().await;
    signs_in(&f, "/");
    let (state, cookie) = begin(&f, "/").await;
    let response = call_back(&f, &format!("error=access_denied&state={state}&{ISS}"), &cookie, None).await;
    assert_eq!(response.status, StatusCode::FORBIDDEN);
    let response = call_back(&f, &format!("error=%3Cscript%3E&state={state}&{ISS}"), &cookie, None).await;
    assert_eq!(response.status, StatusCode::BAD_REQUEST);
    assert!(!text(&response).contains("<script>"));
}

#[tokio::test]
async fn whoever_is_signed_in_already_goes_home_instead_of_to_an_error() {
    let f = Fixture::new().await;
    signs_in(&f, "/");
    let token = f.session();
    let response = call_back(&f, &format!("code=c&state={}&{ISS}", "0".repeat(22)), "", Some(token)).await;
    assert_eq!((response.status, response.headers[LOCATION].to_str().unwrap()), (StatusCode::SEE_OTHER, "/"));
}
