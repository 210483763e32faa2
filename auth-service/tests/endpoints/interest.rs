//! Whose revocations a sidecar hears of once it has said what it holds.

use cloakroom_protocol::events::{Event, Revoked};
use cloakroom_protocol::interest::{Filter, Key, STREAM_HEADER};
use cloakroom_protocol::token::TokenId;
use http::Method;
use serde_json::{Value, json};

use crate::events::{SHOP, Stream, acknowledge, prepare, replicas, revoke, shop};
use crate::harness::{Answer, Browser, Service, encode};

async fn session(service: &Service, username: &str) -> String {
    service.sign_in_at(&mut Browser::default(), "shop/web", SHOP, username).await
}

fn id_of(token: &str) -> TokenId {
    token[3..25].parse().unwrap()
}

fn revoked(token: &str) -> Event {
    Event::Revoked(Revoked::Id { id: id_of(token) })
}

/// Asks about a token as a sidecar does that reads a stream.
async fn ask(service: &Service, token: &str, stream: &str) -> Answer {
    let authorization = service.workload("shop");
    let headers = [
        ("authorization", authorization.as_str()),
        ("content-type", "application/x-www-form-urlencoded"),
        (STREAM_HEADER, stream),
    ];
    let form = encode(&[("token", token), ("policy", "shop/web")]);
    service.send(Method::POST, &service.internal("/internal/v1/introspect"), &headers, form).await.expect(200)
}

async fn declare(service: &Service, namespace: &str, stream: &str, generation: u64, held: &[Key]) -> Answer {
    let filter = Filter::of(held);
    let body = json!({"sidecar": "a", "stream": stream, "generation": generation, "filter": filter});
    let path = "/internal/v1/events/interest";
    service.internal_json(Method::POST, path, &service.workload(namespace), &body).await
}

fn counts(receipt: &Value) -> [u64; 3] {
    ["connected", "acknowledged", "lost_lease"].map(|name| receipt[name].as_u64().unwrap())
}

#[tokio::test]
async fn a_sidecar_that_said_what_it_holds_hears_of_nothing_else() {
    let service = shop().await;
    let [held, asked, other] =
        [session(&service, "ann").await, session(&service, "ann").await, session(&service, "ann").await];
    let mut stream = Stream::open(&service, "a", None).await;
    declare(&service, "shop", &stream.name, 1, &[Key::record(&id_of(&held))]).await.expect(204);
    let answer = ask(&service, &asked, &format!("{}.1", stream.name)).await;
    assert_eq!((answer.header(STREAM_HEADER), &answer.json()["active"]), (&*stream.name, &json!(true)));
    for token in [&other, &asked, &held] {
        revoke(&service, token, 0).await;
    }
    assert_eq!(stream.next_event().await.1, revoked(&asked));
    assert_eq!(stream.next_event().await.1, revoked(&held));
}

#[tokio::test]
async fn everything_of_a_subject_reaches_who_asked_about_one_session_of_theirs() {
    let service = shop().await;
    let token = session(&service, "ann").await;
    let mut stream = Stream::open(&service, "a", None).await;
    declare(&service, "shop", &stream.name, 1, &[]).await.expect(204);
    let sub = ask(&service, &token, &format!("{}.1", stream.name)).await.json()["sub"].as_str().unwrap().to_owned();
    let body = json!({"sub": sub});
    service.internal_json(Method::POST, "/internal/v1/revoke", &service.operator(), &body).await.expect(200);
    let Event::Revoked(Revoked::Subject { sub: named, .. }) = stream.next_event().await.1 else {
        panic!("another event")
    };
    assert_eq!(named, sub);
}

#[tokio::test]
async fn whom_a_revocation_does_not_concern_keeps_no_receipt_waiting() {
    let service = shop().await;
    let mine = session(&service, "ann").await;
    let deaf = Stream::open(&service, "b", None).await;
    let mut stream = Stream::open(&service, "a", None).await;
    declare(&service, "shop", &stream.name, 1, &[]).await.expect(204);
    ask(&service, &mine, &format!("{}.1", stream.name)).await;
    let concerned = async {
        let (id, _) = stream.next_event().await;
        acknowledge(&service, "a", &id).await;
    };
    // The other stream has declared nothing, hears of it, and does not answer.
    let (receipt, ()) = tokio::join!(revoke(&service, &mine, 300), concerned);
    assert_eq!(counts(&receipt), [2, 1, 0], "{receipt}");
    drop(deaf);
    loop {
        let other = session(&service, "ann").await;
        let started = tokio::time::Instant::now();
        service.clock.pass(6);
        let receipt = revoke(&service, &other, 2_000).await;
        // Until the service has noticed that the other one went, and its lease is over.
        if receipt["connected"] == 1 {
            assert_eq!(counts(&receipt), [1, 1, 0]);
            assert!(started.elapsed().as_millis() < 2_000, "nobody holds it: {:?}", started.elapsed());
            break;
        }
    }
}

#[tokio::test]
async fn a_stream_of_another_replica_is_neither_confirmed_nor_narrowed() {
    let [one, other] = replicas().await;
    prepare(&one).await;
    let token = session(&one, "ann").await;
    let mut stream = Stream::open(&one, "a", None).await;
    let tag = format!("{}.0", stream.name);
    assert_eq!(ask(&other, &token, &tag).await.header(STREAM_HEADER), "");
    assert_eq!(ask(&one, &token, &tag).await.header(STREAM_HEADER), stream.name);
    declare(&other, "shop", &stream.name, 1, &[]).await.expect(404);
    let unrelated = session(&one, "ann").await;
    revoke(&other, &unrelated, 0).await;
    assert_eq!(stream.next_event().await.1, revoked(&unrelated), "it goes on as it was");
}

#[tokio::test]
async fn nobody_narrows_what_another_hears() {
    let service = shop().await;
    service.register_policy("bank/web", "https://bank.example.com").await.expect(200);
    let mut stream = Stream::open(&service, "a", None).await;
    declare(&service, "bank", &stream.name, 1, &[]).await.expect(404);
    for name in ["", "x", "..", &format!("{}.1", stream.name)] {
        declare(&service, "shop", name, 1, &[]).await.expect(404);
    }
    let body = json!({"sidecar": "a", "stream": stream.name, "generation": 1, "filter": "AAAA"});
    let path = "/internal/v1/events/interest";
    service.internal_json(Method::POST, path, &service.workload("shop"), &body).await.expect(400);
    let token = session(&service, "ann").await;
    revoke(&service, &token, 0).await;
    assert_eq!(stream.next_event().await.1, revoked(&token));
}

#[tokio::test]
async fn a_header_that_names_no_stream_confirms_nothing_and_harms_nobody() {
    let service = shop().await;
    let token = session(&service, "ann").await;
    let stream = Stream::open(&service, "a", None).await;
    let name = &stream.name;
    for tag in
        ["", ".", "x.1", name, &format!("{name}."), &format!("{name}.-1"), &format!("{name}.x"), &format!("{name}.1 ")]
    {
        let answer = ask(&service, &token, tag).await;
        assert_eq!(answer.json()["active"], true, "{tag:?}");
        // A blank at the end is no part of a field's value (RFC 9110 §5.5).
        assert_eq!(answer.header(STREAM_HEADER), if tag.ends_with(' ') { name } else { "" }, "{tag:?}");
    }
}

/// Whatever order questions and revocations come in: what was confirmed is heard of.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_revocation_falls_between_an_answer_and_its_confirmation() {
    let service = shop().await;
    let mut stream = Stream::open(&service, "a", None).await;
    declare(&service, "shop", &stream.name, 1, &[]).await.expect(204);
    let tag = format!("{}.1", stream.name);
    let mut confirmed = Vec::new();
    let mut last = String::new();
    for delay in 0..40_u64 {
        let token = session(&service, "ann").await;
        let revoking = async {
            tokio::time::sleep(std::time::Duration::from_micros(delay * 50)).await;
            revoke(&service, &token, 0).await
        };
        let (answer, receipt) = tokio::join!(ask(&service, &token, &tag), revoking);
        last = receipt["event_id"].as_str().unwrap().to_owned();
        if answer.header(STREAM_HEADER) == stream.name {
            confirmed.push(revoked(&token));
        } else {
            assert_eq!(answer.json(), json!({"active": false}), "its own replica confirms whatever is active");
        }
    }
    // One more that is certainly heard of marks the end.
    let end = session(&service, "ann").await;
    ask(&service, &end, &tag).await;
    revoke(&service, &end, 0).await;
    let mut heard = Vec::new();
    loop {
        match stream.next_event().await.1 {
            event if event == revoked(&end) => break,
            event => heard.push(event),
        }
    }
    assert!(
        confirmed.iter().all(|event| heard.contains(event)),
        "{} confirmed, {} heard, up to {last}",
        confirmed.len(),
        heard.len()
    );
}
