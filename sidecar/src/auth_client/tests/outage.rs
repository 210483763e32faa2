//! Everything that is not a whole answer.

use super::*;

#[tokio::test(start_paused = true)]
async fn nothing_but_a_whole_answer_is_a_verdict() {
    let f = Fixture::leased().await;
    let other = token(2);
    let about_another = serde_json::to_string(&active(&other, "ann")).unwrap();
    let expired =
        serde_json::to_string(&active(&f.token, "ann")).unwrap().replace("\"jwt_exp\":4000000000", "\"jwt_exp\":1");
    for (status, body) in [
        (200, ""),
        (200, "{}"),
        (200, "null"),
        (200, r#"{"active":true}"#),
        (200, r#"{"active":"false"}"#),
        (200, "<html>"),
        (204, ""),
        (301, ""),
        (400, r#"{"active":false}"#),
        (401, r#"{"active":false}"#),
        (403, ""),
        (404, r#"{"active":false}"#),
        (429, ""),
        (500, r#"{"active":false}"#),
        (503, ""),
        (200, &about_another),
        (200, &expired),
    ] {
        let (status, answer) = (StatusCode::from_u16(status).unwrap(), body.to_owned());
        f.fake.with(|told| {
            told.script =
                Some(Box::new(move |path, _| (path == internal_api::INTROSPECT).then(|| respond(status, &answer))));
        });
        assert_eq!(f.exchange().await.unwrap_err(), Unavailable, "{status} {body}");
        assert!(f.client.cached(&f.token).is_none());
    }
    f.fake.with(|told| told.script = None);
    assert!(is_active(&f.exchange().await), "none of it is remembered");
}

#[tokio::test(start_paused = true)]
async fn an_endless_answer_is_given_up() {
    let f = Fixture::leased().await;
    let endless = format!("{{\"active\":false}}{}", " ".repeat(300 << 10));
    f.fake.with(|told| {
        told.script = Some(Box::new(move |path, _| {
            (path == internal_api::INTROSPECT).then(|| respond(StatusCode::OK, &endless))
        }));
    });
    assert!(f.exchange().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn an_auth_service_that_does_not_answer_is_unavailable_after_two_seconds() {
    let f = Fixture::leased().await;
    f.fake.with(|told| told.gate = Some(Arc::new(Semaphore::new(0))));
    let (client, token) = (f.client.clone(), f.token.clone());
    let asking = tokio::spawn(async move { client.exchange(&token, Outage::Deny).await });
    f.until(|f| f.fake.introspections() == 1).await;
    tokio::time::advance(Duration::from_millis(1999)).await;
    f.settle().await;
    assert!(!asking.is_finished());
    tokio::time::advance(Duration::from_millis(2)).await;
    assert!(asking.await.unwrap().is_err());
}

#[tokio::test(start_paused = true)]
async fn once_it_hangs_one_request_at_a_time_finds_out_whether_it_still_does() {
    let f = Fixture::leased().await;
    let gate = Arc::new(Semaphore::new(0));
    f.fake.with(|told| told.gate = Some(gate.clone()));
    let ask = |token: Presented| {
        let client = f.client.clone();
        tokio::spawn(async move { client.exchange(&token, Outage::Deny).await })
    };
    let first = ask(token(50));
    f.until(|f| f.fake.introspections() == 1).await;
    tokio::time::advance(Duration::from_millis(2001)).await;
    assert!(first.await.unwrap().is_err());
    let trying = ask(token(51));
    f.until(|f| f.fake.introspections() == 2).await;
    let before = Instant::now();
    assert!(f.client.exchange(&token(52), Outage::Deny).await.is_err());
    assert_eq!((before.elapsed(), f.fake.introspections()), (Duration::ZERO, 2), "at once, without a question");
    gate.add_permits(100);
    assert!(is_inactive(&trying.await.unwrap()));
    assert!(is_active(&f.exchange().await), "it answers again");
}

#[tokio::test(start_paused = true)]
async fn the_outage_contract_bridges_for_as_long_as_it_says() {
    let mut f = Fixture::leased().await;
    let lease = Outage::Lease { seconds: 20 };
    f.exchange().await.unwrap();
    f.fake.stop();
    f.pass(5, false).await;
    assert!(f.exchange().await.is_err(), "Deny");
    assert!(is_active(&f.client.exchange(&f.token, lease).await));
    assert!(f.client.exchange(&token(9), lease).await.is_err(), "never seen before");
    f.pass(19, false).await;
    assert!(is_active(&f.client.exchange(&f.token, lease).await), "24 of 25 seconds");
    f.pass(1, false).await;
    assert!(f.client.exchange(&f.token, lease).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn no_outage_contract_outlives_the_jwt_or_a_revocation() {
    let mut f = Fixture::leased().await;
    let lease = Outage::Lease { seconds: 3600 };
    f.exchange().await.unwrap();
    f.fake.stop();
    f.pass(54, false).await;
    assert!(is_active(&f.client.exchange(&f.token, lease).await));
    f.pass(1, false).await;
    assert!(f.client.exchange(&f.token, lease).await.is_err(), "the app would refuse it");

    let f = Fixture::leased().await;
    f.exchange().await.unwrap();
    f.fake.send("2000-0", &Event::Revoked(Revoked::Id { id: f.token.id() }));
    f.until(|f| f.client.cached(&f.token).is_none()).await;
    let mut f = f;
    f.fake.stop();
    f.pass(1, false).await;
    assert!(f.client.exchange(&f.token, lease).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn after_an_outage_it_connects_again_by_itself() {
    let mut f = Fixture::leased().await;
    f.exchange().await.unwrap();
    f.fake.stop();
    f.until(|f| f.client.metrics.stream_open.get() == 0).await;
    f.pass(10, false).await;
    assert!(f.exchange().await.is_err());
    f.fake.serve().await;
    for _ in 0..3 {
        f.pass(1, false).await;
        f.settle().await;
    }
    f.until(|f| f.client.metrics.stream_open.get() == 1).await;
    assert!(is_active(&f.exchange().await));
}

#[tokio::test(start_paused = true)]
async fn without_a_config_nothing_is_answered() {
    let f = Fixture::leased().await;
    f.policy.store(None);
    let other = token(3);
    f.knows(&other, "bob");
    assert!(f.client.exchange(&other, Outage::Lease { seconds: 60 }).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn streams_outlive_an_outage_for_a_minute() {
    let mut f = Fixture::leased().await;
    let Ok(Exchanged::Active(identity)) = f.exchange().await else { panic!("not active") };
    f.fake.stop();
    for _ in 0..60 {
        f.pass(1, false).await;
        f.settle().await;
    }
    assert!(!identity.life.is_over());
    for _ in 0..10 {
        f.pass(1, false).await;
        f.settle().await;
    }
    assert!(identity.life.is_over());
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_drains_costs_no_request() {
    let f = Fixture::leased().await;
    f.fake.drain();
    for seed in 100..140 {
        let token = token(seed);
        f.knows(&token, "bob");
        assert!(is_active(&f.client.exchange(&token, Outage::Deny).await), "{seed}");
    }
    assert!(f.client.metrics.connects.get() >= 2, "it went on elsewhere");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_cut_costs_no_request_while_another_can_be_made() {
    let mut f = Fixture::leased().await;
    for seed in 100..110 {
        f.fake.stop();
        f.fake.serve().await;
        let token = token(seed);
        f.knows(&token, "bob");
        assert!(is_active(&f.client.exchange(&token, Outage::Deny).await), "{seed}");
    }
}
