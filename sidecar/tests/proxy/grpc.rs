//! gRPC calls that last, many at a time, and messages that are too long.

use std::future::Future;
use std::time::{Duration, Instant};

use cloakroom_sidecar::metrics::{Cut, Outcome};
use cloakroom_sidecar::request::head::MAX_FIELDS;
use http_body_util::BodyExt as _;
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::harness::{App, Sidecar, token};
use crate::http2::{Frames, ask, call, connect, framed, grpc_app, grpc_app_that_takes, run, whole};

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
