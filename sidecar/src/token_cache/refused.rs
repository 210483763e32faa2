//! Tokens that were refused a moment ago: well-formed junk costs one question, not one each time.

use std::collections::HashMap;

use super::Fingerprint;

const REFUSED_FOR_MS: u64 = 2_000;
/// As many as a table of 2^14 places takes: 400 KiB.
const REMEMBERED: usize = (1 << 14) / 8 * 7;

/// By half of their fingerprints, which nobody finds a second token for; until when, in milliseconds of the cache's clock.
#[derive(Default)]
pub struct Refused(HashMap<[u8; 16], u64>);

impl Refused {
    pub fn contains(&self, fingerprint: &Fingerprint, now: u64) -> bool {
        self.0.get(&half(fingerprint)).is_some_and(|until| now < *until)
    }

    pub fn insert(&mut self, fingerprint: &Fingerprint, now: u64) {
        // Who sends that many different ones a second pays with questions, not with our memory.
        if self.0.len() < REMEMBERED {
            self.0.insert(half(fingerprint), now + REFUSED_FOR_MS);
        }
    }

    pub fn sweep(&mut self, now: u64) {
        self.0.retain(|_, until| now < *until);
        self.0.shrink_to(64);
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }
}

fn half(Fingerprint(whole): &Fingerprint) -> [u8; 16] {
    let (half, _) = whole.split_first_chunk().unwrap_or((&[0; 16], &[]));
    *half
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprint(number: usize) -> Fingerprint {
        let mut whole = [7; 32];
        whole[..8].copy_from_slice(&number.to_le_bytes());
        Fingerprint(whole)
    }

    #[test]
    fn a_refusal_is_remembered_for_two_seconds() {
        let mut refused = Refused::default();
        refused.insert(&fingerprint(1), 500);
        assert!(refused.contains(&fingerprint(1), 2_499) && !refused.contains(&fingerprint(2), 500));
        assert!(!refused.contains(&fingerprint(1), 2_500));
        refused.clear();
        assert!(!refused.contains(&fingerprint(1), 600));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_given_back() {
        let mut refused = Refused::default();
        for number in 0..2 * REMEMBERED {
            refused.insert(&fingerprint(number), 0);
        }
        assert!(refused.contains(&fingerprint(REMEMBERED - 1), 0) && !refused.contains(&fingerprint(REMEMBERED), 0));
        assert_eq!(refused.0.capacity(), REMEMBERED);
        refused.sweep(REFUSED_FOR_MS);
        assert!(refused.0.is_empty() && refused.0.capacity() < 256);
    }
}
