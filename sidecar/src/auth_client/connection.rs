//! One HTTP/2 connection to one replica of the auth service, made again whenever it is lost.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::rt::{Read, Write};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rand::{CryptoRng, RngExt as _};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::endpoint::Endpoint;
use crate::log;
use crate::metrics::Metrics;

pub type Sender = SendRequest<Full<Bytes>>;

/// TCP, TLS and HTTP/2 together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A peer that is gone without a word: heartbeats come every second, so silence for this long is asked about, and no answer is the end.
const PING_AFTER: Duration = Duration::from_secs(2);
const PING_TIMEOUT: Duration = Duration::from_secs(2);
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const MAX_BACKOFF: Duration = Duration::from_secs(1);
/// What was under way on a connection that takes no more requests may finish.
const LINGER: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub enum State {
    /// No config yet.
    Idle,
    Connecting,
    Up(Sender, Generation),
    /// Every address failed; tried again after a pause.
    Down(Arc<str>),
}

/// Counts connections, so that a failure is blamed on the one it happened on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generation(u64);

#[derive(Debug, thiserror::Error)]
enum ConnectError {
    #[error("timed out")]
    Timeout,
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("the auth service does not speak HTTP/2")]
    NotHttp2,
    #[error(transparent)]
    Http(#[from] hyper::Error),
}

/// What callers hold.
#[derive(Clone)]
pub struct Connection {
    state: watch::Receiver<State>,
    worn: mpsc::UnboundedSender<Generation>,
}

/// What keeps it connected.
pub struct Keeper {
    state: watch::Sender<State>,
    worn: mpsc::UnboundedReceiver<Generation>,
    generation: u64,
}

pub fn connection() -> (Connection, Keeper) {
    let (state, observed) = watch::channel(State::Idle);
    let (tell, worn) = mpsc::unbounded_channel();
    (Connection { state: observed, worn: tell }, Keeper { state, worn, generation: 0 })
}

impl Connection {
    /// The connection, or the one being made; an error at once while there is none to be had.
    pub async fn get(&mut self) -> Result<(Sender, Generation), Arc<str>> {
        loop {
            match &*self.state.borrow_and_update() {
                State::Up(sender, generation) => return Ok((sender.clone(), *generation)),
                State::Down(reason) => return Err(reason.clone()),
                // Who calls has a policy, so it will be connecting in a moment.
                State::Idle | State::Connecting => {}
            }
            if self.state.changed().await.is_err() {
                return Err("shutting down".into());
            }
        }
    }

    /// This one takes no more requests, or is not worth any: another is made.
    pub fn is_worn(&self, generation: Generation) {
        // Without a keeper the process is ending.
        let _ = self.worn.send(generation);
    }

    /// Waits until another one took its place, or none could be had.
    pub async fn replaced(&mut self, generation: Generation) {
        let other = |state: &State| !matches!(state, State::Up(_, current) if *current == generation);
        // Whoever asks next finds out what came of it.
        let _ = self.state.wait_for(other).await;
    }

    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }
}

impl Keeper {
    /// Runs for as long as the process does.
    pub async fn run(
        mut self,
        mut target: watch::Receiver<Option<Endpoint>>,
        metrics: &Metrics,
        rng: &mut impl CryptoRng,
    ) {
        let mut at: usize = rng.random_range(0..1 << 16);
        let mut backoff = FIRST_BACKOFF;
        let mut failed = 0;
        loop {
            let Some(endpoint) = target.borrow_and_update().clone() else {
                if target.changed().await.is_err() {
                    return;
                }
                continue;
            };
            // Once every address has failed nobody waits for the next attempt, until one succeeds.
            if failed == 0 {
                self.state.send_replace(State::Connecting);
            }
            let address = endpoint.addresses[at % endpoint.addresses.len()];
            match timeout(CONNECT_TIMEOUT, connect(&endpoint, address)).await.unwrap_or(Err(ConnectError::Timeout)) {
                Ok((sender, driver)) => {
                    log::info("connected to the auth service", &[("address", &address)]);
                    metrics.connects.inc();
                    (failed, backoff) = (0, FIRST_BACKOFF);
                    self.hold(sender, driver, &endpoint, &mut target).await;
                    // Next time elsewhere, if there is an elsewhere.
                    at = at.wrapping_add(1);
                }
                Err(error) => {
                    // An outage is one line, however long it lasts.
                    let say = if failed == 0 { log::warn } else { log::debug };
                    say("cannot connect to the auth service", &[("address", &address), ("error", &error)]);
                    metrics.connect_failures.inc();
                    at = at.wrapping_add(1);
                    failed += 1;
                    if failed % endpoint.addresses.len() == 0 {
                        self.state.send_replace(State::Down(format!("{address}: {error}").into()));
                        let pause = backoff.mul_f64(rng.random_range(0.5..1.0));
                        backoff = (backoff * 2).min(MAX_BACKOFF);
                        tokio::select! {
                            () = sleep(pause) => {}
                            _ = target.changed() => {}
                        }
                    }
                }
            }
        }
    }

    /// Until it ends, wears out, or the auth service is elsewhere.
    async fn hold(
        &mut self,
        sender: Sender,
        mut driver: tokio::task::JoinHandle<()>,
        endpoint: &Endpoint,
        target: &mut watch::Receiver<Option<Endpoint>>,
    ) {
        self.generation += 1;
        let generation = Generation(self.generation);
        self.state.send_replace(State::Up(sender, generation));
        loop {
            tokio::select! {
                _ = &mut driver => return,
                worn = self.worn.recv() => if worn.is_none_or(|worn| worn == generation) { break },
                changed = target.changed() => {
                    let same = target.borrow().as_ref().is_some_and(|new| new.same_target(endpoint));
                    if changed.is_err() || !same { break }
                }
            }
        }
        tokio::spawn(async move {
            if timeout(LINGER, &mut driver).await.is_err() {
                driver.abort();
            }
        });
    }
}

async fn connect(
    endpoint: &Endpoint,
    address: SocketAddr,
) -> Result<(Sender, tokio::task::JoinHandle<()>), ConnectError> {
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    let Some(tls) = &endpoint.tls else { return handshake(TokioIo::new(tcp)).await };
    let connector = tokio_rustls::TlsConnector::from(tls.config.clone());
    let stream = connector.connect(tls.server_name.clone(), tcp).await?;
    if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
        return Err(ConnectError::NotHttp2);
    }
    handshake(TokioIo::new(stream)).await
}

async fn handshake<T>(io: T) -> Result<(Sender, tokio::task::JoinHandle<()>), ConnectError>
where
    T: Read + Write + Unpin + Send + 'static,
{
    let (sender, driver) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_AFTER)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(1 << 18)
        .initial_connection_window_size(1 << 20)
        .handshake(io)
        .await?;
    let driver = tokio::spawn(async move {
        if let Err(error) = driver.await {
            log::info("connection to the auth service ended", &[("error", &error)]);
        }
    });
    Ok((sender, driver))
}
