//! What the event stream says, and what its silence means.

use super::*;

#[tokio::test(start_paused = true)]
async fn silence_ends_the_lease() {
    let mut f = Fixture::leased().await;
    f.exchange().await.unwrap();
    f.pass(4, false).await;
    assert!(f.client.cached(&f.token).is_some());
    f.pass(1, false).await;
    assert!(f.client.cached(&f.token).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_revocation_ends_everything_and_is_acknowledged() {
    let f = Fixture::leased().await;
    let Ok(Exchanged::Active(identity)) = f.exchange().await else { panic!("not active") };
    f.forgets(&f.token);
    f.fake.send("2000-7", &Event::Revoked(Revoked::Id { id: f.token.id() }));
    f.acknowledges("2000-7").await;
    assert!(identity.life.is_over());
    assert!(f.client.cached(&f.token).is_none());
    assert!(is_inactive(&f.exchange().await));
    let ack = f.fake.with(|told| told.acknowledged.last().cloned()).unwrap();
    assert_eq!((ack.sidecar.as_str(), ack.last.as_str()), ("pod-1", "2000-7"));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_a_revocation_overtook_is_asked_for_again() {
    let f = Fixture::leased().await;
    let gate = Arc::new(Semaphore::new(0));
    f.fake.with(|told| told.gate = Some(gate.clone()));
    let (client, token) = (f.client.clone(), f.token.clone());
    let asking = tokio::spawn(async move { client.exchange(&token, Outage::Deny).await });
    f.until(|f| f.fake.introspections() == 1).await;
    f.forgets(&f.token);
    f.fake.send("2000-0", &Event::Revoked(Revoked::Id { id: f.token.id() }));
    f.acknowledges("2000-0").await;
    gate.add_permits(10);
    assert!(is_inactive(&asking.await.unwrap()));
    assert!(f.client.cached(&f.token).is_none());
    assert_eq!(f.fake.introspections(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_update_is_seen_by_the_next_request() {
    let f = Fixture::leased().await;
    f.exchange().await.unwrap();
    f.fake.send("2000-0", &Event::Updated { id: f.token.id() });
    f.until(|f| f.client.cached(&f.token).is_none()).await;
    f.exchange().await.unwrap();
    assert_eq!(f.fake.introspections(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_ends_is_resumed_where_it_was() {
    let mut f = Fixture::leased().await;
    f.exchange().await.unwrap();
    f.fake.send("1500-3", &Event::Keys);
    f.until(|f| lock(&f.client.last_event).as_deref() == Some("1500-3")).await;
    f.fake.end_stream();
    f.until(|f| f.client.metrics.stream_open.get() == 0).await;
    f.pass(1, false).await;
    f.until(|f| f.client.metrics.stream_open.get() == 1).await;
    assert_eq!(f.fake.with(|told| told.streams.last().unwrap().0.clone()).as_deref(), Some("1500-3"));
    assert!(f.client.cached(&f.token).is_some(), "nothing was missed");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_understood_on_the_stream_voids_the_cache() {
    for broken in [
        "id: 3000-0\nevent: purge\ndata: {}\n\n",
        "id: 3000-0\nevent: revoked\ndata: {\"target\":\"all\"}\n\n",
        "garbage\n",
        "id: 3000-0\nevent: reset\ndata: {}\n\n",
    ] {
        let f = Fixture::leased().await;
        let Ok(Exchanged::Active(identity)) = f.exchange().await else { panic!("not active") };
        f.fake.send_raw(broken);
        f.until(|f| f.client.cached(&f.token).is_none()).await;
        assert!(identity.life.is_over(), "{broken}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_signing_keys_are_kept_for_apps() {
    let f = Fixture::new().await;
    f.until(|f| f.client.jwks().is_some()).await;
    assert_eq!(f.client.jwks().unwrap().as_ref(), r#"{"keys":[{"kty":"EC"}]}"#);
    f.fake.with(|told| {
        told.script = Some(Box::new(|path, _| {
            (path == internal_api::JWKS).then(|| respond(StatusCode::OK, r#"{"keys":[{"kty":"OKP"}]}"#))
        }));
    });
    f.fake.send("2000-0", &Event::Keys);
    f.until(|f| f.client.jwks().is_some_and(|jwks| jwks.as_ref() == r#"{"keys":[{"kty":"OKP"}]}"#)).await;
}
