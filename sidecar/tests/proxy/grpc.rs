//! gRPC calls with their trailers: such as last, many at a time, and messages that are too long.

use std::future::Future;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cloakroom_sidecar::metrics::{Cut, Outcome};
use cloakroom_sidecar::request::head::MAX_FIELDS;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::harness::{App, Sidecar, token, unknown_token};
use crate::http2::{Frames, ask, connect, request, run, whole};

/// An app that speaks HTTP/2 only: echoes messages, then trailers; `/grpc.Test/Open` stays open, `/grpc.Test/Early` answers first and reads then.
pub(crate) fn grpc_app() -> App {
    grpc_app_that_takes(None)
}

/// So many calls on one connection.
pub(crate) fn grpc_app_that_takes(most: Option<u32>) -> App {
    let (port_sender, port) = std::sync::mpsc::channel();
    thread::spawn(move || {
        run(async move {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            port_sender.send(listener.local_addr().unwrap().port()).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let service = service_fn(|request: Request<Incoming>| async move {
                    let headers = request.headers().clone();
                    let path = request.uri().path().to_owned();
                    let mut body = request.into_body();
                    let body = if path == "/grpc.Test/Early" {
                        tokio::spawn(async move { while body.frame().await.is_some() {} });
                        framed("begun")
                    } else {
                        body.collect().await?.to_bytes()
                    };
                    let mut trailers = HeaderMap::new();
                    trailers.insert("grpc-status", "0".parse().unwrap());
                    trailers.insert("x-seen", headers["authorization"].clone());
                    let mut frames = vec![Frame::data(body)];
                    if path != "/grpc.Test/Echo" {
                        frames.extend((0..500).map(|_| Frame::data(Bytes::from("x"))));
                    }
                    frames.push(Frame::trailers(trailers));
                    let mut response = Response::new(Frames::new(frames));
                    response.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
                    response.headers_mut().insert("x-te", headers["te"].clone());
                    if let Some(trace) = headers.get("traceparent") {
                        response.headers_mut().insert("x-trace", trace.clone());
                    }
                    Ok::<_, hyper::Error>(response)
                });
                let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                builder.max_concurrent_streams(most);
                tokio::spawn(builder.serve_connection(TokioIo::new(stream), service));
            }
        });
    });
    let mut app = App::hello();
    app.port = port.recv().unwrap();
    app
}

/// A message with its length before it.
pub(crate) fn framed(message: impl AsRef<[u8]>) -> Bytes {
    let message = message.as_ref();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0], &length[..], message].concat().into()
}

pub(crate) fn call(path: &str) -> http::request::Builder {
    request("POST", path).header("content-type", "application/grpc+proto").header("te", "trailers")
}

#[test]
fn a_grpc_call_goes_on_as_http_2_with_its_trailers() {
    let sidecar = Sidecar::start(grpc_app());
    for _ in 0..3 {
        let (status, headers, body, trailers) =
            run(ask(&sidecar, call("/grpc.Test/Echo").body(Frames::text(framed("message"))).unwrap()));
        assert_eq!(
            (status.as_u16(), &body[..], headers["x-te"].as_bytes()),
            (200, &framed("message")[..], &b"trailers"[..])
        );
        assert_eq!(trailers["grpc-status"], "0");
        // The app saw the JWT; what it says of it is the token again.
        assert_eq!(trailers["x-seen"], format!("Bearer {}", token()));
    }
}

#[test]
fn a_call_lives_as_long_as_its_messages_come_either_way() {
    let sidecar = Sidecar::with(grpc_app(), |config| config["limits"]["stream_idle_timeout"] = 1.into());
    // A message each 20 ms, for two seconds and more, before the app says anything.
    let frames = (0..110).map(|_| Frame::data(framed("x"))).collect();
    let (_, _, body, trailers) = run(ask(&sidecar, call("/grpc.Test/Echo").body(Frames::new(frames)).unwrap()));
    assert_eq!((body.len(), trailers["grpc-status"].as_bytes()), (660, &b"0"[..]));
}

#[test]
fn grpc_callers_are_refused_in_their_own_terms() {
    let sidecar = Sidecar::start(grpc_app());
    let refused = |builder: http::request::Builder| {
        let (status, headers, body, _) = run(ask(&sidecar, builder.body(Frames::text("m")).unwrap()));
        assert!(body.is_empty());
        (status.as_u16(), headers["grpc-status"].to_str().unwrap().to_owned())
    };
    let anonymous = |path: &str| {
        Request::builder().method("POST").uri(format!("http://a{path}")).header("content-type", "application/grpc")
    };
    assert_eq!(refused(anonymous("/grpc.Test/Echo")), (200, "16".into()));
    assert_eq!(refused(call("/admin/x")), (200, "7".into()));
    sidecar.authority.down.store(true, Ordering::SeqCst);
    let unknown = anonymous("/grpc.Test/Echo").header("authorization", format!("Bearer {}", unknown_token()));
    assert_eq!(refused(unknown), (200, "14".into()));
    let mut nowhere = App::hello();
    nowhere.port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let sidecar = Sidecar::start(nowhere);
    let (status, headers, ..) = run(ask(&sidecar, call("/grpc.Test/Echo").body(Frames::text(framed("m"))).unwrap()));
    assert_eq!((status.as_u16(), &headers["grpc-status"]), (200, &"14".parse().unwrap()));
}

#[test]
fn the_end_of_the_session_ends_its_calls() {
    let sidecar = Sidecar::start(grpc_app());
    run(async {
        let message = call("/grpc.Test/Open").body(Frames::text(framed("message"))).unwrap();
        let mut body = connect(&sidecar).await.send_request(message).await.unwrap().into_body();
        body.frame().await.unwrap().unwrap();
        let began = Instant::now();
        sidecar.authority.revoke(&token());
        let mut trailers = HeaderMap::new();
        while let Some(frame) = body.frame().await {
            if let Ok(last) = frame.unwrap().into_trailers() {
                trailers = last;
            }
        }
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        assert_eq!(trailers["grpc-status"], "16");
    });
    sidecar.await_cut(Cut::SessionEnded);
}

#[test]
fn what_is_no_call_is_not_refused_like_one() {
    let sidecar = Sidecar::start(App::hello());
    let reply =
        sidecar.ask("POST /x HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\n\r\n");
    assert_eq!((reply.status, reply.all("grpc-status")), (401, vec![]));
    let asked = Request::builder().uri("http://a/x").header("content-type", "application/grpc");
    let (status, headers, ..) = run(ask(&sidecar, asked.body(Frames::text("")).unwrap()));
    assert!(status == 401 && !headers.contains_key("grpc-status"), "{headers:?}");
}

/// A message each 20 ms, for four seconds; the app answers nothing before the last.
fn messages() -> Frames {
    Frames::new((0..200).map(|_| Frame::data(framed("x"))).collect())
}

/// All at the same time; what they came to, in their order.
async fn join_all<F>(calls: impl Iterator<Item = F>) -> Vec<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    let mut outputs = Vec::new();
    for call in calls.map(tokio::spawn).collect::<Vec<_>>() {
        outputs.push(call.await.unwrap());
    }
    outputs
}

#[test]
fn the_end_of_the_session_ends_a_call_that_the_app_has_not_answered() {
    let sidecar = Sidecar::start(grpc_app());
    run(async {
        let mut sender = connect(&sidecar).await;
        let began = Instant::now();
        let answer = sender.send_request(call("/grpc.Test/Echo").body(messages()).unwrap());
        let (answer, ()) = tokio::join!(answer, async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            sidecar.authority.revoke(&token());
        });
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        let (status, headers, _, _) = whole(answer.unwrap()).await;
        assert_eq!((status.as_u16(), headers["grpc-status"].as_bytes()), (200, &b"16"[..]));
    });
}

#[test]
fn a_call_that_ends_its_own_session_is_still_answered() {
    let sidecar = Sidecar::start(grpc_app());
    run(async {
        let mut sender = connect(&sidecar).await;
        // A little longer than the worker's clock takes to see the end.
        let frames = (0..25).map(|_| Frame::data(framed("x"))).collect();
        let answer = sender.send_request(call("/grpc.Test/Echo").body(Frames::new(frames)).unwrap());
        let (answer, ()) = tokio::join!(answer, async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            sidecar.authority.revoke(&token());
        });
        let (_, _, body, trailers) = whole(answer.unwrap()).await;
        assert_eq!((body.len(), trailers["grpc-status"].as_bytes()), (150, &b"0"[..]));
    });
}

#[test]
fn more_calls_than_the_app_takes_on_a_connection_get_another() {
    let sidecar = Sidecar::start(grpc_app_that_takes(Some(3)));
    run(async {
        let sender = connect(&sidecar).await;
        let began = Instant::now();
        // Each stays for ten seconds, but its head comes at once.
        let heads = (0..12).map(|_| {
            let mut sender = sender.clone();
            async move { sender.send_request(call("/grpc.Test/Open").body(Frames::text("")).unwrap()).await }
        });
        let heads = join_all(heads).await;
        assert!(heads.iter().all(|head| head.as_ref().unwrap().headers().get("grpc-status").is_none()));
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    });
}

#[test]
fn whoever_takes_no_answers_leaves_the_others_theirs() {
    const CALLS: usize = 40;
    let sidecar = Sidecar::start(grpc_app());
    let large = framed(vec![b'x'; 200_000]);
    run(async {
        let stream = TcpStream::connect(sidecar.address).await.unwrap();
        let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(1);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let stalled = (0..CALLS).map(|_| {
            let (mut sender, body) = (sender.clone(), Frames::text(large.clone()));
            async move { sender.send_request(call("/grpc.Test/Echo").body(body).unwrap()).await.unwrap() }
        });
        let stalled = join_all(stalled).await;
        // What the app says to them fills all that may be held for them.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let other = ask(&sidecar, call("/grpc.Test/Echo").body(Frames::text(large.clone())).unwrap());
        let (.., body, trailers) = tokio::time::timeout(Duration::from_secs(5), other).await.unwrap();
        assert_eq!((body.len(), trailers["grpc-status"].as_bytes()), (large.len(), &b"0"[..]));
        assert_eq!(stalled.len(), CALLS);
        drop(stalled);
    });
}

#[test]
fn a_connection_that_carried_many_calls_carries_the_next() {
    let sidecar = Sidecar::start(grpc_app_that_takes(Some(2)));
    run(async {
        for _ in 0..3 {
            let sender = connect(&sidecar).await;
            let calls = (0..7).map(|n| {
                let mut sender = sender.clone();
                async move {
                    let message = call("/grpc.Test/Echo").body(Frames::text(framed(format!("{n}")))).unwrap();
                    let body = sender.send_request(message).await.unwrap().into_body();
                    body.collect().await.unwrap().to_bytes()
                }
            });
            let echoes = join_all(calls).await;
            assert_eq!(echoes, (0..7).map(|n| framed(n.to_string())).collect::<Vec<_>>());
        }
    });
}

fn small_messages(app: App) -> Sidecar {
    Sidecar::with(app, |config| config["limits"]["request_body"] = 10.into())
}

fn has_refused(sidecar: &Sidecar) {
    assert_eq!(sidecar.metrics.requests.of(Outcome::Refused).get(), 1);
    assert_eq!(sidecar.metrics.requests.of(Outcome::UpstreamFailed).get(), 0);
}

#[test]
fn a_call_may_be_longer_than_any_of_its_messages_may() {
    let sidecar = small_messages(grpc_app());
    let frames = (0..100).map(|_| Frame::data(framed("0123456789"))).collect();
    let (_, _, body, trailers) = run(ask(&sidecar, call("/grpc.Test/Echo").body(Frames::new(frames)).unwrap()));
    assert_eq!((body.len(), trailers["grpc-status"].as_bytes()), (1500, &b"0"[..]));
}

#[test]
fn a_message_that_is_too_long_exhausts_a_resource_and_blames_nobody_else() {
    let sidecar = small_messages(grpc_app());
    let frames = vec![Frame::data(framed("short")), Frame::data(framed("0123456789x"))];
    let (status, headers, body, _) = run(ask(&sidecar, call("/grpc.Test/Echo").body(Frames::new(frames)).unwrap()));
    assert_eq!((status.as_u16(), headers["grpc-status"].as_bytes(), body.len()), (200, &b"8"[..], 0));
    has_refused(&sidecar);
    let sidecar = small_messages(grpc_app());
    let announced = call("/grpc.Test/Echo").header("content-length", 16);
    let (_, headers, ..) = run(ask(&sidecar, announced.body(Frames::text(framed("0123456789x"))).unwrap()));
    assert_eq!(headers["grpc-status"], "8");
    has_refused(&sidecar);
}

#[test]
fn a_message_that_is_too_long_ends_an_answer_that_has_begun() {
    let sidecar = small_messages(grpc_app());
    run(async {
        let frames =
            (0..20).map(|_| Frame::data(framed("short"))).chain([Frame::data(framed("0123456789x"))]).collect();
        let message = call("/grpc.Test/Early").body(Frames::new(frames)).unwrap();
        let began = Instant::now();
        let (_, headers, body, trailers) = whole(connect(&sidecar).await.send_request(message).await.unwrap()).await;
        assert!(headers.get("grpc-status").is_none() && body.starts_with(&framed("begun")));
        assert_eq!((trailers["grpc-status"].as_bytes(), trailers.get("content-type")), (&b"8"[..], None));
        assert!(began.elapsed() < Duration::from_secs(5), "the app had more to say");
    });
    sidecar.await_cut(Cut::RequestBroken);
    assert_eq!(sidecar.metrics.answers_cut.of(Cut::AppClosed).get(), 0);
}

#[test]
fn a_call_may_have_as_many_fields_as_any_request() {
    let sidecar = Sidecar::start(grpc_app());
    let message = (0..MAX_FIELDS - 3).fold(call("/grpc.Test/Echo"), |call, n| call.header(format!("x-{n}"), "y"));
    let (.., body, trailers) = run(ask(&sidecar, message.body(Frames::text(framed("message"))).unwrap()));
    assert_eq!((body, trailers["grpc-status"].as_bytes()), (framed("message"), &b"0"[..]));
}
