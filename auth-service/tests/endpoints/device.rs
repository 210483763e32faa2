//! Devices without a browser (RFC 8628).

use http::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Browser, PASSWORD, Service, encode};
use crate::oauth::{Bench, bench};

const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

async fn television() -> Bench {
    let bench = bench().await;
    let client = json!({"client_id": "tv", "name": "Living Room TV", "public": true, "scopes": ["openid", "orders"],
        "grant_types": [GRANT, "refresh_token"], "audiences": ["shop/web"]});
    bench.service.admin(Method::POST, "/clients", &client).await.expect(201);
    bench
}

async fn post(service: &Service, path: &str, form: &[(&str, &str)]) -> Answer {
    service.send(Method::POST, &service.public(path), &[], encode(form)).await
}

async fn ask(service: &Service) -> Value {
    let form = [("client_id", "tv"), ("scope", "openid orders")];
    let answer = post(service, "/oauth2/device_authorization", &form).await.expect(200);
    assert_eq!(answer.header("cache-control"), "no-store");
    answer.json()
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("{name}: {value}"))
}

async fn poll(service: &Service, device: &Value) -> Answer {
    let form = [("grant_type", GRANT), ("client_id", "tv"), ("device_code", text(device, "device_code"))];
    post(service, "/oauth2/token", &form).await
}

#[track_caller]
fn is_error(answer: &Answer, code: &str) {
    assert_eq!((answer.status.as_u16(), answer.json()["error"].as_str()), (400, Some(code)), "{}", answer.body);
}

async fn signed_in(service: &Service) -> Browser {
    let mut browser = Browser::default();
    let to_page = browser.get(service, "/device").await.expect(303);
    let back = browser.sign_in(service, &to_page, "ann", PASSWORD).await.expect(303);
    assert_eq!(back.location(), "/device");
    browser
}

/// Types the code in; the answer is the page that asks.
async fn type_in(service: &Service, browser: &mut Browser, code: &str) -> Answer {
    let page = browser.get(service, "/device").await.expect(200);
    browser.post(service, "/device", &[("csrf", &page.field("csrf").unwrap()), ("user_code", code)]).await
}

async fn decide(service: &Service, browser: &mut Browser, page: &Answer, decision: &str) -> Answer {
    let (csrf, code) = (page.field("csrf").unwrap(), page.field("user_code").unwrap());
    let form = [("csrf", csrf.as_str()), ("user_code", code.as_str()), ("decision", decision)];
    browser.post(service, "/device", &form).await
}

#[tokio::test]
async fn a_device_gets_its_tokens_once_a_person_has_said_yes() {
    let bench = television().await;
    let service = &bench.service;
    let device = ask(service).await;
    assert_eq!((&device["interval"], &device["expires_in"]), (&json!(5), &json!(600)));
    is_error(&poll(service, &device).await, "authorization_pending");
    is_error(&poll(service, &device).await, "slow_down");
    service.clock.pass(9);
    is_error(&poll(service, &device).await, "slow_down");
    service.clock.pass(15);
    is_error(&poll(service, &device).await, "authorization_pending");

    let mut browser = signed_in(service).await;
    let typed = text(&device, "user_code").to_lowercase().replace('-', " ");
    let page = type_in(service, &mut browser, &typed).await.expect(200);
    for expected in ["Living Room TV", text(&device, "user_code"), "If somebody sent you the code", "orders"] {
        assert!(page.body.contains(expected), "{expected}: {}", page.body);
    }
    is_error(&poll(service, &device).await, "slow_down");
    assert!(decide(service, &mut browser, &page, "allow").await.expect(200).body.contains("connected"));
    decide(service, &mut browser, &page, "allow").await.expect(422);

    let tokens = poll(service, &device).await.expect(200).json();
    assert!(tokens["id_token"].is_string() && tokens["refresh_token"].is_string());
    is_error(&poll(service, &device).await, "invalid_grant");
    let active = service.introspect(text(&tokens, "access_token"), "shop/web").await;
    assert_eq!((&active["active"], &active["scope"]), (&json!(true), &json!("openid orders")));

    let csrf = browser.get(service, "/account").await.expect(200).field("csrf").unwrap();
    browser.post(service, "/account/sign-out", &[("csrf", &csrf), ("what", "here")]).await.expect(303);
    let still = service.introspect(text(&tokens, "access_token"), "shop/web").await;
    assert_eq!(still["active"], true, "the television stays when the telephone signs out");
    let mut browser = signed_in(service).await;
    let csrf = browser.get(service, "/account").await.expect(200).field("csrf").unwrap();
    browser.post(service, "/account/sign-out", &[("csrf", &csrf), ("what", "everywhere")]).await.expect(303);
    assert_eq!(service.introspect(text(&tokens, "access_token"), "shop/web").await, json!({"active": false}));
}

#[tokio::test]
async fn no_is_no_and_an_old_code_is_told_from_a_made_up_one() {
    let bench = television().await;
    let service = &bench.service;
    let mut browser = signed_in(service).await;
    let refused = ask(service).await;
    let page = type_in(service, &mut browser, text(&refused, "user_code")).await.expect(200);
    decide(service, &mut browser, &page, "deny").await.expect(200);
    is_error(&poll(service, &refused).await, "access_denied");

    let old = ask(service).await;
    let page = type_in(service, &mut browser, text(&old, "user_code")).await.expect(200);
    service.clock.pass(601);
    is_error(&poll(service, &old).await, "expired_token");
    decide(service, &mut browser, &page, "allow").await.expect(422);
    is_error(&poll(service, &old).await, "expired_token");
    is_error(&poll(service, &json!({"device_code": "x".repeat(65)})).await, "invalid_grant");
    let form = [("grant_type", GRANT), ("client_id", "tv")];
    is_error(&post(service, "/oauth2/token", &form).await, "invalid_request");
}

#[tokio::test]
async fn a_link_allows_nothing_and_neither_does_a_form_from_elsewhere() {
    let bench = television().await;
    let service = &bench.service;
    let device = ask(service).await;
    let complete = text(&device, "verification_uri_complete").strip_prefix(crate::harness::ISSUER).unwrap().to_owned();
    let mut browser = Browser::default();
    let to_page = browser.get(service, &complete).await.expect(303);
    let back = browser.sign_in(service, &to_page, "ann", PASSWORD).await.expect(303);
    assert_eq!(back.location(), complete);
    let page = browser.get(service, &complete).await.expect(200);
    assert!(page.body.contains(text(&device, "user_code")) && page.header("x-frame-options") == "DENY");
    let forged = [("csrf", "x"), ("user_code", text(&device, "user_code")), ("decision", "allow")];
    browser.post(service, "/device", &forged).await.expect(400);
    let csrf = page.field("csrf").unwrap();
    let form = [("csrf", csrf.as_str()), ("user_code", text(&device, "user_code")), ("decision", "allow")];
    let foreign = [("origin", "https://evil.example")];
    browser.request_with(service, Method::POST, "/device", &foreign, encode(&form)).await.expect(400);
    is_error(&poll(service, &device).await, "authorization_pending");
}

#[tokio::test]
async fn user_codes_cannot_be_tried_out() {
    let bench = television().await;
    let service = &bench.service;
    let device = ask(service).await;
    let mut browser = signed_in(service).await;
    for _ in 0..10 {
        type_in(service, &mut browser, "BBBB-BBBB").await.expect(422);
    }
    let even_the_right_one = type_in(service, &mut browser, text(&device, "user_code")).await.expect(429);
    assert!(!even_the_right_one.header("retry-after").is_empty());
}

#[tokio::test]
async fn a_device_code_is_for_its_client_and_a_client_must_be_allowed_to_ask() {
    let bench = television().await;
    let service = &bench.service;
    let device = ask(service).await;
    let other = json!({"client_id": "tv2", "public": true, "grant_types": [GRANT]});
    service.admin(Method::POST, "/clients", &other).await.expect(201);
    let form = [("grant_type", GRANT), ("client_id", "tv2"), ("device_code", text(&device, "device_code"))];
    is_error(&post(service, "/oauth2/token", &form).await, "invalid_grant");
    let app = [("client_id", "app"), ("client_secret", bench.secret.as_str())];
    is_error(&post(service, "/oauth2/device_authorization", &app).await, "unauthorized_client");
    let greedy = [("client_id", "tv"), ("scope", "admin")];
    is_error(&post(service, "/oauth2/device_authorization", &greedy).await, "invalid_scope");
    let elsewhere = [("client_id", "tv"), ("resource", "bank/web")];
    is_error(&post(service, "/oauth2/device_authorization", &elsewhere).await, "invalid_target");
}
