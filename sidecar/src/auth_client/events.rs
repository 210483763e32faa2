//! The event stream: what it says happens to the cache at once, then is acknowledged. Silence ends the lease, and the stream.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cloakroom_protocol::events::{Event, InvalidEvent};
use cloakroom_protocol::revocation::Acknowledgement;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use rand::{CryptoRng, RngExt as _};
use tokio::time::{Instant, sleep, timeout_at};

use super::calls::{CallError, STREAM};
use super::sse::{Broken, Message, Parser};
use super::{AuthClient, lock};
use crate::lease::LEASE;
use crate::log;
use crate::metrics::EventKind;
use crate::token_cache::coverage::Stream;

const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const MAX_BACKOFF: Duration = Duration::from_secs(1);
/// Heartbeats that are all late by more than the lease: the replica's clock was set back, or the stream is that slow.
const LATE_BEATS: u32 = 3;
const ACK_AGAIN: Duration = Duration::from_millis(200);
/// What many sidecars have heard of they do not all acknowledge at once, before the last of them has been told.
pub const ACK_WITHIN: Duration = Duration::from_millis(20);

#[derive(Debug, thiserror::Error)]
enum StreamError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("no config")]
    NoPolicy,
    #[error("not an event stream")]
    ContentType,
    #[error("no heartbeat")]
    Silent,
    #[error("heartbeats arrive too late")]
    Late,
    #[error("the auth service ended it")]
    Ended,
    #[error("questions are answered by another replica than has the stream")]
    Abandoned,
    #[error("connection: {0}")]
    Http(#[from] hyper::Error),
    #[error(transparent)]
    Broken(#[from] Broken),
    #[error(transparent)]
    Event(#[from] InvalidEvent),
}

impl AuthClient {
    pub(super) async fn follow_events(self: Arc<Self>) {
        let mut last = None;
        let mut backoff = FIRST_BACKOFF;
        let mut said = String::new();
        // The first policy says where to.
        let _ = self.target.subscribe().wait_for(Option::is_some).await;
        loop {
            let opened = Instant::now();
            let Err(error) = self.stream(&mut last).await;
            self.metrics.stream_open.set(0);
            match &error {
                // The connection's keeper has said so.
                StreamError::Call(CallError::NotConnected(_)) => {}
                StreamError::Broken(_) | StreamError::Event(_) => {
                    // What was not understood may have been a revocation.
                    self.metrics.events.of(EventKind::Broken).inc();
                    log::error("event stream not understood, cache dropped", &[("error", &error)]);
                    self.cache.reset();
                    last = None;
                }
                _ => {
                    // The same trouble again and again is one line.
                    let trouble = error.to_string();
                    let say = if said == trouble { log::debug } else { log::warn };
                    say("no event stream", &[("error", &error)]);
                    said = trouble;
                }
            }
            if opened.elapsed() > LEASE {
                said.clear();
            }
            backoff = if opened.elapsed() > LEASE { FIRST_BACKOFF } else { (backoff * 2).min(MAX_BACKOFF) };
            sleep(backoff).await;
        }
    }

    async fn stream(&self, last: &mut Option<String>) -> Result<std::convert::Infallible, StreamError> {
        let policy = self.policy.load_full().ok_or(StreamError::NoPolicy)?;
        let (response, generation) = self.calls.events(&policy, &self.sidecar, last.as_deref()).await?;
        let content_type =
            response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if content_type.split(';').next().map(str::trim) != Some("text/event-stream") {
            return Err(StreamError::ContentType);
        }
        log::info("event stream open", &[("after", &last.as_deref().unwrap_or("now"))]);
        let name = response.headers().get(STREAM).and_then(|name| name.to_str().ok()).map(Arc::from);
        let afresh = last.is_none();
        if afresh {
            // It begins now: of what was revoked before, nobody told us.
            self.cache.reset();
        }
        let mut abandoned = self.abandoned.subscribe();
        let stream = self.cache.stream_opened(name, Instant::now());
        self.lease.stream_opened();
        self.metrics.stream_open.set(1);
        self.refresh_jwks();
        let ended = tokio::select! {
            ended = self.read(response.into_body(), last, stream, afresh) => ended,
            _ = abandoned.changed() => Err(StreamError::Abandoned),
        };
        self.cache.stream_ended(stream);
        if matches!(ended, Err(StreamError::Silent | StreamError::Late)) {
            // Whatever is wrong with this replica or the way to it, another may do better.
            self.calls.connection.is_worn(generation);
        }
        ended
    }

    async fn read(
        &self,
        mut body: Incoming,
        last: &mut Option<String>,
        stream: Stream,
        afresh: bool,
    ) -> Result<std::convert::Infallible, StreamError> {
        let (mut parser, mut messages) = (Parser::default(), Vec::new());
        let mut silent_until = Instant::now() + LEASE;
        let mut late = 0;
        loop {
            let frame = timeout_at(silent_until, body.frame()).await.map_err(|_| StreamError::Silent)?;
            let Ok(data) = frame.ok_or(StreamError::Ended)??.into_data() else { continue };
            parser.push(&data, &mut messages)?;
            for message in messages.drain(..) {
                if !self.cache.is_current(stream) {
                    // What it leaves out may have been wanted by now: the next one begins before it.
                    return Err(StreamError::Abandoned);
                }
                if afresh && last.is_none() {
                    // The cache was dropped: whatever was revoked before has taken effect.
                    self.effective.send_replace(Some(message.id.clone()));
                }
                if self.apply(message, last)? {
                    silent_until = Instant::now() + LEASE;
                    late = if self.lease.is_live(Instant::now()) { 0 } else { late + 1 };
                    if late == LATE_BEATS {
                        return Err(StreamError::Late);
                    }
                }
            }
        }
    }

    /// True for a heartbeat.
    fn apply(&self, Message { name, data, id }: Message, last: &mut Option<String>) -> Result<bool, StreamError> {
        let event = Event::parse(&name, &data)?;
        let mut heartbeat = false;
        let kind = match event {
            Event::Revoked(revoked) => {
                self.cache.revoke(&revoked);
                log::info("revoked", &[("event", &id)]);
                self.effective.send_replace(Some(id.clone()));
                EventKind::Revoked
            }
            Event::Updated { id } => {
                self.cache.update(id);
                EventKind::Updated
            }
            Event::Keys => {
                self.refresh_jwks();
                EventKind::Keys
            }
            Event::Heartbeat(beat) => {
                self.lease.renew(beat, Instant::now());
                self.hanging.store(false, Ordering::Relaxed);
                heartbeat = true;
                EventKind::Heartbeat
            }
            Event::Reset => {
                log::warn("events were missed, cache dropped", &[("event", &id)]);
                self.cache.reset();
                self.effective.send_replace(Some(id.clone()));
                EventKind::Reset
            }
        };
        self.metrics.events.of(kind).inc();
        lock(&self.last_event).clone_from(&Some(id.clone()));
        *last = Some(id);
        Ok(heartbeat)
    }

    /// The open stream does not tell all that must be heard: the next one does, from where this one is.
    pub(super) fn abandon_stream(&self) {
        if self.cache.abandon_stream() {
            self.abandoned.send_replace(());
        }
    }

    /// Tells the auth service what is held here, so that it sends no more than that.
    pub(super) async fn declare_interest(&self) {
        let Some(policy) = self.policy.load_full() else { return };
        let Some(mut declaration) = self.cache.declare(Instant::now()) else { return };
        declaration.interest.sidecar.clone_from(&self.sidecar);
        let Err(error) = self.calls.declare(&policy, &declaration.interest).await else { return };
        log::debug("cannot declare what is held", &[("error", &error)]);
        match error.status() {
            Some(StatusCode::NOT_FOUND) => self.cache.declaration_refused(&declaration),
            _ => self.cache.declaration_unanswered(&declaration, Instant::now()),
        }
    }

    /// Says what took effect; of several, only the newest, since it stands for all before it.
    pub(super) async fn acknowledge(self: Arc<Self>, mut rng: impl CryptoRng) {
        let mut effective = self.effective.subscribe();
        while effective.changed().await.is_ok() {
            sleep(ACK_WITHIN.mul_f64(rng.random())).await;
            loop {
                let Some(last) = effective.borrow_and_update().clone() else { break };
                let Some(policy) = self.policy.load_full() else { break };
                let ack = Acknowledgement { sidecar: self.sidecar.clone(), last };
                let Err(error) = self.calls.acknowledge(&policy, &ack).await else { break };
                log::warn("cannot acknowledge", &[("event", &ack.last), ("error", &error)]);
                sleep(ACK_AGAIN).await;
            }
        }
    }
}
