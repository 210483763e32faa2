//! What must not work at the address that a provider sends people back to.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use http::Method;
use serde_json::{Value, json};
use sha2::Sha256;

use crate::federation::{ann, two_providers, world};
use crate::harness::{Answer, Browser, Service};
use crate::provider::Provider;

/// At the provider, on the way to the account page.
async fn away(service: &Service, provider: &Provider, browser: &mut Browser) -> Answer {
    let to_page = browser.get(service, "/account").await.expect(303);
    let page = browser.get(service, to_page.location()).await.expect(200);
    provider.go(service, browser, &page).await.expect(303)
}

async fn is_signed_in(service: &Service, browser: &mut Browser) -> bool {
    browser.get(service, "/account").await.status == 200
}

#[tokio::test]
async fn an_answer_counts_once_and_only_in_the_browser_that_asked() {
    let (service, provider) = world(json!({})).await;
    let (mut browser, mut victim) = (Browser::default(), Browser::default());
    let asked = away(&service, &provider, &mut browser).await;
    let back = provider.authorize(&asked, ann());
    victim.get(&service, "/account").await.expect(303);
    // Signing a victim in to the attacker's account.
    victim.get(&service, &back).await.expect(400);
    Browser::default().get(&service, &back).await.expect(400);
    assert!(!is_signed_in(&service, &mut victim).await);
    browser.get(&service, &back).await.expect(303);
    assert!(is_signed_in(&service, &mut browser).await);
    browser.get(&service, &back).await.expect(400);
    let back = provider.authorize(&asked, ann());
    browser.get(&service, &back).await.expect(400);
}

#[tokio::test]
async fn a_state_that_is_not_ours_or_not_for_this_is_refused() {
    let (service, provider) = world(json!({})).await;
    let mut browser = Browser::default();
    let to_page = browser.get(&service, "/account").await.expect(303);
    let of_the_page = to_page.location_parameter("flow").unwrap();
    let asked = away(&service, &provider, &mut browser).await;
    let good = provider.authorize(&asked, ann());
    let state = asked.location_parameter("state").unwrap();
    for made_up in ["", "x", &"A".repeat(43), &of_the_page] {
        browser.get(&service, &good.replace(&state, made_up)).await.expect(400);
    }
    browser.get(&service, &format!("{good}&state={state}")).await.expect(400);
    browser.get(&service, &good.replace("code=", "cod=")).await.expect(400);
    assert!(!is_signed_in(&service, &mut browser).await);
    // A flow that is at the provider opens none of our own pages.
    browser.get(&service, &format!("/sign-in?flow={state}")).await.expect(400);
    browser.get(&service, &format!("/second-factor?flow={state}")).await.expect(400);
}

#[tokio::test]
async fn a_sign_in_starts_from_our_page_in_this_browser_only() {
    let (service, _) = world(json!({})).await;
    let (mut browser, mut other) = (Browser::default(), Browser::default());
    let flow = browser.get(&service, "/account").await.expect(303).location_parameter("flow").unwrap();
    other.get(&service, "/account").await.expect(303);
    other.get(&service, &format!("/sign-in/with/corp?flow={flow}")).await.expect(400);
    browser.get(&service, "/sign-in/with/corp").await.expect(400);
    browser.get(&service, "/sign-in/with/corp?flow=x").await.expect(400);
    browser
        .request(&service, Method::POST, &format!("/sign-in/with/corp?flow={flow}"), String::new())
        .await
        .expect(405);
}

#[tokio::test]
async fn one_providers_answer_is_nothing_to_another() {
    let (service, one, other) = two_providers().await;
    let mut browser = Browser::default();
    // The browser went to `corp`; the code comes back as `other`'s.
    let asked = away(&service, &one, &mut browser).await;
    let back = one.authorize(&asked, ann()).replace("/from/corp", "/from/other");
    browser.get(&service, &back).await.expect(400);
    let encode = |issuer: &str| url::form_urlencoded::byte_serialize(issuer.as_bytes()).collect::<String>();
    for iss in [format!("iss={}", encode(&other.issuer)), "iss=".to_owned(), "x=y".to_owned()] {
        let asked = away(&service, &one, &mut browser).await;
        let back = one.authorize(&asked, ann()).replace(&format!("iss={}", encode(&one.issuer)), &iss);
        let refused = browser.get(&service, &back).await.expect(400);
        assert!(refused.body.contains("not the answer"), "{iss}: {}", refused.body);
    }
    // The same `sub` at two issuers is two people.
    let (mut first, mut second) = (Browser::default(), Browser::default());
    one.sign_in(&service, &mut first, ann()).await.expect(303);
    other.sign_in(&service, &mut second, ann()).await.expect(303);
    let name =
        |page: Answer| page.body.split_once("Signed in as <strong>").unwrap().1.split_once('<').unwrap().0.to_owned();
    assert_eq!(name(first.get(&service, "/account").await), "ann");
    assert_eq!(name(second.get(&service, "/account").await), "ann-other");
}

/// An ID token changed like this signs nobody in.
async fn refused(service: &Service, provider: &Provider, what: &str) {
    let mut browser = Browser::default();
    let answer = provider.sign_in(service, &mut browser, ann()).await;
    assert_eq!(answer.status, 400, "{what}: {}", answer.body);
    assert!(!answer.body.contains("ann"), "{what}: nothing of it is shown");
    assert!(!is_signed_in(service, &mut browser).await, "{what}");
    provider.behave();
}

#[tokio::test]
async fn an_id_token_that_is_not_for_this_sign_in_is_refused() {
    let (service, provider) = world(json!({})).await;
    let now = service.now();
    let changes: Vec<(&str, &str, Value)> = vec![
        ("another nonce", "nonce", json!("other")),
        ("no nonce", "nonce", Value::Null),
        ("another issuer", "iss", json!("https://evil.example")),
        ("another audience", "aud", json!("other")),
        ("ours among others", "aud", json!(["cloakroom", "other"])),
        ("another party", "azp", json!("other")),
        ("expired", "exp", json!(now - 31)),
        ("from the future", "iat", json!(now + 600)),
        ("long ago", "iat", json!(now - 4000)),
        ("no subject", "sub", json!("")),
        ("an endless subject", "sub", json!("x".repeat(256))),
        ("no subject at all", "sub", Value::Null),
    ];
    for (what, name, value) in changes {
        provider.edit(move |claims| {
            if value.is_null() {
                claims.as_object_mut().unwrap().remove(name);
            } else {
                claims[name] = value.clone();
            }
        });
        refused(&service, &provider, what).await;
    }
    provider.sign_in(&service, &mut Browser::default(), ann()).await.expect(303);
}

fn part(json: &Value) -> String {
    URL_SAFE_NO_PAD.encode(json.to_string())
}

fn hs256(key: &[u8], claims: &str) -> String {
    let input = format!("{}.{claims}", part(&json!({"alg": "HS256", "typ": "JWT"})));
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(input.as_bytes());
    format!("{input}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

#[tokio::test]
async fn an_id_token_that_the_provider_did_not_sign_is_refused() {
    let (service, provider) = world(json!({})).await;
    let claims_of = |token: &str| token.split('.').nth(1).unwrap().to_owned();
    let key = provider.public_key();
    let x = URL_SAFE_NO_PAD.decode(key["x"].as_str().unwrap()).unwrap();
    let whole = key.to_string().into_bytes();
    provider.forge(move |token| format!("{}.{}.", part(&json!({"alg": "none"})), claims_of(&token)));
    refused(&service, &provider, "alg none").await;
    for (what, secret) in [
        ("the key's coordinate", x),
        ("the key as JSON", whole),
        ("the client's secret", b"the secret: between & us".to_vec()),
    ] {
        provider.forge(move |token| hs256(&secret, &claims_of(&token)));
        refused(&service, &provider, what).await;
    }
    provider.forge(|token| {
        let mut parts: Vec<&str> = token.split('.').collect();
        let mut claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap();
        claims["sub"] = json!("somebody else");
        let changed = part(&claims);
        parts[1] = &changed;
        parts.join(".")
    });
    refused(&service, &provider, "changed").await;
    provider.forge(|token| token.rsplit_once('.').unwrap().0.to_owned() + ".AAAA");
    refused(&service, &provider, "another signature").await;
    let other = Provider::start("corp", service.clock.clock()).await;
    let claims_of = |token: &str| token.split('.').nth(1).unwrap().to_owned();
    provider.forge(move |token| {
        let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims_of(&token)).unwrap()).unwrap();
        other.sign_as(cloakroom_auth_service::keys::signer::JwtType::Plain, &claims)
    });
    let before = provider.discoveries();
    refused(&service, &provider, "another one's key").await;
    assert!(provider.discoveries() <= before + 1, "an unknown key is looked for once");
    for junk in ["", "x", "a.b.c", "....", "\u{0}"] {
        provider.forge(move |_| junk.to_owned());
        refused(&service, &provider, junk).await;
    }
}

#[tokio::test]
async fn a_verified_address_of_somebody_opens_nobodys_account() {
    let (service, provider) = world(json!({})).await;
    let id = service.create_user("ann").await;
    let mut attacker = Browser::default();
    let mut claims = ann();
    claims["sub"] = json!(id);
    provider.sign_in(&service, &mut attacker, claims).await.expect(303);
    let page = attacker.get(&service, "/account").await.expect(200);
    assert!(page.body.contains("Signed in as <strong>ann-corp</strong>"), "{}", page.body);
    let users = service.admin(Method::GET, "/users", &json!({})).await.expect(200).json();
    let mine: Vec<&Value> = users["items"].as_array().unwrap().iter().filter(|user| user["id"] == json!(id)).collect();
    assert_eq!((mine.len(), &mine[0]["username"], &mine[0]["roles"]), (1, &json!("ann"), &json!(["buyer"])));
    let other = users["items"].as_array().unwrap().iter().find(|user| user["id"] != json!(id)).unwrap();
    assert_eq!((&other["roles"], &other["groups"], &other["has_password"]), (&json!([]), &json!([]), &json!(false)));
    // Names are the same without regard to case and space; the next one is told apart as well.
    let mut claims = json!({"sub": "third", "preferred_username": "  ANN "});
    claims["email"] = json!("ann@example.com");
    let mut third = Browser::default();
    provider.sign_in(&service, &mut third, claims).await.expect(303);
    let page = third.get(&service, "/account").await.expect(200);
    assert!(page.body.contains("Signed in as <strong>ANN-corp-"), "{}", page.body);
}

#[tokio::test]
async fn many_windows_at_once_make_one_account() {
    let (service, provider) = world(json!({})).await;
    let attempts = (0..8).map(|_| async {
        let mut browser = Browser::default();
        let answer = provider.sign_in(&service, &mut browser, ann()).await;
        answer.status.as_u16()
    });
    let statuses = futures::future::join_all(attempts).await;
    // Some may have to try again; none gets an account of its own.
    assert!(statuses.contains(&303) && statuses.iter().all(|status| [303, 503].contains(status)), "{statuses:?}");
    let users = service.admin(Method::GET, "/users", &json!({})).await.expect(200).json();
    assert_eq!(users["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn nobody_gets_an_account_where_none_is_to_be_made() {
    let (service, provider) = world(json!({"create": false, "ask": "Write to <it@example.com>."})).await;
    let mut browser = Browser::default();
    let page = provider.sign_in(&service, &mut browser, ann()).await.expect(403);
    assert!(
        page.body.contains("There is no account for you here")
            && page.body.contains("Write to &#60;it@example.com&#62;.")
    );
    assert!(!is_signed_in(&service, &mut browser).await);
    let users = service.admin(Method::GET, "/users", &json!({})).await.expect(200).json();
    assert_eq!(users["items"], json!([]));
}

#[tokio::test]
async fn a_disabled_account_stays_out_and_a_deleted_one_does_not_come_back() {
    let (service, provider) = world(json!({})).await;
    let mut browser = Browser::default();
    provider.sign_in(&service, &mut browser, ann()).await.expect(303);
    let users = service.admin(Method::GET, "/users", &json!({})).await.expect(200).json();
    let id = users["items"][0]["id"].as_str().unwrap().to_owned();
    service.admin(Method::PATCH, &format!("/users/{id}"), &json!({"disabled": true})).await.expect(200);
    assert!(!is_signed_in(&service, &mut browser).await);
    let page = provider.sign_in(&service, &mut browser, ann()).await.expect(403);
    assert!(page.body.contains("not active"), "{}", page.body);
    service.admin(Method::DELETE, &format!("/users/{id}"), &json!({})).await.expect(200);
    provider.sign_in(&service, &mut browser, ann()).await.expect(303);
    let users = service.admin(Method::GET, "/users", &json!({})).await.expect(200).json();
    assert_ne!(users["items"][0]["id"], json!(id), "a new account, with nothing of the old one");
}
