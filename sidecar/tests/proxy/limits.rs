//! Nothing grows without end, nothing waits without end.

use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use cloakroom_sidecar::limits::Room;

use crate::harness::{App, Client, Sidecar, get, read_head};
use crate::http2::{Frames, connect, request, run};

#[test]
fn heads_targets_and_bodies_have_limits() {
    let sidecar = Sidecar::start(App::hello());
    assert_eq!(sidecar.ask(&get("/x", &format!("X: {}\r\n", "y".repeat(9000)))).status, 431);
    assert_eq!(sidecar.ask(&get("/x", &"X: y\r\n".repeat(120))).status, 431);
    assert_eq!(sidecar.ask(&get(&format!("/{}", "y".repeat(9000)), "")).status, 414);
    assert_eq!(sidecar.ask(&get(&format!("/{}", "y".repeat(90_000)), "")).status, 414);
    assert_eq!(sidecar.ask(&get("/x", "Content-Length: 1000001\r\n")).status, 413);
    assert!(sidecar.app.received().is_empty());
    assert_eq!(sidecar.ask(&get("/x", &format!("X: {}\r\n", "y".repeat(7000)))).status, 200);
}

#[test]
fn a_chunked_body_over_the_limit_is_cut_off() {
    let sidecar = Sidecar::start(App::hello());
    let mut client = sidecar.client();
    client.send(get("/x", "Transfer-Encoding: chunked\r\n"));
    for _ in 0..20 {
        client.send(format!("10000\r\n{}\r\n", "x".repeat(0x10000)));
    }
    assert_eq!(client.reply().status, 413);
    assert!(sidecar.app.received().is_empty());
}

#[test]
fn whoever_does_not_finish_a_request_is_told_and_left() {
    let sidecar = Sidecar::with(App::hello(), |config| config["limits"]["idle_timeout"] = 1.into());
    let began = Instant::now();
    let mut silent = sidecar.client();
    let mut slow_head = sidecar.client();
    slow_head.send("GET / HTTP/1.1\r\nHost: a\r\n");
    let mut slow_body = sidecar.client();
    slow_body.send(get("/x", "Content-Length: 5\r\n") + "ab");
    let mut drip = sidecar.client();
    let mut dripping = drip.stream.try_clone().unwrap();
    thread::spawn(move || {
        while dripping.write_all(b"G").is_ok() && began.elapsed() < Duration::from_secs(8) {
            thread::sleep(Duration::from_millis(100));
        }
    });
    assert!(silent.is_closed());
    assert_eq!(slow_head.reply().status, 408);
    assert_eq!(slow_body.reply().status, 408);
    assert_eq!(drip.reply().status, 408);
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}

#[test]
fn an_app_that_does_not_answer_is_a_gateway_timeout() {
    let sidecar = Sidecar::with(
        App::raw(|mut stream, _| {
            read_head(&mut stream);
            thread::sleep(Duration::from_secs(5));
        }),
        |config| config["limits"]["idle_timeout"] = 1.into(),
    );
    assert_eq!(sidecar.ask(&get("/x", "")).status, 504);
}

#[test]
fn an_endless_head_of_the_app_is_a_bad_gateway() {
    let sidecar = Sidecar::start(App::saying(&format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "y".repeat(100_000))));
    assert_eq!(sidecar.ask(&get("/x", "")).status, 502);
}

#[test]
fn a_large_head_of_the_app_passes() {
    let value = "y".repeat(40_000);
    let sidecar = Sidecar::start(App::saying(&format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: {value}\r\n\r\nok")));
    let reply = sidecar.ask(&get("/x", ""));
    assert_eq!(reply.all("x"), [value]);
    assert_eq!(reply.text(), "ok");
}

#[test]
fn interim_answers_without_end_are_a_bad_gateway() {
    let reply = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(5000);
    let sidecar = Sidecar::start(App::saying(&reply));
    let mut client = sidecar.client();
    client.send(get("/x", ""));
    let passed = (0..5000).take_while(|_| client.head().starts_with("HTTP/1.1 103")).count();
    assert_eq!(passed, 100);
}

#[test]
fn connections_beyond_the_limit_are_closed_and_others_are_served() {
    let sidecar = Sidecar::within(Room { connections: 4, bytes: 1 << 20 }, App::hello(), |_| {});
    let mut clients: Vec<Client> = Vec::new();
    for _ in 0..4 {
        let mut client = sidecar.client();
        client.send(get("/x", ""));
        assert_eq!(client.reply().status, 200);
        clients.push(client);
    }
    assert!(sidecar.client().is_closed());
    assert_eq!(sidecar.metrics.connections_refused.get(), 1);
    clients[0].send(get("/x", ""));
    assert_eq!(clients[0].reply().status, 200);
    drop(clients.pop());
    // The place is free once the sidecar has noticed.
    let served = (0..100).any(|_| {
        thread::sleep(Duration::from_millis(50));
        let mut client = sidecar.client();
        client.send(get("/x", "Connection: close\r\n"));
        !client.rest().is_empty()
    });
    assert!(served);
}

#[test]
fn requests_beyond_the_room_are_refused_until_there_is_some_again() {
    let sidecar = Sidecar::within(Room { connections: 100, bytes: 80 << 10 }, App::hello(), |_| {});
    // The beginnings of large heads.
    let begun: Vec<Client> = (0..12)
        .map(|_| {
            let mut client = sidecar.client();
            client.send(format!("GET /x HTTP/1.1\r\nHost: a\r\nX: {}", "y".repeat(8100)));
            client
        })
        .collect();
    let refused = (0..200).any(|_| {
        thread::sleep(Duration::from_millis(20));
        let mut client = sidecar.client();
        client.send("GET /never/x HTTP/1.1\r\nHost: a\r\n\r\n");
        let reply = client.reply();
        assert!(matches!(reply.status, 403 | 503), "{}", reply.head);
        reply.status == 503 && reply.all("retry-after") == ["2"]
    });
    assert!(refused);
    drop(begun);
    let served = (0..200).any(|_| {
        thread::sleep(Duration::from_millis(20));
        sidecar.ask(&get("/x", "")).status == 200
    });
    assert!(served);
}

/// Lets nobody in: its queue is full, and stays so as long as what is returned lives.
fn crammed() -> (App, Vec<socket2::Socket>) {
    let stream = || socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let listener = stream();
    listener.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut all = vec![listener];
    for _ in 0..8 {
        let waiting = stream();
        waiting.set_nonblocking(true).unwrap();
        let _ = waiting.connect(&address);
        all.push(waiting);
    }
    let mut app = App::hello();
    app.port = address.as_socket_ipv4().unwrap().port();
    (app, all)
}

#[test]
fn an_app_that_lets_nobody_in_is_a_gateway_timeout() {
    let (app, _queue) = crammed();
    let sidecar = Sidecar::with(app, |config| config["limits"]["idle_timeout"] = 1.into());
    assert_eq!(sidecar.ask(&get("/x", "")).status, 504);
    assert_eq!(sidecar.ask(&(get("/x", "Content-Length: 20000\r\n") + &"x".repeat(20_000))).status, 504);
    for content_type in ["text/plain", "application/grpc"] {
        let message = request("POST", "/x").header("content-type", content_type).body(Frames::text("m")).unwrap();
        let (status, headers) = run(async {
            let (parts, _) = connect(&sidecar).await.send_request(message).await.unwrap().into_parts();
            (parts.status, parts.headers)
        });
        // DEADLINE_EXCEEDED
        assert!(status == 504 || headers["grpc-status"] == "4", "{status} {headers:?}");
    }
}

#[test]
fn empty_lines_buy_no_time() {
    let sidecar = Sidecar::with(App::hello(), |config| config["limits"]["idle_timeout"] = 1.into());
    let began = Instant::now();
    let mut clients = Vec::new();
    for piece in ["\r\n", "\r", "\n"] {
        let client = sidecar.client();
        let mut writing = client.stream.try_clone().unwrap();
        let other = if piece == "\n" { "\r" } else { piece };
        thread::spawn(move || {
            for piece in [other, piece].into_iter().cycle() {
                if writing.write_all(piece.as_bytes()).is_err() || began.elapsed() > Duration::from_secs(8) {
                    break;
                }
                thread::sleep(Duration::from_millis(100));
            }
        });
        clients.push(client);
    }
    for mut client in clients {
        client.rest();
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let mut client = sidecar.client();
    for _ in 0..2 {
        client.send("\r\n");
        thread::sleep(Duration::from_millis(100));
        client.send(get("/x", ""));
        assert_eq!(client.reply().status, 200);
    }
}

#[test]
fn whoever_sends_a_whole_body_before_looking_for_an_answer_gets_it() {
    let sidecar = Sidecar::start(App::hello());
    let body = vec![b'x'; 5 << 20];
    for (token, status) in [("", 401), (get("/x", "").split("\r\n").nth(2).unwrap(), 413)] {
        let mut client = sidecar.client();
        let token = if token.is_empty() { String::new() } else { format!("{token}\r\n") };
        client.send(format!("POST /x HTTP/1.1\r\nHost: a\r\n{token}Content-Length: {}\r\n\r\n", body.len()));
        for piece in body.chunks(64 << 10) {
            client.stream.write_all(piece).expect("the connection stays open");
            thread::sleep(Duration::from_millis(2));
        }
        assert_eq!(client.reply().status, status);
    }
    assert!(sidecar.app.received().is_empty());
}
