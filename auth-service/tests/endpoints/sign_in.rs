//! People sign in through a sidecar and get a session at its policy.

use http::Method;
use serde_json::json;

use crate::harness::{Browser, PASSWORD, Service, policy_body, verify};

const SHOP: &str = "https://shop.example.com";

async fn shop() -> Service {
    let service = Service::start().await;
    service.register_policy("shop/web", SHOP).await.expect(200);
    service.create_user("ann").await;
    service
}

#[tokio::test]
async fn a_person_signs_in_and_the_app_gets_a_jwt_for_its_own_audience() {
    let service = shop().await;
    let mut browser = Browser::default();
    let to_page = browser.get(&service, &service.push("shop/web", SHOP, &[]).await).await.expect(303);
    let back = browser.sign_in(&service, &to_page, "ann", PASSWORD).await.expect(303);
    assert!(back.location().starts_with("https://shop.example.com/.cloakroom/callback?"));
    assert_eq!(back.location_parameter("state").as_deref(), Some("the-state"));
    assert_eq!(back.location_parameter("iss").as_deref(), Some("http://localhost:8001"), "RFC 9207");
    let code = back.location_parameter("code").unwrap();
    let signed_in = service.exchange("shop/web", SHOP, &code).await.expect(200).json();
    assert_eq!(
        (signed_in["return_to"].as_str(), signed_in["expires_in"].as_u64()),
        (Some("/orders?id=1"), Some(43200))
    );
    let token = signed_in["session_token"].as_str().unwrap();
    assert!(token.starts_with("cs_"));

    let active = service.introspect(token, "shop/web").await;
    assert_eq!((active["active"].as_bool(), active["username"].as_str()), (Some(true), Some("ann")));
    assert_eq!((active["scope"].as_str(), &active["claims"]), (Some("orders"), &json!({"email": "ann@example.com"})));
    let jwt = active["jwt"].as_str().unwrap();
    let claims = verify(&service, jwt, "shop/web").await;
    assert_eq!(jsonwebtoken::decode_header(jwt).unwrap().typ.as_deref(), Some("at+jwt"));
    for claim in ["iss", "sub", "aud", "exp", "nbf", "iat", "jti", "client_id", "auth_time", "sid", "session"] {
        assert!(claims.get(claim).is_some(), "{claim}: {claims}");
    }
    assert_eq!((claims["client_id"].as_str(), claims["email"].as_str()), (Some("shop/web"), Some("ann@example.com")));
    assert!(claims["exp"].as_u64().unwrap() <= service.now() + 60 && claims["nbf"].as_u64() < claims["iat"].as_u64());
    assert!(!jwt.contains(token) && !claims.to_string().contains(&token[25..68]), "no secret in the JWT");
}

#[tokio::test]
async fn a_token_of_one_policy_is_nothing_at_another() {
    let service = shop().await;
    service.register_policy("bank/web", "https://bank.example.com").await.expect(200);
    let mut browser = Browser::default();
    let at_shop = service.sign_in_at(&mut browser, "shop/web", SHOP, "ann").await;
    let at_bank = service.sign_in_at(&mut browser, "bank/web", "https://bank.example.com", "ann").await;
    assert_eq!(at_shop[3..25], at_bank[3..25], "one session");
    assert_eq!(service.introspect(&at_shop, "bank/web").await, json!({"active": false}));
    assert_eq!(service.introspect(&at_bank, "shop/web").await, json!({"active": false}));
    assert_eq!(service.introspect(&at_bank, "bank/web").await["active"], true);
}

#[tokio::test]
async fn the_second_app_needs_no_second_password() {
    let service = shop().await;
    service.register_policy("bank/web", "https://bank.example.com").await.expect(200);
    let mut browser = Browser::default();
    service.sign_in_at(&mut browser, "shop/web", SHOP, "ann").await;
    let straight =
        browser.get(&service, &service.push("bank/web", "https://bank.example.com", &[]).await).await.expect(303);
    assert!(straight.location().starts_with("https://bank.example.com/.cloakroom/callback?code="));
}

#[tokio::test]
async fn ending_the_session_ends_it_at_every_policy() {
    let service = shop().await;
    service.register_policy("bank/web", "https://bank.example.com").await.expect(200);
    let mut browser = Browser::default();
    let at_shop = service.sign_in_at(&mut browser, "shop/web", SHOP, "ann").await;
    let at_bank = service.sign_in_at(&mut browser, "bank/web", "https://bank.example.com", "ann").await;
    let receipt = service
        .internal_json(Method::POST, "/internal/v1/revoke", &service.workload("shop"), &json!({"token": at_shop}))
        .await
        .expect(200)
        .json();
    assert!(receipt["event_id"].is_string());
    assert_eq!(service.introspect(&at_shop, "shop/web").await, json!({"active": false}));
    assert_eq!(service.introspect(&at_bank, "bank/web").await, json!({"active": false}));
    let again = browser.get(&service, &service.push("shop/web", SHOP, &[]).await).await.expect(303);
    assert!(again.location().starts_with("/sign-in"), "and the sign-in cookie is worth nothing");
}

#[tokio::test]
async fn idle_and_absolute_time_end_a_session_and_ask_for_the_password_again() {
    let service = shop().await;
    let mut browser = Browser::default();
    let token = service.sign_in_at(&mut browser, "shop/web", SHOP, "ann").await;
    service.clock.pass(1700);
    assert_eq!(service.introspect(&token, "shop/web").await["active"], true);
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    service.clock.pass(1700);
    assert_eq!(service.introspect(&token, "shop/web").await["active"], true, "it was used meanwhile");
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    service.clock.pass(1801);
    assert_eq!(service.introspect(&token, "shop/web").await, json!({"active": false}));
    let again = browser.get(&service, &service.push("shop/web", SHOP, &[]).await).await.expect(303);
    assert!(again.location().starts_with("/sign-in"), "no silent way around the idle time");
}

#[tokio::test]
async fn a_jwt_never_outlives_its_session() {
    let service = Service::start().await;
    let mut body = policy_body("shop/web", SHOP);
    body["session"] = json!({"idle_seconds": 1800, "absolute_seconds": 100});
    service.register(&body).await.expect(200);
    service.create_user("ann").await;
    let token = service.sign_in_at(&mut Browser::default(), "shop/web", SHOP, "ann").await;
    service.clock.pass(70);
    let active = service.introspect(&token, "shop/web").await;
    assert!(active["jwt_exp"].as_u64() <= active["exp"].as_u64());
    assert!(active["jwt_exp"].as_u64().unwrap() <= service.now() + 30);
    service.clock.pass(31);
    assert_eq!(service.introspect(&token, "shop/web").await, json!({"active": false}));
}

#[tokio::test]
async fn a_renewal_ahead_of_time_is_no_use() {
    let service = shop().await;
    let token = service.sign_in_at(&mut Browser::default(), "shop/web", SHOP, "ann").await;
    for passed in 1..=4 {
        service.clock.pass(450);
        let idle_for = (passed * 450).to_string();
        let form = [("token", token.as_str()), ("policy", "shop/web"), ("idle_for", &idle_for)];
        service.internal_form("/internal/v1/introspect", &service.workload("shop"), &form).await.expect(200);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    service.clock.pass(1);
    assert_eq!(service.introspect(&token, "shop/web").await, json!({"active": false}), "idle since the sign-in");
}

#[tokio::test]
async fn session_data_is_written_by_compare_and_set_and_only_where_allowed() {
    let service = shop().await;
    let token = service.sign_in_at(&mut Browser::default(), "shop/web", SHOP, "ann").await;
    let workload = service.workload("shop");
    let patch = |version: u64, patch: serde_json::Value| json!({"token": token, "policy": "shop/web", "version": version, "patch": patch});
    let send = async |body| service.internal_json(Method::POST, "/internal/v1/session", &workload, &body).await;
    let answer = send(patch(0, json!({"cart": ["a"]}))).await.expect(200).json();
    assert_eq!((&answer["session"], answer["session_version"].as_u64()), (&json!({"cart": ["a"]}), Some(1)));
    assert_eq!(verify(&service, answer["jwt"].as_str().unwrap(), "shop/web").await["session"], json!({"cart": ["a"]}));
    send(patch(0, json!({"cart": ["b"]}))).await.expect(409);
    send(patch(1, json!({"admin": true}))).await.expect(422);
    send(patch(1, json!({"cart": "x".repeat(9000)}))).await.expect(413);
    let answer = send(patch(1, json!({"locale": "de", "cart": null}))).await.expect(200).json();
    assert_eq!(answer["session"], json!({"locale": "de"}));
    assert_eq!(service.introspect(&token, "shop/web").await["session_version"], 2);
}
