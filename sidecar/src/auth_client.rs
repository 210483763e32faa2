//! The conversation with the auth service: one connection, one event stream, one cache for all workers.

pub mod calls;
pub mod connection;
pub mod endpoint;
pub mod events;
pub mod exchange;
#[cfg(test)]
pub mod fake;
pub mod inquiries;
pub mod postbox;
pub mod session;
pub mod sse;
pub mod upkeep;
pub mod workload_token;

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use cloakroom_protocol::presented::Presented;
use cloakroom_protocol::sidecar_config::Outage;
use rand::rngs::StdRng;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use crate::authority::{Exchanged, Unavailable};
use crate::config::{CurrentPolicy, Policy};
use crate::identity::Identity;
use crate::lease::Lease;
use crate::log;
use crate::metrics::Metrics;
use crate::token_cache::{Bounds, Fingerprint, TokenCache};
pub use calls::CallError;
use calls::Calls;
use connection::{Keeper, State};
use endpoint::Endpoint;
use exchange::Flight;
use inquiries::{Inquiries, UNDERWAY};
use workload_token::{TokenSource, WorkloadToken};

/// At 5 ms each, twelve thousand a second.
const FOREIGN_QUESTIONS: usize = 64;

pub struct AuthClient {
    /// Itself, for what goes on in the background.
    this: Weak<Self>,
    /// Where that runs.
    runtime: Handle,
    policy: Arc<CurrentPolicy>,
    metrics: Arc<Metrics>,
    calls: Calls,
    cache: TokenCache,
    lease: Lease,
    started: Instant,
    flights: Mutex<HashMap<Fingerprint, Flight>>,
    inquiries: Inquiries,
    /// The last question was not answered in time: until something is, one at a time is asked, and nobody else waits as long.
    hanging: AtomicBool,
    trying: AtomicBool,
    /// Questions about tokens of other issuers that may be under way: none is junk by its looks, and junk must not crowd out the rest.
    foreign_questions: Semaphore,
    target: watch::Sender<Option<Endpoint>>,
    jwks: ArcSwapOption<Bytes>,
    /// Newest event that took effect here and wants to be acknowledged.
    effective: watch::Sender<Option<String>>,
    last_event: Mutex<Option<String>>,
    /// The open event stream is to be replaced.
    abandoned: watch::Sender<()>,
    /// This pod, as the event stream and its receipts know it.
    sidecar: String,
}

pub struct Setup {
    pub policy: Arc<CurrentPolicy>,
    pub metrics: Arc<Metrics>,
    pub workload: TokenSource,
    pub sidecar: String,
    /// A runtime of one thread will do.
    pub runtime: Handle,
    pub bounds: Bounds,
}

/// What port 15020 shows of it.
pub struct Status {
    pub connection: &'static str,
    pub trouble: Option<Arc<str>>,
    pub stream_open: bool,
    pub last_event: Option<String>,
    pub lease_live: bool,
    /// Only events about what is held here are sent.
    pub narrowed: bool,
    pub entries: usize,
    pub bytes: usize,
}

impl AuthClient {
    /// Connects as soon as there is a policy, and stays so.
    pub fn start(setup: Setup) -> Arc<Self> {
        let Setup { policy, metrics, workload, sidecar, runtime, bounds } = setup;
        let (connection, keeper) = connection::connection();
        let now = Instant::now();
        let client = Arc::new_cyclic(|this| Self {
            this: this.clone(),
            runtime,
            policy,
            metrics,
            calls: Calls { connection, workload: WorkloadToken::new(workload) },
            cache: TokenCache::new(bounds, now),
            lease: Lease::new(now),
            started: now,
            flights: Mutex::default(),
            inquiries: Inquiries::default(),
            hanging: AtomicBool::new(false),
            trying: AtomicBool::new(false),
            foreign_questions: Semaphore::new(FOREIGN_QUESTIONS),
            target: watch::Sender::new(None),
            jwks: ArcSwapOption::empty(),
            effective: watch::Sender::new(None),
            last_event: Mutex::default(),
            abandoned: watch::Sender::new(()),
            sidecar,
        });
        client.background(keeper);
        client
    }

    /// To be called with every policy that comes into force, after it did.
    pub fn policy_changed(&self, before: Option<&Policy>, now: &Policy) {
        if before.is_none_or(|before| !before.same_identities(now)) {
            self.cache.clear();
        }
        self.target.send_if_modified(|target| {
            let changed = target.as_ref().is_none_or(|target| !target.same_target(&now.endpoint));
            if changed {
                *target = Some(now.endpoint.clone());
            }
            changed
        });
    }

    /// Only while the lease holds: then a revocation would have been heard of.
    pub fn cached(&self, token: &Presented) -> Option<Arc<Identity>> {
        self.cached_at(token, &Fingerprint::of_presented(token), Instant::now())
    }

    fn cached_at(&self, token: &Presented, fingerprint: &Fingerprint, now: Instant) -> Option<Arc<Identity>> {
        if !self.lease.is_live(now) {
            return None;
        }
        let hit = self.cache.get(fingerprint, now)?;
        if hit.renew {
            self.renew(token, *fingerprint);
        }
        Some(hit.identity)
    }

    /// Cache, else introspection, else what the outage contract allows.
    pub async fn exchange(&self, token: &Presented, outage: Outage) -> Result<Exchanged, Unavailable> {
        let (fingerprint, now) = (Fingerprint::of_presented(token), Instant::now());
        if let Some(identity) = self.cached_at(token, &fingerprint, now) {
            return Ok(Exchanged::Active(identity));
        }
        if self.cache.is_refused(&fingerprint, now) {
            return Ok(Exchanged::Inactive);
        }
        match self.introspect(token, fingerprint).await {
            Err(Unavailable) => self.bridge(&fingerprint, outage).map(Exchanged::Active).ok_or(Unavailable),
            answered => answered,
        }
    }

    /// For how long nobody would have told us of a revocation: since the lease ended.
    pub fn unheard(&self) -> Duration {
        let now = Instant::now();
        now.saturating_duration_since(self.lease.until().unwrap_or(self.started))
    }

    /// What the auth service said last, for as long as the policy trusts that.
    fn bridge(&self, fingerprint: &Fingerprint, outage: Outage) -> Option<Arc<Identity>> {
        if outage == Outage::Deny {
            return None;
        }
        let now = Instant::now();
        let (identity, asked) = self.cache.get_unrenewed(fingerprint, now)?;
        let sign_of_life =
            self.lease.until().map_or(asked + crate::lease::LEASE, |until| until.max(asked + crate::lease::LEASE));
        (now < sign_of_life + outage.bridges()).then_some(identity)
    }

    /// The auth service's public keys, as last seen.
    pub fn jwks(&self) -> Option<Arc<Bytes>> {
        self.jwks.load_full()
    }

    pub fn status(&self) -> Status {
        let (connection, trouble) = match self.calls.connection.state() {
            State::Idle => ("waits for a config", None),
            State::Connecting => ("connecting", None),
            State::Up(..) => ("connected", None),
            State::Down(reason) => ("down", Some(reason)),
        };
        let (entries, bytes) = self.cache.size();
        Status {
            connection,
            trouble,
            stream_open: self.metrics.stream_open.get() == 1,
            last_event: lock(&self.last_event).clone(),
            lease_live: self.lease.is_live(Instant::now()),
            narrowed: self.cache.is_narrowed(),
            entries,
            bytes,
        }
    }

    fn background(self: &Arc<Self>, keeper: Keeper) {
        let client = self.clone();
        self.runtime.spawn(async move {
            keeper.run(client.target.subscribe(), &client.metrics, &mut rand::make_rng::<StdRng>()).await;
        });
        for _ in 0..UNDERWAY {
            self.runtime.spawn(self.clone().put_inquiries());
        }
        self.runtime.spawn(self.clone().follow_events());
        self.runtime.spawn(self.clone().acknowledge(rand::make_rng::<StdRng>()));
        self.runtime.spawn(self.clone().keep_up());
    }

    /// Says what went wrong, once for each call; the caller only learns that there is no answer.
    fn unavailable(what: &str, error: &CallError) -> Unavailable {
        log::warn(what, &[("error", error)]);
        Unavailable
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
