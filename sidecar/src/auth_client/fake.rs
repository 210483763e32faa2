//! An auth service for tests, on loopback: answers as it was told, counts what it was asked.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use cloakroom_protocol::events::Event;
use cloakroom_protocol::interest::{Interest, STREAM_HEADER};
use cloakroom_protocol::internal_api::{self, IntrospectForm, IntrospectMany};
use cloakroom_protocol::introspection::{ActiveToken, Introspection};
use cloakroom_protocol::revocation::Acknowledgement;
use cloakroom_protocol::session::UsageReport;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

type Body = BoxBody<Bytes, Infallible>;
/// What an override answers.
pub type Script = Box<dyn Fn(&str, &[u8]) -> Option<Response<Full<Bytes>>> + Send + Sync>;

#[derive(Default)]
pub struct Told {
    pub active: HashMap<String, ActiveToken>,
    /// Of which nothing can be found out.
    pub unknown: Vec<String>,
    /// Asked before anything else.
    pub script: Option<Script>,
    /// While set, introspections wait; one permit lets one through.
    pub gate: Option<Arc<tokio::sync::Semaphore>>,
    /// Everything asked, `<method> <path and query>`.
    pub asked: Vec<String>,
    pub introspected: Vec<String>,
    pub acknowledged: Vec<Acknowledgement>,
    pub usage: Vec<UsageReport>,
    pub bodies: Vec<(String, String)>,
    /// `Last-Event-ID` of every stream, and how to write to it.
    pub streams: Vec<(Option<String>, mpsc::UnboundedSender<Bytes>)>,
    pub authorization: Vec<String>,
    /// What the streams are called; without one, none is.
    pub stream_name: Option<&'static str>,
    /// Whether questions are answered by the replica that has the stream.
    pub confirms: bool,
    /// What was declared.
    pub declared: Vec<Interest>,
    /// What questions said of their stream.
    pub tags: Vec<Option<String>>,
}

pub struct FakeAuth {
    pub address: SocketAddr,
    pub told: Arc<Mutex<Told>>,
    serving: Option<JoinHandle<()>>,
    connections: Arc<Mutex<Vec<JoinHandle<()>>>>,
    drain: Arc<Notify>,
    tls: Option<tokio_rustls::TlsAcceptor>,
}

impl FakeAuth {
    pub async fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap()).await
    }

    /// With a certificate; `alpn` is what it says to speak.
    pub async fn start_tls(pki: &Pki, alpn: &[u8]) -> Self {
        let mut config = rustls::ServerConfig::builder_with_provider(super::endpoint::crypto_provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![pki.certificate.clone()], pki.key.clone_key())
            .unwrap();
        config.alpn_protocols = vec![alpn.to_vec()];
        let mut fake = Self::start_at("127.0.0.1:0".parse().unwrap()).await;
        fake.stop();
        fake.tls = Some(Arc::new(config).into());
        fake.serve().await;
        fake
    }

    pub async fn start_at(address: SocketAddr) -> Self {
        let mut fake = Self {
            address,
            told: Arc::default(),
            serving: None,
            connections: Arc::default(),
            drain: Arc::default(),
            tls: None,
        };
        fake.serve().await;
        fake
    }

    /// Nobody listens there any more, and what was open is cut.
    pub fn stop(&mut self) {
        self.serving.take().unwrap().abort();
        for connection in self.connections.lock().unwrap().drain(..) {
            connection.abort();
        }
    }

    /// Open connections take no more requests (GOAWAY), new ones are accepted.
    pub fn drain(&self) {
        self.drain.notify_waiters();
    }

    pub async fn serve(&mut self) {
        let listener = loop {
            match TcpListener::bind(self.address).await {
                Ok(listener) => break listener,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        self.address = listener.local_addr().unwrap();
        let (told, connections, drain) = (self.told.clone(), self.connections.clone(), self.drain.clone());
        let tls = self.tls.clone();
        self.serving = Some(tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (told, drain, tls) = (told.clone(), drain.clone(), tls.clone());
                let connection = tokio::spawn(async move {
                    match tls {
                        None => converse(tcp, told, drain).await,
                        // Who does not trust us goes away.
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(tcp).await {
                                converse(stream, told, drain).await;
                            }
                        }
                    }
                });
                connections.lock().unwrap().push(connection);
            }
        }));
    }

    pub fn with<T>(&self, look: impl FnOnce(&mut Told) -> T) -> T {
        look(&mut self.told.lock().unwrap())
    }

    /// On the newest stream.
    pub fn send(&self, id: &str, event: &Event) {
        self.send_raw(&format!("id: {id}\nevent: {}\ndata: {}\n\n", event.name(), event.data()));
    }

    pub fn send_raw(&self, text: &str) {
        let _ = self.with(|told| told.streams.last().unwrap().1.clone()).send(Bytes::from(text.to_owned()));
    }

    pub fn end_stream(&self) {
        self.with(|told| told.streams.pop());
    }

    pub fn introspections(&self) -> usize {
        self.with(|told| told.introspected.len())
    }
}

async fn converse(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    told: Arc<Mutex<Told>>,
    drain: Arc<Notify>,
) {
    let service = service_fn(move |request| answer(told.clone(), request));
    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(io), service));
    let ended = tokio::select! {
        ended = &mut connection => Some(ended),
        () = drain.notified() => None,
    };
    if ended.is_none() {
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }
}

/// A CA, and a certificate of its for one name.
pub struct Pki {
    pub ca_pem: String,
    pub certificate: CertificateDer<'static>,
    pub key: PrivateKeyDer<'static>,
}

impl Pki {
    pub fn new(name: &str) -> Self {
        let ca_key = rcgen::KeyPair::generate().unwrap();
        let mut ca = rcgen::CertificateParams::default();
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
        let issuer = rcgen::Issuer::new(ca, ca_key);
        let key = rcgen::KeyPair::generate().unwrap();
        let leaf = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        Self { ca_pem, certificate: leaf.der().clone(), key: PrivatePkcs8KeyDer::from(key.serialize_der()).into() }
    }
}

async fn answer(told: Arc<Mutex<Told>>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    let header = |name: &str| head.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    {
        let mut told = told.lock().unwrap();
        told.asked.push(format!("{} {}", head.method, head.uri.path_and_query().unwrap()));
        told.authorization.extend(header("authorization"));
        if path == internal_api::EVENTS && told.script.as_ref().is_none_or(|script| script(&path, b"").is_none()) {
            let (send, receive) = mpsc::unbounded_channel();
            told.streams.push((header("last-event-id"), send));
            let mut response = stream(receive);
            if let Some(name) = told.stream_name {
                response.headers_mut().insert(STREAM_HEADER, name.parse().unwrap());
            }
            return Ok(response);
        }
    }
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let gate = told.lock().unwrap().gate.clone();
    // What was true when the question came is what is answered, however late.
    let mut answer = answer_now(&told, &path, &body);
    let introspects = path == internal_api::INTROSPECT || path == internal_api::INTROSPECT_MANY;
    if introspects {
        let tag = header(STREAM_HEADER);
        let mut told = told.lock().unwrap();
        if let Some((name, _)) = tag.as_deref().and_then(|tag| tag.split_once('.')).filter(|_| told.confirms) {
            answer.headers_mut().insert(STREAM_HEADER, name.parse().unwrap());
        }
        told.tags.push(tag);
    }
    if introspects && let Some(gate) = gate {
        gate.acquire().await.unwrap().forget();
    }
    Ok(answer)
}

fn answer_now(told: &Mutex<Told>, path: &str, body: &[u8]) -> Response<Body> {
    let mut told = told.lock().unwrap();
    told.bodies.push((path.to_owned(), String::from_utf8_lossy(body).into_owned()));
    if path == internal_api::INTROSPECT {
        let form: IntrospectForm = serde_urlencoded::from_bytes(body).unwrap();
        told.introspected.push(form.token);
    }
    if let Some(scripted) = told.script.as_ref().and_then(|script| script(path, body)) {
        return scripted.map(BodyExt::boxed);
    }
    let json = match path {
        internal_api::INTROSPECT => {
            let asked = told.introspected.last().unwrap().clone();
            let known = told.active.get(&asked).cloned();
            serde_json::to_string(
                &known.map_or(Introspection::INACTIVE, |active| Introspection::Active(Box::new(active))),
            )
        }
        internal_api::INTROSPECT_MANY => {
            let tokens = serde_json::from_slice::<IntrospectMany>(body).unwrap().tokens;
            told.introspected.extend(tokens.iter().cloned());
            let covered = told.confirms;
            let line = |token: &String| match told.active.get(token) {
                Some(active) => serde_json::to_string(&ActiveToken { covered, ..active.clone() }),
                None if told.unknown.contains(token) => Ok("null".to_owned()),
                None => serde_json::to_string(&Introspection::INACTIVE),
            };
            tokens.iter().map(line).collect::<Result<Vec<_>, _>>().map(|lines| lines.join("\n"))
        }
        internal_api::JWKS => Ok(r#"{"keys":[{"kty":"EC"}]}"#.to_owned()),
        internal_api::ACKNOWLEDGE => {
            told.acknowledged.push(serde_json::from_slice(body).unwrap());
            Ok("{}".to_owned())
        }
        internal_api::INTEREST => {
            told.declared.push(serde_json::from_slice(body).unwrap());
            Ok("{}".to_owned())
        }
        internal_api::USAGE => {
            told.usage.push(serde_json::from_slice(body).unwrap());
            Ok("{}".to_owned())
        }
        internal_api::REVOKE => Ok(r#"{"connected":1,"acknowledged":1,"lost_lease":0}"#.to_owned()),
        _ => return respond(StatusCode::NOT_FOUND, "{}").map(BodyExt::boxed),
    };
    respond(StatusCode::OK, &json.unwrap()).map(BodyExt::boxed)
}

pub fn respond(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_owned())));
    *response.status_mut() = status;
    response
}

fn stream(receive: mpsc::UnboundedReceiver<Bytes>) -> Response<Body> {
    struct Chunks(mpsc::UnboundedReceiver<Bytes>);
    impl hyper::body::Body for Chunks {
        type Data = Bytes;
        type Error = Infallible;
        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            self.0.poll_recv(cx).map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
        }
    }
    let mut response = Response::new(Chunks(receive).boxed());
    response.headers_mut().insert("content-type", "text/event-stream".parse().unwrap());
    response
}
