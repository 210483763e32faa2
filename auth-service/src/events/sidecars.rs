//! Which sidecars are connected to this replica, and up to which event each of them has acted.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cloakroom_protocol::events::LEASE_SECONDS;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::store::EventId;

/// Marks of the store that carry one sidecar's acknowledgement, which reached another replica than its stream.
pub const STRAY: &str = "ack/";

#[derive(Default)]
pub struct Sidecars {
    known: Mutex<HashMap<String, Sidecar>>,
    /// Something changed that the other replicas wait for.
    pub changed: Notify,
}

struct Sidecar {
    acknowledged: EventId,
    streams: u32,
    /// Unix milliseconds; it may use what it has cached until the lease ends.
    gone_since: Option<u64>,
}

/// How far the sidecars of one replica are: acknowledged id → how many. Published through the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    pub acknowledged: BTreeMap<EventId, u64>,
}

impl Mark {
    pub fn total(&self) -> u64 {
        self.acknowledged.values().sum()
    }

    pub fn reached(&self, event: EventId) -> u64 {
        self.acknowledged.range(event..).map(|(_, count)| count).sum()
    }
}

impl Sidecars {
    /// A stream was opened by a sidecar that has acted on everything up to `from`.
    pub fn connect(&self, name: &str, from: EventId) {
        let mut known = self.lock();
        let sidecar =
            known.entry(name.to_owned()).or_insert(Sidecar { acknowledged: from, streams: 0, gone_since: None });
        sidecar.streams += 1;
        sidecar.gone_since = None;
        sidecar.acknowledged = sidecar.acknowledged.max(from);
        drop(known);
        self.changed.notify_one();
    }

    pub fn disconnect(&self, name: &str, now: u64) {
        let mut known = self.lock();
        if let Some(sidecar) = known.get_mut(name) {
            sidecar.streams = sidecar.streams.saturating_sub(1);
            if sidecar.streams == 0 {
                sidecar.gone_since = Some(now);
            }
        }
        drop(known);
        self.changed.notify_one();
    }

    /// `false`: its stream is not here.
    pub fn acknowledge(&self, name: &str, last: EventId) -> bool {
        let mut known = self.lock();
        let Some(sidecar) = known.get_mut(name) else { return false };
        sidecar.acknowledged = sidecar.acknowledged.max(last);
        drop(known);
        self.changed.notify_one();
        true
    }

    /// Forgets those whose lease has ended since they went.
    pub fn mark(&self, now: u64) -> Mark {
        let mut known = self.lock();
        known.retain(|_, sidecar| sidecar.gone_since.is_none_or(|since| now < since + LEASE_SECONDS * 1000));
        let mut mark = Mark::default();
        for sidecar in known.values() {
            *mark.acknowledged.entry(sidecar.acknowledged).or_default() += 1;
        }
        mark
    }

    pub fn connected(&self) -> usize {
        self.lock().values().filter(|sidecar| sidecar.streams > 0).count()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Sidecar>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(millis: u64) -> EventId {
        EventId { millis, sequence: 0 }
    }

    #[test]
    fn a_sidecar_that_went_silent_counts_until_its_lease_has_ended() {
        let sidecars = Sidecars::default();
        sidecars.connect("a", id(1));
        sidecars.connect("b", id(1));
        assert!(sidecars.acknowledge("a", id(5)));
        sidecars.disconnect("b", 10_000);
        let mark = sidecars.mark(14_999);
        assert_eq!((mark.total(), mark.reached(id(5))), (2, 1));
        assert_eq!(sidecars.mark(15_000).total(), 1);
    }

    #[test]
    fn an_acknowledgement_never_goes_back() {
        let sidecars = Sidecars::default();
        sidecars.connect("a", id(9));
        sidecars.acknowledge("a", id(3));
        assert_eq!(sidecars.mark(0).reached(id(9)), 1);
        assert!(!sidecars.acknowledge("stranger", id(3)));
    }

    #[test]
    fn a_second_stream_of_the_same_sidecar_keeps_it_connected() {
        let sidecars = Sidecars::default();
        sidecars.connect("a", id(1));
        sidecars.connect("a", id(2));
        sidecars.disconnect("a", 0);
        assert_eq!((sidecars.connected(), sidecars.mark(60_000).total()), (1, 1));
    }
}
