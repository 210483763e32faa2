//! What tokens are, to whom.

use cloakroom_protocol::token::{OpaqueToken, TokenKind};
use http::Method;
use serde_json::{Value, json};

use crate::harness::{ADMIN, Browser, Service, encode, verify};

const SHOP: &str = "https://shop.example.com";

struct Bench {
    service: Service,
    user: String,
}

async fn bench() -> Bench {
    let service = Service::start().await;
    service.register_policy("shop/web", SHOP).await.expect(200);
    service.register_policy("bank/web", "https://bank.example.com").await.expect(200);
    let user = service.create_user("ann").await;
    Bench { service, user }
}

impl Bench {
    async fn client(&self, body: Value) -> (String, String) {
        let client = self.service.admin(Method::POST, "/clients", &body).await.expect(201).json();
        (client["client_id"].as_str().unwrap().to_owned(), client["client_secret"].as_str().unwrap().to_owned())
    }

    async fn credentials_token(&self, audience: &str) -> String {
        let (id, secret) = self
            .client(json!({"client_id": format!("robot-{}", audience.replace('/', "-")), "grant_types": ["client_credentials"],
                "scopes": ["orders"], "audiences": [audience]}))
            .await;
        let form =
            [("grant_type", "client_credentials"), ("client_id", &id), ("client_secret", &secret), ("scope", "orders")];
        let answer = self.service.send(Method::POST, &self.service.public("/oauth2/token"), &[], encode(&form)).await;
        answer.expect(200).json()["access_token"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn an_access_token_counts_only_where_its_audience_is() {
    let bench = bench().await;
    let token = bench.credentials_token("shop/web").await;
    let active = bench.service.introspect(&token, "shop/web").await;
    assert_eq!((active["active"].as_bool(), active["sub"].as_str()), (Some(true), Some("robot-shop-web")));
    assert_eq!((active["kind"].as_str(), active["scope"].as_str()), (Some("access"), Some("orders")));
    let claims = verify(&bench.service, active["jwt"].as_str().unwrap(), "shop/web").await;
    assert_eq!((claims["client_id"].as_str(), claims.get("sid")), (Some("robot-shop-web"), None));
    assert_eq!(bench.service.introspect(&token, "bank/web").await, json!({"active": false}));
}

#[tokio::test]
async fn an_api_key_acts_for_its_owner_where_its_audience_is_until_it_is_revoked() {
    let bench = bench().await;
    let body =
        json!({"user": bench.user, "name": "ci", "scopes": ["orders"], "audiences": ["shop/web"], "expires_in": 1000});
    let made = bench.service.admin(Method::POST, "/api-keys", &body).await.expect(201).json();
    let key = made["api_key"].as_str().unwrap();
    assert!(key.starts_with("ck_"));
    let active = bench.service.introspect(key, "shop/web").await;
    assert_eq!((active["sub"].as_str(), active["username"].as_str()), (Some(bench.user.as_str()), Some("ann")));
    assert_eq!(bench.service.introspect(key, "bank/web").await, json!({"active": false}));
    let listed = bench.service.admin(Method::GET, "/api-keys", &json!({})).await.expect(200);
    assert!(listed.body.contains("\"ci\"") && !listed.body.contains(&key[25..60]), "the secret is shown once");
    let path = format!("/api-keys/{}", made["id"].as_str().unwrap());
    bench.service.admin(Method::DELETE, &path, &json!({})).await.expect(200);
    assert_eq!(bench.service.introspect(key, "shop/web").await, json!({"active": false}));
}

#[tokio::test]
async fn only_a_session_signs_its_owner_out() {
    let bench = bench().await;
    let service = &bench.service;
    let session = service.sign_in_at(&mut Browser::default(), "shop/web", SHOP, "ann").await;
    let access = bench.credentials_token("shop/web").await;
    let made = json!({"user": bench.user, "name": "ci", "audiences": ["shop/web"]});
    let key = service.admin(Method::POST, "/api-keys", &made).await.expect(201).json();
    let key = key["api_key"].as_str().unwrap();
    let revoke = async |token: &str, scope: &str| {
        let body = json!({"token": token, "scope": scope});
        service.internal_json(Method::POST, "/internal/v1/revoke", &service.workload("shop"), &body).await
    };
    for (token, scope) in [(key, "session"), (key, "everywhere"), (access.as_str(), "everywhere")] {
        revoke(token, scope).await.expect(409);
    }
    for token in [key, &access, &session] {
        assert_eq!(service.introspect(token, "shop/web").await["active"], true, "nothing has ended");
    }
    revoke(&access, "session").await.expect(200);
    assert_eq!(service.introspect(&access, "shop/web").await, json!({"active": false}), "its own grant");
    revoke(&session, "everywhere").await.expect(200);
    assert_eq!(service.introspect(&session, "shop/web").await, json!({"active": false}));
    assert_eq!(service.introspect(key, "shop/web").await["active"], true);
    // Who may name any id may show the token as well.
    let body = json!({"token": key});
    service.internal_json(Method::POST, "/internal/v1/revoke", &service.operator(), &body).await.expect(200);
    assert_eq!(service.introspect(key, "shop/web").await, json!({"active": false}));
}

#[tokio::test]
async fn tokens_that_are_asked_about_together_are_answered_each_as_if_alone() {
    let bench = bench().await;
    let service = &bench.service;
    let (shop, bank) = (bench.credentials_token("shop/web").await, bench.credentials_token("bank/web").await);
    let ask = async |caller: &str, tokens: Vec<&str>| {
        let body = json!({"policy": "shop/web", "tokens": tokens});
        let caller = service.workload(caller);
        service.internal_json(Method::POST, "/internal/v1/introspect/many", &caller, &body).await
    };
    let mut forged = shop.clone();
    let last = if forged.pop() == Some('0') { '1' } else { '0' };
    forged.push(last);
    let answer = ask("shop", vec![&bank, &shop, "junk\n{\"active\":true}", &forged, &shop]).await.expect(200);
    let lines: Vec<Value> = answer.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let active: Vec<_> = lines.iter().map(|line| line["active"].as_bool()).collect();
    assert_eq!(active, [Some(false), Some(true), Some(false), Some(false), Some(true)]);
    let (mut single, mut shared) = (service.introspect(&shop, "shop/web").await, lines[1].clone());
    verify(service, shared["jwt"].as_str().unwrap(), "shop/web").await;
    assert_eq!(shared.get("covered"), None, "no stream was named");
    for facts in [&mut single, &mut shared] {
        // Minted anew each time.
        facts.as_object_mut().unwrap().remove("jwt");
    }
    assert_eq!(single, shared);
    ask("bank", vec![&shop]).await.expect(403);
    ask("shop", vec!["junk"; 65]).await.expect(400);
    assert_eq!(ask("shop", vec![]).await.expect(200).body, "");
}

#[tokio::test]
async fn an_expired_api_key_is_nothing() {
    let bench = bench().await;
    let body = json!({"service": "backup", "audiences": ["shop/web"], "expires_in": 100});
    let made = bench.service.admin(Method::POST, "/api-keys", &body).await.expect(201).json();
    let key = made["api_key"].as_str().unwrap();
    assert_eq!(bench.service.introspect(key, "shop/web").await["sub"], "service:backup");
    bench.service.clock.pass(101);
    assert_eq!(bench.service.introspect(key, "shop/web").await, json!({"active": false}));
}

#[tokio::test]
async fn junk_another_secret_and_a_refresh_token_are_just_inactive() {
    let bench = bench().await;
    let token = bench.service.sign_in_at(&mut Browser::default(), "shop/web", SHOP, "ann").await;
    let mut rng = {
        use rand::SeedableRng;
        rand::rngs::StdRng::seed_from_u64(1)
    };
    let id = token.parse::<OpaqueToken>().unwrap().id();
    let mut others =
        vec![String::new(), "junk".into(), token[1..].to_owned(), format!("{token} "), token.to_lowercase()];
    for kind in [TokenKind::Session, TokenKind::Access, TokenKind::Refresh, TokenKind::ApiKey] {
        others.push(OpaqueToken::with_id(kind, id, &mut rng).expose().to_owned());
    }
    for other in others {
        let form = [("token", other.as_str()), ("policy", "shop/web")];
        let answer =
            bench.service.internal_form("/internal/v1/introspect", &bench.service.workload("shop"), &form).await;
        if other.is_empty() {
            answer.expect(400);
        } else {
            assert_eq!(answer.expect(200).body, r#"{"active":false}"#, "and no word more");
        }
    }
}

#[tokio::test]
async fn the_sign_in_cookie_is_no_session_token_of_any_policy() {
    let bench = bench().await;
    let mut browser = Browser::default();
    bench.service.sign_in_at(&mut browser, "shop/web", SHOP, "ann").await;
    let cookie = browser.cookies["__Host-cloakroom-sso"].clone();
    assert_eq!(bench.service.introspect(&cookie, "shop/web").await, json!({"active": false}));
}

#[tokio::test]
async fn an_unregistered_policy_is_an_outage_and_not_a_logout() {
    let bench = bench().await;
    let form = [("token", "junk"), ("policy", "shop/new")];
    let answer = bench.service.internal_form("/internal/v1/introspect", &bench.service.workload("shop"), &form).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, "1"));
}

#[tokio::test]
async fn an_administrator_may_ask_without_a_policy_and_gets_no_jwt() {
    let bench = bench().await;
    let token = bench.service.sign_in_at(&mut Browser::default(), "shop/web", SHOP, "ann").await;
    let ask = |authorization: String| {
        let (service, token) = (&bench.service, token.clone());
        async move { service.internal_form("/internal/v1/introspect", &authorization, &[("token", &token)]).await }
    };
    let facts = ask(format!("Bearer {ADMIN}")).await.expect(200).json();
    assert_eq!((facts["active"].as_bool(), facts["client_id"].as_str()), (Some(true), Some("shop/web")));
    assert_eq!(facts.get("jwt"), None);
    ask(bench.service.workload("shop")).await.expect(400);
    ask(bench.service.operator()).await.expect(400);
}

#[tokio::test]
async fn json_is_as_good_as_a_form() {
    let bench = bench().await;
    let body = json!({"token": "junk", "policy": "shop/web", "idle_for": 3});
    let answer = bench
        .service
        .internal_json(Method::POST, "/internal/v1/introspect", &bench.service.workload("shop"), &body)
        .await;
    assert_eq!(answer.expect(200).body, r#"{"active":false}"#);
}

#[tokio::test]
async fn a_gateway_learns_about_tokens_for_its_audiences_and_gets_the_jwt_itself() {
    let bench = bench().await;
    let (id, secret) = bench.client(json!({"client_id": "gateway", "introspects": ["shop/web"]})).await;
    let basic = {
        use base64::Engine as _;
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{id}:{secret}")))
    };
    let ask = |token: String, accept: &'static str| {
        let (service, basic) = (&bench.service, basic.clone());
        async move {
            let headers = [("authorization", basic.as_str()), ("accept", accept)];
            service
                .send(Method::POST, &service.public("/oauth2/introspect"), &headers, encode(&[("token", &token)]))
                .await
        }
    };
    let (for_shop, for_bank) = (bench.credentials_token("shop/web").await, bench.credentials_token("bank/web").await);
    let session = bench.service.sign_in_at(&mut Browser::default(), "shop/web", SHOP, "ann").await;
    let facts = ask(for_shop.clone(), "application/json").await.expect(200).json();
    assert_eq!((facts["active"].as_bool(), &facts["aud"]), (Some(true), &json!(["shop/web"])));
    for other in [for_bank.clone(), session, "junk".to_owned()] {
        assert_eq!(ask(other, "application/json").await.expect(200).json(), json!({"active": false}));
    }
    let phantom = ask(for_shop.clone(), "application/jwt").await.expect(200);
    assert_eq!(phantom.header("content-type"), "application/jwt");
    verify(&bench.service, &phantom.body, "shop/web").await;
    assert_eq!(ask(for_bank, "application/jwt").await.expect(204).body, "");
    let anonymous = bench
        .service
        .send(Method::POST, &bench.service.public("/oauth2/introspect"), &[], encode(&[("token", &for_shop)]))
        .await;
    assert_eq!(anonymous.expect(401).json()["error"], "invalid_client");
}

#[tokio::test]
async fn an_api_key_rotates_with_an_overlap() {
    let bench = bench().await;
    let service = &bench.service;
    let body = json!({"service": "reports", "scopes": ["orders"], "audiences": ["shop/web"]});
    let made = service.admin(Method::POST, "/api-keys", &body).await.expect(201).json();
    let path = format!("/api-keys/{}", made["id"].as_str().unwrap());
    let rotate = async |overlap: u64| {
        let body = json!({ "overlap": overlap });
        service.admin(Method::POST, &format!("{path}/rotate"), &body).await.expect(200).json()
    };
    let secret = |key: &Value| key["api_key"].as_str().unwrap().to_owned();
    let active = async |key: &Value| service.introspect(&secret(key), "shop/web").await["active"].clone();
    let second = rotate(600).await;
    assert_eq!((&second["id"], &second["scopes"]), (&made["id"], &json!(["orders"])));
    assert_ne!(secret(&second), secret(&made));
    assert_eq!((active(&made).await, active(&second).await), (json!(true), json!(true)));
    let old = service.introspect(&secret(&made), "shop/web").await;
    assert_eq!(old["exp"].as_u64(), second["old_secret_until"].as_u64(), "a sidecar keeps it no longer");
    let shown = service.admin(Method::GET, &path, &json!({})).await.expect(200);
    assert!(!shown.body.contains(&secret(&second)), "a secret is shown once");
    service.clock.pass(600);
    assert_eq!((active(&made).await, active(&second).await), (json!(false), json!(true)));
    let third = rotate(0).await;
    assert_eq!((active(&second).await, active(&third).await), (json!(false), json!(true)), "leaked: at once");
    service.admin(Method::POST, &format!("{path}/rotate"), &json!({"overlap": 2_592_001})).await.expect(422);
    service.admin(Method::DELETE, &path, &json!({})).await.expect(200);
    service.admin(Method::POST, &format!("{path}/rotate"), &json!({})).await.expect(404);
}
