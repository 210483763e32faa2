//! Ends what is under way or stays open (WebSockets, event streams, gRPC calls) when the token that opened it dies.

use std::sync::atomic::{AtomicU8, Ordering};

/// Whether a token still lives; shared by every identity made from it and everything opened with it.
#[derive(Default)]
pub struct Life(AtomicU8);

/// How a life ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The token was revoked.
    Over,
    /// It came to its own end: nothing begins with it any more, but it was good for what has begun.
    Expired,
    /// Nobody could tell of its revocation any more. That is an outage, and nobody is signed out by one.
    Unheard,
}

const LIVES: u8 = 0;
const OVER: u8 = 1;
const EXPIRED: u8 = 2;
const UNHEARD: u8 = 3;

impl Life {
    pub fn is_over(&self) -> bool {
        self.0.load(Ordering::Acquire) != LIVES
    }

    pub fn ending(&self) -> Option<End> {
        match self.0.load(Ordering::Acquire) {
            LIVES => None,
            EXPIRED => Some(End::Expired),
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
        self.turn(LIVES, UNHEARD);
        self.turn(EXPIRED, UNHEARD);
    }

    pub fn expire(&self) {
        self.turn(LIVES, EXPIRED);
    }

    /// It has a later end than was known; true if it lives.
    pub fn revive(&self) -> bool {
        self.turn(EXPIRED, LIVES);
        !self.is_over()
    }

    fn turn(&self, from: u8, to: u8) {
        let _ = self.0.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
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
        assert!(!life.revive());
        life.end();
        life.lose();
        life.expire();
        assert_eq!((life.is_over(), life.ending()), (true, Some(End::Over)));
    }

    #[test]
    fn what_expires_may_have_a_later_end() {
        let life = Life::default();
        life.expire();
        assert_eq!((life.is_over(), life.ending()), (true, Some(End::Expired)));
        assert!(life.revive() && !life.is_over());
        life.expire();
        life.lose();
        assert_eq!(life.ending(), Some(End::Unheard));
    }
}
