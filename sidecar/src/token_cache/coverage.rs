//! Whether the open event stream tells of every change to what is held here.
//!
//! A stream begins with everything. Once this sidecar has declared what it holds, only events about that are sent, and about what it asks
//! since: the auth service adds that to what it sends if it has the stream, and confirms it with the answer. So while a stream is narrowed,
//! an answer without that confirmation is not believed.

use std::sync::Arc;
use std::time::Duration;

use cloakroom_protocol::interest::{Filter, Interest, Key};
use tokio::time::Instant;

use super::recent::{Position, Recent};

/// A stream that has just opened after an outage is not followed by declarations of everybody at once.
const SETTLED: Duration = Duration::from_secs(2);
/// Declared again so that what is no longer held is no longer heard of.
const REFRESH: Duration = Duration::from_secs(60);
/// Questions after which it is declared again sooner.
const MANY: usize = 1024;
/// After a declaration of which nobody knows whether it arrived.
const AGAIN: Duration = Duration::from_secs(5);

#[derive(Default)]
pub struct Coverage {
    streams: u64,
    open: Option<Open>,
}

struct Open {
    handle: Stream,
    /// As the auth service calls it; without one it does not narrow.
    name: Option<Arc<str>>,
    generation: u64,
    /// What was asked before this generation began.
    began: Position,
    narrowed: bool,
    /// Answers about this stream come from elsewhere: it stays as wide as it is.
    stays: bool,
    due: Instant,
    asked: usize,
}

/// One event stream among all that this sidecar has had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream(u64);

/// Under which stream a question is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    pub stream: Arc<str>,
    pub generation: u64,
}

/// A change to what the answer says might not be heard of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uncovered;

impl Coverage {
    pub fn opened(&mut self, name: Option<Arc<str>>, recent: &mut Recent, now: Instant) -> Stream {
        self.streams += 1;
        let handle = Stream(self.streams);
        self.open = Some(Open {
            handle,
            generation: 0,
            began: recent.boundary(),
            narrowed: false,
            stays: name.is_none(),
            name,
            due: now + SETTLED,
            asked: 0,
        });
        handle
    }

    /// What was asked meanwhile may be about what this stream did not tell.
    pub fn ended(&mut self, stream: Stream, recent: &mut Recent) {
        if self.is_current(stream) {
            self.abandon(recent);
        }
    }

    /// `false`: there was none.
    pub fn abandon(&mut self, recent: &mut Recent) -> bool {
        let Some(open) = self.open.take() else { return false };
        if open.narrowed {
            recent.all();
        }
        true
    }

    pub fn is_current(&self, stream: Stream) -> bool {
        self.open.as_ref().is_some_and(|open| open.handle == stream)
    }

    pub fn is_narrowed(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.narrowed)
    }

    /// To be taken with the position of a question.
    pub fn tag(&mut self) -> Option<Tag> {
        let open = self.open.as_mut()?;
        open.asked += 1;
        Some(Tag { stream: open.name.clone()?, generation: open.generation })
    }

    /// `confirmed` names the stream that tells of changes to the answer.
    pub fn check(&mut self, tag: Option<&Tag>, confirmed: Option<&str>) -> Result<(), Uncovered> {
        let Some(open) = &mut self.open else { return Ok(()) };
        let covered = confirmed.is_some() && confirmed == open.name.as_deref();
        if !covered && open.narrowed {
            return Err(Uncovered);
        }
        if !covered && tag.is_some_and(|tag| Some(&tag.stream) == open.name.as_ref()) {
            // Another replica answers what we ask than has our stream.
            open.stays = true;
        }
        Ok(())
    }

    /// What is held, if it is time to say so. From here on only confirmed answers are believed.
    pub fn declare(
        &mut self,
        held: impl FnOnce() -> Vec<Key>,
        recent: &mut Recent,
        now: Instant,
    ) -> Option<Declaration> {
        let open = self.open.as_mut().filter(|open| !open.stays)?;
        let due = now >= open.due && (open.asked > 0 || !open.narrowed);
        let crowded = open.narrowed && open.asked >= MANY;
        if !due && !crowded {
            return None;
        }
        // Whoever asked in the generation before the last, and still waits, must ask again: it is not remembered for them.
        recent.void(open.began);
        open.began = recent.boundary();
        open.generation += 1;
        let before = std::mem::replace(&mut open.narrowed, true);
        (open.asked, open.due) = (0, now + REFRESH);
        let stream = open.name.as_deref().unwrap_or_default().to_owned();
        let (sidecar, generation, filter) = (String::new(), open.generation, Filter::of(&held()));
        Some(Declaration {
            stream: open.handle,
            narrowed_before: before,
            interest: Interest { sidecar, stream, generation, filter },
        })
    }

    /// It certainly did not arrive, nor will another.
    pub fn refused(&mut self, declaration: &Declaration) {
        if let Some(open) = self.open.as_mut().filter(|open| open.handle == declaration.stream) {
            (open.narrowed, open.stays) = (declaration.narrowed_before, true);
        }
    }

    /// Nobody knows whether it arrived.
    pub fn unanswered(&mut self, declaration: &Declaration, now: Instant) {
        if let Some(open) = self.open.as_mut().filter(|open| open.handle == declaration.stream) {
            (open.asked, open.due) = (open.asked.max(1), now + AGAIN);
        }
    }
}

pub struct Declaration {
    stream: Stream,
    narrowed_before: bool,
    /// But for the sidecar's name.
    pub interest: Interest,
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixture {
        coverage: Coverage,
        recent: Recent,
        stream: Stream,
        now: Instant,
    }

    impl Fixture {
        fn new() -> Self {
            let (mut coverage, mut recent, now) = (Coverage::default(), Recent::default(), Instant::now());
            let stream = coverage.opened(Some("s1".into()), &mut recent, now);
            Self { coverage, recent, stream, now }
        }

        fn narrowed() -> Self {
            let mut f = Self::new();
            f.declare(SETTLED).unwrap();
            f
        }

        fn declare(&mut self, after: Duration) -> Option<Declaration> {
            self.now += after;
            self.coverage.declare(|| vec![Key::subject("ann")], &mut self.recent, self.now)
        }
    }

    #[test]
    fn a_wide_stream_covers_everything_and_a_narrowed_one_what_was_confirmed() {
        let mut f = Fixture::new();
        let tag = f.coverage.tag();
        assert_eq!(f.coverage.check(tag.as_ref(), Some("s1")), Ok(()));
        assert_eq!(f.coverage.check(None, None), Ok(()));
        f.declare(SETTLED).unwrap();
        let tag = f.coverage.tag().unwrap();
        assert_eq!((&*tag.stream, tag.generation), ("s1", 1));
        assert_eq!(f.coverage.check(Some(&tag), Some("s1")), Ok(()));
        for confirmed in [None, Some("s2"), Some("")] {
            assert_eq!(f.coverage.check(Some(&tag), confirmed), Err(Uncovered), "{confirmed:?}");
        }
        f.coverage.abandon(&mut f.recent);
        assert_eq!(
            f.coverage.check(Some(&tag), None),
            Ok(()),
            "without a stream the next one begins before the question"
        );
    }

    #[test]
    fn a_stream_whose_questions_are_answered_elsewhere_is_never_narrowed() {
        let mut f = Fixture::new();
        let tag = f.coverage.tag();
        f.coverage.check(tag.as_ref(), None).unwrap();
        assert!(f.declare(REFRESH).is_none());
        let unnamed = f.coverage.opened(None, &mut f.recent, f.now);
        assert!(f.declare(REFRESH).is_none() && f.coverage.is_current(unnamed) && f.coverage.tag().is_none());
    }

    #[test]
    fn a_stream_is_narrowed_once_it_has_settled_and_again_when_there_was_something_to_ask() {
        let mut f = Fixture::new();
        assert!(f.declare(SETTLED / 2).is_none());
        assert_eq!(f.declare(SETTLED / 2).unwrap().interest.generation, 1);
        assert!(f.declare(REFRESH).is_none(), "nothing was asked");
        f.coverage.tag();
        assert_eq!(f.declare(Duration::ZERO).unwrap().interest.generation, 2);
        for _ in 0..MANY {
            f.coverage.tag();
        }
        assert_eq!(f.declare(Duration::ZERO).unwrap().interest.generation, 3);
    }

    #[test]
    fn answers_that_two_declarations_overtook_are_void() {
        let mut f = Fixture::new();
        let before_the_stream = f.recent.position();
        f.stream = f.coverage.opened(Some("s2".into()), &mut f.recent, f.now);
        let under_it = f.recent.position();
        f.declare(SETTLED).unwrap();
        assert!(f.recent.is_void(before_the_stream) && !f.recent.is_void(under_it));
        f.coverage.tag();
        let later = f.recent.position();
        f.declare(REFRESH).unwrap();
        f.coverage.tag();
        assert!(f.recent.is_void(under_it) && !f.recent.is_void(later));
        f.declare(REFRESH).unwrap();
        assert!(f.recent.is_void(later));
    }

    #[test]
    fn what_was_asked_under_a_narrowed_stream_is_void_when_it_ends() {
        for narrowed in [false, true] {
            let mut f = if narrowed { Fixture::narrowed() } else { Fixture::new() };
            let asked = f.recent.position();
            f.coverage.ended(f.stream, &mut f.recent);
            assert_eq!(f.recent.is_void(asked), narrowed);
            assert!(!f.recent.is_void(f.recent.position()));
            assert!(!f.coverage.is_current(f.stream));
        }
    }

    #[test]
    fn a_declaration_that_was_refused_leaves_the_stream_as_it_was() {
        let mut f = Fixture::new();
        let first = f.declare(SETTLED).unwrap();
        f.coverage.refused(&first);
        assert!(!f.coverage.is_narrowed() && f.declare(REFRESH).is_none());
        let mut f = Fixture::narrowed();
        f.coverage.tag();
        let second = f.declare(REFRESH).unwrap();
        f.coverage.refused(&second);
        assert!(f.coverage.is_narrowed());
    }

    #[test]
    fn a_declaration_without_an_answer_counts_as_arrived_and_is_repeated() {
        let mut f = Fixture::new();
        let first = f.declare(SETTLED).unwrap();
        f.coverage.unanswered(&first, f.now);
        assert!(f.coverage.is_narrowed());
        assert!(f.declare(AGAIN / 2).is_none());
        assert_eq!(f.declare(AGAIN / 2).unwrap().interest.generation, 2);
    }
}
