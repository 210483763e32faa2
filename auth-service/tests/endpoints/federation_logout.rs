//! A provider says that somebody has signed out there (OpenID Connect Back-Channel Logout 1.0).

use cloakroom_auth_service::keys::signer::JwtType;
use http::Method;
use serde_json::{Value, json};

use crate::federation::{SHOP, ann, sign_in_at_shop, two_providers, world};
use crate::harness::{Answer, Browser, PASSWORD, Service, encode};
use crate::provider::{CLIENT, Provider};

async fn tell(service: &Service, token: &str) -> Answer {
    let url = service.public("/sign-in/from/corp/backchannel-logout");
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    let answer = service.send(Method::POST, &url, &headers, encode(&[("logout_token", token)])).await;
    assert_eq!(answer.header("cache-control"), "no-store");
    answer
}

async fn is_active(service: &Service, token: &str) -> bool {
    service.introspect(token, "shop/web").await["active"] == json!(true)
}

fn in_session(sub: &str, sid: &str) -> Value {
    let mut claims = ann();
    claims["sub"] = json!(sub);
    claims["sid"] = json!(sid);
    claims
}

#[tokio::test]
async fn the_session_that_began_with_theirs_ends_and_no_other() {
    let (service, provider) = world(json!({})).await;
    let mut tokens = Vec::new();
    for (sub, sid) in [("a", "1"), ("a", "2"), ("b", "3")] {
        tokens.push(sign_in_at_shop(&service, &provider, &mut Browser::default(), in_session(sub, sid)).await);
    }
    tell(&service, &provider.logout_token(&[("sid", json!("1")), ("sub", json!("a"))])).await.expect(200);
    assert_eq!((is_active(&service, &tokens[0]).await, is_active(&service, &tokens[1]).await), (false, true));
    tell(&service, &provider.logout_token(&[("sub", json!("a"))])).await.expect(200);
    assert_eq!((is_active(&service, &tokens[1]).await, is_active(&service, &tokens[2]).await), (false, true));
    tell(&service, &provider.logout_token(&[("sid", json!("unknown"))])).await.expect(200);
    assert!(is_active(&service, &tokens[2]).await);
}

#[tokio::test]
async fn a_session_that_went_on_in_another_ends_too_and_one_of_a_password_does_not() {
    let (service, provider) = world(json!({})).await;
    let mut browser = Browser::default();
    let token = sign_in_at_shop(&service, &provider, &mut browser, in_session("a", "1")).await;
    let authenticator = crate::factors::Authenticator::enrol(&service, &mut browser).await;
    // A second factor makes a new session of it.
    let url = service.push("shop/web", SHOP, &[("acr_values", "mfa")]).await;
    let next = browser.get(&service, &url).await.expect(303);
    let page = browser.get(&service, next.location()).await.expect(200);
    let (flow, csrf, code) = (page.field("flow").unwrap(), page.field("csrf").unwrap(), authenticator.code(&service));
    let form = [("flow", flow.as_str()), ("csrf", &csrf), ("code", &code)];
    let back = browser.post(&service, "/second-factor", &form).await.expect(303);
    let code = back.location_parameter("code").unwrap();
    let stronger = service.exchange("shop/web", SHOP, &code).await.expect(200).json()["session_token"].clone();
    let stronger = stronger.as_str().unwrap();
    assert_eq!((is_active(&service, &token).await, is_active(&service, stronger).await), (false, true));
    tell(&service, &provider.logout_token(&[("sid", json!("1"))])).await.expect(200);
    assert!(!is_active(&service, stronger).await);
    browser.get(&service, "/account").await.expect(303);
    service.create_user("bob").await;
    let of_bob = service.sign_in_at(&mut Browser::default(), "shop/web", SHOP, "bob").await;
    tell(&service, &provider.logout_token(&[("sub", json!("a"))])).await.expect(200);
    assert!(is_active(&service, &of_bob).await);
}

#[tokio::test]
async fn whoever_signed_out_there_while_still_signing_in_here_does_not_come_in() {
    let (service, provider) = world(json!({})).await;
    let mut browser = Browser::default();
    provider.sign_in(&service, &mut browser, in_session("a", "0")).await.expect(303);
    let authenticator = crate::factors::Authenticator::enrol(&service, &mut browser).await;
    for (sid, by) in [("1", json!({"sid": "1"})), ("2", json!({"sub": "a"}))] {
        service.clock.pass(60);
        let mut other = Browser::default();
        let next = provider.sign_in(&service, &mut other, in_session("a", sid)).await.expect(303);
        let page = other.get(&service, next.location()).await.expect(200);
        let (name, value) = by.as_object().unwrap().iter().next().unwrap();
        tell(&service, &provider.logout_token(&[(name, value.clone())])).await.expect(200);
        let (flow, csrf, code) =
            (page.field("flow").unwrap(), page.field("csrf").unwrap(), authenticator.code(&service));
        let form = [("flow", flow.as_str()), ("csrf", &csrf), ("code", &code)];
        let refused = other.post(&service, "/second-factor", &form).await.expect(400);
        assert!(refused.body.contains("signed out meanwhile"), "{}", refused.body);
    }
}

#[tokio::test]
async fn a_logout_token_is_good_once() {
    let (service, provider) = world(json!({})).await;
    let token = provider.logout_token(&[("sub", json!("a"))]);
    tell(&service, &token).await.expect(200);
    service.clock.pass(2);
    let session = sign_in_at_shop(&service, &provider, &mut Browser::default(), in_session("a", "1")).await;
    assert_eq!(tell(&service, &token).await.expect(400).json(), json!({"error": "invalid_request"}));
    assert!(is_active(&service, &session).await, "an old token signs nobody out again");
}

#[tokio::test]
async fn what_is_no_logout_token_of_that_provider_for_us_ends_nothing() {
    let (service, provider) = world(json!({})).await;
    let session = sign_in_at_shop(&service, &provider, &mut Browser::default(), in_session("a", "1")).await;
    let now = service.now();
    let event = "http://schemas.openid.net/event/backchannel-logout";
    for (what, change) in [
        ("another issuer", vec![("iss", json!("https://evil.example"))]),
        ("no issuer", vec![("iss", Value::Null)]),
        ("another audience", vec![("aud", json!("other"))]),
        ("no audience", vec![("aud", Value::Null)]),
        ("a nonce", vec![("nonce", json!("n"))]),
        ("an empty nonce", vec![("nonce", json!(""))]),
        ("no events", vec![("events", Value::Null)]),
        ("another event", vec![("events", json!({"http://schemas.openid.net/event/x": {}}))]),
        ("an event that is no object", vec![("events", json!({event: true}))]),
        ("no jti", vec![("jti", Value::Null)]),
        ("no iat", vec![("iat", Value::Null)]),
        ("too old", vec![("iat", json!(now - 700)), ("exp", json!(now + 700))]),
        ("from the future", vec![("iat", json!(now + 120))]),
        ("expired", vec![("exp", json!(now - 60))]),
        ("an exp that is no number", vec![("exp", json!("never"))]),
        ("of nobody", vec![("sub", Value::Null)]),
        ("an empty subject", vec![("sub", json!(""))]),
    ] {
        let change = [vec![("sub", json!("a"))], change].concat();
        let answer = tell(&service, &provider.logout_token(&change)).await;
        assert_eq!(answer.status, 400, "{what}");
    }
    let claims = provider.logout_claims(&[("sub", json!("a"))]);
    tell(&service, &provider.sign_as(JwtType::AccessToken, &claims)).await.expect(400);
    // An ID token is none, whoever has got hold of it.
    let id_token =
        json!({"iss": provider.issuer, "aud": CLIENT, "sub": "a", "iat": now, "exp": now + 300, "nonce": "n"});
    tell(&service, &provider.sign_as(JwtType::Plain, &id_token)).await.expect(400);
    let other = Provider::start("other", service.clock.clock()).await;
    tell(&service, &other.sign_as(JwtType::Logout, &claims)).await.expect(400);
    let (head, _) = provider
        .logout_token(&[("sub", json!("a"))])
        .rsplit_once('.')
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    for junk in ["", "x", "a.b.c", &format!("{head}.AAAA"), &"x".repeat(20_000)] {
        tell(&service, junk).await.expect(400);
    }
    let url = service.public("/sign-in/from/corp/backchannel-logout");
    service.send(Method::POST, &url, &[], "x=y").await.expect(400);
    service.send(Method::GET, &url, &[], "").await.expect(405);
    assert!(is_active(&service, &session).await);
    tell(&service, &provider.sign_as(JwtType::Plain, &claims)).await.expect(200);
    assert!(!is_active(&service, &session).await, "typ is recommended, not required");
}

#[tokio::test]
async fn one_providers_word_is_nothing_about_anothers_people() {
    let (service, one, other) = two_providers().await;
    let mut browser = Browser::default();
    other.sign_in(&service, &mut browser, in_session("a", "1")).await.expect(303);
    for by in [("sub", json!("a")), ("sid", json!("1"))] {
        tell(&service, &one.logout_token(&[by])).await.expect(200);
    }
    browser.get(&service, "/account").await.expect(200);
}

#[tokio::test]
async fn while_the_keys_cannot_be_had_the_provider_is_told_to_try_again() {
    let (service, provider) = world(json!({})).await;
    provider.down(true);
    let token = provider.logout_token(&[("sub", json!("a"))]);
    tell(&service, &token).await.expect(503);
    provider.down(false);
    service.clock.pass(11);
    tell(&service, &token).await.expect(200);
}

async fn sign_out(service: &Service, browser: &mut Browser) -> Answer {
    let csrf = browser.get(service, "/account").await.expect(200).field("csrf").unwrap();
    browser.post(service, "/account/sign-out", &[("csrf", &csrf), ("what", "here")]).await.expect(303)
}

#[tokio::test]
async fn whoever_signs_out_here_is_offered_to_sign_out_there_and_led_nowhere_else() {
    let (service, provider) = world(json!({"sign_out": true})).await;
    let there = format!("{}/end?realm=x", provider.issuer);
    let endpoint = there.clone();
    provider.metadata(move |document| document["end_session_endpoint"] = endpoint.clone().into());
    let mut browser = Browser::default();
    provider.sign_in(&service, &mut browser, ann()).await.expect(303);
    let out = sign_out(&service, &mut browser).await;
    assert_eq!(out.location(), "/signed-out?from=corp");
    let page = browser.get(&service, out.location()).await.expect(200);
    assert!(
        page.body.contains(r#"href="/sign-out/at/corp""#) && page.body.contains("still be signed in at"),
        "{}",
        page.body
    );
    let away = browser.get(&service, "/sign-out/at/corp").await.expect(303);
    let back = "http%3A%2F%2Flocalhost%3A8001%2Fsigned-out";
    assert_eq!(away.location(), format!("{there}&client_id={CLIENT}&post_logout_redirect_uri={back}"));
    for nowhere in ["/sign-out/at/other", "/sign-out/at/", "/sign-out/at/corp/x"] {
        browser.get(&service, nowhere).await.expect(404);
    }
    for unknown in ["other", "https://evil.example/", "%3Cscript%3E"] {
        let page = browser.get(&service, &format!("/signed-out?from={unknown}")).await.expect(200);
        assert!(!page.body.contains("/sign-out/at/") && !page.body.contains("evil"), "{}", page.body);
    }
    for off_tls in [json!("http://evil.example/end"), json!("javascript:alert(1)"), json!("/end"), json!(null)] {
        let (service, provider) = world(json!({"sign_out": true})).await;
        let endpoint = off_tls.clone();
        provider.metadata(move |document| document["end_session_endpoint"] = endpoint.clone());
        let refused = browser.get(&service, "/sign-out/at/corp").await.expect(400);
        assert!(refused.body.contains("no way to sign out"), "{off_tls}: {}", refused.body);
    }
}

#[tokio::test]
async fn it_is_offered_only_where_that_is_wanted_and_to_those_who_came_from_there() {
    let (service, provider) = world(json!({})).await;
    let mut browser = Browser::default();
    provider.sign_in(&service, &mut browser, ann()).await.expect(303);
    assert_eq!(sign_out(&service, &mut browser).await.location(), "/signed-out");
    assert!(!browser.get(&service, "/signed-out?from=corp").await.expect(200).body.contains("/sign-out/at/"));
    browser.get(&service, "/sign-out/at/corp").await.expect(404);

    let (service, _provider) = world(json!({"sign_out": true})).await;
    service.create_user("bob").await;
    let mut browser = Browser::default();
    let to_page = browser.get(&service, "/sign-in").await.expect(303);
    browser.sign_in(&service, &to_page, "bob", PASSWORD).await.expect(303);
    assert_eq!(sign_out(&service, &mut browser).await.location(), "/signed-out");
}
