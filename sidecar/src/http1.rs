//! HTTP/1.x from the client's side: one task per connection, and no buffer while nothing is going on.

pub mod buffer;
pub mod chunked;
pub mod exchange;
pub mod handshake;
pub mod io;
pub mod local;
pub mod relay;
pub mod reply_head;
pub mod request_body;
pub mod request_head;
pub mod target;
pub mod unreadable;

use std::future::poll_fn;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::rc::Rc;
use std::task::Poll;

use tokio::net::TcpStream;

use crate::client_stream::ClientStream;
use crate::http2;
use crate::request::forward::Peer;
use crate::request::rescue::Failure;
use crate::worker::Worker;
use crate::worker::deadlines::Deadline;
use buffer::Buffer;
use exchange::{Ending, Exchange};
use unreadable::Unreadable;

/// A client's connection.
pub struct Connection {
    pub stream: ClientStream,
    pub peer: Peer,
    /// The port that this listener protects.
    pub app_port: u16,
    pub worker: Rc<Worker>,
    pub deadline: Deadline,
    /// A request came over it, so that it will not turn out to be HTTP/2.
    spoke_http1: bool,
    alpn: Alpn,
    /// Accepted while the worker was draining already.
    late: bool,
    /// What came since the time for it began to run was not the beginning of a request.
    fruitless: bool,
}

/// What was agreed on while TLS began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alpn {
    /// Nothing: the client's first bytes decide.
    Nothing,
    Http1,
    Http2,
}

/// Before any policy says otherwise.
pub const DEFAULT_IDLE_SECONDS: u64 = 60;
/// What a connection holds beside its buffers while something is going on, measured generously.
const ACTIVE: usize = 10 << 10;
const CROWDED_SECONDS: u64 = 5;
const DEFAULT_HEAD_BYTES: usize = 32 << 10;

const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub async fn serve(socket: TcpStream, peer: IpAddr, app_port: u16, worker: Rc<Worker>) {
    let Some(stream) = handshake::stream(socket, &worker) else { return };
    let deadline = worker.deadlines.register();
    let late = worker.is_draining();
    let mut connection = Connection {
        stream,
        peer: Peer::new(peer),
        app_port,
        worker,
        deadline,
        spoke_http1: false,
        alpn: Alpn::Nothing,
        late,
        fruitless: false,
    };
    connection.worker.open.set(connection.worker.open.get() + 1);
    connection.worker.runtime.metrics.connections.inc();
    poll_fn(|cx| {
        connection.deadline.watch(cx);
        Poll::Ready(())
    })
    .await;
    // Boxed like everything that a connection which waits has no need of.
    if !connection.stream.is_tls() || Box::pin(connection.shake_hands(peer)).await {
        connection.run().await;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.worker.deadlines.forget(&self.deadline);
        self.worker.open.set(self.worker.open.get() - 1);
        if self.worker.is_draining() && !self.late {
            self.worker.early.set(self.worker.early.get() - 1);
        }
        self.worker.runtime.metrics.connections.dec();
    }
}

/// What follows a time of activity.
enum Next {
    Idle,
    Close,
}

impl Connection {
    async fn run(&mut self) {
        while self.wait().await {
            if self.worker.buffers.is_short() {
                self.shed();
                return;
            }
            let _lent = self.worker.buffers.lend(ACTIVE);
            // Boxed, so that an idle connection does not carry the room that a request needs.
            match Box::pin(self.active()).await {
                Next::Idle => {}
                Next::Close => return,
            }
        }
        self.stream.part();
    }

    /// Where nothing is left to hold, not even the little that a proper refusal takes.
    fn shed(&mut self) {
        self.worker.shed();
        self.stream.discard_unread();
        self.stream.say_at_once(
            b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        );
    }

    /// Until the client says something; false: it never will.
    async fn wait(&mut self) -> bool {
        // Neither parts of a record nor empty lines buy time.
        let fruitless = std::mem::take(&mut self.fruitless);
        if !fruitless {
            self.deadline.allow(&self.worker.deadlines, self.patience());
        }
        let Self { stream, worker, deadline, spoke_http1, late, .. } = self;
        poll_fn(|cx| match stream.poll_read_ready(cx) {
            Poll::Ready(_) if fruitless && deadline.has_passed() => Poll::Ready(false),
            Poll::Ready(ready) => Poll::Ready(ready.is_ok()),
            Poll::Pending if !worker.is_worth_waiting(*spoke_http1, *late) || deadline.has_passed() => {
                Poll::Ready(false)
            }
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    /// The next request often follows at once, and finds everything at hand.
    async fn wait_a_moment(&mut self) -> bool {
        self.deadline.allow(&self.worker.deadlines, 0);
        let Self { stream, worker, deadline, .. } = self;
        poll_fn(|cx| match stream.poll_read_ready(cx) {
            Poll::Ready(_) => Poll::Ready(true),
            Poll::Pending if worker.is_leaving() || deadline.has_passed() => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    async fn active(&mut self) -> Next {
        if self.alpn == Alpn::Http2 {
            http2::serve(self, Vec::new()).await;
            return Next::Close;
        }
        let mut input = Buffer::default();
        let mut output = self.worker.buffers.text();
        let next = self.requests(&mut input, &mut output).await;
        self.worker.buffers.give_back(input);
        self.worker.buffers.give_back_text(output);
        next
    }

    /// One request after the other, as long as there are bytes of a next one.
    async fn requests(&mut self, input: &mut Buffer, output: &mut Vec<u8>) -> Next {
        let mut served = false;
        loop {
            match self.read_head(input, served).await {
                Head::Complete => {}
                Head::Nothing => {
                    self.fruitless = !served;
                    return Next::Idle;
                }
                Head::Gone => return Next::Close,
                Head::Http2 => {
                    let read = input.filled().to_vec();
                    input.clear();
                    input.release(&self.worker.buffers);
                    http2::serve(self, read).await;
                    return Next::Close;
                }
                Head::Unreadable(unreadable) => {
                    self.refuse(&unreadable.into(), input, output).await;
                    return Next::Close;
                }
                Head::NoRoom => {
                    self.refuse(&Failure::NoRoom, input, output).await;
                    return Next::Close;
                }
            }
            self.spoke_http1 = true;
            output.clear();
            match Exchange::new(self, input, output).run().await {
                Ending::KeepAlive if input.is_empty() && !self.wait_a_moment().await => return Next::Idle,
                Ending::KeepAlive => served = true,
                Ending::Linger => {
                    self.linger(input).await;
                    return Next::Close;
                }
                Ending::Cut => return Next::Close,
            }
        }
    }

    /// Reads until the head is whole; whether it is a good one is judged later. `served`: the time that runs is not yet the next request's.
    async fn read_head(&mut self, input: &mut Buffer, served: bool) -> Head {
        let limit = self.head_limit();
        let mut searched = 0;
        let mut timed = false;
        loop {
            while input.filled().starts_with(b"\r\n") {
                // RFC 9112 §2.2: an empty line before a request is to be overlooked.
                input.consume(2);
                searched = 0;
            }
            let filled = input.filled();
            if !self.spoke_http1 && self.alpn == Alpn::Nothing && may_be_http2(filled) {
                if filled.len() >= HTTP2_PREFACE.len() {
                    return Head::Http2;
                }
            } else if has_end(filled, searched) {
                return Head::Complete;
            } else if filled.len() >= limit {
                return Head::Unreadable(too_large(filled, limit));
            } else if searched == 0 && !filled.is_empty() && is_hopeless(filled) {
                // What can never become a request need not be waited for; judged once, or a slow sender could have it judged again and
                // again.
                return Head::Complete;
            }
            searched = filled.len();
            let names_http2 = request_head::names_http2(filled);
            // Half of an empty line is not the beginning of a request.
            let begun = searched > 0 && (served || filled[0] != b'\r');
            if searched > 0 && self.worker.buffers.is_short() {
                return Head::NoRoom;
            }
            if input.is_full() {
                input.grow(limit + buffer::SMALL, &self.worker.buffers);
            }
            if begun && !timed {
                timed = true;
                self.deadline.allow(&self.worker.deadlines, self.idle_seconds());
            }
            let Self { stream, worker, deadline, .. } = &mut *self;
            let read = poll_fn(|cx| match input.poll_fill_from_pool(cx, stream, &worker.buffers) {
                Poll::Pending if searched > 0 && deadline.has_passed() => Poll::Ready(Err(ErrorKind::TimedOut.into())),
                // Nothing there after all: wait without a buffer.
                Poll::Pending if searched == 0 => Poll::Ready(Err(ErrorKind::WouldBlock.into())),
                Poll::Pending => {
                    input.park(&worker.buffers);
                    Poll::Pending
                }
                read @ Poll::Ready(_) => read,
            })
            .await;
            match read {
                Ok(0) if searched == 0 => return Head::Gone,
                // What it is, is seen where heads are read, and needs no answer.
                Ok(0) if names_http2 => return Head::Complete,
                Ok(0) => return Head::Unreadable(Unreadable::CutOff),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Head::Nothing,
                Err(error) if error.kind() == ErrorKind::TimedOut && names_http2 => return Head::Complete,
                Err(error) if error.kind() == ErrorKind::TimedOut && searched > 0 => {
                    return Head::Unreadable(Unreadable::TimedOut);
                }
                Err(_) => return Head::Gone,
            }
        }
    }

    /// Whoever says nothing goes first where there are almost too many.
    pub(crate) fn patience(&self) -> u64 {
        let seconds = self.idle_seconds();
        if self.worker.is_crowded() { seconds.min(CROWDED_SECONDS) } else { seconds }
    }

    pub(crate) fn idle_seconds(&self) -> u64 {
        self.worker.policy().map_or(DEFAULT_IDLE_SECONDS, |policy| policy.limits.idle_timeout)
    }

    pub(crate) fn head_limit(&self) -> usize {
        self.worker.policy().map_or(DEFAULT_HEAD_BYTES, |policy| {
            usize::try_from(policy.limits.request_headers).unwrap_or(DEFAULT_HEAD_BYTES)
        })
    }
}

enum Head {
    /// A whole head, or bytes that will never be one.
    Complete,
    Nothing,
    Gone,
    Http2,
    Unreadable(Unreadable),
    NoRoom,
}

/// Whether an empty line ends the head; looks only at what is new.
fn has_end(filled: &[u8], searched: usize) -> bool {
    let from = searched.saturating_sub(3);
    memchr::memchr_iter(b'\n', &filled[from..])
        .any(|at| matches!(&filled[from + at + 1..], [b'\n', ..] | [b'\r', b'\n', ..]))
}

/// Begins as HTTP/2 does, as far as it goes; no HTTP/1 request has that much in common with it.
fn may_be_http2(filled: &[u8]) -> bool {
    let common = filled.len().min(HTTP2_PREFACE.len());
    common > 0 && filled[..common] == HTTP2_PREFACE[..common]
}

/// Which part of the head it is that is too large.
fn too_large(filled: &[u8], limit: usize) -> Unreadable {
    let line_ends = memchr::memchr(b'\n', filled).is_some_and(|at| at < limit);
    if line_ends { Unreadable::HeadTooLarge } else { Unreadable::TargetTooLong }
}

fn is_hopeless(filled: &[u8]) -> bool {
    request_head::parse(filled, &mut request_head::field_store()).is_err()
}
