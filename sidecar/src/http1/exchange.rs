//! One request and its response on an HTTP/1.x connection.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use cloakroom_protocol::token::OpaqueToken;
use tokio::io::AsyncWrite as _;

use super::buffer::Buffer;
use super::chunked::ChunkedDecoder;
use super::io::{Limits, write_all, write_both};
use super::relay::{Relay, RelayError, Relayed};
use super::request_body::{PumpError, RequestBody};
use super::unreadable::Unreadable;
use super::{Connection, local, request_head, too_large};
use crate::access_log::{self, Entry};
use crate::authority::{Exchanged, StepUp, Unavailable};
use crate::config::Policy;
use crate::identity::Identity;
use crate::local_response::LocalResponse;
use crate::metrics::Outcome;
use crate::request::forward::{self, Framing};
use crate::request::head::{Protocol, RequestHead};
use crate::request::rescue::{self, Failure, Manner};
use crate::request::{Bench, Denied, Judgement, Passed, judge, to_owned_head};
use crate::upgrade;
use crate::upstream::{self, Upstream, UpstreamError};

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    KeepAlive,
    /// All was said; what the client still sends is read away, so that the last words reach it.
    Linger,
    /// At once: the client must see that something is missing.
    Cut,
}

pub struct Exchange<'e> {
    connection: &'e mut Connection,
    input: &'e mut Buffer,
    output: &'e mut Vec<u8>,
}

/// An admitted request whose head for the app stands in `output`.
pub struct Forwarding {
    pub policy: Arc<Policy>,
    pub reading: Reading,
    /// The client wants the protocol switched, and may.
    pub upgrade: bool,
    pub manner: Manner,
    pub identity: Option<Arc<Identity>>,
    pub token: Option<OpaqueToken>,
    /// RFC 9110 §9.2.2
    idempotent: bool,
    pub began: Instant,
    pub method: String,
    pub path: String,
}

enum Step {
    Forward(Box<Forwarding>),
    Ask(OpaqueToken, cloakroom_protocol::sidecar_config::Outage),
    Own(Box<RequestHead>, Option<OpaqueToken>, Reading),
    Refuse(Box<Refused>),
}

struct Refused {
    failure: Failure,
    manner: Manner,
    origin: String,
    decision_id: String,
    sign_in: Option<(RequestHead, StepUp)>,
    reading: Option<Reading>,
}

/// What any answer must know of the request.
#[derive(Clone, Copy)]
pub struct Reading {
    head_length: usize,
    framing: Framing,
    pub keep_alive: bool,
    pub to_head: bool,
    pub protocol: Protocol,
}

impl<'e> Exchange<'e> {
    pub fn new(connection: &'e mut Connection, input: &'e mut Buffer, output: &'e mut Vec<u8>) -> Self {
        Self { connection, input, output }
    }

    pub async fn run(mut self) -> Ending {
        let Some(policy) = self.connection.worker.runtime.policy.load_full() else {
            return self.refuse_all(&Failure::NoPolicy).await;
        };
        self.connection.deadline.allow(&self.connection.worker.deadlines, policy.limits.idle_timeout);
        let authority = Arc::clone(&self.connection.worker.runtime.authority);
        let mut answer = None;
        loop {
            match self.step(&policy, answer.take()) {
                Step::Forward(forwarding) => return self.forward(&forwarding).await,
                Step::Ask(token, outage) => answer = Some(authority.exchange(&token, outage).await),
                Step::Own(head, token, reading) => {
                    let response = authority.own_path(&head, self.connection.app_port, token).await;
                    self.connection.worker.runtime.metrics.requests.of(Outcome::OwnPath).inc();
                    return self.answer(&response, reading).await;
                }
                Step::Refuse(refused) => return self.refuse(*refused).await,
            }
        }
    }

    /// Everything that needs no waiting, from bytes to the head for the app.
    fn step(&mut self, policy: &Arc<Policy>, answer: Option<Result<Exchanged, Unavailable>>) -> Step {
        let Connection { peer, worker, .. } = &*self.connection;
        let mut store = request_head::field_store();
        let message = match request_head::parse(self.input.filled(), &mut store) {
            Ok(Some(message)) => message,
            Ok(None) => return unread(Unreadable::CutOff.into(), worker.new_decision()),
            Err(unreadable) => return unread(unreadable.into(), worker.new_decision()),
        };
        if let Ok(limit) = usize::try_from(policy.limits.request_headers)
            && message.length > limit
        {
            return unread(too_large(self.input.filled(), limit).into(), worker.new_decision());
        }
        let reading = Reading {
            head_length: message.length,
            framing: message.framing,
            keep_alive: message.keep_alive,
            to_head: message.head.method == "HEAD",
            protocol: message.head.protocol,
        };
        let bench = Bench { policy, authority: &*worker.runtime.authority, peer, now: worker.now() };
        match judge(&message.head, bench, answer) {
            Judgement::Ask { token, outage } => Step::Ask(token, outage),
            Judgement::Own(cleansed, token) => {
                let client = forward::client(&cleansed, peer, policy);
                match to_owned_head(&cleansed, client, worker.new_decision()) {
                    Ok(head) => Step::Own(Box::new(head), token, reading),
                    Err(failure) => unread(failure, worker.new_decision()),
                }
            }
            Judgement::Denied(denied) => refusal(*denied, &message.head, reading, self.connection, policy),
            Judgement::Forward(passed) => {
                if let Framing::Length(length) = message.framing
                    && length > policy.limits.request_body
                {
                    let Passed { admitted, manner, .. } = *passed;
                    let failure = Unreadable::BodyTooLarge.into();
                    let denied = Denied {
                        failure,
                        manner,
                        identity: admitted.identity().cloned(),
                        cleansed: Some(admitted.into_cleansed()),
                    };
                    return refusal(denied, &message.head, reading, self.connection, policy);
                }
                Step::Forward(Box::new(admit(*passed, reading, self.connection, policy, self.output)))
            }
        }
    }

    async fn forward(&mut self, forwarding: &Forwarding) -> Ending {
        self.input.consume(forwarding.reading.head_length);
        let at_hand = match forwarding.reading.framing {
            Framing::None => Some(0),
            Framing::Length(length) => usize::try_from(length).ok().filter(|length| *length <= self.input.len()),
            Framing::Chunked => None,
        };
        let mut reply = self.connection.worker.buffers.small();
        let result = match at_hand {
            Some(length) => self.forward_whole(forwarding, length, &mut reply).await,
            None => self.forward_streaming(forwarding, &mut reply).await,
        };
        self.connection.deadline.unbind();
        let ending = match result {
            Ok(Relayed::Done { close: false }) => Ending::KeepAlive,
            Ok(Relayed::Done { close: true }) => Ending::Linger,
            Ok(Relayed::Switched(upstream)) => {
                self.connection.worker.runtime.metrics.upgraded.inc();
                upgrade::tunnel(self.connection, upstream, forwarding, self.input, &mut reply).await;
                self.connection.worker.runtime.metrics.upgraded.dec();
                Ending::Cut
            }
            Err(RelayError::Unanswered(failure)) => self.fail(forwarding, failure).await,
            Err(RelayError::CutShort) => Ending::Cut,
        };
        self.connection.worker.buffers.give_back(reply);
        ending
    }

    /// Head and body are here: one write, and if a pooled connection turns out to be dead, another one.
    async fn forward_whole(
        &mut self,
        forwarding: &Forwarding,
        length: usize,
        reply: &mut Buffer,
    ) -> Result<Relayed, RelayError> {
        let retriable = forwarding.idempotent;
        let mut upstream = open(self.connection, retriable).await?;
        loop {
            let Connection { worker, deadline, stream, app_port, .. } = &mut *self.connection;
            let limits = Limits { worker, deadline };
            let body = &self.input.filled()[..length];
            let done = Cell::new(true);
            let sent = write_both(&mut upstream.stream, self.output, body, limits).await;
            let mut relay = Relay { limits, forwarding, reply, silent: true, request_done: &done };
            // A failed write does not mean that there is no answer: apps refuse and close.
            let first = relay.await_reply(&mut upstream.stream).await;
            match first {
                Ok(()) => {}
                // RFC 9110 §9.2.2: nothing came back, so what may be repeated is, once.
                Err(_) if upstream.reused && retriable && relay.reply.is_empty() && !deadline.has_passed() => {
                    upstream = upstream::connect(*app_port).await?;
                    continue;
                }
                Err(error) => return Err(sent.err().map_or(error, UpstreamError::from).into()),
            }
            self.input.consume(length);
            self.output.clear();
            let relayed = relay.run(&mut upstream.stream, stream, self.output).await?;
            return Ok(relayed.settle(upstream, worker, *app_port, true));
        }
    }

    /// Body and answer at the same time: apps may answer before they have read everything, and clients may wait for `100 Continue`.
    async fn forward_streaming(&mut self, forwarding: &Forwarding, reply: &mut Buffer) -> Result<Relayed, RelayError> {
        let mut upstream = open(self.connection, false).await?;
        let Connection { worker, deadline, stream, app_port, .. } = &mut *self.connection;
        let limits = Limits { worker, deadline };
        let mut body = match forwarding.reading.framing {
            Framing::Length(length) => RequestBody::Length(length),
            Framing::None | Framing::Chunked => RequestBody::Chunked {
                decoder: ChunkedDecoder::default(),
                allowed: forwarding.policy.limits.request_body,
            },
        };
        let done = Cell::new(false);
        let (mut from_client, mut to_client) = stream.split();
        let (mut from_app, mut to_app) = upstream.stream.split();
        write_all(&mut to_app, self.output, limits).await.map_err(UpstreamError::from)?;
        self.output.clear();
        let mut relay = Relay { limits, forwarding, reply, silent: true, request_done: &done };
        let output = &mut *self.output;
        let outcome = {
            let mut pumping =
                pin!(body.pump(self.input, &mut from_client, &mut to_app, &forwarding.policy.reserved, limits));
            let mut relaying = pin!(async {
                relay.await_reply(&mut from_app).await?;
                relay.run(&mut from_app, &mut to_client, output).await
            });
            let mut pumped = false;
            poll_fn(|cx| {
                if !pumped && let Poll::Ready(result) = pumping.as_mut().poll(cx) {
                    pumped = true;
                    match result {
                        Ok(()) => done.set(true),
                        Err(PumpError::AppClosed) => {}
                        Err(error) => return Poll::Ready(Err(error)),
                    }
                }
                relaying.as_mut().poll(cx).map(Ok)
            })
            .await
        };
        match outcome {
            // An answer that has begun cannot be replaced by one of ours.
            Err(_) if !relay.is_silent() => Err(RelayError::CutShort),
            Err(PumpError::Client(unreadable)) => Err(RelayError::Unanswered(unreadable.into())),
            Err(PumpError::ClientGone | PumpError::AppClosed) => Err(RelayError::CutShort),
            Ok(relayed) => Ok(relayed?.settle(upstream, worker, *app_port, done.get())),
        }
    }

    /// A failure after the request was admitted.
    async fn fail(&mut self, forwarding: &Forwarding, failure: Failure) -> Ending {
        let decision_id = self.connection.worker.new_decision();
        log(
            self.connection,
            &failure,
            &decision_id,
            &forwarding.method,
            &forwarding.path,
            forwarding.identity.as_deref(),
        );
        let response = rescue::respond(&failure, forwarding.manner, "", &decision_id);
        self.connection.deadline.allow(&self.connection.worker.deadlines, forwarding.policy.limits.idle_timeout);
        self.write_local(&response, forwarding.reading.to_head, true).await;
        Ending::Linger
    }

    async fn refuse(&mut self, refused: Refused) -> Ending {
        let mut failure = refused.failure;
        let mut response = None;
        if let Some((head, step_up)) = refused.sign_in {
            let authority = Arc::clone(&self.connection.worker.runtime.authority);
            match authority.start_sign_in(&head, step_up).await {
                Ok(redirect) => {
                    self.connection.worker.runtime.metrics.requests.of(Outcome::SentToSignIn).inc();
                    response = Some(redirect);
                }
                Err(unavailable) => failure = unavailable.into(),
            }
        }
        let response = response.unwrap_or_else(|| {
            self.connection.worker.runtime.metrics.requests.of(rescue::outcome(&failure)).inc();
            rescue::respond(&failure, refused.manner, &refused.origin, &refused.decision_id)
        });
        if let Some(reading) = refused.reading {
            return self.answer(&response, reading).await;
        }
        self.write_local(&response, false, true).await;
        Ending::Linger
    }

    async fn refuse_all(&mut self, failure: &Failure) -> Ending {
        let decision_id = self.connection.worker.new_decision();
        self.connection.worker.runtime.metrics.requests.of(rescue::outcome(failure)).inc();
        let response = rescue::respond(failure, Manner::default(), "", &decision_id);
        self.write_local(&response, false, true).await;
        Ending::Linger
    }

    /// An answer of our own. The connection goes on if the request's body is out of the way.
    async fn answer(&mut self, response: &LocalResponse, reading: Reading) -> Ending {
        self.input.consume(reading.head_length);
        let read = match reading.framing {
            Framing::None => true,
            Framing::Length(length) => match usize::try_from(length) {
                Ok(length) if length <= self.input.len() => {
                    self.input.consume(length);
                    true
                }
                _ => false,
            },
            Framing::Chunked => false,
        };
        let close = !read
            || !reading.keep_alive
            || reading.protocol == Protocol::Http10
            || self.connection.worker.is_draining();
        if !self.write_local(response, reading.to_head, close).await {
            return Ending::Cut;
        }
        if close { Ending::Linger } else { Ending::KeepAlive }
    }

    async fn write_local(&mut self, response: &LocalResponse, to_head: bool, close: bool) -> bool {
        self.output.clear();
        local::write(response, to_head, close, self.output);
        let Connection { worker, deadline, stream, .. } = &mut *self.connection;
        write_all(stream, self.output, Limits { worker, deadline }).await.is_ok()
    }
}

async fn open(connection: &Connection, retriable: bool) -> Result<Upstream, UpstreamError> {
    match connection.worker.pool.take(connection.app_port, retriable, connection.worker.deadlines.now()) {
        Some(upstream) => Ok(upstream),
        None => upstream::connect(connection.app_port).await,
    }
}

fn unread(failure: Failure, decision_id: String) -> Step {
    let refused = Refused {
        failure,
        manner: Manner::default(),
        origin: String::new(),
        decision_id,
        sign_in: None,
        reading: None,
    };
    Step::Refuse(Box::new(refused))
}

fn refusal(
    denied: Denied<'_>,
    head: &crate::request::head::Head<'_>,
    reading: Reading,
    connection: &Connection,
    policy: &Policy,
) -> Step {
    let Denied { failure, manner, cleansed, identity } = denied;
    let decision_id = connection.worker.new_decision();
    let path = cleansed.as_ref().map_or(head.path, |cleansed| cleansed.path.forwarded());
    log(connection, &failure, &decision_id, head.method, path, identity.as_deref());
    let origin = cleansed.as_ref().map(|cleansed| forward::Outside::of(cleansed).origin()).unwrap_or_default();
    let sign_in = cleansed.as_ref().and_then(|cleansed| {
        let step_up = rescue::sign_in(&failure, manner)?;
        let client = forward::client(cleansed, &connection.peer, policy);
        Some((to_owned_head(cleansed, client, decision_id.clone()).ok()?, step_up))
    });
    Step::Refuse(Box::new(Refused { failure, manner, origin, decision_id, sign_in, reading: Some(reading) }))
}

/// The only way to a [`Forwarding`]: the head for the app is written from what was admitted.
fn admit(
    passed: Passed<'_>,
    reading: Reading,
    connection: &Connection,
    policy: &Arc<Policy>,
    output: &mut Vec<u8>,
) -> Forwarding {
    let Passed { admitted, token, manner, shadowed } = passed;
    let head = &admitted.cleansed().head;
    let path = admitted.cleansed().path.forwarded();
    let metrics = &connection.worker.runtime.metrics;
    metrics.requests.of(if admitted.identity().is_some() { Outcome::Authenticated } else { Outcome::Anonymous }).inc();
    if let Some(failure) = &shadowed {
        metrics.shadow_denials.inc();
        write_log(
            connection,
            head.method,
            path,
            &connection.worker.new_decision(),
            0,
            admitted.identity().map(|i| &**i),
            access_log::Outcome::WouldDeny(failure),
        );
    } else if access_log::logs_everything() {
        write_log(
            connection,
            head.method,
            path,
            &connection.worker.new_decision(),
            0,
            admitted.identity().map(|i| &**i),
            access_log::Outcome::Passed,
        );
    }
    output.clear();
    forward::write_head(&admitted, reading.framing, &connection.peer, policy, output);
    Forwarding {
        policy: Arc::clone(policy),
        reading,
        upgrade: head.upgrade,
        manner,
        idempotent: matches!(head.method, "GET" | "HEAD" | "OPTIONS" | "PUT" | "DELETE"),
        began: Instant::now(),
        method: head.method.to_owned(),
        path: path.to_owned(),
        identity: admitted.identity().cloned(),
        token,
    }
}

fn log(
    connection: &Connection,
    failure: &Failure,
    decision_id: &str,
    method: &str,
    path: &str,
    identity: Option<&Identity>,
) {
    let status = rescue::status(failure);
    write_log(connection, method, path, decision_id, status, identity, access_log::Outcome::Denied(failure));
}

fn write_log(
    connection: &Connection,
    method: &str,
    path: &str,
    decision_id: &str,
    status: u16,
    identity: Option<&Identity>,
    outcome: access_log::Outcome<'_>,
) {
    connection.worker.log.borrow_mut().write(&Entry {
        decision_id,
        method,
        path,
        client: &connection.peer.text,
        status,
        session: identity.map(|identity| identity.id.as_str()),
        outcome,
    });
}

impl Connection {
    /// Bytes that are no request.
    pub(super) async fn refuse(&mut self, unreadable: Unreadable, output: &mut Vec<u8>) {
        let mut nothing = Buffer::default();
        let ending = Exchange::new(self, &mut nothing, output).refuse_all(&unreadable.into()).await;
        if ending == Ending::Linger {
            self.linger(&mut nothing).await;
        }
    }

    /// Closing a socket with unread bytes resets it, and a reset may overtake our last words (RFC 9112 §9.6).
    pub(super) async fn linger(&mut self, scratch: &mut Buffer) {
        const SECONDS: u64 = 1;
        const BYTES: usize = 256 << 10;
        self.deadline.allow(&self.worker.deadlines, SECONDS);
        let Self { stream, worker, deadline, .. } = self;
        if poll_fn(|cx| std::pin::Pin::new(&mut *stream).poll_shutdown(cx)).await.is_err() {
            return;
        }
        if scratch.capacity() == 0 {
            *scratch = worker.buffers.small();
        }
        let mut read = 0;
        while read < BYTES {
            scratch.clear();
            // Without `limit`: bytes must not buy time.
            let count = poll_fn(|cx| match scratch.poll_fill(cx, stream) {
                Poll::Pending if deadline.has_passed() => Poll::Ready(Ok(0)),
                other => other,
            });
            match count.await {
                Ok(count) if count > 0 => read += count,
                _ => return,
            }
        }
    }
}
