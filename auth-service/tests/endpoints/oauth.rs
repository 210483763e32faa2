//! OAuth 2.1 and OpenID Connect, as certified clients use them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Browser, ISSUER, PASSWORD, Service, VERIFIER, challenge, encode, verify};

pub(crate) const CALLBACK: &str = "https://app.example.com/cb";

pub(crate) struct Bench {
    pub(crate) service: Service,
    pub(crate) secret: String,
}

pub(crate) async fn bench() -> Bench {
    bench_with(|_| {}).await
}

pub(crate) async fn bench_with(adjust: impl FnOnce(&mut Value)) -> Bench {
    let service = Service::start_as(adjust, None).await;
    service.register_policy("shop/web", "https://shop.example.com").await.expect(200);
    service.create_user("ann").await;
    let client = json!({
        "client_id": "app", "name": "The App", "redirect_uris": [CALLBACK, "http://127.0.0.1/callback"],
        "grant_types": ["authorization_code", "refresh_token"],
        "scopes": ["openid", "profile", "email", "orders", "offline_access"], "audiences": ["shop/web"], "first_party": true,
    });
    let secret = service.admin(Method::POST, "/clients", &client).await.expect(201).json()["client_secret"]
        .as_str()
        .unwrap()
        .to_owned();
    Bench { service, secret }
}

impl Bench {
    pub(crate) fn authorize(change: &[(&str, &str)]) -> String {
        let challenge = challenge();
        let mut form: Vec<(&str, &str)> = vec![
            ("client_id", "app"),
            ("response_type", "code"),
            ("redirect_uri", CALLBACK),
            ("scope", "openid email orders"),
            ("state", "s1"),
            ("nonce", "n1"),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ];
        for (name, value) in change {
            form.retain(|(given, _)| given != name);
            if !value.is_empty() {
                form.push((name, value));
            }
        }
        format!("/oauth2/authorize?{}", encode(&form))
    }

    pub(crate) async fn code(&self, browser: &mut Browser, change: &[(&str, &str)]) -> String {
        let mut answer = browser.get(&self.service, &Self::authorize(change)).await.expect(303);
        if answer.location().starts_with("/sign-in") {
            answer = browser.sign_in(&self.service, &answer, "ann", PASSWORD).await.expect(303);
        }
        answer.location_parameter("code").unwrap_or_else(|| panic!("{}", answer.location()))
    }

    pub(crate) async fn token(&self, form: &[(&str, &str)]) -> Answer {
        let basic = format!("Basic {}", STANDARD.encode(format!("app:{}", self.secret)));
        self.service
            .send(Method::POST, &self.service.public("/oauth2/token"), &[("authorization", &basic)], encode(form))
            .await
    }

    pub(crate) async fn redeem(&self, code: &str) -> Answer {
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", CALLBACK),
            ("code_verifier", VERIFIER),
        ];
        self.token(&form).await
    }

    pub(crate) async fn refresh(&self, token: &str) -> Answer {
        self.token(&[("grant_type", "refresh_token"), ("refresh_token", token)]).await
    }

    async fn tokens(&self, browser: &mut Browser, change: &[(&str, &str)]) -> Value {
        let code = self.code(browser, change).await;
        self.redeem(&code).await.expect(200).json()
    }
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("{name}: {value}"))
}

#[tokio::test]
async fn the_code_flow_gives_opaque_tokens_and_a_verifiable_id_token() {
    let bench = bench().await;
    let answer = bench.redeem(&bench.code(&mut Browser::default(), &[]).await).await.expect(200);
    assert_eq!(answer.header("cache-control"), "no-store");
    let tokens = answer.json();
    assert!(text(&tokens, "access_token").starts_with("ca_") && text(&tokens, "refresh_token").starts_with("cr_"));
    assert_eq!((text(&tokens, "token_type"), text(&tokens, "scope")), ("Bearer", "openid email orders"));
    let claims = verify(&bench.service, text(&tokens, "id_token"), "app").await;
    assert_eq!(
        (text(&claims, "nonce"), text(&claims, "email"), text(&claims, "acr")),
        ("n1", "ann@example.com", "pwd")
    );
    assert!(claims["auth_time"].is_u64() && claims["at_hash"].is_string());
    assert_eq!(claims.get("name"), None, "profile was not asked for");

    let active = bench.service.introspect(text(&tokens, "access_token"), "shop/web").await;
    assert_eq!((text(&active, "client_id"), text(&active, "kind")), ("app", "access"));
    assert_eq!(active["sub"], claims["sub"]);
    let bearer = format!("Bearer {}", text(&tokens, "access_token"));
    let info = bench
        .service
        .send(Method::GET, &bench.service.public("/oauth2/userinfo"), &[("authorization", &bearer)], "")
        .await;
    assert_eq!(
        info.expect(200).json(),
        json!({"sub": claims["sub"], "email": "ann@example.com", "email_verified": false})
    );
}

#[tokio::test]
async fn discovery_says_what_is_there() {
    let bench = bench().await;
    for path in ["/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"] {
        let document = bench.service.send(Method::GET, &bench.service.public(path), &[], "").await.expect(200).json();
        assert_eq!(
            (text(&document, "issuer"), &document["code_challenge_methods_supported"]),
            (ISSUER, &json!(["S256"]))
        );
        assert_eq!(document["response_types_supported"], json!(["code"]));
        for (name, url) in document.as_object().unwrap().iter().filter(|(name, _)| name.ends_with("_endpoint")) {
            let path = url.as_str().unwrap().strip_prefix(ISSUER).unwrap();
            let answer = bench.service.send(Method::POST, &bench.service.public(path), &[], "").await;
            assert!(!matches!(answer.status.as_u16(), 404 | 405), "{name}: {}", answer.status);
        }
    }
}

#[tokio::test]
async fn refresh_tokens_rotate_and_a_lost_answer_can_be_asked_for_again() {
    let bench = bench().await;
    let first = bench.tokens(&mut Browser::default(), &[]).await;
    let second = bench.refresh(text(&first, "refresh_token")).await.expect(200).json();
    assert_ne!(text(&first, "refresh_token"), text(&second, "refresh_token"));
    let again = bench.refresh(text(&first, "refresh_token")).await.expect(200).json();
    bench.refresh(text(&second, "refresh_token")).await.expect(200);
    assert_eq!(bench.service.introspect(text(&again, "access_token"), "shop/web").await["active"], true);
}

#[tokio::test]
async fn reuse_of_a_spent_refresh_token_ends_the_grant() {
    let bench = bench().await;
    let first = bench.tokens(&mut Browser::default(), &[]).await;
    let second = bench.refresh(text(&first, "refresh_token")).await.expect(200).json();
    bench.service.clock.pass(21);
    assert_eq!(bench.refresh(text(&first, "refresh_token")).await.expect(400).json()["error"], "invalid_grant");
    assert_eq!(bench.refresh(text(&second, "refresh_token")).await.expect(400).json()["error"], "invalid_grant");
    assert_eq!(bench.service.introspect(text(&second, "access_token"), "shop/web").await, json!({"active": false}));
}

#[tokio::test]
async fn a_made_up_refresh_token_with_a_known_id_harms_nobody() {
    use rand::SeedableRng;
    let bench = bench().await;
    let tokens = bench.tokens(&mut Browser::default(), &[]).await;
    let real: cloakroom_protocol::token::OpaqueToken = text(&tokens, "refresh_token").parse().unwrap();
    let mut rng = rand::rngs::StdRng::seed_from_u64(3);
    let forged = cloakroom_protocol::token::OpaqueToken::with_id(real.kind(), real.id(), &mut rng);
    bench.refresh(forged.expose()).await.expect(400);
    bench.refresh(real.expose()).await.expect(200);
}

#[tokio::test]
async fn many_refreshes_at_once_all_get_an_answer() {
    let bench = bench().await;
    let tokens = bench.tokens(&mut Browser::default(), &[]).await;
    let refresh = text(&tokens, "refresh_token");
    let all = futures::future::join_all((0..4).map(|_| bench.refresh(refresh))).await;
    for answer in all {
        answer.expect(200);
    }
}

#[tokio::test]
async fn a_refresh_may_ask_for_less_and_never_for_more() {
    let bench = bench().await;
    let tokens = bench.tokens(&mut Browser::default(), &[("scope", "openid orders")]).await;
    let ask = |scope: &'static str, token: String| {
        let bench = &bench;
        async move { bench.token(&[("grant_type", "refresh_token"), ("refresh_token", &token), ("scope", scope)]).await }
    };
    let less = ask("openid", text(&tokens, "refresh_token").to_owned()).await.expect(200).json();
    assert_eq!(bench.service.introspect(text(&less, "access_token"), "shop/web").await["scope"], "openid");
    let more = ask("openid orders email", text(&less, "refresh_token").to_owned()).await.expect(400).json();
    assert_eq!(more["error"], "invalid_scope");
}

#[tokio::test]
async fn a_grant_ends_with_its_session_unless_it_is_for_offline_access() {
    let bench = bench().await;
    let mut browser = Browser::default();
    let online = bench.tokens(&mut browser, &[]).await;
    let offline = bench.tokens(&mut browser, &[("scope", "openid offline_access")]).await;
    let csrf = browser.get(&bench.service, "/account").await.expect(200).field("csrf").unwrap();
    browser.post(&bench.service, "/account/sign-out", &[("csrf", &csrf), ("what", "here")]).await.expect(303);
    assert_eq!(bench.service.introspect(text(&online, "access_token"), "shop/web").await, json!({"active": false}));
    bench.refresh(text(&online, "refresh_token")).await.expect(400);
    assert_eq!(bench.service.introspect(text(&offline, "access_token"), "shop/web").await["active"], true);
}

#[tokio::test]
async fn signing_out_everywhere_ends_offline_access_too() {
    let bench = bench().await;
    let mut browser = Browser::default();
    let offline = bench.tokens(&mut browser, &[("scope", "openid offline_access")]).await;
    let csrf = browser.get(&bench.service, "/account").await.expect(200).field("csrf").unwrap();
    browser.post(&bench.service, "/account/sign-out", &[("csrf", &csrf), ("what", "everywhere")]).await.expect(303);
    bench.refresh(text(&offline, "refresh_token")).await.expect(400);
}

#[tokio::test]
async fn either_token_of_a_grant_gives_it_back_and_only_its_client_can() {
    let bench = bench().await;
    let other = json!({"client_id": "other", "grant_types": ["client_credentials"]});
    let secret = bench.service.admin(Method::POST, "/clients", &other).await.expect(201).json()["client_secret"]
        .as_str()
        .unwrap()
        .to_owned();
    let revoke = |client: &'static str, secret: String, token: String| {
        let service = &bench.service;
        async move {
            let form = [("token", token.as_str()), ("client_id", client), ("client_secret", secret.as_str())];
            service.send(Method::POST, &service.public("/oauth2/revoke"), &[], encode(&form)).await
        }
    };
    let tokens = bench.tokens(&mut Browser::default(), &[]).await;
    let (access, refresh) = (text(&tokens, "access_token").to_owned(), text(&tokens, "refresh_token").to_owned());
    revoke("other", secret.clone(), access.clone()).await.expect(200);
    assert_eq!(bench.service.introspect(&access, "shop/web").await["active"], true);
    revoke("app", "wrong".to_owned(), access.clone()).await.expect(401);
    revoke("app", bench.secret.clone(), refresh.clone()).await.expect(200);
    assert_eq!(bench.service.introspect(&access, "shop/web").await, json!({"active": false}));
    revoke("app", bench.secret.clone(), refresh).await.expect(200);
    revoke("app", bench.secret.clone(), "junk".to_owned()).await.expect(200);
}

#[tokio::test]
async fn client_credentials_give_no_refresh_token_and_no_id_token() {
    let bench = bench().await;
    let robot = json!({"client_id": "robot", "grant_types": ["client_credentials"], "scopes": ["orders", "openid"], "audiences": ["shop/web", "bank/web"]});
    let secret = bench.service.admin(Method::POST, "/clients", &robot).await.expect(201).json()["client_secret"]
        .as_str()
        .unwrap()
        .to_owned();
    let ask = |extra: Vec<(&'static str, &'static str)>| {
        let (service, secret) = (&bench.service, secret.clone());
        async move {
            let mut form =
                vec![("grant_type", "client_credentials"), ("client_id", "robot"), ("client_secret", secret.as_str())];
            form.extend(extra);
            service.send(Method::POST, &service.public("/oauth2/token"), &[], encode(&form)).await
        }
    };
    let tokens = ask(vec![]).await.expect(200).json();
    assert_eq!((tokens.get("refresh_token"), tokens.get("id_token")), (None, None));
    let narrow = ask(vec![("resource", "bank/web")]).await.expect(200).json();
    assert_eq!(bench.service.introspect(text(&narrow, "access_token"), "shop/web").await, json!({"active": false}));
    for (extra, error) in [
        (("scope", "admin"), "invalid_scope"),
        (("resource", "other/web"), "invalid_target"),
        (("audience", "other/web"), "invalid_target"),
    ] {
        assert_eq!(ask(vec![extra]).await.expect(400).json()["error"], error);
    }
    let bearer = format!("Bearer {}", text(&tokens, "access_token"));
    bench
        .service
        .send(Method::GET, &bench.service.public("/oauth2/userinfo"), &[("authorization", &bearer)], "")
        .await
        .expect(403);
}

#[tokio::test]
async fn a_pushed_request_is_good_once_and_for_its_client_only() {
    let bench = bench().await;
    let challenge = challenge();
    let form = [
        ("client_id", "app"),
        ("client_secret", bench.secret.as_str()),
        ("response_type", "code"),
        ("redirect_uri", CALLBACK),
        ("scope", "openid"),
        ("state", "s2"),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
    ];
    let url = bench.service.public("/oauth2/par");
    let pushed = bench.service.send(Method::POST, &url, &[], encode(&form)).await.expect(201).json();
    let uri = text(&pushed, "request_uri");
    let mut browser = Browser::default();
    let go = |client: &str| format!("/oauth2/authorize?{}", encode(&[("client_id", client), ("request_uri", uri)]));
    let to_page = browser.get(&bench.service, &go("app")).await.expect(303);
    let back = browser.sign_in(&bench.service, &to_page, "ann", PASSWORD).await.expect(303);
    assert_eq!(back.location_parameter("state").as_deref(), Some("s2"));
    browser.get(&bench.service, &go("app")).await.expect(400);

    let mut bad = form.to_vec();
    bad[3].1 = "https://evil.example/cb";
    assert_eq!(
        bench.service.send(Method::POST, &url, &[], encode(&bad)).await.expect(400).json()["error"],
        "invalid_request"
    );
    let pushed = bench.service.send(Method::POST, &url, &[], encode(&form)).await.expect(201).json();
    let stolen = encode(&[("client_id", "shop/web"), ("request_uri", text(&pushed, "request_uri"))]);
    browser.get(&bench.service, &format!("/oauth2/authorize?{stolen}")).await.expect(400);
}

#[tokio::test]
async fn prompt_and_max_age_are_obeyed() {
    let bench = bench().await;
    let mut browser = Browser::default();
    let go = async |browser: &mut Browser, change: &[(&str, &str)]| {
        browser.get(&bench.service, &Bench::authorize(change)).await.expect(303)
    };
    let none = go(&mut browser, &[("prompt", "none")]).await;
    assert_eq!(
        (none.location_parameter("error").as_deref(), none.location_parameter("state").as_deref()),
        (Some("login_required"), Some("s1"))
    );
    assert_eq!(none.location_parameter("iss").as_deref(), Some(ISSUER));
    bench.code(&mut browser, &[]).await;
    assert!(go(&mut browser, &[("prompt", "none")]).await.location_parameter("code").is_some());
    assert!(go(&mut browser, &[("prompt", "login")]).await.location().starts_with("/sign-in"));
    assert!(go(&mut browser, &[("max_age", "0")]).await.location().starts_with("/sign-in"));
    bench.service.clock.pass(100);
    assert!(go(&mut browser, &[("max_age", "99")]).await.location().starts_with("/sign-in"));
    assert!(go(&mut browser, &[("max_age", "1000")]).await.location_parameter("code").is_some());
}

#[tokio::test]
async fn a_third_party_asks_once_for_each_new_permission() {
    let bench = bench().await;
    let client = json!({"client_id": "partner", "name": "Partner & Co", "public": true, "redirect_uris": ["https://partner.example/cb"],
        "grant_types": ["authorization_code"], "scopes": ["openid", "orders"], "audiences": ["shop/web"]});
    bench.service.admin(Method::POST, "/clients", &client).await.expect(201);
    let mut browser = Browser::default();
    let change = |scope: &'static str| {
        vec![("client_id", "partner"), ("redirect_uri", "https://partner.example/cb"), ("scope", scope)]
    };
    let to_page = browser.get(&bench.service, &Bench::authorize(&change("openid"))).await.expect(303);
    let to_consent = browser.sign_in(&bench.service, &to_page, "ann", PASSWORD).await.expect(303);
    assert!(to_consent.location().starts_with("/consent"));
    let mut none = change("openid");
    none.push(("prompt", "none"));
    let refused = browser.get(&bench.service, &Bench::authorize(&none)).await.expect(303);
    assert_eq!(refused.location_parameter("error").as_deref(), Some("consent_required"));

    let page = browser.get(&bench.service, to_consent.location()).await.expect(200);
    assert!(page.body.contains("Partner &#38; Co") && page.body.contains("Know that it is you"), "{}", page.body);
    let (flow, csrf) = (page.field("flow").unwrap(), page.field("csrf").unwrap());
    let forged = [("flow", flow.as_str()), ("csrf", "x"), ("decision", "allow")];
    browser.post(&bench.service, "/consent", &forged).await.expect(400);
    let allow = [("flow", flow.as_str()), ("csrf", csrf.as_str()), ("decision", "allow")];
    let back = browser.post(&bench.service, "/consent", &allow).await.expect(303);
    assert!(back.location_parameter("code").is_some());
    browser.post(&bench.service, "/consent", &allow).await.expect(400);

    let straight = browser.get(&bench.service, &Bench::authorize(&change("openid"))).await.expect(303);
    assert!(straight.location_parameter("code").is_some(), "remembered");
    let more = browser.get(&bench.service, &Bench::authorize(&change("openid orders"))).await.expect(303);
    let page = browser.get(&bench.service, more.location()).await.expect(200);
    let deny =
        [("flow", page.field("flow").unwrap()), ("csrf", page.field("csrf").unwrap()), ("decision", "deny".to_owned())];
    let deny: Vec<(&str, &str)> = deny.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let back = browser.post(&bench.service, "/consent", &deny).await.expect(303);
    assert_eq!(back.location_parameter("error").as_deref(), Some("access_denied"));
}

#[tokio::test]
async fn a_native_application_is_answered_on_the_port_it_has() {
    let bench = bench().await;
    let uri = "http://127.0.0.1:53682/callback";
    let code = bench.code(&mut Browser::default(), &[("redirect_uri", uri)]).await;
    let form = [("grant_type", "authorization_code"), ("code", code.as_str()), ("code_verifier", VERIFIER)];
    let other = [form.as_slice(), &[("redirect_uri", "http://127.0.0.1:53683/callback")]].concat();
    bench.token(&other).await.expect(400);
    bench.token(&[form.as_slice(), &[("redirect_uri", uri)]].concat()).await.expect(200);
}
