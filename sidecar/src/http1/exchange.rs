//! One request and its response on an HTTP/1.x connection.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io::ErrorKind;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use tokio::io::AsyncWrite as _;

use super::buffer::Buffer;
use super::chunked::ChunkedDecoder;
use super::io::{Limits, write_all, write_both};
use super::relay::{Relay, RelayError, Relayed};
use super::request_body::{PumpError, RequestBody};
use super::unreadable::Unreadable;
use super::{Connection, local, request_head, too_large};
use crate::config::Policy;
use crate::local_response::LocalResponse;
use crate::metrics::Cut;
use crate::request::Answer;
use crate::request::ending::turn_away;
use crate::request::forward::Framing;
use crate::request::gate::{Forwarding, Gate, Reading, Step};
use crate::request::head::Protocol;
use crate::request::rescue::Failure;
use crate::upgrade;
use crate::upstream::{self, Upstream, UpstreamError};
use crate::worker::deadlines::Bond;

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

impl<'e> Exchange<'e> {
    pub fn new(connection: &'e mut Connection, input: &'e mut Buffer, output: &'e mut Vec<u8>) -> Self {
        Self { connection, input, output }
    }

    pub async fn run(mut self) -> Ending {
        let Some(policy) = self.connection.worker.policy() else {
            return self.refuse_all(&Failure::NoPolicy).await;
        };
        self.connection.deadline.allow(&self.connection.worker.deadlines, policy.limits.idle_timeout);
        if self.connection.worker.buffers.is_short() {
            return self.refuse_all(&Failure::NoRoom).await;
        }
        let authority = Arc::clone(&self.connection.worker.runtime.authority);
        let mut answer = None;
        let began = Instant::now();
        loop {
            match self.step(&policy, began, answer.take()) {
                Step::Forward(mut forwarding) => {
                    let ending = self.forward(&forwarding).await;
                    self.connection.worker.buffers.give_back_text(std::mem::take(&mut forwarding.head));
                    return ending;
                }
                Step::Ask(token, outage) => {
                    self.input.park(&self.connection.worker.buffers);
                    answer = Some(authority.exchange(&token, outage).await);
                }
                Step::Own(head, token, reading) => {
                    let response = authority.own_path(&head, self.connection.app_port, token).await;
                    let response = self.connection.gate(&policy).answer_own(&head, reading, response);
                    return self.answer(&response, reading).await;
                }
                Step::Refuse(refused) => {
                    let response = self.connection.gate(&policy).settle(&refused).await;
                    return match refused.reading {
                        Some(reading) => self.answer(&response, reading).await,
                        None if refused.is_answered() => self.say_last(&response).await,
                        None => Ending::Cut,
                    };
                }
            }
        }
    }

    /// Everything that needs no waiting, from bytes to the head for the app.
    fn step(&mut self, policy: &Arc<Policy>, began: Instant, answer: Option<Answer>) -> Step {
        let gate = self.connection.gate(policy);
        let mut store = request_head::field_store();
        let message = match request_head::parse(self.input.filled(), &mut store) {
            Ok(Some(message)) => message,
            Ok(None) => return gate.unread(Unreadable::CutOff.into()),
            Err(unreadable) => return gate.unread(unreadable.into()),
        };
        if let Ok(limit) = usize::try_from(policy.limits.request_headers)
            && message.length > limit
        {
            return gate.unread(too_large(self.input.filled(), limit).into());
        }
        let reading = Reading {
            head_length: message.length,
            framing: message.framing,
            keep_alive: message.keep_alive,
            to_head: message.head.method == "HEAD",
            protocol: message.head.protocol,
            began,
        };
        gate.step(&message.head, reading, answer)
    }

    async fn forward(&mut self, forwarding: &Forwarding) -> Ending {
        self.input.consume(forwarding.reading.head_length);
        let at_hand = match forwarding.reading.framing {
            Framing::None => Some(0),
            Framing::Length(length) => usize::try_from(length).ok().filter(|length| *length <= self.input.len()),
            Framing::Chunked => None,
        };
        let mut reply = Buffer::default();
        forwarding.bind(&self.connection.worker, &self.connection.deadline, Bond::Unanswered);
        let result = match at_hand {
            Some(length) => self.forward_whole(forwarding, length, &mut reply).await,
            // Boxed like what follows an upgrade: rare, and large.
            None => Box::pin(self.forward_streaming(forwarding, &mut reply)).await,
        };
        self.connection.deadline.unbind();
        let ending = match result {
            Ok(Relayed::Done { close: false }) => Ending::KeepAlive,
            Ok(Relayed::Done { close: true }) => Ending::Linger,
            Ok(Relayed::Switched(upstream)) => {
                self.connection.worker.runtime.metrics.upgraded.inc();
                Box::pin(upgrade::tunnel(self.connection, upstream, forwarding, self.input, &mut reply)).await;
                self.connection.worker.runtime.metrics.upgraded.dec();
                Ending::Cut
            }
            Err(RelayError::Unanswered(failure)) => self.fail(forwarding, &failure).await,
            Err(RelayError::CutShort(cut)) => {
                forwarding.cut(&self.connection.worker, &self.connection.peer, cut);
                // Without chunks the connection's end is the answer's (RFC 9112 §6.3), and only a reset says that it is not.
                if forwarding.reading.protocol == Protocol::Http10 {
                    self.connection.stream.reset_at_end();
                }
                Ending::Cut
            }
        };
        self.connection.worker.buffers.give_back(reply);
        ending
    }

    async fn open(&self, forwarding: &Forwarding, retriable: bool) -> Result<Upstream, UpstreamError> {
        let Connection { worker, app_port, deadline, .. } = &*self.connection;
        upstream::open(worker, *app_port, &forwarding.policy, retriable, deadline).await
    }

    /// Head and body are here: one write, and if a pooled connection turns out to be dead, another one.
    async fn forward_whole(
        &mut self,
        forwarding: &Forwarding,
        length: usize,
        reply: &mut Buffer,
    ) -> Result<Relayed, RelayError> {
        let retriable = forwarding.is_idempotent();
        let mut upstream = self.open(forwarding, retriable).await?;
        loop {
            let Connection { worker, deadline, stream, app_port, peer, .. } = &mut *self.connection;
            let limits = Limits { worker, deadline };
            let body = &self.input.filled()[..length];
            let sent = write_both(&mut upstream.stream, &forwarding.head, body, limits).await;
            // An app that was told half of a request must never be told another on that connection.
            let done = Cell::new(sent.is_ok());
            self.input.release(&worker.buffers);
            let mut relay = Relay { limits, forwarding, reply, silent: true, status: None, request_done: &done, peer };
            // A failed write does not mean that there is no answer: apps refuse and close.
            let first = relay.await_reply(&mut upstream.stream, stream).await?;
            match first {
                Ok(()) => {}
                // RFC 9110 §9.2.2: nothing came back, so what may be repeated is, once.
                Err(_) if upstream.reused && retriable && relay.reply.is_empty() && !deadline.has_passed() => {
                    upstream = upstream::fresh(worker, *app_port, &forwarding.policy, deadline).await?;
                    continue;
                }
                Err(error) => return Err(sent.err().map_or(error, UpstreamError::from).into()),
            }
            self.input.consume(length);
            self.output.clear();
            let relayed = relay.run(&mut upstream.stream, stream, self.output).await?;
            return Ok(relayed.settle(upstream, worker, *app_port, done.get()));
        }
    }

    /// Body and answer at the same time: apps may answer before they have read everything, and clients may wait for `100 Continue`.
    async fn forward_streaming(&mut self, forwarding: &Forwarding, reply: &mut Buffer) -> Result<Relayed, RelayError> {
        let mut upstream = self.open(forwarding, false).await?;
        let Connection { worker, deadline, stream, app_port, peer, .. } = &mut *self.connection;
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
        write_all(&mut to_app, &forwarding.head, limits).await.map_err(UpstreamError::from)?;
        self.output.clear();
        let mut relay = Relay { limits, forwarding, reply, silent: true, status: None, request_done: &done, peer };
        let output = &mut *self.output;
        let outcome = {
            let mut pumping =
                pin!(body.pump(self.input, &mut from_client, &mut to_app, &forwarding.policy.reserved, limits));
            let mut relaying = pin!(async {
                relay.await_reply(&mut from_app, &mut to_client).await??;
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
            Err(PumpError::Client(_)) if !relay.is_silent() => {
                Err(RelayError::CutShort(forwarding.lateness(worker, Cut::RequestBroken)))
            }
            Err(PumpError::Client(unreadable)) => Err(RelayError::Unanswered(unreadable.into())),
            Err(PumpError::ClientGone) => Err(RelayError::CutShort(Cut::ClientGone)),
            Err(PumpError::AppClosed) => Err(RelayError::CutShort(Cut::AppClosed)),
            Ok(relayed) => Ok(relayed?.settle(upstream, worker, *app_port, done.get())),
        }
    }

    /// A failure after the request was admitted.
    async fn fail(&mut self, forwarding: &Forwarding, failure: &Failure) -> Ending {
        let response = self.connection.gate(&forwarding.policy).fail(forwarding, failure).await;
        self.connection.deadline.allow(&self.connection.worker.deadlines, forwarding.policy.limits.idle_timeout);
        self.write_local(&response, forwarding.reading.to_head, true).await;
        Ending::Linger
    }

    async fn refuse_all(&mut self, failure: &Failure) -> Ending {
        let response = turn_away(&self.connection.worker, &self.connection.peer, failure);
        self.say_last(&response).await
    }

    async fn say_last(&mut self, response: &LocalResponse) -> Ending {
        // The request may be one that was not read to its end.
        let to_head = self.input.filled().starts_with(b"HEAD ");
        self.write_local(response, to_head, true).await;
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
        let close =
            !read || !reading.keep_alive || reading.protocol == Protocol::Http10 || self.connection.worker.is_leaving();
        if !self.write_local(response, reading.to_head, close).await {
            return Ending::Cut;
        }
        if close { Ending::Linger } else { Ending::KeepAlive }
    }

    async fn write_local(&mut self, response: &LocalResponse, to_head: bool, close: bool) -> bool {
        self.output.clear();
        local::write(response, to_head, close, self.connection.worker.now(), self.output);
        let Connection { worker, deadline, stream, .. } = &mut *self.connection;
        write_all(stream, self.output, Limits { worker, deadline }).await.is_ok()
    }
}

impl Connection {
    pub(crate) fn gate<'g>(&'g self, policy: &'g Arc<Policy>) -> Gate<'g> {
        Gate { worker: &self.worker, peer: &self.peer, policy }
    }

    /// Bytes that are no request.
    pub(super) async fn refuse(&mut self, failure: &Failure, input: &mut Buffer, output: &mut Vec<u8>) {
        if Exchange::new(self, input, output).refuse_all(failure).await == Ending::Linger {
            self.linger(input).await;
        }
    }

    /// Closing a socket with unread bytes resets it, and a reset may overtake our last words (RFC 9112 §9.6).
    pub(super) async fn linger(&mut self, scratch: &mut Buffer) {
        // Many clients send all of a body before they look for an answer. Where there is little room it goes to others.
        let pressed = self.worker.is_crowded() || self.worker.buffers.is_short() || self.worker.is_leaving();
        let (seconds, bytes) = if pressed { (1, 256 << 10) } else { (5, 8 << 20) };
        self.deadline.allow(&self.worker.deadlines, seconds);
        let Self { stream, worker, deadline, .. } = self;
        scratch.clear();
        let ended = poll_fn(|cx| match Pin::new(&mut *stream).poll_shutdown(cx) {
            Poll::Pending if deadline.has_passed() => Poll::Ready(Err(ErrorKind::TimedOut.into())),
            other => other,
        });
        if ended.await.is_err() {
            return;
        }
        let mut read = 0;
        while read < bytes {
            // Nothing is held while nothing comes.
            scratch.release(&worker.buffers);
            // Without `limit`: bytes must not buy time.
            let count = poll_fn(|cx| match scratch.poll_fill_from_pool(cx, stream, &worker.buffers) {
                Poll::Pending if deadline.has_passed() => Poll::Ready(Ok(0)),
                other => other,
            });
            match count.await {
                Ok(count) if count > 0 => {
                    read += count;
                    scratch.clear();
                }
                _ => return,
            }
        }
    }
}
