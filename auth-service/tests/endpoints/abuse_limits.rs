//! Limits that slow attackers down and lock nobody else out; headers and addresses that attackers would like to choose.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::json;

use crate::harness::{Answer, Browser, PASSWORD, Service, encode};

const SHOP: &str = "https://shop.example.com";

async fn shop(limits: serde_json::Value) -> Service {
    let service = Service::start_as(|config| config["limits"] = limits, None).await;
    service.register_policy("shop/web", SHOP).await.expect(200);
    service.create_user("ann").await;
    service
}

async fn sign_in_from(
    service: &Service,
    browser: &mut Browser,
    address: &str,
    username: &str,
    password: &str,
) -> Answer {
    let to_page = browser.get(service, &service.push("shop/web", SHOP, &[("max_age", "0")]).await).await.expect(303);
    let page = browser.get(service, to_page.location()).await.expect(200);
    let (flow, csrf) = (page.field("flow").unwrap(), page.field("csrf").unwrap());
    let form = encode(&[("flow", &flow), ("csrf", &csrf), ("username", username), ("password", password)]);
    browser.request_with(service, Method::POST, "/sign-in", &[("x-forwarded-for", address)], form).await
}

#[tokio::test]
async fn an_attack_from_everywhere_does_not_keep_the_owner_out_of_a_browser_that_was_there_before() {
    let service = shop(json!({"per_account_and_address": 2, "per_account": 4, "per_address": 4})).await;
    let (home, away) = ("198.51.100.7", "192.0.2.1");
    let mut owner = Browser::default();
    sign_in_from(&service, &mut owner, home, "ann", PASSWORD).await.expect(303);
    for host in 1..=6 {
        let address = format!("203.0.113.{host}");
        sign_in_from(&service, &mut Browser::default(), &address, "ann", "guess").await;
    }
    // The neighbours at home have used its address up as well.
    for name in ["bob", "cat", "dan", "eve", "fay"] {
        sign_in_from(&service, &mut Browser::default(), home, name, "guess").await;
    }
    sign_in_from(&service, &mut Browser::default(), away, "ann", PASSWORD).await.expect(429);
    sign_in_from(&service, &mut owner, home, "ann", PASSWORD).await.expect(303);
    sign_in_from(&service, &mut owner, away, "ann", PASSWORD).await.expect(303);
    // At another account it is a stranger, and it may not guess on and on at its own.
    sign_in_from(&service, &mut owner.clone(), home, "bob", "guess").await.expect(429);
    for _ in 0..2 {
        sign_in_from(&service, &mut owner, home, "ann", "guess").await.expect(422);
    }
    sign_in_from(&service, &mut owner, home, "ann", PASSWORD).await.expect(429);
}

#[tokio::test]
async fn whoever_fails_as_a_client_is_slowed_down_and_the_client_is_not() {
    let service = shop(json!({"per_client_and_address": 3})).await;
    let client = json!({"client_id": "app", "grant_types": ["client_credentials"], "audiences": ["shop/web"]});
    let made = service.admin(Method::POST, "/clients", &client).await.expect(201).json();
    let ask = async |id: &str, secret: &str, address: &str| {
        let basic = format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")));
        let headers = [
            ("authorization", basic.as_str()),
            ("x-forwarded-for", address),
            ("content-type", "application/x-www-form-urlencoded"),
        ];
        service.send(Method::POST, &service.public("/oauth2/token"), &headers, "grant_type=client_credentials").await
    };
    let secret = made["client_secret"].as_str().unwrap();
    let (attacker, app) = ("203.0.113.1", "198.51.100.1");
    for id in ["app", "nobody"] {
        for _ in 0..3 {
            ask(id, "guess", attacker).await.expect(401);
        }
        let slowed = ask(id, "guess", attacker).await.expect(429);
        assert!(slowed.header("retry-after").parse::<u64>().unwrap() > 0, "{id}, known or not");
        assert_eq!(slowed.json()["error"], "temporarily_unavailable");
    }
    ask("app", secret, app).await.expect(200);
    for _ in 0..20 {
        ask("app", secret, app).await.expect(200);
    }
    service.clock.pass(301);
    ask("app", "guess", attacker).await.expect(401);
}

#[tokio::test]
async fn no_page_can_be_framed_sniffed_or_kept_and_none_believes_the_host_it_was_called_by() {
    let service = shop(json!({})).await;
    let mut browser = Browser::default();
    service.sign_in_at(&mut browser, "shop/web", SHOP, "ann").await;
    for path in [
        "/sign-in",
        "/account",
        "/signed-out",
        "/consent",
        "/nothing-here",
        "/oauth2/authorize",
        "/oauth2/logout",
        "/oauth2/authorize?client_id=x",
        "/.well-known/openid-configuration",
        "/sign-in?flow=x",
        "//evil.example",
        "/\\evil.example",
        "/%2f%2fevil.example",
    ] {
        let headers = [("host", "evil.example"), ("x-forwarded-host", "evil.example"), ("x-forwarded-proto", "gopher")];
        let cookies = browser.cookie_header();
        let mut all = headers.to_vec();
        all.push(("cookie", &cookies));
        let answer = service.send(Method::GET, &service.public(path), &all, "").await;
        assert!(!answer.location().contains("evil") && !answer.body.contains("evil"), "{path}: {}", answer.body);
        assert!(answer.location().is_empty() || answer.location().starts_with('/'), "{path}: {}", answer.location());
        assert!(answer.header("content-security-policy").contains("frame-ancestors 'none'"), "{path}");
        assert_eq!(
            (answer.header("x-frame-options"), answer.header("x-content-type-options")),
            ("DENY", "nosniff"),
            "{path}"
        );
        if answer.header("content-type").starts_with("text/html") {
            assert_eq!(answer.header("cache-control"), "no-store", "{path}");
        }
    }
}
