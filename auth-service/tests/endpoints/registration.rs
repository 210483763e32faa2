//! Clients that register themselves (RFC 7591), and what they do with it (RFC 7592).

use http::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Browser, ISSUER, PASSWORD, Service, VERIFIER, challenge, encode};

pub(crate) const APP: &str = "https://app.example.com/cb";
const SHOP: &str = "https://shop.example.com";
const JSON: (&str, &str) = ("content-type", "application/json");

pub(crate) async fn start(mode: &str) -> Service {
    start_with(mode, json!({})).await
}

pub(crate) async fn start_with(mode: &str, settings: Value) -> Service {
    let Value::Object(settings) = settings else { panic!("no object") };
    let adjust = |config: &mut Value| {
        config["registration"] = json!({
            "mode": mode, "audiences": ["shop/web"], "scopes": ["openid", "profile", "orders", "offline_access"],
        });
        config["registration"].as_object_mut().unwrap().extend(settings);
    };
    let service = Service::start_as(adjust, None).await;
    service.register_policy("shop/web", SHOP).await.expect(200);
    service.create_user("ann").await;
    service
}

/// A public client, but for what is given.
pub(crate) fn metadata(changes: Value) -> Value {
    let mut metadata = json!({
        "redirect_uris": [APP], "token_endpoint_auth_method": "none", "client_name": "The App",
        "grant_types": ["authorization_code", "refresh_token"],
    });
    let Value::Object(changes) = changes else { panic!("no object") };
    metadata.as_object_mut().unwrap().extend(changes);
    metadata
}

pub(crate) async fn register(service: &Service, headers: &[(&str, &str)], body: &Value) -> Answer {
    let mut all = vec![JSON];
    all.extend(headers);
    service.send(Method::POST, &service.public("/oauth2/register"), &all, body.to_string()).await
}

pub(crate) async fn manage(service: &Service, method: Method, client: &Value, token: &str, body: &Value) -> Answer {
    let uri = text(client, "registration_client_uri").strip_prefix(ISSUER).unwrap();
    let bearer = format!("Bearer {token}");
    service.send(method, &service.public(uri), &[JSON, ("authorization", &bearer)], body.to_string()).await
}

pub(crate) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("{name}: {value}"))
}

pub(crate) async fn initial_token(service: &Service, settings: &Value) -> Value {
    service.admin(Method::POST, "/registration-tokens", settings).await.expect(201).json()
}

pub(crate) fn authorize(client_id: &str, changes: &[(&str, &str)]) -> String {
    let challenge = challenge();
    let mut form = vec![
        ("client_id", client_id),
        ("response_type", "code"),
        ("redirect_uri", APP),
        ("scope", "openid orders"),
        ("resource", SHOP),
        ("state", "s1"),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
    ];
    for (name, value) in changes {
        form.retain(|(given, _)| given != name);
        if !value.is_empty() {
            form.push((name, value));
        }
    }
    format!("/oauth2/authorize?{}", encode(&form))
}

/// To the consent page, signing in on the way if that is asked for.
pub(crate) async fn consent_page(service: &Service, browser: &mut Browser, url: &str) -> Answer {
    let mut answer = browser.get(service, url).await.expect(303);
    if answer.location().starts_with("/sign-in") {
        answer = browser.sign_in(service, &answer, "ann", PASSWORD).await.expect(303);
    }
    assert!(answer.location().starts_with("/consent"), "{}", answer.location());
    browser.get(service, answer.location()).await.expect(200)
}

pub(crate) async fn decide(service: &Service, browser: &mut Browser, page: &Answer, decision: &str) -> Answer {
    let (flow, csrf) = (page.field("flow").unwrap(), page.field("csrf").unwrap());
    browser.post(service, "/consent", &[("flow", &flow), ("csrf", &csrf), ("decision", decision)]).await.expect(303)
}

pub(crate) async fn redeem(service: &Service, client: &Value, code: &str) -> Answer {
    let mut form = vec![
        ("grant_type", "authorization_code"),
        ("client_id", text(client, "client_id")),
        ("code", code),
        ("redirect_uri", APP),
        ("code_verifier", VERIFIER),
        ("resource", SHOP),
    ];
    if let Some(secret) = client["client_secret"].as_str() {
        form.push(("client_secret", secret));
    }
    service.send(Method::POST, &service.public("/oauth2/token"), &[], encode(&form)).await
}

/// The whole way to an access token.
pub(crate) async fn sign_in(service: &Service, browser: &mut Browser, client: &Value) -> Value {
    let page = consent_page(service, browser, &authorize(text(client, "client_id"), &[])).await;
    let code = decide(service, browser, &page, "allow").await.location_parameter("code").unwrap();
    redeem(service, client, &code).await.expect(200).json()
}

#[tokio::test]
async fn whoever_knows_only_the_address_of_an_app_gets_a_token_for_it() {
    let service = start("open").await;
    for path in ["/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"] {
        let document = service.send(Method::GET, &service.public(path), &[], "").await.expect(200).json();
        assert_eq!(document["registration_endpoint"], format!("{ISSUER}/oauth2/register"));
    }
    let answer =
        register(&service, &[], &metadata(json!({"client_name#de": "Die App", "logo_uri": "https://x.example/l.png"})))
            .await;
    let answer = answer.expect(201);
    assert_eq!((answer.header("cache-control"), answer.header("access-control-allow-origin")), ("no-store", "*"));
    let client = answer.json();
    assert_eq!(client["client_id_issued_at"].as_u64().map(|at| service.now() - at < 60), Some(true));
    assert_eq!(text(&client, "scope"), "openid profile orders offline_access");
    assert_eq!((&client["response_types"], &client["redirect_uris"]), (&json!(["code"]), &json!([APP])));
    for absent in ["client_secret", "client_secret_expires_at", "logo_uri", "client_name#de"] {
        assert_eq!(client.get(absent), None, "{absent}");
    }

    let mut browser = Browser::default();
    let page = consent_page(&service, &mut browser, &authorize(text(&client, "client_id"), &[])).await;
    assert!(page.body.contains("The App") && page.body.contains("app.example.com"), "{}", page.body);
    assert!(page.body.contains("nobody has checked"), "{}", page.body);
    let code = decide(&service, &mut browser, &page, "allow").await.location_parameter("code").unwrap();
    let tokens = redeem(&service, &client, &code).await.expect(200).json();
    let active = service.introspect(text(&tokens, "access_token"), "shop/web").await;
    assert_eq!((text(&active, "client_id"), text(&active, "scope")), (text(&client, "client_id"), "openid orders"));
    // Asked again, each time.
    consent_page(&service, &mut browser, &authorize(text(&client, "client_id"), &[])).await;
}

#[tokio::test]
async fn a_token_registers_as_many_as_it_is_good_for_and_names_them() {
    let service = start("token").await;
    let refused = register(&service, &[], &metadata(json!({}))).await.expect(401);
    assert_eq!((refused.header("www-authenticate"), text(&refused.json(), "error")), ("Bearer", "invalid_token"));
    let token = initial_token(&service, &json!({"label": "partners", "uses": 2, "expires_in": 3600})).await;
    let bearer = format!("Bearer {}", text(&token, "token"));
    let headers = [("authorization", bearer.as_str())];
    let confidential = json!({
        "redirect_uris": [APP], "scope": "openid orders unknown", "software_id": "s-1", "contacts": ["a@example.com"],
        "backchannel_logout_uri": "https://app.example.com/bye", "post_logout_redirect_uris": ["https://app.example.com/"],
    });
    // What is refused costs no use.
    register(&service, &headers, &metadata(json!({"redirect_uris": []}))).await.expect(400);
    let client = register(&service, &headers, &confidential).await.expect(201).json();
    assert_eq!(
        (text(&client, "token_endpoint_auth_method"), &client["client_secret_expires_at"]),
        ("client_secret_basic", &json!(0))
    );
    assert_eq!((text(&client, "scope"), &client["grant_types"]), ("openid orders", &json!(["authorization_code"])));
    assert_eq!(
        (text(&client, "software_id"), text(&client, "backchannel_logout_uri")),
        ("s-1", "https://app.example.com/bye")
    );
    sign_in(&service, &mut Browser::default(), &client).await;
    register(&service, &headers, &metadata(json!({}))).await.expect(201);
    let used_up = register(&service, &headers, &metadata(json!({}))).await.expect(401);
    assert_eq!(used_up.header("www-authenticate"), "Bearer error=\"invalid_token\"");

    let id = text(&token, "id");
    let shown = service.admin(Method::GET, &format!("/registration-tokens/{id}"), &json!({})).await.expect(200).json();
    assert_eq!((shown["used"].as_u64(), shown.get("token")), (Some(2), None));
    let path = format!("/clients/{}", text(&client, "client_id"));
    let known = service.admin(Method::GET, &path, &json!({})).await.expect(200).json();
    assert_eq!(
        (text(&known["registered"], "by"), text(&known["registered"]["about"], "software_id")),
        ("token:partners", "s-1")
    );
    assert!(known["registered"]["last_used"].is_u64() && known["first_party"] == false, "{known}");
    let count = async |query: &str| {
        let list = service.admin(Method::GET, &format!("/clients{query}"), &json!({})).await.expect(200).json();
        list["items"].as_array().unwrap().len()
    };
    assert_eq!((count("").await, count("?registered=token").await, count("?registered=open").await), (2, 2, 0));
    service.admin(Method::GET, "/clients?registered=else", &json!({})).await.expect(400);
    // What GET gives, PUT takes.
    service.admin(Method::PUT, &path, &known).await.expect(200);

    let other = initial_token(&service, &json!({"label": "gone"})).await;
    service
        .admin(Method::DELETE, &format!("/registration-tokens/{}", text(&other, "id")), &json!({}))
        .await
        .expect(204);
    let late = initial_token(&service, &json!({"label": "late", "expires_in": 60})).await;
    service.clock.pass(61);
    for spent in [other, late] {
        let bearer = format!("Bearer {}", text(&spent, "token"));
        register(&service, &[("authorization", &bearer)], &metadata(json!({}))).await.expect(401);
    }
}

#[tokio::test]
async fn a_client_reads_changes_and_removes_its_registration() {
    let service = start("open").await;
    let client = register(&service, &[], &metadata(json!({}))).await.expect(201).json();
    let access = text(&client, "registration_access_token").to_owned();
    let read = manage(&service, Method::GET, &client, &access, &json!({})).await.expect(200).json();
    assert_eq!(read, client, "nothing was secret but what the caller showed");
    let tokens = sign_in(&service, &mut Browser::default(), &client).await;

    let change = metadata(json!({"client_id": client["client_id"], "client_name": "Renamed", "scope": "openid"}));
    let changed = manage(&service, Method::PUT, &client, &access, &change).await.expect(200).json();
    assert_eq!((text(&changed, "client_name"), text(&changed, "scope")), ("Renamed", "openid"));
    assert_eq!(manage(&service, Method::GET, &client, &access, &json!({})).await.expect(200).json(), changed);

    assert_eq!(service.introspect(text(&tokens, "access_token"), "shop/web").await["active"], true);
    let gone = manage(&service, Method::DELETE, &client, &access, &json!({})).await.expect(204);
    assert_eq!(gone.body, "");
    assert_eq!(service.introspect(text(&tokens, "access_token"), "shop/web").await, json!({"active": false}));
    manage(&service, Method::GET, &client, &access, &json!({})).await.expect(401);
}

#[tokio::test]
async fn a_client_that_nobody_uses_is_forgotten_and_one_in_use_is_not() {
    let service = start_with("open", json!({"unused_seconds": 3600})).await;
    let idle = register(&service, &[], &metadata(json!({}))).await.expect(201).json();
    let used = register(&service, &[], &metadata(json!({"client_name": "Used"}))).await.expect(201).json();
    let tokens = sign_in(&service, &mut Browser::default(), &used).await;
    service.clock.pass(3601);
    let page = Browser::default().get(&service, &authorize(text(&idle, "client_id"), &[])).await.expect(400);
    assert!(page.body.contains("not registered"), "{}", page.body);
    let list = service.admin(Method::GET, "/clients?registered=open", &json!({})).await.expect(200).json();
    assert_eq!(list["items"].as_array().unwrap().len(), 1, "{list}");
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", text(&used, "client_id")),
        ("refresh_token", text(&tokens, "refresh_token")),
    ];
    service.send(Method::POST, &service.public("/oauth2/token"), &[], encode(&form)).await.expect(200);
    service.clock.pass(91 * 86_400);
    Browser::default().get(&service, &authorize(text(&used, "client_id"), &[])).await.expect(400);
}

#[tokio::test]
async fn pages_may_register_from_their_browser() {
    let service = start("open").await;
    let preflight = [("origin", "https://spa.example.com"), ("access-control-request-method", "POST")];
    let answer = service.send(Method::OPTIONS, &service.public("/oauth2/register"), &preflight, "").await.expect(204);
    assert!(answer.header("access-control-allow-headers").contains("content-type"));
    let answer = service.send(Method::OPTIONS, &service.public("/oauth2/register/x"), &preflight, "").await.expect(204);
    assert!(answer.header("access-control-allow-methods").contains("DELETE"));
}
