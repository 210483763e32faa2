//! `passwords: {enabled: false}`: people sign in with passkeys and other providers only.

use std::sync::Arc;

use cloakroom_auth_service::store::Store;
use cloakroom_auth_service::store::memory::MemoryStore;
use http::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Browser, ISSUER, PASSWORD, Service, TestClock};
use crate::passkeys::Authenticator;

const SHOP: &str = "https://shop.example.com";

fn without(config: &mut Value) {
    config["passwords"]["enabled"] = json!(false);
    config["providers"] =
        json!([{"id": "corp", "name": "Corp", "issuer": "http://127.0.0.1:9", "client_id": "cloakroom"}]);
}

/// A service, and ann, who has nothing to sign in with.
async fn shop() -> (Service, String) {
    let service = Service::start_as(without, None).await;
    service.register_policy("shop/web", SHOP).await.expect(200);
    let ann = service.admin(Method::POST, "/users", &json!({"username": "ann"})).await.expect(201).json();
    (service, ann["id"].as_str().unwrap().to_owned())
}

async fn link(service: &Service, id: &str) -> String {
    let answer = service.admin(Method::POST, &format!("/users/{id}/passkey-link"), &json!({})).await.expect(201).json();
    assert_eq!(answer["expires_in"], 3600);
    answer["url"].as_str().unwrap().strip_prefix(ISSUER).unwrap().to_owned()
}

/// Opens a link; the answer is its page.
async fn open(service: &Service, browser: &mut Browser, link: &str) -> Answer {
    let moved = browser.get(service, link).await.expect(303);
    assert_eq!(moved.header("referrer-policy"), "no-referrer");
    assert!(moved.location().starts_with("/new-passkey?flow=") && !moved.location().contains("token"));
    browser.get(service, moved.location()).await.expect(200)
}

#[tokio::test]
async fn no_page_asks_for_a_password_and_none_is_taken() {
    let (service, id) = shop().await;
    let mut browser = Browser::default();
    let to_page = browser.get(&service, "/sign-in").await.expect(303);
    let page = browser.get(&service, to_page.location()).await.expect(200);
    assert!(!page.body.contains("type=\"password\"") && !page.body.contains("name=\"username\""), "{}", page.body);
    assert!(page.body.contains("Sign in with a passkey") && page.body.contains("Continue with Corp"));
    browser.sign_in(&service, &to_page, "ann", PASSWORD).await.expect(403);
    for path in ["/account/password", "/reset-password", "/reset-password?token=x"] {
        browser.get(&service, path).await.expect(403);
    }
    let users = format!("/users/{id}");
    let set =
        service.admin(Method::PUT, &format!("{users}/password"), &json!({"password": PASSWORD})).await.expect(409);
    assert!(set.body.contains("passwords are disabled"), "{}", set.body);
    service.admin(Method::POST, &format!("{users}/password-reset"), &json!({})).await.expect(409);
    service.admin(Method::POST, "/users", &json!({"username": "bob", "password": PASSWORD})).await.expect(409);
    let found = service.admin(Method::GET, "/users?username=bob", &json!({})).await.expect(200).json();
    assert_eq!(found["items"], json!([]), "nothing half done");
}

#[tokio::test]
async fn a_link_adds_a_passkey_once_and_then_it_signs_in() {
    let (service, id) = shop().await;
    let mut browser = Browser::default();
    let (first, link) = (link(&service, &id).await, link(&service, &id).await);
    browser.get(&service, &first).await.expect(400);
    let page = open(&service, &mut browser, &link).await;
    assert!(page.body.contains("for <strong>ann</strong>") && page.body.contains("/assets/passkeys.js"));
    let other = open(&service, &mut Browser::default(), &link).await;
    assert!(other.body.contains("ann"), "opening it uses nothing up");
    let (flow, csrf) = (page.field("flow").unwrap(), page.field("csrf").unwrap());
    let empty = browser.post(&service, "/new-passkey", &[("flow", &flow), ("csrf", &csrf)]).await.expect(422);
    assert!(empty.body.contains("could not be used"), "a passkey that does not fit does not cost the link");

    let mut key = Authenticator::new(b"key-of-ann");
    let done = key.add_at(&service, &mut browser, &page, "/new-passkey").await.expect(303);
    assert_eq!(done.location(), "/sign-in?done=passkey-added");
    key.add_at(&service, &mut browser, &page, "/new-passkey").await.expect(400);
    browser.get(&service, &link).await.expect(400);
    let to_page = browser.get(&service, done.location()).await.expect(303);
    let page = browser.get(&service, to_page.location()).await.expect(200);
    assert!(page.body.contains("Your passkey is set up."));
    key.sign_in(&service, &mut browser, &to_page).await.expect(303);
    let account = browser.get(&service, "/account").await.expect(200);
    assert!(
        account.body.contains("Key &#60;1&#62;") && !account.body.contains("/account/password"),
        "{}",
        account.body
    );
    assert!(!account.body.contains("only your password"));
}

#[tokio::test]
async fn a_link_is_good_for_what_it_was_made_for_and_ends_with_what_changes_the_account() {
    let service = Service::start().await;
    let id = service.create_user("ann").await;
    let of_passkey = link(&service, &id).await;
    let of_password =
        service.admin(Method::POST, &format!("/users/{id}/password-reset"), &json!({})).await.expect(201).json();
    let of_password = of_password["url"].as_str().unwrap().strip_prefix(ISSUER).unwrap().to_owned();
    let mut browser = Browser::default();
    browser.get(&service, &of_passkey.replace("/new-passkey", "/reset-password")).await.expect(400);
    browser.get(&service, &of_password.replace("/reset-password", "/new-passkey")).await.expect(400);
    let moved = browser.get(&service, &of_password).await.expect(303);
    let elsewhere = moved.location().replace("/reset-password", "/new-passkey");
    browser.get(&service, &elsewhere).await.expect(400);
    let page = open(&service, &mut browser, &of_passkey).await;
    service.admin(Method::PUT, &format!("/users/{id}/password"), &json!({"password": PASSWORD})).await.expect(204);
    Authenticator::new(b"late").add_at(&service, &mut browser, &page, "/new-passkey").await.expect(400);
    let late = link(&service, &id).await;
    service.clock.pass(3601);
    browser.get(&service, &late).await.expect(400);
    service.admin(Method::PATCH, &format!("/users/{id}"), &json!({"disabled": true})).await.expect(200);
    service.admin(Method::POST, &format!("/users/{id}/passkey-link"), &json!({})).await.expect(409);
}

#[tokio::test]
async fn a_password_from_before_is_no_way_in_any_more() {
    let clock = TestClock::new();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(clock.clock()));
    let key = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(key.path(), [5; 32]).unwrap();
    let with_key = |config: &mut Value| config["signing"] = json!({"encryption_key_files": [key.path()]});
    let before = Service::replica(with_key, Arc::clone(&store), clock.clone(), 1).await;
    before.running.ready().await;
    let id = before.create_user("ann").await;
    let now = |config: &mut Value| {
        with_key(config);
        without(config);
    };
    let service = Service::replica(now, store, clock, 2).await;
    service.running.ready().await;
    let mut browser = Browser::default();
    let page = open(&service, &mut browser, &link(&service, &id).await).await;
    let mut key = Authenticator::new(b"key-of-ann");
    let done = key.add_at(&service, &mut browser, &page, "/new-passkey").await.expect(303);
    let to_page = browser.get(&service, done.location()).await.expect(303);
    browser.sign_in(&service, &to_page, "ann", PASSWORD).await.expect(403);
    key.sign_in(&service, &mut browser, &to_page).await.expect(303);
    let page = browser.get(&service, "/account/passkeys").await.expect(200);
    let (_, id) = page.body.split_once("name=\"passkey\" value=\"").unwrap();
    let id = id.split_once('"').unwrap().0;
    let form = [("csrf", page.field("csrf").unwrap()), ("passkey", id.to_owned())];
    let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let kept = browser.post(&service, "/account/passkeys/remove", &form).await.expect(400);
    assert!(kept.body.contains("the only way left"), "{}", kept.body);
}
