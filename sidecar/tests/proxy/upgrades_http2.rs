//! WebSockets over HTTP/2 (RFC 8441), to an app that opens them as HTTP/1.1 does.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::ext::Protocol;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use sha1::{Digest as _, Sha1};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use cloakroom_sidecar::metrics::Cut;

use crate::harness::{App, JWT, Received, Sidecar, read_head, token};
use crate::http2::{Frames, connect, request, run};

/// Agrees to any upgrade and echoes; says the JWT that it got, too.
fn echo() -> App {
    App::raw(|mut stream, received| {
        while let Some(head) = read_head(&mut stream) {
            received.lock().unwrap().push(Received { head: head.clone(), body: vec![] });
            if !head.contains("Upgrade: websocket") {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
                continue;
            }
            let accept = accept(received.lock().unwrap().last().unwrap());
            let reply = format!(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\
                 Sec-WebSocket-Protocol: chat\r\nX-Leak: {JWT}\r\n\r\nhi"
            );
            stream.write_all(reply.as_bytes()).unwrap();
            let mut bytes = [0; 1024];
            while let Ok(count) = stream.read(&mut bytes) {
                if count == 0 || stream.write_all(&bytes[..count]).is_err() {
                    break;
                }
            }
            let _ = stream.write_all(b"bye");
            return;
        }
    })
}

/// RFC 6455 §4.2.2
fn accept(received: &Received) -> String {
    let key = received.all("sec-websocket-key").concat() + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    STANDARD.encode(Sha1::digest(key))
}

fn opening(protocol: &'static str, builder: http::request::Builder) -> Request<Frames> {
    let mut message = builder.header("sec-websocket-version", "13").body(Frames::text("")).unwrap();
    message.extensions_mut().insert(Protocol::from_static(protocol));
    message
}

/// Asks once that is allowed: after the sidecar's settings have come.
async fn open(sidecar: &Sidecar, message: Request<Frames>) -> Response<Incoming> {
    let mut sender = connect(sidecar).await;
    let first = sender.send_request(request("GET", "/x").body(Frames::text("")).unwrap()).await.unwrap();
    first.into_body().collect().await.unwrap();
    sender.send_request(message).await.unwrap()
}

async fn opened(sidecar: &Sidecar) -> TokioIo<Upgraded> {
    let response = open(sidecar, opening("websocket", request("CONNECT", "/ws?a=b"))).await;
    assert_eq!(response.status(), 200);
    let headers = response.headers();
    assert_eq!(headers["sec-websocket-protocol"], "chat");
    assert_eq!(headers["x-leak"].as_bytes(), token().as_bytes());
    assert_eq!(headers["cloakroom-decision"].len(), 12);
    for name in ["sec-websocket-accept", "upgrade", "connection"] {
        assert!(!headers.contains_key(name), "{name}");
    }
    let mut socket = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    assert_eq!(read(&mut socket, 2).await, b"hi");
    socket
}

async fn read(socket: &mut TokioIo<Upgraded>, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    socket.read_exact(&mut bytes).await.unwrap();
    bytes
}

#[test]
fn the_app_is_asked_as_http_1_asks_and_bytes_go_both_ways() {
    let sidecar = Sidecar::start(echo());
    run(async {
        let mut socket = opened(&sidecar).await;
        let received = sidecar.app.received().pop().unwrap();
        assert_eq!(received.line(), "GET /ws?a=b HTTP/1.1");
        assert_eq!((received.all("upgrade"), received.all("connection")), (vec!["websocket"], vec!["Upgrade"]));
        assert_eq!(received.all("sec-websocket-key")[0].len(), 24);
        assert_eq!(received.all("authorization"), [format!("Bearer {JWT}")]);
        assert_eq!(sidecar.metrics.upgraded.get(), 1);
        for size in [4, 100_000] {
            let message = vec![b'm'; size];
            let (mut from, mut to) = tokio::io::split(socket);
            let sending = async {
                to.write_all(&message).await.unwrap();
                to.flush().await.unwrap();
            };
            let mut bytes = vec![0; size];
            let reading = async { from.read_exact(&mut bytes).await.map(|_| ()).unwrap() };
            tokio::join!(sending, reading);
            assert!(bytes == message, "{size} bytes came back changed");
            socket = from.unsplit(to);
        }
        socket.shutdown().await.unwrap();
        let mut rest = Vec::new();
        socket.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"bye");
    });
}

#[test]
fn the_end_of_the_session_ends_it() {
    let sidecar = Sidecar::start(echo());
    run(async {
        let mut socket = opened(&sidecar).await;
        let began = Instant::now();
        sidecar.authority.revoke(&token());
        let _ = socket.read_to_end(&mut Vec::new()).await;
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    });
    sidecar.await_cut(Cut::SessionEnded);
}

#[test]
fn an_idle_one_is_closed() {
    let sidecar = Sidecar::with(echo(), |config| config["limits"]["stream_idle_timeout"] = 1.into());
    run(async {
        let mut socket = opened(&sidecar).await;
        let began = Instant::now();
        let _ = socket.read_to_end(&mut Vec::new()).await;
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    });
    sidecar.await_cut(Cut::TimedOut);
}

#[test]
fn whoever_may_not_gets_no_socket() {
    let sidecar = Sidecar::start(echo());
    let status = |protocol, builder: http::request::Builder| {
        run(async { open(&sidecar, opening(protocol, builder)).await.status().as_u16() })
    };
    let anonymous = || Request::builder().method("CONNECT").uri("http://shop.example.com/ws");
    let by_cookie = |origin: &str| {
        anonymous().header("cookie", format!("__Host-cloakroom={}", token())).header("origin", origin.to_owned())
    };
    assert_eq!(status("websocket", anonymous()), 401);
    assert_eq!(status("websocket", request("CONNECT", "/admin/ws")), 403);
    assert_eq!(status("websocket", by_cookie("https://evil.example")), 403);
    assert_eq!(status("websocket", by_cookie("https://shop.example.com")), 200);
    assert_eq!(status("connect-udp", request("CONNECT", "/ws")), 405);
    let sockets = sidecar.app.received().iter().filter(|received| received.path() == "/ws").count();
    assert_eq!(sockets, 1);
}

#[test]
fn an_app_that_takes_no_notice_is_no_open_socket() {
    for (reply, status) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 502),
        // It answers some other handshake, or none.
        ("HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n", 502),
        ("HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", 502),
        ("HTTP/1.1 426 Upgrade Required\r\nContent-Length: 2\r\n\r\nno", 426),
    ] {
        let sidecar = Sidecar::start(App::saying(reply));
        run(async {
            let response = open(&sidecar, opening("websocket", request("CONNECT", "/ws"))).await;
            assert_eq!(response.status(), status);
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert!(status != 426 || body == "no");
        });
    }
}
