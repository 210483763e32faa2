//! How long cached answers hold without being asked for again: a few seconds after the last heartbeat, judged by our own clock.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cloakroom_protocol::events::{Heartbeat, LEASE_SECONDS};
use tokio::time::Instant;

pub const LEASE: Duration = Duration::from_secs(LEASE_SECONDS);

pub struct Lease {
    epoch: Instant,
    /// Milliseconds after `epoch`; 0: there was no heartbeat yet.
    until: AtomicU64,
    /// Least difference seen on this stream between our clock and a heartbeat's, milliseconds. A heartbeat that shows a greater one was
    /// under way for longer, and is worth as much less.
    least_delay: Mutex<Option<i64>>,
    /// Of the last heartbeat, milliseconds.
    excess: AtomicU64,
}

impl Lease {
    pub fn new(now: Instant) -> Self {
        Self { epoch: now, until: AtomicU64::new(0), least_delay: Mutex::new(None), excess: AtomicU64::new(0) }
    }

    pub fn is_live(&self, now: Instant) -> bool {
        self.millis(now) < self.until.load(Ordering::Acquire)
    }

    /// When it ends or ended; `None` before the first heartbeat.
    pub fn until(&self) -> Option<Instant> {
        match self.until.load(Ordering::Acquire) {
            0 => None,
            until => Some(self.epoch + Duration::from_millis(until)),
        }
    }

    /// For how long it holds if no other heartbeat comes.
    pub fn left(&self, now: Instant) -> Duration {
        Duration::from_millis(self.until.load(Ordering::Acquire).saturating_sub(self.millis(now)))
    }

    /// By how much the last heartbeat was later than the fastest of its stream.
    pub fn lag(&self) -> Duration {
        Duration::from_millis(self.excess.load(Ordering::Relaxed))
    }

    /// A new stream may come from another replica with a clock of its own.
    pub fn stream_opened(&self) {
        *lock(&self.least_delay) = None;
    }

    /// Never takes back what an earlier heartbeat gave.
    pub fn renew(&self, heartbeat: Heartbeat, now: Instant) {
        let received = i64::try_from(self.millis(now)).unwrap_or(i64::MAX);
        let delay = received.saturating_sub(i64::try_from(heartbeat.at).unwrap_or(i64::MAX));
        let mut least = lock(&self.least_delay);
        let excess = delay.saturating_sub(least.unwrap_or(delay)).max(0).unsigned_abs();
        self.excess.store(excess, Ordering::Relaxed);
        *least = Some(least.map_or(delay, |least| least.min(delay)));
        let until = (self.millis(now) + millis(LEASE)).saturating_sub(excess);
        self.until.fetch_max(until, Ordering::AcqRel);
    }

    fn millis(&self, now: Instant) -> u64 {
        millis(now.saturating_duration_since(self.epoch))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn beat(at: u64) -> Heartbeat {
        Heartbeat { at }
    }

    #[test]
    fn there_is_no_lease_before_the_first_heartbeat() {
        let now = Instant::now();
        let lease = Lease::new(now);
        assert!(!lease.is_live(now));
        assert_eq!(lease.until(), None);
        lease.renew(beat(1_000_000), now);
        assert!(lease.is_live(now));
    }

    #[test]
    fn it_lasts_five_seconds_after_the_last_heartbeat() {
        let start = Instant::now();
        let lease = Lease::new(start);
        lease.renew(beat(1_000), start);
        lease.renew(beat(2_000), start + SECOND);
        assert!(lease.is_live(start + SECOND * 6 - Duration::from_millis(1)));
        assert!(!lease.is_live(start + SECOND * 6));
    }

    #[test]
    fn skewed_clocks_do_not_matter() {
        let start = Instant::now();
        for at in [0, 1, u64::MAX / 4] {
            let lease = Lease::new(start);
            lease.renew(beat(at), start + SECOND);
            assert!(lease.is_live(start + SECOND * 5), "{at}");
        }
    }

    #[test]
    fn a_delayed_heartbeat_is_worth_less_by_its_delay() {
        let start = Instant::now();
        let lease = Lease::new(start);
        lease.renew(beat(10_000), start);
        // Sent one second later, held up for four, then let through.
        lease.renew(beat(11_000), start + SECOND * 5);
        assert!(lease.is_live(start + SECOND * 5));
        assert!(!lease.is_live(start + SECOND * 6));
        // A whole queue of old ones extends nothing beyond that.
        lease.renew(beat(11_000), start + SECOND * 30);
        assert!(!lease.is_live(start + SECOND * 30));
    }

    #[test]
    fn another_replica_is_judged_by_its_own_clock() {
        let start = Instant::now();
        let lease = Lease::new(start);
        lease.renew(beat(100_000), start);
        lease.stream_opened();
        lease.renew(beat(50_000), start + SECOND * 4);
        assert!(lease.is_live(start + SECOND * 8));
    }
}
