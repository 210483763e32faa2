//! Between a connection and [`judge`]: what a judgement means for the answer, counted and logged, whatever the protocol.

use std::sync::Arc;
use std::time::Instant;

use cloakroom_protocol::presented::Presented;
use cloakroom_protocol::sidecar_config::Outage;

use super::decide::Refusal;
use super::forward::{self, Framing, Outside, Peer};
use super::hand_back::leak_guard::LeakGuard;
use super::hand_back::{HandBackError, Wishes};
use super::head::{Head, Protocol, RequestHead};
use super::rescue::{self, Failure, Manner};
use super::{Answer, Bench, Denied, Judgement, Passed, judge, to_owned_head};
use crate::access_log::{self, Entry};
use crate::authority::StepUp;
use crate::config::Policy;
use crate::http1::unreadable::Unreadable;
use crate::identity::Identity;
use crate::local_response::LocalResponse;
use crate::metrics::Outcome;
use crate::worker::Worker;

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
}

/// An admitted request. Only [`Gate::step`] makes one.
pub struct Forwarding {
    pub policy: Arc<Policy>,
    pub reading: Reading,
    /// The client wants the protocol switched, and may.
    pub upgrade: bool,
    pub manner: Manner,
    pub identity: Option<Arc<Identity>>,
    pub token: Option<Presented>,
    route: usize,
    /// RFC 9110 §9.2.2
    pub idempotent: bool,
    began: Instant,
    /// What the app is sent, as HTTP/1.1.
    pub head: Vec<u8>,
}

/// Not to be forwarded; [`Gate::settle`] makes the answer.
pub struct Refused {
    failure: Failure,
    manner: Manner,
    origin: String,
    decision_id: String,
    sign_in: Option<(RequestHead, StepUp)>,
    route: Option<usize>,
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
                    Ok(head) => {
                        worker.runtime.metrics.requests.of(Outcome::OwnPath).inc();
                        Step::Own(Box::new(head), token, reading)
                    }
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
        let decision_id = self.worker.new_decision();
        self.log(&failure, &decision_id, "", "", None);
        Step::Refuse(Box::new(Refused {
            failure,
            manner: Manner::default(),
            origin: String::new(),
            decision_id,
            sign_in: None,
            route: None,
            reading: None,
        }))
    }

    fn refuse(self, denied: Denied<'_>, head: &Head<'_>, reading: Reading) -> Step {
        let Denied { failure, manner, cleansed, route, identity } = denied;
        let decision_id = self.worker.new_decision();
        let path = cleansed.as_ref().map_or(head.path, |cleansed| cleansed.path.forwarded());
        self.log(&failure, &decision_id, head.method, path, identity.as_deref());
        let origin = cleansed.as_ref().map(|cleansed| Outside::of(cleansed, self.peer).origin()).unwrap_or_default();
        let sign_in = cleansed.as_ref().and_then(|cleansed| {
            let step_up = rescue::sign_in(&failure, manner)?;
            let client = forward::client(cleansed, self.peer, self.policy);
            Some((to_owned_head(cleansed, self.peer, client, decision_id.clone()).ok()?, step_up))
        });
        let reading = Some(reading);
        Step::Refuse(Box::new(Refused { failure, manner, origin, decision_id, sign_in, route, reading }))
    }

    fn admit(self, passed: Passed<'_>, reading: Reading) -> Forwarding {
        let Passed { admitted, token, manner, shadowed, route, .. } = passed;
        let head = &admitted.cleansed().head;
        let path = admitted.cleansed().path.forwarded();
        let identity = admitted.identity();
        let metrics = &self.worker.runtime.metrics;
        self.count(if identity.is_some() { Outcome::Authenticated } else { Outcome::Anonymous }, Some(route));
        if let Some(failure) = &shadowed {
            metrics.shadow_denials.inc();
            let outcome = access_log::Outcome::WouldDeny(failure);
            self.write_log(head.method, path, &self.worker.new_decision(), identity.map(|i| &**i), outcome);
        } else if access_log::logs_everything() {
            let outcome = access_log::Outcome::Passed;
            self.write_log(head.method, path, &self.worker.new_decision(), identity.map(|i| &**i), outcome);
        }
        let mut written = self.worker.buffers.text();
        // A call's body has frames of its own, whose end needs no framing here.
        let framing = if is_call(reading, manner) { Framing::None } else { reading.framing };
        forward::write_head(&admitted, framing, self.peer, self.policy, &mut written);
        Forwarding {
            policy: Arc::clone(self.policy),
            reading,
            upgrade: head.upgrade,
            manner,
            idempotent: matches!(head.method, "GET" | "HEAD" | "OPTIONS" | "PUT" | "DELETE"),
            began: Instant::now(),
            head: written,
            identity: admitted.identity().cloned(),
            token,
            route,
        }
    }

    /// What became of a request, in all and by the rule that it matched.
    fn count(self, outcome: Outcome, route: Option<usize>) {
        self.worker.runtime.metrics.requests.of(outcome).inc();
        if let Some(route) = route.and_then(|index| self.policy.routes.get(index)) {
            route.requests.of(outcome).inc();
        }
    }

    /// The answer for a refused request: the way to sign in, or the reason why not.
    pub async fn settle(self, refused: &Refused) -> LocalResponse {
        let mut outage = None;
        if let Some((head, step_up)) = &refused.sign_in {
            match self.worker.runtime.authority.start_sign_in(head, step_up.clone()).await {
                Ok(redirect) => {
                    self.count(Outcome::SentToSignIn, refused.route);
                    return redirect;
                }
                Err(unavailable) => outage = Some(Failure::from(unavailable)),
            }
        }
        let failure = outage.as_ref().unwrap_or(&refused.failure);
        self.count(rescue::outcome(failure), refused.route);
        rescue::respond(failure, refused.manner, &refused.origin, &refused.decision_id)
    }

    /// The answer for a request that failed after it was admitted.
    pub fn fail(self, forwarding: &Forwarding, failure: &Failure) -> LocalResponse {
        let decision_id = self.worker.new_decision();
        self.log(failure, &decision_id, forwarding.method(), forwarding.path(), forwarding.identity.as_deref());
        self.count(rescue::outcome(failure), Some(forwarding.route));
        rescue::respond(failure, forwarding.manner, "", &decision_id)
    }

    fn log(self, failure: &Failure, decision_id: &str, method: &str, path: &str, identity: Option<&Identity>) {
        let outcome = access_log::Outcome::Denied(failure, rescue::status(failure));
        self.write_log(method, path, decision_id, identity, outcome);
    }

    fn write_log(
        self,
        method: &str,
        path: &str,
        decision_id: &str,
        identity: Option<&Identity>,
        outcome: access_log::Outcome<'_>,
    ) {
        let session = identity.map(|identity| identity.id.as_str());
        let client = &self.peer.text;
        self.worker.log.borrow_mut().write(&Entry { decision_id, method, path, client, session, outcome });
    }
}

/// What would have passed, but for its body.
fn denied(passed: Passed<'_>, failure: Failure) -> Denied<'_> {
    let Passed { admitted, manner, route, .. } = passed;
    let identity = admitted.identity().cloned();
    Denied { failure, manner, identity, route: Some(route), cleansed: Some(admitted.into_cleansed()) }
}

/// The answer to what never became a request, or came before any policy.
pub fn turn_away(worker: &Worker, peer: &Peer, failure: &Failure) -> LocalResponse {
    let decision_id = &worker.new_decision();
    let outcome = access_log::Outcome::Denied(failure, rescue::status(failure));
    let client = &peer.text;
    worker.log.borrow_mut().write(&Entry { decision_id, method: "", path: "", client, session: None, outcome });
    worker.runtime.metrics.requests.of(rescue::outcome(failure)).inc();
    rescue::respond(failure, Manner::default(), "", decision_id)
}

/// gRPC needs trailers, and so HTTP/2 all the way.
fn is_call(reading: Reading, manner: Manner) -> bool {
    reading.protocol == Protocol::Http2 && manner.grpc
}

impl Forwarding {
    /// The app's head is there.
    pub fn answered(&self) {
        if let Some(route) = self.policy.routes.get(self.route) {
            route.seconds.observe(self.began.elapsed());
        }
    }

    pub fn is_call(&self) -> bool {
        is_call(self.reading, self.manner)
    }

    fn method(&self) -> &str {
        self.head.split(|b| *b == b' ').next().and_then(|method| std::str::from_utf8(method).ok()).unwrap_or_default()
    }

    /// Canonical, without the query.
    fn path(&self) -> &str {
        let target = self.head.split(|b| *b == b' ').nth(1).and_then(|target| std::str::from_utf8(target).ok());
        target.and_then(|target| target.split('?').next()).unwrap_or_default()
    }

    pub fn leak_guard(&self) -> Option<LeakGuard<'_>> {
        LeakGuard::new(&self.identity.as_ref()?.jwt, self.token.as_ref()?)
    }

    /// Does what the app asks for; only then may its answer go on.
    pub async fn grant(&self, worker: &Worker, wishes: Wishes) -> Result<(), HandBackError> {
        let (Some(identity), Some(token)) = (&self.identity, &self.token) else {
            // Signing out where nobody is signed in is done already.
            return if wishes.session.is_some() { Err(HandBackError::NoSession) } else { Ok(()) };
        };
        let token = token.ours().ok_or(HandBackError::Foreign)?;
        if let Some(patch) = wishes.session {
            worker.runtime.authority.commit_session(token, identity, patch).await?;
        }
        if let Some(scope) = wishes.logout {
            worker.runtime.authority.sign_out(token, scope).await?;
        }
        Ok(())
    }

    pub fn report_leak(&self, worker: &Worker, peer: &Peer) {
        worker.runtime.metrics.jwt_leaks.inc();
        worker.log.borrow_mut().write(&Entry {
            decision_id: &worker.new_decision(),
            method: self.method(),
            path: self.path(),
            client: &peer.text,
            session: self.identity.as_ref().map(|identity| identity.id.as_str()),
            outcome: access_log::Outcome::Leaked,
        });
    }
}
