//! The operator registers OAuth clients, as `OAuthClient` resources ask for them.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use cloakroom_auth_service::clock::Clock;
use cloakroom_auth_service::store::Store;
use cloakroom_auth_service::store::memory::MemoryStore;
use cloakroom_protocol::client_secret::ClientSecret;
use http::Method;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use crate::harness::{Answer, Browser, Service, encode, policy_body};
use crate::registration::{APP, authorize, consent_page, decide, redeem, sign_in, text};

const SHOP: &str = "https://shop.example.com";
const BANK: &str = "https://bank.example.com";

fn secret(seed: u64) -> ClientSecret {
    ClientSecret::generate(&mut StdRng::seed_from_u64(seed))
}

fn hash(secret: &ClientSecret) -> String {
    URL_SAFE_NO_PAD.encode(secret.hash().as_bytes())
}

/// A confidential client that may do everything that one of a namespace may.
fn body(of: &str, secret: &ClientSecret) -> Value {
    let audience = format!("{}/web", of.split_once('/').unwrap().0);
    json!({
        "of": of, "uid": "1", "secret": hash(secret), "name": "The App", "audiences": [audience],
        "grant_types": ["authorization_code", "refresh_token", "client_credentials"],
        "redirect_uris": [APP], "post_logout_redirect_uris": [APP], "scopes": ["openid", "orders"],
    })
}

fn public(of: &str) -> Value {
    let mut wanted = body(of, &secret(1));
    wanted.as_object_mut().unwrap().remove("secret");
    wanted["grant_types"] = json!(["authorization_code", "refresh_token"]);
    wanted
}

/// As the registration's helpers take it.
fn client(id: &str, secret: &ClientSecret) -> Value {
    json!({"client_id": id, "client_secret": secret.expose()})
}

async fn put(service: &Service, body: &Value) -> Answer {
    let path = format!("/internal/v1/clients/{}", body["of"].as_str().unwrap());
    service.internal_json(Method::PUT, &path, &service.operator(), body).await
}

async fn delete(service: &Service, of: &str) -> Answer {
    let path = format!("/internal/v1/clients/{of}");
    service.internal_json(Method::DELETE, &path, &service.operator(), &json!({})).await
}

async fn delete_policy(service: &Service, policy: &str) {
    let path = format!("/internal/v1/policies/{policy}");
    service.internal_json(Method::DELETE, &path, &service.operator(), &json!({})).await.expect(204);
}

async fn by_form(service: &Service, path: &str, form: &[(&str, &str)]) -> Answer {
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    service.send(Method::POST, &service.public(path), &headers, encode(form)).await
}

/// A token for the client itself.
async fn by_itself(service: &Service, id: &str, secret: &ClientSecret) -> Answer {
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", id),
        ("client_secret", secret.expose()),
        ("scope", "orders"),
    ];
    by_form(service, "/oauth2/token", &form).await
}

async fn is_active(service: &Service, tokens: &Value, policy: &str) -> bool {
    service.introspect(text(tokens, "access_token"), policy).await["active"].as_bool().unwrap()
}

async fn service() -> Service {
    let service = Service::start().await;
    service.register_policy("shop/web", SHOP).await.expect(200);
    service.register_policy("bank/web", BANK).await.expect(200);
    service.create_user("ann").await;
    service
}

#[tokio::test]
async fn people_sign_in_to_a_registered_client_and_are_asked_each_time() {
    let service = service().await;
    let secret = secret(1);
    for _ in 0..2 {
        put(&service, &body("shop/partner", &secret)).await.expect(204);
    }
    let mut browser = Browser::default();
    let page = consent_page(&service, &mut browser, &authorize("partner@shop", &[])).await;
    for shown in ["The App", "<strong>app.example.com</strong>", "It belongs to <strong>shop</strong>"] {
        assert!(page.body.contains(shown), "{shown}: {}", page.body);
    }
    let code = decide(&service, &mut browser, &page, "allow").await.location_parameter("code").unwrap();
    let tokens = redeem(&service, &client("partner@shop", &secret), &code).await.expect(200).json();
    let active = service.introspect(text(&tokens, "access_token"), "shop/web").await;
    assert_eq!((text(&active, "client_id"), text(&active, "scope")), ("partner@shop", "openid orders"));
    assert!(!is_active(&service, &tokens, "bank/web").await);
    consent_page(&service, &mut browser, &authorize("partner@shop", &[])).await;
    // Silently, it gets nothing.
    let silent = browser.get(&service, &authorize("partner@shop", &[("prompt", "none")])).await.expect(303);
    assert_eq!(silent.location_parameter("error").as_deref(), Some("consent_required"));
    let without_pkce = browser.get(&service, &authorize("partner@shop", &[("code_challenge", "")])).await.expect(303);
    assert_eq!(without_pkce.location_parameter("error").as_deref(), Some("invalid_request"));
    let shown = service.admin(Method::GET, "/clients/partner@shop", &json!({})).await.expect(200).json();
    assert_eq!((text(&shown, "resource"), &shown["first_party"]), ("shop/partner", &json!(false)));
}

#[tokio::test]
async fn the_client_s_id_goes_into_a_header_as_it_is_or_encoded() {
    let service = service().await;
    let secret = secret(1);
    put(&service, &body("shop/partner", &secret)).await.expect(204);
    for (id, status) in [("partner@shop", 200), ("partner%40shop", 200), ("partner", 401), ("partner@bank", 401)] {
        let basic = format!("Basic {}", STANDARD.encode(format!("{id}:{}", secret.expose())));
        let headers = [("content-type", "application/x-www-form-urlencoded"), ("authorization", basic.as_str())];
        let form = encode(&[("grant_type", "client_credentials")]);
        service.send(Method::POST, &service.public("/oauth2/token"), &headers, form).await.expect(status);
    }
}

#[tokio::test]
async fn a_client_gets_tokens_for_its_own_namespace_only() {
    let service = service().await;
    let secret = secret(1);
    for (audience, status) in
        [("shop/web", 409), ("shop/not-there", 409), ("partner-api", 422), ("cloakroom-admin", 422), ("*", 422)]
    {
        let mut wanted = body("bank/partner", &secret);
        wanted["audiences"] = json!(["bank/web", audience]);
        put(&service, &wanted).await.expect(status);
    }
    by_itself(&service, "partner@bank", &secret).await.expect(401);
    put(&service, &body("bank/partner", &secret)).await.expect(204);
    let tokens = by_itself(&service, "partner@bank", &secret).await.expect(200).json();
    assert!(is_active(&service, &tokens, "bank/web").await && !is_active(&service, &tokens, "shop/web").await);
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", "partner@bank"),
        ("client_secret", secret.expose()),
        ("resource", SHOP),
    ];
    let refused = by_form(&service, "/oauth2/token", &form).await.expect(400).json();
    assert_eq!(text(&refused, "error"), "invalid_target");
}

#[tokio::test]
async fn a_token_does_not_follow_its_audience_into_another_namespace() {
    let service = service().await;
    let mut policy = policy_body("bank/api", BANK);
    policy["audience"] = json!("payments");
    service.register(&policy).await.expect(200);
    let secret = secret(1);
    let mut wanted = body("bank/partner", &secret);
    wanted["audiences"] = json!(["payments"]);
    put(&service, &wanted).await.expect(204);
    let tokens = by_itself(&service, "partner@bank", &secret).await.expect(200).json();
    let own = async || {
        let form = [
            ("client_id", "partner@bank"),
            ("client_secret", secret.expose()),
            ("token", text(&tokens, "access_token")),
        ];
        by_form(&service, "/oauth2/introspect", &form).await.expect(200).json()["aud"].clone()
    };
    assert!(is_active(&service, &tokens, "bank/api").await);
    assert_eq!(own().await, json!(["payments"]));
    delete_policy(&service, "bank/api").await;
    policy["policy"] = json!("shop/api");
    policy["origins"] = json!([SHOP]);
    service.register(&policy).await.expect(200);
    assert!(!is_active(&service, &tokens, "shop/api").await);
    assert_eq!(own().await, json!([]));
    let later = by_itself(&service, "partner@bank", &secret).await.expect(200).json();
    assert!(!is_active(&service, &later, "shop/api").await, "nor does one that is issued after that");
    put(&service, &wanted).await.expect(409);
}

#[tokio::test]
async fn a_client_does_not_see_the_jwt_that_an_app_gets_for_its_token() {
    let service = service().await;
    let secret = secret(1);
    put(&service, &body("shop/partner", &secret)).await.expect(204);
    let tokens = by_itself(&service, "partner@shop", &secret).await.expect(200).json();
    let token = text(&tokens, "access_token");
    let form = encode(&[("client_id", "partner@shop"), ("client_secret", secret.expose()), ("token", token)]);
    let headers = [("content-type", "application/x-www-form-urlencoded"), ("accept", "application/jwt")];
    let answer = service.send(Method::POST, &service.public("/oauth2/introspect"), &headers, form).await;
    assert_eq!(answer.expect(204).body, "");
}

#[tokio::test]
async fn nobody_is_sent_to_another_namespace_s_app() {
    let service = service().await;
    let at_bank = format!("{BANK}/cb");
    for field in ["redirect_uris", "post_logout_redirect_uris"] {
        for uri in [at_bank.as_str(), "https://BANK.example.com:443/cb"] {
            let mut wanted = body("shop/partner", &secret(1));
            wanted[field] = json!([APP, uri]);
            let refused = put(&service, &wanted).await.expect(409).json();
            assert!(text(&refused, "detail").contains("namespace \"bank\""), "{refused}");
        }
    }
    let mut own = body("bank/partner", &secret(1));
    own["redirect_uris"] = json!([at_bank]);
    put(&service, &own).await.expect(204);
    // Nor to one that comes later.
    let (app, mut wanted) = ("https://app.example.com", body("shop/partner", &secret(1)));
    wanted["redirect_uris"] = json!([APP]);
    put(&service, &wanted).await.expect(204);
    let mut browser = Browser::default();
    let page = consent_page(&service, &mut browser, &authorize("partner@shop", &[])).await;
    service.register_policy("bank/app", app).await.expect(200);
    let (flow, csrf) = (page.field("flow").unwrap(), page.field("csrf").unwrap());
    for decision in ["allow", "deny"] {
        let form = [("flow", flow.as_str()), ("csrf", csrf.as_str()), ("decision", decision)];
        browser.post(&service, "/consent", &form).await.expect(400);
    }
    browser.get(&service, &authorize("partner@shop", &[])).await.expect(400);
    let leave = encode(&[("client_id", "partner@shop"), ("post_logout_redirect_uri", APP)]);
    browser.get(&service, &format!("/oauth2/logout?{leave}")).await.expect(400);
    put(&service, &wanted).await.expect(409);
}

#[tokio::test]
async fn a_redirect_uri_that_was_removed_stops_working_even_for_who_is_on_the_way() {
    let service = service().await;
    let secret = secret(1);
    let mut wanted = body("shop/partner", &secret);
    put(&service, &wanted).await.expect(204);
    let mut browser = Browser::default();
    let page = consent_page(&service, &mut browser, &authorize("partner@shop", &[])).await;
    let pushed: Vec<(String, String)> =
        url::form_urlencoded::parse(authorize("partner@shop", &[]).split_once('?').unwrap().1.as_bytes())
            .into_owned()
            .chain([("client_secret".to_owned(), secret.expose().to_owned())])
            .collect();
    let pushed: Vec<(&str, &str)> = pushed.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let pushed = by_form(&service, "/oauth2/par", &pushed).await.expect(201).json();
    wanted["redirect_uris"] = json!(["https://app.example.com/new"]);
    put(&service, &wanted).await.expect(204);
    let (flow, csrf) = (page.field("flow").unwrap(), page.field("csrf").unwrap());
    let form = [("flow", flow.as_str()), ("csrf", csrf.as_str()), ("decision", "allow")];
    browser.post(&service, "/consent", &form).await.expect(400);
    browser.get(&service, &authorize("partner@shop", &[])).await.expect(400);
    let pushed = encode(&[("client_id", "partner@shop"), ("request_uri", text(&pushed, "request_uri"))]);
    browser.get(&service, &format!("/oauth2/authorize?{pushed}")).await.expect(400);
    let new = authorize("partner@shop", &[("redirect_uri", "https://app.example.com/new")]);
    consent_page(&service, &mut browser, &new).await;
}

#[tokio::test]
async fn a_client_s_id_is_its_resource_s_and_nobody_else_s() {
    let service = service().await;
    let secret = secret(1);
    let spoof = json!({"client_id": "partner@shop", "redirect_uris": [APP], "grant_types": ["authorization_code"]});
    service.admin(Method::POST, "/clients", &spoof).await.expect(422);
    put(&service, &body("shop/partner", &secret)).await.expect(204);
    let mut other = body("bank/partner", &self::secret(2));
    put(&service, &other).await.expect(204);
    by_itself(&service, "partner@shop", &self::secret(2)).await.expect(401);
    by_itself(&service, "partner@shop", &secret).await.expect(200);
    other["of"] = json!("shop/partner");
    let path = "/internal/v1/clients/bank/partner";
    service.internal_json(Method::PUT, path, &service.operator(), &other).await.expect(400);
    // An administrator changes nothing of it that its resource would change back.
    let shown = service.admin(Method::GET, "/clients/partner@shop", &json!({})).await.expect(200).json();
    for (method, path) in [(Method::PUT, "/clients/partner@shop"), (Method::POST, "/clients/partner@shop/secret")] {
        let refused = service.admin(method, path, &shown).await.expect(409).json();
        assert!(text(&refused, "detail").contains("OAuthClient shop/partner"), "{refused}");
    }
}

#[tokio::test]
async fn a_confidential_client_does_not_become_a_public_one_nor_the_other_way_round() {
    let service = service().await;
    let secret = secret(1);
    let mut confidential = body("shop/partner", &secret);
    confidential["grant_types"] = public("shop/partner")["grant_types"].clone();
    put(&service, &confidential).await.expect(204);
    put(&service, &public("shop/partner")).await.expect(409);
    let mut browser = Browser::default();
    let page = consent_page(&service, &mut browser, &authorize("partner@shop", &[])).await;
    let code = decide(&service, &mut browser, &page, "allow").await.location_parameter("code").unwrap();
    redeem(&service, &json!({"client_id": "partner@shop"}), &code).await.expect(401);
    redeem(&service, &client("partner@shop", &secret), &code).await.expect(200);

    put(&service, &public("shop/native")).await.expect(204);
    put(&service, &body("shop/native", &secret)).await.expect(409);
    sign_in(&service, &mut Browser::default(), &json!({"client_id": "native@shop"})).await;
    // Once it is deleted, it is another client.
    delete(&service, "shop/partner").await.expect(204);
    put(&service, &public("shop/partner")).await.expect(204);
}

#[tokio::test]
async fn two_secrets_are_good_while_a_rotation_overlaps() {
    let service = service().await;
    let (old, new) = (secret(1), secret(2));
    put(&service, &body("shop/partner", &old)).await.expect(204);
    let tokens = by_itself(&service, "partner@shop", &old).await.expect(200).json();
    let mut wanted = body("shop/partner", &new);
    wanted["before"] = json!({"secret": hash(&old), "until": service.now() + 100});
    put(&service, &wanted).await.expect(204);
    by_itself(&service, "partner@shop", &old).await.expect(200);
    by_itself(&service, "partner@shop", &new).await.expect(200);
    assert!(is_active(&service, &tokens, "shop/web").await, "what it has stays good");
    service.clock.pass(101);
    by_itself(&service, "partner@shop", &old).await.expect(401);
    by_itself(&service, "partner@shop", &new).await.expect(200);
    put(&service, &body("shop/partner", &secret(3))).await.expect(204);
    by_itself(&service, "partner@shop", &new).await.expect(401);
    let stored = service.admin(Method::GET, "/clients/partner@shop", &json!({})).await.expect(200).body;
    assert!(!stored.contains(&hash(&secret(3))) && !stored.contains(secret(3).expose()), "{stored}");
}

#[tokio::test]
async fn what_was_issued_to_a_client_ends_with_it() {
    let store = Arc::new(MemoryStore::new(Clock::system()));
    let service = Service::start_as(|_| {}, Some(store.clone())).await;
    service.register_policy("shop/web", SHOP).await.expect(200);
    service.create_user("ann").await;
    let secret = secret(1);
    put(&service, &body("shop/partner", &secret)).await.expect(204);
    let tokens = sign_in(&service, &mut Browser::default(), &client("partner@shop", &secret)).await;
    let by_itself_before = by_itself(&service, "partner@shop", &secret).await.expect(200).json();
    let before = store.tail().await.unwrap();
    for _ in 0..2 {
        delete(&service, "shop/partner").await.expect(204);
        assert!(!is_active(&service, &tokens, "shop/web").await);
        assert!(!is_active(&service, &by_itself_before, "shop/web").await);
    }
    by_itself(&service, "partner@shop", &secret).await.expect(401);
    service.admin(Method::GET, "/clients/partner@shop", &json!({})).await.expect(404);
    let events = store.next_entries(before, Duration::ZERO).await.unwrap();
    let told = events.iter().any(|one| one.entry.name == "revoked" && one.entry.data.contains("partner@shop"));
    assert!(told, "sidecars are told");
    // Nor does it come back with a client of the same name.
    put(&service, &body("shop/partner", &secret)).await.expect(204);
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", "partner@shop"),
        ("client_secret", secret.expose()),
        ("refresh_token", text(&tokens, "refresh_token")),
    ];
    by_form(&service, "/oauth2/token", &form).await.expect(400);
    assert!(!is_active(&service, &tokens, "shop/web").await);
}

#[tokio::test]
async fn another_resource_of_the_same_name_inherits_nothing() {
    let service = service().await;
    let secret = secret(1);
    let mut wanted = body("shop/partner", &secret);
    put(&service, &wanted).await.expect(204);
    let tokens = sign_in(&service, &mut Browser::default(), &client("partner@shop", &secret)).await;
    wanted["scopes"] = json!(["openid", "orders", "stock"]);
    put(&service, &wanted).await.expect(204);
    assert!(is_active(&service, &tokens, "shop/web").await, "the same resource, edited");
    wanted["uid"] = json!("2");
    put(&service, &wanted).await.expect(204);
    assert!(!is_active(&service, &tokens, "shop/web").await);
    by_itself(&service, "partner@shop", &secret).await.expect(200);
}

#[tokio::test]
async fn a_client_that_an_administrator_revoked_does_not_come_back_for_its_resource() {
    let service = service().await;
    let mut wanted = body("shop/partner", &secret(1));
    put(&service, &wanted).await.expect(204);
    let tokens = by_itself(&service, "partner@shop", &secret(1)).await.expect(200).json();
    service.admin(Method::DELETE, "/clients/partner@shop", &json!({})).await.expect(200);
    assert!(!is_active(&service, &tokens, "shop/web").await);
    for seed in [1, 2] {
        wanted["secret"] = json!(hash(&secret(seed)));
        put(&service, &wanted).await.expect(410);
        by_itself(&service, "partner@shop", &secret(seed)).await.expect(401);
        service.clock.pass(100_000);
    }
    wanted["uid"] = json!("2");
    put(&service, &wanted).await.expect(204);
    by_itself(&service, "partner@shop", &secret(2)).await.expect(200);
    put(&service, &wanted).await.expect(204);
}

#[tokio::test]
async fn after_a_loss_of_the_store_the_same_secret_is_good_again() {
    let secret = secret(1);
    let service = service().await;
    by_itself(&service, "partner@shop", &secret).await.expect(401);
    put(&service, &body("shop/partner", &secret)).await.expect(204);
    by_itself(&service, "partner@shop", &secret).await.expect(200);
}

#[tokio::test]
async fn only_operators_register_and_what_they_send_has_to_fit() {
    let service = service().await;
    let good = body("shop/partner", &secret(1));
    let path = "/internal/v1/clients/shop/partner";
    for method in [Method::PUT, Method::DELETE] {
        service.internal_json(method.clone(), path, &service.workload("shop"), &good).await.expect(403);
        service.internal_json(method, path, "Bearer nonsense", &good).await.expect(401);
    }
    let over_long = "n".repeat(100);
    for (field, value, status) in [
        ("of", json!("shop/other"), 400),
        ("of", json!("partner@shop"), 400),
        ("secret", json!("short"), 400),
        ("first_party", json!(true), 400),
        ("introspects", json!(["shop/web"]), 400),
        ("backchannel_logout_uri", json!(APP), 400),
        ("grant_types", json!(["urn:ietf:params:oauth:grant-type:token-exchange"]), 400),
        ("grant_types", json!([]), 422),
        ("uid", json!(""), 422),
        ("uid", json!(over_long), 422),
        ("name", json!("a\u{7}b"), 422),
        ("scopes", json!(["two words"]), 422),
        ("redirect_uris", json!([]), 422),
        ("redirect_uris", json!(["https://app.example.com/cb#x"]), 422),
        ("redirect_uris", json!(["http://app.example.com/cb"]), 422),
        ("redirect_uris", json!(["javascript:alert(1)"]), 422),
        ("before", json!({"secret": hash(&secret(2)), "until": service.now() + 2_592_100}), 422),
    ] {
        let mut bad = good.clone();
        bad[field] = value;
        let answer = service.internal_json(Method::PUT, path, &service.operator(), &bad).await;
        assert_eq!(answer.status.as_u16(), status, "{field}: {}", answer.body);
    }
    let mut public = public("shop/partner");
    public["grant_types"] = json!(["client_credentials"]);
    put(&service, &public).await.expect(422);
    let mut over_long = good.clone();
    over_long["of"] = json!(format!("shop/{}", "n".repeat(130)));
    put(&service, &over_long).await.expect(422);
    let elsewhere = "/internal/v1/clients/Shop/partner";
    service.internal_json(Method::PUT, elsewhere, &service.operator(), &good).await.expect(400);
    by_itself(&service, "partner@shop", &secret(1)).await.expect(401);
}
