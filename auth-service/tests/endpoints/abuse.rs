//! What attackers try.

use http::Method;
use serde_json::json;

use crate::harness::{Answer, Browser, PASSWORD, Service, VERIFIER, encode};
use crate::oauth::{Bench, CALLBACK, bench};

const SHOP: &str = "https://shop.example.com";

#[tokio::test]
async fn a_replayed_code_takes_back_what_it_gave() {
    let bench = bench().await;
    let code = bench.code(&mut Browser::default(), &[]).await;
    let tokens = bench.redeem(&code).await.expect(200).json();
    let access = tokens["access_token"].as_str().unwrap();
    assert_eq!(bench.service.introspect(access, "shop/web").await["active"], true);
    assert_eq!(bench.redeem(&code).await.expect(400).json()["error"], "invalid_grant");
    assert_eq!(bench.service.introspect(access, "shop/web").await, json!({"active": false}));
    bench.refresh(tokens["refresh_token"].as_str().unwrap()).await.expect(400);
}

#[tokio::test]
async fn of_two_at_the_same_time_with_one_code_none_keeps_anything() {
    let bench = bench().await;
    let code = bench.code(&mut Browser::default(), &[]).await;
    let (one, other) = tokio::join!(bench.redeem(&code), bench.redeem(&code));
    assert!(one.status != 200 || other.status != 200);
    for answer in [one, other] {
        if answer.status == 200 {
            let access = answer.json()["access_token"].as_str().unwrap().to_owned();
            assert_eq!(bench.service.introspect(&access, "shop/web").await, json!({"active": false}));
        }
    }
}

#[tokio::test]
async fn a_replayed_code_at_a_sidecar_takes_the_session_token_back() {
    let service = shop().await;
    let mut browser = Browser::default();
    let to_page = browser.get(&service, &service.push("shop/web", SHOP, &[]).await).await;
    let code = browser.sign_in(&service, &to_page, "ann", PASSWORD).await.location_parameter("code").unwrap();
    let token = service.exchange("shop/web", SHOP, &code).await.expect(200).json()["session_token"]
        .as_str()
        .unwrap()
        .to_owned();
    service.exchange("shop/web", SHOP, &code).await.expect(400);
    assert_eq!(service.introspect(&token, "shop/web").await, json!({"active": false}));
}

#[tokio::test]
async fn a_stolen_code_is_worth_nothing_without_verifier_client_and_address() {
    let bench = bench().await;
    let other = json!({"client_id": "thief", "redirect_uris": [CALLBACK], "grant_types": ["authorization_code"], "first_party": true});
    let secret = bench.service.admin(Method::POST, "/clients", &other).await.expect(201).json()["client_secret"]
        .as_str()
        .unwrap()
        .to_owned();
    let code = bench.code(&mut Browser::default(), &[]).await;
    let attempt = |changes: Vec<(&'static str, String)>| {
        let (bench, code) = (&bench, code.clone());
        async move {
            let mut form = vec![
                ("grant_type", "authorization_code".to_owned()),
                ("code", code),
                ("redirect_uri", CALLBACK.to_owned()),
                ("code_verifier", VERIFIER.to_owned()),
                ("client_id", "app".to_owned()),
                ("client_secret", bench.secret.clone()),
            ];
            for (name, value) in changes {
                form.retain(|(given, _)| *given != name);
                if !value.is_empty() {
                    form.push((name, value));
                }
            }
            let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
            bench.service.send(Method::POST, &bench.service.public("/oauth2/token"), &[], encode(&form)).await
        }
    };
    attempt(vec![("code_verifier", VERIFIER.replace('d', "e"))]).await.expect(400);
    attempt(vec![("code_verifier", String::new())]).await.expect(400);
    attempt(vec![("redirect_uri", "https://app.example.com/other".into())]).await.expect(400);
    attempt(vec![("redirect_uri", String::new())]).await.expect(400);
    attempt(vec![("client_id", "thief".into()), ("client_secret", secret)]).await.expect(400);
    attempt(vec![("client_secret", String::new())]).await.expect(401);
    let good = attempt(vec![]).await.expect(200);
    assert!(good.json()["access_token"].is_string(), "and nobody could spoil it by trying");
    let sidecar = bench.service.exchange("shop/web", SHOP, &bench.code(&mut Browser::default(), &[]).await).await;
    sidecar.expect(400);
}

#[tokio::test]
async fn an_expired_code_is_refused() {
    let bench = bench().await;
    let code = bench.code(&mut Browser::default(), &[]).await;
    bench.service.clock.pass(61);
    bench.redeem(&code).await.expect(400);
}

#[tokio::test]
async fn pkce_cannot_be_left_out_or_weakened() {
    let bench = bench().await;
    for change in [
        vec![("code_challenge", "")],
        vec![("code_challenge_method", "")],
        vec![("code_challenge_method", "plain")],
        vec![("code_challenge", "short")],
        vec![("code_challenge", ""), ("code_challenge_method", "")],
    ] {
        let answer = Browser::default().get(&bench.service, &Bench::authorize(&change)).await.expect(303);
        assert_eq!(answer.location_parameter("error").as_deref(), Some("invalid_request"), "{change:?}");
    }
}

#[tokio::test]
async fn no_browser_is_sent_to_an_address_that_is_not_registered() {
    let bench = bench().await;
    for uri in [
        "https://evil.example/cb",
        "https://app.example.com.evil.example/cb",
        "https://app.example.com@evil.example/cb",
        "https://app.example.com/cb/../evil",
        "https://app.example.com/cb?x=1",
        "https://app.example.com/cb#x",
        "https://app.example.com:8443/cb",
        "http://app.example.com/cb",
        "//evil.example/cb",
        "https:evil.example",
        "https:///evil.example",
        "https://evil.example\\@app.example.com/cb",
        "javascript:alert(1)",
        "data:text/html,x",
        "https://app.example.com/%63b",
        "https://APP.example.com/cb",
        "https://app.example.com/cb%0d%0aset-cookie:x",
        "http://127.0.0.1:80@evil.example/callback",
        "http://127.0.0.1.evil.example/callback",
        "http://localhost:1/callback",
        "/cb",
        "cb",
        "%",
    ] {
        // With parameters that would otherwise be answered with an error by redirect, too.
        for change in [
            vec![("redirect_uri", uri)],
            vec![("redirect_uri", uri), ("response_type", "token")],
            vec![("redirect_uri", uri), ("prompt", "none")],
        ] {
            let answer = Browser::default().get(&bench.service, &Bench::authorize(&change)).await;
            assert_eq!((answer.status.as_u16(), answer.location()), (400, ""), "{uri}");
            assert!(!answer.body.contains("evil.example"), "and is not offered as a link");
        }
    }
    let unknown =
        Browser::default().get(&bench.service, &Bench::authorize(&[("client_id", "nobody")])).await.expect(400);
    assert_eq!(unknown.location(), "");
    let policy = Browser::default().get(&bench.service, &Bench::authorize(&[("client_id", "shop/web")])).await;
    assert_eq!(policy.status, 400, "a sidecar's client signs in by pushed requests only");
}

#[tokio::test]
async fn a_parameter_given_twice_is_not_chosen_from() {
    let bench = bench().await;
    let url = format!("{}&redirect_uri=https://evil.example/cb", Bench::authorize(&[]));
    Browser::default().get(&bench.service, &url).await.expect(400);
}

async fn shop() -> Service {
    let service = Service::start().await;
    service.register_policy("shop/web", SHOP).await.expect(200);
    service.create_user("ann").await;
    service
}

#[tokio::test]
async fn a_sidecar_cannot_push_a_foreign_address() {
    let service = shop().await;
    let challenge = crate::harness::challenge();
    for (redirect_uri, return_to) in [
        ("https://evil.example/.cloakroom/callback", "/"),
        ("https://shop.example.com.evil.example/.cloakroom/callback", "/"),
        ("https://shop.example.com/elsewhere", "/"),
        ("https://shop.example.com:8443/.cloakroom/callback", "/"),
        ("http://shop.example.com/.cloakroom/callback", "/"),
        ("/.cloakroom/callback", "/"),
        ("https://shop.example.com/.cloakroom/callback", "//evil.example"),
        ("https://shop.example.com/.cloakroom/callback", "https://evil.example"),
        ("https://shop.example.com/.cloakroom/callback", "/\\evil.example"),
    ] {
        let form = [
            ("client_id", "shop/web"),
            ("response_type", "code"),
            ("redirect_uri", redirect_uri),
            ("state", "s"),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
            ("return_to", return_to),
        ];
        let answer = service.internal_form("/internal/v1/par", &service.workload("shop"), &form).await;
        assert_eq!(answer.status, 400, "{redirect_uri} {return_to}");
    }
}

async fn page(service: &Service, browser: &mut Browser) -> Answer {
    let to_page = browser.get(service, &service.push("shop/web", SHOP, &[]).await).await.expect(303);
    browser.get(service, to_page.location()).await.expect(200)
}

#[tokio::test]
async fn a_form_from_elsewhere_signs_nobody_in() {
    let service = shop().await;
    let (mut victim, mut attacker) = (Browser::default(), Browser::default());
    let (own, foreign) = (page(&service, &mut victim).await, page(&service, &mut attacker).await);
    let form = |flow: &Answer, csrf: Option<String>| {
        let fields = [
            ("flow", flow.field("flow").unwrap()),
            ("csrf", csrf.unwrap_or_default()),
            ("username", "ann".into()),
            ("password", PASSWORD.into()),
        ];
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        encode(&fields)
    };
    for (why, body) in [
        ("no token", form(&own, None)),
        ("the attacker's token for the victim's flow", form(&own, foreign.field("csrf"))),
        ("the attacker's flow and token", form(&foreign, foreign.field("csrf"))),
        ("the attacker's flow, the victim's token", form(&foreign, own.field("csrf"))),
    ] {
        let answer = victim.request(&service, Method::POST, "/sign-in", body).await;
        assert_eq!(answer.status, 400, "{why}");
        assert!(!victim.cookies.contains_key("__Host-cloakroom-sso"), "{why}");
    }
    for headers in [
        [("origin", "https://evil.example")],
        [("origin", "null")],
        [("sec-fetch-site", "cross-site")],
        [("sec-fetch-site", "same-site")],
    ] {
        let answer =
            victim.request_with(&service, Method::POST, "/sign-in", &headers, form(&own, own.field("csrf"))).await;
        assert_eq!(answer.status, 400, "{headers:?}");
    }
    let answer = victim.request(&service, Method::POST, "/sign-in", form(&own, own.field("csrf"))).await;
    assert_eq!(answer.status, 303, "the page's own form works");
}

#[tokio::test]
async fn a_sign_in_page_is_good_once() {
    let service = shop().await;
    let mut browser = Browser::default();
    let page = page(&service, &mut browser).await;
    let form = [
        ("flow", page.field("flow").unwrap()),
        ("csrf", page.field("csrf").unwrap()),
        ("username", "ann".into()),
        ("password", PASSWORD.into()),
    ];
    let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut copy = browser.clone();
    browser.post(&service, "/sign-in", &form).await.expect(303);
    copy.post(&service, "/sign-in", &form).await.expect(400);
}

#[tokio::test]
async fn signing_in_makes_new_cookies_whatever_the_browser_brought() {
    let service = shop().await;
    let mut attacker = Browser::default();
    service.create_user("mallory").await;
    service.sign_in_at(&mut attacker, "shop/web", SHOP, "mallory").await;
    // The attacker's cookies planted in the victim's browser.
    let mut victim = attacker.clone();
    let to_page = victim.get(&service, &service.push("shop/web", SHOP, &[("max_age", "0")]).await).await.expect(303);
    victim.sign_in(&service, &to_page, "ann", PASSWORD).await.expect(303);
    for (name, value) in &attacker.cookies {
        assert_ne!(&victim.cookies[name], value, "{name}");
    }
    assert!(
        attacker.get(&service, "/account").await.expect(303).location().starts_with("/sign-in"),
        "the planted session is over"
    );
}

#[tokio::test]
async fn every_wrong_sign_in_looks_alike() {
    let service = shop().await;
    let disabled = service.create_user("gone").await;
    service.admin(Method::PATCH, &format!("/users/{disabled}"), &json!({"disabled": true})).await.expect(200);
    service.admin(Method::POST, "/users", &json!({"username": "nopassword"})).await.expect(201);
    let mut seen = Vec::new();
    for (username, password) in [
        ("ann", "wrong password"),
        ("nobody", PASSWORD),
        ("gone", PASSWORD),
        ("nopassword", PASSWORD),
        ("", ""),
        ("ann", ""),
    ] {
        let mut browser = Browser::default();
        let to_page = browser.get(&service, &service.push("shop/web", SHOP, &[]).await).await;
        let answer = browser.sign_in(&service, &to_page, username, password).await;
        let (flow, csrf) = (answer.field("flow").unwrap(), answer.field("csrf").unwrap());
        let (_, challenge) = answer.body.split_once("data-challenge=\"").unwrap();
        let challenge = challenge.split_once('"').unwrap().0;
        let plain = answer
            .body
            .replace(challenge, "")
            .replace(&flow, "")
            .replace(&csrf, "")
            .replace(&format!("value=\"{username}\""), "")
            .replace("value=\"\"", "")
            .replace(" autofocus", "");
        seen.push((answer.status, plain));
    }
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "{seen:#?}");
}

#[tokio::test]
async fn guessing_is_slowed_down_alike_for_names_that_exist_and_names_that_do_not() {
    for username in ["ann", "nobody"] {
        let service = shop().await;
        let mut statuses = Vec::new();
        for _ in 0..12 {
            let mut browser = Browser::default();
            let page = page(&service, &mut browser).await;
            let form = [
                ("flow", page.field("flow").unwrap()),
                ("csrf", page.field("csrf").unwrap()),
                ("username", username.into()),
                ("password", "guess".into()),
            ];
            let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let headers = [("x-forwarded-for", "203.0.113.7")];
            statuses.push(
                browser.request_with(&service, Method::POST, "/sign-in", &headers, encode(&form)).await.status.as_u16(),
            );
        }
        assert_eq!((&statuses[..10], &statuses[10..]), (&[422; 10][..], &[429; 2][..]), "{username}");
        let mut owner = Browser::default();
        let page = page(&service, &mut owner).await;
        let form = [
            ("flow", page.field("flow").unwrap()),
            ("csrf", page.field("csrf").unwrap()),
            ("username", "ann".into()),
            ("password", PASSWORD.into()),
        ];
        let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let headers = [("x-forwarded-for", "198.51.100.1")];
        let answer = owner.request_with(&service, Method::POST, "/sign-in", &headers, encode(&form)).await;
        assert_eq!(answer.status, 303, "the owner is not locked out");
    }
}

#[tokio::test]
async fn large_bodies_are_refused() {
    let service = shop().await;
    let big = "x".repeat(200_000);
    let answer = service.send(Method::POST, &service.public("/oauth2/token"), &[], big.clone()).await;
    assert_eq!(answer.status, 413);
    let bearer = service.workload("shop");
    let answer = service
        .internal_form("/internal/v1/introspect", &bearer, &[("token", &big.repeat(10)), ("policy", "shop/web")])
        .await;
    assert!(answer.status.is_client_error(), "{}", answer.status);
}
