//! Which sidecars are connected to this replica, and which events each of them has yet to act on.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cloakroom_protocol::events::LEASE_SECONDS;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::store::EventId;

/// Marks of the store that carry one sidecar's acknowledgement, which reached another replica than its stream.
pub const STRAY: &str = "ack/";

#[derive(Default)]
pub struct Sidecars {
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    /// Every event up to here was handed to whom it concerns.
    position: EventId,
    known: HashMap<String, Sidecar>,
}

#[derive(Default)]
struct Sidecar {
    /// Sent, and not yet acted on as far as we know.
    owed: BTreeSet<EventId>,
    /// Whatever came after it cannot have reached the sidecar: it is away, or has not been told yet what it missed.
    deaf_after: Option<EventId>,
    streams: u32,
    /// Unix milliseconds; it may use what it has cached until the lease ends.
    gone_since: Option<u64>,
}

/// How far the sidecars of one replica are. Published through the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Every event up to here was handed to whom it concerns.
    position: EventId,
    sidecars: u64,
    /// Of these, how many have yet to act on an event; by the first such.
    behind: BTreeMap<EventId, u64>,
}

impl Mark {
    pub fn total(&self) -> u64 {
        self.sidecars
    }

    /// How many have acted on `event`, or cannot hold what it is about.
    pub fn reached(&self, event: EventId) -> u64 {
        if event > self.position {
            return 0;
        }
        self.sidecars - self.behind.range(..=event).map(|(_, count)| count).sum::<u64>().min(self.sidecars)
    }
}

impl Sidecars {
    /// A stream is being opened by a sidecar that has acted on everything up to `from`, or holds nothing if that is absent. What it missed
    /// is not known before [`Sidecars::told`].
    pub fn connect(&self, name: &str, from: Option<EventId>) {
        let mut state = self.lock();
        let position = state.position;
        let sidecar = state.known.entry(name.to_owned()).or_default();
        sidecar.streams += 1;
        sidecar.gone_since = None;
        if let Some(from) = from {
            sidecar.owed.retain(|owed| *owed > from);
        }
        // One that starts afresh has dropped what it held once it says so, and owes that until then.
        sidecar.deaf_after = Some(from.or(sidecar.deaf_after).unwrap_or(position));
        drop(state);
        self.changed.send_replace(());
    }

    /// What was missed, up to the newest event, is on its way: these events, each of which is to be acted on.
    pub fn told(&self, name: &str, missed: impl IntoIterator<Item = EventId>) {
        let mut state = self.lock();
        if let Some(sidecar) = state.known.get_mut(name) {
            sidecar.owed.extend(missed);
            sidecar.deaf_after = None;
        }
        drop(state);
        self.changed.send_replace(());
    }

    /// From where a sidecar is deaf, if it is.
    pub fn deaf_after(&self, name: &str) -> Option<EventId> {
        self.lock().known.get(name)?.deaf_after
    }

    pub fn disconnect(&self, name: &str, now: u64) {
        let mut state = self.lock();
        let position = state.position;
        if let Some(sidecar) = state.known.get_mut(name) {
            sidecar.streams = sidecar.streams.saturating_sub(1);
            if sidecar.streams == 0 {
                sidecar.gone_since = Some(now);
                sidecar.deaf_after.get_or_insert(position);
            }
        }
        drop(state);
        self.changed.send_replace(());
    }

    /// An event is about to be sent that is to be acted on.
    pub fn owes(&self, name: &str, event: EventId) {
        if let Some(sidecar) = self.lock().known.get_mut(name) {
            sidecar.owed.insert(event);
        }
    }

    /// To be called when an event was handed to whom it concerns.
    pub fn passed(&self, event: EventId) {
        let mut state = self.lock();
        state.position = state.position.max(event);
        drop(state);
        self.changed.send_replace(());
    }

    /// `false`: its stream is not here.
    pub fn acknowledge(&self, name: &str, last: EventId) -> bool {
        let mut state = self.lock();
        let Some(sidecar) = state.known.get_mut(name) else { return false };
        sidecar.owed.retain(|owed| *owed > last);
        let here = sidecar.streams > 0;
        drop(state);
        self.changed.send_replace(());
        here
    }

    /// Forgets those whose lease has ended since they went.
    pub fn mark(&self, now: u64) -> Mark {
        let mut state = self.lock();
        let gone = |sidecar: &Sidecar| sidecar.gone_since.is_some_and(|since| now >= since + LEASE_SECONDS * 1000);
        state.known.retain(|_, sidecar| !gone(sidecar));
        let mut behind = BTreeMap::new();
        for sidecar in state.known.values() {
            let deaf = sidecar.deaf_after.map(EventId::next);
            if let Some(first) = sidecar.owed.first().copied().into_iter().chain(deaf).min() {
                *behind.entry(first).or_default() += 1;
            }
        }
        Mark { position: state.position, sidecars: state.known.len() as u64, behind }
    }

    /// Whatever moves a mark.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    pub fn connected(&self) -> usize {
        self.lock().known.values().filter(|sidecar| sidecar.streams > 0).count()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(millis: u64) -> EventId {
        EventId { millis, sequence: 0 }
    }

    /// Connected, and told of all there was.
    fn at(position: u64, names: &[&str]) -> Sidecars {
        let sidecars = Sidecars::default();
        sidecars.passed(id(position));
        for name in names {
            sidecars.connect(name, None);
            sidecars.told(name, []);
        }
        sidecars
    }

    #[test]
    fn an_event_that_was_not_handed_out_yet_has_reached_nobody() {
        let sidecars = at(4, &["a", "b"]);
        assert_eq!(sidecars.mark(0).reached(id(5)), 0);
        sidecars.passed(id(5));
        assert_eq!(sidecars.mark(0).reached(id(5)), 2, "it concerned nobody");
    }

    #[test]
    fn whom_an_event_concerns_owes_an_answer() {
        let sidecars = at(4, &["a", "b"]);
        sidecars.owes("a", id(5));
        sidecars.passed(id(6));
        let mark = sidecars.mark(0);
        assert_eq!((mark.reached(id(4)), mark.reached(id(5)), mark.reached(id(6))), (2, 1, 1));
        assert!(sidecars.acknowledge("a", id(5)));
        assert_eq!(sidecars.mark(0).reached(id(6)), 2);
        assert!(!sidecars.acknowledge("stranger", id(5)));
    }

    #[test]
    fn an_acknowledgement_never_stands_for_what_came_later() {
        let sidecars = at(4, &["a"]);
        sidecars.owes("a", id(5));
        sidecars.owes("a", id(7));
        sidecars.passed(id(7));
        sidecars.acknowledge("a", id(6));
        let mark = sidecars.mark(0);
        assert_eq!((mark.reached(id(6)), mark.reached(id(7))), (1, 0));
    }

    #[test]
    fn a_sidecar_that_went_silent_counts_until_its_lease_has_ended() {
        let sidecars = at(4, &["a", "b"]);
        sidecars.disconnect("b", 10_000);
        sidecars.passed(id(5));
        let mark = sidecars.mark(14_999);
        assert_eq!((mark.total(), mark.reached(id(4)), mark.reached(id(5))), (2, 2, 1));
        assert!(!sidecars.acknowledge("b", id(5)), "its stream is elsewhere");
        assert_eq!(sidecars.mark(15_000).total(), 1);
    }

    #[test]
    fn who_comes_back_owes_what_it_missed() {
        let sidecars = at(4, &["a"]);
        sidecars.owes("a", id(5));
        sidecars.passed(id(5));
        sidecars.disconnect("a", 0);
        sidecars.passed(id(9));
        sidecars.connect("a", Some(id(5)));
        let mark = sidecars.mark(0);
        assert_eq!((mark.reached(id(5)), mark.reached(id(6))), (1, 0), "nobody knows yet what it missed");
        sidecars.told("a", [id(8)]);
        let mark = sidecars.mark(0);
        assert_eq!((mark.reached(id(7)), mark.reached(id(9))), (1, 0));
        sidecars.acknowledge("a", id(8));
        assert_eq!(sidecars.mark(0).reached(id(9)), 1);
    }

    #[test]
    fn who_comes_back_with_nothing_owes_a_word_that_it_dropped_what_it_held() {
        let sidecars = at(4, &["a"]);
        sidecars.disconnect("a", 0);
        sidecars.passed(id(9));
        sidecars.connect("a", None);
        assert_eq!(sidecars.deaf_after("a"), Some(id(4)));
        assert_eq!(sidecars.mark(0).reached(id(9)), 0);
    }

    #[test]
    fn a_second_stream_of_the_same_sidecar_keeps_it_connected() {
        let sidecars = at(4, &["a"]);
        sidecars.connect("a", Some(id(4)));
        sidecars.told("a", []);
        sidecars.disconnect("a", 0);
        sidecars.passed(id(5));
        let mark = sidecars.mark(60_000);
        assert_eq!((sidecars.connected(), mark.total(), mark.reached(id(5))), (1, 1, 1));
    }
}
