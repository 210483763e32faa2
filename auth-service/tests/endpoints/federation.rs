//! People sign in with another OpenID provider, and go on as after a password.

use cloakroom_auth_service::clock::Clock;
use http::Method;
use serde_json::{Value, json};

use crate::factors::Authenticator;
use crate::harness::{Browser, Service, TestClock, verify};
use crate::oauth::{Bench, CALLBACK, bench_with};
use crate::provider::Provider;

pub(crate) const SHOP: &str = "https://shop.example.com";

/// A shop, and a provider that people may sign in with.
pub(crate) async fn world(change: Value) -> (Service, Provider) {
    let provider = Provider::start("corp", Clock::system()).await;
    let settings = provider.settings(change);
    let service = Service::start_as(|config| config["providers"] = json!([settings]), None).await;
    service.register_policy("shop/web", SHOP).await.expect(200);
    let provider = provider.with_clock(service.clock.clock());
    (service, provider)
}

pub(crate) fn ann() -> Value {
    json!({"sub": "ann-there", "sid": "s1", "preferred_username": "ann", "name": "Ann Example", "email": "ann@example.com", "email_verified": true})
}

/// From a sidecar's push through the provider to a session token.
pub(crate) async fn sign_in_at_shop(
    service: &Service,
    provider: &Provider,
    browser: &mut Browser,
    claims: Value,
) -> String {
    let to_page = browser.get(service, &service.push("shop/web", SHOP, &[]).await).await.expect(303);
    let page = browser.get(service, to_page.location()).await.expect(200);
    let away = provider.go(service, browser, &page).await;
    let back = browser.get(service, &provider.authorize(&away, claims)).await.expect(303);
    let code = back.location_parameter("code").unwrap_or_else(|| panic!("{}", back.location()));
    let answer = service.exchange("shop/web", SHOP, &code).await.expect(200).json();
    answer["session_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_person_signs_in_with_the_provider_and_the_app_learns_what_it_says() {
    let mapping = json!({"claims": {"groups": "groups", "roles": "realm_access.roles"},
        "group_map": {"/staff": "staff"}, "role_map": {"buyer": "buyer"}});
    let (service, provider) = world(mapping).await;
    let mut browser = Browser::default();
    let mut claims = ann();
    claims["groups"] = json!(["/staff", "admins"]);
    claims["realm_access"] = json!({"roles": ["buyer", "owner"]});
    let token = sign_in_at_shop(&service, &provider, &mut browser, claims).await;
    let active = service.introspect(&token, "shop/web").await;
    assert_eq!((active["active"].as_bool(), active["username"].as_str()), (Some(true), Some("ann")));
    let jwt = verify(&service, active["jwt"].as_str().unwrap(), "shop/web").await;
    assert_eq!((&jwt["amr"], &jwt["acr"], &jwt["email"]), (&json!(["fed"]), &json!("pwd"), &json!("ann@example.com")));
    assert_eq!((&jwt["groups"], &jwt["roles"]), (&json!(["staff"]), &json!(["buyer"])), "only what is mapped");

    let again = sign_in_at_shop(&service, &provider, &mut Browser::default(), ann()).await;
    let second = service.introspect(&again, "shop/web").await;
    assert_eq!(second["sub"], active["sub"], "the same subject is the same account");
    let jwt = verify(&service, second["jwt"].as_str().unwrap(), "shop/web").await;
    assert_eq!((jwt.get("groups"), jwt.get("roles")), (None, None), "taken back there, taken back here");
    let first =
        verify(&service, service.introspect(&token, "shop/web").await["jwt"].as_str().unwrap(), "shop/web").await;
    assert_eq!(first.get("groups"), None, "in the older session, too");
}

#[tokio::test]
async fn the_session_id_changes_and_the_one_before_ends() {
    let (service, provider) = world(json!({})).await;
    service.create_user("bob").await;
    let mut browser = Browser::default();
    let of_bob = service.sign_in_at(&mut browser, "shop/web", SHOP, "bob").await;
    let before = browser.cookies.clone();
    let url = service.push("shop/web", SHOP, &[("max_age", "0")]).await;
    let to_page = browser.get(&service, &url).await.expect(303);
    let page = browser.get(&service, to_page.location()).await.expect(200);
    let away = provider.go(&service, &mut browser, &page).await;
    assert_eq!(away.location_parameter("max_age").as_deref(), Some("0"), "who asks for a new sign-in gets one");
    browser.get(&service, &provider.authorize(&away, ann())).await.expect(303);
    for name in ["__Host-cloakroom-sso", "__Host-cloakroom-browser"] {
        assert_ne!(before[name], browser.cookies[name], "{name}");
    }
    assert_eq!(service.introspect(&of_bob, "shop/web").await["active"], false);
}

#[tokio::test]
async fn what_the_id_token_leaves_out_comes_from_userinfo_of_the_same_subject() {
    let (service, provider) = world(json!({})).await;
    provider.userinfo(
        json!({"sub": "eve-there", "preferred_username": "eve", "email": "eve@example.com", "email_verified": true}),
    );
    let mut browser = Browser::default();
    provider.sign_in(&service, &mut browser, json!({"sub": "eve-there"})).await.expect(303);
    assert!(
        browser.get(&service, "/account").await.expect(200).body.contains("<strong>eve</strong> (eve@example.com)")
    );
    provider.userinfo(json!({"sub": "ann-there", "preferred_username": "ann"}));
    let refused = provider.sign_in(&service, &mut Browser::default(), json!({"sub": "mallory"})).await.expect(400);
    assert!(refused.body.contains("could not be verified"), "{}", refused.body);
}

#[tokio::test]
async fn how_recent_the_sign_in_was_is_the_providers_word_and_never_the_future() {
    let (service, provider) = world(json!({})).await;
    let now = service.now();
    for (auth_time, expected) in [(now - 500, now - 500), (now + 9000, now)] {
        let mut claims = ann();
        claims["auth_time"] = json!(auth_time);
        let token = sign_in_at_shop(&service, &provider, &mut Browser::default(), claims).await;
        let jwt = service.introspect(&token, "shop/web").await["jwt"].as_str().unwrap().to_owned();
        let said = verify(&service, &jwt, "shop/web").await["auth_time"].as_u64().unwrap();
        assert!((expected..expected + 20).contains(&said), "{said} {expected}");
    }
    // A policy of 12 hours must not get a session that has ended already: the provider is asked, and what it says is checked.
    let mut browser = Browser::default();
    for (asked, auth_time, status) in [
        (None, Some(now - 50_000), 400),
        (Some("300"), Some(now - 400), 400),
        (Some("300"), None, 400),
        (Some("300"), Some(now - 100), 303),
    ] {
        let extra: Vec<(&str, &str)> = asked.map(|seconds| ("max_age", seconds)).into_iter().collect();
        let to_page = browser.get(&service, &service.push("shop/web", SHOP, &extra).await).await.expect(303);
        let page = browser.get(&service, to_page.location()).await.expect(200);
        let away = provider.go(&service, &mut browser, &page).await;
        assert_eq!(away.location_parameter("max_age").as_deref(), Some(asked.unwrap_or("43200")));
        provider.edit(move |claims| match auth_time {
            Some(time) => claims["auth_time"] = json!(time),
            None => drop(claims.as_object_mut().unwrap().remove("auth_time")),
        });
        let back = provider.authorize(&away, ann());
        browser.get(&service, &back).await.expect(status);
    }
}

#[tokio::test]
async fn our_second_factor_is_asked_for_unless_theirs_is_trusted() {
    for (trusted, amr, asked_for) in
        [(false, json!(["mfa"]), true), (true, json!(["pwd"]), true), (true, json!(["pwd", "mfa"]), false)]
    {
        let (service, provider) = world(json!({"trust_factors": trusted})).await;
        let mut browser = Browser::default();
        let url = service.push("shop/web", SHOP, &[("acr_values", "mfa")]).await;
        let to_page = browser.get(&service, &url).await.expect(303);
        let page = browser.get(&service, to_page.location()).await.expect(200);
        let away = provider.go(&service, &mut browser, &page).await;
        assert_eq!(away.location_parameter("acr_values").is_some(), trusted);
        let mut claims = ann();
        claims["amr"] = amr.clone();
        let next = browser.get(&service, &provider.authorize(&away, claims)).await.expect(303);
        assert_eq!(next.location().starts_with("/second-factor"), asked_for, "{trusted} {amr} {}", next.location());
        if !asked_for {
            let code = next.location_parameter("code").unwrap();
            let token = service.exchange("shop/web", SHOP, &code).await.expect(200).json()["session_token"].clone();
            let active = service.introspect(token.as_str().unwrap(), "shop/web").await;
            let jwt = verify(&service, active["jwt"].as_str().unwrap(), "shop/web").await;
            assert_eq!((&jwt["acr"], &jwt["amr"]), (&json!("mfa"), &json!(["fed", "fed-mfa", "mfa"])));
        }
    }
}

#[tokio::test]
async fn whoever_has_an_authenticator_is_asked_for_it_after_the_provider() {
    let (service, provider) = world(json!({})).await;
    let mut browser = Browser::default();
    provider.sign_in(&service, &mut browser, ann()).await.expect(303);
    let authenticator = Authenticator::enrol(&service, &mut browser).await;
    service.clock.pass(60);
    let mut other = Browser::default();
    let next = provider.sign_in(&service, &mut other, ann()).await.expect(303);
    let page = other.get(&service, next.location()).await.expect(200);
    let (flow, csrf, code) = (page.field("flow").unwrap(), page.field("csrf").unwrap(), authenticator.code(&service));
    let form = [("flow", flow.as_str()), ("csrf", &csrf), ("code", &code)];
    assert_eq!(other.post(&service, "/second-factor", &form).await.expect(303).location(), "/account");
    assert!(other.get(&service, "/account").await.expect(200).body.contains("with two factors"));
}

#[tokio::test]
async fn a_clients_request_goes_on_afterwards_as_after_a_password() {
    let provider = Provider::start("corp", Clock::system()).await;
    let settings = provider.settings(json!({}));
    let bench = bench_with(|config| config["providers"] = json!([settings])).await;
    let mut browser = Browser::default();
    let to_page =
        browser.get(&bench.service, &Bench::authorize(&[("login_hint", "ann@there"), ("prompt", "login")])).await;
    let page = browser.get(&bench.service, to_page.expect(303).location()).await.expect(200);
    let away = provider.go(&bench.service, &mut browser, &page).await;
    assert_eq!(away.location_parameter("login_hint").as_deref(), Some("ann@there"));
    assert_eq!(away.location_parameter("prompt").as_deref(), Some("login"));
    let back = browser.get(&bench.service, &provider.authorize(&away, ann())).await.expect(303);
    assert!(back.location().starts_with(CALLBACK) && back.location_parameter("state").as_deref() == Some("s1"));
    let tokens = bench.redeem(&back.location_parameter("code").unwrap()).await.expect(200).json();
    let claims = verify(&bench.service, tokens["id_token"].as_str().unwrap(), "app").await;
    assert_eq!((&claims["email"], &claims["nonce"]), (&json!("ann@example.com"), &json!("n1")));
}

#[tokio::test]
async fn whoever_says_no_there_can_choose_another_way_here() {
    let (service, provider) = world(json!({})).await;
    service.create_user("bob").await;
    let mut browser = Browser::default();
    let to_page = browser.get(&service, &service.push("shop/web", SHOP, &[]).await).await.expect(303);
    let page = browser.get(&service, to_page.location()).await.expect(200);
    let away = provider.go(&service, &mut browser, &page).await;
    let state = away.location_parameter("state").unwrap();
    let said_no = format!(
        "/sign-in/from/corp?error=access_denied&error_description=%3Cb%3Eno&state={state}&iss={}",
        provider.issuer
    );
    let to_page = browser.get(&service, &said_no).await.expect(303);
    let page = browser.get(&service, to_page.location()).await.expect(200);
    assert!(page.body.contains("You did not sign in there") && !page.body.contains("<b>"));
    let back = browser.sign_in(&service, &to_page, "bob", crate::harness::PASSWORD).await.expect(303);
    assert!(back.location().starts_with(SHOP), "the flow is the same one: {}", back.location());
}

#[tokio::test]
async fn a_provider_that_is_down_stops_nothing_else_and_is_asked_again_soon() {
    let (service, provider) = world(json!({})).await;
    service.create_user("bob").await;
    provider.down(true);
    let mut browser = Browser::default();
    let to_page = browser.get(&service, "/account").await.expect(303);
    let page = browser.get(&service, to_page.location()).await.expect(200);
    for _ in 0..3 {
        let answer = provider.go(&service, &mut browser, &page).await.expect(503);
        assert!(answer.body.contains("Example Corp cannot be reached") && answer.header("retry-after") == "2");
    }
    assert_eq!(provider.discoveries(), 1, "people who try again do not make us ask all the time");
    browser.sign_in(&service, &to_page, "bob", crate::harness::PASSWORD).await.expect(303);
    provider.down(false);
    service.clock.pass(11);
    let mut other = Browser::default();
    provider.sign_in(&service, &mut other, ann()).await.expect(303);
    // What is known is used on while it is away.
    provider.down(true);
    service.clock.pass(301);
    let to_page = Browser::default().get(&service, "/account").await.expect(303);
    assert!(to_page.location().starts_with("/sign-in"));
    let mut third = Browser::default();
    let to_page = third.get(&service, "/account").await.expect(303);
    let page = third.get(&service, to_page.location()).await.expect(200);
    let away = provider.go(&service, &mut third, &page).await.expect(303);
    third.get(&service, &provider.authorize(&away, ann())).await.expect(503);
}

#[tokio::test]
async fn what_a_provider_sends_is_bounded_and_an_unusable_one_is_refused() {
    let (service, provider) = world(json!({})).await;
    let mut browser = Browser::default();
    let to_page = browser.get(&service, "/account").await.expect(303);
    let page = browser.get(&service, to_page.location()).await.expect(200);
    provider.huge(true);
    provider.go(&service, &mut browser, &page).await.expect(503);
    for (field, value) in [
        ("issuer", "https://other.example.com"),
        ("authorization_endpoint", "javascript:alert(1)"),
        ("token_endpoint", "http://192.0.2.1/token"),
        ("userinfo_endpoint", "http://169.254.169.254/latest"),
        ("jwks_uri", "http://192.0.2.1/jwks"),
        ("jwks_uri", "file:///etc/passwd"),
    ] {
        provider.behave();
        provider.metadata(move |document| document[field] = json!(value));
        service.clock.pass(11);
        let answer = provider.go(&service, &mut browser, &page).await;
        assert!(answer.status == 400 || answer.status == 503, "{field} {value}: {}", answer.status);
        assert!(answer.location().is_empty());
    }
    provider.behave();
    service.clock.pass(11);
    let away = provider.go(&service, &mut browser, &page).await.expect(303);
    provider.huge(true);
    let back = provider.authorize(&away, ann());
    browser.get(&service, &back).await.expect(503);
}

#[tokio::test]
async fn the_buttons_are_links_that_a_screen_reader_can_name_and_the_page_loads_nothing() {
    let (service, provider) = world(json!({"name": "Corp & <b>Co</b>"})).await;
    let mut browser = Browser::default();
    let to_page = browser.get(&service, "/account").await.expect(303);
    let page = browser.get(&service, to_page.location()).await.expect(200);
    assert!(page.body.contains("Continue with Corp &#38; &#60;b&#62;Co&#60;/b&#62;</a>"), "{}", page.body);
    assert!(page.header("content-security-policy").contains("form-action 'self';"));
    assert_eq!(provider.discoveries(), 0, "nobody is asked before somebody wants to sign in");
    browser.get(&service, "/sign-in/with/nobody?flow=x").await.expect(404);
    browser.get(&service, "/sign-in/from/nobody?state=x").await.expect(404);
    service
        .send(Method::POST, &service.public("/sign-in/from/nobody/backchannel-logout"), &[], "x=y")
        .await
        .expect(404);
}

/// Two providers, told apart by where they send people back.
pub(crate) async fn two_providers() -> (Service, Provider, Provider) {
    let clock = TestClock::new();
    let (one, other) = (Provider::start("corp", clock.clock()).await, Provider::start("other", clock.clock()).await);
    let settings = json!([one.settings(json!({})), other.settings(json!({"name": "Other"}))]);
    let service = Service::start_as(|config| config["providers"] = settings, None).await;
    (service, one, other)
}
