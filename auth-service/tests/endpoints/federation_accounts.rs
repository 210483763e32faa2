//! Connecting an account with a sign-in elsewhere, taking it off again, and what administrators see of it.

use http::Method;
use serde_json::{Value, json};

use crate::federation::{SHOP, ann, two_providers, world};
use crate::harness::{Answer, Browser, PASSWORD, Service};
use crate::provider::Provider;

/// Bob, who has a password, at the page of his connected sign-ins.
async fn bob(service: &Service) -> (Browser, String, String) {
    service.register_policy("shop/web", SHOP).await.expect(200);
    let id = service.create_user("bob").await;
    let mut browser = Browser::default();
    service.sign_in_at(&mut browser, "shop/web", SHOP, "bob").await;
    let page = browser.get(service, "/account/connections").await.expect(200);
    let csrf = page.field("csrf").unwrap();
    (browser, id, csrf)
}

async fn connect(service: &Service, provider: &Provider, browser: &mut Browser, csrf: &str, claims: Value) -> Answer {
    let form = [("csrf", csrf), ("provider", "corp")];
    let away = browser.post(service, "/account/connections", &form).await.expect(303);
    assert_eq!(
        away.location_parameter("prompt").as_deref(),
        Some("login"),
        "whoever is signed in there must say so again"
    );
    browser.get(service, &provider.authorize(&away, claims)).await
}

async fn identities(service: &Service, id: &str) -> Value {
    service.admin(Method::GET, &format!("/users/{id}/identities"), &json!({})).await.expect(200).json()["items"].clone()
}

#[tokio::test]
async fn an_account_is_connected_from_its_own_page_and_keeps_what_is_its_own() {
    let mapping =
        json!({"create": false, "claims": {"groups": "groups"}, "group_map": {"it": "operators", "all": "staff"}});
    let (service, provider) = world(mapping).await;
    let (mut browser, id, csrf) = bob(&service).await;
    let mut claims = ann();
    claims["groups"] = json!(["it", "all"]);
    let done = connect(&service, &provider, &mut browser, &csrf, claims).await.expect(303);
    let page = browser.get(&service, done.location()).await.expect(200);
    assert!(page.body.contains("is connected with your account") && page.body.contains("ann@example.com · connected"));
    let user = service.admin(Method::GET, &format!("/users/{id}"), &json!({})).await.expect(200).json();
    assert_eq!(
        (&user["username"], &user["email"], &user["name"]),
        (&json!("bob"), &json!("ann@example.com"), &json!("Ann Example"))
    );
    assert_eq!((&user["groups"], &user["roles"]), (&json!(["staff", "operators"]), &json!(["buyer"])));

    let mut other = Browser::default();
    provider
        .sign_in(
            &service,
            &mut other,
            json!({"sub": "ann-there", "name": "Mallory", "email": "evil@example.com", "groups": []}),
        )
        .await
        .expect(303);
    assert!(
        other
            .get(&service, "/account")
            .await
            .expect(200)
            .body
            .contains("Signed in as <strong>bob</strong> (ann@example.com)")
    );
    let user = service.admin(Method::GET, &format!("/users/{id}"), &json!({})).await.expect(200).json();
    assert_eq!(user["groups"], json!(["staff"]), "theirs are gone, the administrator's stays");
    let shown = identities(&service, &id).await;
    assert_eq!((&shown[0]["sub"], &shown[0]["made_account"]), (&json!("ann-there"), &json!(false)));
}

#[tokio::test]
async fn nobody_else_can_have_an_account_connected() {
    let (service, provider) = world(json!({})).await;
    let (mut browser, id, csrf) = bob(&service).await;
    // Without the page's token, with another's, from another site.
    for form in [vec![("provider", "corp")], vec![("csrf", "x"), ("provider", "corp")]] {
        browser.post(&service, "/account/connections", &form).await.expect(400);
    }
    let form = crate::harness::encode(&[("csrf", &csrf), ("provider", "corp")]);
    let cross = [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")];
    browser.request_with(&service, Method::POST, "/account/connections", &cross, form).await.expect(400);
    browser.post(&service, "/account/connections", &[("csrf", &csrf), ("provider", "nobody")]).await.expect(404);
    // The attacker's answer, brought to the victim's browser; the victim's, brought to the attacker's.
    let mut attacker = Browser::default();
    provider.sign_in(&service, &mut attacker, json!({"sub": "attacker"})).await.expect(303);
    let theirs = attacker.get(&service, "/account/connections").await.expect(200).field("csrf").unwrap();
    attacker
        .post(&service, "/account/connections/remove", &[("csrf", &theirs), ("provider", "corp")])
        .await
        .expect(400);
    let away =
        attacker.post(&service, "/account/connections", &[("csrf", &theirs), ("provider", "corp")]).await.expect(303);
    let back = provider.authorize(&away, json!({"sub": "attacker 2"}));
    browser.get(&service, &back).await.expect(400);
    assert_eq!(identities(&service, &id).await, json!([]));
    // Signed out meanwhile, or somebody else signed in.
    let away =
        browser.post(&service, "/account/connections", &[("csrf", &csrf), ("provider", "corp")]).await.expect(303);
    let back = provider.authorize(&away, ann());
    let mut without = browser.clone();
    without.cookies.remove("__Host-cloakroom-sso");
    without.get(&service, &back).await.expect(400);
    assert_eq!(identities(&service, &id).await, json!([]));
}

#[tokio::test]
async fn connecting_wants_a_recent_sign_in_from_beginning_to_end() {
    let (service, provider) = world(json!({})).await;
    let (mut browser, id, csrf) = bob(&service).await;
    let away =
        browser.post(&service, "/account/connections", &[("csrf", &csrf), ("provider", "corp")]).await.expect(303);
    service.clock.pass(601);
    let back = provider.authorize(&away, ann());
    browser.get(&service, &back).await.expect(400);
    assert_eq!(identities(&service, &id).await, json!([]), "somebody else may sit at the screen by now");
    let again =
        browser.post(&service, "/account/connections", &[("csrf", &csrf), ("provider", "corp")]).await.expect(303);
    assert!(again.location().starts_with("/sign-in?flow="));
    let page = browser.sign_in(&service, &again, "bob", PASSWORD).await.expect(303);
    assert_eq!(page.location(), "/account/connections");
}

#[tokio::test]
async fn an_identity_belongs_to_one_account_and_an_account_has_one_of_a_provider() {
    let (service, provider) = world(json!({})).await;
    let mut owner = Browser::default();
    provider.sign_in(&service, &mut owner, ann()).await.expect(303);
    let (mut browser, id, csrf) = bob(&service).await;
    let refused = connect(&service, &provider, &mut browser, &csrf, ann()).await.expect(400);
    assert!(refused.body.contains("belongs to another account here"), "{}", refused.body);
    assert_eq!(identities(&service, &id).await, json!([]));
    connect(&service, &provider, &mut browser, &csrf, json!({"sub": "bob-there"})).await.expect(303);
    let refused = connect(&service, &provider, &mut browser, &csrf, json!({"sub": "bob-two"})).await.expect(400);
    assert!(refused.body.contains("connected with another sign-in"), "{}", refused.body);
    let mut two = Browser::default();
    provider.sign_in(&service, &mut two, json!({"sub": "bob-two", "preferred_username": "two"})).await.expect(303);
    assert!(two.get(&service, "/account").await.expect(200).body.contains("<strong>two</strong>"), "still free");
    assert_eq!(identities(&service, &id).await[0]["sub"], "bob-there");
}

#[tokio::test]
async fn the_last_way_to_sign_in_stays() {
    let (service, one, other) = two_providers().await;
    let mut browser = Browser::default();
    one.sign_in(&service, &mut browser, ann()).await.expect(303);
    let csrf = browser.get(&service, "/account/connections").await.expect(200).field("csrf").unwrap();
    let remove = |provider: &'static str, csrf: String| {
        [("csrf".to_owned(), csrf), ("provider".to_owned(), provider.to_owned())]
    };
    let send = async |browser: &mut Browser, provider: &'static str| {
        let form = remove(provider, csrf.clone());
        let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        browser.post(&service, "/account/connections/remove", &form).await
    };
    let refused = send(&mut browser, "corp").await.expect(400);
    assert!(refused.body.contains("only way left"), "{}", refused.body);
    let away =
        browser.post(&service, "/account/connections", &[("csrf", &csrf), ("provider", "other")]).await.expect(303);
    browser.get(&service, &other.authorize(&away, json!({"sub": "ann-too"}))).await.expect(303);
    send(&mut browser, "other").await.expect(303);
    send(&mut browser, "other").await.expect(400);
    send(&mut browser, "corp").await.expect(400);
    // With a password, the other way may go; whoever came by it elsewhere is signed out.
    let mut elsewhere = Browser::default();
    one.sign_in(&service, &mut elsewhere, ann()).await.expect(303);
    assert!(browser.get(&service, "/account").await.expect(200).body.contains("Set a password"));
    let better = "purple otters juggle lanterns";
    let form = [("csrf", csrf.as_str()), ("new_password", better), ("again", better)];
    browser.post(&service, "/account/password", &form).await.expect(303);
    one.sign_in(&service, &mut elsewhere, ann()).await.expect(303);
    let done = send(&mut browser, "corp").await.expect(303);
    assert!(
        browser
            .get(&service, done.location())
            .await
            .expect(200)
            .body
            .contains("not connected with your account any more")
    );
    elsewhere.get(&service, "/account").await.expect(303);
    browser.get(&service, "/account").await.expect(200);
}

#[tokio::test]
async fn both_of_two_ways_cannot_be_taken_off_at_once() {
    let (service, one, other) = two_providers().await;
    let mut browser = Browser::default();
    one.sign_in(&service, &mut browser, ann()).await.expect(303);
    let csrf = browser.get(&service, "/account/connections").await.expect(200).field("csrf").unwrap();
    let away =
        browser.post(&service, "/account/connections", &[("csrf", &csrf), ("provider", "other")]).await.expect(303);
    browser.get(&service, &other.authorize(&away, json!({"sub": "ann-too"}))).await.expect(303);
    let remove = async |provider: &'static str| {
        let form = [("csrf", csrf.as_str()), ("provider", provider)];
        browser.clone().post(&service, "/account/connections/remove", &form).await.status.as_u16()
    };
    let (first, second) = tokio::join!(remove("corp"), remove("other"));
    assert!(first == 303 || second == 303);
    assert_ne!((first, second), (303, 303));
}

#[tokio::test]
async fn an_administrator_sees_identities_and_takes_them_off() {
    let (service, provider) = world(json!({})).await;
    let mut browser = Browser::default();
    provider.sign_in(&service, &mut browser, ann()).await.expect(303);
    let users = service.admin(Method::GET, "/users", &json!({})).await.expect(200).json();
    let id = users["items"][0]["id"].as_str().unwrap();
    let shown = identities(&service, id).await;
    assert_eq!(
        (&shown[0]["provider"], &shown[0]["issuer"], &shown[0]["made_account"]),
        (&json!("corp"), &json!(provider.issuer), &json!(true))
    );
    assert_eq!(shown[0]["known_as"], "ann@example.com");
    service.admin(Method::DELETE, &format!("/users/{id}/identities/corp"), &json!({})).await.expect(204);
    service.admin(Method::DELETE, &format!("/users/{id}/identities/corp"), &json!({})).await.expect(404);
    service.admin(Method::DELETE, &format!("/users/{id}/identities/nobody"), &json!({})).await.expect(404);
    service.admin(Method::GET, "/users/nobody/identities", &json!({})).await.expect(404);
    browser.get(&service, "/account").await.expect(303);
    service.clock.pass(2);
    provider.sign_in(&service, &mut browser, ann()).await.expect(303);
    let users = service.admin(Method::GET, "/users", &json!({})).await.expect(200).json();
    assert_eq!(users["items"].as_array().unwrap().len(), 2, "a stranger again");
}
