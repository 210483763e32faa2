//! Token exchange (RFC 8693): calling on for somebody.

use http::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Browser, encode};
use crate::oauth::{Bench, bench};

const GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

struct Chain {
    bench: Bench,
    orders: String,
    stock: String,
}

/// Browser → shop/web; its app calls as `orders-app` on to `stock/api`, which calls as `stock-app` on to `depot/api`.
async fn chain() -> Chain {
    let bench = bench().await;
    let secret = async |id: &str, introspects: &str, audience: &str| {
        let client = json!({"client_id": id, "grant_types": [GRANT], "scopes": ["orders"], "audiences": [audience], "introspects": [introspects]});
        let made = bench.service.admin(Method::POST, "/clients", &client).await.expect(201).json();
        made["client_secret"].as_str().unwrap().to_owned()
    };
    for policy in ["stock/api", "depot/api"] {
        let origin = format!("https://{}.example.com", policy.replace('/', "-"));
        bench.service.register_policy(policy, &origin).await.expect(200);
    }
    let orders = secret("orders-app", "shop/web", "stock/api").await;
    let stock = secret("stock-app", "stock/api", "depot/api").await;
    Chain { bench, orders, stock }
}

impl Chain {
    async fn exchange(&self, client: &str, token: &str, extra: &[(&str, &str)]) -> Answer {
        let secret = if client == "orders-app" { &self.orders } else { &self.stock };
        let mut form = vec![
            ("grant_type", GRANT),
            ("client_id", client),
            ("client_secret", secret.as_str()),
            ("subject_token", token),
            ("subject_token_type", ACCESS),
        ];
        form.retain(|(name, _)| !extra.iter().any(|(other, _)| other == name));
        form.extend(extra);
        let service = &self.bench.service;
        service.send(Method::POST, &service.public("/oauth2/token"), &[], encode(&form)).await
    }

    async fn tokens(&self, scope: &str) -> Value {
        let code = self.bench.code(&mut Browser::default(), &[("scope", scope)]).await;
        self.bench.redeem(&code).await.expect(200).json()
    }
}

fn access(tokens: &Value) -> &str {
    tokens["access_token"].as_str().unwrap()
}

fn claims(jwt: &str) -> Value {
    use base64::Engine as _;
    let body = jwt.split('.').nth(1).unwrap();
    serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(body).unwrap()).unwrap()
}

#[tokio::test]
async fn each_hop_gets_a_token_for_the_next_that_says_who_acts() {
    let chain = chain().await;
    let service = &chain.bench.service;
    let first = chain.tokens("openid orders").await;
    let second = chain.exchange("orders-app", access(&first), &[("audience", "stock/api")]).await.expect(200).json();
    assert_eq!((&second["issued_token_type"], &second["scope"]), (&json!(ACCESS), &json!("orders")));
    assert_eq!((second.get("refresh_token"), second.get("id_token")), (None, None));
    assert_eq!(service.introspect(access(&second), "shop/web").await, json!({"active": false}), "only onwards");
    let at_stock = service.introspect(access(&second), "stock/api").await;
    let jwt = claims(at_stock["jwt"].as_str().unwrap());
    assert_eq!((&jwt["act"], &jwt["client_id"]), (&json!({"sub": "orders-app"}), &json!("orders-app")));
    assert_eq!(jwt["sub"], service.introspect(access(&first), "shop/web").await["sub"], "for the same person");

    let third = chain.exchange("stock-app", access(&second), &[]).await.expect(200).json();
    let jwt = service.introspect(access(&third), "depot/api").await;
    let jwt = claims(jwt["jwt"].as_str().unwrap());
    assert_eq!(jwt["act"], json!({"sub": "stock-app", "act": {"sub": "orders-app"}}));

    // Ending the first ends what came of it.
    let revoke = [("client_id", "app"), ("client_secret", chain.bench.secret.as_str()), ("token", access(&first))];
    service.send(Method::POST, &service.public("/oauth2/revoke"), &[], encode(&revoke)).await.expect(200);
    assert_eq!(service.introspect(access(&second), "stock/api").await, json!({"active": false}));
    assert_eq!(service.introspect(access(&third), "depot/api").await, json!({"active": false}));
    assert_eq!(chain.exchange("orders-app", access(&first), &[]).await.expect(400).json()["error"], "invalid_request");
}

#[tokio::test]
async fn an_app_exchanges_the_jwt_that_its_sidecar_gave_it() {
    let chain = chain().await;
    let service = &chain.bench.service;
    let mut browser = Browser::default();
    let session = service.sign_in_at(&mut browser, "shop/web", "https://shop.example.com", "ann").await;
    let jwt = service.introspect(&session, "shop/web").await["jwt"].as_str().unwrap().to_owned();
    let by_jwt = [("subject_token_type", JWT)];
    let tokens = chain.exchange("orders-app", &jwt, &by_jwt).await.expect(200).json();
    assert_eq!(service.introspect(access(&tokens), "stock/api").await["active"], true);
    chain.exchange("stock-app", &jwt, &by_jwt).await.expect(400);
    let (body, _) = jwt.rsplit_once('.').unwrap();
    chain.exchange("orders-app", &format!("{body}.{}", "A".repeat(86)), &by_jwt).await.expect(400);

    let csrf = browser.get(service, "/account").await.expect(200).field("csrf").unwrap();
    browser.post(service, "/account/sign-out", &[("csrf", &csrf), ("what", "here")]).await.expect(303);
    assert_eq!(service.introspect(access(&tokens), "stock/api").await, json!({"active": false}), "signed out");
    chain.exchange("orders-app", &jwt, &by_jwt).await.expect(400);
}

#[tokio::test]
async fn nobody_exchanges_what_was_not_meant_for_them_or_gets_more_than_there_was() {
    let chain = chain().await;
    let first = chain.tokens("openid").await;
    let id_token = first["id_token"].as_str().unwrap().to_owned();
    let refresh = first["refresh_token"].as_str().unwrap().to_owned();
    let ask = async |client: &str, token: &str, extra: &[(&str, &str)]| {
        let answer = chain.exchange(client, token, extra).await;
        (answer.status.as_u16(), answer.json()["error"].as_str().unwrap_or_default().to_owned())
    };
    let token = access(&first);
    for (why, client, token, extra, error) in [
        ("not its audience", "stock-app", token, vec![], "invalid_request"),
        ("another's audience", "orders-app", token, vec![("audience", "depot/api")], "invalid_target"),
        ("where it came from", "orders-app", token, vec![("resource", "shop/web")], "invalid_target"),
        ("a scope that the token has not", "orders-app", token, vec![("scope", "orders")], "invalid_scope"),
        ("a scope that the client has not", "orders-app", token, vec![("scope", "openid")], "invalid_scope"),
        ("a refresh token", "orders-app", refresh.as_str(), vec![], "invalid_request"),
        ("an ID token as JWT", "orders-app", id_token.as_str(), vec![("subject_token_type", JWT)], "invalid_request"),
        ("junk", "orders-app", "ca_junk", vec![], "invalid_request"),
        ("no type", "orders-app", token, vec![("subject_token_type", "")], "invalid_request"),
        ("another type", "orders-app", token, vec![("subject_token_type", "urn:x")], "invalid_request"),
        ("another type wanted", "orders-app", token, vec![("requested_token_type", JWT)], "invalid_request"),
        ("an actor's token", "orders-app", token, vec![("actor_token", token)], "invalid_request"),
    ] {
        assert_eq!(ask(client, token, &extra).await, (400, error.to_owned()), "{why}");
    }
    let app = [("grant_type", GRANT), ("subject_token", token), ("subject_token_type", ACCESS)];
    assert_eq!(chain.bench.token(&app).await.expect(400).json()["error"], "unauthorized_client");
    let public = json!({"client_id": "spa", "public": true, "grant_types": [GRANT]});
    chain.bench.service.admin(Method::POST, "/clients", &public).await.expect(422);
}
