//! Signing keys: when each is published, used, retired and forgotten. Pure; [`ring`] holds them, [`seal`] encrypts them at rest.

pub mod ring;
pub mod seal;
pub mod signer;
pub mod verify;

use serde::{Deserialize, Serialize};

/// ES256 unless configured otherwise (RFC 7518 §3.4, RFC 8037). RS256 is slow to sign, and all that some
/// clients know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = SigningAlgorithm)]
pub enum Algorithm {
    #[default]
    ES256,
    EdDSA,
    RS256,
}

impl Algorithm {
    pub fn name(self) -> &'static str {
        match self {
            Self::ES256 => "ES256",
            Self::EdDSA => "EdDSA",
            Self::RS256 => "RS256",
        }
    }
}

/// One key as the store holds it. Times are Unix seconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StoredKey {
    pub kid: String,
    pub alg: Algorithm,
    pub created: u64,
    /// It signs from then on; published before.
    pub active_from: u64,
    pub sealed: seal::Sealed,
}

#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// How long a key signs.
    pub rotation: u64,
    /// How long it is published before it signs.
    pub lead: u64,
    /// How long it stays published after it has signed last: the longest lifetime of anything signed, and some more.
    pub keep: u64,
}

/// What the set of keys needs now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Make keys that sign from these times on.
    pub make: Vec<(Algorithm, u64)>,
    /// Forget these, by position.
    pub forget: Vec<usize>,
}

/// The position of the key that signs now: of those whose time has come, the newest.
pub fn signing(keys: &[StoredKey], alg: Algorithm, now: u64) -> Option<usize> {
    let due = keys.iter().enumerate().filter(|(_, key)| key.active_from <= now && key.alg == alg);
    due.max_by_key(|(_, key)| (key.active_from, key.created)).map(|(at, _)| at)
}

/// `algorithms` are those that keys are kept for, the configured one first.
pub fn plan(keys: &[StoredKey], algorithms: &[Algorithm], schedule: Schedule, now: u64) -> Plan {
    let mut plan = Plan::default();
    for &alg in algorithms {
        match keys.iter().filter(|key| key.alg == alg).map(|key| key.active_from).max() {
            // Nothing was signed before: there is nobody to tell first.
            None if keys.is_empty() => plan.make.push((alg, now)),
            // Another algorithm was configured.
            None => plan.make.push((alg, now + schedule.lead)),
            Some(newest) if newest <= now && now + schedule.lead >= newest + schedule.rotation => {
                plan.make.push((alg, now + schedule.lead));
            }
            Some(_) => {}
        }
    }
    if algorithms.first().is_some_and(|alg| signing(keys, *alg, now).is_some()) {
        plan.forget = (0..keys.len()).filter(|at| is_over(keys, *at, algorithms, schedule, now)).collect();
    }
    plan
}

/// A key is over once its successor has signed for so long that nothing the key signed can still be valid. Any key succeeds one whose
/// algorithm is not kept.
fn is_over(keys: &[StoredKey], at: usize, algorithms: &[Algorithm], schedule: Schedule, now: u64) -> bool {
    let key = &keys[at];
    let succeeds = |other: &&StoredKey| {
        (other.alg == key.alg || !algorithms.contains(&key.alg))
            && other.active_from > key.active_from
            && other.active_from <= now
    };
    let retired = keys.iter().filter(succeeds).map(|other| other.active_from).min();
    retired.is_some_and(|retired| retired + schedule.keep <= now)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEDULE: Schedule = Schedule { rotation: 1000, lead: 100, keep: 50 };

    fn key(active_from: u64) -> StoredKey {
        StoredKey {
            kid: active_from.to_string(),
            alg: Algorithm::ES256,
            created: active_from,
            active_from,
            sealed: seal::Sealed::default(),
        }
    }

    fn at(keys: &[StoredKey], now: u64) -> Plan {
        plan(keys, &[Algorithm::ES256], SCHEDULE, now)
    }

    #[test]
    fn the_first_key_signs_at_once_and_every_next_one_is_published_first() {
        assert_eq!(at(&[], 10).make, [(Algorithm::ES256, 10)]);
        assert_eq!(at(&[key(10)], 11), Plan::default());
        assert_eq!(at(&[key(10)], 909), Plan::default());
        assert_eq!(at(&[key(10)], 910).make, [(Algorithm::ES256, 1010)]);
        assert_eq!(at(&[key(10), key(1010)], 911), Plan::default(), "the next one is already there");
    }

    #[test]
    fn a_published_key_does_not_sign_before_its_time() {
        let keys = [key(10), key(1010)];
        assert_eq!(signing(&keys, Algorithm::ES256, 1009), Some(0));
        assert_eq!(signing(&keys, Algorithm::ES256, 1010), Some(1));
    }

    #[test]
    fn an_old_key_stays_until_the_last_thing_it_signed_has_expired() {
        let keys = [key(10), key(1010)];
        assert_eq!(at(&keys, 1059).forget, Vec::<usize>::new());
        assert_eq!(at(&keys, 1060).forget, [0]);
    }

    #[test]
    fn after_a_long_sleep_the_old_key_still_signs_until_its_successor_was_published() {
        let plan = at(&[key(10)], 1_000_000);
        assert_eq!(plan, Plan { make: vec![(Algorithm::ES256, 1_000_100)], forget: Vec::new() });
    }

    #[test]
    fn a_change_of_algorithm_publishes_before_it_signs() {
        let mut keys = vec![key(10)];
        assert_eq!(plan(&keys, &[Algorithm::EdDSA], SCHEDULE, 20).make, [(Algorithm::EdDSA, 120)]);
        keys.push(StoredKey { alg: Algorithm::EdDSA, ..key(120) });
        assert_eq!(plan(&keys, &[Algorithm::EdDSA], SCHEDULE, 170).forget, [0]);
    }

    #[test]
    fn keys_of_two_algorithms_follow_each_their_own_kind() {
        let both = [Algorithm::ES256, Algorithm::RS256];
        let mut keys = vec![key(10), StoredKey { alg: Algorithm::RS256, ..key(500) }];
        assert_eq!(plan(&keys, &both, SCHEDULE, 600), Plan::default(), "the newer one is no successor");
        assert_eq!(plan(&keys, &both, SCHEDULE, 910).make, [(Algorithm::ES256, 1010)]);
        keys.push(key(1010));
        let plan = plan(&keys, &both, SCHEDULE, 1400);
        assert_eq!(plan, Plan { make: vec![(Algorithm::RS256, 1500)], forget: vec![0] });
    }
}
