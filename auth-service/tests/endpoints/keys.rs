//! Signing keys change while the service is in use.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{DecodingKey, Validation, decode, decode_header};
use serde_json::{Value, json};

use crate::harness::{Service, TestClock};
use cloakroom_auth_service::store::Store;
use cloakroom_auth_service::store::memory::MemoryStore;

const POLICY: &str = "shop/web";

/// Two replicas over one store and one clock, and an API key that asks for JWTs.
struct Replicas {
    services: Vec<Service>,
    clock: TestClock,
    token: String,
}

impl Replicas {
    async fn start(name: &str) -> Self {
        let clock = TestClock::new();
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new(clock.clock()));
        // What one replica sealed the others can open.
        let sealing = sealing_key(&format!("shared-{name}"), 7);
        let mut services = Vec::new();
        for seed in 0..2 {
            let adjust = |config: &mut Value| config["signing"] = json!({"encryption_key_files": [sealing]});
            services.push(Service::replica(adjust, Arc::clone(&store), clock.clone(), seed).await);
        }
        for service in &services {
            service.running.ready().await;
        }
        std::fs::remove_file(sealing).unwrap();
        services[0].register_policy(POLICY, "https://shop.example.com").await.expect(200);
        let key = json!({"service": "probe", "audiences": [POLICY]});
        let key = services[0].admin(Method::POST, "/api-keys", &key).await.expect(201).json();
        let replicas = Self { services, clock, token: key["api_key"].as_str().unwrap().to_owned() };
        for at in 0..replicas.services.len() {
            // The others learn of the policy by an event.
            replicas.until(async || replicas.jwt(at).await.is_some()).await;
        }
        replicas
    }

    async fn until(&self, holds: impl AsyncFn() -> bool) {
        for _ in 0..600 {
            if holds().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("still not so");
    }

    async fn jwt(&self, at: usize) -> Option<String> {
        let service = &self.services[at];
        let form = [("token", self.token.as_str()), ("policy", POLICY)];
        let answer = service.internal_form("/internal/v1/introspect", &service.workload("shop"), &form).await;
        (answer.status == 200).then(|| answer.json()["jwt"].as_str().unwrap().to_owned())
    }

    async fn keys(&self, at: usize) -> JwkSet {
        let url = self.services[at].public("/oauth2/jwks.json");
        serde_json::from_str(&self.services[at].send(Method::GET, &url, &[], "").await.expect(200).body).unwrap()
    }

    async fn rotate(&self, emergency: bool) {
        let body = json!({ "emergency": emergency });
        self.services[0].admin(Method::POST, "/keys/rotate", &body).await.expect(204);
    }
}

/// A file with a key that encrypts signing keys at rest.
fn sealing_key(name: &str, byte: u8) -> String {
    let path = std::env::temp_dir().join(format!("cloakroom-sealing-{}-{name}", std::process::id()));
    std::fs::write(&path, [byte; 32]).unwrap();
    path.to_str().unwrap().to_owned()
}

fn verifies(jwt: &str, keys: &JwkSet) -> bool {
    let header = decode_header(jwt).unwrap();
    let Some(jwk) = keys.find(header.kid.as_deref().unwrap()) else { return false };
    let mut validation = Validation::new(header.alg);
    validation.validate_exp = false;
    validation.set_audience(&[POLICY]);
    decode::<Value>(jwt, &DecodingKey::from_jwk(jwk).unwrap(), &validation).is_ok()
}

/// A key that was not there before; others may have gone at the same time.
fn has_another(keys: &JwkSet, before: &JwkSet) -> bool {
    keys.keys.iter().any(|key| before.find(key.common.key_id.as_deref().unwrap()).is_none())
}

fn kid(jwt: &str) -> String {
    decode_header(jwt).unwrap().kid.unwrap()
}

#[tokio::test]
async fn rotating_by_schedule_and_by_command_fails_no_verification() {
    let replicas = Replicas::start("rotation").await;
    // An app that looks at the keys twice an hour, at whichever replica.
    let mut known = replicas.keys(0).await;
    let (mut used, mut jwts) = (std::collections::BTreeSet::new(), Vec::new());
    for step in 0..240_usize {
        if step % 60 == 30 {
            let before = replicas.keys(1).await;
            replicas.rotate(false).await;
            replicas.until(async || has_another(&replicas.keys(1).await, &before)).await;
        }
        if step % 3 == 0 {
            known = replicas.keys(step % 2).await;
        }
        let jwt = replicas.jwt(step % 2).await.unwrap();
        assert!(verifies(&jwt, &known), "step {step}: signed with a key that was not published before");
        used.insert(kid(&jwt));
        jwts.push(jwt);
        // Those of the last minutes are still in use.
        for recent in jwts.iter().rev().take(3) {
            assert!(verifies(recent, &known), "step {step}: a key was forgotten too soon");
        }
        replicas.clock.pass(600);
    }
    assert!(used.len() >= 4, "{used:?}");
    // By schedule: a month later there is a successor, published first.
    replicas.clock.pass(29 * 86_400 + 23 * 3600 + 1800);
    let before = replicas.keys(0).await;
    replicas.until(async || has_another(&replicas.keys(0).await, &before)).await;
    assert!(verifies(&replicas.jwt(0).await.unwrap(), &before), "it does not sign yet");
}

#[tokio::test]
async fn in_an_emergency_what_the_old_key_signed_is_refused_at_once_and_service_goes_on() {
    let replicas = Replicas::start("emergency").await;
    let before = replicas.jwt(1).await.unwrap();
    replicas.rotate(true).await;
    let keys = replicas.keys(0).await;
    assert!(!verifies(&before, &keys) && keys.keys.len() == 1);
    assert!(verifies(&replicas.jwt(0).await.unwrap(), &keys));
    replicas.until(async || verifies(&replicas.jwt(1).await.unwrap(), &keys)).await;
}

#[tokio::test]
async fn a_new_encryption_key_takes_over_without_a_new_signing_key() {
    let (old, new) = (sealing_key("old", 1), sealing_key("new", 2));
    let clock = TestClock::new();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(clock.clock()));
    let start = async |files: Vec<&String>, seed| {
        let adjust = |config: &mut Value| config["signing"] = json!({ "encryption_key_files": files });
        let service = Service::replica(adjust, Arc::clone(&store), clock.clone(), seed).await;
        service.running.ready().await;
        service
    };
    let keys = async |service: &Service| {
        service.send(Method::GET, &service.public("/oauth2/jwks.json"), &[], "").await.expect(200).body
    };
    let first = start(vec![&old], 1).await;
    let published = keys(&first).await;
    let sealed =
        async || store.read_all(&cloakroom_auth_service::store::Key::new("signing-keys", "keys")).await.unwrap();
    let before = sealed().await;
    let second = start(vec![&new, &old], 2).await;
    assert_eq!(keys(&second).await, published);
    assert_ne!(sealed().await, before, "sealed anew");
    second.running.stop().await;
    first.running.stop().await;
    let third = start(vec![&new], 3).await;
    assert_eq!(keys(&third).await, published, "the old encryption key is not needed any more");
    for file in [old, new] {
        std::fs::remove_file(file).unwrap();
    }
}
