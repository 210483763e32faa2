//! HTTP/2: the same way for every request.

use std::future::Future;
use std::io::{Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cloakroom_sidecar::metrics::{Cut, Http2Error, Label};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use crate::grpc::{call, framed, grpc_app};
use crate::harness::{App, Client, JWT, Sidecar, read_request, token, unknown_token};

/// Frames with a little time between them.
pub(crate) struct Frames {
    frames: std::vec::IntoIter<Frame<Bytes>>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Frames {
    pub(crate) fn new(frames: Vec<Frame<Bytes>>) -> Self {
        Self { frames: frames.into_iter(), pause: None }
    }

    pub(crate) fn text(text: impl Into<Bytes>) -> Self {
        let text = text.into();
        Self::new(if text.is_empty() { vec![] } else { vec![Frame::data(text)] })
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let pause = self.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(Duration::from_millis(20))));
        std::task::ready!(pause.as_mut().poll(cx));
        self.pause = None;
        Poll::Ready(self.frames.next().map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.frames.len() == 0
    }
}

pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

pub(crate) async fn connect(sidecar: &Sidecar) -> SendRequest<Frames> {
    let stream = TcpStream::connect(sidecar.address).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

pub(crate) fn request(method: &str, path: &str) -> http::request::Builder {
    Request::builder()
        .method(method)
        .uri(format!("http://shop.example.com{path}"))
        .header("authorization", format!("Bearer {}", token()))
}

pub(crate) async fn ask(sidecar: &Sidecar, request: Request<Frames>) -> (StatusCode, HeaderMap, Bytes, HeaderMap) {
    whole(connect(sidecar).await.send_request(request).await.unwrap()).await
}

pub(crate) async fn whole(response: Response<Incoming>) -> (StatusCode, HeaderMap, Bytes, HeaderMap) {
    let (parts, body) = response.into_parts();
    let collected = body.collect().await.unwrap();
    let trailers = collected.trailers().cloned().unwrap_or_default();
    (parts.status, parts.headers, collected.to_bytes(), trailers)
}

#[test]
fn a_request_goes_the_same_way_as_over_http_1() {
    let sidecar = Sidecar::start(App::hello());
    let message = request("GET", "/a//b?c=1")
        .header("cookie", "a=1")
        .header("cookie", "__Host-cloakroom-flow-x=y")
        .header("cookie", "b=2");
    let message = message.header("x_user_email", "forged").body(Frames::text("")).unwrap();
    let (status, headers, body, _) = run(ask(&sidecar, message));
    assert_eq!((status.as_u16(), &body[..], headers["content-length"].as_bytes()), (200, &b"hello"[..], &b"5"[..]));
    let received = sidecar.app.only();
    assert_eq!(received.line(), "GET /a/b?c=1 HTTP/1.1");
    assert_eq!(received.all("host"), ["shop.example.com"]);
    assert_eq!(received.all("authorization"), [format!("Bearer {JWT}")]);
    assert_eq!(received.all("cookie"), ["a=1; b=2"]);
    assert!(!received.head.contains("forged"));
}

#[test]
fn bodies_and_trailers_pass_both_ways() {
    let sidecar = Sidecar::start(App::saying(&format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 5\r\nX-Token: {JWT}\r\n\r\n"
    )));
    let mut trailers = HeaderMap::new();
    trailers.insert("x-check", "1".parse().unwrap());
    trailers.insert("authorization", "Bearer evil".parse().unwrap());
    let frames = vec![Frame::data(Bytes::from("ab")), Frame::data(Bytes::from("c")), Frame::trailers(trailers)];
    let (_, _, body, trailers) = run(ask(&sidecar, request("POST", "/x").body(Frames::new(frames)).unwrap()));
    assert_eq!(&body[..], b"abcde");
    assert_eq!((&trailers["x-sum"], &trailers["x-token"]), (&"5".parse().unwrap(), &token().parse().unwrap()));
    assert_eq!(sidecar.app.only().body, b"2\r\nab\r\n1\r\nc\r\n0\r\nx-check: 1\r\n\r\n");
}

#[test]
fn large_bodies_pass_and_connections_to_the_app_are_used_again() {
    let sidecar = Sidecar::start(App::new(|request| {
        let mut reply = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", request.body.len()).into_bytes();
        reply.extend_from_slice(&request.body);
        reply
    }));
    let body: Vec<u8> = (0..900_000_u32).map(|at| at.to_le_bytes()[0]).collect();
    run(async {
        let mut sender = connect(&sidecar).await;
        for _ in 0..3 {
            let message =
                request("PUT", "/x").header("content-length", body.len()).body(Frames::text(body.clone())).unwrap();
            let (status, _, answer, _) = whole(sender.send_request(message).await.unwrap()).await;
            assert_eq!(status, 200);
            assert!(answer == body);
        }
    });
}

#[test]
fn many_streams_at_once_do_not_mix() {
    let sidecar = Sidecar::start(App::new(|request| {
        let body = request.path().to_owned();
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
    }));
    run(async {
        let sender = connect(&sidecar).await;
        let tasks: Vec<_> = (0..100)
            .map(|count| {
                let mut sender = sender.clone();
                tokio::spawn(async move {
                    let path = format!("/{count}");
                    let message = request("GET", &path).body(Frames::text("")).unwrap();
                    assert_eq!(whole(sender.send_request(message).await.unwrap()).await.2, path);
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
}

#[test]
fn refusals_are_the_same_as_over_http_1() {
    let sidecar = Sidecar::start(App::hello());
    let status =
        |builder: http::request::Builder| run(ask(&sidecar, builder.body(Frames::text("")).unwrap())).0.as_u16();
    assert_eq!(status(request("GET", "/admin/x")), 403);
    assert_eq!(status(request("GET", "/x/..%2fadmin")), 400);
    assert_eq!(status(request("GET", "/x").header("host", "other.example.com")), 400);
    assert_eq!(status(request("GET", "/x").header("authorization", format!("Bearer {}", unknown_token()))), 400);
    // hyper answers this itself, by the list as a whole.
    assert_eq!(status(request("GET", &format!("/{}", "x".repeat(9000)))), 414);
    assert_eq!(status(request("TRACE", "/x")), 405);
    assert_eq!(status(Request::builder().uri("http://a/x")), 401);
    assert_eq!(status(request("POST", "/x").header("content-length", "0")), 200);
    assert_eq!(sidecar.app.only().path(), "/x");
}

#[test]
fn a_body_over_the_limit_is_refused() {
    let sidecar = Sidecar::start(App::hello());
    let message = request("POST", "/x")
        .body(Frames::new((0..2).map(|_| Frame::data(Bytes::from(vec![0; 600_000]))).collect()))
        .unwrap();
    assert_eq!(run(ask(&sidecar, message)).0, 413);
    let message =
        request("POST", "/x").header("content-length", "1000001").body(Frames::text(vec![0; 1_000_001])).unwrap();
    assert_eq!(run(ask(&sidecar, message)).0, 413);
    assert!(sidecar.app.received().is_empty());
}

#[test]
fn an_answer_that_breaks_off_resets_the_stream() {
    for reply in [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\nConnection: close\r\n\r\nshort",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nshort\r\n",
    ] {
        let sidecar = Sidecar::start(App::saying(reply));
        run(async {
            let message = request("GET", "/x").body(Frames::text("")).unwrap();
            // A reset may overtake the head.
            if let Ok(response) = connect(&sidecar).await.send_request(message).await {
                assert!(response.into_body().collect().await.is_err(), "{reply}");
            }
        });
        sidecar.await_cut(Cut::AppClosed);
    }
    let sidecar = Sidecar::start(App::saying("HTTP/1.0 200 OK\r\nConnection: close\r\n\r\nto the end"));
    assert_eq!(run(ask(&sidecar, request("GET", "/x").body(Frames::text("")).unwrap())).2, "to the end");
}

#[test]
fn a_trace_goes_on_over_http_2_and_in_calls() {
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    let plain = Sidecar::start(App::hello());
    let message = request("GET", "/x").header("traceparent", parent).header("tracestate", "vendor=1");
    assert_eq!(run(ask(&plain, message.body(Frames::text("")).unwrap())).0, 200);
    let received = plain.app.only();
    assert_eq!(received.all("traceparent"), [parent]);
    assert_eq!(received.all("tracestate"), ["vendor=1"]);

    let calls = Sidecar::start(grpc_app());
    let message = call("/grpc.Test/Echo").header("traceparent", parent).body(Frames::text(framed("message"))).unwrap();
    let (_, headers, ..) = run(ask(&calls, message));
    assert_eq!(headers["x-trace"], parent);
}

#[test]
fn an_event_stream_may_be_silent_for_longer_than_a_request() {
    let sidecar = Sidecar::with(crate::upgrades::event_after(Duration::from_millis(2500)), |config| {
        config["limits"]["idle_timeout"] = 1.into();
    });
    let (status, _, body, _) = run(ask(&sidecar, request("GET", "/events").body(Frames::text("")).unwrap()));
    assert_eq!((status.as_u16(), &body[..]), (200, &b"data: 1\n\n"[..]));
}

#[test]
fn clients_that_go_away_are_counted_and_answers_that_were_whole_are_not() {
    let sidecar = Sidecar::start(App::raw(|mut stream, received| {
        let request = read_request(&mut stream).unwrap();
        if request.path() == "/begun" {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun").unwrap();
        }
        received.lock().unwrap().push(request);
        let _ = stream.read(&mut [0]);
    }));
    for path in ["/begun", "/not"] {
        run(async {
            let mut sender = connect(&sidecar).await;
            let answer = sender.send_request(request("GET", path).body(Frames::text("")).unwrap());
            if path == "/begun" {
                answer.await.unwrap().into_body().frame().await.unwrap().unwrap();
            } else {
                tokio::time::timeout(Duration::from_millis(300), answer).await.unwrap_err();
            }
        });
        sidecar.await_cut(Cut::ClientGone);
    }
    let sidecar = Sidecar::start(grpc_app());
    run(ask(&sidecar, call("/grpc.Test/Echo").body(Frames::text(framed("message"))).unwrap()));
    let sum = |sidecar: &Sidecar| {
        Cut::values().iter().map(|(cut, _)| sidecar.metrics.answers_cut.of(*cut).get()).sum::<u64>()
    };
    assert_eq!(sum(&sidecar), 0);
    let sidecar = Sidecar::start(App::hello());
    run(ask(&sidecar, request("GET", "/x").body(Frames::text("")).unwrap()));
    assert_eq!(sum(&sidecar), 0);
}

#[test]
fn draining_says_goaway_and_finishes_what_was_begun() {
    let mut sidecar = Sidecar::start(App::new(|_| {
        thread::sleep(Duration::from_millis(300));
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec()
    }));
    run(async {
        let mut sender = connect(&sidecar).await;
        let answer = sender.send_request(request("GET", "/x").body(Frames::text("")).unwrap());
        tokio::time::sleep(Duration::from_millis(100)).await;
        sidecar.drain();
        assert_eq!(whole(answer.await.unwrap()).await.2, "ok");
        let late = sender.send_request(request("GET", "/y").body(Frames::text("")).unwrap()).await;
        assert!(late.is_err());
    });
    let began = Instant::now();
    sidecar.join();
    assert!(began.elapsed() < Duration::from_secs(2));
}

#[test]
fn an_upload_may_take_longer_than_an_answer_may() {
    let sidecar = Sidecar::with(App::hello(), |config| config["limits"]["idle_timeout"] = 1.into());
    // A frame each 20 ms, for two seconds and more.
    let frames = (0..110).map(|_| Frame::data(Bytes::from("x"))).collect();
    assert_eq!(run(ask(&sidecar, request("POST", "/x").body(Frames::new(frames)).unwrap())).0, 200);
}

#[test]
fn the_star_is_for_options_only() {
    let sidecar = Sidecar::start(App::hello());
    let mut client = Client::connect(sidecar.address);
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    client.send([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    // :method GET, :scheme http, :path *, :authority a.
    let head = [0x82, 0x86, 0x04, 0x01, b'*', 0x41, 0x01, b'a'];
    client.send([&[0, 0, 8, 1, 5, 0, 0, 0, 1][..], &head].concat());
    thread::sleep(Duration::from_millis(300));
    client.finish_sending();
    // :status 400 is the twelfth entry of HPACK's table.
    assert!(client.rest().contains(&0x8c));
    assert!(sidecar.app.received().is_empty());
}

#[test]
fn a_flood_of_resets_ends_the_connection() {
    let sidecar = Sidecar::start(App::hello());
    let mut client = Client::connect(sidecar.address);
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    client.send([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    // :method GET, :scheme http, :path /, and :authority a.
    let head = [0x82, 0x86, 0x84, 0x41, 0x01, b'a'];
    for stream in (1..4000_u32).step_by(2) {
        let mut frames = vec![0, 0, u8::try_from(head.len()).unwrap(), 1, 4];
        frames.extend(stream.to_be_bytes());
        frames.extend(head);
        frames.extend([0, 0, 4, 3, 0]);
        frames.extend(stream.to_be_bytes());
        frames.extend(8_u32.to_be_bytes());
        client.send(frames);
    }
    let said = client.rest();
    // GOAWAY with ENHANCE_YOUR_CALM.
    let goaway = said.windows(9).position(|frame| frame[3] == 7 && frame[..3] != [0, 0, 0]);
    assert!(goaway.is_some_and(|at| said[at + 13..at + 17] == [0, 0, 0, 11]), "{said:?}");
    assert_eq!(sidecar.metrics.http2_errors.of(Http2Error::EnhanceYourCalm).get(), 1);
    assert_eq!(sidecar.ask(&crate::harness::get("/x", "")).status, 200);
}

#[test]
fn an_endless_header_block_ends_the_connection() {
    let sidecar = Sidecar::start(App::hello());
    let mut client = Client::connect(sidecar.address);
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    client.send([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    client.send([0, 0, 3, 1, 0, 0, 0, 0, 1, 0x82, 0x86, 0x84]);
    for _ in 0..10_000 {
        // CONTINUATION without END_HEADERS: a literal field, 100 bytes of value.
        let mut frame = vec![0, 0, 106, 9, 0, 0, 0, 0, 1, 0x00, 0x03, b'a', b'b', b'c', 101];
        frame.extend([b'x'; 101]);
        client.send(frame);
    }
    assert!(!client.rest().is_empty());
    assert_eq!(sidecar.ask(&crate::harness::get("/x", "")).status, 200);
}

#[test]
fn whoever_breaks_the_protocol_is_counted() {
    let sidecar = Sidecar::start(App::hello());
    // :method GET, :scheme http, :path /, :authority a.
    let head = [0x82, 0x86, 0x84, 0x41, 0x01, b'a'];
    let upper_case = [&head[..], &[0x00, 0x01, b'X', 0x01, b'1']].concat();
    let connection = [&head[..], b"\x00\x0aconnection\x01x"].concat();
    let field = [&[0x00, 0x01, b'x', 0x7f, 0xe9, 0x06], &[b'y'; 1000][..]].concat();
    let huge = [&head[..], &field.repeat(16)].concat();
    for (kind, flags, stream, payload, error) in [
        (1, 5, 1, upper_case, Http2Error::Protocol),
        (1, 5, 1, connection, Http2Error::Protocol),
        // Over twice the limit, with a body to come: answered 431, and the stream is reset.
        (1, 4, 1, huge, Http2Error::Protocol),
        (0, 0, 1, vec![0; 16_385], Http2Error::FrameSize),
        (1, 5, 1, vec![0xff; 20], Http2Error::Protocol),
        (8, 0, 0, vec![0x7f, 0xff, 0xff, 0xff], Http2Error::FlowControl),
    ] {
        let before = sidecar.metrics.http2_errors.of(error).get();
        let mut client = Client::connect(sidecar.address);
        client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        client.send([0, 0, 0, 4, 0, 0, 0, 0, 0]);
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        client.send([&length[1..], &[kind, flags, 0, 0, 0, stream], &payload].concat());
        let end = Instant::now() + Duration::from_secs(10);
        while sidecar.metrics.http2_errors.of(error).get() == before {
            assert!(Instant::now() < end, "{error} is not counted");
            thread::sleep(Duration::from_millis(10));
        }
    }
    assert!(sidecar.app.received().is_empty());
    let fine = run(ask(&sidecar, request("GET", "/x").body(Frames::text("")).unwrap()));
    let counted: u64 =
        Http2Error::values().iter().map(|(error, _)| sidecar.metrics.http2_errors.of(*error).get()).sum();
    assert_eq!((fine.0.as_u16(), counted), (200, 6), "what is well-formed is not counted");
}

#[test]
fn answers_of_our_own_to_head_have_no_content() {
    let sidecar = Sidecar::start(App::saying(""));
    for (path, status) in [("/x", 502), ("/never/x", 403), ("/a%2fb", 400), ("/.cloakroom/x", 200)] {
        let (found, headers, body, _) = run(ask(&sidecar, request("HEAD", path).body(Frames::text("")).unwrap()));
        assert_eq!((found.as_u16(), body.len()), (status, 0), "{path}");
        assert_ne!(headers["content-length"], "0", "{path}");
    }
    let anonymous = Request::builder().method("HEAD").uri("http://a/x").body(Frames::text("")).unwrap();
    assert_eq!(run(ask(&sidecar, anonymous)).0, 401);
}

#[test]
fn a_connection_on_which_something_moves_is_not_told_to_go() {
    let sidecar = Sidecar::with(App::hello(), |config| config["limits"]["idle_timeout"] = 1.into());
    run(async {
        let mut sender = connect(&sidecar).await;
        for _ in 0..12 {
            let answer = sender.send_request(request("GET", "/x").body(Frames::text("")).unwrap()).await;
            assert_eq!(answer.expect("the connection goes on").status(), 200);
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        // And is, once nothing does.
        let began = Instant::now();
        while sender.ready().await.is_ok() {
            assert!(began.elapsed() < Duration::from_secs(10));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
}

#[test]
fn a_head_that_is_too_large_is_refused_with_a_word_of_why() {
    let sidecar = Sidecar::start(App::hello());
    let message = request("GET", "/x").header("x", "y".repeat(8100)).body(Frames::text("")).unwrap();
    let (status, headers, ..) = run(ask(&sidecar, message));
    assert_eq!(status, 431);
    assert!(headers.contains_key("cloakroom-decision"));
    // Each field costs HTTP/2 thirty-two bytes more, which are not what the policy speaks of.
    let many = (0..90).fold(request("GET", "/x"), |message, _| message.header("x", "y".repeat(80)));
    assert_eq!(run(ask(&sidecar, many.body(Frames::text("")).unwrap())).0, 200);
}

#[test]
fn a_cookie_in_many_pieces_is_one_field() {
    let sidecar = Sidecar::start(App::hello());
    let many = (0..150).fold(request("GET", "/x"), |message, at| message.header("cookie", format!("a{at}=b")));
    assert_eq!(run(ask(&sidecar, many.body(Frames::text("")).unwrap())).0, 200);
    let whole: Vec<_> = (0..150).map(|at| format!("a{at}=b")).collect();
    assert_eq!(sidecar.app.only().all("cookie"), [whole.join("; ")]);
}
