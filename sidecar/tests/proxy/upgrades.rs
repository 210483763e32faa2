//! WebSockets and the like: a tunnel, but only after 101, only for those who may, and only as long as the session lives.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::thread;
use std::time::{Duration, Instant};

use cloakroom_sidecar::metrics::Cut;

use crate::harness::{App, Client, Received, Sidecar, get, read_head, token};

const UPGRADE: &str = "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n";

/// Agrees to any upgrade and echoes.
fn echo() -> App {
    App::raw(|mut stream, received| {
        let Some(head) = read_head(&mut stream) else { return };
        received.lock().unwrap().push(Received { head, body: vec![] });
        stream
            .write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
            .unwrap();
        let mut bytes = [0; 1024];
        while let Ok(count) = stream.read(&mut bytes) {
            if count == 0 || stream.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
        let _ = stream.write_all(b"bye");
    })
}

fn open(sidecar: &Sidecar) -> Client {
    let mut client = sidecar.client();
    client.send(get("/ws", UPGRADE));
    let reply = client.reply();
    assert_eq!(
        (reply.status, reply.all("upgrade"), reply.all("connection")),
        (101, vec!["websocket"], vec!["Upgrade"])
    );
    client
}

#[test]
fn bytes_go_both_ways_after_101_until_both_have_finished() {
    let sidecar = Sidecar::start(echo());
    let mut client = open(&sidecar);
    let received = sidecar.app.only();
    assert_eq!((received.all("upgrade"), received.all("connection")), (vec!["websocket"], vec!["Upgrade"]));
    for _ in 0..3 {
        client.send("ping");
        assert_eq!(client.read(4), b"ping");
    }
    client.finish_sending();
    assert_eq!(client.rest(), b"bye");
}

#[test]
fn any_other_protocol_is_switched_to_as_well() {
    let sidecar = Sidecar::start(App::raw(|mut stream, received| {
        let Some(head) = read_head(&mut stream) else { return };
        received.lock().unwrap().push(Received { head, body: vec![] });
        let _ =
            stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: spdy/3.1\r\n\r\nhi");
        let mut bytes = [0; 4];
        let _ = stream.read_exact(&mut bytes);
        let _ = stream.write_all(&bytes);
    }));
    let mut client = sidecar.client();
    client.send(get("/exec", "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n").replacen("GET", "POST", 1));
    let reply = client.reply();
    assert_eq!((reply.status, reply.all("upgrade")), (101, vec!["spdy/3.1"]));
    assert_eq!(client.read(2), b"hi");
    client.send("\0\x01\r\n");
    assert_eq!(client.rest(), b"\0\x01\r\n");
    let received = sidecar.app.only();
    assert_eq!((received.line(), received.all("upgrade")), ("POST /exec HTTP/1.1", vec!["SPDY/3.1"]));
}

#[test]
fn nothing_is_tunnelled_before_101() {
    let sidecar = Sidecar::start(App::new(|_| b"HTTP/1.1 400 No\r\nContent-Length: 2\r\n\r\nno".to_vec()));
    let mut client = sidecar.client();
    // Were the second request tunnelled, it would reach the app without a token and unjudged.
    client.send(get("/ws", UPGRADE) + "GET /never/x HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.reply().status, 400);
    assert_eq!(client.reply().status, 403);
    assert_eq!(sidecar.app.only().path(), "/ws");
}

#[test]
fn what_was_sent_ahead_arrives_after_101() {
    let sidecar = Sidecar::start(echo());
    let mut client = sidecar.client();
    client.send(get("/ws", UPGRADE) + "early");
    assert_eq!(client.reply().status, 101);
    assert_eq!(client.read(5), b"early");
}

#[test]
fn the_end_of_the_session_ends_its_sockets() {
    let sidecar = Sidecar::start(echo());
    let mut client = open(&sidecar);
    client.send("ping");
    assert_eq!(client.read(4), b"ping");
    let began = Instant::now();
    sidecar.authority.revoke(&token());
    client.rest();
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    sidecar.await_cut(Cut::SessionEnded);
}

#[test]
fn the_end_of_the_session_ends_its_event_streams() {
    let sidecar = Sidecar::start(App::raw(|mut stream, _| {
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n").unwrap();
        let _ = stream.read(&mut [0]);
    }));
    let mut client = sidecar.client();
    client.send(get("/events", ""));
    client.head();
    client.read(3 + 9);
    let began = Instant::now();
    sidecar.authority.revoke(&token());
    let rest = client.rest();
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert!(!rest.ends_with(b"0\r\n\r\n"));
    sidecar.await_cut(Cut::SessionEnded);
}

#[test]
fn what_is_opened_for_long_may_be_silent_for_longer_than_a_request() {
    let at_once = |config: &mut serde_json::Value| config["limits"]["idle_timeout"] = 1.into();
    let sidecar = Sidecar::with(echo(), at_once);
    let mut client = open(&sidecar);
    thread::sleep(Duration::from_millis(2500));
    client.send("ping");
    assert_eq!(client.read(4), b"ping");

    let sidecar = Sidecar::with(event_after(Duration::from_millis(2500)), at_once);
    let mut client = sidecar.client();
    client.send(get("/events", ""));
    client.head();
    assert!(String::from_utf8_lossy(&client.rest()).contains("data: 1"));
}

#[test]
fn a_silent_event_stream_is_closed_in_the_end() {
    let app = event_after(Duration::from_secs(20));
    let sidecar = Sidecar::with(app, |config| config["limits"]["stream_idle_timeout"] = 1.into());
    let mut client = sidecar.client();
    client.send(get("/events", ""));
    client.head();
    let began = Instant::now();
    client.rest();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

pub(crate) fn event_after(silence: Duration) -> App {
    App::raw(move |mut stream, _| {
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n").unwrap();
        thread::sleep(silence);
        let _ = stream.write_all(b"data: 1\n\n");
    })
}

#[test]
fn another_sites_page_cannot_open_a_socket_with_the_cookie() {
    let sidecar = Sidecar::start(echo());
    let upgrade = |origin: &str| {
        let mut client = sidecar.client();
        client.send(format!(
            "GET /ws HTTP/1.1\r\nHost: shop.example.com\r\nCookie: __Host-cloakroom={}\r\n{UPGRADE}{origin}\r\n",
            token()
        ));
        client.reply().status
    };
    assert_eq!(upgrade("Origin: https://evil.example\r\n"), 403);
    assert_eq!(upgrade("Origin: null\r\n"), 403);
    assert_eq!(upgrade("Origin: https://shop.example.com\r\n"), 101);
}

#[test]
fn without_a_token_there_is_no_socket() {
    let sidecar = Sidecar::start(echo());
    let reply = sidecar.ask(&format!("GET /ws HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\n{UPGRADE}\r\n"));
    assert_eq!(reply.status, 401);
    assert!(sidecar.app.received().is_empty());
}

#[test]
fn an_idle_tunnel_is_closed() {
    let sidecar = Sidecar::with(echo(), |config| config["limits"]["stream_idle_timeout"] = 1.into());
    let mut client = open(&sidecar);
    let began = Instant::now();
    client.rest();
    assert!(began.elapsed() < Duration::from_secs(3));
    sidecar.await_cut(Cut::TimedOut);
    let _ = client.stream.shutdown(Shutdown::Both);
}

#[test]
fn a_handshake_may_say_that_it_has_no_body() {
    let sidecar = Sidecar::start(echo());
    let mut client = sidecar.client();
    client.send(get("/ws", &format!("{UPGRADE}Content-Length: 0\r\n")) + "early");
    assert_eq!(client.reply().status, 101);
    assert_eq!(client.read(5), b"early");
}
