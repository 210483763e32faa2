//! The event stream, acknowledgements and receipts, over one and two replicas.

use std::sync::Arc;
use std::time::Duration;

use cloakroom_auth_service::store::Store;
use cloakroom_auth_service::store::memory::MemoryStore;
use cloakroom_protocol::events::{Event, Revoked};
use cloakroom_protocol::interest::STREAM_HEADER;
use http::Method;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::json;

use crate::harness::{Browser, Service, TestClock};

pub(crate) const SHOP: &str = "https://shop.example.com";

/// Reads a stream as a sidecar does.
pub(crate) struct Stream {
    pub(crate) name: String,
    body: Incoming,
    rest: String,
}

impl Stream {
    pub(crate) async fn open(service: &Service, sidecar: &str, last: Option<&str>) -> Self {
        let authorization = service.workload("shop");
        let mut headers = vec![("authorization", authorization.as_str())];
        headers.extend(last.map(|id| ("last-event-id", id)));
        let url = service.internal(&format!("/internal/v1/events?sidecar={sidecar}"));
        let response = service.open(Method::GET, &url, &headers, "").await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let name = response.headers()[STREAM_HEADER].to_str().unwrap().to_owned();
        Self { name, body: response.into_body(), rest: String::new() }
    }

    /// `None`: the stream has ended.
    async fn next(&mut self) -> Option<(String, Event)> {
        loop {
            if let Some((block, rest)) = self.rest.split_once("\n\n") {
                let field = |name: &str| {
                    let line = block.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
                    line.unwrap_or_else(|| panic!("{name}: {block}")).to_owned()
                };
                let event = Event::parse(&field("event"), &field("data")).unwrap();
                let id = field("id");
                self.rest = String::from(rest);
                return Some((id, event));
            }
            let frame =
                tokio::time::timeout(Duration::from_secs(5), self.body.frame()).await.expect("a frame in time")?;
            let Ok(frame) = frame else { return None };
            self.rest.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        }
    }

    /// The next event that is no heartbeat.
    pub(crate) async fn next_event(&mut self) -> (String, Event) {
        loop {
            match self.next().await.expect("the stream goes on") {
                (_, Event::Heartbeat(_)) => {}
                other => return other,
            }
        }
    }
}

pub(crate) async fn shop() -> Service {
    let service = Service::start().await;
    prepare(&service).await;
    service
}

pub(crate) async fn prepare(service: &Service) {
    service.register_policy("shop/web", SHOP).await.expect(200);
    service.create_user("ann").await;
}

pub(crate) async fn revoke(service: &Service, token: &str, wait: u64) -> serde_json::Value {
    let path = format!("/internal/v1/revoke?wait={wait}");
    service
        .internal_json(Method::POST, &path, &service.workload("shop"), &json!({"token": token}))
        .await
        .expect(200)
        .json()
}

pub(crate) async fn acknowledge(service: &Service, sidecar: &str, last: &str) {
    let body = json!({"sidecar": sidecar, "last": last});
    service.internal_json(Method::POST, "/internal/v1/events/ack", &service.workload("shop"), &body).await.expect(204);
}

#[tokio::test]
async fn a_stream_begins_with_a_heartbeat_that_carries_an_id_and_beats_each_second() {
    let service = shop().await;
    let mut stream = Stream::open(&service, "a", None).await;
    let (id, first) = stream.next().await.unwrap();
    assert!(matches!(first, Event::Heartbeat(_)) && id.contains('-'));
    let started = tokio::time::Instant::now();
    for _ in 0..3 {
        assert!(matches!(stream.next().await.unwrap().1, Event::Heartbeat(_)));
    }
    assert!((1.5..4.0).contains(&started.elapsed().as_secs_f64()), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_revocation_reaches_the_stream_and_the_token_is_dead_by_then() {
    let service = shop().await;
    let token = service.sign_in_at(&mut Browser::default(), "shop/web", SHOP, "ann").await;
    let mut stream = Stream::open(&service, "a", None).await;
    let receipt = revoke(&service, &token, 0).await;
    let (id, event) = stream.next_event().await;
    assert_eq!(service.introspect(&token, "shop/web").await, json!({"active": false}));
    assert_eq!(receipt["event_id"], id.as_str());
    let Event::Revoked(Revoked::Id { id }) = event else { panic!("{event:?}") };
    assert_eq!(id.as_str(), &token[3..25]);
}

#[tokio::test]
async fn a_sidecar_that_comes_back_gets_what_it_missed_once() {
    let service = shop().await;
    let mut stream = Stream::open(&service, "a", None).await;
    let (last, _) = stream.next().await.unwrap();
    drop(stream);
    let mut sent = Vec::new();
    for _ in 0..3 {
        let token = service.sign_in_at(&mut Browser::default(), "shop/web", SHOP, "ann").await;
        sent.push(revoke(&service, &token, 0).await["event_id"].as_str().unwrap().to_owned());
    }
    let mut stream = Stream::open(&service, "a", Some(&last)).await;
    let mut got = Vec::new();
    for _ in 0..3 {
        got.push(stream.next_event().await.0);
    }
    assert_eq!(got, sent);
    let mut stream = Stream::open(&service, "a", Some(&sent[1])).await;
    assert_eq!(stream.next_event().await.0, sent[2]);
}

#[tokio::test]
async fn a_sidecar_whose_id_is_not_known_any_more_is_told_to_start_over() {
    let service = shop().await;
    for unknown in ["1-0", "99999999999999-0"] {
        let mut stream = Stream::open(&service, "a", Some(unknown)).await;
        assert_eq!(stream.next().await.unwrap().1, Event::Reset, "{unknown}");
    }
}

#[tokio::test]
async fn a_receipt_waits_for_every_connected_sidecar() {
    let service = shop().await;
    let mut first = Stream::open(&service, "a", None).await;
    let mut second = Stream::open(&service, "b", None).await;
    let token = service.sign_in_at(&mut Browser::default(), "shop/web", SHOP, "ann").await;
    let slow = async {
        let (id, _) = first.next_event().await;
        acknowledge(&service, "a", &id).await;
        let (id, _) = second.next_event().await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        acknowledge(&service, "b", &id).await;
    };
    let started = tokio::time::Instant::now();
    let (receipt, ()) = tokio::join!(revoke(&service, &token, 4000), slow);
    assert_eq!((receipt["connected"].as_u64(), receipt["acknowledged"].as_u64()), (Some(2), Some(2)), "{receipt}");
    assert_eq!(receipt["lost_lease"], 0);
    assert!((0.3..2.0).contains(&started.elapsed().as_secs_f64()), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_receipt_tells_who_has_not_answered_when_time_is_up() {
    let service = shop().await;
    let _silent = Stream::open(&service, "a", None).await;
    let token = service.sign_in_at(&mut Browser::default(), "shop/web", SHOP, "ann").await;
    let receipt = revoke(&service, &token, 200).await;
    assert_eq!((receipt["connected"].as_u64(), receipt["acknowledged"].as_u64()), (Some(1), Some(0)));
}

#[tokio::test]
async fn a_sidecar_that_went_away_counts_as_a_lost_lease_and_not_as_an_answer() {
    let service = shop().await;
    let gone = Stream::open(&service, "a", None).await;
    let token = service.sign_in_at(&mut Browser::default(), "shop/web", SHOP, "ann").await;
    drop(gone);
    let ahead = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        service.clock.pass(6);
    };
    let (receipt, ()) = tokio::join!(revoke(&service, &token, 5000), ahead);
    assert_eq!((receipt["connected"].as_u64(), receipt["acknowledged"].as_u64()), (Some(1), Some(0)));
    assert_eq!(receipt["lost_lease"], 1);
}

#[tokio::test]
async fn nobody_can_acknowledge_for_another_workload() {
    let service = shop().await;
    service.register_policy("bank/web", "https://bank.example.com").await.expect(200);
    let mut stream = Stream::open(&service, "a", None).await;
    let token = service.sign_in_at(&mut Browser::default(), "shop/web", SHOP, "ann").await;
    let forged = async {
        let (id, _) = stream.next_event().await;
        let body = json!({"sidecar": "a", "last": id});
        service
            .internal_json(Method::POST, "/internal/v1/events/ack", &service.workload("bank"), &body)
            .await
            .expect(204);
    };
    let (receipt, ()) = tokio::join!(revoke(&service, &token, 400), forged);
    assert_eq!((receipt["connected"].as_u64(), receipt["acknowledged"].as_u64()), (Some(1), Some(0)));
}

/// Of one service.
pub(crate) async fn replicas() -> [Service; 2] {
    let clock = TestClock::new();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(clock.clock()));
    let directory =
        std::env::temp_dir().join(format!("cloakroom-replicas-{}-{:p}", std::process::id(), Arc::as_ptr(&store)));
    std::fs::create_dir_all(&directory).unwrap();
    let file = directory.join("key");
    std::fs::write(&file, [7; 32]).unwrap();
    let sealing =
        |config: &mut serde_json::Value| config["signing"] = json!({"encryption_key_files": [file.to_str().unwrap()]});
    let one = Service::replica(sealing, Arc::clone(&store), clock.clone(), 1).await;
    let other = Service::replica(sealing, Arc::clone(&store), clock.clone(), 2).await;
    one.running.ready().await;
    other.running.ready().await;
    std::fs::remove_dir_all(&directory).unwrap();
    [one, other]
}

#[tokio::test]
async fn two_replicas_are_one_service() {
    let [one, other] = replicas().await;
    prepare(&one).await;
    let token = one.sign_in_at(&mut Browser::default(), "shop/web", SHOP, "ann").await;
    assert_eq!(other.introspect(&token, "shop/web").await["active"], true);

    let mut here = Stream::open(&one, "a", None).await;
    let mut there = Stream::open(&other, "b", None).await;
    there.next().await.unwrap();
    let answers = async {
        let (id, _) = here.next_event().await;
        acknowledge(&one, "a", &id).await;
        let (id, _) = there.next_event().await;
        // To the replica that does not have the stream.
        acknowledge(&one, "b", &id).await;
        id
    };
    let (receipt, id) = tokio::join!(revoke(&one, &token, 4000), answers);
    assert_eq!((receipt["connected"].as_u64(), receipt["acknowledged"].as_u64()), (Some(2), Some(2)), "{receipt}");
    assert_eq!(other.introspect(&token, "shop/web").await, json!({"active": false}));

    let again = one.sign_in_at(&mut Browser::default(), "shop/web", SHOP, "ann").await;
    drop(there);
    let sent = revoke(&one, &again, 0).await["event_id"].as_str().unwrap().to_owned();
    let mut moved = Stream::open(&one, "b", Some(&id)).await;
    assert_eq!(moved.next_event().await.0, sent, "resumed at another replica");
}

#[tokio::test]
async fn stopping_ends_the_streams_at_once() {
    let service = shop().await;
    let mut stream = Stream::open(&service, "a", None).await;
    stream.next().await.unwrap();
    let started = tokio::time::Instant::now();
    service.running.stop().await;
    while stream.next().await.is_some() {}
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

#[tokio::test]
async fn rotating_the_keys_is_told_and_breaks_no_token() {
    let service = Service::start_as(|config| config["signing"] = json!({"lead_seconds": 60}), None).await;
    prepare(&service).await;
    let token = service.sign_in_at(&mut Browser::default(), "shop/web", SHOP, "ann").await;
    let kid = |active: &serde_json::Value| jsonwebtoken::decode_header(active["jwt"].as_str().unwrap()).unwrap().kid;
    let before = service.introspect(&token, "shop/web").await;
    let mut stream = Stream::open(&service, "a", None).await;
    service.admin(Method::POST, "/keys/rotate", &json!({})).await.expect(204);
    assert_eq!(stream.next_event().await.1, Event::Keys);
    let published = service.introspect(&token, "shop/web").await;
    assert_eq!(kid(&before), kid(&published), "published before its first use");
    service.clock.pass(61);
    let after = service.introspect(&token, "shop/web").await;
    assert_ne!(kid(&before), kid(&after));
    for answer in [&before, &published, &after] {
        crate::harness::verify(&service, answer["jwt"].as_str().unwrap(), "shop/web").await;
    }
}
