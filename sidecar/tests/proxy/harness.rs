//! A sidecar, an app that remembers every byte, an authority that knows a few tokens, and a client without opinions.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use cloakroom_protocol::presented::{ForeignToken, Presented};
use cloakroom_protocol::revocation::RevokeScope;
use cloakroom_protocol::sidecar_config::Outage;
use cloakroom_protocol::token::{OpaqueToken, TokenKind};
use cloakroom_sidecar::authority::{Answer, Authority, CommitError, Exchanged, SignOutError, StepUp, Unavailable};
use cloakroom_sidecar::config::Policy;
use cloakroom_sidecar::identity::Identity;
use cloakroom_sidecar::limits::Room;
use cloakroom_sidecar::listen::{self, Listen, Phase, Workers};
use cloakroom_sidecar::local_response::LocalResponse;
use cloakroom_sidecar::metrics::{Cut, Label, Metrics};
use cloakroom_sidecar::request::head::RequestHead;
use cloakroom_sidecar::tls::Certificates;
use cloakroom_sidecar::worker::Runtime;
use http::{HeaderMap, StatusCode};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

pub(crate) const JWT: &str = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbm4iLCJzaWQiOiJ4In0.c2lnbmF0dXJlLXNpZ25hdHVyZQ";

pub(crate) struct Sidecar {
    pub(crate) address: SocketAddr,
    pub(crate) app: App,
    pub(crate) authority: Arc<FakeAuthority>,
    pub(crate) metrics: Arc<Metrics>,
    phase: watch::Sender<Phase>,
    workers: Option<Workers>,
    /// Those that were waited for.
    cuts: Mutex<[u64; 8]>,
}

impl Sidecar {
    pub(crate) fn start(app: App) -> Self {
        Self::with(app, |_| {})
    }

    pub(crate) fn with(app: App, change: impl FnOnce(&mut Value)) -> Self {
        Self::within(Room { connections: 10_000, bytes: 64 << 20 }, app, change)
    }

    /// With little room.
    pub(crate) fn within(room: Room, app: App, change: impl FnOnce(&mut Value)) -> Self {
        Self::presenting(None, room, app, change)
    }

    /// Over TLS, if there are certificates.
    pub(crate) fn presenting(
        certificates: Option<Arc<Certificates>>,
        room: Room,
        app: App,
        change: impl FnOnce(&mut Value),
    ) -> Self {
        let mut config = json!({
            "format": 1, "revision": "r1", "policy": "shop/web",
            "auth_service": {"internal_url": "http://127.0.0.1:9", "issuer": "https://auth.example.com"},
            "mode": "Enforce", "origins": ["https://shop.example.com"], "trusted_proxies": [],
            "token_sources": [{"cookie": {"name": "__Host-cloakroom"}}, {"header": {"name": "Authorization", "scheme": "Bearer"}}],
            "unauthenticated": "Auto", "writable": ["cart"],
            "jwt": {"header": "Authorization", "audience": "shop/web", "claim_headers": {"X-User-Email": "email"}},
            "outage": "Deny",
            "rules": [
                {"matches": [{"path": "/open/**"}], "access": "Anonymous"},
                {"matches": [{"path": "/maybe/**"}], "access": "Optional"},
                {"matches": [{"path": "/admin/**"}], "access": "Authenticated", "require": {"roles": ["admin"]}},
                {"matches": [{"path": "/never/**"}], "access": "Deny"},
            ],
            "limits": {"request_headers": 8192, "request_body": 1_000_000, "idle_timeout": 60}
        });
        change(&mut config);
        let policy = Policy::parse(config.to_string().as_bytes()).unwrap();
        let authority = Arc::new(FakeAuthority::new(&policy));
        let metrics = Arc::new(Metrics::default());
        let runtime = Runtime {
            policy: Arc::new(ArcSwapOption::from_pointee(policy)),
            authority: authority.clone(),
            metrics: metrics.clone(),
            clock: || 1_800_000_000,
            certificates,
            room,
        };
        let (phase, phases) = watch::channel(Phase::Serving);
        let address = free_address();
        let listens = [Listen { address, app_port: app.port }];
        let workers = listen::serve(&listens, 1, &runtime, &phases, 7).unwrap();
        Self { address, app, authority, metrics, phase, workers: Some(workers), cuts: Mutex::default() }
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// One request on a connection of its own.
    pub(crate) fn ask(&self, request: &str) -> Reply {
        let mut client = self.client();
        client.send(request);
        client.reply()
    }

    /// Waits for one more answer to end like this before it is whole.
    pub(crate) fn await_cut(&self, cut: Cut) {
        let end = Instant::now() + Duration::from_secs(10);
        let mut cuts = self.cuts.lock().unwrap();
        while self.metrics.answers_cut.of(cut).get() <= cuts[cut.index()] {
            assert!(Instant::now() < end, "no {cut:?} is counted");
            thread::sleep(Duration::from_millis(10));
        }
        cuts[cut.index()] += 1;
    }

    pub(crate) fn leave(&self) {
        self.phase.send_replace(Phase::Leaving);
    }

    pub(crate) fn drain(&self) {
        self.phase.send_replace(Phase::Draining);
    }

    pub(crate) fn join(&mut self) {
        self.workers.take().unwrap().join();
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.phase.send_replace(Phase::Ending);
        if let Some(workers) = self.workers.take() {
            workers.join();
        }
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// `Bearer` and cookie value of somebody signed in, without roles.
pub(crate) fn token() -> String {
    make_token(TokenKind::Session, 1)
}

pub(crate) fn admin_token() -> String {
    make_token(TokenKind::Session, 2)
}

pub(crate) fn unknown_token() -> String {
    make_token(TokenKind::Session, 3)
}

/// Of an application that somebody let in.
pub(crate) fn access_token() -> String {
    make_token(TokenKind::Access, 4)
}

pub(crate) fn api_key() -> String {
    make_token(TokenKind::ApiKey, 5)
}

fn make_token(kind: TokenKind, seed: u64) -> String {
    OpaqueToken::generate(kind, &mut StdRng::seed_from_u64(seed)).expose().to_owned()
}

/// Of another issuer.
pub(crate) const FOREIGN: &str = "opaque-token-of-another-issuer";

pub(crate) fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: shop.example.com\r\nAuthorization: Bearer {}\r\n{headers}\r\n", token())
}

pub(crate) struct FakeAuthority {
    identities: HashMap<String, Arc<Identity>>,
    /// Tokens that were asked about.
    pub(crate) asked: Mutex<Vec<String>>,
    pub(crate) down: AtomicBool,
    pub(crate) commit: Mutex<Result<(), CommitError>>,
    pub(crate) committed: Mutex<Vec<Value>>,
    pub(crate) signed_out: Mutex<Vec<RevokeScope>>,
    /// From the session's end to the receipt for it.
    pub(crate) receipt_after: Mutex<Duration>,
    pub(crate) own: Mutex<Vec<String>>,
    /// What comes of a sign-in that is begun.
    pub(crate) sign_in: Mutex<StatusCode>,
}

impl FakeAuthority {
    fn new(policy: &Policy) -> Self {
        let identity = |token: &str, roles: Value| {
            let parsed: OpaqueToken = token.parse().unwrap();
            let active = json!({
                "active": true, "kind": parsed.kind(), "id": parsed.id(), "sub": "ann", "client_id": "shop/web", "scope": "read",
                "exp": 4_000_000_000_u64, "iat": 1, "roles": roles, "claims": {"email": "ann@example.com"},
                "session_version": 3, "jwt": JWT, "jwt_exp": 4_000_000_000_u64,
            });
            let identity = Identity::new(serde_json::from_value(active).unwrap(), &policy.jwt, Arc::default()).unwrap();
            (token.to_owned(), Arc::new(identity))
        };
        let foreign = ForeignToken::parse(FOREIGN.as_bytes()).unwrap();
        let active = json!({
            "active": true, "kind": "foreign", "id": foreign.id(), "sub": "sso:ann", "client_id": "sso:web", "exp": 4_000_000_000_u64,
            "iat": 1, "jwt": JWT, "jwt_exp": 4_000_000_000_u64, "believe_ms": 10_000,
        });
        let foreign = Identity::new(serde_json::from_value(active).unwrap(), &policy.jwt, Arc::default()).unwrap();
        Self {
            identities: HashMap::from([
                identity(&token(), json!([])),
                identity(&admin_token(), json!(["admin"])),
                identity(&access_token(), json!([])),
                identity(&api_key(), json!([])),
                (FOREIGN.to_owned(), Arc::new(foreign)),
            ]),
            asked: Mutex::default(),
            down: AtomicBool::new(false),
            commit: Mutex::new(Ok(())),
            committed: Mutex::default(),
            signed_out: Mutex::default(),
            receipt_after: Mutex::default(),
            own: Mutex::default(),
            sign_in: Mutex::new(StatusCode::SEE_OTHER),
        }
    }

    /// As the event stream would.
    pub(crate) fn revoke(&self, token: &str) {
        self.identities[token].life.end();
    }

    /// As its own time does.
    pub(crate) fn expire(&self, token: &str) {
        self.identities[token].life.expire();
    }

    /// As an outage would that goes on for too long.
    pub(crate) fn lose(&self, token: &str) {
        self.identities[token].life.lose();
    }
}

impl Authority for FakeAuthority {
    fn cached(&self, token: &Presented) -> Option<Arc<Identity>> {
        // The admin's is never cached, so that both ways are taken.
        self.asked.lock().unwrap().push(token.expose().to_owned());
        self.identities.get(token.expose()).filter(|_| token.expose() != admin_token()).cloned()
    }

    fn unheard(&self) -> Duration {
        Duration::ZERO
    }

    fn exchange<'a>(&'a self, token: &'a Presented, _: Outage) -> Answer<'a, Result<Exchanged, Unavailable>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            if self.down.load(Ordering::SeqCst) {
                return Err(Unavailable);
            }
            Ok(self.identities.get(token.expose()).cloned().map_or(Exchanged::Inactive, Exchanged::Active))
        })
    }

    fn commit_session<'a>(
        &'a self,
        _: &'a OpaqueToken,
        _: &'a Identity,
        patch: Map<String, Value>,
    ) -> Answer<'a, Result<(), CommitError>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            self.committed.lock().unwrap().push(Value::Object(patch));
            *self.commit.lock().unwrap()
        })
    }

    fn sign_out<'a>(&'a self, token: &'a OpaqueToken, scope: RevokeScope) -> Answer<'a, Result<(), SignOutError>> {
        Box::pin(async move {
            if !scope.is_open_to(token.kind()) {
                return Err(SignOutError::NotASession);
            }
            if self.down.load(Ordering::SeqCst) {
                return Err(Unavailable.into());
            }
            self.signed_out.lock().unwrap().push(scope);
            self.revoke(token.expose());
            let receipt_after = *self.receipt_after.lock().unwrap();
            if !receipt_after.is_zero() {
                tokio::time::sleep(receipt_after).await;
            }
            Ok(())
        })
    }

    fn start_sign_in<'a>(
        &'a self,
        head: &'a RequestHead,
        step_up: StepUp,
    ) -> Answer<'a, Result<LocalResponse, Unavailable>> {
        Box::pin(async move {
            let mut headers = HeaderMap::new();
            let location =
                format!("https://auth.example.com/?to={}&acr={}", head.path, step_up.acr.unwrap_or_default());
            headers.insert("location", location.parse().unwrap());
            Ok(LocalResponse { status: *self.sign_in.lock().unwrap(), title: "", headers, body: Bytes::new() })
        })
    }

    fn own_path<'a>(&'a self, head: &'a RequestHead, _: u16, token: Option<Presented>) -> Answer<'a, LocalResponse> {
        Box::pin(async move {
            if let Some(token) = token.filter(|_| head.path == "/.cloakroom/logout") {
                self.revoke(token.expose());
            }
            self.own.lock().unwrap().push(head.path.clone());
            let (title, headers) = ("", HeaderMap::new());
            LocalResponse { status: StatusCode::OK, title, headers, body: Bytes::from_static(b"own") }
        })
    }
}

/// What the app got, as it got it.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Received {
    pub(crate) fn line(&self) -> &str {
        self.head.lines().next().unwrap()
    }

    pub(crate) fn path(&self) -> &str {
        self.line().split(' ').nth(1).unwrap()
    }

    /// Values of a header, by its exact name without case.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        values(&self.head, name)
    }
}

fn values<'h>(head: &'h str, name: &str) -> Vec<&'h str> {
    head.lines()
        .skip(1)
        .filter_map(|line| line.split_once(": "))
        .filter(|(n, _)| n.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
        .collect()
}

pub(crate) struct App {
    pub(crate) port: u16,
    received: Arc<Mutex<Vec<Received>>>,
}

impl App {
    /// Answers every request with 200 and `hello`.
    pub(crate) fn hello() -> Self {
        Self::new(|_| b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_vec())
    }

    /// Answers every request with these bytes, and closes where they say so.
    pub(crate) fn saying(reply: &str) -> Self {
        let reply = reply.as_bytes().to_vec();
        Self::new(move |_| reply.clone())
    }

    /// An answer per request; an empty one closes the connection.
    pub(crate) fn new(answer: impl Fn(&Received) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::raw(move |mut stream, received| {
            while let Some(request) = read_request(&mut stream) {
                received.lock().unwrap().push(request.clone());
                let reply = answer(&request);
                let closes =
                    reply.is_empty() || values(&String::from_utf8_lossy(&reply), "connection").contains(&"close");
                if stream.write_all(&reply).is_err() || closes {
                    return;
                }
            }
        })
    }

    /// Does as it likes with each connection.
    pub(crate) fn raw(serve: impl Fn(TcpStream, &Mutex<Vec<Received>>) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let received = Arc::new(Mutex::new(Vec::new()));
        let (serve, log) = (Arc::new(serve), received.clone());
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (serve, log) = (serve.clone(), log.clone());
                thread::spawn(move || serve(stream, &log));
            }
        });
        Self { port, received }
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    pub(crate) fn only(&self) -> Received {
        let received = self.received();
        assert_eq!(received.len(), 1, "{received:?}");
        received.into_iter().next().unwrap()
    }
}

pub(crate) fn read_request(stream: &mut TcpStream) -> Option<Received> {
    let head = read_head(stream)?;
    let body = match (values(&head, "content-length").first(), values(&head, "transfer-encoding").first()) {
        (Some(length), None) => read_exactly(stream, length.parse().unwrap())?,
        (None, Some(_)) => read_chunked(stream)?,
        (None, None) => Vec::new(),
        (Some(_), Some(_)) => panic!("two lengths reached the app: {head}"),
    };
    Some(Received { head, body })
}

pub(crate) fn read_head(stream: &mut impl Read) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.extend(read_exactly(stream, 1)?);
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

fn read_exactly(stream: &mut impl Read, count: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).ok()?;
    Some(bytes)
}

/// The chunks as they came, framing and trailers included.
fn read_chunked(stream: &mut impl Read) -> Option<Vec<u8>> {
    let mut raw = Vec::new();
    loop {
        let start = raw.len();
        while !raw[start..].ends_with(b"\r\n") {
            raw.extend(read_exactly(stream, 1)?);
        }
        let size = usize::from_str_radix(std::str::from_utf8(&raw[start..raw.len() - 2]).unwrap(), 16).unwrap();
        if size == 0 {
            let trailers = raw.len() - 2;
            while !raw[trailers..].ends_with(b"\r\n\r\n") {
                raw.extend(read_exactly(stream, 1)?);
            }
            return Some(raw);
        }
        raw.extend(read_exactly(stream, size + 2)?);
    }
}

pub(crate) struct Client<S = TcpStream> {
    pub(crate) stream: S,
}

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    /// Without chunk framing only where there was none.
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        values(&self.head, name)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self { stream: connect(address) }
    }

    pub(crate) fn finish_sending(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }
}

impl<S: Read + Write> Client<S> {
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // The sidecar may have refused and closed already.
        let _ = self.stream.write_all(bytes.as_ref());
    }

    pub(crate) fn reply(&mut self) -> Reply {
        self.reply_to("GET")
    }

    pub(crate) fn reply_to(&mut self, method: &str) -> Reply {
        let head = self.head();
        let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
        let body = if method == "HEAD" || status < 200 || status == 204 || status == 304 {
            Vec::new()
        } else if let Some(length) = values(&head, "content-length").first() {
            read_exactly(&mut self.stream, length.parse().unwrap()).expect("the whole body")
        } else if values(&head, "transfer-encoding").contains(&"chunked") {
            read_chunked(&mut self.stream).expect("all chunks")
        } else {
            self.rest()
        };
        Reply { status, head, body }
    }

    pub(crate) fn head(&mut self) -> String {
        read_head(&mut self.stream).expect("a response")
    }

    /// Everything until the other side ends, however it does.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let mut some = [0; 4096];
        loop {
            match self.stream.read(&mut some) {
                Ok(0) => return rest,
                Ok(count) => rest.extend_from_slice(&some[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return rest,
                Err(error) => panic!("the connection stays open: {error}; so far {:?}", String::from_utf8_lossy(&rest)),
            }
        }
    }

    pub(crate) fn read(&mut self, count: usize) -> Vec<u8> {
        read_exactly(&mut self.stream, count).expect("more bytes")
    }

    pub(crate) fn is_closed(&mut self) -> bool {
        self.rest().is_empty()
    }
}
