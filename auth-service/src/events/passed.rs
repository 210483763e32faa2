//! What went by lately: whether an answer that was being made meanwhile may rely on the events that follow it.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cloakroom_protocol::events::{Event, Revoked};

use crate::identity::Identity;

/// Answers are made within milliseconds; what more events than this overtook is made again.
const REMEMBERED: usize = 4096;

#[derive(Default)]
pub struct Passed(Mutex<Log>);

#[derive(Default)]
struct Log {
    events: VecDeque<Event>,
    /// How many there were before the first of them.
    forgotten: u64,
}

/// A point in the sequence of events.
#[derive(Clone, Copy, Debug)]
pub struct Position(u64);

impl Passed {
    pub fn position(&self) -> Position {
        let log = self.lock();
        Position(log.forgotten + log.events.len() as u64)
    }

    pub fn push(&self, event: Event) {
        let mut log = self.lock();
        if log.events.len() == REMEMBERED {
            log.events.pop_front();
            log.forgotten += 1;
        }
        log.events.push_back(event);
    }

    /// Events were lost: whatever is under way cannot be judged.
    pub fn forget(&self) {
        let mut log = self.lock();
        log.forgotten += log.events.len() as u64 + 1;
        log.events.clear();
    }

    /// Whether anything since `began` may have been about that identity.
    pub fn concerned(&self, began: Position, identity: &Identity) -> bool {
        let log = self.lock();
        let Some(since) = began.0.checked_sub(log.forgotten) else { return true };
        let since = usize::try_from(since).unwrap_or(usize::MAX);
        log.events.iter().skip(since).any(|event| concerns(event, identity))
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn concerns(event: &Event, identity: &Identity) -> bool {
    match event {
        Event::Revoked(Revoked::Id { id }) | Event::Updated { id } => identity.id == *id || identity.sid == Some(*id),
        // Whoever was excepted is asked about once more; that is all.
        Event::Revoked(Revoked::Subject { sub, .. }) => identity.sub == *sub,
        Event::Revoked(Revoked::Client { client_id }) => identity.client_id == *client_id,
        Event::Keys | Event::Heartbeat(_) | Event::Reset => false,
    }
}
