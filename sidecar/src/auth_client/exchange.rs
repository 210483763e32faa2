//! Token → identity by asking, once per token at a time; an answer that was overtaken is asked for again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cloakroom_protocol::introspection::{ActiveToken, Introspection};
use cloakroom_protocol::presented::{ForeignToken, Kind, Presented};
use cloakroom_protocol::token::TokenId;
use tokio::time::{Instant, timeout};

use super::calls::{Answered, CallError};
use super::inquiries::{self, Inquiry, Occasion, Told};
use super::postbox::{self, Addressee};
use super::{AuthClient, lock};
use crate::authority::{Exchanged, Unavailable};
use crate::config::Policy;
use crate::log;
use crate::metrics::Answer;
use crate::token_cache::{Fingerprint, Fresh, NotAdmitted, Overtaken};

/// Revocations that go on for longer than this concern whoever is asked about.
const ATTEMPTS: usize = 3;
/// A question about another issuer's token waits this long for its turn.
const SLOT_WITHIN: Duration = Duration::from_secs(1);

pub type Outcome = Result<Exchanged, Unavailable>;

/// One question under way, and who waits for its answer.
#[derive(Default)]
pub struct Flight {
    waiting: Vec<Addressee>,
    /// Those to whom its answer may be too old: without the event stream nobody would know of a revocation since.
    next: Vec<Addressee>,
}

/// Whether the token was good when it was asked about last: then it is no junk, and does not wait its turn among what may be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Known {
    Yes,
    No,
}

#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("{0}")]
    Call(#[from] Arc<CallError>),
    #[error(transparent)]
    Answer(#[from] UnusableAnswer),
    #[error(transparent)]
    NotAdmitted(#[from] NotAdmitted),
}

/// Says "active", but cannot be acted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnusableAnswer {
    #[error("the answer is about another token")]
    OtherToken,
    #[error("the JWT, or what it says, has expired already")]
    Expired,
}

impl AuthClient {
    pub(super) async fn introspect(&self, token: &Presented, fingerprint: Fingerprint) -> Outcome {
        let hanging = self.hanging.load(Ordering::Relaxed);
        if hanging && self.trying.swap(true, Ordering::Relaxed) {
            return Err(Unavailable);
        }
        let (asking, told) = postbox::address();
        if self.join(fingerprint, asking) {
            self.depart(token, fingerprint, Known::No);
        }
        told.await.unwrap_or(Err(Unavailable))
    }

    /// Ahead of the JWT's end, in the background. Whoever comes meanwhile is served from the cache.
    pub(super) fn renew(&self, token: &Presented, fingerprint: Fingerprint) {
        let started = match lock(&self.flights).entry(fingerprint) {
            std::collections::hash_map::Entry::Occupied(_) => false,
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(Flight::default());
                true
            }
        };
        if started {
            self.depart(token, fingerprint, Known::Yes);
        }
    }

    /// True if there was none under way: the caller starts it.
    fn join(&self, fingerprint: Fingerprint, asking: Addressee) -> bool {
        let heard = self.lease.is_live(Instant::now());
        let mut flights = lock(&self.flights);
        let Some(flight) = flights.get_mut(&fingerprint) else {
            flights.insert(fingerprint, Flight { waiting: vec![asking], next: Vec::new() });
            return true;
        };
        if heard {
            flight.waiting.push(asking);
        } else {
            flight.next.push(asking);
        }
        false
    }

    /// From any thread. Goes on even if everyone who waits goes away: the next one will ask the same.
    fn depart(&self, token: &Presented, fingerprint: Fingerprint, known: Known) {
        match token {
            Presented::Ours(token) => self.inquire(Inquiry::new(token.clone(), fingerprint)),
            Presented::Foreign(token) => {
                let Some(this) = self.this.upgrade() else { return };
                self.runtime.spawn(this.fly_alone(token.clone(), fingerprint, known));
            }
        }
    }

    /// About another issuer's token: who has to ask that issuer first keeps nobody else waiting.
    async fn fly_alone(self: Arc<Self>, token: ForeignToken, fingerprint: Fingerprint, known: Known) {
        let presented = Presented::Foreign(token);
        loop {
            let outcome = self.ask_in_turn(&presented, fingerprint, known).await;
            if !self.land(&fingerprint, &outcome) {
                return;
            }
        }
    }

    async fn ask_in_turn(&self, token: &Presented, fingerprint: Fingerprint, known: Known) -> Outcome {
        let _slot = match known {
            Known::Yes => None,
            // Who waits in vain is told what everybody is told whom nobody answers.
            Known::No => match timeout(SLOT_WITHIN, self.foreign_questions.acquire()).await {
                Ok(Ok(slot)) => Some(slot),
                Ok(Err(_)) | Err(_) => return Err(Unavailable),
            },
        };
        let mut attempt = 1;
        loop {
            let began = Instant::now();
            let answer = self.ask_alone(token).await;
            if let Some(outcome) = self.judge(token, fingerprint, (attempt, began), answer) {
                return outcome;
            }
            attempt += 1;
        }
    }

    /// What comes of an answer, or of not having one; `None`: it was overtaken, and is to be asked for again.
    pub(super) fn judge(
        &self,
        token: &Presented,
        fingerprint: Fingerprint,
        (attempt, began): (usize, Instant),
        answer: inquiries::Answer,
    ) -> Option<Outcome> {
        self.metrics.introspection_seconds.observe(began.elapsed());
        let last = attempt == ATTEMPTS;
        let judged = answer.map_err(Unusable::from).and_then(|told| self.believe(token, fingerprint, told, last));
        match judged {
            Ok(exchanged) => {
                self.hanging.store(false, Ordering::Relaxed);
                let answer = if matches!(exchanged, Exchanged::Active(_)) { Answer::Active } else { Answer::Inactive };
                self.metrics.introspections.of(answer).inc();
                Some(Ok(exchanged))
            }
            Err(Unusable::NotAdmitted(NotAdmitted::Overtaken(why, _))) => {
                self.metrics.overtaken.inc();
                if why == Overtaken::Uncovered {
                    self.abandon_stream();
                }
                last.then_some(Err(Unavailable))
            }
            Err(error) => {
                self.failed(token, &error);
                Some(Err(Unavailable))
            }
        }
    }

    fn failed(&self, token: &Presented, error: &Unusable) {
        // What hangs may be the other issuer, and that is no reason to keep everybody else waiting.
        let ours = token.ours().is_some();
        if ours && matches!(error, Unusable::Call(call) if matches!(**call, CallError::Timeout)) {
            self.hanging.store(true, Ordering::Relaxed);
        }
        self.metrics.introspections.of(Answer::Failed).inc();
        // Of a lost connection its keeper has told; once is enough.
        let known = matches!(error, Unusable::Call(call) if matches!(**call, CallError::NotConnected(_)));
        // And whoever sends junk of other issuers' kind must not write our log.
        let say = if known || !ours { log::debug } else { log::warn };
        say("cannot introspect", &[("token", &token.id()), ("error", error)]);
    }

    /// Tells those who wait. True if there are others, to whom this answer may be too old: it must be asked again.
    pub(super) fn land(&self, fingerprint: &Fingerprint, outcome: &Outcome) -> bool {
        self.trying.store(false, Ordering::Relaxed);
        let (waiting, again) = {
            let mut flights = lock(&self.flights);
            let Some(flight) = flights.get_mut(fingerprint) else { return false };
            let waiting = std::mem::take(&mut flight.waiting);
            flight.waiting = std::mem::take(&mut flight.next);
            let again = !flight.waiting.is_empty();
            if !again {
                flights.remove(fingerprint);
            }
            (waiting, again)
        };
        for addressee in waiting {
            addressee.tell(outcome.clone());
        }
        again
    }

    fn believe(
        &self,
        token: &Presented,
        fingerprint: Fingerprint,
        Told { answered, occasion }: Told,
        last: bool,
    ) -> Result<Exchanged, Unusable> {
        let Occasion { question, asked, policy } = &*occasion;
        let Some(mut fresh) = Self::fresh((token.kind(), token.id()), answered, *asked, policy)? else {
            self.cache.refuse(fingerprint, Instant::now());
            return Ok(Exchanged::Inactive);
        };
        fresh.foreign = match token {
            Presented::Ours(_) => None,
            Presented::Foreign(token) => Some(token.clone()),
        };
        match self.cache.admit(fingerprint, question, fresh, &policy.jwt, Instant::now()) {
            Ok(identity) => Ok(Exchanged::Active(identity)),
            // Somebody writes to this session without pause: good for one request.
            Err(NotAdmitted::Overtaken(Overtaken::Updated, fresh)) if last => {
                let identity = self.cache.uncached(fingerprint, *fresh, &policy.jwt, Instant::now());
                Ok(Exchanged::Active(identity.map_err(NotAdmitted::from)?))
            }
            Err(refused) => Err(refused.into()),
        }
    }

    /// `None`: inactive. Times are judged by the auth service's own clock.
    pub(super) fn fresh(
        (kind, id): (Kind, TokenId),
        answered: Answered<Introspection>,
        asked: Instant,
        policy: &Policy,
    ) -> Result<Option<Fresh>, UnusableAnswer> {
        let Answered { value, server_time, size, stream } = answered;
        let active: ActiveToken = match value {
            Introspection::Inactive(_) => return Ok(None),
            Introspection::Active(active) => *active,
        };
        if active.id != id || active.kind != kind {
            return Err(UnusableAnswer::OtherToken);
        }
        let left = |until: u64| Duration::from_secs(until.saturating_sub(server_time));
        let (token_left, jwt_left) = (left(active.exp), left(active.jwt_exp));
        if token_left.is_zero() {
            return Ok(None);
        }
        if jwt_left.is_zero() {
            return Err(UnusableAnswer::Expired);
        }
        let believed = active.believe_ms.map(Duration::from_millis);
        if believed.is_some_and(|believed| believed.is_zero()) {
            return Err(UnusableAnswer::Expired);
        }
        Ok(Some(Fresh {
            active,
            asked,
            token_left,
            jwt_left,
            believed,
            foreign: None,
            bridge: policy.longest_bridge(),
            size,
            stream,
        }))
    }
}
