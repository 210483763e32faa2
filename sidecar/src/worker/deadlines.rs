//! One coarse clock for all time-outs of a worker: setting a deadline costs a store, not a timer.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use cloakroom_protocol::sidecar_config::Outage;

use crate::auth_client::upkeep::STREAM_GRACE;
use crate::identity::Identity;
use crate::open_streams::End;

/// How late a time-out may be.
pub const TICK_MILLIS: u64 = 250;

#[derive(Default)]
pub struct Deadlines {
    now: Cell<u64>,
    entries: RefCell<Vec<Option<Rc<Entry>>>>,
    free: RefCell<Vec<usize>>,
}

#[derive(Default)]
struct Entry {
    /// Milliseconds on the worker's clock; 0: none.
    at: Cell<u64>,
    allowance: Cell<u64>,
    passed: Cell<bool>,
    /// Wants to be woken by the clock itself, once.
    restless: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    /// Whose end also ends what is going on.
    identity: RefCell<Option<Arc<Identity>>>,
    bound: Cell<u64>,
    bond: Cell<Bond>,
    /// When an end that counts was noticed; 0: none was.
    ended: Cell<u64>,
    /// For how long it goes on when nobody would tell of that end, counted from the end of the lease, or since it is bound if that was later.
    grace: Cell<u64>,
}

/// How much the end of a session ends of what it is bound to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bond {
    /// A request without an answer: it was let in when its token was good, so that a token that merely expires ends nothing.
    #[default]
    Unanswered,
    /// The rest of an answer.
    Answer,
    /// What is made to last, and ends at once.
    Stream,
}

/// What is short may come to its end though its session has: it may be the very one that has ended it, or says so.
const SPARED_MILLIS: u64 = 1_000;

/// For how long what is bound to a session goes on when nobody would tell of that session's end.
pub fn unheard_grace(outage: Outage) -> Duration {
    STREAM_GRACE.max(outage.bridges())
}

impl Deadlines {
    pub fn register(&self) -> Deadline {
        let entry = Rc::new(Entry::default());
        let mut entries = self.entries.borrow_mut();
        let index = self.free.borrow_mut().pop().unwrap_or_else(|| {
            entries.push(None);
            entries.len() - 1
        });
        entries[index] = Some(Rc::clone(&entry));
        Deadline { entry, index }
    }

    pub fn forget(&self, deadline: &Deadline) {
        self.entries.borrow_mut()[deadline.index] = None;
        self.free.borrow_mut().push(deadline.index);
    }

    pub fn now(&self) -> u64 {
        self.now.get()
    }

    /// Wakes whoever is out of time, whose session is over, or may be for all that is heard (`unheard` milliseconds ago the lease ended), or
    /// who asked for it.
    pub fn advance(&self, now: u64, unheard: u64) {
        self.now.set(now);
        for entry in self.entries.borrow().iter().flatten() {
            let late = entry.at.get() != 0 && entry.at.get() <= now;
            let over = entry.is_over(now, unheard);
            if late || over {
                entry.passed.set(true);
            }
            if late || over || entry.restless.take() {
                entry.wake();
            }
        }
    }

    pub fn wake_all(&self) {
        for entry in self.entries.borrow().iter().flatten() {
            entry.wake();
        }
    }
}

impl Entry {
    /// Because of the session that it is bound to.
    fn is_over(&self, now: u64, unheard: u64) -> bool {
        let identity = self.identity.borrow();
        let Some(identity) = &*identity else { return false };
        let bond = self.bond.get();
        if identity.life.ending().is_some_and(|end| end != End::Expired || bond != Bond::Unanswered) {
            if self.ended.get() == 0 {
                self.ended.set(now.max(1));
            }
            return bond == Bond::Stream || now.saturating_sub(self.ended.get()) >= SPARED_MILLIS;
        }
        unheard.min(now.saturating_sub(self.bound.get())) >= self.grace.get()
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

/// One connection's place in the [`Deadlines`].
pub struct Deadline {
    entry: Rc<Entry>,
    index: usize,
}

impl Deadline {
    /// Gives so much time from now on, renewed by every [`Deadline::progress`].
    pub fn allow(&self, all: &Deadlines, seconds: u64) {
        self.entry.allowance.set(seconds * 1000);
        self.renew(all);
    }

    /// The same time again.
    pub fn renew(&self, all: &Deadlines) {
        self.entry.passed.set(false);
        self.progress(all);
    }

    pub fn progress(&self, all: &Deadlines) {
        self.entry.at.set((all.now.get() + self.entry.allowance.get()).max(1));
    }

    /// The identity's end counts as out of time.
    pub fn bind(&self, all: &Deadlines, (identity, outage): (Arc<Identity>, Outage), bond: Bond) {
        let entry = &self.entry;
        entry.grace.set(u64::try_from(unheard_grace(outage).as_millis()).unwrap_or(u64::MAX));
        entry.bound.set(all.now.get());
        entry.ended.set(0);
        entry.bond.set(bond);
        *entry.identity.borrow_mut() = Some(identity);
    }

    /// There is an answer now.
    pub fn answers(&self) {
        self.entry.bond.set(Bond::Answer);
    }

    pub fn unbind(&self) {
        *self.entry.identity.borrow_mut() = None;
    }

    pub fn has_passed(&self) -> bool {
        self.entry.passed.get()
    }

    /// Milliseconds without progress.
    pub fn allowance(&self) -> u64 {
        self.entry.allowance.get()
    }

    /// For how many milliseconds its owner has taken no notice that it passed.
    pub fn overdue(&self, all: &Deadlines) -> u64 {
        if self.has_passed() { all.now.get().saturating_sub(self.entry.at.get()) } else { 0 }
    }

    /// Whom to wake. A task keeps one waker for its life.
    pub fn watch(&self, cx: &Context<'_>) {
        *self.entry.waker.borrow_mut() = Some(cx.waker().clone());
    }

    /// Wakes this task with the clock's next tick, for what it has to look at again by itself.
    pub fn look_again(&self, cx: &Context<'_>) {
        self.entry.restless.set(true);
        self.watch(cx);
    }

    /// Turns waiting without end into an error.
    pub fn limit<T>(&self, all: &Deadlines, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match poll {
            Poll::Pending if self.has_passed() => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Ready(Ok(value)) => {
                self.progress(all);
                Poll::Ready(Ok(value))
            }
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::tests::identity;

    #[test]
    fn a_deadline_passes_unless_there_is_progress() {
        let all = Deadlines::default();
        let deadline = all.register();
        deadline.allow(&all, 1);
        all.advance(999, 0);
        assert!(!deadline.has_passed());
        deadline.progress(&all);
        all.advance(1500, 0);
        assert!(!deadline.has_passed());
        all.advance(2000, 0);
        assert!(deadline.has_passed());
        all.advance(2699, 0);
        assert_eq!(deadline.overdue(&all), 700);
        deadline.allow(&all, 1);
        assert!(!deadline.has_passed());
        assert_eq!(deadline.overdue(&all), 0);
    }

    #[test]
    fn the_end_of_a_session_is_a_deadline() {
        let all = Deadlines::default();
        let deadline = all.register();
        let identity = Arc::new(identity());
        deadline.bind(&all, (Arc::clone(&identity), Outage::Deny), Bond::Stream);
        all.advance(1, 0);
        assert!(!deadline.has_passed());
        identity.life.end();
        all.advance(2, 0);
        assert!(deadline.has_passed());
    }

    #[test]
    fn what_is_short_has_a_second_from_the_end_of_its_session_on() {
        let all = Deadlines::default();
        let deadline = all.register();
        let identity = Arc::new(identity());
        deadline.allow(&all, 60);
        deadline.bind(&all, (Arc::clone(&identity), Outage::Deny), Bond::Unanswered);
        all.advance(30_000, 0);
        identity.life.end();
        all.advance(30_250, 0);
        all.advance(31_249, 0);
        assert!(!deadline.has_passed(), "however long it took before");
        all.advance(31_250, 0);
        assert!(deadline.has_passed());
        // As when it turns out to be a stream.
        deadline.allow(&all, 60);
        deadline.bind(&all, (identity, Outage::Deny), Bond::Stream);
        all.advance(31_251, 0);
        assert!(deadline.has_passed());
        deadline.allow(&all, 60);
        deadline.unbind();
        all.advance(60_000, 0);
        assert!(!deadline.has_passed());
    }

    #[test]
    fn a_token_that_expires_ends_no_request_but_answers_and_streams() {
        let all = Deadlines::default();
        let deadlines = [Bond::Unanswered, Bond::Answer, Bond::Stream].map(|bond| (all.register(), bond));
        let identity = Arc::new(identity());
        for (deadline, bond) in &deadlines {
            deadline.bind(&all, (Arc::clone(&identity), Outage::Deny), *bond);
        }
        identity.life.expire();
        let passed = || deadlines.each_ref().map(|(deadline, _)| deadline.has_passed());
        all.advance(250, 0);
        assert_eq!(passed(), [false, false, true]);
        all.advance(1250, 0);
        all.advance(20_000, 0);
        assert_eq!(passed(), [false, true, true]);
        deadlines[0].0.answers();
        all.advance(20_250, 0);
        assert_eq!(passed(), [false, true, true], "it has only just begun to answer");
        all.advance(21_250, 0);
        assert_eq!(passed(), [true; 3]);
        deadlines[0].0.allow(&all, 60);
        deadlines[0].0.bind(&all, (Arc::clone(&identity), Outage::Deny), Bond::Unanswered);
        identity.life.end();
        all.advance(22_000, 0);
        all.advance(23_000, 0);
        assert!(deadlines[0].0.has_passed(), "but a revocation does");
    }

    #[test]
    fn without_news_each_goes_on_for_as_long_as_its_own_rule_says() {
        let all = Deadlines::default();
        let (short, long, late) = (all.register(), all.register(), all.register());
        let identity = Arc::new(identity());
        let lease = Outage::Lease { seconds: 300 };
        short.bind(&all, (Arc::clone(&identity), Outage::Deny), Bond::Stream);
        long.bind(&all, (Arc::clone(&identity), lease), Bond::Stream);
        all.advance(59_000, 59_000);
        assert!(!short.has_passed() && !long.has_passed());
        late.bind(&all, (identity, Outage::Deny), Bond::Stream);
        all.advance(61_000, 61_000);
        assert!(short.has_passed() && !long.has_passed());
        assert!(!late.has_passed(), "somebody answered for it when it was opened");
        all.advance(301_000, 301_000);
        assert!(long.has_passed() && late.has_passed());
    }

    #[test]
    fn places_are_used_again() {
        let all = Deadlines::default();
        let first = all.register();
        all.forget(&first);
        let second = all.register();
        assert_eq!(first.index, second.index);
    }
}
