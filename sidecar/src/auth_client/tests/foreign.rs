//! Tokens of other issuers: asked about through the same cache, believed for no longer than they said.

use cloakroom_protocol::presented::ForeignToken;

use super::*;

fn foreign(number: usize) -> Presented {
    ForeignToken::parse(format!("opaque-token-of-another-issuer-{number}").as_bytes()).unwrap().into()
}

impl Fixture {
    fn believes(&self, token: &Presented, milliseconds: u64) {
        let mut answer = active(token, "sso:ann");
        let now = clock::unix_now().as_secs();
        (answer.exp, answer.jwt_exp, answer.believe_ms) = (now + 3600, now + 60, Some(milliseconds));
        self.fake.with(|told| told.active.insert(token.expose().to_owned(), answer));
    }
}

#[tokio::test(start_paused = true)]
async fn a_revocation_elsewhere_holds_here_within_the_time_that_the_answer_named() {
    let mut f = Fixture::leased().await;
    let token = foreign(1);
    f.believes(&token, 10_000);
    assert!(is_active(&f.client.exchange(&token, Outage::Deny).await));
    f.forgets(&token);
    f.pass(4, true).await;
    assert!(f.client.cached(&token).is_some());
    assert_eq!(f.fake.introspections(), 1);
    f.pass(1, true).await;
    // Somebody who uses it makes it be asked about ahead of its end.
    f.client.cached(&token);
    f.until(|f| f.client.cached(&token).is_none()).await;
    assert!(is_inactive(&f.client.exchange(&token, Outage::Deny).await));
    assert_eq!(f.fake.introspections(), 2, "and the refusal is remembered");
}

#[tokio::test(start_paused = true)]
async fn unused_it_is_asked_about_before_it_is_used_again() {
    let mut f = Fixture::leased().await;
    let token = foreign(1);
    f.believes(&token, 10_000);
    assert!(is_active(&f.client.exchange(&token, Outage::Deny).await));
    f.forgets(&token);
    f.pass(10, true).await;
    assert!(f.client.cached(&token).is_none(), "the lease is live, and yet");
    assert!(is_inactive(&f.client.exchange(&token, Outage::Deny).await));
}

#[tokio::test(start_paused = true)]
async fn an_outage_lease_does_not_lengthen_another_issuers_word() {
    let mut f = Fixture::leased().await;
    let token = foreign(1);
    f.believes(&token, 10_000);
    let lease = Outage::Lease { seconds: 60 };
    assert!(is_active(&f.client.exchange(&token, lease).await));
    f.fake.stop();
    f.pass(7, false).await;
    assert!(is_active(&f.client.exchange(&token, lease).await), "without heartbeats, and within the ten seconds");
    f.pass(3, false).await;
    assert!(f.client.exchange(&token, lease).await.is_err(), "an outage, and no logout");
}

#[tokio::test(start_paused = true)]
async fn what_stays_open_ends_once_its_issuer_says_no() {
    let mut f = Fixture::leased().await;
    let token = foreign(1);
    f.believes(&token, 10_000);
    let Ok(Exchanged::Active(open)) = f.client.exchange(&token, Outage::Deny).await else { panic!("not active") };
    f.pass(10, true).await;
    f.until(|f| f.fake.introspections() == 2).await;
    assert!(!open.life.is_over(), "asked, though nobody sent a request");
    f.forgets(&token);
    f.pass(11, true).await;
    f.until(|_| open.life.is_over()).await;
}

#[tokio::test(start_paused = true)]
async fn junk_is_asked_about_a_few_at_a_time_and_keeps_nobody_elses_question_waiting() {
    let f = Fixture::leased().await;
    let gate = Arc::new(Semaphore::new(0));
    f.fake.with(|told| told.gate = Some(gate.clone()));
    let asked: Vec<_> = (0..200)
        .map(|number| {
            let client = f.client.clone();
            tokio::spawn(async move { client.exchange(&foreign(number), Outage::Deny).await })
        })
        .collect();
    f.until(|f| f.fake.introspections() >= 64).await;
    f.settle().await;
    assert_eq!(f.fake.introspections(), 64);
    let (client, token) = (f.client.clone(), f.token.clone());
    let ours = tokio::spawn(async move { client.exchange(&token, Outage::Deny).await });
    f.until(|f| f.fake.introspections() == 65).await;
    tokio::time::advance(Duration::from_millis(1001)).await;
    f.settle().await;
    assert_eq!(asked.iter().filter(|one| one.is_finished()).count(), 136, "told that nobody can say");
    gate.add_permits(1000);
    assert!(is_active(&ours.await.unwrap()));
    for one in asked {
        assert!(!is_active(&one.await.unwrap()));
    }
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_hangs_makes_nobody_take_the_auth_service_to_be_down() {
    let f = Fixture::leased().await;
    let gate = Arc::new(Semaphore::new(0));
    f.fake.with(|told| told.gate = Some(gate.clone()));
    let client = f.client.clone();
    let hanging = tokio::spawn(async move { client.exchange(&foreign(1), Outage::Deny).await });
    f.until(|f| f.fake.introspections() == 1).await;
    tokio::time::advance(Duration::from_millis(2001)).await;
    assert!(hanging.await.unwrap().is_err());
    let ask = |seed| {
        let client = f.client.clone();
        tokio::spawn(async move { client.exchange(&token(seed), Outage::Deny).await })
    };
    let both = [ask(20), ask(21)];
    f.until(|f| f.fake.introspections() == 3).await;
    gate.add_permits(10);
    for one in both {
        assert!(is_inactive(&one.await.unwrap()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_names_other_issuers_voids_the_cache() {
    let mut f = Fixture::leased().await;
    let token = foreign(1);
    f.believes(&token, 10_000);
    f.configure(|config| config["token_issuers"] = json!(["sso"]));
    f.client.exchange(&token, Outage::Deny).await.unwrap();
    assert!(f.client.cached(&token).is_some());
    f.configure(|config| config["token_issuers"] = json!(["other"]));
    assert!(f.client.cached(&token).is_none());
}
