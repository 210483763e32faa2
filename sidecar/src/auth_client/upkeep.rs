//! What is due from time to time: sweeping the cache, reporting use, ending streams that nobody vouches for, keeping the JWKS.

use std::sync::Arc;
use std::time::Duration;

use cloakroom_protocol::session::{Usage, UsageReport};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::AuthClient;
use crate::log;

const TICK: Duration = Duration::from_secs(1);
/// Fine enough for idle time-outs, which are minutes at least.
const REPORT_EVERY: u32 = 15;
const REPORT_AT_ONCE: usize = 1000;
/// What stays open outlives the lease by this at most, or by what the policy says if that is longer: an outage is no logout, but neither
/// may a stream go on for ever when nobody could tell us of its revocation. Each by its own rule ([`crate::worker::deadlines`]); this is
/// the end of them all, and of what is cached.
pub const STREAM_GRACE: Duration = Duration::from_secs(60);
const JWKS_AGAIN: Duration = Duration::from_secs(1);
const JWKS_ATTEMPTS: u32 = 10;

impl AuthClient {
    pub(super) async fn keep_up(self: Arc<Self>) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut streams_until = Instant::now() + STREAM_GRACE;
        let mut unreported = Vec::new();
        let mut count: u32 = 0;
        loop {
            let now = ticks.tick().await;
            self.cache.sweep(now);
            for (fingerprint, token) in self.cache.due(now) {
                self.renew(&token.into(), fingerprint);
            }
            self.publish();
            self.declare_interest().await;
            if self.lease.is_live(now) {
                streams_until = now + self.stream_grace();
            } else if now >= streams_until {
                self.cache.end_streams();
                streams_until = now + self.stream_grace();
            }
            count = count.wrapping_add(1);
            if count.is_multiple_of(REPORT_EVERY) {
                self.report(&mut unreported).await;
                if self.jwks.load().is_none() {
                    self.refresh_jwks();
                }
            }
        }
    }

    /// The last word before the process ends.
    pub async fn report_last_usage(&self) {
        self.report(&mut Vec::new()).await;
    }

    /// What could not be reported is reported next time, older by then.
    async fn report(&self, unreported: &mut Vec<(Usage, Instant)>) {
        let now = Instant::now();
        unreported.extend(self.cache.take_usage(now).into_iter().map(|usage| (usage, now)));
        let Some(policy) = self.policy.load_full() else { return };
        while !unreported.is_empty() {
            let batch = unreported.iter().take(REPORT_AT_ONCE);
            let used =
                batch.map(|(usage, at)| Usage { id: usage.id, ago: usage.ago + at.elapsed().as_secs() }).collect();
            if let Err(error) = self.calls.report_usage(&policy, &UsageReport { used }).await {
                log::warn("cannot report use", &[("error", &error)]);
                // A long outage: the newest say it all, and memory is bounded.
                unreported.truncate(16 * REPORT_AT_ONCE);
                return;
            }
            unreported.drain(..REPORT_AT_ONCE.min(unreported.len()));
        }
    }

    fn publish(&self) {
        let (entries, bytes) = self.cache.size();
        self.metrics.cache_entries.set(entries);
        self.metrics.cache_bytes.set(bytes);
        self.metrics.cache_evictions.set(self.cache.evictions());
        self.metrics.stream_narrowed.set(usize::from(self.cache.is_narrowed()));
        let (left, lag) = (self.lease.left(Instant::now()), self.lease.lag());
        self.metrics.lease_left.set(usize::try_from(left.as_millis()).unwrap_or(usize::MAX));
        self.metrics.stream_lag.set(usize::try_from(lag.as_millis()).unwrap_or(usize::MAX));
        self.metrics.lease_live.set(usize::from(self.lease.is_live(Instant::now())));
    }

    fn stream_grace(&self) -> Duration {
        let longest = self.policy.load().as_ref().map_or(Duration::ZERO, |policy| policy.longest_bridge());
        STREAM_GRACE.max(longest)
    }

    /// Old keys stay until the new ones are here.
    pub(super) fn refresh_jwks(&self) {
        let Some(this) = self.this.upgrade() else { return };
        self.runtime.spawn(async move {
            for _ in 0..JWKS_ATTEMPTS {
                let Some(policy) = this.policy.load_full() else { return };
                match this.calls.jwks(&policy).await {
                    Ok(jwks) => return this.jwks.store(Some(Arc::new(jwks))),
                    Err(error) => log::warn("cannot fetch the signing keys", &[("error", &error)]),
                }
                sleep(JWKS_AGAIN).await;
            }
        });
    }
}
