//! The account page: passwords, trusted browsers, connected applications; and the link that sets a new password.

use http::Method;
use serde_json::json;

use crate::harness::{Answer, Browser, PASSWORD, Service};
use crate::oauth::{Bench, bench};

const SHOP: &str = "https://shop.example.com";
const BETTER: &str = "purple otters juggle lanterns";

async fn shop() -> (Service, String) {
    let service = Service::start().await;
    service.register_policy("shop/web", SHOP).await.expect(200);
    let id = service.create_user("ann").await;
    (service, id)
}

async fn change(service: &Service, browser: &mut Browser, new: &str, again: &str) -> Answer {
    let page = browser.get(service, "/account/password").await.expect(200);
    let csrf = page.field("csrf").unwrap();
    browser.post(service, "/account/password", &[("csrf", &csrf), ("new_password", new), ("again", again)]).await
}

#[tokio::test]
async fn a_new_password_must_be_good_and_ends_every_other_session() {
    let (service, _) = shop().await;
    let (mut here, mut there) = (Browser::default(), Browser::default());
    let own = service.sign_in_at(&mut here, "shop/web", SHOP, "ann").await;
    let other = service.sign_in_at(&mut there, "shop/web", SHOP, "ann").await;
    for (new, again, why) in [
        ("short", "short", "a password has 10"),
        ("password1234", "password1234", "too easy to guess"),
        ("annexample", "annexample", "too easy to guess"),
        (BETTER, "purple otters", "not the same"),
        ("", "", "a password has 10"),
    ] {
        let page = change(&service, &mut here, new, again).await.expect(422);
        assert!(page.body.contains(why), "{new}: {}", page.body);
        assert!(page.body.contains("role=\"alert\"") && !page.body.contains(&format!("value=\"{BETTER}")));
    }
    let done = change(&service, &mut here, BETTER, BETTER).await.expect(303);
    assert!(here.get(&service, done.location()).await.expect(200).body.contains("Your password has been changed"));
    assert_eq!(service.introspect(&own, "shop/web").await["active"], true);
    assert_eq!(service.introspect(&other, "shop/web").await["active"], false);
    let mut browser = Browser::default();
    let to_page = browser.get(&service, &service.push("shop/web", SHOP, &[]).await).await;
    browser.sign_in(&service, &to_page, "ann", PASSWORD).await.expect(422);
    browser.sign_in(&service, &to_page, "ann", BETTER).await.expect(303);
}

#[tokio::test]
async fn a_password_is_changed_only_after_a_recent_sign_in() {
    let (service, _) = shop().await;
    let mut browser = Browser::default();
    service.sign_in_at(&mut browser, "shop/web", SHOP, "ann").await;
    let csrf = browser.get(&service, "/account/password").await.expect(200).field("csrf").unwrap();
    service.clock.pass(601);
    let form = [("csrf", csrf.as_str()), ("new_password", BETTER), ("again", BETTER)];
    let to_page = browser.post(&service, "/account/password", &form).await.expect(303);
    let page = browser.get(&service, to_page.location()).await.expect(200);
    assert!(page.body.contains("value=\"ann\""), "who it is is known");
    let back = browser.sign_in(&service, &to_page, "ann", PASSWORD).await.expect(303);
    assert_eq!(back.location(), "/account/password");
    let form = [("new_password", BETTER), ("again", BETTER)];
    browser.post(&service, "/account/password", &form).await.expect(400);
}

#[tokio::test]
async fn an_application_is_listed_with_what_it_may_do_and_loses_it_when_it_is_disconnected() {
    let bench = bench().await;
    let client = json!({"client_id": "partner", "name": "Partner & Co", "public": true, "redirect_uris": ["https://partner.example/cb"],
        "grant_types": ["authorization_code", "refresh_token"], "scopes": ["openid", "email"], "audiences": ["shop/web"]});
    bench.service.admin(Method::POST, "/clients", &client).await.expect(201);
    let mut browser = Browser::default();
    let tokens = bench.redeem(&bench.code(&mut browser, &[]).await).await.expect(200).json();
    let request = [("client_id", "partner"), ("redirect_uri", "https://partner.example/cb"), ("scope", "openid email")];
    let to_consent = browser.get(&bench.service, &Bench::authorize(&request)).await.expect(303);
    let page = browser.get(&bench.service, to_consent.location()).await.expect(200);
    let (flow, csrf) = (page.field("flow").unwrap(), page.field("csrf").unwrap());
    let allow = [("flow", flow.as_str()), ("csrf", csrf.as_str()), ("decision", "allow")];
    browser.post(&bench.service, "/consent", &allow).await.expect(303);

    let page = browser.get(&bench.service, "/account").await.expect(200);
    for text in ["Partner &#38; Co", "See your email address", "not connected now", "The App"] {
        assert!(page.body.contains(text), "{text}: {}", page.body);
    }
    let csrf = page.field("csrf").unwrap();
    for client in ["partner", "app", "nobody"] {
        let form = [("csrf", csrf.as_str()), ("client", client)];
        browser.post(&bench.service, "/account/applications/disconnect", &form).await.expect(303);
    }
    let access = tokens["access_token"].as_str().unwrap();
    assert_eq!(bench.service.introspect(access, "shop/web").await, json!({"active": false}));
    bench.refresh(tokens["refresh_token"].as_str().unwrap()).await.expect(400);
    let page = browser.get(&bench.service, "/account?done=disconnected&gateways=2&confirmed=2").await.expect(200);
    assert!(!page.body.contains("Partner") && page.body.contains("All 2 gateways"), "{}", page.body);
    let again = browser.get(&bench.service, &Bench::authorize(&request)).await.expect(303);
    assert!(again.location().starts_with("/consent"), "asked again");
}

#[tokio::test]
async fn nobody_disconnects_somebody_elses_application() {
    let bench = bench().await;
    bench.service.create_user("mallory").await;
    let tokens = bench.redeem(&bench.code(&mut Browser::default(), &[]).await).await.expect(200).json();
    let mut mallory = Browser::default();
    bench.service.sign_in_at(&mut mallory, "shop/web", SHOP, "mallory").await;
    let csrf = mallory.get(&bench.service, "/account").await.field("csrf").unwrap();
    let form = [("csrf", csrf.as_str()), ("client", "app")];
    mallory.post(&bench.service, "/account/applications/disconnect", &form).await.expect(303);
    mallory.post(&bench.service, "/account/applications/disconnect", &[("client", "app")]).await.expect(400);
    let access = tokens["access_token"].as_str().unwrap();
    assert_eq!(bench.service.introspect(access, "shop/web").await["active"], true);
}

async fn link(service: &Service, id: &str) -> String {
    let answer = service.admin(Method::POST, &format!("/users/{id}/password-reset"), &json!({})).await;
    let answer = answer.expect(201).json();
    assert_eq!(answer["expires_in"], 3600);
    let url = answer["url"].as_str().unwrap().to_owned();
    url.strip_prefix("http://localhost:8001").unwrap().to_owned()
}

/// Opens a link; the answer is the page with the form.
async fn open(service: &Service, browser: &mut Browser, link: &str) -> Answer {
    let moved = browser.get(service, link).await.expect(303);
    assert_eq!(moved.header("referrer-policy"), "no-referrer");
    assert!(!moved.location().contains("token"), "the secret has left the address: {}", moved.location());
    browser.get(service, moved.location()).await.expect(200)
}

async fn choose(service: &Service, browser: &mut Browser, page: &Answer, password: &str) -> Answer {
    let (flow, csrf) = (page.field("flow").unwrap(), page.field("csrf").unwrap());
    let form = [("flow", flow.as_str()), ("csrf", &csrf), ("new_password", password), ("again", password)];
    browser.post(service, "/reset-password", &form).await
}

#[tokio::test]
async fn a_link_sets_a_password_once_and_signs_out_whoever_had_the_old_one() {
    let (service, id) = shop().await;
    let token = service.sign_in_at(&mut Browser::default(), "shop/web", SHOP, "ann").await;
    let link = link(&service, &id).await;
    assert_eq!(service.introspect(&token, "shop/web").await["active"], true, "nothing has happened yet");
    let (mut preview, mut browser) = (Browser::default(), Browser::default());
    let seen = open(&service, &mut preview, &link).await;
    let page = open(&service, &mut browser, &link).await;
    choose(&service, &mut browser, &page, "password1234").await.expect(422);
    let done = choose(&service, &mut browser, &page, BETTER).await.expect(303);
    assert_eq!(done.location(), "/sign-in?done=password-reset");
    let to_page = browser.get(&service, done.location()).await.expect(303);
    assert!(browser.get(&service, to_page.location()).await.expect(200).body.contains("Your password has been set"));
    assert_eq!(service.introspect(&token, "shop/web").await["active"], false);
    choose(&service, &mut browser, &page, "another good long one").await.expect(400);
    choose(&service, &mut preview, &seen, "another good long one").await.expect(400);
    Browser::default().get(&service, &link).await.expect(400);
    let mut browser = Browser::default();
    let to_page = browser.get(&service, &service.push("shop/web", SHOP, &[]).await).await;
    browser.sign_in(&service, &to_page, "ann", BETTER).await.expect(303);
}

#[tokio::test]
async fn a_link_ends_with_its_time_its_successor_and_any_change_of_the_account() {
    let (service, id) = shop().await;
    let first = link(&service, &id).await;
    let second = link(&service, &id).await;
    Browser::default().get(&service, &first).await.expect(400);
    let mut browser = Browser::default();
    let page = open(&service, &mut browser, &second).await;
    service.clock.pass(3601);
    choose(&service, &mut browser, &page, BETTER).await.expect(400);
    let third = link(&service, &id).await;
    let path = format!("/users/{id}/password");
    service.admin(Method::PUT, &path, &json!({"password": "set by the administrator"})).await.expect(204);
    let moved = browser.get(&service, &third).await.expect(303);
    browser.get(&service, moved.location()).await.expect(400);
    for made_up in ["", "x", &format!("{id}{}", "A".repeat(43)), &format!("{}{}", "B".repeat(22), "A".repeat(43))] {
        browser.get(&service, &format!("/reset-password?token={made_up}")).await.expect(400);
    }
    let disabled = json!({"disabled": true});
    service.admin(Method::PATCH, &format!("/users/{id}"), &disabled).await.expect(200);
    service.admin(Method::POST, &format!("/users/{id}/password-reset"), &json!({})).await.expect(409);
}

#[tokio::test]
async fn a_link_does_not_stand_in_for_the_second_factor() {
    let (service, id) = shop().await;
    let mut browser = Browser::default();
    service.sign_in_at(&mut browser, "shop/web", SHOP, "ann").await;
    crate::factors::Authenticator::enrol(&service, &mut browser).await;
    let link = link(&service, &id).await;
    let mut thief = Browser::default();
    let page = open(&service, &mut thief, &link).await;
    choose(&service, &mut thief, &page, BETTER).await.expect(303);
    let to_page = thief.get(&service, &service.push("shop/web", SHOP, &[]).await).await;
    let next = thief.sign_in(&service, &to_page, "ann", BETTER).await.expect(303);
    assert!(next.location().starts_with("/second-factor"));

    let factors = format!("/users/{id}/factors");
    let shown = service.admin(Method::GET, &factors, &json!({})).await.expect(200).json();
    assert_eq!((&shown["totp"], &shown["recovery_codes"]), (&json!(true), &json!(10)));
    service.admin(Method::DELETE, &factors, &json!({})).await.expect(204);
    let to_page = thief.get(&service, &service.push("shop/web", SHOP, &[]).await).await;
    let back = thief.sign_in(&service, &to_page, "ann", BETTER).await.expect(303);
    assert!(back.location_parameter("code").is_some(), "an administrator has taken it away");
}

#[tokio::test]
async fn a_receipt_in_a_link_is_numbers_and_nothing_else() {
    let (service, _) = shop().await;
    let mut browser = Browser::default();
    let page = browser.get(&service, "/signed-out?gateways=3&confirmed=2").await.expect(200);
    assert!(page.body.contains("2 of 3 gateways"));
    browser.get(&service, "/signed-out?gateways=%3Cb%3E&confirmed=2").await.expect(400);
    service.sign_in_at(&mut browser, "shop/web", SHOP, "ann").await;
    let page = browser.get(&service, "/account?done=%3Cscript%3E").await.expect(200);
    assert!(!page.body.contains("script>") && !page.body.contains("role=\"status\""));
}
