//! HTTP/2 from the client's side (with prior knowledge, or agreed on under TLS): framing by hyper, the way of a request as for HTTP/1. gRPC calls go on as
//! HTTP/2, everything else as HTTP/1.1, which is [translated](translation) for an app that speaks HTTP/2 only.

pub mod app_body;
pub mod body;
pub mod frames;
pub mod grpc;
pub mod head;
pub mod kept;
pub mod plain;
pub mod rewind;
pub mod translation;
pub mod web_socket;

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::task::Poll;
use std::time::Instant;

use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use crate::authority::Exchanged;
use crate::clock::HttpDate;
use crate::http1::Connection;
use crate::http1::buffer::Lent;
use crate::local_response::LocalResponse;
use crate::metrics::Cut;
use crate::request::ending::turn_away;
use crate::request::forward::Peer;
use crate::request::gate::{Forwarding, Gate, Reading, Step};
use crate::request::head::Protocol;
use crate::request::rescue::Failure;
use crate::worker::Worker;
use app_body::Timed;
use body::ReplyBody;
pub use grpc::channels::Channels;
use kept::{Counted, Kept};
use rewind::Rewind;

/// Requests at a time on one connection; also what a connection can make the app bear.
const MAX_STREAMS: u32 = 100;
/// Streams a client may reset before they were looked at (CVE-2023-44487), and we because of its errors (CVE-2025-8671).
const MAX_RESETS: usize = 32;
/// What a client may send ahead of the app's reading it.
const STREAM_WINDOW: u32 = 32 << 10;
const CONNECTION_WINDOW: u32 = 256 << 10;
/// Per stream, not yet taken by the client.
const SEND_BUFFER: usize = 32 << 10;
/// The protocol's smallest: larger ones would only be held longer. So long is a piece of an answer at the most.
const FRAME: u32 = 16 << 10;
/// HPACK's table, per connection and direction.
const HEADER_TABLE: u32 = 4 << 10;
/// hyper's state of a connection without streams, measured generously.
const CONNECTION: usize = 8 << 10;
/// Of one connection, and not taken by its client when even refusing has used up the room for that.
const REFUSALS: usize = 4;

/// What the streams of one connection share.
pub struct Session {
    pub worker: Rc<Worker>,
    pub peer: Peer,
    pub app_port: u16,
    /// Streams that are open, or whose answers have not left.
    streams: Cell<usize>,
    /// Of these, refused for want of room.
    refused: Cell<usize>,
    /// Of these, tunnels, which have a time-out of their own.
    tunnels: Cell<usize>,
    /// When anything last moved on any stream, in milliseconds on the worker's clock.
    moved: Cell<u64>,
    /// The streams' deadlines.
    timed: RefCell<Vec<Weak<Timed>>>,
    /// Answers of which hyper has all, until it has written what can be written.
    leaving: RefCell<Vec<Rc<Kept>>>,
    /// The client takes nothing at the moment.
    blocked: Cell<bool>,
    /// While there is no room, something was read in this turn.
    has_read: Cell<bool>,
    /// There is no room left for what this client adds, not even for refusals that it does not take.
    doomed: Cell<bool>,
    over: Cell<bool>,
    _lent: Lent,
}

impl Session {
    /// Counts a request as soon as there is one: many may have come at once.
    fn admit(self: &Rc<Self>, request: &http::Request<Incoming>) -> Counted {
        let buffers = &self.worker.buffers;
        if !buffers.is_short() {
            return Counted::new(self, request);
        }
        if buffers.is_exhausted() && self.refused.get() >= REFUSALS {
            self.doomed.set(true);
        }
        Counted::refused(self)
    }

    fn progress(&self) {
        self.moved.set(self.worker.deadlines.now());
    }

    fn watch(&self, timed: &Rc<Timed>) {
        let mut all = self.timed.borrow_mut();
        if all.len() >= 2 * MAX_STREAMS as usize {
            all.retain(|timed| timed.strong_count() > 0);
        }
        all.push(Rc::downgrade(timed));
    }

    /// There is an answer that the client has not taken for too long, though it may take others.
    fn has_stalled(&self) -> bool {
        const PATIENCE_MILLIS: u64 = 1_000;
        let deadlines = &self.worker.deadlines;
        let all = self.timed.borrow();
        all.iter().filter_map(Weak::upgrade).any(|timed| timed.deadline().overdue(deadlines) > PATIENCE_MILLIS)
    }

    /// For how many milliseconds nothing has moved on any stream.
    fn quiet_for(&self) -> u64 {
        self.worker.deadlines.now().saturating_sub(self.moved.get())
    }

    /// Clients that take nothing have hyper wait without end, and the apps with it. What waits for an app has a time-out of its own.
    fn stands_still(&self, seconds: u64) -> bool {
        let streams = self.timed.borrow();
        let allowances = streams.iter().filter_map(Weak::upgrade).map(|timed| timed.deadline().allowance());
        let longest = allowances.fold(seconds * 1000, u64::max);
        self.tunnels.get() == 0 && self.quiet_for() > 2 * longest
    }
}

pub type Response = http::Response<ReplyBody>;

/// `read`: the bytes by which the connection was recognised.
pub async fn serve(connection: &mut Connection, read: Vec<u8>) {
    // hyper counts more for each field than we do (RFC 9113 §6.5.2), and refuses without a word of why.
    let held_head = 2 * connection.head_limit();
    let session = Rc::new(Session {
        worker: Rc::clone(&connection.worker),
        peer: connection.peer.clone(),
        app_port: connection.app_port,
        streams: Cell::new(0),
        tunnels: Cell::new(0),
        moved: Cell::new(connection.worker.deadlines.now()),
        timed: RefCell::default(),
        refused: Cell::new(0),
        leaving: RefCell::default(),
        blocked: Cell::new(false),
        has_read: Cell::new(false),
        doomed: Cell::new(false),
        over: Cell::new(false),
        _lent: connection.worker.buffers.lend(CONNECTION),
    });
    let (idle_seconds, patience) = (connection.idle_seconds(), connection.patience());
    let Connection { stream, worker, deadline, .. } = connection;
    let service = {
        let session = Rc::clone(&session);
        // Boxed, so that a stream whose answer is not taken holds the answer, and not the room that making it took.
        service_fn(move |request: http::Request<Incoming>| {
            let counted = session.admit(&request);
            Box::pin(answer(Rc::clone(&session), counted, request))
        })
    };
    let io = TokioIo::new(Rewind::new(read, stream, held_head, Rc::clone(&session)));
    let mut builder = http2::Builder::new(LocalExecutor);
    builder
        .max_concurrent_streams(MAX_STREAMS)
        .max_pending_accept_reset_streams(MAX_RESETS)
        .max_local_error_reset_streams(MAX_RESETS)
        .max_header_list_size(u32::try_from(held_head).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER - FRAME as usize)
        .max_frame_size(FRAME)
        .header_table_size(HEADER_TABLE)
        .enable_connect_protocol()
        .auto_date_header(false);
    let mut serving = pin!(builder.serve_connection(io, service));
    deadline.allow(&worker.deadlines, patience);
    let mut leaving = false;
    poll_fn(|cx| {
        // Where others are refused for want of room, this one does not keep what it has without taking it.
        if worker.buffers.is_short() && session.has_stalled() {
            worker.shed();
            return Poll::Ready(());
        }
        let idle = session.streams.get() == 0 && session.quiet_for() >= patience * 1000;
        // GOAWAY: what was begun is finished, nothing new is taken.
        if !leaving && (worker.is_leaving() || (deadline.has_passed() && idle)) {
            leaving = true;
            serving.as_mut().graceful_shutdown();
            deadline.allow(&worker.deadlines, idle_seconds);
        } else if deadline.has_passed() {
            if leaving && session.streams.get() == 0 || session.stands_still(idle_seconds) {
                return Poll::Ready(());
            }
            // What is left of the time since something moved, or all of it for the streams that are open.
            let left = (patience * 1000).saturating_sub(session.quiet_for()).div_ceil(1000);
            let open = leaving || session.streams.get() > 0;
            deadline.allow(&worker.deadlines, if open { idle_seconds } else { left });
        }
        session.has_read.set(false);
        let polled = serving.as_mut().poll(cx).map(|_| ());
        if session.doomed.get() {
            worker.shed();
            return Poll::Ready(());
        }
        if !session.blocked.get() {
            session.leaving.borrow_mut().clear();
        }
        polled
    })
    .await;
    session.over.set(true);
    session.leaving.take();
}

/// Spawns on this worker's thread.
#[derive(Clone, Copy)]
pub struct LocalExecutor;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}

/// Where a client goes away before there is an answer, hyper drops whoever makes it.
struct Awaited<'r> {
    session: &'r Session,
    forwarding: &'r Forwarding,
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        if !self.forwarding.is_answered() {
            self.forwarding.cut(&self.session.worker, &self.session.peer, Cut::ClientGone);
        }
    }
}

async fn answer(
    session: Rc<Session>,
    counted: Counted,
    request: http::Request<Incoming>,
) -> Result<Response, Infallible> {
    let (mut parts, body) = request.into_parts();
    session.progress();
    head::join_cookies(&mut parts.headers);
    let switching = parts.extensions.remove::<OnUpgrade>();
    let response = if counted.is_refused() {
        local(turn_away(&session.worker, &session.peer, &Failure::NoRoom), &parts.method, session.worker.now())
    } else {
        route(&session, &parts, body, switching).await
    };
    Ok(response.map(|body| body.counted(counted)))
}

async fn route(
    session: &Rc<Session>,
    parts: &http::request::Parts,
    body: Incoming,
    switching: Option<OnUpgrade>,
) -> Response {
    let worker = &session.worker;
    let Some(policy) = worker.policy() else {
        return local(turn_away(worker, &session.peer, &Failure::NoPolicy), &parts.method, worker.now());
    };
    let key = web_socket::key(parts, worker);
    let mut answer: Option<Result<Exchanged, _>> = None;
    let began = Instant::now();
    loop {
        let gate = Gate { worker, peer: &session.peer, policy: &policy };
        let step = match head::read(parts, &body, &policy, key.as_deref()) {
            Ok(message) => {
                let reading = Reading {
                    head_length: 0,
                    framing: message.framing,
                    keep_alive: true,
                    to_head: parts.method == http::Method::HEAD,
                    protocol: Protocol::Http2,
                    began,
                };
                gate.step(&message.head(), reading, answer.take())
            }
            Err(unreadable) => gate.unread(unreadable.into()),
        };
        match step {
            Step::Ask(token, outage) => answer = Some(worker.runtime.authority.exchange(&token, outage).await),
            Step::Own(head, token, reading) => {
                let response = worker.runtime.authority.own_path(&head, session.app_port, token).await;
                return local(gate.answer_own(&head, reading, response), &parts.method, worker.now());
            }
            Step::Refuse(refused) => return local(gate.settle(&refused).await, &parts.method, worker.now()),
            Step::Forward(forwarding) => {
                let forwarding = Rc::new(forwarding);
                let _awaited = Awaited { session, forwarding: &forwarding };
                let answered = match switching {
                    Some(switching) if forwarding.upgrade => web_socket::open(session, &forwarding, switching).await,
                    _ if forwarding.is_call() => grpc::forward(session, &forwarding, body).await,
                    _ => plain::forward(session, &forwarding, body).await,
                };
                return match answered {
                    Ok(response) => response,
                    Err(failure) => local(gate.fail(&forwarding, &failure).await, &parts.method, worker.now()),
                };
            }
        }
    }
}

/// `now`: Unix seconds.
fn local(response: LocalResponse, method: &http::Method, now: u64) -> Response {
    let LocalResponse { status, mut headers, mut body, .. } = response;
    // RFC 9110 §9.3.2: all but the content, whose length is said nevertheless.
    if *method == http::Method::HEAD && !body.is_empty() {
        headers.insert(http::header::CONTENT_LENGTH, body.len().into());
        body.clear();
    }
    date(&mut headers, now);
    let mut answer = http::Response::new(ReplyBody::whole(body));
    *answer.status_mut() = status;
    *answer.headers_mut() = headers;
    answer
}

/// Says when, where the app does not (RFC 9110 §6.6.1). `now`: Unix seconds.
fn date(headers: &mut http::HeaderMap, now: u64) {
    if !headers.contains_key(http::header::DATE)
        && let Ok(date) = http::HeaderValue::try_from(HttpDate(now).to_string())
    {
        headers.insert(http::header::DATE, date);
    }
}
