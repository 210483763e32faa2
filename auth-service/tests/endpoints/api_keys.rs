//! The operator registers API keys by their hashes, as `ApiKey` resources ask for them.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cloakroom_auth_service::clock::Clock;
use cloakroom_auth_service::store::Store;
use cloakroom_auth_service::store::memory::MemoryStore;
use cloakroom_protocol::token::{OpaqueToken, TokenKind};
use http::Method;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use crate::harness::{Answer, Browser, Service, encode, policy_body};

const SHOP: &str = "https://shop.example.com";

fn key(seed: u64) -> OpaqueToken {
    OpaqueToken::generate(TokenKind::ApiKey, &mut StdRng::seed_from_u64(seed))
}

/// The same key with another secret.
fn rotated(before: &OpaqueToken, seed: u64) -> OpaqueToken {
    OpaqueToken::with_id(TokenKind::ApiKey, before.id(), &mut StdRng::seed_from_u64(seed))
}

fn hash(key: &OpaqueToken) -> String {
    URL_SAFE_NO_PAD.encode(key.secret_hash().as_bytes())
}

fn body(of: &str, key: &OpaqueToken) -> Value {
    json!({"of": of, "id": key.id(), "secret": hash(key), "scopes": ["orders"], "audiences": ["shop/web"]})
}

async fn put(service: &Service, body: &Value) -> Answer {
    let path = format!("/internal/v1/api-keys/{}", body["of"].as_str().unwrap());
    service.internal_json(Method::PUT, &path, &service.operator(), body).await
}

async fn delete(service: &Service, of: &str) -> Answer {
    let path = format!("/internal/v1/api-keys/{of}");
    service.internal_json(Method::DELETE, &path, &service.operator(), &json!({})).await
}

async fn is_active(service: &Service, key: &OpaqueToken, policy: &str) -> bool {
    service.introspect(key.expose(), policy).await["active"].as_bool().unwrap()
}

async fn service() -> Service {
    let service = Service::start().await;
    service.register_policy("shop/web", SHOP).await.expect(200);
    service.register_policy("bank/web", "https://bank.example.com").await.expect(200);
    service
}

#[tokio::test]
async fn a_registered_key_counts_at_its_policy_until_it_is_removed() {
    let service = service().await;
    let key = key(1);
    for _ in 0..2 {
        put(&service, &body("shop/reports", &key)).await.expect(204);
    }
    let seen = service.introspect(key.expose(), "shop/web").await;
    assert_eq!((seen["sub"].as_str(), seen["scope"].as_str()), (Some("service:shop/reports"), Some("orders")));
    assert!(!is_active(&service, &key, "bank/web").await);
    let shown = service.admin(Method::GET, &format!("/api-keys/{}", key.id()), &json!({})).await.expect(200).json();
    assert_eq!((shown["resource"].as_str(), shown["name"].as_str()), (Some("shop/reports"), Some("shop/reports")));
    for _ in 0..2 {
        delete(&service, "shop/reports").await.expect(204);
        assert!(!is_active(&service, &key, "shop/web").await);
    }
}

#[tokio::test]
async fn what_is_sent_again_is_what_counts() {
    let service = service().await;
    let key = key(1);
    let mut wanted = body("shop/reports", &key);
    put(&service, &wanted).await.expect(204);
    wanted["scopes"] = json!(["orders", "stock"]);
    wanted["expires"] = json!(service.now() + 100);
    put(&service, &wanted).await.expect(204);
    assert_eq!(service.introspect(key.expose(), "shop/web").await["scope"], "orders stock");
    // The end is moved, and then taken away.
    wanted["expires"] = json!(service.now() + 300);
    put(&service, &wanted).await.expect(204);
    service.clock.pass(150);
    assert!(is_active(&service, &key, "shop/web").await);
    wanted.as_object_mut().unwrap().remove("expires");
    put(&service, &wanted).await.expect(204);
    service.clock.pass(100_000);
    assert!(is_active(&service, &key, "shop/web").await);
    put(&service, &wanted).await.expect(204);
}

#[tokio::test]
async fn two_secrets_are_good_while_a_rotation_overlaps_and_one_where_it_does_not() {
    let service = service().await;
    let old = key(1);
    put(&service, &body("shop/reports", &old)).await.expect(204);
    let new = rotated(&old, 2);
    let mut wanted = body("shop/reports", &new);
    wanted["before"] = json!({"secret": hash(&old), "until": service.now() + 100});
    put(&service, &wanted).await.expect(204);
    assert!(is_active(&service, &old, "shop/web").await && is_active(&service, &new, "shop/web").await);
    service.clock.pass(101);
    assert!(!is_active(&service, &old, "shop/web").await && is_active(&service, &new, "shop/web").await);
    let newest = rotated(&new, 3);
    put(&service, &body("shop/reports", &newest)).await.expect(204);
    assert!(!is_active(&service, &new, "shop/web").await && is_active(&service, &newest, "shop/web").await);
    let path = format!("/api-keys/{}/rotate", newest.id());
    let refused = service.admin(Method::POST, &path, &json!({})).await.expect(409).json();
    assert!(refused["detail"].as_str().unwrap().contains("ApiKey shop/reports"), "{refused}");
}

#[tokio::test]
async fn another_key_for_the_same_resource_ends_the_one_before() {
    let service = service().await;
    let (lost, new) = (key(1), key(2));
    put(&service, &body("shop/reports", &lost)).await.expect(204);
    put(&service, &body("shop/reports", &new)).await.expect(204);
    assert!(!is_active(&service, &lost, "shop/web").await && is_active(&service, &new, "shop/web").await);
    delete(&service, "shop/reports").await.expect(204);
    assert!(!is_active(&service, &new, "shop/web").await);
}

#[tokio::test]
async fn after_a_loss_of_the_store_the_same_key_is_good_again() {
    let service = service().await;
    let key = key(1);
    put(&service, &body("shop/reports", &key)).await.expect(204);
    // A service with an empty store knows nothing of it.
    let service = self::service().await;
    assert!(!is_active(&service, &key, "shop/web").await);
    put(&service, &body("shop/reports", &key)).await.expect(204);
    assert!(is_active(&service, &key, "shop/web").await);
}

#[tokio::test]
async fn a_key_that_an_administrator_revoked_does_not_come_back() {
    let service = service().await;
    let key = key(1);
    put(&service, &body("shop/reports", &key)).await.expect(204);
    service.admin(Method::DELETE, &format!("/api-keys/{}", key.id()), &json!({})).await.expect(200);
    // Not now, and not once nothing but the resource remembers it.
    for _ in 0..2 {
        put(&service, &body("shop/reports", &key)).await.expect(410);
        assert!(!is_active(&service, &key, "shop/web").await);
        service.clock.pass(100_000);
    }
    let new = self::key(2);
    put(&service, &body("shop/reports", &new)).await.expect(204);
    assert!(is_active(&service, &new, "shop/web").await);
}

#[tokio::test]
async fn nobody_takes_over_a_key_by_its_id() {
    let service = service().await;
    let victim = key(1);
    put(&service, &body("shop/reports", &victim)).await.expect(204);
    let made = json!({"service": "ci", "audiences": ["shop/web"]});
    let made = service.admin(Method::POST, "/api-keys", &made).await.expect(201).json();
    let made: OpaqueToken = made["api_key"].as_str().unwrap().parse().unwrap();
    for victim in [&victim, &made] {
        for of in ["bank/reports", "shop/other"] {
            let mut wanted = body(of, &rotated(victim, 9));
            wanted["audiences"] = json!([format!("{}/web", of.split_once('/').unwrap().0)]);
            put(&service, &wanted).await.expect(409);
        }
        assert!(is_active(&service, victim, "shop/web").await, "it is as it was");
    }
    delete(&service, "bank/reports").await.expect(204);
    assert!(is_active(&service, &victim, "shop/web").await);
}

#[tokio::test]
async fn a_key_with_the_id_of_somebody_s_session_is_refused() {
    let service = service().await;
    service.create_user("ann").await;
    let session = service.sign_in_at(&mut Browser::default(), "shop/web", SHOP, "ann").await;
    let session: OpaqueToken = session.parse().unwrap();
    let mut wanted = body("bank/reports", &rotated(&session, 9));
    wanted["audiences"] = json!(["bank/web"]);
    put(&service, &wanted).await.expect(409);
    // Or ending the key would sign her out.
    wanted["id"] = json!(key(2).id());
    put(&service, &wanted).await.expect(204);
    delete(&service, "bank/reports").await.expect(204);
    assert_eq!(service.introspect(session.expose(), "shop/web").await["active"], true);
}

#[tokio::test]
async fn a_namespace_gets_keys_for_its_own_audiences_only() {
    let service = service().await;
    let mut policy = policy_body("shop/api", SHOP);
    policy["audience"] = json!("shop-api");
    service.register(&policy).await.expect(200);
    let key = key(1);
    let ask = async |of: &str, audiences: Value| {
        let mut wanted = body(of, &key);
        wanted["audiences"] = audiences;
        put(&service, &wanted).await
    };
    ask("bank/reports", json!(["shop/web"])).await.expect(409);
    ask("bank/reports", json!(["bank/web", "shop-api"])).await.expect(409);
    // A policy's name is its namespace's, whether there is such a policy or not; any other word could be anybody's tomorrow.
    ask("bank/reports", json!(["shop/not-there"])).await.expect(409);
    for nobodys in ["partner-api", "cloakroom", "cloakroom-admin", "*", "bank", "bank/", "/web"] {
        let refused = ask("bank/reports", json!([nobodys])).await.expect(422).json();
        assert!(refused["detail"].as_str().unwrap().contains("no AuthPolicy"), "{refused}");
    }
    ask("bank/reports", json!([])).await.expect(422);
    for policy in ["shop/web", "shop/api", "bank/web"] {
        assert!(!is_active(&service, &key, policy).await, "{policy}");
    }
    ask("shop/reports", json!(["shop-api", "shop/later"])).await.expect(204);
    assert!(is_active(&service, &key, "shop/api").await && !is_active(&service, &key, "shop/web").await);
}

#[tokio::test]
async fn a_key_does_not_follow_an_audience_into_another_namespace() {
    let service = service().await;
    let mut policy = policy_body("bank/api", "https://bank.example.com");
    policy["audience"] = json!("payments");
    service.register(&policy).await.expect(200);
    let key = key(1);
    let mut wanted = body("bank/reports", &key);
    wanted["audiences"] = json!(["payments"]);
    put(&service, &wanted).await.expect(204);
    let gateway = json!({"client_id": "gateway", "introspects": ["payments"]});
    let gateway = service.admin(Method::POST, "/clients", &gateway).await.expect(201).json();
    let secret = gateway["client_secret"].as_str().unwrap().to_owned();
    let by_gateway = async || {
        let form = encode(&[("client_id", "gateway"), ("client_secret", &secret), ("token", key.expose())]);
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let answer = service.send(Method::POST, &service.public("/oauth2/introspect"), &headers, form).await;
        answer.expect(200).json()["active"].as_bool().unwrap()
    };
    assert!(is_active(&service, &key, "bank/api").await && by_gateway().await);
    service
        .internal_json(Method::DELETE, "/internal/v1/policies/bank/api", &service.operator(), &json!({}))
        .await
        .expect(204);
    assert!(!by_gateway().await, "nobody holds the audience");
    policy["policy"] = json!("shop/api");
    policy["origins"] = json!([SHOP]);
    service.register(&policy).await.expect(200);
    assert!(!is_active(&service, &key, "shop/api").await && !by_gateway().await);
    put(&service, &wanted).await.expect(409);
}

#[tokio::test]
async fn only_operators_register_and_what_they_send_has_to_fit() {
    let service = service().await;
    let key = key(1);
    let good = body("shop/reports", &key);
    let path = "/internal/v1/api-keys/shop/reports";
    for method in [Method::PUT, Method::DELETE] {
        service.internal_json(method.clone(), path, &service.workload("shop"), &good).await.expect(403);
        service.internal_json(method, path, "Bearer nonsense", &good).await.expect(401);
    }
    for (field, value, status) in [
        ("of", json!("shop/other"), 400),
        ("of", json!("reports"), 400),
        ("id", json!("short"), 400),
        ("secret", json!("short"), 400),
        ("scopes", json!(["two words"]), 422),
        ("expires", json!(service.now()), 422),
        ("before", json!({"secret": hash(&key), "until": service.now() + 2_592_100}), 422),
    ] {
        let mut bad = good.clone();
        bad[field] = value;
        let answer = service.internal_json(Method::PUT, path, &service.operator(), &bad).await;
        assert_eq!(answer.status.as_u16(), status, "{field}: {}", answer.body);
    }
    let elsewhere = "/internal/v1/api-keys/Shop/reports";
    service.internal_json(Method::PUT, elsewhere, &service.operator(), &good).await.expect(400);
    assert!(!is_active(&service, &key, "shop/web").await);
}

#[tokio::test]
async fn revoking_reaches_sidecars_as_an_event() {
    let store = Arc::new(MemoryStore::new(Clock::system()));
    let service = Service::start_as(|_| {}, Some(store.clone())).await;
    service.register_policy("shop/web", SHOP).await.expect(200);
    let key = key(1);
    put(&service, &body("shop/reports", &key)).await.expect(204);
    let before = store.tail().await.unwrap();
    put(&service, &body("shop/reports", &rotated(&key, 2))).await.expect(204);
    put(&service, &body("shop/reports", &rotated(&key, 2))).await.expect(204);
    delete(&service, "shop/reports").await.expect(204);
    let events = store.next_entries(before, Duration::ZERO).await.unwrap();
    let of_key = events.iter().filter(|event| event.entry.data.contains(key.id().as_str()));
    let names: Vec<&str> = of_key.map(|event| event.entry.name.as_str()).collect();
    assert_eq!(names, ["updated", "revoked"], "once for what changed, not for what was repeated");
}
