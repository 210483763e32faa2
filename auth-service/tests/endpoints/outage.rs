//! While the store is away: 503 and never a refusal; back without a restart.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use cloakroom_auth_service::store::memory::MemoryStore;
use cloakroom_auth_service::store::{
    Backlog, Created, Entry, EventId, Fields, Guard, Key, Revocation, Store, StoreError, StreamEntry, Update, Updated,
};
use http::Method;
use serde_json::json;

use crate::harness::{ADMIN, Browser, Service, TestClock, encode};

const SHOP: &str = "https://shop.example.com";

/// A store that can be taken away.
struct Fragile {
    inner: MemoryStore,
    away: Arc<AtomicBool>,
    /// What somebody removes just before a grant is written.
    meanwhile: Mutex<Option<Key>>,
}

impl Fragile {
    fn new(clock: &TestClock) -> Self {
        let inner = MemoryStore::new(clock.clock());
        Self { inner, away: Arc::default(), meanwhile: Mutex::default() }
    }

    fn here(&self) -> Result<&MemoryStore, StoreError> {
        if self.away.load(Ordering::Relaxed) {
            Err(StoreError::Unavailable("taken away".to_owned()))
        } else {
            Ok(&self.inner)
        }
    }
}

#[async_trait]
impl Store for Fragile {
    async fn create(
        &self,
        key: &Key,
        fields: Vec<(String, String)>,
        ttl: Option<Duration>,
    ) -> Result<Created, StoreError> {
        let meanwhile = self.meanwhile.lock().unwrap().take_if(|_| key.kind() == "grant");
        if let Some(gone) = meanwhile {
            self.here()?.take(&gone).await?;
        }
        self.here()?.create(key, fields, ttl).await
    }
    async fn read(&self, key: &Key, fields: &[&str]) -> Result<Option<Vec<Option<String>>>, StoreError> {
        self.here()?.read(key, fields).await
    }
    async fn read_all(&self, key: &Key) -> Result<Option<Fields>, StoreError> {
        self.here()?.read_all(key).await
    }
    async fn update(&self, key: &Key, update: Update) -> Result<Updated, StoreError> {
        self.here()?.update(key, update).await
    }
    async fn upsert(&self, key: &Key, update: Update) -> Result<Updated, StoreError> {
        self.here()?.upsert(key, update).await
    }
    async fn take(&self, key: &Key) -> Result<Option<Fields>, StoreError> {
        self.here()?.take(key).await
    }
    async fn revoke(&self, keys: &[Key], tombstone: Duration, event: &Entry) -> Result<Revocation, StoreError> {
        self.here()?.revoke(keys, tombstone, event).await
    }
    async fn recover(&self) -> Result<usize, StoreError> {
        self.here()?.recover().await
    }
    async fn is_dead(&self, key: &Key) -> Result<bool, StoreError> {
        self.here()?.is_dead(key).await
    }
    async fn index_add(
        &self,
        index: &Key,
        member: &str,
        ttl: Option<Duration>,
        guard: Option<Guard>,
    ) -> Result<bool, StoreError> {
        self.here()?.index_add(index, member, ttl, guard).await
    }
    async fn index_list(&self, index: &Key, offset: usize, limit: usize) -> Result<Vec<String>, StoreError> {
        self.here()?.index_list(index, offset, limit).await
    }
    async fn index_remove(&self, index: &Key, member: &str) -> Result<(), StoreError> {
        self.here()?.index_remove(index, member).await
    }
    async fn hit(&self, counter: &Key, window: Duration) -> Result<u64, StoreError> {
        self.here()?.hit(counter, window).await
    }
    async fn forget_hits(&self, counter: &Key) -> Result<(), StoreError> {
        self.here()?.forget_hits(counter).await
    }
    async fn publish(&self, entry: &Entry) -> Result<EventId, StoreError> {
        self.here()?.publish(entry).await
    }
    async fn tail(&self) -> Result<EventId, StoreError> {
        self.here()?.tail().await
    }
    async fn next_entries(&self, last: EventId, block: Duration) -> Result<Vec<StreamEntry>, StoreError> {
        self.here()?.next_entries(last, block).await
    }
    async fn backlog(&self, last: EventId) -> Result<Backlog, StoreError> {
        self.here()?.backlog(last).await
    }
    async fn set_mark(&self, replica: &str, mark: &str) -> Result<(), StoreError> {
        self.here()?.set_mark(replica, mark).await
    }
    async fn marks(&self, max_age: Duration) -> Result<Fields, StoreError> {
        self.here()?.marks(max_age).await
    }
    async fn trail_add(&self, lines: &[String]) -> Result<(), StoreError> {
        self.here()?.trail_add(lines).await
    }
    async fn trail(&self, before: Option<EventId>, limit: usize) -> Result<Vec<(EventId, String)>, StoreError> {
        self.here()?.trail(before, limit).await
    }
    async fn advice(&self) -> Result<Vec<String>, StoreError> {
        self.here()?.advice().await
    }
}

#[tokio::test]
async fn an_outage_is_503_everywhere_signs_nobody_out_and_ends_by_itself() {
    let store = Fragile::new(&TestClock::new());
    let away = Arc::clone(&store.away);
    let service = Service::start_as(|_| {}, Some(Arc::new(store))).await;
    service.register_policy("shop/web", SHOP).await.expect(200);
    service.create_user("ann").await;
    let client = json!({"client_id": "robot", "grant_types": ["client_credentials"], "audiences": ["shop/web"]});
    let secret = service.admin(Method::POST, "/clients", &client).await.expect(201).json()["client_secret"].to_string();
    let mut browser = Browser::default();
    let token = service.sign_in_at(&mut browser, "shop/web", SHOP, "ann").await;

    away.store(true, Ordering::Relaxed);
    let workload = service.workload("shop");
    let admin = format!("Bearer {ADMIN}");
    let form = [("token", token.as_str()), ("policy", "shop/web")];
    let mut answers = vec![service.internal_form("/internal/v1/introspect", &workload, &form).await];
    for (method, path, authorization, body) in [
        (Method::POST, "/internal/v1/revoke", &workload, json!({"token": token})),
        (
            Method::POST,
            "/internal/v1/session",
            &workload,
            json!({"token": token, "policy": "shop/web", "version": 0, "patch": {"cart": 1}}),
        ),
        (Method::POST, "/internal/v1/usage", &workload, json!({"used": [{"id": token[3..25], "ago": 1}]})),
        (Method::GET, "/internal/v1/events?sidecar=a", &workload, json!({})),
        (Method::GET, "/internal/v1/policies", &admin, json!({})),
        (Method::GET, "/admin/v1/users", &admin, json!({})),
    ] {
        answers.push(service.internal_json(method, path, authorization, &body).await);
    }
    let credentials =
        [("grant_type", "client_credentials"), ("client_id", "robot"), ("client_secret", secret.trim_matches('"'))];
    answers.push(service.send(Method::POST, &service.public("/oauth2/token"), &[], encode(&credentials)).await);
    let cookies = browser.cookie_header();
    for path in ["/account", "/oauth2/authorize?client_id=x", "/oauth2/logout"] {
        answers.push(service.send(Method::GET, &service.public(path), &[("cookie", &cookies)], "").await);
    }
    for answer in &answers {
        assert_eq!(answer.status, 503, "{}", answer.body);
        assert!(!answer.header("retry-after").is_empty());
        assert!(!answer.headers.contains_key("set-cookie"), "no cookie is taken away");
        assert!(!answer.body.contains("taken away"), "details stay in the log");
    }
    let ready = format!("http://{}/readyz", service.running.metrics_addr.unwrap());
    service.send(Method::GET, &ready, &[], "").await.expect(200);
    service.send(Method::GET, &service.internal("/internal/v1/jwks"), &[], "").await.expect(200);

    away.store(false, Ordering::Relaxed);
    assert_eq!(service.introspect(&token, "shop/web").await["active"], true);
    browser.get(&service, "/account").await.expect(200);
}

#[tokio::test]
async fn heartbeats_stop_while_the_store_is_away() {
    use http_body_util::BodyExt;
    let away = Arc::new(AtomicBool::new(false));
    let store = Fragile { away: Arc::clone(&away), ..Fragile::new(&TestClock::new()) };
    let service = Service::start_as(|_| {}, Some(Arc::new(store))).await;
    let authorization = service.workload("shop");
    let url = service.internal("/internal/v1/events?sidecar=a");
    let mut body = service.open(Method::GET, &url, &[("authorization", &authorization)], "").await.into_body();
    let mut silent_for = async |limit: Duration| tokio::time::timeout(limit, body.frame()).await.is_err();
    assert!(!silent_for(Duration::from_secs(2)).await);
    assert!(!silent_for(Duration::from_secs(2)).await);
    away.store(true, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(1200)).await;
    while !silent_for(Duration::from_millis(100)).await {}
    assert!(silent_for(Duration::from_millis(2500)).await);
    away.store(false, Ordering::Relaxed);
    assert!(!silent_for(Duration::from_secs(3)).await, "and go on when it is back");
}

#[tokio::test]
async fn a_service_that_starts_without_its_store_waits_for_it() {
    let away = Arc::new(AtomicBool::new(true));
    let clock = TestClock::new();
    let store = Arc::new(Fragile { away: Arc::clone(&away), ..Fragile::new(&clock) });
    let service = Service::replica(|_| {}, store, clock, 7).await;
    service.send(Method::GET, &service.public("/oauth2/jwks.json"), &[], "").await.expect(503);
    let ready = format!("http://{}/readyz", service.running.metrics_addr.unwrap());
    service.send(Method::GET, &ready, &[], "").await.expect(200);
    away.store(false, Ordering::Relaxed);
    tokio::time::timeout(Duration::from_secs(3), service.running.ready()).await.expect("ready without a restart");
    service.register_policy("shop/web", SHOP).await.expect(200);
}

#[tokio::test]
async fn a_client_that_is_removed_while_it_gets_a_token_gets_none() {
    let store = Arc::new(Fragile::new(&TestClock::new()));
    let service = Service::start_as(|_| {}, Some(store.clone())).await;
    service.register_policy("shop/web", SHOP).await.expect(200);
    let client = json!({"client_id": "robot", "grant_types": ["client_credentials"], "audiences": ["shop/web"]});
    let client = service.admin(Method::POST, "/clients", &client).await.expect(201).json();
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", "robot"),
        ("client_secret", client["client_secret"].as_str().unwrap()),
    ];
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    let token = async || service.send(Method::POST, &service.public("/oauth2/token"), &headers, encode(&form)).await;
    token().await.expect(200);
    *store.meanwhile.lock().unwrap() = Some(Key::new("client", "robot"));
    token().await.expect(401);
    assert_eq!(*store.meanwhile.lock().unwrap(), None, "it was removed in the middle");
    let held = service.admin(Method::GET, "/clients/robot/grants", &json!({})).await.expect(200).json();
    assert_eq!(held["items"].as_array().unwrap().len(), 1, "{held}");
}
