//! A request's end: here each is counted, timed and logged, with what the client was really answered, and nowhere else. What is said of one
//! request, in the log, to the client and to the app, is said under one decision id.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cloakroom_protocol::sidecar_config::{Mode, Outage};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::cors::Reader;
use super::decide::Refusal;
use super::forward::{self, Peer};
use super::gate::{Forwarding, Gate, Reading, Refused};
use super::head::RequestHead;
use super::rescue::{self, Failure, Manner};
use crate::access_log::{self, Entry, Event};
use crate::authority::{StepUp, Unavailable};
use crate::http1::unreadable::Unreadable;
use crate::identity::Identity;
use crate::local_response::LocalResponse;
use crate::metrics::{Cut, Outcome, Route};
use crate::open_streams::End;
use crate::upstream::UpstreamError;
use crate::worker::Worker;
use crate::worker::deadlines::{Bond, Deadline, TICK_MILLIS, unheard_grace};

pub const DECISION_HEADER: HeaderName = HeaderName::from_static("cloakroom-decision");

/// What there is to say of a request, whoever answers it.
struct About<'r> {
    decision_id: &'r str,
    method: &'r str,
    path: &'r str,
    client: IpAddr,
    identity: Option<&'r Identity>,
    route: Option<&'r Route>,
    /// Absent where its head never was whole.
    began: Option<Instant>,
}

impl Gate<'_> {
    /// What became of a request, in all and by the rule that it matched.
    pub(super) fn count(self, outcome: Outcome, route: Option<&Route>) {
        count(self.worker, outcome, route);
    }

    /// The answer for a refused request: the way to sign in, or the reason why not.
    pub async fn settle(self, refused: &Refused) -> LocalResponse {
        let explain = |failure: &Failure| {
            let response = rescue::respond(failure, refused.manner, &refused.origin, &refused.decision_id);
            readable(response, refused.reader.as_ref())
        };
        let (response, outcome, outage) = self.rescue(refused.sign_in.as_ref(), &refused.failure, explain).await;
        let failure = outage.as_ref().unwrap_or(&refused.failure);
        let about = About {
            decision_id: &refused.decision_id,
            method: &refused.method,
            path: &refused.path,
            client: refused.client,
            identity: refused.identity.as_deref(),
            route: refused.route.and_then(|index| Some(&**self.policy.routes.get(index)?)),
            began: refused.reading.map(|reading| reading.began),
        };
        if !refused.is_answered() {
            self.count(outcome, None);
            write(self.worker, &about, Event::Denied(failure), None, None, None);
            return response;
        }
        let event =
            if outcome == Outcome::SentToSignIn { Event::SentToSignIn(failure) } else { Event::Denied(failure) };
        end(self.worker, &about, outcome, event, response)
    }

    /// The way to sign in for whoever can be sent there, else the reason of the failure; and the outage, if that is why nobody was sent.
    async fn rescue(
        self,
        whom: Option<&(RequestHead, StepUp)>,
        failure: &Failure,
        explain: impl FnOnce(&Failure) -> LocalResponse,
    ) -> (LocalResponse, Outcome, Option<Failure>) {
        let mut outage = None;
        if let Some((head, step_up)) = whom {
            match self.worker.runtime.authority.start_sign_in(head, step_up.clone()).await {
                Ok(answer) => {
                    let outcome = rescue::outcome_of(answer.status);
                    return (answer, outcome, None);
                }
                Err(unavailable) => outage = Some(Failure::from(unavailable)),
            }
        }
        let failure = outage.as_ref().unwrap_or(failure);
        (explain(failure), rescue::outcome(failure), outage)
    }

    /// The answer of one of our own paths.
    pub fn answer_own(self, head: &RequestHead, reading: Reading, response: LocalResponse) -> LocalResponse {
        let about = About {
            decision_id: &head.decision_id,
            method: head.method.as_str(),
            path: &head.path,
            client: head.client,
            identity: None,
            route: None,
            began: Some(reading.began),
        };
        let title = response.title;
        let failed = response.status.is_client_error() || response.status.is_server_error();
        let event = if failed { Event::Denied(&title) } else { Event::Answered };
        end(self.worker, &about, Outcome::OwnPath, event, response)
    }

    /// The answer for a request that failed after it was admitted.
    pub async fn fail(self, forwarding: &Forwarding, failure: &Failure) -> LocalResponse {
        let about = forwarding.about(self.worker, self.peer);
        let lapsed = forwarding.lapse(self.worker).filter(|_| is_late(failure)).and_then(|end| match end {
            End::Over => Some(Failure::Refused(Refusal::Ended)),
            End::Unheard => Some(Failure::Unavailable(Unavailable)),
            End::Expired => None,
        });
        let failure = lapsed.as_ref().unwrap_or(failure);
        let step_up = rescue::sign_in(failure, forwarding.manner).filter(|_| self.policy.offers_sign_in());
        let whom = step_up.and_then(|step_up| Some((forwarding.kept_head(&about)?, step_up)));
        let explain = |failure: &Failure| {
            let seen = forward::origin_in(&forwarding.head);
            let origin = self.policy.public_origin(&seen);
            let response = rescue::respond(failure, forwarding.manner, origin, about.decision_id);
            readable(response, Reader::of(forwarding.origin(), self.policy).as_ref())
        };
        let (response, outcome, outage) = self.rescue(whom.as_ref(), failure, explain).await;
        let failure = outage.as_ref().unwrap_or(failure);
        forwarding.status.set(response.status.as_u16());
        if let Some(shadowed) = &forwarding.shadowed {
            write(self.worker, &about, Event::WouldDeny(&**shadowed), Some(response.status.as_u16()), None, None);
        }
        let event = match outcome {
            Outcome::SentToSignIn => Event::SentToSignIn(failure),
            Outcome::UpstreamFailed | Outcome::Unavailable => Event::Failed(failure),
            _ => Event::Denied(failure),
        };
        end(self.worker, &about, outcome, event, response)
    }
}

/// The answer to what never became a request, or came before any policy.
pub fn turn_away(worker: &Worker, peer: &Peer, failure: &Failure) -> LocalResponse {
    let decision_id = &worker.new_decision();
    let (client, identity, route, began) = (peer.address, None, None, None);
    let about = About { decision_id, method: "", path: "", client, identity, route, began };
    let response = rescue::respond(failure, Manner::default(), "", decision_id);
    end(worker, &about, rescue::outcome(failure), Event::Denied(failure), response)
}

impl Forwarding {
    /// The app's head goes on to the client.
    pub fn answered(&self, worker: &Worker, peer: &Peer, status: u16) {
        self.status.set(status);
        let took = self.reading.began.elapsed();
        if let Some(route) = self.policy.routes.get(self.route) {
            route.seconds.observe(took);
        }
        if let Some(shadowed) = &self.shadowed {
            let event = Event::WouldDeny(&**shadowed);
            write(worker, &self.about(worker, peer), event, Some(status), None, Some(took));
        } else if access_log::logs_everything() {
            write(worker, &self.about(worker, peer), Event::Passed, Some(status), None, Some(took));
        }
    }

    /// The client has got an answer, or the beginning of one.
    pub fn is_answered(&self) -> bool {
        self.status.get() != 0
    }

    /// Its answer ends before it is whole, and the client can tell.
    pub fn cut(&self, worker: &Worker, peer: &Peer, cut: Cut) {
        worker.runtime.metrics.answers_cut.of(cut).inc();
        let status = self.is_answered().then(|| self.status.get());
        let (about, took) = (self.about(worker, peer), Some(self.reading.began.elapsed()));
        if let Some(shadowed) = self.shadowed.as_ref().filter(|_| status.is_none()) {
            write(worker, &about, Event::WouldDeny(&**shadowed), None, None, took);
        }
        write(worker, &about, Event::Cut(cut), status, None, took);
    }

    /// What its rule says of it while no auth service answers.
    pub fn outage(&self) -> Outage {
        self.policy.outage_of(self.route)
    }

    /// From now on its session's end counts as out of time.
    pub fn bind(&self, worker: &Worker, deadline: &Deadline, bond: Bond) {
        // In Shadow mode nobody is refused for not being signed in, nor for being so no longer.
        let counts = bond == Bond::Stream || self.policy.mode == Mode::Enforce;
        if let Some(identity) = self.identity.as_ref().filter(|_| counts) {
            deadline.bind(&worker.deadlines, (Arc::clone(identity), self.outage()), bond);
        }
    }

    /// Why something is out of time: with its session, or for want of what was waited for.
    pub fn lateness(&self, worker: &Worker, otherwise: Cut) -> Cut {
        match self.lapse(worker) {
            Some(End::Over | End::Expired) => Cut::SessionEnded,
            Some(End::Unheard) => Cut::Unheard,
            None => otherwise,
        }
    }

    /// Whether it may not go on, whatever else there is to wait for.
    pub fn is_cut_off(&self, worker: &Worker) -> bool {
        matches!(self.lapse(worker), Some(End::Over | End::Unheard))
    }

    /// How its session has ended, for all that is heard.
    fn lapse(&self, worker: &Worker) -> Option<End> {
        let identity = self.identity.as_ref()?;
        identity.life.ending().or_else(|| {
            // The worker's clock is behind by a tick at most.
            let under_way = self.reading.began.elapsed() + Duration::from_millis(TICK_MILLIS);
            let alone = worker.runtime.authority.unheard().min(under_way);
            (alone >= unheard_grace(self.outage())).then_some(End::Unheard)
        })
    }

    pub fn report_leak(&self, worker: &Worker, peer: &Peer) {
        worker.runtime.metrics.jwt_leaks.inc();
        write(worker, &self.about(worker, peer), Event::Leaked, None, None, None);
    }

    /// Under which something was logged of this request: then client and app are told, too.
    pub fn decision_id(&self) -> Option<&str> {
        self.decision.get().map(String::as_str)
    }

    fn method_and_target(&self) -> (&str, &str) {
        let mut line = self.line().map(|part| std::str::from_utf8(part).unwrap_or_default());
        (line.next().unwrap_or_default(), line.next().unwrap_or_default())
    }

    /// As much as signing in has to know of a request that was let in; the client's other flows stay as they are.
    fn kept_head(&self, about: &About<'_>) -> Option<RequestHead> {
        let (_, target) = self.method_and_target();
        Some(RequestHead {
            method: Method::from_bytes(about.method.as_bytes()).ok()?,
            path: about.path.to_owned(),
            query: target.split_once('?').map(|(_, query)| query.to_owned()),
            headers: HeaderMap::new(),
            origin: forward::origin_in(&self.head),
            client: about.client,
            decision_id: about.decision_id.to_owned(),
        })
    }

    fn about<'f>(&'f self, worker: &Worker, peer: &Peer) -> About<'f> {
        let (method, target) = self.method_and_target();
        About {
            decision_id: self.decision.get_or_init(|| worker.new_decision()),
            method,
            path: target.split('?').next().unwrap_or_default(),
            client: forward::client_in(&self.head, peer, &self.policy),
            identity: self.identity.as_deref(),
            route: self.policy.routes.get(self.route).map(|route| &**route),
            began: Some(self.reading.began),
        }
    }
}

/// Whatever was waited for did not come in time.
fn is_late(failure: &Failure) -> bool {
    matches!(failure, Failure::Upstream(UpstreamError::TimedOut) | Failure::Unreadable(Unreadable::TimedOut))
}

fn readable(mut response: LocalResponse, reader: Option<&Reader>) -> LocalResponse {
    if let Some(reader) = reader {
        reader.let_in(&mut response.headers);
    }
    response
}

/// The end of what is answered here.
fn end(
    worker: &Worker,
    about: &About<'_>,
    outcome: Outcome,
    event: Event<'_>,
    mut response: LocalResponse,
) -> LocalResponse {
    count(worker, outcome, about.route);
    let took = about.began.map(|began| began.elapsed());
    if let (Some(route), Some(took)) = (about.route, took) {
        route.seconds.observe(took);
    }
    let grpc_status = response.headers.get(rescue::GRPC_STATUS).and_then(|status| status.to_str().ok());
    write(worker, about, event, Some(response.status.as_u16()), grpc_status, took);
    if let Ok(id) = HeaderValue::from_str(about.decision_id) {
        response.headers.insert(DECISION_HEADER, id);
    }
    response
}

fn count(worker: &Worker, outcome: Outcome, route: Option<&Route>) {
    worker.runtime.metrics.requests.of(outcome).inc();
    if let Some(route) = route {
        route.requests.of(outcome).inc();
    }
}

fn write(
    worker: &Worker,
    about: &About<'_>,
    event: Event<'_>,
    status: Option<u16>,
    grpc_status: Option<&str>,
    took: Option<Duration>,
) {
    worker.log.borrow_mut().write(&Entry {
        decision_id: about.decision_id,
        method: about.method,
        path: about.path,
        client: about.client,
        session: about.identity.map(|identity| identity.id.as_str()),
        route: about.route.map(|route| route.label.as_str()),
        status,
        grpc_status,
        took,
        event,
    });
}
