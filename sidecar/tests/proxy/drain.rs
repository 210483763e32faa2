//! Ending well: what has begun is finished, nothing new begins.

use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{App, Sidecar, get};

#[test]
fn requests_under_way_are_finished_and_idle_connections_closed() {
    let mut sidecar = Sidecar::start(App::new(|_| {
        thread::sleep(Duration::from_millis(300));
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec()
    }));
    let mut idle = sidecar.client();
    idle.send(get("/x", ""));
    assert_eq!(idle.reply().status, 200);
    let mut busy = sidecar.client();
    busy.send(get("/x", ""));
    thread::sleep(Duration::from_millis(100));
    let began = Instant::now();
    sidecar.drain();
    assert!(idle.is_closed());
    let reply = busy.reply();
    assert_eq!((reply.status, reply.all("connection")), (200, vec!["close"]));
    assert!(busy.is_closed());
    sidecar.join();
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert!(TcpStream::connect(sidecar.address).is_err());
}

/// Routers learn late that a pod is going: who still comes is served, but nobody is kept.
#[test]
fn a_pod_on_its_way_out_serves_whoever_comes_and_keeps_nobody() {
    let mut sidecar = Sidecar::start(App::hello());
    let mut kept = sidecar.client();
    kept.send(get("/x", ""));
    assert_eq!(kept.reply().status, 200);
    let mut silent = sidecar.client();
    sidecar.leave();
    assert!(kept.is_closed(), "it waited for a further request");
    for _ in 0..2 {
        let mut late = sidecar.client();
        thread::sleep(Duration::from_millis(300)); // longer than a tick of the deadlines
        late.send(get("/x", ""));
        let reply = late.reply();
        assert_eq!((reply.status, reply.all("connection")), (200, vec!["close"]));
        assert!(late.is_closed());
    }
    silent.send(get("/x", ""));
    assert_eq!(silent.reply().status, 200, "it had been accepted before");
    sidecar.drain();
    sidecar.join();
    assert!(TcpStream::connect(sidecar.address).is_err());
}

/// Where only the sidecar is replaced, its app goes on: whoever comes while the last streams end is served, not turned away.
#[test]
fn new_connections_are_served_until_those_from_before_have_ended() {
    let mut sidecar = Sidecar::start(App::new(|request| {
        let slow = request.path() == "/slow";
        thread::sleep(Duration::from_millis(if slow { 900 } else { 0 }));
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec()
    }));
    let mut slow = sidecar.client();
    slow.send(get("/slow", ""));
    thread::sleep(Duration::from_millis(100));
    sidecar.drain();
    thread::sleep(Duration::from_millis(300));
    let mut late = sidecar.client();
    thread::sleep(Duration::from_millis(100)); // it need not speak at once
    late.send(get("/x", ""));
    let reply = late.reply();
    assert_eq!((reply.status, reply.all("connection")), (200, vec!["close"]));
    let silent = sidecar.client();
    assert_eq!(slow.reply().status, 200);
    let began = Instant::now();
    sidecar.join();
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "a connection that says nothing holds nothing up: {:?}",
        began.elapsed()
    );
    drop(silent);
    assert!(TcpStream::connect(sidecar.address).is_err());
}
