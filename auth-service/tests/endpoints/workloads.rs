//! Who may call the internal port.

use http::Method;
use serde_json::{Value, json};

use crate::harness::{ADMIN, Answer, Cluster, Service};

const INTROSPECT: &str = "/internal/v1/introspect";

async fn ask(service: &Service, token: &str) -> Answer {
    let form = [("token", "junk"), ("policy", "shop/web")];
    service.internal_form(INTROSPECT, &format!("Bearer {token}"), &form).await
}

async fn shop() -> Service {
    let service = Service::start().await;
    service.register_policy("shop/web", "https://shop.example.com").await.expect(200);
    service
}

#[tokio::test]
async fn only_a_service_account_token_as_it_should_be_is_accepted() {
    let service = shop().await;
    let now = service.now();
    let good = Cluster::claims("shop", "app", now);
    ask(&service, &service.cluster.sign(&good)).await.expect(200);
    let change = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        service.cluster.sign(&claims)
    };
    let without = |name: &str| {
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().remove(name);
        service.cluster.sign(&claims)
    };
    for (why, token) in [
        ("expired", change("exp", json!(now - 31))),
        ("not valid yet", change("nbf", json!(now + 60))),
        ("another audience", change("aud", json!(["https://kubernetes.default.svc"]))),
        ("the admin API's audience", change("aud", json!(["cloakroom-admin"]))),
        ("no audience", without("aud")),
        ("another issuer", change("iss", json!("https://evil.example"))),
        ("no issuer", without("iss")),
        ("no expiry", without("exp")),
        ("no subject", without("sub")),
        ("no kubernetes claims", without("kubernetes.io")),
        ("a subject of another namespace", change("sub", json!("system:serviceaccount:bank:app"))),
        ("a person", change("sub", json!("ann"))),
    ] {
        let answer = ask(&service, &token).await;
        assert_eq!(answer.status, 401, "{why}: {}", answer.body);
        assert_eq!(answer.header("www-authenticate"), "Bearer", "{why}");
    }
}

#[tokio::test]
async fn a_forged_signature_is_refused_in_every_form() {
    let service = shop().await;
    let stranger = Cluster::new(66).await;
    let claims = Cluster::claims("shop", "app", service.now());
    let good = service.cluster.sign(&claims);
    let (head, signature) = good.rsplit_once('.').unwrap();
    let (header, payload) = head.split_once('.').unwrap();
    let encode = |json: &str| {
        use base64::Engine as _;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(json)
    };
    let kid = jsonwebtoken::decode_header(&good).unwrap().kid.unwrap();
    let hs256 = {
        // The public key as an HMAC secret (RFC 8725 §2.1).
        let header = jsonwebtoken::Header { kid: Some(kid.clone()), ..Default::default() };
        let secret = service.cluster.jwks().to_string();
        jsonwebtoken::encode(&header, &claims, &jsonwebtoken::EncodingKey::from_secret(secret.as_bytes())).unwrap()
    };
    for (why, token) in [
        ("another cluster's key", stranger.sign(&claims)),
        ("alg none", format!("{}.{payload}.", encode(&format!(r#"{{"alg":"none","kid":"{kid}"}}"#)))),
        ("alg none with a signature", format!("{}.{payload}.{signature}", encode(r#"{"alg":"none"}"#))),
        ("HMAC with the public key", hs256),
        ("no signature", format!("{head}.")),
        ("another payload", format!("{header}.{}.{signature}", encode(&claims.to_string().replace("shop", "bank")))),
        ("not a token", "x".to_owned()),
        ("huge", "x".repeat(60_000)),
    ] {
        let answer = ask(&service, &token).await;
        assert_eq!(answer.status, 401, "{why}: {}", answer.body);
    }
}

#[tokio::test]
async fn a_workload_acts_for_its_own_namespace_only() {
    let service = shop().await;
    service.register_policy("bank/web", "https://bank.example.com").await.expect(200);
    let stranger = service.workload("bank");
    let form = [("token", "junk"), ("policy", "shop/web")];
    service.internal_form(INTROSPECT, &stranger, &form).await.expect(403);
    let patch = json!({"token": "junk", "policy": "shop/web", "version": 0, "patch": {}});
    service.internal_json(Method::POST, "/internal/v1/session", &stranger, &patch).await.expect(403);
    for (path, body) in [
        (
            "/internal/v1/par",
            json!({"client_id": "shop/web", "response_type": "code", "redirect_uri": "x", "state": "x",
            "code_challenge": "x", "code_challenge_method": "S256", "return_to": "/"}),
        ),
        (
            "/internal/v1/token",
            json!({"client_id": "shop/web", "grant_type": "authorization_code", "code": "x",
            "redirect_uri": "x", "code_verifier": "x"}),
        ),
    ] {
        service.internal_json(Method::POST, path, &stranger, &body).await.expect(403);
    }
    for body in [json!({"id": "0123456789ABCDEFGHIJKL"}), json!({"sub": "somebody"})] {
        service.internal_json(Method::POST, "/internal/v1/revoke", &stranger, &body).await.expect(403);
    }
}

#[tokio::test]
async fn only_operators_register_policies() {
    let service = shop().await;
    let body = crate::harness::policy_body("shop/web", "https://shop.example.com");
    let path = "/internal/v1/policies/shop/web";
    service.internal_json(Method::PUT, path, &service.workload("shop"), &body).await.expect(403);
    service.internal_json(Method::DELETE, path, &service.workload("shop"), &json!({})).await.expect(403);
    service
        .internal_json(Method::GET, "/internal/v1/policies", &service.workload("shop"), &json!({}))
        .await
        .expect(403);
    let lookalike = format!("Bearer {}", service.cluster.sign(&Cluster::claims("shop", "operator", service.now())));
    service.internal_json(Method::PUT, path, &lookalike, &body).await.expect(403);
    service.internal_json(Method::PUT, path, &format!("Bearer {ADMIN}"), &body).await.expect(200);
}

#[tokio::test]
async fn the_admin_api_is_for_the_admin_token_and_listed_accounts() {
    let service = Service::start().await;
    let list = async |authorization: &str| {
        service.internal_json(Method::GET, "/admin/v1/users", authorization, &json!({})).await.status.as_u16()
    };
    let mut claims = Cluster::claims("ops", "admin", service.now());
    claims["aud"] = json!(["cloakroom-admin"]);
    let mut other = Cluster::claims("ops", "intern", service.now());
    other["aud"] = json!(["cloakroom-admin"]);
    let bearer = |claims: &Value| format!("Bearer {}", service.cluster.sign(claims));
    assert_eq!(list(&format!("Bearer {ADMIN}")).await, 200);
    assert_eq!(list(&bearer(&claims)).await, 200);
    assert_eq!(list(&bearer(&other)).await, 403);
    assert_eq!(list(&bearer(&Cluster::claims("ops", "admin", service.now()))).await, 401, "audience cloakroom");
    assert_eq!(list(&service.operator()).await, 401);
    assert_eq!(list("Bearer admin-token-of-the-testz").await, 401);
    assert_eq!(list("Basic YTpi").await, 401);
    let none = service.send(Method::GET, &service.internal("/admin/v1/users"), &[], "").await;
    assert_eq!(none.status, 401);
}

#[tokio::test]
async fn an_issuer_whose_keys_cannot_be_had_is_an_outage_and_not_a_refusal() {
    let service = Service::start_as(
        |config| config["workload_issuers"][0]["jwks"] = json!({"url": {"url": "http://127.0.0.1:1/jwks"}}),
        None,
    )
    .await;
    let answer = ask(&service, &service.cluster.sign(&Cluster::claims("shop", "app", service.now()))).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, "1"));
}

#[tokio::test]
async fn keys_of_an_issuer_are_had_again_when_a_new_one_signs() {
    let directory = std::env::temp_dir().join(format!("cloakroom-jwks-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let file = directory.join("jwks.json");
    std::fs::write(&file, Cluster::new(1).await.jwks().to_string()).unwrap();
    let path = file.to_str().unwrap().to_owned();
    let service = Service::start_as(|config| config["workload_issuers"][0]["jwks"] = json!({"file": path}), None).await;
    let token = service.cluster.sign(&Cluster::claims("shop", "app", service.now()));
    ask(&service, &token).await.expect(401);
    std::fs::write(&file, service.cluster.jwks().to_string()).unwrap();
    ask(&service, &token).await.expect(401);
    service.clock.pass(11);
    assert_eq!(ask(&service, &token).await.status, 503, "known now; the policy is not registered");
    std::fs::remove_dir_all(&directory).unwrap();
}
