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
