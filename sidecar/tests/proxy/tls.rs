//! The same over TLS: who may come in how, and what of it shows.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cloakroom_sidecar::limits::Room;
use cloakroom_sidecar::metrics::{Handshake, Metrics};
use cloakroom_sidecar::tls::Certificates;
use cloakroom_sidecar::tls::pair::Pair;
use http::Request;
use http_body_util::BodyExt;
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};
use serde_json::Value;
use tokio_rustls::TlsConnector;

use crate::harness::{App, Client, Received, Sidecar, connect, get, read_head, token};
use crate::http2::{Frames, request, run};
use crate::under_way::{await_word, silent_app};

const BOTH: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
const ROOM: Room = Room { connections: 10_000, bytes: 64 << 20 };

type TlsClient = Client<StreamOwned<ClientConnection, TcpStream>>;

/// A certificate of its own authority.
struct Issued {
    pem: String,
    key: String,
    der: CertificateDer<'static>,
}

fn issue() -> Issued {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["shop.example.com".to_owned()]).unwrap().self_signed(&key).unwrap();
    Issued { pem: certificate.pem(), key: key.serialize_pem(), der: certificate.der().clone() }
}

struct Secure {
    sidecar: Sidecar,
    certificates: Arc<Certificates>,
    issued: Issued,
}

impl Secure {
    fn start(app: App) -> Self {
        Self::with(ROOM, app, |_| {})
    }

    fn with(room: Room, app: App, change: impl FnOnce(&mut Value)) -> Self {
        let (certificates, issued) = (Arc::<Certificates>::default(), issue());
        present(&certificates, &issued.pem, &issued.key);
        let sidecar = Sidecar::presenting(Some(certificates.clone()), room, app, change);
        Self { sidecar, certificates, issued }
    }

    fn client(&self) -> TlsClient {
        self.agreeing(BOTH, &[]).0
    }

    /// And what was agreed on.
    fn agreeing(&self, versions: &[&'static SupportedProtocolVersion], alpn: &[&str]) -> (TlsClient, Option<Vec<u8>>) {
        let mut socket = connect(self.sidecar.address);
        let mut session = session(&self.issued, versions, alpn);
        while session.is_handshaking() {
            session.complete_io(&mut socket).unwrap();
        }
        let agreed = session.alpn_protocol().map(<[u8]>::to_vec);
        (Client { stream: StreamOwned::new(session, socket) }, agreed)
    }

    fn ask(&self, request: &str) -> crate::harness::Reply {
        let mut client = self.client();
        client.send(request);
        client.reply()
    }

    fn handshakes(&self, outcome: Handshake) -> u64 {
        self.sidecar.metrics.tls_handshakes.of(outcome).get()
    }
}

fn present(certificates: &Certificates, certificate: &str, key: &str) {
    let pair = Pair::parse(certificate.as_bytes(), key.as_bytes()).map_err(Into::into);
    certificates.found(pair, &Metrics::default());
}

fn config(trusted: &Issued, versions: &[&'static SupportedProtocolVersion], alpn: &[&str]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.der.clone()).unwrap();
    let mut config = ClientConfig::builder_with_provider(ring::default_provider().into())
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    Arc::new(config)
}

fn session(trusted: &Issued, versions: &[&'static SupportedProtocolVersion], alpn: &[&str]) -> ClientConnection {
    ClientConnection::new(config(trusted, versions, alpn), name()).unwrap()
}

fn name() -> ServerName<'static> {
    ServerName::try_from("shop.example.com").unwrap()
}

/// How the connection ends: cleanly, or as one from which something may be missing.
fn ends_cleanly(client: &mut TlsClient) -> bool {
    let mut rest = [0; 1024];
    loop {
        match client.stream.read(&mut rest) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return false,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Echoes bodies, without their chunks.
fn echo() -> App {
    App::new(|request| {
        let body =
            if request.all("transfer-encoding").is_empty() { request.body.clone() } else { joined(&request.body) };
        [format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(), &body].concat()
    })
}

fn joined(mut chunks: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    loop {
        let line = chunks.windows(2).position(|end| end == b"\r\n").unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&chunks[..line]).unwrap(), 16).unwrap();
        if size == 0 {
            return whole;
        }
        whole.extend_from_slice(&chunks[line + 2..line + 2 + size]);
        chunks = &chunks[line + 2 + size + 2..];
    }
}

fn large_body() -> Vec<u8> {
    (0..999_983_u32).map(|at| (at / 7).to_le_bytes()[0]).collect()
}

#[test]
fn every_version_of_tls_and_http_1_goes_the_same_way_and_the_app_learns_of_https() {
    let secure = Secure::start(App::hello());
    for version in BOTH {
        for (offered, agreed) in [(&[][..], None), (&["http/1.1"][..], Some(b"http/1.1".to_vec()))] {
            let (mut client, alpn) = secure.agreeing(&[version], offered);
            assert_eq!(alpn, agreed);
            for _ in 0..2 {
                client.send(get("/x", "X-Forwarded-Proto: http\r\n"));
                let reply = client.reply();
                assert_eq!((reply.status, reply.text().as_str()), (200, "hello"));
            }
        }
    }
    assert_eq!(secure.handshakes(Handshake::Done), 4);
    let received = secure.sidecar.app.received();
    let last = received.last().unwrap();
    assert_eq!((received.len(), last.all("x-forwarded-proto")), (8, vec!["https"]));
    assert!(last.all("forwarded")[0].ends_with(";proto=https"), "{}", last.head);
}

#[test]
fn a_trusted_proxys_word_on_the_scheme_counts_more() {
    let secure =
        Secure::with(ROOM, App::hello(), |config| config["trusted_proxies"] = serde_json::json!(["127.0.0.0/8"]));
    assert_eq!(secure.ask(&get("/x", "X-Forwarded-Proto: http\r\n")).status, 200);
    assert_eq!(secure.sidecar.app.only().all("x-forwarded-proto"), ["http"]);
}

#[test]
fn without_a_token_there_is_a_challenge_that_points_to_https() {
    let secure = Secure::start(App::hello());
    let reply = secure.ask("GET /x HTTP/1.1\r\nHost: shop.example.com\r\n\r\n");
    let challenge = reply.all("www-authenticate")[0];
    assert!(reply.status == 401 && challenge.contains("resource_metadata=\"https://shop.example.com/"), "{challenge}");
    assert!(secure.sidecar.app.received().is_empty());
}

/// A client of HTTP/2, with or without a word on it during the handshake.
async fn http2(secure: &Secure, alpn: &[&str]) -> hyper::Result<hyper::client::conn::http2::SendRequest<Frames>> {
    let socket = tokio::net::TcpStream::connect(secure.sidecar.address).await.unwrap();
    let connector = TlsConnector::from(config(&secure.issued, BOTH, alpn));
    let stream = connector.connect(name(), socket).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol().is_some(), !alpn.is_empty());
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

fn https(method: &str, path: &str) -> http::request::Builder {
    request(method, path).uri(format!("https://shop.example.com{path}"))
}

#[test]
fn http_2_is_agreed_on_or_recognised_and_carries_large_bodies_both_ways() {
    let secure = Secure::start(echo());
    let body = large_body();
    for alpn in [&["h2", "http/1.1"][..], &[]] {
        run(async {
            let mut sender = http2(&secure, alpn).await.unwrap();
            for body in [Vec::new(), body.clone(), body.clone()] {
                let message: Request<Frames> = https("PUT", "/x").body(Frames::text(body.clone())).unwrap();
                let response = sender.send_request(message).await.unwrap();
                assert_eq!(response.status(), 200);
                assert!(response.into_body().collect().await.unwrap().to_bytes() == body);
            }
        });
    }
    assert_eq!(secure.sidecar.app.received()[0].all("x-forwarded-proto"), ["https"]);
}

#[test]
fn signing_out_ends_the_upload_beside_it() {
    let (app, said) = silent_app();
    let secure = Secure::start(app);
    let mut over_http1 = secure.client();
    over_http1.send(get("/upload", "Content-Length: 1000\r\n").replacen("GET", "POST", 1));
    await_word(&said, "asked");
    run(async {
        let mut sender = http2(&secure, &["h2"]).await.unwrap();
        // A frame each 20 ms.
        let frames = Frames::new((0..1000).map(|_| Frame::data(Bytes::from("x"))).collect());
        let upload = tokio::spawn(sender.send_request(https("POST", "/upload").body(frames).unwrap()));
        let said = tokio::task::spawn_blocking(move || {
            await_word(&said, "asked");
            said
        });
        let said = said.await.unwrap();
        let logout = https("POST", "/.cloakroom/logout").body(Frames::text("")).unwrap();
        let answer = sender.send_request(logout).await.unwrap();
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "own");
        assert_eq!(upload.await.unwrap().unwrap().status(), 401);
        tokio::task::spawn_blocking(move || {
            await_word(&said, "left");
            await_word(&said, "left");
        })
        .await
        .unwrap();
    });
    assert_eq!(over_http1.reply().status, 401);
}

#[test]
fn whoever_agreed_on_one_version_of_http_is_held_to_it() {
    let secure = Secure::start(App::hello());
    let (mut one, _) = secure.agreeing(BOTH, &["http/1.1"]);
    one.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    let mut said = Vec::new();
    let _ = one.stream.read_to_end(&mut said);
    assert!(said.is_empty(), "{said:?}");
    let (mut two, _) = secure.agreeing(BOTH, &["h2"]);
    two.send(get("/x", ""));
    let mut said = Vec::new();
    let _ = two.stream.read_to_end(&mut said);
    assert!(!said.starts_with(b"HTTP/1"), "{said:?}");
    assert!(secure.sidecar.app.received().is_empty());
}

#[test]
fn large_bodies_pass_both_ways_and_requests_may_come_in_any_pieces() {
    let secure = Secure::start(echo());
    let body = large_body();
    let mut client = secure.client();
    for framed in [
        [format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes(), &body].concat(),
        [format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n", body.len()).as_bytes(), &body, b"\r\n0\r\n\r\n"]
            .concat(),
    ] {
        let head = get("/x", "").replace("GET", "POST");
        let whole = [head.trim_end_matches("\r\n").as_bytes(), b"\r\n", &framed].concat();
        client.send(&whole);
        let reply = client.reply();
        assert_eq!(reply.status, 200);
        assert!(reply.body == body);
    }
    // Several requests in one record, then one in many.
    client.send(get("/1", "") + &get("/2", ""));
    assert_eq!((client.reply().status, client.reply().status), (200, 200));
    for byte in get("/3", "").bytes() {
        client.send([byte]);
    }
    assert_eq!(client.reply().status, 200);
}

#[test]
fn sockets_go_on_until_both_sides_have_finished() {
    let secure = Secure::start(App::raw(|mut stream, received| {
        let Some(head) = read_head(&mut stream) else { return };
        received.lock().unwrap().push(Received { head, body: vec![] });
        let _ =
            stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        let mut bytes = [0; 1024];
        while let Ok(count @ 1..) = stream.read(&mut bytes) {
            stream.write_all(&bytes[..count]).unwrap();
        }
        let _ = stream.write_all(b"bye");
    }));
    let mut client = secure.client();
    client.send(get("/ws", "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n"));
    assert_eq!(client.reply().status, 101);
    for _ in 0..3 {
        client.send("ping");
        assert_eq!(client.read(4), b"ping");
    }
    client.stream.conn.send_close_notify();
    client.stream.flush().unwrap();
    assert_eq!(client.read(3), b"bye");
    assert!(ends_cleanly(&mut client));
}

#[test]
fn the_end_of_the_session_ends_its_sockets() {
    let secure = Secure::start(App::raw(|mut stream, _| {
        read_head(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n");
        let _ = stream.read(&mut [0]);
    }));
    let mut client = secure.client();
    client.send(get("/events", ""));
    client.head();
    client.read(3 + 9);
    let began = Instant::now();
    secure.sidecar.authority.revoke(&token());
    assert!(!ends_cleanly(&mut client), "it was not the end of the stream");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[test]
fn an_answer_that_breaks_off_can_be_told_from_one_that_ends() {
    let old_client = |reply: &'static str| {
        let secure = Secure::start(App::raw(move |mut stream, _| {
            read_head(&mut stream);
            let _ = stream.write_all(reply.as_bytes());
            // Long enough for that to have been passed on.
            thread::sleep(Duration::from_millis(300));
        }));
        let mut client = secure.client();
        client.send(get("/x", "").replace("HTTP/1.1", "HTTP/1.0"));
        assert!(client.head().starts_with("HTTP/1.1 200"));
        ends_cleanly(&mut client)
    };
    assert!(old_client("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nto the end"));
    assert!(!old_client("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nshort\r\n"));
    assert!(!old_client("HTTP/1.1 200 OK\r\nContent-Length: 100\r\nConnection: close\r\n\r\nshort"));
}

#[test]
fn a_new_certificate_is_for_new_connections_and_a_broken_one_for_none() {
    let mut secure = Secure::start(App::hello());
    let mut old = secure.client();
    old.send(get("/1", ""));
    assert_eq!(old.reply().status, 200);
    let renewed = issue();
    present(&secure.certificates, &renewed.pem, &renewed.key);
    old.send(get("/2", ""));
    assert_eq!(old.reply().status, 200, "what is open goes on");
    let other = issue();
    present(&secure.certificates, &other.pem, &renewed.key);
    assert!(secure.certificates.refused().is_some());
    secure.issued = renewed;
    assert_eq!(secure.ask(&get("/3", "")).status, 200, "by the certificate before the broken one");
}

#[test]
fn a_client_that_comes_back_resumes_its_session() {
    let secure = Secure::start(App::hello());
    for version in BOTH {
        let config = config(&secure.issued, &[version], &[]);
        let mut kinds = Vec::new();
        for _ in 0..2 {
            let session = ClientConnection::new(config.clone(), name()).unwrap();
            let mut client = Client { stream: StreamOwned::new(session, connect(secure.sidecar.address)) };
            client.send(get("/x", ""));
            assert_eq!(client.reply().status, 200);
            kinds.push(client.stream.conn.handshake_kind());
        }
        assert_eq!(kinds, [Some(rustls::HandshakeKind::Full), Some(rustls::HandshakeKind::Resumed)]);
    }
}

#[test]
fn without_a_certificate_nothing_is_said() {
    let sidecar = Sidecar::presenting(Some(Arc::default()), ROOM, App::hello(), |_| {});
    let mut client = sidecar.client();
    client.send(get("/x", ""));
    assert!(client.is_closed());
    assert_eq!(sidecar.metrics.tls_handshakes.of(Handshake::NoCertificate).get(), 1);
    assert!(sidecar.app.received().is_empty());
}

#[test]
fn whoever_speaks_plain_http_is_told_to_use_https_and_nobody_else_is_told_anything() {
    let secure = Secure::start(App::hello());
    let reply = secure.sidecar.ask(&get("/x", ""));
    assert_eq!((reply.status, reply.all("connection")), (400, vec!["close"]));
    assert!(reply.text().contains("use https://"), "{}", reply.text());
    for other in ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\0\0\0\0", "\u{1}\u{2}", "get / HTTP/1.1\r\n\r\n"] {
        let mut client = secure.sidecar.client();
        client.send(other);
        assert!(client.is_closed(), "{other:?}");
    }
    assert_eq!(secure.handshakes(Handshake::PlainHttp), 1);
    let mut junk = secure.sidecar.client();
    junk.send([22, 3, 1, 0, 8, 1, 0, 0, 4, 9, 9, 9, 9]);
    assert_eq!(junk.rest().first(), Some(&21), "an alert");
    assert_eq!(secure.handshakes(Handshake::Failed), 1);
    assert!(secure.sidecar.app.received().is_empty());
}

#[test]
fn a_port_that_speaks_plain_http_takes_tls_for_junk() {
    let sidecar = Sidecar::start(App::hello());
    let mut client = sidecar.client();
    let mut hello = Vec::new();
    session(&issue(), BOTH, &[]).write_tls(&mut hello).unwrap();
    client.send(hello);
    assert_eq!(client.reply().status, 400);
}

#[test]
fn a_handshake_has_its_time_and_a_record_too() {
    let secure = Secure::with(ROOM, App::hello(), |config| config["limits"]["idle_timeout"] = 1.into());
    let began = Instant::now();
    let mut silent = secure.sidecar.client();
    let mut stopped = secure.sidecar.client();
    stopped.send([22, 3, 1, 2, 0, 1, 0, 1]);
    // A byte each 100 ms: of the first record, and of a later one.
    let drip = |mut socket: TcpStream| {
        thread::spawn(move || {
            while socket.write_all(&[1]).is_ok() && began.elapsed() < Duration::from_secs(20) {
                thread::sleep(Duration::from_millis(100));
            }
        })
    };
    let mut slow = secure.sidecar.client();
    slow.send([22, 3, 1, 2, 0]);
    drip(slow.stream.try_clone().unwrap());
    let mut later = secure.client();
    later.send(get("/x", ""));
    assert_eq!(later.reply().status, 200);
    let mut under = later.stream.sock;
    under.write_all(&[23, 3, 3, 2, 0]).unwrap();
    drip(under.try_clone().unwrap());
    let mut under = Client { stream: under };
    for client in [&mut silent, &mut stopped, &mut slow, &mut under] {
        client.rest();
    }
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(secure.handshakes(Handshake::TimedOut), 2);
}

#[test]
fn an_idle_connection_is_closed_with_a_word() {
    let secure = Secure::with(ROOM, App::hello(), |config| config["limits"]["idle_timeout"] = 1.into());
    let mut client = secure.client();
    client.send(get("/x", ""));
    assert_eq!(client.reply().status, 200);
    assert!(ends_cleanly(&mut client));
}

#[test]
fn connections_that_wait_hold_no_memory_and_handshakes_are_counted() {
    let secure = Secure::with(Room { connections: 200, bytes: 640 << 10 }, App::hello(), |_| {});
    let mut waiting: Vec<_> = (0..50).map(|_| secure.client()).collect();
    for some in waiting.chunks_mut(25) {
        for client in some {
            client.send(get("/x", ""));
            assert_eq!(client.reply().status, 200);
        }
        // Until they are known to be idle.
        thread::sleep(Duration::from_millis(800));
    }
    // Half a ClientHello each: nobody else's handshake may begin.
    let mut begun: Vec<_> = (0..50).map(|_| secure.sidecar.client()).collect();
    let end = Instant::now() + Duration::from_secs(20);
    for client in &mut begun {
        client.send([22, 3, 1, 2, 0, 1]);
    }
    while secure.handshakes(Handshake::NoRoom) == 0 {
        assert!(Instant::now() < end, "all of them were let begin");
        thread::sleep(Duration::from_millis(10));
    }
    drop(begun);
    let end = Instant::now() + Duration::from_secs(20);
    let served = |client: &mut TlsClient| {
        client.send(get("/y", ""));
        let mut first = [0; 12];
        client.stream.read_exact(&mut first).is_ok() && first == *b"HTTP/1.1 200"
    };
    while !served(&mut secure.client()) {
        assert!(Instant::now() < end, "the memory did not come back");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn draining_ends_connections_cleanly() {
    let mut secure = Secure::start(App::hello());
    let mut client = secure.client();
    client.send(get("/x", ""));
    assert_eq!(client.reply().status, 200);
    secure.sidecar.drain();
    assert!(ends_cleanly(&mut client));
    secure.sidecar.join();
}

#[test]
fn a_record_of_the_largest_size_passes() {
    let secure = Secure::start(echo());
    let mut client = secure.client();
    let body = vec![b'x'; 60_000];
    client.stream.conn.set_buffer_limit(None);
    client.send([get("/x", &format!("Content-Length: {}\r\n", body.len())).into_bytes(), body.clone()].concat());
    assert!(client.reply().body == body);
    let chunk = Bytes::from(body);
    run(async {
        let mut sender = http2(&secure, &["h2"]).await.unwrap();
        let message = https("POST", "/x").body(Frames::text(chunk.clone())).unwrap();
        let response = sender.send_request(message).await.unwrap();
        assert!(response.into_body().collect().await.unwrap().to_bytes() == chunk);
    });
}
