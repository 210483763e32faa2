//! An app that speaks HTTP/2 and nothing else: what is so with any app is so with this one.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use cloakroom_sidecar::metrics::Cut;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::time::Sleep;

use crate::harness::{App, JWT, Sidecar, get, token};
use crate::http2::{Frames, ask, connect, request, run, whole};

/// Frames, then silence or an error; says when nobody wants more.
struct Script {
    frames: std::vec::IntoIter<Frame<Bytes>>,
    then: Then,
    pause: Option<Pin<Box<Sleep>>>,
    left: Sender<&'static str>,
}

impl Script {
    fn new(frames: Vec<Frame<Bytes>>, then: Then, left: Sender<&'static str>) -> Self {
        Self { frames: frames.into_iter(), then, pause: None, left }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Then {
    End,
    Silence,
    Reset,
}

impl Body for Script {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match (self.frames.next(), self.then) {
            (Some(frame), _) => Poll::Ready(Some(Ok(frame))),
            (None, Then::End) => Poll::Ready(None),
            (None, Then::Silence) => Poll::Pending,
            // What was sent has to arrive first.
            (None, Then::Reset) => {
                let pause = self.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(Duration::from_millis(300))));
                pause.as_mut().poll(cx).map(|()| Some(Err(std::io::Error::other("reset"))))
            }
        }
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.left.send("left");
    }
}

struct Started {
    sidecar: Sidecar,
    said: Receiver<&'static str>,
    connections: Arc<AtomicUsize>,
}

impl Started {
    fn awaits(&self, word: &str) {
        assert_eq!(self.said.recv_timeout(Duration::from_secs(10)), Ok(word));
    }
}

fn start() -> Started {
    let (port_sender, port) = channel();
    let (sender, said) = channel();
    let connections = Arc::<AtomicUsize>::default();
    let opened = Arc::clone(&connections);
    thread::spawn(move || {
        run(async move {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            port_sender.send(listener.local_addr().unwrap().port()).unwrap();
            let sender = Arc::new(Mutex::new(sender));
            while let Ok((stream, _)) = listener.accept().await {
                opened.fetch_add(1, Ordering::SeqCst);
                let sender = Arc::clone(&sender);
                let service = service_fn(move |request| answer(request, sender.lock().unwrap().clone()));
                let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(builder.serve_connection(TokioIo::new(stream), service));
            }
        });
    });
    let mut app = App::hello();
    app.port = port.recv().unwrap();
    let sidecar = Sidecar::with(app, |config| config["app_protocol"] = "H2c".into());
    Started { sidecar, said, connections }
}

/// Says back what it was asked, and does what the path names.
async fn answer(request: Request<Incoming>, said: Sender<&'static str>) -> Result<Response<Script>, Infallible> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    if path == "/never-answered" {
        let _ = said.send("asked");
        let _left = Script::new(vec![], Then::Silence, said);
        return std::future::pending().await;
    }
    let (sent, trailers) = if path == "/refusal" {
        (Bytes::from("no"), None)
    } else {
        match body.collect().await {
            Ok(body) => {
                let trailers = body.trailers().cloned();
                (body.to_bytes(), trailers)
            }
            Err(_) => (Bytes::from("broken"), None),
        }
    };
    let length = sent.len();
    let (then, frames) = match path.as_str() {
        "/stream" => {
            let mut trailers = trailers.unwrap_or_default();
            trailers.insert("x-token", parts.headers["authorization"].clone());
            (Then::End, vec![Frame::data("abc".into()), Frame::data("de".into()), Frame::trailers(trailers)])
        }
        "/cut" => (Then::Reset, vec![Frame::data("abc".into())]),
        "/events" => (Then::Silence, vec![Frame::data("data: 1\n\n".into())]),
        "/nothing" => (Then::End, vec![]),
        _ => (Then::End, vec![Frame::data(sent)]),
    };
    let mut response = Response::new(Script::new(frames, then, said));
    let headers = response.headers_mut();
    headers.insert("x-asked", format!("{} {} {:?}", parts.method, parts.uri, parts.version).parse().unwrap());
    headers.insert("x-seen", parts.headers["authorization"].clone());
    for name in ["content-length", "te", "connection", "transfer-encoding", "x-forwarded-for", "cookie", "expect"] {
        if let Some(value) = parts.headers.get(name) {
            headers.insert(http::HeaderName::try_from(format!("x-got-{name}")).unwrap(), value.clone());
        }
    }
    match path.as_str() {
        "/events" => drop(headers.insert("content-type", "text/event-stream".parse().unwrap())),
        "/patch" => {
            let wish = URL_SAFE_NO_PAD.encode(r#"{"cart":1}"#);
            headers.insert("cloakroom-session", wish.parse().unwrap());
        }
        "/nothing" => *response.status_mut() = StatusCode::NO_CONTENT,
        "/refusal" => *response.status_mut() = StatusCode::PAYLOAD_TOO_LARGE,
        "/echo" => drop(headers.insert("content-length", length.into())),
        _ => {}
    }
    Ok(response)
}

fn post(path: &str, fields: &str, body: &str) -> String {
    get(path, fields).replacen("GET", "POST", 1) + body
}

#[test]
fn whatever_the_client_speaks_goes_on_in_http_2() {
    let started = start();
    let sidecar = &started.sidecar;
    let mut client = sidecar.client();
    client.send(get("/a//b?c=1", "Cookie: a=1\r\nConnection: x-hop\r\nX-Hop: 1\r\nTE: trailers\r\n"));
    let reply = client.reply();
    assert_eq!((reply.status, reply.all("x-asked")), (200, vec!["GET http://shop.example.com/a/b?c=1 HTTP/2.0"]));
    assert_eq!(reply.all("x-seen"), [format!("Bearer {}", token())], "the JWT, which does not leave");
    assert_eq!((reply.all("x-got-te"), reply.all("x-got-cookie")), (vec!["trailers"], vec!["a=1"]));
    assert!(reply.all("x-got-connection").is_empty() && reply.all("date").len() == 1);
    assert!(reply.all("connection").is_empty(), "the client's stays: {}", reply.head);
    client.send(post("/echo", "Content-Length: 5\r\n", "hello"));
    let reply = client.reply();
    assert_eq!((reply.text().as_str(), reply.all("content-length")), ("hello", vec!["5"]));
    assert_eq!(reply.all("x-got-content-length"), ["5"]);
    client.send(post("/echo", "Transfer-Encoding: chunked\r\n", "3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"));
    let reply = client.reply();
    assert_eq!((reply.text().as_str(), reply.all("x-got-transfer-encoding")), ("hello", vec![]));
    client.send(get("/echo", "").replacen("GET", "HEAD", 1));
    assert_eq!(client.reply_to("HEAD").status, 200);
    client.send(get("/nothing", ""));
    assert_eq!(client.reply().status, 204);
    client.send(get("*", "").replacen("GET", "OPTIONS", 1));
    assert_eq!(client.reply().status, 200);

    let message = request("POST", "/echo").body(Frames::text("from http/2")).unwrap();
    let (status, headers, body, _) = run(ask(sidecar, message));
    assert_eq!((status.as_u16(), &body[..]), (200, &b"from http/2"[..]));
    assert_eq!(headers["x-asked"], "POST http://shop.example.com/echo HTTP/2.0");
    assert_eq!(started.connections.load(Ordering::SeqCst), 1, "one connection carries them all");
}

#[test]
fn trailers_pass_both_ways_and_carry_no_jwt() {
    let started = start();
    let mut client = started.sidecar.client();
    let trailers = "X-Sum: 5\r\nX-User-Email: forged\r\n";
    client.send(post("/stream", "Transfer-Encoding: chunked\r\n", &format!("1\r\nx\r\n0\r\n{trailers}\r\n")));
    let head = client.head();
    assert!(head.to_lowercase().contains("transfer-encoding: chunked"), "{head}");
    let mut rest = String::new();
    while !rest.contains("0\r\n") || !rest.ends_with("\r\n\r\n") {
        rest.push(char::from(client.read(1)[0]));
    }
    assert!(rest.contains("0\r\n") && rest.contains("x-sum: 5\r\n") && !rest.contains("forged"), "{rest}");
    assert!(rest.contains(&format!("x-token: Bearer {}", token())) && !rest.contains(JWT), "{rest}");

    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "6".parse().unwrap());
    let frames = vec![Frame::data(Bytes::from("x")), Frame::trailers(trailers)];
    let (_, _, body, trailers) =
        run(ask(&started.sidecar, request("POST", "/stream").body(Frames::new(frames)).unwrap()));
    assert_eq!(&body[..], b"abcde");
    assert_eq!(
        (&trailers["x-sum"], &trailers["x-token"]),
        (&"6".parse().unwrap(), &format!("Bearer {}", token()).parse().unwrap())
    );
}

#[test]
fn large_bodies_pass_both_ways_and_limits_hold() {
    let started = start();
    let body: Vec<u8> = (0..900_000_u32).map(|at| at.to_le_bytes()[0]).collect();
    let mut client = started.sidecar.client();
    for path in ["/echo", "/unannounced"] {
        client.send(post(path, &format!("Content-Length: {}\r\n", body.len()), ""));
        let mut sending = client.stream.try_clone().unwrap();
        let reply = thread::scope(|scope| {
            scope.spawn(|| std::io::Write::write_all(&mut sending, &body).unwrap());
            client.reply()
        });
        // As chunks, where the app does not say how long it is.
        assert!(if path == "/echo" { reply.body == body } else { reply.body.len() > body.len() }, "{path}");
        let message = request("POST", path).body(Frames::text(body.clone())).unwrap();
        assert!(run(ask(&started.sidecar, message)).2 == body, "{path}");
    }
    let mut client = started.sidecar.client();
    client.send(post("/echo", "Transfer-Encoding: chunked\r\n", "f4241\r\n"));
    client.send(vec![b'x'; 1_000_001]);
    assert_eq!(client.reply().status, 413);
}

#[test]
fn a_patch_is_committed_and_an_expectation_met() {
    let started = start();
    assert_eq!(started.sidecar.ask(&get("/patch", "")).status, 200);
    assert_eq!(*started.sidecar.authority.committed.lock().unwrap(), [serde_json::json!({"cart": 1})]);
    let mut client = started.sidecar.client();
    client.send(post("/echo", "Expect: 100-continue\r\nContent-Length: 5\r\n", ""));
    assert_eq!(client.reply().status, 100);
    client.send("hello");
    let reply = client.reply();
    assert_eq!((reply.text().as_str(), reply.all("x-got-expect")), ("hello", vec![]));
}

#[test]
fn an_answer_that_breaks_off_is_seen_to_break_off() {
    let started = start();
    let mut client = started.sidecar.client();
    client.send(get("/cut", ""));
    client.head();
    let rest = client.rest();
    assert!(!rest.ends_with(b"0\r\n\r\n"), "{rest:?}");
    started.sidecar.await_cut(Cut::AppClosed);
    let over_http2 = run(async {
        let mut sender = connect(&started.sidecar).await;
        let message = request("GET", "/cut").body(Frames::text("")).unwrap();
        sender.send_request(message).await.unwrap().into_body().collect().await.map(drop)
    });
    assert!(over_http2.is_err());
    started.sidecar.await_cut(Cut::AppClosed);
}

#[test]
fn an_app_may_refuse_a_body_that_it_does_not_read() {
    let started = start();
    let mut client = started.sidecar.client();
    client.send(post("/refusal", "Content-Length: 900000\r\n", "some"));
    let reply = client.reply();
    assert_eq!((reply.status, reply.all("connection")), (413, vec!["close"]));
}

#[test]
fn what_nobody_waits_for_is_given_up() {
    let started = start();
    let sidecar = &started.sidecar;
    for fields in ["", "Content-Length: 10\r\n", "Transfer-Encoding: chunked\r\n"] {
        let client = {
            let mut client = sidecar.client();
            client.send(post("/never-answered", fields, ""));
            client
        };
        started.awaits("asked");
        socket2::SockRef::from(&client.stream).set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        started.awaits("left");
        sidecar.await_cut(Cut::ClientGone);
    }
    run(async {
        let mut sender = connect(sidecar).await;
        let message = request("GET", "/never-answered").body(Frames::text("")).unwrap();
        let asking = tokio::spawn(async move { sender.send_request(message).await });
        while started.said.try_recv() != Ok("asked") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        asking.abort();
    });
    started.awaits("left");
}

#[test]
fn the_end_of_the_session_ends_what_is_under_way() {
    for over_http2 in [false, true] {
        let started = start();
        let mut client = started.sidecar.client();
        let mut polling = started.sidecar.client();
        polling.send(get("/never-answered", ""));
        started.awaits("asked");
        if over_http2 {
            run(async {
                let mut sender = connect(&started.sidecar).await;
                let message = request("GET", "/events").body(Frames::text("")).unwrap();
                let mut body = sender.send_request(message).await.unwrap().into_body();
                assert!(body.frame().await.unwrap().unwrap().is_data());
                started.sidecar.authority.revoke(&token());
                assert!(body.frame().await.unwrap().is_err());
            });
        } else {
            client.send(get("/events", ""));
            assert!(client.head().starts_with("HTTP/1.1 200 "));
            started.sidecar.authority.revoke(&token());
            let _ = client.rest();
        }
        assert_eq!(polling.reply().status, 401);
        started.awaits("left");
        started.awaits("left");
        started.sidecar.await_cut(Cut::SessionEnded);
    }
}

#[test]
fn a_socket_is_not_opened_and_the_request_is_an_ordinary_one() {
    let started = start();
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n";
    let reply = started.sidecar.ask(&get("/ws", upgrade));
    assert_eq!((reply.status, reply.all("x-asked").len(), reply.all("upgrade").len()), (200, 1, 0));
}

#[test]
fn an_app_that_speaks_http_1_only_is_a_bad_gateway_there() {
    let sidecar = Sidecar::with(App::hello(), |config| config["app_protocol"] = "H2c".into());
    assert_eq!(sidecar.ask(&get("/x", "")).status, 502);
    let message = request("GET", "/x").body(Frames::text("")).unwrap();
    let answer = run(async { whole(connect(&sidecar).await.send_request(message).await.unwrap()).await });
    assert_eq!(answer.0, 502);
}
