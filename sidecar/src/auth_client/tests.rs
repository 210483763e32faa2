//! Against a fake auth service, on real sockets and a clock that stands still until a test moves it.

mod exchange;
mod foreign;
mod inquiries;
mod interest;
mod outage;
mod session;
mod stream;
mod tls;

use std::time::Duration;

use cloakroom_protocol::events::{Event, Heartbeat, Revoked};
use cloakroom_protocol::internal_api;
use cloakroom_protocol::revocation::RevokeScope;
use cloakroom_protocol::token::{OpaqueToken, TokenKind};
use http::StatusCode;
use rand::SeedableRng as _;
use serde_json::json;
use tokio::sync::Semaphore;

use super::fake::{FakeAuth, Pki, respond};
use super::*;
use crate::authority::{CommitError, SignOutError};
use crate::clock;
use crate::config;
use crate::identity::tests::active;

const SECOND: Duration = Duration::from_secs(1);

struct Fixture {
    fake: FakeAuth,
    client: Arc<AuthClient>,
    policy: Arc<CurrentPolicy>,
    token: Presented,
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

    fn knows(&self, token: &Presented, sub: &str) {
        let mut answer = active(token, sub);
        let now = clock::unix_now().as_secs();
        (answer.exp, answer.jwt_exp) = (now + 3600, now + 60);
        self.fake.with(|told| told.active.insert(token.expose().to_owned(), answer));
    }

    fn forgets(&self, token: &Presented) {
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

    fn acknowledged(&self, event: &str) -> bool {
        self.fake.with(|told| told.acknowledged.iter().any(|ack| ack.last == event))
    }

    /// In its own time, once it has been heard of.
    async fn acknowledges(&self, event: &str) {
        self.until(|f| lock(&f.client.last_event).as_deref() == Some(event)).await;
        self.settle().await;
        tokio::time::advance(events::ACK_WITHIN).await;
        self.until(|f| f.acknowledged(event)).await;
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

fn token(seed: u64) -> Presented {
    OpaqueToken::generate(TokenKind::Session, &mut StdRng::seed_from_u64(seed)).into()
}

fn is_active(result: &Result<Exchanged, Unavailable>) -> bool {
    matches!(result, Ok(Exchanged::Active(_)))
}

fn is_inactive(result: &Result<Exchanged, Unavailable>) -> bool {
    matches!(result, Ok(Exchanged::Inactive))
}
