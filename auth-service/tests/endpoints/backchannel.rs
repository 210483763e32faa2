//! Clients are told when somebody has signed out (OpenID Connect Back-Channel Logout 1.0).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::routing::post;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Browser, Service, VERIFIER, encode, verify};
use crate::oauth::{Bench, CALLBACK, bench};

/// A client's end: what it was told, and what it answers, first to last.
#[derive(Clone, Default)]
struct Receiver {
    told: Arc<Mutex<Vec<String>>>,
    answers: Arc<Mutex<Vec<StatusCode>>>,
}

impl Receiver {
    /// Its URL.
    async fn listen(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/logout", listener.local_addr().unwrap());
        let router = axum::Router::new().route("/logout", post(Self::receive)).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        url
    }

    #[expect(clippy::unused_async, reason = "a handler is one")]
    async fn receive(State(receiver): State<Self>, body: String) -> StatusCode {
        receiver.told.lock().unwrap().push(body);
        receiver.answers.lock().unwrap().pop().unwrap_or(StatusCode::OK)
    }

    /// Waits until it was told so often.
    async fn told(&self, times: usize) -> Vec<String> {
        for _ in 0..600 {
            let told = self.told.lock().unwrap().clone();
            if told.len() >= times {
                return told;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("told {} times", self.told.lock().unwrap().len());
    }
}

async fn listening() -> (Bench, Receiver) {
    listening_as(json!({})).await
}

/// As a client with these settings besides.
async fn listening_as(settings: Value) -> (Bench, Receiver) {
    let (bench, receiver) = (bench().await, Receiver::default());
    let mut client = json!({"client_id": "rp", "public": true, "first_party": true, "redirect_uris": [CALLBACK],
        "grant_types": ["authorization_code", "refresh_token"], "scopes": ["openid", "offline_access"],
        "backchannel_logout_uri": receiver.listen().await});
    client.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    bench.service.admin(Method::POST, "/clients", &client).await.expect(201);
    (bench, receiver)
}

/// Signs in at the client; its ID token's claims.
async fn sign_in(bench: &Bench, browser: &mut Browser, change: &[(&str, &str)]) -> Value {
    verify(&bench.service, &id_token(bench, browser, change).await, "rp").await
}

async fn id_token(bench: &Bench, browser: &mut Browser, change: &[(&str, &str)]) -> String {
    let change = [&[("client_id", "rp"), ("scope", "openid offline_access")], change].concat();
    let code = bench.code(browser, &change).await;
    let form = [
        ("grant_type", "authorization_code"),
        ("client_id", "rp"),
        ("code", &code),
        ("redirect_uri", CALLBACK),
        ("code_verifier", VERIFIER),
    ];
    let tokens = bench.service.send(Method::POST, &bench.service.public("/oauth2/token"), &[], encode(&form)).await;
    tokens.expect(200).json()["id_token"].as_str().unwrap().to_owned()
}

async fn sign_out(service: &Service, browser: &mut Browser, what: &str) {
    let csrf = browser.get(service, "/account").await.expect(200).field("csrf").unwrap();
    browser.post(service, "/account/sign-out", &[("csrf", &csrf), ("what", what)]).await.expect(303);
}

async fn logout_token(service: &Service, body: &str) -> Value {
    let token = body.strip_prefix("logout_token=").unwrap();
    assert_eq!(jsonwebtoken::decode_header(token).unwrap().typ.as_deref(), Some("logout+jwt"));
    verify(service, token, "rp").await
}

#[tokio::test]
async fn a_client_is_told_of_each_sign_out_with_the_session_that_it_knows() {
    let (bench, receiver) = listening().await;
    for what in ["here", "everywhere"] {
        let mut browser = Browser::default();
        let id = sign_in(&bench, &mut browser, &[]).await;
        // Signing in anew is not signing out; the client knows the old session and the new one.
        let again = sign_in(&bench, &mut browser, &[("prompt", "login")]).await;
        assert_ne!(id["sid"], again["sid"]);
        assert!(receiver.told.lock().unwrap().is_empty());
        sign_out(&bench.service, &mut browser, what).await;
        let told = receiver.told(2).await;
        let mut sids = Vec::new();
        for body in &told {
            let claims = logout_token(&bench.service, body).await;
            assert_eq!((&claims["sub"], claims.get("nonce")), (&id["sub"], None));
            assert_eq!(claims["events"], json!({"http://schemas.openid.net/event/backchannel-logout": {}}));
            assert!(claims["jti"].is_string() && claims["exp"].as_u64() <= Some(bench.service.now() + 120));
            sids.push(claims["sid"].clone());
        }
        assert!(sids.contains(&id["sid"]) && sids.contains(&again["sid"]), "{sids:?}");
        receiver.told.lock().unwrap().clear();
    }
}

#[tokio::test]
async fn a_client_that_knows_only_rs256_gets_its_id_and_logout_tokens_that_way() {
    let (bench, receiver) = listening_as(json!({"id_token_signed_response_alg": "RS256"})).await;
    let alg = |jwt: &str| jsonwebtoken::decode_header(jwt).unwrap().alg;
    let mut browser = Browser::default();
    let id = id_token(&bench, &mut browser, &[]).await;
    assert_eq!(alg(&id), jsonwebtoken::Algorithm::RS256);
    let claims = verify(&bench.service, &id, "rp").await;
    assert_eq!(claims["at_hash"].as_str().map(str::len), Some(22), "half of SHA-256");
    sign_out(&bench.service, &mut browser, "here").await;
    let told = receiver.told(1).await;
    assert_eq!(alg(told[0].strip_prefix("logout_token=").unwrap()), jsonwebtoken::Algorithm::RS256);
    assert_eq!(logout_token(&bench.service, &told[0]).await["sub"], claims["sub"]);
    // Whoever made it is the one to say that it cannot be had.
    let client = json!({"client_id": "other", "public": true, "id_token_signed_response_alg": "EdDSA"});
    let refused = bench.service.admin(Method::POST, "/clients", &client).await.expect(422);
    assert!(refused.body.contains("ES256 or RS256"), "{}", refused.body);
    let hint = format!("/oauth2/logout?id_token_hint={id}");
    assert_eq!(browser.get(&bench.service, &hint).await.status, 303, "an ID token of ours, signed in whichever way");
}

#[tokio::test]
async fn a_client_that_fails_is_tried_again_and_one_that_refuses_is_not() {
    let (bench, receiver) = listening().await;
    *receiver.answers.lock().unwrap() = vec![StatusCode::OK, StatusCode::INTERNAL_SERVER_ERROR];
    let mut browser = Browser::default();
    sign_in(&bench, &mut browser, &[]).await;
    sign_out(&bench.service, &mut browser, "here").await;
    let told = receiver.told(2).await;
    assert_eq!(told[0], told[1], "the same token, whose jti the client may have seen");

    receiver.told.lock().unwrap().clear();
    *receiver.answers.lock().unwrap() = vec![StatusCode::BAD_REQUEST];
    sign_in(&bench, &mut browser, &[]).await;
    sign_out(&bench.service, &mut browser, "here").await;
    receiver.told(1).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(receiver.told.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_client_that_does_not_answer_keeps_nobody_signed_in() {
    let bench = bench().await;
    // Accepts and says nothing.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = json!({"client_id": "rp", "public": true, "first_party": true, "redirect_uris": [CALLBACK],
        "grant_types": ["authorization_code"], "scopes": ["openid", "offline_access"],
        "backchannel_logout_uri": format!("http://{}/", silent.local_addr().unwrap())});
    bench.service.admin(Method::POST, "/clients", &client).await.expect(201);
    let mut browser = Browser::default();
    sign_in(&bench, &mut browser, &[]).await;
    let started = std::time::Instant::now();
    sign_out(&bench.service, &mut browser, "here").await;
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    assert!(browser.get(&bench.service, "/account").await.expect(303).location().starts_with("/sign-in"));
}

#[tokio::test]
async fn the_address_is_one_that_a_logout_token_may_be_sent_to() {
    let service = Service::start().await;
    for uri in
        ["http://rp.example.com/logout", "https://rp.example.com/#x", "com.example.app:/x", "javascript:x", "/logout"]
    {
        let client = json!({"client_id": "rp", "public": true, "backchannel_logout_uri": uri});
        service.admin(Method::POST, "/clients", &client).await.expect(422);
    }
}
