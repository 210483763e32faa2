//! Tokens of other issuers: what they become here, for how long, and what happens when their issuer does not answer.

use base64::Engine as _;
use http::StatusCode;
use serde_json::{Value, json};

use crate::foreign_issuer::{Issuer, Key};
use crate::harness::{Answer, Service, policy_body, verify};

const SHOP: &str = "https://shop.example.com";
const OPAQUE: &str = "opaque-token-0123456789";

pub(crate) async fn service(issuers: &[Value]) -> Service {
    let service = Service::start_as(|config| config["token_issuers"] = json!(issuers), None).await;
    let ids: Vec<&Value> = issuers.iter().map(|issuer| &issuer["id"]).collect();
    service.register(&policy("shop/web", &json!(ids))).await.expect(200);
    service
}

pub(crate) fn policy(name: &str, issuers: &Value) -> Value {
    let mut body = policy_body(name, SHOP);
    body["token_issuers"] = issuers.clone();
    body
}

pub(crate) async fn ask(service: &Service, token: &str) -> Answer {
    let form = [("token", token), ("policy", "shop/web")];
    service.internal_form("/internal/v1/introspect", &service.workload("shop"), &form).await
}

fn inactive() -> Value {
    json!({"active": false})
}

#[tokio::test]
async fn a_jwt_of_an_issuer_that_the_policy_names_becomes_one_of_ours() {
    let issuer = Issuer::start().await;
    let service = service(&[issuer.config("sso")]).await;
    let mut claims = issuer.claims(service.now());
    (claims["exp"], claims["sid"], claims["session"]) = (json!(service.now() + 20), json!("x"), json!({"cart": 1}));
    let token = issuer.key.sign(&claims);
    let active = ask(&service, &token).await.expect(200).json();
    assert_eq!((active["kind"].as_str(), active["sub"].as_str()), (Some("foreign"), Some("sso:ann")));
    assert_eq!((active["client_id"].as_str(), active["scope"].as_str()), (Some("sso:web"), Some("orders")));
    assert_eq!((&active["exp"], active.get("believe_ms")), (&claims["exp"], None), "nobody was asked");
    let ours = verify(&service, active["jwt"].as_str().unwrap(), "shop/web").await;
    assert_eq!((ours["sub"].as_str(), ours["client_id"].as_str()), (Some("sso:ann"), Some("sso:web")));
    assert_eq!(ours["exp"], claims["exp"], "20 of the policy's 60 seconds");
    for theirs in ["sid", "session", "acr", "amr", "roles", "groups"] {
        assert_eq!(ours.get(theirs), None, "{theirs}");
    }
    assert_eq!(ask(&service, &token).await.expect(200).json()["id"], active["id"], "the same token, the same id");
}

#[tokio::test]
async fn only_policies_that_name_it_and_that_it_lets_take_its_tokens() {
    let issuer = Issuer::start().await;
    let service = service(&[issuer.config("sso")]).await;
    let token = issuer.key.sign(&issuer.claims(service.now()));
    service.register(&policy("shop/other", &json!([]))).await.expect(200);
    assert_eq!(service.introspect(&token, "shop/other").await, inactive());
    let unknown = service.register(&policy("shop/web", &json!(["sso", "okta"]))).await.expect(422);
    assert!(unknown.json()["detail"].as_str().unwrap().contains("knows no issuer \"okta\""), "{}", unknown.body);
    let mut forbidden = policy("bank/web", &json!(["sso"]));
    forbidden["origins"] = json!(["https://bank.example.com"]);
    let forbidden = service.register(&forbidden).await.expect(422);
    assert!(forbidden.json()["detail"].as_str().unwrap().contains("bank/web"), "{}", forbidden.body);
    ask(&service, &token).await.expect(200);
    let form = [("token", token.as_str())];
    let public = service.internal_form("/internal/v1/introspect", "Bearer admin-token-of-the-tests", &form).await;
    assert_eq!(public.expect(200).json(), inactive(), "no policy, no issuer");
}

#[tokio::test]
async fn an_opaque_token_is_asked_about_and_the_answer_believed_for_as_long_as_configured() {
    let issuer = Issuer::start().await;
    let service = service(&[issuer.asked_config("sso")]).await;
    issuer.issue(OPAQUE, service.now());
    let active = ask(&service, OPAQUE).await.expect(200).json();
    assert_eq!((active["sub"].as_str(), active["kind"].as_str()), (Some("sso:ann"), Some("foreign")));
    let believe = active["believe_ms"].as_u64().unwrap();
    assert!((9_000..=10_000).contains(&believe), "{believe}");
    let pair = base64::engine::general_purpose::STANDARD.encode("cloakroom:s3cret%3Awith%2Fodd%2Bcharacters");
    assert_eq!(issuer.with(|told| told.authorization[0].clone()), format!("Basic {pair}"), "RFC 6749 §2.3.1");
    service.clock.pass(4);
    let later = ask(&service, OPAQUE).await.expect(200).json()["believe_ms"].as_u64().unwrap();
    assert!(later <= 6_000, "counted from when it was asked: {later}");
    assert_eq!(issuer.introspected(), 1);
    service.clock.pass(1);
    ask(&service, OPAQUE).await.expect(200);
    assert_eq!(issuer.introspected(), 2, "ahead of the end, so that nobody waits for it");
    issuer.with(|told| told.tokens.clear());
    service.clock.pass(5);
    assert_eq!(ask(&service, OPAQUE).await.json(), inactive(), "revoked there, so here");
    ask(&service, OPAQUE).await.expect(200);
    assert_eq!(issuer.introspected(), 3, "and not asked about again at once");
}

#[tokio::test]
async fn an_issuer_that_does_not_answer_is_an_outage_and_no_verdict() {
    let issuer = Issuer::start().await;
    let mut config = issuer.asked_config("sso");
    config["cache_seconds"] = json!(20);
    let service = service(&[config]).await;
    for status in [500, 401, 403, 404, 302, 204] {
        issuer.with(|told| told.status = Some(StatusCode::from_u16(status).unwrap()));
        assert_eq!(ask(&service, OPAQUE).await.expect(503).header("retry-after"), "1", "{status}");
    }
    issuer.with(|told| told.status = None);
    for nonsense in
        [json!({}), json!({"active": "true"}), json!([]), json!({"active": true, "pad": "x".repeat(70_000)})]
    {
        issuer.with(|told| told.tokens.insert(OPAQUE.to_owned(), nonsense.clone()));
        ask(&service, OPAQUE).await.expect(503);
    }
    issuer.issue(OPAQUE, service.now());
    ask(&service, OPAQUE).await.expect(200);
    issuer.with(|told| told.status = Some(StatusCode::BAD_GATEWAY));
    service.clock.pass(15);
    let held = ask(&service, OPAQUE).await.expect(200).json();
    assert!(held["believe_ms"].as_u64().unwrap() <= 5_000, "what was said holds for the rest of its time: {held}");
    service.clock.pass(6);
    ask(&service, OPAQUE).await.expect(503);
    issuer.with(|told| told.status = None);
    ask(&service, OPAQUE).await.expect(200);
}

#[tokio::test]
async fn an_issuer_that_hangs_keeps_nobody_waiting_for_long() {
    let issuer = Issuer::start().await;
    let service = service(&[issuer.asked_config("sso")]).await;
    issuer.issue("known-0123456789abcdef", service.now());
    ask(&service, "known-0123456789abcdef").await.expect(200);
    issuer.with(|told| told.hangs = true);
    service.clock.pass(6);
    assert_eq!(
        ask(&service, "known-0123456789abcdef").await.expect(200).json()["active"],
        true,
        "said ten seconds ago at most"
    );
    let began = tokio::time::Instant::now();
    ask(&service, OPAQUE).await.expect(503);
    assert!(began.elapsed() < std::time::Duration::from_secs(10), "{:?}", began.elapsed());
}

#[tokio::test]
async fn keys_are_had_when_a_token_names_a_new_one_and_not_for_every_name_that_is_made_up() {
    let issuer = Issuer::start().await;
    let service = service(&[issuer.config("sso")]).await;
    issuer.with(|told| told.status = Some(StatusCode::BAD_GATEWAY));
    let token = issuer.key.sign(&issuer.claims(service.now()));
    ask(&service, &token).await.expect(503);
    issuer.with(|told| told.status = None);
    service.clock.pass(10);
    assert_eq!(ask(&service, &token).await.expect(200).json()["active"], true);
    let next = Key::new("k2");
    issuer.with(|told| told.keys.push(next.jwk()));
    service.clock.pass(10);
    assert_eq!(ask(&service, &next.sign(&issuer.claims(service.now()))).await.json()["active"], true);
    let before = issuer.with(|told| told.keys_asked);
    for name in 0..50 {
        let made_up = Key::new(&format!("made-up-{name}"));
        assert_eq!(ask(&service, &made_up.sign(&issuer.claims(service.now()))).await.json(), inactive());
    }
    assert_eq!(issuer.with(|told| told.keys_asked), before, "asked a moment ago");
    service.clock.pass(10);
    let stranger = Key::new("k9").sign(&issuer.claims(service.now()));
    issuer.with(|told| told.status = Some(StatusCode::BAD_GATEWAY));
    ask(&service, &stranger).await.expect(503);
    assert_eq!(ask(&service, &token).await.expect(200).json()["active"], true, "a known key needs nobody");
}

#[tokio::test]
async fn metadata_of_another_issuer_are_not_believed() {
    let issuer = Issuer::start().await;
    let service = service(&[issuer.config("sso")]).await;
    issuer.with(|told| told.issuer = format!("{}/", told.issuer));
    ask(&service, &issuer.key.sign(&issuer.claims(service.now()))).await.expect(503);
}

#[tokio::test]
async fn where_keys_and_introspection_are_configured_both_must_agree() {
    let issuer = Issuer::start().await;
    let mut config = issuer.config("sso");
    config["introspection"] = issuer.introspection();
    let service = service(&[config]).await;
    let forged = Key::new("k1").sign(&issuer.claims(service.now()));
    assert_eq!(ask(&service, &forged).await.json(), inactive());
    assert_eq!(issuer.introspected(), 0, "what a signature can refuse is asked of nobody");
    let token = issuer.key.sign(&issuer.claims(service.now()));
    assert_eq!(ask(&service, &token).await.json(), inactive(), "revoked there");
    let other =
        issuer.key.sign(&json!({"iss": issuer.url, "sub": "bob", "aud": "orders-api", "exp": service.now() + 60}));
    issuer.issue(&other, service.now());
    let active = ask(&service, &other).await.expect(200).json();
    assert_eq!(active["sub"], "sso:bob", "what is signed says who");
    assert!(active["believe_ms"].as_u64().is_some());
}

#[tokio::test]
async fn an_issuer_that_answers_about_opaque_tokens_only_is_not_asked_about_jwts() {
    let issuer = Issuer::start().await;
    let mut config = issuer.config("sso");
    config["introspection"] = issuer.introspection();
    config["introspection"]["jwts"] = json!(false);
    let service = service(&[config]).await;
    issuer.issue(OPAQUE, service.now());
    assert_eq!(ask(&service, OPAQUE).await.json()["active"], true);
    let active = ask(&service, &issuer.key.sign(&issuer.claims(service.now()))).await.json();
    assert_eq!((&active["active"], active.get("believe_ms")), (&json!(true), None));
    assert_eq!(issuer.introspected(), 1);
}

#[tokio::test]
async fn each_opaque_token_is_shown_to_its_own_issuer_alone() {
    let (one, other) = (Issuer::start().await, Issuer::start().await);
    let (mut first, mut second) = (one.asked_config("one"), other.asked_config("other"));
    let both = [first.clone(), second.clone()];
    let clash = Service::start_as(|config| config["token_issuers"] = json!(both), None).await;
    let refused = clash.register(&policy("shop/web", &json!(["one", "other"]))).await.expect(422);
    assert!(refused.body.contains("told apart"), "{}", refused.body);

    first["introspection"]["token_prefix"] = json!("one_");
    second["introspection"]["token_prefix"] = json!("two_");
    let service = service(&[first, second]).await;
    one.issue("one_0123456789abcdef", service.now());
    other.issue("two_0123456789abcdef", service.now());
    assert_eq!(ask(&service, "one_0123456789abcdef").await.json()["sub"], "one:ann");
    assert_eq!(ask(&service, "two_0123456789abcdef").await.json()["sub"], "other:ann");
    assert_eq!(ask(&service, "three_0123456789abcdef").await.json(), inactive());
    let jwt = one.key.sign(&other.claims(service.now()));
    ask(&service, &jwt).await.expect(200);
    assert_eq!(one.with(|told| told.introspected.clone()), ["one_0123456789abcdef"]);
    assert_eq!(other.with(|told| told.introspected.clone()), ["two_0123456789abcdef".to_owned(), jwt], "by its iss");
}

#[tokio::test]
async fn junk_does_not_become_a_flood_on_the_issuer_and_does_not_shut_out_who_is_known() {
    let issuer = Issuer::start().await;
    let service = service(&[issuer.asked_config("sso")]).await;
    issuer.issue(OPAQUE, service.now());
    ask(&service, OPAQUE).await.expect(200);
    let (mut nothing, mut turned_away) = (0, 0);
    for number in 0..400 {
        match ask(&service, &format!("junk-{number:020}")).await.status.as_u16() {
            200 => nothing += 1,
            503 => turned_away += 1,
            status => panic!("{status}"),
        }
    }
    assert!(nothing >= 100 && turned_away > 0, "{nothing} {turned_away}");
    service.clock.pass(9);
    let before = issuer.introspected();
    assert_eq!(ask(&service, OPAQUE).await.expect(200).json()["active"], true);
    assert_eq!(issuer.introspected(), before + 1);
    for _ in 0..20 {
        assert_eq!(ask(&service, "the-same-junk-each-time").await.json(), inactive());
    }
    assert_eq!(issuer.introspected(), before + 2, "what was nothing a moment ago is not asked about again");
}
