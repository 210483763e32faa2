//! What the connections of one thread share. Nothing here is locked: each worker is single-threaded and has its own.

pub mod deadlines;

use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::cache::Cache;

use crate::access_log::AccessLog;
use crate::authority::Authority;
use crate::config::{CurrentPolicy, Policy};
use crate::http1::buffer::Buffers;
use crate::http2::Channels;
use crate::limits::Room;
use crate::log;
use crate::metrics::{Http2Error, Metrics, Outcome};
use crate::request::forward::Peer;
use crate::tls::Certificates;
use crate::upstream::Pool;
use deadlines::Deadlines;

/// What every worker serves with.
#[derive(Clone)]
pub struct Runtime {
    pub policy: Arc<CurrentPolicy>,
    pub authority: Arc<dyn Authority>,
    pub metrics: Arc<Metrics>,
    /// Unix seconds.
    pub clock: fn() -> u64,
    /// What the protected ports present; absent where they speak plain HTTP.
    pub certificates: Option<Arc<Certificates>>,
    /// Each worker's share of what the process may take.
    pub room: Room,
}

/// How far its end has come; there is no way back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Serving,
    Leaving,
    Draining,
    Closed,
}

pub struct Worker {
    pub runtime: Runtime,
    pub deadlines: Deadlines,
    pub buffers: Buffers,
    pub pool: Pool,
    pub channels: Channels,
    pub log: RefCell<AccessLog>,
    policy: RefCell<Cache<Arc<CurrentPolicy>, Option<Arc<Policy>>>>,
    /// Unix seconds, as of the last tick.
    now: Cell<u64>,
    stage: Cell<Stage>,
    decisions: Cell<u64>,
    /// Tells this worker's decisions from all others'.
    decision_prefix: String,
    /// Connections that are open.
    pub open: Cell<usize>,
    /// Those of them that were when draining began.
    pub early: Cell<usize>,
    /// Connections for which there was no room, since the last tick.
    turned_away: Cell<u64>,
    /// Of HTTP/2 that clients broke, since the last tick: how often, and the last of them.
    broken_http2: Cell<Option<(u64, IpAddr, Http2Error)>>,
}

impl Worker {
    pub fn new(runtime: Runtime, seed: u64, log: AccessLog) -> Rc<Self> {
        let mut decision_prefix = String::new();
        push_base62(seed, 8, &mut decision_prefix);
        Rc::new(Self {
            now: Cell::new((runtime.clock)()),
            policy: RefCell::new(Cache::new(Arc::clone(&runtime.policy))),
            deadlines: Deadlines::default(),
            buffers: Buffers::new(runtime.room.bytes),
            turned_away: Cell::new(0),
            broken_http2: Cell::new(None),
            runtime,
            pool: Pool::default(),
            channels: Channels::default(),
            log: RefCell::new(log),
            stage: Cell::new(Stage::Serving),
            decisions: Cell::new(0),
            decision_prefix,
            open: Cell::new(0),
            early: Cell::new(0),
        })
    }

    /// A few times a second: clock, deadlines, idle connections to apps, log.
    pub fn tick(&self, elapsed_millis: u64) {
        self.now.set((self.runtime.clock)());
        let unheard = u64::try_from(self.runtime.authority.unheard().as_millis()).unwrap_or(u64::MAX);
        self.deadlines.advance(elapsed_millis, unheard);
        self.pool.sweep(elapsed_millis);
        if self.turned_away.get() > 0 {
            let Room { connections, bytes } = self.runtime.room;
            let fields =
                [("count", &self.turned_away.take() as &dyn Display), ("connections", &connections), ("bytes", &bytes)];
            log::warn("connections turned away: there is room for no more", &fields);
        }
        if let Some((count, client, error)) = self.broken_http2.take() {
            let fields = [("count", &count as &dyn Display), ("client", &client), ("error", &error)];
            log::info("clients broke HTTP/2; of the last one:", &fields);
        }
        self.log.borrow_mut().flush();
    }

    /// The one in force at this moment.
    pub fn policy(&self) -> Option<Arc<Policy>> {
        self.policy.borrow_mut().load().clone()
    }

    /// Unix seconds.
    pub fn now(&self) -> u64 {
        self.now.get()
    }

    /// Whether one more connection may be served; counts those that may not.
    pub fn has_room(&self) -> bool {
        let has = self.open.get() < self.runtime.room.connections;
        if !has {
            self.turned_away.set(self.turned_away.get() + 1);
            self.runtime.metrics.connections_refused.inc();
        }
        has
    }

    /// A client was told that it broke the protocol.
    pub fn broken_http2(&self, client: &Peer, error: Http2Error) {
        self.runtime.metrics.http2_errors.of(error).inc();
        let count = self.broken_http2.get().map_or(0, |(count, ..)| count) + 1;
        self.broken_http2.set(Some((count, client.address, error)));
    }

    /// A connection is closed because the memory for what is under way is used up.
    pub fn shed(&self) {
        self.turned_away.set(self.turned_away.get() + 1);
        self.runtime.metrics.requests.of(Outcome::Unavailable).inc();
    }

    /// Almost all connections that may be open are.
    pub fn is_crowded(&self) -> bool {
        self.open.get() > self.runtime.room.connections / 8 * 7
    }

    pub fn new_decision(&self) -> String {
        let count = self.decisions.get() + 1;
        self.decisions.set(count);
        let mut id = String::with_capacity(self.decision_prefix.len() + BASE62_DIGITS);
        id.push_str(&self.decision_prefix);
        push_base62(count, 4, &mut id);
        id
    }

    /// Every answer from now on is its connection's last, and connections that wait for a further request are closed.
    pub fn leave(&self) {
        self.enter(Stage::Leaving);
    }

    pub fn is_leaving(&self) -> bool {
        self.stage.get() >= Stage::Leaving
    }

    /// Requests that have begun are finished. Connections that say nothing are closed.
    pub fn drain(&self) {
        self.early.set(self.open.get());
        self.enter(Stage::Draining);
    }

    /// No connection is accepted any more.
    pub fn close(&self) {
        self.enter(Stage::Closed);
    }

    fn enter(&self, stage: Stage) {
        self.stage.set(stage);
        self.deadlines.wake_all();
    }

    /// Whether a connection that is silent may still say something: one that has just come is served even by a pod that is leaving.
    pub fn is_worth_waiting(&self, has_been_served: bool, came_late: bool) -> bool {
        !self.is_leaving()
            || !(has_been_served || self.stage.get() == Stage::Closed || (self.is_draining() && !came_late))
    }

    pub fn is_draining(&self) -> bool {
        self.stage.get() >= Stage::Draining
    }
}

/// Of the largest number.
const BASE62_DIGITS: usize = 11;

/// At least so many digits.
fn push_base62(mut number: u64, least: usize, text: &mut String) {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut digits = [b'0'; BASE62_DIGITS];
    let mut first = digits.len();
    while number > 0 {
        first -= 1;
        digits[first] = ALPHABET[usize::try_from(number % 62).unwrap_or_default()];
        number /= 62;
    }
    let first = first.min(digits.len() - least);
    text.push_str(std::str::from_utf8(&digits[first..]).unwrap_or_default());
}
