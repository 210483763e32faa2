//! Against a fake auth service, on real sockets and a clock that stands still until a test moves it.

use std::time::Duration;

use cloakroom_protocol::events::{Event, Heartbeat, Revoked};
use cloakroom_protocol::internal_api;
use cloakroom_protocol::revocation::RevokeScope;
use cloakroom_protocol::token::TokenKind;
use http::StatusCode;
use rand::SeedableRng as _;
use serde_json::json;
use tokio::sync::Semaphore;

use super::fake::{FakeAuth, Pki, respond};
use super::*;
use crate::authority::CommitError;
use crate::clock;
use crate::config;
use crate::identity::tests::active;

const SECOND: Duration = Duration::from_secs(1);

struct Fixture {
    fake: FakeAuth,
    client: Arc<AuthClient>,
    policy: Arc<CurrentPolicy>,
    token: OpaqueToken,
    beats: u64,
    _still: Still,
}

/// Keeps the paused clock from running ahead while only sockets are busy.
struct Still {
    _until_dropped: std::sync::mpsc::Sender<()>,
}

fn stand_still() -> Still {
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    tokio::task::spawn_blocking(move || {
        let _ = receiver.recv();
    });
    Still { _until_dropped: sender }
}

impl Fixture {
    /// Connected, with an open event stream but no heartbeat yet.
    async fn new() -> Self {
        let still = stand_still();
        let fake = FakeAuth::start().await;
        let policy = Arc::new(CurrentPolicy::empty());
        let client = AuthClient::start(Setup {
            policy: policy.clone(),
            metrics: Arc::default(),
            workload: TokenSource::Fixed("workload".into()),
            sidecar: "pod-1".into(),
            runtime: Handle::current(),
            bounds: Bounds::default(),
        });
        let mut fixture = Self { fake, client, policy, token: token(1), beats: 0, _still: still };
        fixture.configure(|_| {});
        fixture.knows(&fixture.token, "ann");
        fixture.until(|f| f.client.metrics.stream_open.get() == 1).await;
        fixture
    }

    /// With a lease.
    async fn leased() -> Self {
        let mut fixture = Self::new().await;
        fixture.beat().await;
        fixture
    }

    fn configure(&mut self, change: impl FnOnce(&mut serde_json::Value)) {
        let mut config = config::tests::config(&format!("http://{}", self.fake.address));
        change(&mut config);
        let next = Arc::new(Policy::parse(config.to_string().as_bytes()).unwrap());
        let before = self.policy.swap(Some(next.clone()));
        self.client.policy_changed(before.as_deref(), &next);
    }

    fn knows(&self, token: &OpaqueToken, sub: &str) {
        let mut answer = active(token, sub);
        let now = clock::unix_now().as_secs();
        (answer.exp, answer.jwt_exp) = (now + 3600, now + 60);
        self.fake.with(|told| told.active.insert(token.expose().to_owned(), answer));
    }

    fn forgets(&self, token: &OpaqueToken) {
        self.fake.with(|told| told.active.remove(token.expose()));
    }

    async fn beat(&mut self) {
        self.beats += 1000;
        let event = Event::Heartbeat(Heartbeat { at: 1_000_000 + self.beats });
        self.fake.send(&format!("{}-0", self.beats), &event);
        let id = format!("{}-0", self.beats);
        self.until(|f| lock(&f.client.last_event).as_deref() == Some(&id)).await;
    }

    /// Moves the clock, with or without a heartbeat a second.
    async fn pass(&mut self, seconds: u64, beating: bool) {
        for _ in 0..seconds {
            tokio::time::advance(SECOND).await;
            if beating {
                self.beat().await;
            }
        }
    }

    async fn exchange(&self) -> Result<Exchanged, Unavailable> {
        self.client.exchange(&self.token, Outage::Deny).await
    }

    async fn until(&self, reached: impl Fn(&Self) -> bool) {
        for _ in 0..200_000 {
            if reached(self) {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("never came");
    }

    /// Lets everything under way arrive.
    async fn settle(&self) {
        for _ in 0..2_000 {
            tokio::task::yield_now().await;
        }
    }
}

fn token(seed: u64) -> OpaqueToken {
    OpaqueToken::generate(TokenKind::Session, &mut StdRng::seed_from_u64(seed))
}

fn is_active(result: &Result<Exchanged, Unavailable>) -> bool {
    matches!(result, Ok(Exchanged::Active(_)))
}

fn is_inactive(result: &Result<Exchanged, Unavailable>) -> bool {
    matches!(result, Ok(Exchanged::Inactive))
}

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
async fn silence_ends_the_lease() {
    let mut f = Fixture::leased().await;
    f.exchange().await.unwrap();
    f.pass(4, false).await;
    assert!(f.client.cached(&f.token).is_some());
    f.pass(1, false).await;
    assert!(f.client.cached(&f.token).is_none());
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
async fn a_revocation_ends_everything_and_is_acknowledged() {
    let f = Fixture::leased().await;
    let Ok(Exchanged::Active(identity)) = f.exchange().await else { panic!("not active") };
    f.forgets(&f.token);
    f.fake.send("2000-7", &Event::Revoked(Revoked::Id { id: f.token.id() }));
    f.until(|f| f.fake.with(|told| !told.acknowledged.is_empty())).await;
    assert!(identity.life.is_over());
    assert!(f.client.cached(&f.token).is_none());
    assert!(is_inactive(&f.exchange().await));
    let ack = f.fake.with(|told| told.acknowledged[0].clone());
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
    f.until(|f| f.fake.with(|told| !told.acknowledged.is_empty())).await;
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
    let ask = |token: OpaqueToken| {
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
    assert_eq!(identity.jwt_header, identity.jwt);
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
async fn session_data_are_committed_once_or_not_at_all() {
    let f = Fixture::leased().await;
    let Ok(Exchanged::Active(identity)) = f.exchange().await else { panic!("not active") };
    let patch = |key: &str| json!({key: 1}).as_object().unwrap().clone();
    let commit = |key: &'static str| f.client.commit_session(&f.token, &identity, patch(key));
    assert_eq!(commit("admin").await, Err(CommitError::NotWritable));
    assert!(f.fake.with(|told| told.asked.iter().all(|asked| !asked.contains("/session"))), "not even asked");

    let mut changed = active(&f.token, "ann");
    changed.session_version = 4;
    let changed = serde_json::to_string(&changed).unwrap();
    for (status, body, expected) in [
        (409, "", Err(CommitError::Conflict)),
        (422, "", Err(CommitError::NotWritable)),
        (503, "", Err(CommitError::Unavailable)),
        (200, "{}", Err(CommitError::Unavailable)),
        (200, r#"{"active":false}"#, Err(CommitError::Gone)),
        (200, changed.as_str(), Ok(())),
    ] {
        let (status, answer) = (StatusCode::from_u16(status).unwrap(), body.to_owned());
        f.fake.with(|told| {
            told.script =
                Some(Box::new(move |path, _| (path == internal_api::SESSION).then(|| respond(status, &answer))));
        });
        assert_eq!(commit("cart").await, expected, "{status} {body}");
    }
    assert_eq!(f.client.cached(&f.token).unwrap().session_version, 4);
    let sent = f.fake.with(|told| told.bodies.iter().filter(|(path, _)| path == internal_api::SESSION).count());
    assert_eq!(sent, 6, "none was sent twice");
}

#[tokio::test(start_paused = true)]
async fn signing_out_takes_effect_here_before_it_is_confirmed() {
    let f = Fixture::leased().await;
    f.exchange().await.unwrap();
    f.client.sign_out(&f.token, RevokeScope::Session).await.unwrap();
    assert!(f.client.cached(&f.token).is_none());

    let elsewhere = token(4);
    f.knows(&elsewhere, "ann");
    f.client.exchange(&elsewhere, Outage::Deny).await.unwrap();
    f.exchange().await.unwrap();
    f.client.sign_out(&f.token, RevokeScope::Everywhere).await.unwrap();
    assert!(f.client.cached(&elsewhere).is_none());

    f.exchange().await.unwrap();
    f.fake.with(|told| told.script = Some(Box::new(|_, _| Some(respond(StatusCode::BAD_GATEWAY, "")))));
    assert_eq!(f.client.sign_out(&f.token, RevokeScope::Session).await, Err(Unavailable));
    assert!(f.client.cached(&f.token).is_some(), "nobody confirmed anything");
}

#[tokio::test(start_paused = true)]
async fn use_of_cached_sessions_is_reported() {
    let mut f = Fixture::leased().await;
    f.exchange().await.unwrap();
    f.pass(5, true).await;
    f.client.cached(&f.token).unwrap();
    for _ in 0..14 {
        f.pass(1, true).await;
        f.settle().await;
    }
    f.until(|f| f.fake.with(|told| !told.usage.is_empty())).await;
    let report = f.fake.with(|told| told.usage[0].clone());
    assert_eq!(report.used[0].id, f.token.id());
    assert!((8..=12).contains(&report.used[0].ago), "{report:?}");
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

/// Whether a client that trusts `trusted`, and asks for `name`, gets an answer over TLS.
async fn is_answered_over_tls(fake: &FakeAuth, trusted: &Pki, name: &str) -> bool {
    let mut config = config::tests::config(&format!("https://{name}:9443"));
    config["auth_service"]["addresses"] = json!([fake.address]);
    config["auth_service"]["ca"] = json!(trusted.ca_pem);
    let policy = Arc::new(Policy::parse(config.to_string().as_bytes()).unwrap());
    let client = AuthClient::start(Setup {
        policy: Arc::new(CurrentPolicy::from(Some(policy.clone()))),
        metrics: Arc::default(),
        workload: TokenSource::Fixed("workload".into()),
        sidecar: "pod-1".into(),
        runtime: Handle::current(),
        bounds: Bounds::default(),
    });
    client.policy_changed(None, &policy);
    client.exchange(&token(1), Outage::Deny).await.is_ok()
}

#[tokio::test]
async fn the_auth_service_has_to_prove_its_name_under_the_configs_own_ca() {
    let name = "auth.cloakroom-system.svc";
    let (pki, other) = (Pki::new(name), Pki::new(name));
    let fake = FakeAuth::start_tls(&pki, b"h2").await;
    assert!(is_answered_over_tls(&fake, &pki, name).await);
    assert!(!is_answered_over_tls(&fake, &other, name).await, "signed by somebody else");
    assert!(!is_answered_over_tls(&fake, &pki, "auth.elsewhere.svc").await, "for another name");
    assert_eq!(fake.introspections(), 1, "no token went to whom nobody trusts");
    let http1 = FakeAuth::start_tls(&pki, b"http/1.1").await;
    assert!(!is_answered_over_tls(&http1, &pki, name).await, "does not speak HTTP/2");
}
