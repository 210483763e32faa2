//! Cache, single flight, renewal.

use super::*;

#[tokio::test(start_paused = true)]
async fn while_the_lease_holds_a_token_is_asked_about_once() {
    let f = Fixture::leased().await;
    assert!(f.client.cached(&f.token).is_none());
    assert!(is_active(&f.exchange().await));
    assert!(is_active(&f.exchange().await));
    assert_eq!(f.client.cached(&f.token).unwrap().sub, "ann");
    assert_eq!(f.fake.introspections(), 1);
    assert!(f.fake.with(|told| told.authorization.iter().all(|value| value == "Bearer workload")));
}

#[tokio::test(start_paused = true)]
async fn without_a_lease_every_request_is_asked_about() {
    let f = Fixture::new().await;
    assert!(is_active(&f.exchange().await));
    assert!(f.client.cached(&f.token).is_none());
    assert!(is_active(&f.exchange().await));
    assert_eq!(f.fake.introspections(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_crowd_with_one_token_asks_once() {
    let f = Fixture::leased().await;
    let gate = Arc::new(Semaphore::new(0));
    f.fake.with(|told| told.gate = Some(gate.clone()));
    let crowd: Vec<_> = (0..50)
        .map(|_| {
            let (client, token) = (f.client.clone(), f.token.clone());
            tokio::spawn(async move { client.exchange(&token, Outage::Deny).await })
        })
        .collect();
    f.until(|f| f.fake.introspections() == 1).await;
    gate.add_permits(10);
    for one in crowd {
        assert!(is_active(&one.await.unwrap()));
    }
    assert_eq!(f.fake.introspections(), 1);
}

#[tokio::test(start_paused = true)]
async fn without_a_lease_nobody_gets_the_answer_to_an_older_question() {
    let f = Fixture::new().await;
    let gate = Arc::new(Semaphore::new(0));
    f.fake.with(|told| told.gate = Some(gate.clone()));
    let ask = || {
        let (client, token) = (f.client.clone(), f.token.clone());
        tokio::spawn(async move { client.exchange(&token, Outage::Deny).await })
    };
    let early = ask();
    f.until(|f| f.fake.introspections() == 1).await;
    f.forgets(&f.token);
    let late = [ask(), ask(), ask()];
    f.settle().await;
    gate.add_permits(10);
    assert!(is_active(&early.await.unwrap()));
    for one in late {
        assert!(is_inactive(&one.await.unwrap()));
    }
    assert_eq!(f.fake.introspections(), 2, "those who came late share one question");
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_costs_one_question_in_two_seconds() {
    let mut f = Fixture::leased().await;
    f.forgets(&f.token);
    for _ in 0..5 {
        assert!(is_inactive(&f.exchange().await));
    }
    assert_eq!(f.fake.introspections(), 1);
    f.pass(2, true).await;
    assert!(is_inactive(&f.exchange().await));
    assert_eq!(f.fake.introspections(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_used_answer_is_renewed_before_its_jwt_ends() {
    let mut f = Fixture::leased().await;
    f.exchange().await.unwrap();
    f.pass(29, true).await;
    assert!(f.client.cached(&f.token).is_some());
    f.settle().await;
    assert_eq!(f.fake.introspections(), 1);
    f.pass(1, true).await;
    f.knows(&f.token, "ann renewed");
    assert_eq!(f.client.cached(&f.token).unwrap().sub, "ann", "nobody waits");
    f.until(|f| f.client.cached(&f.token).is_some_and(|identity| identity.sub == "ann renewed")).await;
    assert_eq!(f.fake.introspections(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_is_refused_ends_the_session() {
    let mut f = Fixture::leased().await;
    let Ok(Exchanged::Active(identity)) = f.exchange().await else { panic!("not active") };
    f.pass(30, true).await;
    f.forgets(&f.token);
    f.client.cached(&f.token).unwrap();
    f.until(|f| f.client.cached(&f.token).is_none()).await;
    assert!(identity.life.is_over());
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_says_identities_otherwise_voids_the_cache_and_another_rule_does_not() {
    let mut f = Fixture::leased().await;
    f.exchange().await.unwrap();
    f.configure(|config| config["rules"] = json!([{"matches": [{}], "access": "Deny"}]));
    assert!(f.client.cached(&f.token).is_some());
    f.configure(|config| config["jwt"]["header"] = json!("X-Jwt"));
    assert!(f.client.cached(&f.token).is_none());
    let Ok(Exchanged::Active(identity)) = f.exchange().await else { panic!("not active") };
    assert_eq!(identity.jwt_header, identity.jwt());
}
