//! How many tokens that turn out to be nothing a policy's clients may make us ask another issuer about: a flood of junk must not become one
//! there.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cloakroom_protocol::policy_ref::PolicyRef;

/// Refused ones at once, and each second from then on.
const BURST: f64 = 100.0;
const EACH_SECOND: f64 = 20.0;

/// By policy, of which there are as many as are registered.
#[derive(Default)]
pub(super) struct Allowances(Mutex<HashMap<PolicyRef, Allowance>>);

struct Allowance {
    left: f64,
    /// Unix milliseconds.
    at: u64,
}

impl Allowances {
    /// Whether a token of which nothing is known may be asked about.
    pub(super) fn has_any(&self, policy: &PolicyRef, now: u64) -> bool {
        let mut all = self.lock();
        let Some(allowance) = all.get_mut(policy) else { return true };
        allowance.refill(now);
        allowance.left >= 1.0
    }

    /// It was nothing.
    pub(super) fn spend(&self, policy: &PolicyRef, now: u64) {
        let mut all = self.lock();
        let allowance = all.entry(policy.clone()).or_insert(Allowance { left: BURST, at: now });
        allowance.refill(now);
        allowance.left = (allowance.left - 1.0).max(0.0);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PolicyRef, Allowance>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Allowance {
    fn refill(&mut self, now: u64) {
        #[expect(clippy::cast_precision_loss, reason = "milliseconds since the last one are few, or more than enough")]
        let passed = now.saturating_sub(self.at) as f64 / 1000.0;
        self.left = (self.left + passed * EACH_SECOND).min(BURST);
        self.at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn junk_is_paid_for_by_the_policy_whose_clients_send_it() {
        let (all, one): (Allowances, PolicyRef) = (Allowances::default(), "shop/web".parse().unwrap());
        for _ in 0..100 {
            assert!(all.has_any(&one, 1000));
            all.spend(&one, 1000);
        }
        assert!(!all.has_any(&one, 1000));
        assert!(all.has_any(&"bank/web".parse().unwrap(), 1000));
        assert!(!all.has_any(&one, 1049));
        assert!(all.has_any(&one, 1050), "twenty a second");
        all.spend(&one, 1050);
        assert!(!all.has_any(&one, 1050));
        assert!(all.has_any(&one, 60_000));
    }
}
