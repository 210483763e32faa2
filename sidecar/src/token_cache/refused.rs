//! Tokens that were refused a moment ago: well-formed junk costs one question, not one each time.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::Fingerprint;

const REFUSED_FOR: Duration = Duration::from_secs(2);
const REMEMBERED: usize = 4096;

#[derive(Default)]
pub struct Refused(HashMap<Fingerprint, Instant>);

impl Refused {
    pub fn contains(&self, fingerprint: &Fingerprint, now: Instant) -> bool {
        self.0.get(fingerprint).is_some_and(|until| now < *until)
    }

    pub fn insert(&mut self, fingerprint: Fingerprint, now: Instant) {
        // Who sends that many different ones a second pays with questions, not with our memory.
        if self.0.len() < REMEMBERED {
            self.0.insert(fingerprint, now + REFUSED_FOR);
        }
    }

    pub fn sweep(&mut self, now: Instant) {
        self.0.retain(|_, until| now < *until);
        self.0.shrink_to(64);
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }
}
