//! Nothing grows without end, nothing waits without end.

use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{App, Sidecar, get, read_head};

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
