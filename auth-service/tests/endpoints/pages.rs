//! What people see.

use http::Method;
use serde_json::json;

use crate::harness::{Browser, PASSWORD, Service};

const SHOP: &str = "https://shop.example.com";

async fn shop() -> Service {
    let service = Service::start().await;
    service.register_policy("shop/web", SHOP).await.expect(200);
    service.create_user("ann").await;
    service
}

#[tokio::test]
async fn pages_carry_no_script_but_the_one_for_passkeys() {
    let service = shop().await;
    let mut browser = Browser::default();
    let to_page = browser.get(&service, &service.push("shop/web", SHOP, &[]).await).await;
    let page = browser.get(&service, to_page.location()).await.expect(200);
    let policy = page.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
    assert!(
        policy.contains("form-action 'self' https://shop.example.com;"),
        "Chrome applies it to redirects: {policy}"
    );
    assert_eq!(page.body.matches("<script").count(), 1);
    assert!(page.body.contains("<script src=\"/assets/passkeys.js\" defer></script>"));
    assert!(policy.contains(" script-src 'self';"), "{policy}");
    assert!(!page.body.contains("style=") && !page.body.contains("onload"));
    let signed_out = browser.get(&service, "/signed-out").await.expect(200);
    assert!(!signed_out.body.contains("<script") && !signed_out.header("content-security-policy").contains("script"));
    assert_eq!(page.header("x-frame-options"), "DENY");
    assert_eq!(page.header("x-content-type-options"), "nosniff");
    assert_eq!(page.header("cache-control"), "no-store");
    assert_eq!(page.header("referrer-policy"), "same-origin");
    assert!(page.body.contains("<html lang=\"en\" dir=\"ltr\">") && page.body.contains("<label for=\"password\">"));
    assert!(page.body.contains("shop.example.com"), "it says where one is going");
    let style = browser.get(&service, "/assets/style.css").await.expect(200);
    assert!(style.body.contains("prefers-color-scheme:dark"));
}

#[tokio::test]
async fn the_account_page_lists_sessions_and_signs_out_one_here_and_everywhere() {
    let service = shop().await;
    let (mut here, mut there) = (Browser::default(), Browser::default());
    let token = service.sign_in_at(&mut here, "shop/web", SHOP, "ann").await;
    let other = service.sign_in_at(&mut there, "shop/web", SHOP, "ann").await;
    let page = here.get(&service, "/account").await.expect(200);
    assert!(page.body.contains("Ann Example") && page.body.contains("this one"));
    let csrf = page.field("csrf").unwrap();
    here.post(&service, "/account/sign-out", &[("csrf", &csrf), ("what", &other[3..25])]).await.expect(303);
    assert_eq!(service.introspect(&other, "shop/web").await["active"], false);
    assert_eq!(service.introspect(&token, "shop/web").await["active"], true);
    let out = here.post(&service, "/account/sign-out", &[("csrf", &csrf), ("what", "here")]).await.expect(303);
    assert_eq!(out.location(), "/signed-out");
    assert_eq!(service.introspect(&token, "shop/web").await["active"], false);
    here.get(&service, "/signed-out").await.expect(200);
    assert!(here.get(&service, "/account").await.expect(303).location().starts_with("/sign-in"));

    let (mut a, mut b) = (Browser::default(), Browser::default());
    let first = service.sign_in_at(&mut a, "shop/web", SHOP, "ann").await;
    let second = service.sign_in_at(&mut b, "shop/web", SHOP, "ann").await;
    let csrf = a.get(&service, "/account").await.field("csrf").unwrap();
    a.post(&service, "/account/sign-out", &[("csrf", &csrf), ("what", "everywhere")]).await.expect(303);
    for token in [first, second] {
        assert_eq!(service.introspect(&token, "shop/web").await["active"], false);
    }
}

#[tokio::test]
async fn nobody_ends_somebody_elses_session() {
    let service = shop().await;
    service.create_user("mallory").await;
    let token = service.sign_in_at(&mut Browser::default(), "shop/web", SHOP, "ann").await;
    let mut mallory = Browser::default();
    service.sign_in_at(&mut mallory, "shop/web", SHOP, "mallory").await;
    let csrf = mallory.get(&service, "/account").await.field("csrf").unwrap();
    mallory.post(&service, "/account/sign-out", &[("csrf", &csrf), ("what", &token[3..25])]).await.expect(400);
    assert_eq!(service.introspect(&token, "shop/web").await["active"], true);
}

#[tokio::test]
async fn what_a_person_types_is_shown_escaped() {
    let service = shop().await;
    let mut browser = Browser::default();
    let to_page = browser.get(&service, &service.push("shop/web", SHOP, &[]).await).await;
    let page = browser.sign_in(&service, &to_page, "\"><script>alert(1)</script>", "x").await.expect(422);
    assert!(!page.body.contains("<script>") && page.body.contains("&#60;script&#62;"), "{}", page.body);
}

#[tokio::test]
async fn an_error_page_says_what_to_do_and_has_an_id_to_quote() {
    let service = shop().await;
    let nowhere = Browser::default().get(&service, "/nowhere").await.expect(404);
    assert!(nowhere.body.contains("There is no such page") && nowhere.body.contains("Reference"));
    let page = Browser::default().get(&service, "/sign-in?flow=gone").await.expect(400);
    assert!(page.body.contains("Reference: <code>") && page.body.contains("start again"));
    assert!(page.header("content-security-policy").contains("default-src 'none'"));
}

#[tokio::test]
async fn a_client_signs_people_out_only_with_proof_or_after_asking() {
    let service = shop().await;
    let client = json!({"client_id": "app", "public": true, "redirect_uris": ["https://app.example.com/cb"],
        "grant_types": ["authorization_code"], "scopes": ["openid"], "first_party": true,
        "post_logout_redirect_uris": ["https://app.example.com/bye"]});
    service.admin(Method::POST, "/clients", &client).await.expect(201);
    let mut browser = Browser::default();
    let token = service.sign_in_at(&mut browser, "shop/web", SHOP, "ann").await;
    let url = format!(
        "/oauth2/authorize?client_id=app&response_type=code&redirect_uri=https://app.example.com/cb&scope=openid&code_challenge={}&code_challenge_method=S256",
        crate::harness::challenge()
    );
    let code = browser.get(&service, &url).await.expect(303).location_parameter("code").unwrap();
    let form = [
        ("grant_type", "authorization_code"),
        ("client_id", "app"),
        ("code", &code),
        ("redirect_uri", "https://app.example.com/cb"),
        ("code_verifier", crate::harness::VERIFIER),
    ];
    let tokens = service.send(Method::POST, &service.public("/oauth2/token"), &[], crate::harness::encode(&form)).await;
    let hint = tokens.expect(200).json()["id_token"].as_str().unwrap().to_owned();

    let asked = browser.get(&service, "/oauth2/logout").await.expect(200);
    assert!(asked.body.contains("Sign out?"));
    let forged = format!("/oauth2/logout?id_token_hint={}x", &hint[..hint.len() - 4]);
    browser.get(&service, &forged).await.expect(200);
    assert_eq!(service.introspect(&token, "shop/web").await["active"], true, "asking is not doing");
    let evil = format!("/oauth2/logout?id_token_hint={hint}&post_logout_redirect_uri=https://evil.example/");
    browser.get(&service, &evil).await.expect(400);
    let good =
        format!("/oauth2/logout?id_token_hint={hint}&post_logout_redirect_uri=https://app.example.com/bye&state=s");
    let out = browser.get(&service, &good).await.expect(303);
    assert_eq!(out.location(), "https://app.example.com/bye?state=s");
    assert_eq!(service.introspect(&token, "shop/web").await["active"], false);
}

#[tokio::test]
async fn signing_in_again_replaces_the_session_and_keeps_what_apps_stored() {
    let service = shop().await;
    let mut browser = Browser::default();
    let before = service.sign_in_at(&mut browser, "shop/web", SHOP, "ann").await;
    let patch = json!({"token": before, "policy": "shop/web", "version": 0, "patch": {"cart": ["x"]}});
    service.internal_json(Method::POST, "/internal/v1/session", &service.workload("shop"), &patch).await.expect(200);
    let url = service.push("shop/web", SHOP, &[("max_age", "0")]).await;
    let to_page = browser.get(&service, &url).await.expect(303);
    assert!(to_page.location().starts_with("/sign-in"), "step-up asks again");
    let code =
        browser.sign_in(&service, &to_page, "ann", PASSWORD).await.expect(303).location_parameter("code").unwrap();
    let after = service.exchange("shop/web", SHOP, &code).await.expect(200).json()["session_token"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_ne!(before[3..25], after[3..25], "a new id at each elevation");
    assert_eq!(service.introspect(&before, "shop/web").await["active"], false);
    assert_eq!(service.introspect(&after, "shop/web").await["session"], json!({"cart": ["x"]}));
}

#[tokio::test]
async fn a_demand_that_no_sign_in_here_meets_is_told_and_not_repeated() {
    let service = shop().await;
    let mut browser = Browser::default();
    service.sign_in_at(&mut browser, "shop/web", SHOP, "ann").await;
    let url = service.push("shop/web", SHOP, &[("acr_values", "phr")]).await;
    let page = browser.get(&service, &url).await.expect(403);
    assert!(page.body.contains("stronger sign-in"));
    let url = service.push("shop/web", SHOP, &[("acr_values", "mfa pwd")]).await;
    assert!(browser.get(&service, &url).await.expect(303).location_parameter("code").is_some());
}
