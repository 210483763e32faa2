//! Connections to the app on this machine, one small pool per worker.

use std::cell::RefCell;
use std::future::{Future as _, poll_fn};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use cloakroom_protocol::sidecar_config::AppProtocol;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;

use crate::config::Policy;
use crate::http1::reply_head::InvalidReply;
use crate::http2::grpc::channels;
use crate::http2::translation;
use crate::worker::Worker;
use crate::worker::deadlines::Deadline;

#[derive(Debug, Clone, thiserror::Error)]
pub enum UpstreamError {
    #[error("the app does not accept connections: {0}")]
    Connect(io::ErrorKind),
    #[error("the app closed the connection without an answer")]
    Closed,
    #[error("the app closed the connection inside its answer's head")]
    CutOff,
    #[error("the connection to the app failed: {0}")]
    Io(io::ErrorKind),
    #[error("the app's answer is not one: {0}")]
    Invalid(#[from] InvalidReply),
    #[error("the app did not answer in time")]
    TimedOut,
}

impl UpstreamError {
    /// Closed, after these bytes of an answer.
    pub fn closed_after(answer: &[u8]) -> Self {
        if answer.is_empty() { Self::Closed } else { Self::CutOff }
    }
}

impl From<io::Error> for UpstreamError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut => Self::TimedOut,
            kind => Self::Io(kind),
        }
    }
}

/// A connection, and whether an answer has come over it before.
pub struct Upstream {
    pub stream: TcpStream,
    pub reused: bool,
}

#[derive(Default)]
pub struct Pool {
    idle: RefCell<Vec<Idle>>,
}

struct Idle {
    stream: TcpStream,
    port: u16,
    /// Milliseconds on the worker's clock.
    since: u64,
}

/// Apps close idle connections themselves, common servers after 5 s and more: we are a little earlier.
const MAX_IDLE_MILLIS: u64 = 4_000;
const FRESH_MILLIS: u64 = 1_000;
const MAX_IDLE: usize = 256;

impl Pool {
    /// An idle connection that still looks alive.
    pub fn take(&self, port: u16, retriable: bool, now: u64) -> Option<Upstream> {
        // Where a dead connection cannot be made good by another try, only one that was in use just now will do.
        let max_idle = if retriable { MAX_IDLE_MILLIS } else { FRESH_MILLIS };
        let mut idle = self.idle.borrow_mut();
        while let Some(at) =
            idle.iter().rposition(|entry| entry.port == port && now.saturating_sub(entry.since) <= max_idle)
        {
            let mut stream = idle.swap_remove(at).stream;
            if is_quiet(&mut stream) {
                return Some(Upstream { stream, reused: true });
            }
        }
        None
    }

    pub fn give_back(&self, stream: TcpStream, port: u16, now: u64) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < MAX_IDLE {
            idle.push(Idle { stream, port, since: now });
        }
    }

    pub fn sweep(&self, now: u64) {
        self.idle.borrow_mut().retain(|entry| now.saturating_sub(entry.since) < MAX_IDLE_MILLIS);
    }

    pub fn clear(&self) {
        self.idle.borrow_mut().clear();
    }
}

/// Neither closed nor saying anything: an answer without a request would be taken for the next one's. Costs a system call only if
/// something has happened on the connection.
fn is_quiet(stream: &mut TcpStream) -> bool {
    let mut byte = [0];
    let mut context = Context::from_waker(Waker::noop());
    matches!(Pin::new(stream).poll_read(&mut context, &mut ReadBuf::new(&mut byte)), Poll::Pending)
}

/// A connection for one request: one that was used before, if there is one.
pub async fn open(
    worker: &Rc<Worker>,
    port: u16,
    policy: &Policy,
    retriable: bool,
    deadline: &Deadline,
) -> Result<Upstream, UpstreamError> {
    if policy.app_protocol == AppProtocol::H2c {
        // What it leads to may have been in use for long, and end at any time.
        return Ok(Upstream { reused: true, ..fresh(worker, port, policy, deadline).await? });
    }
    match worker.pool.take(port, retriable, worker.deadlines.now()) {
        Some(upstream) => Ok(upstream),
        None => fresh(worker, port, policy, deadline).await,
    }
}

/// A new one, in what the app speaks.
pub async fn fresh(
    worker: &Rc<Worker>,
    port: u16,
    policy: &Policy,
    deadline: &Deadline,
) -> Result<Upstream, UpstreamError> {
    match policy.app_protocol {
        AppProtocol::Http => connect(port, deadline).await,
        AppProtocol::H2c => {
            let place = Box::pin(channels::place(worker, port, deadline, policy.limits.idle_timeout)).await?;
            Ok(Upstream { stream: translation::open(worker, place)?, reused: false })
        }
    }
}

/// To localhost; IPv6 where nothing listens on IPv4. An app whose queue is full lets nobody in and refuses nobody: the kernel alone would
/// try for minutes.
pub async fn connect(port: u16, deadline: &Deadline) -> Result<Upstream, UpstreamError> {
    let stream = match within(deadline, SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            within(deadline, SocketAddr::from((Ipv6Addr::LOCALHOST, port))).await
        }
        other => other,
    };
    let stream = stream.map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut => UpstreamError::TimedOut,
        kind => UpstreamError::Connect(kind),
    })?;
    // A head and a body in two writes must not wait for each other's acknowledgement.
    stream.set_nodelay(true).map_err(|error| UpstreamError::Connect(error.kind()))?;
    Ok(Upstream { stream, reused: false })
}

async fn within(deadline: &Deadline, address: SocketAddr) -> io::Result<TcpStream> {
    let mut connecting = pin!(TcpStream::connect(address));
    poll_fn(|cx| {
        let connected = connecting.as_mut().poll(cx);
        if connected.is_pending() {
            deadline.watch(cx);
            if deadline.has_passed() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        connected
    })
    .await
}
