//! What clients hold open through whole sidecars, before an app that lets everything wait, and when it ends.

use std::convert::Infallible;
use std::future::ready;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use cloakroom_protocol::token::OpaqueToken;
use cloakroom_sidecar::auth_client::workload_token::TokenSource;
use cloakroom_sidecar::listen::Listen;
use cloakroom_sidecar::start::{ConfigSource, Options, Running, Sidecar};
use futures::StreamExt as _;
use futures::stream::{once, pending};
use http::{Request, Response};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::service::{Deployment, within};

/// What is held open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    EventStream,
    WebSocket,
    /// gRPC, both ways, answered.
    Call,
    /// A request that the app does not answer.
    LongPoll,
    /// One of which more comes all the time.
    Upload,
}

impl Kind {
    pub const ALL: [Self; 5] = [Self::EventStream, Self::WebSocket, Self::Call, Self::LongPoll, Self::Upload];

    /// Ends as soon as its sidecar hears; the others have a second more, since they may be about to end by themselves.
    pub fn streams(self) -> bool {
        matches!(self, Self::EventStream | Self::WebSocket | Self::Call)
    }
}

/// Begins every answer that it gives, and ends none.
pub struct WaitingApp {
    plain: u16,
    calls: u16,
    /// A permit for each request that has come.
    asked: Arc<Semaphore>,
    serving: [JoinHandle<()>; 2],
}

impl WaitingApp {
    pub async fn start() -> Result<Self> {
        let (plain, calls) = (TcpListener::bind("127.0.0.1:0").await?, TcpListener::bind("127.0.0.1:0").await?);
        let ports = (plain.local_addr()?.port(), calls.local_addr()?.port());
        let asked = Arc::new(Semaphore::new(0));
        let told = Arc::clone(&asked);
        let plain = tokio::spawn(async move {
            while let Ok((stream, _)) = plain.accept().await {
                tokio::spawn(wait(stream, Arc::clone(&told)));
            }
        });
        let calls = tokio::spawn(async move {
            while let Ok((stream, _)) = calls.accept().await {
                let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(builder.serve_connection(TokioIo::new(stream), service_fn(take_call)));
            }
        });
        Ok(Self { plain: ports.0, calls: ports.1, asked, serving: [plain, calls] })
    }
}

impl Drop for WaitingApp {
    fn drop(&mut self) {
        for serving in &self.serving {
            serving.abort();
        }
    }
}

async fn wait(mut stream: TcpStream, asked: Arc<Semaphore>) -> Result<()> {
    let head = read_head(&mut stream).await?;
    asked.add_permits(1);
    if head.starts_with("GET /events ") {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n").await?;
    } else if head.starts_with("GET /socket ") {
        stream
            .write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
            .await?;
    }
    let mut taken = [0; 4096];
    while stream.read(&mut taken).await? > 0 {}
    Ok(())
}

type Message = Result<Frame<Bytes>, Infallible>;

async fn take_call(_: Request<Incoming>) -> Result<Response<StreamBody<impl futures::Stream<Item = Message>>>> {
    let begun = Frame::data(Bytes::from_static(&[0; 5]));
    let body = StreamBody::new(once(ready(Ok(begun))).chain(pending()));
    Ok(Response::builder().header("content-type", "application/grpc").body(body)?)
}

/// A sidecar with its data plane.
pub struct Protected {
    plain: SocketAddr,
    calls: SocketAddr,
    asked: Arc<Semaphore>,
    running: Running,
}

impl Deployment {
    /// Once it has a lease.
    pub async fn protect(&self, pod: &str, addresses: &[SocketAddr], app: &WaitingApp) -> Result<Protected> {
        let config = serde_json::from_value(Self::sidecar_config(addresses)?)?;
        let (plain, calls) = (free_address().await?, free_address().await?);
        let running = Sidecar::start(Options {
            config: ConfigSource::InMemory(Box::new(config)),
            listens: vec![
                Listen { address: plain, app_port: app.plain },
                Listen { address: calls, app_port: app.calls },
            ],
            admin: None,
            workload_token: TokenSource::Fixed(self.workload(pod)?),
            proof_key_file: PathBuf::new(),
            tls: None,
            pod_uid: pod.to_owned(),
            probes: Vec::new(),
            workers: 1,
            memory: 256 << 20,
        })?;
        within(Duration::from_secs(20), "a lease", async || running.status().lease_live).await?;
        Ok(Protected { plain, calls, asked: Arc::clone(&app.asked), running })
    }
}

async fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0").await?.local_addr()?)
}

/// A client that waits for the end.
pub struct Held {
    pub kind: Kind,
    ended: JoinHandle<Result<Instant>>,
}

impl Protected {
    /// Whether the sidecar hears of revocations.
    pub fn is_told(&self) -> bool {
        self.running.status().lease_live
    }

    /// Returns once the app has it.
    pub async fn hold(&self, kind: Kind, token: &OpaqueToken) -> Result<Held> {
        let ended = match kind {
            Kind::Call => call(self.calls, token).await?,
            _ => self.request(kind, token).await?,
        };
        Ok(Held { kind, ended })
    }

    async fn request(&self, kind: Kind, token: &OpaqueToken) -> Result<JoinHandle<Result<Instant>>> {
        let (line, fields) = match kind {
            Kind::EventStream => ("GET /events", ""),
            Kind::WebSocket => ("GET /socket", "Connection: Upgrade\r\nUpgrade: websocket\r\n"),
            Kind::Upload => ("POST /upload", "Content-Length: 100000000\r\n"),
            Kind::LongPoll | Kind::Call => ("GET /poll", ""),
        };
        let mut stream = TcpStream::connect(self.plain).await?;
        let head =
            format!("{line} HTTP/1.1\r\nHost: a.example\r\nAuthorization: Bearer {}\r\n{fields}\r\n", token.expose());
        stream.write_all(head.as_bytes()).await?;
        let asked = tokio::time::timeout(Duration::from_secs(20), self.asked.acquire()).await;
        asked.context("the app was not asked")??.forget();
        if kind.streams() {
            let head = read_head(&mut stream).await?;
            ensure!(head.starts_with("HTTP/1.1 200 ") || head.starts_with("HTTP/1.1 101 "), "{head}");
            return Ok(tokio::spawn(end_of_stream(stream)));
        }
        Ok(tokio::spawn(refusal(stream, kind == Kind::Upload)))
    }
}

impl Held {
    pub fn goes_on(&self) -> bool {
        !self.ended.is_finished()
    }

    pub async fn ended(self) -> Result<Instant> {
        let ended = tokio::time::timeout(Duration::from_secs(30), self.ended).await;
        ended.with_context(|| format!("{:?} goes on", self.kind))??
    }
}

async fn end_of_stream(mut stream: TcpStream) -> Result<Instant> {
    let mut taken = [0; 4096];
    // A reset is an end as well.
    while matches!(stream.read(&mut taken).await, Ok(1..)) {}
    Ok(Instant::now())
}

async fn refusal(stream: TcpStream, sends: bool) -> Result<Instant> {
    let (mut from, mut to) = stream.into_split();
    let sending = tokio::spawn(async move {
        while sends && to.write_all(&[b'x'; 1024]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // Who sends nothing has not finished, either.
        pending::<()>().next().await;
    });
    let mut line = [0; 13];
    let read = from.read_exact(&mut line).await;
    let ended = Instant::now();
    sending.abort();
    read?;
    ensure!(&line == b"HTTP/1.1 401 ", "{}", String::from_utf8_lossy(&line));
    Ok(ended)
}

async fn call(to: SocketAddr, token: &OpaqueToken) -> Result<JoinHandle<Result<Instant>>> {
    let stream = TcpStream::connect(to).await?;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::post(format!("http://{to}/held.Test/Open"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("authorization", format!("Bearer {}", token.expose()))
        .body(StreamBody::new(pending::<Message>()))?;
    let mut body = sender.send_request(request).await?.into_body();
    body.frame().await.context("no message")??;
    Ok(tokio::spawn(async move {
        // Without a sender the connection would end.
        let _sender = sender;
        while let Some(frame) = body.frame().await {
            if let Ok(trailers) = frame?.into_trailers() {
                ensure!(trailers.get("grpc-status").is_some_and(|status| status == "16"), "{trailers:?}");
                return Ok(Instant::now());
            }
        }
        bail!("the call ended without a word")
    }))
}

async fn read_head(stream: &mut TcpStream) -> Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8(head)?)
}
