//! The second factor: set up, asked for, used once, guessed at, lost.

use std::sync::Arc;

use cloakroom_auth_service::store::Store;
use cloakroom_auth_service::store::memory::MemoryStore;
use cloakroom_auth_service::totp;
use http::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Browser, PASSWORD, Service, TestClock, verify};
use crate::oauth::{Bench, bench};

const SHOP: &str = "https://shop.example.com";

/// An authenticator app.
pub(crate) struct Authenticator {
    seed: Vec<u8>,
    pub(crate) recovery_codes: Vec<String>,
}

impl Authenticator {
    /// From a page that shows the key.
    pub(crate) fn scan(page: &Answer) -> Self {
        let (_, rest) = page.body.split_once("<code class=\"key\">").expect(&page.body);
        let key: String = rest.split_once('<').unwrap().0.split(' ').collect();
        Self { seed: decode_base32(&key), recovery_codes: Vec::new() }
    }

    pub(crate) fn code(&self, service: &Service) -> String {
        totp::code(&self.seed, service.now())
    }

    pub(crate) fn write_down(&mut self, page: &Answer) {
        let codes = page.body.split("<li><code>").skip(1).map(|rest| rest.split_once('<').unwrap().0.to_owned());
        self.recovery_codes = codes.collect();
    }

    /// Set up on the account page by a browser that has just signed in. Time passes, so that the next code is another one.
    pub(crate) async fn enrol(service: &Service, browser: &mut Browser) -> Self {
        let page = browser.get(service, "/account/authenticator").await.expect(200);
        let mut app = Self::scan(&page);
        let done = app.confirm(service, browser, &page, "/account/authenticator").await.expect(200);
        app.write_down(&done);
        service.clock.pass(60);
        app
    }

    pub(crate) async fn confirm(
        &self,
        service: &Service,
        browser: &mut Browser,
        page: &Answer,
        action: &str,
    ) -> Answer {
        let (flow, csrf, offer) = (page.field("flow"), page.field("csrf").unwrap(), page.field("offer").unwrap());
        let code = self.code(service);
        let mut form = vec![("csrf", csrf.as_str()), ("offer", &offer), ("code", &code)];
        form.extend(flow.as_deref().map(|flow| ("flow", flow)));
        browser.post(service, action, &form).await
    }
}

fn decode_base32(text: &str) -> Vec<u8> {
    let (mut bytes, mut held, mut bits) = (Vec::new(), 0u32, 0);
    for character in text.bytes() {
        let value = if character.is_ascii_uppercase() { character - b'A' } else { character - b'2' + 26 };
        held = held << 5 | u32::from(value);
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(held >> bits & 0xff).unwrap());
        }
    }
    bytes
}

/// From a redirect to the page of the second factor: opens it and sends fields.
async fn send(service: &Service, browser: &mut Browser, to_page: &Answer, fields: &[(&str, &str)]) -> Answer {
    assert!(to_page.location().starts_with("/second-factor?flow="), "{} {}", to_page.location(), to_page.body);
    let page = browser.get(service, to_page.location()).await.expect(200);
    let (flow, csrf) = (page.field("flow").unwrap(), page.field("csrf").unwrap());
    let form = [&[("flow", flow.as_str()), ("csrf", csrf.as_str())], fields].concat();
    browser.post(service, "/second-factor", &form).await
}

async fn shop() -> Service {
    let service = Service::start().await;
    service.register_policy("shop/web", SHOP).await.expect(200);
    service.create_user("ann").await;
    service
}

/// A service with a user who has an authenticator app.
async fn enrolled() -> (Service, Authenticator) {
    let service = shop().await;
    let app = enrol_at(&service).await;
    (service, app)
}

async fn enrol_at(service: &Service) -> Authenticator {
    let mut browser = Browser::default();
    service.sign_in_at(&mut browser, "shop/web", SHOP, "ann").await;
    Authenticator::enrol(service, &mut browser).await
}

/// Up to the page of the second factor.
async fn with_password(service: &Service, browser: &mut Browser, extra: &[(&str, &str)]) -> Answer {
    let to_page = browser.get(service, &service.push("shop/web", SHOP, extra).await).await.expect(303);
    browser.sign_in(service, &to_page, "ann", PASSWORD).await.expect(303)
}

/// The claims of the session that a code becomes.
async fn claims(service: &Service, back: &Answer) -> Value {
    let code = back.location_parameter("code").unwrap_or_else(|| panic!("{} {}", back.location(), back.body));
    let answer = service.exchange("shop/web", SHOP, &code).await.expect(200).json();
    let active = service.introspect(answer["session_token"].as_str().unwrap(), "shop/web").await;
    verify(service, active["jwt"].as_str().unwrap(), "shop/web").await
}

#[tokio::test]
async fn whoever_has_a_second_factor_is_asked_for_it_and_the_token_says_so() {
    let (service, app) = enrolled().await;
    let mut browser = Browser::default();
    let to_code = with_password(&service, &mut browser, &[]).await;
    assert!(!browser.cookies.contains_key("__Host-cloakroom-sso"), "the password alone signs nobody in");
    assert!(browser.get(&service, "/account").await.location().starts_with("/sign-in"));
    let code = app.code(&service);
    let back = send(&service, &mut browser, &to_code, &[("code", &code)]).await.expect(303);
    let claims = claims(&service, &back).await;
    assert_eq!((&claims["acr"], &claims["amr"]), (&json!("mfa"), &json!(["pwd", "otp", "mfa"])));
}

#[tokio::test]
async fn each_code_works_once_at_any_replica() {
    let clock = TestClock::new();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(clock.clock()));
    let key = std::env::temp_dir().join(format!("cloakroom-test-key-{}", std::process::id()));
    std::fs::write(&key, [5; 32]).unwrap();
    let with_key = |config: &mut Value| config["signing"] = json!({"encryption_key_files": [key]});
    let one = Service::replica(with_key, Arc::clone(&store), clock.clone(), 1).await;
    one.running.ready().await;
    let other = Service::replica(with_key, store, clock, 2).await;
    other.running.ready().await;
    one.register_policy("shop/web", SHOP).await.expect(200);
    one.create_user("ann").await;
    let app = enrol_at(&one).await;
    // The registration reaches the other replica by an event.
    let (mut first, mut second) = (Browser::default(), Browser::default());
    let first_page = with_password(&one, &mut first, &[]).await;
    let second_page = with_password(&one, &mut second, &[]).await;
    let code = app.code(&one);
    let fields = [("code", code.as_str())];
    let (a, b) =
        tokio::join!(send(&one, &mut first, &first_page, &fields), send(&other, &mut second, &second_page, &fields),);
    let mut statuses = [a.status.as_u16(), b.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [303, 422], "{} {}", a.body, b.body);
    let mut third = Browser::default();
    let page = with_password(&one, &mut third, &[]).await;
    send(&other, &mut third, &page, &fields).await.expect(422);
    one.clock.pass(30);
    let code = app.code(&one);
    send(&one, &mut third, &page, &[("code", &code)]).await.expect(303);
    std::fs::remove_file(&key).unwrap();
}

#[tokio::test]
async fn the_code_that_confirmed_the_app_signs_nobody_in() {
    let service = shop().await;
    let mut browser = Browser::default();
    service.sign_in_at(&mut browser, "shop/web", SHOP, "ann").await;
    let page = browser.get(&service, "/account/authenticator").await.expect(200);
    let app = Authenticator::scan(&page);
    let code = app.code(&service);
    app.confirm(&service, &mut browser, &page, "/account/authenticator").await.expect(200);
    let mut thief = Browser::default();
    let to_code = with_password(&service, &mut thief, &[]).await;
    send(&service, &mut thief, &to_code, &[("code", &code)]).await.expect(422);
}

#[tokio::test]
async fn a_code_counts_for_one_step_before_and_after_and_a_wrong_one_never() {
    let (service, app) = enrolled().await;
    for (offset, status) in [(60, 422), (30, 303)] {
        let mut browser = Browser::default();
        let to_code = with_password(&service, &mut browser, &[]).await;
        let code = totp::code(&app.seed, service.now() - offset);
        send(&service, &mut browser, &to_code, &[("code", &code)]).await.expect(status);
    }
    let mut browser = Browser::default();
    let to_code = with_password(&service, &mut browser, &[]).await;
    for wrong in ["", "12345", "abcdef", "000000000"] {
        let page = send(&service, &mut browser, &to_code, &[("code", wrong)]).await.expect(422);
        assert!(page.body.contains("aria-describedby=\"problem\""), "and the page says so to everybody");
    }
}

#[tokio::test]
async fn a_recovery_code_works_once_and_new_ones_replace_them_all() {
    let (service, app) = enrolled().await;
    let code = app.recovery_codes[3].as_str();
    assert_eq!((app.recovery_codes.len(), code.len()), (10, 19));
    let mut browser = Browser::default();
    let to_code = with_password(&service, &mut browser, &[]).await;
    let typed = code.replace('-', " ").to_uppercase();
    let back = send(&service, &mut browser, &to_code, &[("recovery_code", &typed)]).await.expect(303);
    let claims = claims(&service, &back).await;
    assert_eq!((&claims["acr"], &claims["amr"]), (&json!("mfa"), &json!(["pwd", "recovery", "mfa"])));

    let mut again = Browser::default();
    let to_code = with_password(&service, &mut again, &[]).await;
    send(&service, &mut again, &to_code, &[("recovery_code", code)]).await.expect(422);

    let page = browser.get(&service, "/account/recovery-codes").await.expect(200);
    assert!(page.body.contains("You have 9 left"), "{}", page.body);
    let csrf = page.field("csrf").unwrap();
    let new = browser.post(&service, "/account/recovery-codes", &[("csrf", &csrf)]).await.expect(200);
    let mut next = Authenticator { seed: Vec::new(), recovery_codes: Vec::new() };
    next.write_down(&new);
    send(&service, &mut again, &to_code, &[("recovery_code", &app.recovery_codes[4])]).await.expect(422);
    send(&service, &mut again, &to_code, &[("recovery_code", &next.recovery_codes[4])]).await.expect(303);
}

#[tokio::test]
async fn guessing_ends_soon_and_does_not_lock_the_owner_out() {
    let service = Service::start_as(|config| config["limits"] = json!({"codes_per_account": 5}), None).await;
    service.register_policy("shop/web", SHOP).await.expect(200);
    service.create_user("ann").await;
    let mut owner = Browser::default();
    service.sign_in_at(&mut owner, "shop/web", SHOP, "ann").await;
    let app = Authenticator::enrol(&service, &mut owner).await;
    let known = owner.cookies["__Host-cloakroom-known"].clone();

    let mut thief = Browser::default();
    let to_code = with_password(&service, &mut thief, &[]).await;
    for _ in 0..5 {
        send(&service, &mut thief, &to_code, &[("code", "000000")]).await.expect(422);
    }
    let code = app.code(&service);
    let refused = send(&service, &mut thief, &to_code, &[("code", &code)]).await.expect(429);
    assert_eq!(refused.header("retry-after"), "300", "even the right one");
    let mut elsewhere = Browser::default();
    let page = with_password(&service, &mut elsewhere, &[]).await;
    send(&service, &mut elsewhere, &page, &[("code", &code)]).await.expect(429);
    service.clock.pass(1200);
    let code = app.code(&service);
    send(&service, &mut thief, &to_code, &[("code", &code)]).await.expect(429);

    let mut owner = Browser::default();
    owner.cookies.insert("__Host-cloakroom-known".to_owned(), known);
    let page = with_password(&service, &mut owner, &[]).await;
    send(&service, &mut owner, &page, &[("code", &app.code(&service))]).await.expect(303);

    let mut elsewhere = Browser::default();
    let page = with_password(&service, &mut elsewhere, &[]).await;
    send(&service, &mut elsewhere, &page, &[("recovery_code", &app.recovery_codes[0])]).await.expect(303);
}

#[tokio::test]
async fn nobody_makes_a_browser_known_to_somebody_else() {
    let service = Service::start_as(|config| config["limits"] = json!({"codes_per_account": 2}), None).await;
    service.register_policy("shop/web", SHOP).await.expect(200);
    service.create_user("ann").await;
    service.create_user("mallory").await;
    let app = enrol_at(&service).await;
    let mut mallory = Browser::default();
    service.sign_in_at(&mut mallory, "shop/web", SHOP, "mallory").await;
    mallory.cookies.retain(|name, _| name == "__Host-cloakroom-known");
    for browser in [&mut mallory, &mut Browser::default()] {
        let page = with_password(&service, browser, &[]).await;
        send(&service, browser, &page, &[("code", "000000")]).await.expect(422);
    }
    let page = with_password(&service, &mut mallory, &[]).await;
    send(&service, &mut mallory, &page, &[("code", &app.code(&service))]).await.expect(429);
}

#[tokio::test]
async fn a_step_up_asks_for_the_second_factor_only_and_changes_the_session() {
    let service = shop().await;
    let mut browser = Browser::default();
    let token = service.sign_in_at(&mut browser, "shop/web", SHOP, "ann").await;
    let before = service.introspect(&token, "shop/web").await;
    assert_eq!((&before["acr"], &before["amr"]), (&json!("pwd"), &json!(["pwd"])));
    let app = Authenticator::enrol(&service, &mut browser).await;

    let url = service.push("shop/web", SHOP, &[("acr_values", "mfa")]).await;
    let to_code = browser.get(&service, &url).await.expect(303);
    let code = app.code(&service);
    let back = send(&service, &mut browser, &to_code, &[("code", &code)]).await.expect(303);
    let claims = claims(&service, &back).await;
    assert_eq!((&claims["acr"], &claims["amr"]), (&json!("mfa"), &json!(["pwd", "otp", "mfa"])));
    assert_eq!(claims["auth_time"], before["auth_time"], "the password has not become fresher");
    assert_ne!(claims["sid"], before["sid"]);
    assert_eq!(service.introspect(&token, "shop/web").await, json!({"active": false}), "the weaker session is gone");

    let again = service.push("shop/web", SHOP, &[("acr_values", "mfa")]).await;
    assert!(browser.get(&service, &again).await.expect(303).location_parameter("code").is_some(), "nothing is missing");
    let recent = [("acr_values", "mfa"), ("max_age", "30")];
    let stale = service.push("shop/web", SHOP, &recent).await;
    let to_page = browser.get(&service, &stale).await.expect(303);
    assert!(to_page.location().starts_with("/sign-in"), "both are too old");
    let to_code = browser.sign_in(&service, &to_page, "ann", PASSWORD).await.expect(303);
    service.clock.pass(30);
    let back = send(&service, &mut browser, &to_code, &[("code", &app.code(&service))]).await.expect(303);
    assert!(back.location_parameter("code").is_some());
}

#[tokio::test]
async fn a_step_up_of_a_session_that_has_ended_signs_nobody_in() {
    let service = shop().await;
    let mut browser = Browser::default();
    service.sign_in_at(&mut browser, "shop/web", SHOP, "ann").await;
    let app = Authenticator::enrol(&service, &mut browser).await;
    let url = service.push("shop/web", SHOP, &[("acr_values", "mfa")]).await;
    let to_code = browser.get(&service, &url).await.expect(303);
    let csrf = browser.get(&service, "/account").await.expect(200).field("csrf").unwrap();
    let page = browser.get(&service, to_code.location()).await.expect(200);
    browser.post(&service, "/account/sign-out", &[("csrf", &csrf), ("what", "here")]).await.expect(303);
    let (flow, form_csrf) = (page.field("flow").unwrap(), page.field("csrf").unwrap());
    let code = app.code(&service);
    let form = [("flow", flow.as_str()), ("csrf", form_csrf.as_str()), ("code", &code)];
    browser.post(&service, "/second-factor", &form).await.expect(400);
    assert!(!browser.cookies.contains_key("__Host-cloakroom-sso"));
}

#[tokio::test]
async fn a_changed_account_ends_what_the_old_password_began() {
    let (service, app) = enrolled().await;
    let id = service.admin(Method::GET, "/users?username=ann", &json!({})).await.json()["items"][0]["id"].clone();
    let mut browser = Browser::default();
    let to_code = with_password(&service, &mut browser, &[]).await;
    let path = format!("/users/{}/password", id.as_str().unwrap());
    let page = browser.get(&service, to_code.location()).await.expect(200);
    service.admin(Method::PUT, &path, &json!({"password": "another good password"})).await.expect(204);
    let (flow, csrf, code) = (page.field("flow").unwrap(), page.field("csrf").unwrap(), app.code(&service));
    let form = [("flow", flow.as_str()), ("csrf", csrf.as_str()), ("code", &code)];
    browser.post(&service, "/second-factor", &form).await.expect(400);
    assert!(!browser.cookies.contains_key("__Host-cloakroom-sso"));
}

#[tokio::test]
async fn an_app_that_demands_two_factors_has_people_set_one_up_on_the_way_in() {
    let service = shop().await;
    let mut browser = Browser::default();
    let to_set_up = with_password(&service, &mut browser, &[("acr_values", "mfa")]).await;
    let page = browser.get(&service, to_set_up.location()).await.expect(200);
    assert!(page.body.contains("<svg") && page.body.contains("you have none yet"), "{}", page.body);
    let app = Authenticator::scan(&page);
    let codes = app.confirm(&service, &mut browser, &page, "/second-factor/set-up").await.expect(200);
    assert_eq!(codes.body.matches("<li><code>").count(), 10);
    let (_, rest) = codes.body.split_once("href=\"/second-factor/continue").unwrap();
    let next = format!("/second-factor/continue{}", rest.split_once('"').unwrap().0);
    let back = browser.get(&service, &next).await.expect(303);
    assert_eq!(claims(&service, &back).await["amr"], json!(["pwd", "otp", "mfa"]));
    browser.get(&service, &next).await.expect(400);
}

#[tokio::test]
async fn the_password_alone_puts_no_other_app_in_the_place_of_the_first() {
    let (service, _) = enrolled().await;
    let mut thief = Browser::default();
    let to_code = with_password(&service, &mut thief, &[]).await;
    let page = thief.get(&service, to_code.location()).await.expect(200);
    let (flow, csrf) = (page.field("flow").unwrap(), page.field("csrf").unwrap());
    let form = [("flow", flow.as_str()), ("csrf", csrf.as_str()), ("offer", "x"), ("code", "123456")];
    thief.post(&service, "/second-factor/set-up", &form).await.expect(403);
}

#[tokio::test]
async fn groups_and_clients_can_demand_two_factors() {
    let service = Service::start_as(|config| config["factors"] = json!({"required_groups": ["staff"]}), None).await;
    service.register_policy("shop/web", SHOP).await.expect(200);
    service.create_user("ann").await;
    let mut browser = Browser::default();
    assert!(with_password(&service, &mut browser, &[]).await.location().starts_with("/second-factor"));

    let bench = bench().await;
    let client = json!({"name": "The App", "redirect_uris": ["https://app.example.com/cb"], "first_party": true,
        "grant_types": ["authorization_code"], "scopes": ["openid", "email", "orders"], "audiences": ["shop/web"], "require_mfa": true});
    let answer = bench.service.admin(Method::PUT, "/clients/app", &client).await.expect(200).json();
    assert_eq!(answer["require_mfa"], true);
    let mut browser = Browser::default();
    bench.service.sign_in_at(&mut browser, "shop/web", SHOP, "ann").await;
    let to_set_up = browser.get(&bench.service, &Bench::authorize(&[])).await.expect(303);
    assert!(to_set_up.location().starts_with("/second-factor"), "signed in, and not well enough");
    let none = browser.get(&bench.service, &Bench::authorize(&[("prompt", "none")])).await.expect(303);
    assert_eq!(none.location_parameter("error").as_deref(), Some("interaction_required"));
    let stranger = Browser::default().get(&bench.service, &Bench::authorize(&[("prompt", "none")])).await.expect(303);
    assert_eq!(stranger.location_parameter("error").as_deref(), Some("login_required"));
}

#[tokio::test]
async fn a_trusted_browser_needs_no_code_where_none_is_demanded_and_claims_none() {
    let (service, app) = enrolled().await;
    let mut browser = Browser::default();
    let to_code = with_password(&service, &mut browser, &[]).await;
    let page = browser.get(&service, to_code.location()).await.expect(200);
    assert!(page.body.contains("for 30 days"));
    let code = app.code(&service);
    send(&service, &mut browser, &to_code, &[("code", &code), ("trust", "yes")]).await.expect(303);
    let device = browser.cookies["__Host-cloakroom-device"].clone();
    let forget = |browser: &mut Browser| browser.cookies.retain(|name, _| name == "__Host-cloakroom-device");

    forget(&mut browser);
    let back = with_password(&service, &mut browser, &[]).await;
    let weak = claims(&service, &back).await;
    assert_eq!((&weak["acr"], &weak["amr"]), (&json!("pwd"), &json!(["pwd"])));

    forget(&mut browser);
    let strict = with_password(&service, &mut browser, &[("acr_values", "mfa")]).await;
    assert!(strict.location().starts_with("/second-factor"), "demanded is demanded");
    let page = browser.get(&service, strict.location()).await.expect(200);
    assert!(!page.body.contains("name=\"trust\""));

    service.create_user("bob").await;
    let mut bob = Browser::default();
    service.sign_in_at(&mut bob, "shop/web", SHOP, "bob").await;
    Authenticator::enrol(&service, &mut bob).await;
    let mut bob = Browser::default();
    bob.cookies.insert("__Host-cloakroom-device".to_owned(), device.clone());
    let to_page = bob.get(&service, &service.push("shop/web", SHOP, &[]).await).await;
    let asked = bob.sign_in(&service, &to_page, "bob", PASSWORD).await.expect(303);
    assert!(asked.location().starts_with("/second-factor"), "it is another person's");

    let mut impostor = Browser::default();
    let other = format!("{}{}", &device[..22], "A".repeat(43));
    impostor.cookies.insert("__Host-cloakroom-device".to_owned(), other);
    assert!(with_password(&service, &mut impostor, &[]).await.location().starts_with("/second-factor"));

    service.clock.pass(31 * 86_400);
    forget(&mut browser);
    assert!(
        with_password(&service, &mut browser, &[]).await.location().starts_with("/second-factor"),
        "a month is over"
    );
}

#[tokio::test]
async fn the_locks_are_changed_only_after_a_recent_sign_in_with_all_factors() {
    let (service, app) = enrolled().await;
    let mut browser = Browser::default();
    let to_code = with_password(&service, &mut browser, &[]).await;
    let code = app.code(&service);
    send(&service, &mut browser, &to_code, &[("code", &code)]).await.expect(303);
    browser.get(&service, "/account/authenticator").await.expect(200);
    service.clock.pass(601);
    let csrf = browser.get(&service, "/account").await.expect(200).field("csrf").unwrap();
    let to_page = browser.post(&service, "/account/authenticator/remove", &[("csrf", &csrf)]).await.expect(303);
    assert!(to_page.location().starts_with("/sign-in"));
    let to_code = browser.sign_in(&service, &to_page, "ann", PASSWORD).await.expect(303);
    let code = app.code(&service);
    let back = send(&service, &mut browser, &to_code, &[("code", &code)]).await.expect(303);
    assert_eq!(back.location(), "/account/authenticator");
    let csrf = browser.get(&service, "/account").await.expect(200).field("csrf").unwrap();
    let forged = browser.post(&service, "/account/authenticator/remove", &[("csrf", "x")]).await;
    forged.expect(400);
    browser.post(&service, "/account/authenticator/remove", &[("csrf", &csrf)]).await.expect(303);
    let back = with_password(&service, &mut Browser::default(), &[]).await;
    assert!(back.location_parameter("code").is_some(), "no second factor any more");
}

#[tokio::test]
async fn a_flow_is_good_for_the_page_that_it_is_at() {
    let (service, _) = enrolled().await;
    let mut browser = Browser::default();
    let to_code = with_password(&service, &mut browser, &[]).await;
    let flow = to_code.location().split_once('=').unwrap().1.to_owned();
    for page in ["/sign-in", "/consent", "/second-factor/continue"] {
        browser.get(&service, &format!("{page}?flow={flow}")).await.expect(400);
    }
    Browser::default().get(&service, &format!("/second-factor?flow={flow}")).await.expect(400);
    let sign_in = browser.get(&service, &service.push("shop/web", SHOP, &[]).await).await.expect(303);
    let flow = sign_in.location().split_once('=').unwrap().1.to_owned();
    for page in ["/second-factor", "/consent", "/second-factor/continue"] {
        browser.get(&service, &format!("{page}?flow={flow}")).await.expect(400);
    }
}

#[tokio::test]
async fn a_seed_is_never_kept_in_the_clear() {
    let clock = TestClock::new();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(clock.clock()));
    let service = Service::replica(|_| {}, Arc::clone(&store), clock, 7).await;
    service.running.ready().await;
    service.register_policy("shop/web", SHOP).await.expect(200);
    let id = service.create_user("ann").await;
    let app = enrol_at(&service).await;
    let held = store.read_all(&cloakroom_auth_service::store::Key::new("factors", &id)).await.unwrap().unwrap();
    let text = format!("{held:?}").to_lowercase();
    assert!(!text.contains(&totp::base32(&app.seed).to_lowercase()));
    assert!(app.recovery_codes.iter().all(|code| !text.contains(&code.replace('-', ""))));
}

#[tokio::test]
async fn a_changed_encryption_key_takes_the_seeds_along() {
    let clock = TestClock::new();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(clock.clock()));
    let folder = std::env::temp_dir();
    let files = [1u8, 2].map(|byte| {
        let file = folder.join(format!("cloakroom-test-reseal-{}-{byte}", std::process::id()));
        std::fs::write(&file, [byte; 32]).unwrap();
        file
    });
    let start = async |keys: Vec<std::path::PathBuf>, seed| {
        let with_keys = |config: &mut Value| config["signing"] = json!({"encryption_key_files": keys});
        let service = Service::replica(with_keys, Arc::clone(&store), clock.clone(), seed).await;
        service.running.ready().await;
        service
    };
    let before = start(vec![files[0].clone()], 1).await;
    before.register_policy("shop/web", SHOP).await.expect(200);
    let id = before.create_user("ann").await;
    let app = enrol_at(&before).await;
    let key = cloakroom_auth_service::store::Key::new("factors", &id);
    let held = async || store.read_all(&key).await.unwrap().unwrap()["t"].clone();
    let old = held().await;
    let between = start(vec![files[1].clone(), files[0].clone()], 2).await;
    let resealed = async {
        while held().await == old {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), resealed).await.unwrap();
    drop(between);
    let after = start(vec![files[1].clone()], 3).await;
    after.register_policy("shop/web", SHOP).await.expect(200);
    let mut browser = Browser::default();
    let to_code = with_password(&after, &mut browser, &[]).await;
    let code = app.code(&after);
    send(&after, &mut browser, &to_code, &[("code", &code)]).await.expect(303);
    for file in files {
        std::fs::remove_file(file).unwrap();
    }
}
