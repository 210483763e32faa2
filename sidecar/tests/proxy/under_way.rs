//! What becomes of requests whose session ends before their answer does.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cloakroom_protocol::revocation::RevokeScope;
use cloakroom_sidecar::metrics::{Cut, Outcome};
use http_body_util::BodyExt as _;
use hyper::body::Frame;

use crate::harness::{App, Client, Reply, Sidecar, admin_token, get, read_head, read_request, token};
use crate::http2::{Frames, connect, request, run, whole};

/// What is short may still end after its session.
const SPARED: Duration = Duration::from_secs(1);
/// Two ticks of the worker's clock more, and what a busy machine adds.
const BOUND: Duration = Duration::from_secs(4);
/// Longer than that, and more than once.
const HOUR: Duration = Duration::from_secs(8);

/// Reads the head, says so, and then takes whatever comes until its connection ends, which it says as well.
pub(crate) fn silent_app() -> (App, Receiver<&'static str>) {
    app_that(|mut stream, said| {
        read_head(&mut stream)?;
        said.send("asked").ok()?;
        let mut bytes = vec![0; 65536];
        while matches!(stream.read(&mut bytes), Ok(1..)) {}
        said.send("left").ok()
    })
}

fn app_that(
    serve: impl Fn(TcpStream, Sender<&'static str>) -> Option<()> + Send + Sync + 'static,
) -> (App, Receiver<&'static str>) {
    let (sender, said) = channel();
    let sender = Mutex::new(sender);
    let app = App::raw(move |stream, _| {
        let sender = sender.lock().unwrap().clone();
        serve(stream, sender);
    });
    (app, said)
}

pub(crate) fn await_word(said: &Receiver<&'static str>, word: &str) {
    assert_eq!(said.recv_timeout(Duration::from_secs(10)), Ok(word));
}

/// Not before the answer of somebody who signs out would have come.
fn in_time(ended: Instant) {
    let took = ended.elapsed();
    assert!((SPARED..BOUND).contains(&took), "{took:?} after the session");
}

fn post(fields: &str) -> String {
    get("/upload", fields).replacen("GET", "POST", 1)
}

/// Sends pieces until the other side has had enough.
fn send_on(client: &Client, piece: Vec<u8>) {
    let mut stream = client.stream.try_clone().unwrap();
    thread::spawn(move || {
        let end = Instant::now() + HOUR;
        while Instant::now() < end && stream.write_all(&piece).is_ok() {
            thread::sleep(Duration::from_millis(5));
        }
    });
}

fn assert_refused(reply: &Reply) {
    assert_eq!(reply.status, 401, "{}", reply.head);
    let metadata = r#"resource_metadata="http://shop.example.com/.well-known/oauth-protected-resource""#;
    assert_eq!(reply.all("www-authenticate"), [format!(r#"Bearer error="invalid_token", {metadata}"#)]);
    assert_eq!(reply.all("connection"), ["close"], "nobody knows where the next request would begin");
    assert_eq!(reply.all("cloakroom-decision").len(), 1);
    assert_eq!(reply.json()["title"], "The session has ended");
}

#[test]
fn what_the_app_has_not_answered_is_refused_and_the_app_left() {
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let requests: [(&str, String, &'static [u8]); 6] = [
        ("a long poll", get("/poll", ""), b""),
        ("a socket", get("/ws", upgrade), b""),
        ("an upload", post("Content-Length: 1000000\r\n"), b"x"),
        ("an upload of unknown length", post("Transfer-Encoding: chunked\r\n"), b"1\r\nx\r\n"),
        ("one that does not move", post("Content-Length: 10\r\n"), b""),
        ("one that waits to be wanted", post("Expect: 100-continue\r\nContent-Length: 10\r\n"), b""),
    ];
    thread::scope(|scope| {
        for (what, request, piece) in requests {
            scope.spawn(move || {
                let (app, said) = silent_app();
                // For the address: what is under way is told as everything else is.
                let sidecar = Sidecar::with(app, |config| config["origins"] = serde_json::json!([]));
                let mut client = sidecar.client();
                client.send(request);
                if !piece.is_empty() {
                    send_on(&client, piece.to_vec());
                }
                await_word(&said, "asked");
                thread::sleep(Duration::from_millis(300));
                let ended = Instant::now();
                sidecar.authority.revoke(&token());
                let reply = client.reply();
                in_time(ended);
                assert_refused(&reply);
                await_word(&said, "left");
                assert_eq!(sidecar.metrics.requests.of(Outcome::Unauthenticated).get(), 1, "{what}");
                assert_eq!(sidecar.metrics.requests.of(Outcome::UpstreamFailed).get(), 0, "{what}");
            });
        }
    });
}

#[test]
fn an_app_that_takes_nothing_keeps_no_upload_alive() {
    let (app, said) = app_that(|mut stream, said| {
        read_head(&mut stream)?;
        said.send("asked").ok()?;
        thread::sleep(HOUR);
        Some(())
    });
    let sidecar = Sidecar::with(app, |config| config["limits"]["request_body"] = 1_000_000_000.into());
    let mut client = sidecar.client();
    client.send(post("Content-Length: 1000000000\r\n"));
    send_on(&client, vec![b'x'; 1 << 20]);
    await_word(&said, "asked");
    thread::sleep(Duration::from_millis(500));
    let ended = Instant::now();
    sidecar.authority.revoke(&token());
    assert_eq!(client.reply().status, 401);
    in_time(ended);
}

#[test]
fn over_http_2_it_is_the_stream_that_ends() {
    let (app, said) = app_that(|mut stream, said| {
        let head = read_head(&mut stream)?;
        if head.starts_with("GET /other") {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").ok()?;
            return None;
        }
        said.send("asked").ok()?;
        let mut bytes = vec![0; 65536];
        while matches!(stream.read(&mut bytes), Ok(1..)) {}
        said.send("left").ok()
    });
    let sidecar = Sidecar::start(app);
    run(async {
        let mut sender = connect(&sidecar).await;
        let poll = sender.send_request(request("GET", "/poll").body(Frames::text("")).unwrap());
        // A frame each 20 ms.
        let upload = Frames::new((0..400).map(|_| Frame::data(Bytes::from("x"))).collect());
        let upload = sender.send_request(request("POST", "/upload").body(upload).unwrap());
        let (poll, upload) = (tokio::spawn(poll), tokio::spawn(upload));
        let said = twice(said, "asked").await;
        let ended = Instant::now();
        sidecar.authority.revoke(&token());
        for answer in [poll, upload] {
            let (status, headers, body, _) = whole(answer.await.unwrap().unwrap()).await;
            in_time(ended);
            let challenge = headers["www-authenticate"].to_str().unwrap();
            assert!(status == 401 && challenge.contains("invalid_token"), "{status} {challenge}");
            assert!(body.starts_with(b"{\"decision_id\""));
        }
        twice(said, "left").await;
        let mut other = request("GET", "/other").body(Frames::text("")).unwrap();
        other.headers_mut().insert("authorization", format!("Bearer {}", admin_token()).parse().unwrap());
        assert_eq!(whole(sender.send_request(other).await.unwrap()).await.2, "ok", "the connection goes on");
    });
}

#[test]
fn an_upload_behind_its_answer_ends_with_its_session() {
    let (app, said) = app_that(|mut stream, said| {
        read_head(&mut stream)?;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").ok()?;
        said.send("answered").ok()?;
        let mut bytes = vec![0; 65536];
        while matches!(stream.read(&mut bytes), Ok(1..)) {}
        said.send("left").ok()
    });
    let sidecar = Sidecar::start(app);
    run(async {
        let mut sender = connect(&sidecar).await;
        // A frame each 20 ms.
        let upload = Frames::new((0..400).map(|_| Frame::data(Bytes::from("x"))).collect());
        let answer = sender.send_request(request("POST", "/upload").body(upload).unwrap()).await.unwrap();
        assert_eq!(whole(answer).await.2, "ok");
        let said = tokio::task::spawn_blocking(move || {
            await_word(&said, "answered");
            said
        });
        let said = said.await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(said.try_recv().is_err(), "it goes on");
        let ended = Instant::now();
        sidecar.authority.revoke(&token());
        tokio::task::spawn_blocking(move || await_word(&said, "left")).await.unwrap();
        in_time(ended);
    });
}

/// Without keeping the client's own runtime from its work.
async fn twice(said: Receiver<&'static str>, word: &'static str) -> Receiver<&'static str> {
    let waiting = tokio::task::spawn_blocking(move || {
        await_word(&said, word);
        await_word(&said, word);
        said
    });
    waiting.await.unwrap()
}

/// Asked, it waits for a word, and a moment later begins an answer that takes a moment, too.
fn late_app(head: &'static str) -> (App, Receiver<&'static str>) {
    app_that(move |mut stream, said| {
        read_request(&mut stream)?;
        said.send("asked").ok()?;
        thread::sleep(Duration::from_millis(400));
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n{head}\r\nby").ok()?;
        thread::sleep(Duration::from_millis(300));
        stream.write_all(b"e!").ok()?;
        said.send("answered").ok()
    })
}

/// As an app does that ends the session by the auth service's own API, and then says so.
#[test]
fn whoever_ends_the_session_still_gets_to_say_so() {
    for over_http2 in [false, true] {
        let (app, said) = late_app("");
        let sidecar = Sidecar::start(app);
        let answer = answer_to(&sidecar, &said, over_http2, || sidecar.authority.revoke(&token()));
        assert_eq!(answer, (200, "bye!".to_owned()), "over HTTP/2: {over_http2}");
        assert_eq!(sidecar.ask(&get("/x", "")).status, 401, "and to nobody else");
    }
}

/// Once the app has been asked, something happens.
fn answer_to(
    sidecar: &Sidecar,
    said: &Receiver<&'static str>,
    over_http2: bool,
    happens: impl FnOnce(),
) -> (u16, String) {
    thread::scope(|scope| {
        let asking = scope.spawn(move || {
            if !over_http2 {
                let reply = sidecar.ask(&get("/bye", ""));
                return (reply.status, reply.text());
            }
            run(async {
                let message = request("GET", "/bye").body(Frames::text("")).unwrap();
                let (status, _, body, _) = whole(connect(sidecar).await.send_request(message).await.unwrap()).await;
                (status.as_u16(), String::from_utf8_lossy(&body).into_owned())
            })
        });
        await_word(said, "asked");
        happens();
        asking.join().unwrap()
    })
}

#[test]
fn an_answer_that_signs_out_arrives_however_long_the_receipt_takes() {
    for over_http2 in [false, true] {
        let (app, said) = late_app("Cloakroom-Logout: session\r\n");
        let sidecar = Sidecar::start(app);
        *sidecar.authority.receipt_after.lock().unwrap() = SPARED * 2;
        let answer = answer_to(&sidecar, &said, over_http2, || sidecar.authority.revoke(&token()));
        assert_eq!(answer, (200, "bye!".to_owned()), "over HTTP/2: {over_http2}");
        assert_eq!(*sidecar.authority.signed_out.lock().unwrap(), [RevokeScope::Session]);
    }
}

/// It says something ten times a second, which is no event stream.
fn talking_app() -> App {
    App::raw(|mut stream, _| {
        read_head(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        let end = Instant::now() + HOUR;
        while Instant::now() < end && stream.write_all(b"1\r\nx\r\n").is_ok() {
            thread::sleep(Duration::from_millis(100));
        }
    })
}

#[test]
fn an_answer_that_goes_on_is_cut_and_never_completed() {
    let sidecar = Sidecar::start(talking_app());
    let mut client = sidecar.client();
    client.send(get("/download", ""));
    client.head();
    thread::sleep(SPARED + Duration::from_millis(300));
    let ended = Instant::now();
    sidecar.authority.revoke(&token());
    let rest = client.rest();
    in_time(ended);
    assert!(!rest.ends_with(b"0\r\n\r\n"));
    sidecar.await_cut(Cut::SessionEnded);

    let sidecar = Sidecar::start(talking_app());
    run(async {
        let message = request("GET", "/download").body(Frames::text("")).unwrap();
        let mut body = connect(&sidecar).await.send_request(message).await.unwrap().into_body();
        body.frame().await.unwrap().unwrap();
        let ended = Instant::now();
        sidecar.authority.revoke(&token());
        while body.frame().await.unwrap().is_ok() {}
        in_time(ended);
    });
    sidecar.await_cut(Cut::SessionEnded);
}

#[test]
fn an_outage_ends_what_is_under_way_and_signs_nobody_out() {
    let (app, said) = silent_app();
    let sidecar = Sidecar::start(app);
    let mut client = sidecar.client();
    client.send(get("/poll", ""));
    await_word(&said, "asked");
    sidecar.authority.lose(&token());
    let reply = client.reply();
    assert_eq!((reply.status, reply.all("retry-after").len()), (503, 1));
    assert!(reply.all("www-authenticate").is_empty() && reply.all("set-cookie").is_empty());
    await_word(&said, "left");

    let sidecar = Sidecar::start(talking_app());
    let mut client = sidecar.client();
    client.send(get("/download", ""));
    client.head();
    sidecar.authority.lose(&token());
    client.rest();
    sidecar.await_cut(Cut::Unheard);
}

#[test]
fn nothing_is_cut_that_is_nobodys_or_only_tried() {
    let slow = || {
        app_that(|mut stream, said| {
            read_head(&mut stream)?;
            said.send("asked").ok()?;
            thread::sleep(SPARED * 3);
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").ok()
        })
    };
    thread::scope(|scope| {
        for (mode, path) in [("Shadow", "/x"), ("Enforce", "/open/x")] {
            scope.spawn(move || {
                let (app, said) = slow();
                let sidecar = Sidecar::with(app, |config| config["mode"] = mode.into());
                let mut client = sidecar.client();
                client.send(get(path, ""));
                await_word(&said, "asked");
                sidecar.authority.revoke(&token());
                assert_eq!(client.reply().text(), "ok", "{mode} {path}");
            });
        }
    });
}

#[test]
fn a_token_that_expires_was_good_for_what_has_begun() {
    for over_http2 in [false, true] {
        let (app, said) = app_that(|mut stream, said| {
            read_head(&mut stream)?;
            said.send("asked").ok()?;
            thread::sleep(SPARED * 3);
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbye!").ok()
        });
        let sidecar = Sidecar::start(app);
        let answer = answer_to(&sidecar, &said, over_http2, || sidecar.authority.expire(&token()));
        assert_eq!(answer, (200, "bye!".to_owned()), "over HTTP/2: {over_http2}");
        assert_eq!(sidecar.ask(&get("/x", "")).status, 401, "nothing else begins with it");
    }
}

#[test]
fn a_connection_serves_the_next_one_after_a_session_has_ended() {
    let sidecar = Sidecar::start(App::hello());
    let mut client = sidecar.client();
    client.send(get("/x", ""));
    assert_eq!(client.reply().text(), "hello");
    sidecar.authority.revoke(&token());
    thread::sleep(SPARED + Duration::from_millis(500));
    client.send(get("/x", "").replace(&token(), &admin_token()));
    assert_eq!(client.reply().text(), "hello", "of somebody else");
    let error = client.stream.set_read_timeout(Some(SPARED)).and_then(|()| client.stream.read(&mut [0]));
    assert!(
        error.is_err_and(|error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)),
        "still open"
    );
}

#[test]
fn whoever_waits_for_a_page_is_sent_to_sign_in_again() {
    let as_a_page = "Accept: text/html\r\nSec-Fetch-Mode: navigate\r\n";
    let by_cookie = format!(
        "GET /report?year=1 HTTP/1.1\r\nHost: shop.example.com\r\nX-Forwarded-Proto: https\r\nCookie: __Host-cloakroom={}\r\n{as_a_page}\r\n",
        token()
    );
    thread::scope(|scope| {
        for (request, wanted, outcome) in [
            (by_cookie.clone(), 303, Outcome::SentToSignIn),
            (by_cookie.replace("navigate", "cors"), 401, Outcome::Unauthenticated),
            (get("/report", as_a_page), 401, Outcome::Unauthenticated),
        ] {
            scope.spawn(move || {
                let (app, said) = silent_app();
                let sidecar = Sidecar::start(app);
                let mut client = sidecar.client();
                client.send(&request);
                await_word(&said, "asked");
                sidecar.authority.revoke(&token());
                let reply = client.reply();
                assert_eq!(reply.status, wanted, "{request}");
                if wanted == 303 {
                    assert_eq!(reply.all("location"), ["https://auth.example.com/?to=/report&acr="]);
                }
                assert_eq!(reply.all("cloakroom-decision").len(), 1);
                await_word(&said, "left");
                assert_eq!(sidecar.metrics.requests.of(outcome).get(), 1);
            });
        }
        scope.spawn(move || {
            let (app, said) = silent_app();
            let sidecar = Sidecar::start(app);
            let mut message = request("GET", "/report").body(Frames::text("")).unwrap();
            message.headers_mut().remove("authorization");
            message.headers_mut().insert("cookie", format!("__Host-cloakroom={}", token()).parse().unwrap());
            message.headers_mut().insert("sec-fetch-mode", "navigate".parse().unwrap());
            let status = run(async {
                let mut sender = connect(&sidecar).await;
                let answer = tokio::spawn(async move { sender.send_request(message).await });
                tokio::task::spawn_blocking(move || await_word(&said, "asked")).await.unwrap();
                sidecar.authority.revoke(&token());
                answer.await.unwrap().unwrap().status()
            });
            assert_eq!(status, 303);
        });
    });
}
