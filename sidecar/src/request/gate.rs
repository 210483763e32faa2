//! Between a connection and [`judge`]: what a judgement means for the answer, whatever the protocol.

use std::cell::{Cell, OnceCell};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use cloakroom_protocol::presented::Presented;
use cloakroom_protocol::sidecar_config::Outage;

use super::cors::Reader;
use super::decide::Refusal;
use super::forward::{self, Framing, Outside, Peer};
use super::hand_back::leak_guard::LeakGuard;
use super::hand_back::{self, HandBackError, Wishes};
use super::head::{Field, Head, Protocol, RequestHead};
use super::rescue::{self, Failure, Manner};
use super::{Answer, Bench, Denied, Judgement, Passed, judge, to_owned_head};
use crate::access_log;
use crate::authority::StepUp;
use crate::config::Policy;
use crate::http1::io::Limits;
use crate::http1::unreadable::Unreadable;
use crate::identity::Identity;
use crate::metrics::Outcome;
use crate::worker::Worker;
use crate::worker::deadlines::Bond;

/// Where requests of one connection are judged.
#[derive(Clone, Copy)]
pub struct Gate<'g> {
    pub worker: &'g Worker,
    pub peer: &'g Peer,
    pub policy: &'g Arc<Policy>,
}

/// What is to be done next.
pub enum Step {
    Forward(Forwarding),
    Ask(Presented, Outage),
    Own(Box<RequestHead>, Option<Presented>, Reading),
    Refuse(Box<Refused>),
}

/// What any answer must know of the request.
#[derive(Clone, Copy)]
pub struct Reading {
    /// Bytes of the head; HTTP/1 only.
    pub head_length: usize,
    pub framing: Framing,
    pub keep_alive: bool,
    pub to_head: bool,
    pub protocol: Protocol,
    /// When the head was whole.
    pub began: Instant,
}

/// An admitted request. Only [`Gate::step`] makes one.
pub struct Forwarding {
    pub policy: Arc<Policy>,
    pub reading: Reading,
    /// The client wants the protocol switched, and may.
    pub upgrade: bool,
    pub manner: Manner,
    pub identity: Option<Arc<Identity>>,
    /// Also where its rule asks for none.
    pub token: Option<Presented>,
    several_tokens: bool,
    /// No cache on the way can see that the answer is for one person.
    unshown: bool,
    pub(super) route: usize,
    /// What Enforce would have refused, in Shadow mode.
    pub(super) shadowed: Option<Box<Failure>>,
    /// Made when something is first logged of this request.
    pub(super) decision: OnceCell<String>,
    /// What the client was answered; 0: nothing yet.
    pub(super) status: Cell<u16>,
    /// What the app is sent, as HTTP/1.1.
    pub head: Vec<u8>,
}

/// What was done for the app before its answer went on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Granted {
    Nothing,
    Saved,
    SignedOut,
}

/// Not to be forwarded; [`Gate::settle`] makes the answer.
pub struct Refused {
    pub(super) failure: Failure,
    pub(super) manner: Manner,
    pub(super) origin: String,
    pub(super) decision_id: String,
    pub(super) sign_in: Option<(RequestHead, StepUp)>,
    pub(super) reader: Option<Reader>,
    pub(super) route: Option<usize>,
    pub(super) method: String,
    /// Canonical where there is one.
    pub(super) path: String,
    pub(super) client: IpAddr,
    pub(super) identity: Option<Arc<Identity>>,
    /// Absent where the bytes were no request.
    pub reading: Option<Reading>,
}

impl Refused {
    pub fn is_answered(&self) -> bool {
        !matches!(self.failure, Failure::Unreadable(unreadable) if !unreadable.is_answered())
    }
}

impl Gate<'_> {
    /// Everything that needs no waiting.
    pub fn step(self, head: &Head<'_>, reading: Reading, answer: Option<Answer>) -> Step {
        let Self { worker, peer, policy } = self;
        let bench = Bench { policy, authority: &*worker.runtime.authority, peer, now: worker.now() };
        match judge(head, bench, answer) {
            Judgement::Ask { token, outage } => Step::Ask(token, outage),
            Judgement::Own(cleansed, token) => {
                let client = forward::client(&cleansed, peer, policy);
                match to_owned_head(&cleansed, peer, client, worker.new_decision()) {
                    Ok(head) => Step::Own(Box::new(head), token, reading),
                    Err(failure) => self.unread(failure),
                }
            }
            Judgement::Denied(denied) => self.refuse(*denied, head, reading),
            Judgement::Forward(passed) => match reading.framing {
                Framing::Length(length) if length > policy.limits.request_body => {
                    self.refuse(denied(passed, Unreadable::BodyTooLarge.into()), head, reading)
                }
                // It passes for having nothing but a question.
                Framing::Length(1..) | Framing::Chunked if passed.preflight => {
                    self.refuse(denied(passed, Refusal::NoToken.into()), head, reading)
                }
                _ => Step::Forward(self.admit(passed, reading)),
            },
        }
    }

    /// Bytes that are no request.
    pub fn unread(self, failure: Failure) -> Step {
        Step::Refuse(Box::new(Refused {
            failure,
            manner: Manner::default(),
            origin: String::new(),
            decision_id: self.worker.new_decision(),
            sign_in: None,
            reader: None,
            route: None,
            method: String::new(),
            path: String::new(),
            client: self.peer.address,
            identity: None,
            reading: None,
        }))
    }

    fn refuse(self, denied: Denied<'_>, head: &Head<'_>, reading: Reading) -> Step {
        let Denied { failure, manner, cleansed, route, identity } = denied;
        let decision_id = self.worker.new_decision();
        let (mut path, mut origin, mut client, mut sign_in) = (head.path, String::new(), self.peer.address, None);
        if let Some(cleansed) = &cleansed {
            path = cleansed.path.forwarded();
            self.policy.public_origin(&Outside::of(cleansed, self.peer).origin()).clone_into(&mut origin);
            client = forward::client(cleansed, self.peer, self.policy);
            let step_up = rescue::sign_in(&failure, manner).filter(|_| self.policy.offers_sign_in());
            sign_in = step_up.and_then(|step_up| {
                Some((to_owned_head(cleansed, self.peer, client, decision_id.clone()).ok()?, step_up))
            });
        }
        let reader = Reader::of(cleansed.as_ref().and_then(|cleansed| cleansed.origin), self.policy);
        let (method, path, reading) = (head.method.to_owned(), path.to_owned(), Some(reading));
        Step::Refuse(Box::new(Refused {
            failure,
            manner,
            origin,
            decision_id,
            sign_in,
            reader,
            route,
            method,
            path,
            client,
            identity,
            reading,
        }))
    }

    fn admit(self, passed: Passed<'_>, reading: Reading) -> Forwarding {
        let Passed { admitted, token, several_tokens, manner, unshown, shadowed, route, .. } = passed;
        let head = &admitted.cleansed().head;
        let outcome = if admitted.identity().is_some() { Outcome::Authenticated } else { Outcome::Anonymous };
        self.count(outcome, self.policy.routes.get(route).map(|route| &**route));
        let decision = OnceCell::new();
        if shadowed.is_some() {
            self.worker.runtime.metrics.shadow_denials.inc();
        }
        if shadowed.is_some() || access_log::logs_everything() {
            decision.get_or_init(|| self.worker.new_decision());
        }
        let mut written = self.worker.buffers.text();
        // A call's body has frames of its own, whose end needs no framing here.
        let framing = if is_call(reading, manner) { Framing::None } else { reading.framing };
        let decision_id = decision.get().map(String::as_str);
        forward::write_head(&admitted, framing, self.peer, self.policy, decision_id, &mut written);
        Forwarding {
            policy: Arc::clone(self.policy),
            reading,
            upgrade: head.upgrade,
            manner,
            head: written,
            identity: admitted.identity().cloned(),
            token,
            several_tokens,
            unshown,
            route,
            shadowed: shadowed.map(Box::new),
            decision,
            status: Cell::new(0),
        }
    }
}

/// What would have passed, but for its body.
fn denied(passed: Passed<'_>, failure: Failure) -> Denied<'_> {
    let Passed { admitted, manner, route, .. } = passed;
    let identity = admitted.identity().cloned();
    Denied { failure, manner, identity, route: Some(route), cleansed: Some(admitted.into_cleansed()) }
}

/// gRPC needs trailers, and so HTTP/2 all the way.
fn is_call(reading: Reading, manner: Manner) -> bool {
    reading.protocol == Protocol::Http2 && manner.grpc
}

impl Forwarding {
    pub fn is_call(&self) -> bool {
        is_call(self.reading, self.manner)
    }

    /// What the client said is its page's origin.
    pub(super) fn origin(&self) -> Option<&[u8]> {
        let mut lines = self.head.split(|b| *b == b'\n').filter_map(|line| line.split_at_checked("origin:".len()));
        let (_, value) = lines.find(|(name, _)| name.eq_ignore_ascii_case(b"origin:"))?;
        Some(value.trim_ascii())
    }

    /// Method and target, as the app is asked.
    pub(super) fn line(&self) -> impl Iterator<Item = &[u8]> {
        self.head.split(|b| *b == b' ').take(2)
    }

    fn method(&self) -> &[u8] {
        self.line().next().unwrap_or_default()
    }

    /// RFC 9110 §9.2.2
    pub fn is_idempotent(&self) -> bool {
        matches!(self.method(), b"GET" | b"HEAD" | b"OPTIONS" | b"PUT" | b"DELETE")
    }

    /// Whether the answer needs a word that it is for one person alone. The app was asked with `Authorization`, by which shared caches know
    /// that (RFC 9111 §3.5); whoever is on the way to this client saw a cookie at most.
    pub fn is_private(&self, answer: &[Field<'_>]) -> bool {
        self.unshown
            && self.identity.is_some()
            && matches!(self.method(), b"GET" | b"HEAD")
            && !hand_back::says_who_may_keep_it(answer)
    }

    pub fn leak_guard(&self) -> Option<LeakGuard<'_>> {
        LeakGuard::new(self.identity.as_ref()?.jwt(), self.token.as_ref()?)
    }

    /// Does what the app asks for; only then may its answer go on. What that is must not cut the very answer that says so, nor is the
    /// time that it takes the app's.
    pub async fn grant(&self, limits: Limits<'_>, wishes: Wishes) -> Result<Granted, HandBackError> {
        let Limits { worker, deadline } = limits;
        deadline.unbind();
        let granted = self.fulfil(worker, wishes).await?;
        deadline.renew(&worker.deadlines);
        if granted != Granted::SignedOut {
            self.bind(worker, deadline, Bond::Unanswered);
        }
        Ok(granted)
    }

    async fn fulfil(&self, worker: &Worker, wishes: Wishes) -> Result<Granted, HandBackError> {
        let authority = &worker.runtime.authority;
        if let Some(patch) = wishes.session {
            let (Some(identity), Some(token)) = (&self.identity, &self.token) else {
                return Err(HandBackError::NoSession);
            };
            authority.commit_session(token.ours().ok_or(HandBackError::Foreign)?, identity, patch).await?;
        }
        let Some(scope) = wishes.logout else { return Ok(Granted::Saved) };
        match &self.token {
            Some(token) => authority.sign_out(token.ours().ok_or(HandBackError::Foreign)?, scope).await?,
            None if self.several_tokens => return Err(HandBackError::SeveralTokens),
            // Signing out where nobody is signed in is done already.
            None => {}
        }
        Ok(Granted::SignedOut)
    }
}
