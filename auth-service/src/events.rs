//! The event stream of one replica: read once from the store, passed on to every connected sidecar.

pub mod coverage;
pub mod interest;
pub mod passed;
pub mod receipt;
pub mod sidecars;
pub mod streams;

use std::sync::Arc;
use std::time::Duration;

use cloakroom_protocol::events::{Event, HEARTBEAT_SECONDS, Heartbeat};
use cloakroom_protocol::interest::Key;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::registry::Registry;
use crate::store::{Backlog, EventId, Store, StoreError, StreamEntry};
use passed::Passed;
use receipt::Overview;
use sidecars::Sidecars;
use streams::Streams;

/// Pause after the store failed to answer.
const RETRY: Duration = Duration::from_millis(200);

/// What a connection is told.
#[derive(Clone, Debug)]
pub enum Signal {
    Entry(Arc<StreamEntry>),
    Heartbeat {
        at: u64,
        last: EventId,
    },
    /// Entries may have been lost together with the store.
    Reset {
        tail: EventId,
    },
}

pub struct Hub {
    pub sidecars: Sidecars,
    pub streams: Streams,
    pub passed: Passed,
    pub overview: Overview,
    /// When the store last answered the reader, Unix milliseconds; 0: not yet.
    touched: watch::Sender<u64>,
    keys_changed: watch::Sender<u64>,
}

impl Hub {
    pub fn new() -> Self {
        Self {
            sidecars: Sidecars::default(),
            streams: Streams::default(),
            passed: Passed::default(),
            overview: Overview::default(),
            touched: watch::Sender::new(0),
            keys_changed: watch::Sender::new(0),
        }
    }

    /// Changes whenever a `keys` event passes.
    pub fn keys_changes(&self) -> watch::Receiver<u64> {
        self.keys_changed.subscribe()
    }

    /// When the store last answered, Unix milliseconds.
    pub fn last_touch(&self) -> u64 {
        *self.touched.borrow()
    }

    /// Reads the stream for as long as the process lives.
    ///
    /// A heartbeat says that nothing can have been revoked without our knowing. Reading alone does not prove that: a primary that was cut
    /// off and replaced still answers, with nothing new. So each beat needs a write, which such a primary refuses (`min-replicas-to-write`).
    pub async fn run(&self, store: &dyn Store, registry: &Registry, replica: &str, clock: &Clock) {
        let mut position = None;
        let mut sure = true;
        let mut silent = false;
        let mut next_beat = Instant::now();
        loop {
            let step = self.step(store, registry, &mut position, &mut sure, next_beat).await;
            let beat = match step {
                Ok(last) if Instant::now() >= next_beat => {
                    let at = clock.millis();
                    receipt::publish_mark(self, store, replica, clock).await.map(|()| Some((at, last)))
                }
                Ok(_) => Ok(None),
                Err(error) => {
                    sure = false;
                    Err(error)
                }
            };
            match beat {
                Ok(None) => {}
                Ok(Some((at, last))) => {
                    silent = false;
                    self.touched.send_replace(at);
                    next_beat = Instant::now() + Duration::from_secs(HEARTBEAT_SECONDS);
                    self.streams.tell_all(&Signal::Heartbeat { at, last });
                }
                Err(error) => {
                    if !silent {
                        tracing::warn!(%error, "out of touch with the store; sidecars get no heartbeat until that is over");
                    }
                    silent = true;
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// One read of the stream. `sure`: nothing can have been missed since the last one.
    async fn step(
        &self,
        store: &dyn Store,
        registry: &Registry,
        position: &mut Option<EventId>,
        sure: &mut bool,
        next_beat: Instant,
    ) -> Result<EventId, StoreError> {
        let Some(last) = *position else {
            let tail = store.tail().await?;
            registry.reload(store).await?;
            *position = Some(tail);
            *sure = true;
            self.sidecars.passed(tail);
            return Ok(tail);
        };
        let entries = if *sure {
            // At least a millisecond: to Redis, blocking for zero means for ever.
            let block = next_beat.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            store.next_entries(last, block).await?
        } else {
            // A failover may have lost entries; a new, empty store has lost them all.
            match store.backlog(last).await? {
                Backlog::Entries(entries) => entries,
                Backlog::Gap { .. } => {
                    let tail = store.tail().await?;
                    registry.reload(store).await?;
                    self.pass_gap(last, tail);
                    tracing::warn!(%last, %tail, "the event stream has a gap; sidecars drop their caches");
                    *position = Some(tail);
                    *sure = true;
                    return Ok(tail);
                }
            }
        };
        if !*sure {
            tracing::info!("the event stream is read again");
            *sure = true;
        }
        let mut reached = last;
        for entry in entries {
            if entry.entry.name == crate::registry::CHANGED {
                registry.reload(store).await?;
            }
            if entry.entry.name == Event::Keys.name() {
                self.keys_changed.send_modify(|count| *count += 1);
            }
            reached = entry.id;
            // Moved with each entry, so that an error above does not send an entry twice.
            *position = Some(reached);
            self.pass(entry);
        }
        Ok(reached)
    }

    /// To whom it concerns.
    ///
    /// Order matters: what has passed is written down before any stream is left out, and a receipt sees the position move only after it
    /// sees who owes an answer.
    pub fn pass(&self, entry: StreamEntry) {
        let (id, parsed) = (entry.id, Event::parse(&entry.entry.name, &entry.entry.data));
        if is_for_sidecars(&entry) {
            let entry = Arc::new(entry);
            let revokes = entry.entry.name == "revoked";
            // What cannot be read may concern anybody, and who gets it will say so.
            let about = parsed.as_ref().ok().and_then(Key::of_event);
            if let Ok(event) = parsed {
                self.passed.push(event);
            }
            self.streams.tell(about, &Signal::Entry(entry), |sidecar| {
                if revokes {
                    self.sidecars.owes(sidecar, id);
                }
            });
        }
        self.sidecars.passed(id);
    }

    fn pass_gap(&self, last: EventId, tail: EventId) {
        self.passed.forget();
        self.streams.tell(None, &Signal::Reset { tail }, |sidecar| self.sidecars.owes(sidecar, last.next().min(tail)));
        self.sidecars.passed(tail);
    }
}

impl Default for Hub {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether sidecars are told; other entries are between replicas.
pub fn is_for_sidecars(entry: &StreamEntry) -> bool {
    matches!(entry.entry.name.as_str(), "revoked" | "updated" | "keys")
}

/// One server-sent event (WHATWG HTML §9.2.5); names and data are single lines.
pub fn frame(id: EventId, name: &str, data: &str) -> String {
    format!("id: {id}\nevent: {name}\ndata: {data}\n\n")
}

pub fn heartbeat_frame(at: u64, last: EventId) -> String {
    let beat = Event::Heartbeat(Heartbeat { at });
    frame(last, beat.name(), &beat.data())
}

pub fn reset_frame(tail: EventId) -> String {
    frame(tail, Event::Reset.name(), &Event::Reset.data())
}
