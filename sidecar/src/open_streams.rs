//! Ends what is under way or stays open (WebSockets, event streams, gRPC calls) when the token that opened it dies.

use std::sync::atomic::{AtomicU8, Ordering};

/// Whether a token still lives; shared by every identity made from it and everything opened with it.
#[derive(Default)]
pub struct Life(AtomicU8);

/// How a life ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The token was revoked, or has expired.
    Over,
    /// Nobody could tell of its revocation any more. That is an outage, and nobody is signed out by one.
    Unheard,
}

const LIVES: u8 = 0;
const OVER: u8 = 1;
const UNHEARD: u8 = 2;

impl Life {
    pub fn is_over(&self) -> bool {
        self.0.load(Ordering::Acquire) != LIVES
    }

    pub fn ending(&self) -> Option<End> {
        match self.0.load(Ordering::Acquire) {
            LIVES => None,
            UNHEARD => Some(End::Unheard),
            _ => Some(End::Over),
        }
    }

    /// The token is good no longer; what is under way with it and what stays open ends.
    pub fn end(&self) {
        self.0.store(OVER, Ordering::Release);
    }

    /// The same, but nobody says that the token is bad.
    pub fn lose(&self) {
        // What is over stays over.
        let _ = self.0.compare_exchange(LIVES, UNHEARD, Ordering::AcqRel, Ordering::Acquire);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_may_turn_out_to_be_over_and_what_is_over_stays_so() {
        let life = Life::default();
        assert_eq!((life.is_over(), life.ending()), (false, None));
        life.lose();
        assert_eq!((life.is_over(), life.ending()), (true, Some(End::Unheard)));
        life.end();
        life.lose();
        assert_eq!((life.is_over(), life.ending()), (true, Some(End::Over)));
    }
}
