//! What passes, passes whole.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cloakroom_sidecar::metrics::Cut;

use crate::harness::{App, Client, JWT, Sidecar, get, read_head, token};
use crate::http2::{Frames, connect, request, run};

#[test]
fn the_token_is_swapped_for_the_jwt() {
    let sidecar = Sidecar::start(App::hello());
    let reply = sidecar.ask(&get("/a/b?c=%20d", "X-Custom: 1\r\nAccept: */*\r\n"));
    assert_eq!((reply.status, reply.text().as_str()), (200, "hello"));
    let received = sidecar.app.only();
    assert_eq!(received.line(), "GET /a/b?c=%20d HTTP/1.1");
    assert_eq!(received.all("authorization"), [format!("Bearer {JWT}")]);
    assert_eq!(received.all("host"), ["shop.example.com"]);
    assert_eq!(received.all("x-custom"), ["1"]);
    assert_eq!(received.all("x-user-email"), ["ann@example.com"]);
    assert_eq!(received.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(received.all("x-forwarded-proto"), ["http"]);
    assert_eq!(received.all("forwarded"), ["for=127.0.0.1;host=\"shop.example.com\";proto=http"]);
    assert!(!received.head.contains(&token()));
    assert!(received.head.trim_end().ends_with(JWT), "the JWT is the last header: {}", received.head);
}

#[test]
fn a_connection_is_kept_and_requests_may_be_sent_ahead() {
    let sidecar = Sidecar::start(App::new(|request| {
        let body = request.path().to_owned();
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
    }));
    let mut client = sidecar.client();
    client.send([get("/1", ""), get("/2", ""), get("/3", "")].concat());
    for path in ["/1", "/2", "/3"] {
        assert_eq!(client.reply().text(), path);
    }
    client.send(get("/4", ""));
    assert_eq!(client.reply().text(), "/4");
}

#[test]
fn requests_may_come_one_byte_at_a_time() {
    let sidecar = Sidecar::start(App::hello());
    let mut client = sidecar.client();
    let body = "POST /x HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer TOKEN\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    for byte in body.replace("TOKEN", &token()).bytes() {
        client.send([byte]);
    }
    assert_eq!(client.reply().status, 200);
    let received = sidecar.app.only();
    assert!(received.body.ends_with(b"0\r\n\r\n"));
}

#[test]
fn bodies_of_any_size_pass_both_ways() {
    let sidecar = Sidecar::start(App::new(|request| {
        let mut reply = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", request.body.len()).into_bytes();
        reply.extend_from_slice(&request.body);
        reply
    }));
    for size in [0, 1, 1000, 16_384, 100_000, 1_000_000] {
        let body: Vec<u8> = (0..size).map(|at: u32| at.to_le_bytes()[0]).collect();
        let mut client = sidecar.client();
        client.send(get("/x", &format!("Content-Length: {size}\r\n")));
        let sending = {
            let (mut stream, body) = (client.stream.try_clone().unwrap(), body.clone());
            thread::spawn(move || stream.write_all(&body).unwrap())
        };
        assert!(client.reply().body == body, "{size} bytes came back changed");
        sending.join().unwrap();
    }
}

#[test]
fn chunks_pass_with_their_trailers_and_without_their_extensions() {
    let sidecar = Sidecar::start(App::saying(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 5\r\n\r\n",
    ));
    let mut client = sidecar.client();
    client.send(
        get("/x", "Transfer-Encoding: chunked\r\n")
            + "1;a=b\r\nx\r\n0\r\nX-Check: 1\r\nAuthorization: Bearer evil\r\n\r\n",
    );
    let reply = client.reply();
    assert_eq!(reply.text(), "00000005\r\nabcde\r\n0\r\nX-Sum: 5\r\n\r\n");
    assert_eq!(sidecar.app.only().body, b"1\r\nx\r\n0\r\nX-Check: 1\r\n\r\n");
    client.send(get("/y", ""));
    assert_eq!(client.reply().status, 200);
}

#[test]
fn head_and_bodyless_answers_do_not_shift_what_follows() {
    for (method, reply) in [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"),
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n"),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n"),
    ] {
        let sidecar = Sidecar::start(App::saying(reply));
        let mut client = sidecar.client();
        for _ in 0..2 {
            client.send(get("/x", "").replacen("GET", method, 1));
            let answer = client.reply_to(method);
            let lengths = answer.all("content-length");
            assert_eq!(lengths, if reply.contains("204") { vec![] } else { vec!["500"] });
        }
    }
}

#[test]
fn an_answer_without_a_length_becomes_chunks_or_ends_with_the_connection() {
    let sidecar = Sidecar::start(App::saying("HTTP/1.0 200 OK\r\nConnection: close\r\n\r\nuntil the end"));
    let mut client = sidecar.client();
    client.send(get("/x", ""));
    assert_eq!(client.reply().text(), "d\r\nuntil the end\r\n0\r\n\r\n");
    client.send(get("/x", ""));
    assert_eq!(client.reply().status, 200);
    let mut old = sidecar.client();
    old.send(get("/x", "").replace("HTTP/1.1", "HTTP/1.0"));
    let reply = old.reply();
    assert_eq!(reply.text(), "until the end");
    assert!(reply.all("transfer-encoding").is_empty());
}

#[test]
fn http_1_0_clients_get_no_chunks_and_keep_their_connection_if_they_ask() {
    let sidecar =
        Sidecar::start(App::saying("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"));
    let mut client = sidecar.client();
    client.send(get("/x", "Connection: keep-alive\r\n").replace("HTTP/1.1", "HTTP/1.0"));
    assert_eq!(client.reply().text(), "abc");
    let sidecar = Sidecar::start(App::hello());
    let mut client = sidecar.client();
    for _ in 0..2 {
        client.send(get("/x", "Connection: keep-alive\r\n").replace("HTTP/1.1", "HTTP/1.0"));
        assert_eq!(client.reply().all("connection"), ["keep-alive"]);
    }
}

#[test]
fn an_app_is_asked_for_the_body_before_the_client_is() {
    let sidecar = Sidecar::start(App::raw(|mut stream, _| {
        let head = read_head(&mut stream).unwrap();
        assert!(head.contains("Expect: 100-continue"));
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
        let mut body = [0; 5];
        stream.read_exact(&mut body).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").unwrap();
        stream.write_all(&body).unwrap();
    }));
    let mut client = sidecar.client();
    client.send(get("/x", "Expect: 100-continue\r\nContent-Length: 5\r\n"));
    assert_eq!(client.reply().status, 100);
    client.send("abcde");
    assert_eq!(client.reply().text(), "abcde");
}

#[test]
fn early_hints_pass_but_not_to_http_1_0() {
    let reply = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nCloakroom-X: 1\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let sidecar = Sidecar::start(App::saying(reply));
    let mut client = sidecar.client();
    client.send(get("/x", ""));
    let hints = client.reply();
    assert_eq!((hints.status, hints.all("link"), hints.all("cloakroom-x")), (103, vec!["</a>"], vec![]));
    assert_eq!(client.reply().text(), "ok");
    assert_eq!(sidecar.ask(&get("/x", "").replace("HTTP/1.1", "HTTP/1.0")).text(), "ok");
}

#[test]
fn an_app_may_answer_before_it_has_read_everything() {
    let sidecar = Sidecar::start(App::raw(|mut stream, _| {
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig").unwrap();
    }));
    let mut client = sidecar.client();
    client.send(get("/x", "Content-Length: 900000\r\n"));
    client.send(vec![b'x'; 1000]);
    let reply = client.reply();
    assert_eq!((reply.status, reply.text().as_str()), (413, "big"));
    assert_eq!(reply.all("connection"), ["close"]);
    assert!(client.is_closed());
}

#[test]
fn a_client_that_has_finished_speaking_is_answered() {
    let sidecar = Sidecar::start(App::new(|_| {
        thread::sleep(Duration::from_millis(100));
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec()
    }));
    let mut client = sidecar.client();
    client.send(get("/x", ""));
    client.finish_sending();
    assert_eq!(client.reply().text(), "ok");
    assert!(client.is_closed());
}

#[test]
fn an_answer_that_breaks_off_is_seen_to_break_off() {
    for reply in [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\nConnection: close\r\n\r\nshort",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nshort\r\n",
    ] {
        let sidecar = Sidecar::start(App::saying(reply));
        let mut client = sidecar.client();
        client.send(get("/x", ""));
        // Where it was noticed in time, the client is told instead.
        if client.head().starts_with("HTTP/1.1 502") {
            continue;
        }
        let rest = client.rest();
        assert!(!rest.ends_with(b"0\r\n\r\n"), "{:?}", String::from_utf8_lossy(&rest));
        sidecar.await_cut(Cut::AppClosed);
    }
}

#[test]
fn every_way_to_break_off_is_counted_as_what_it_is() {
    const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n";
    let sidecar = Sidecar::with(
        App::raw(|mut stream, _| {
            let request = read_head(&mut stream).unwrap();
            stream.write_all(HEAD).unwrap();
            thread::sleep(Duration::from_millis(100));
            if request.contains("/malformed") {
                stream.write_all(b"x\r\n").unwrap();
            } else if request.contains("/flood") {
                let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
                while stream.write_all(chunk.as_bytes()).is_ok() {}
            }
            let _ = stream.read_to_end(&mut Vec::new());
        }),
        |config| config["limits"]["idle_timeout"] = 1.into(),
    );
    for (path, headers, then, cut) in [
        ("/malformed", "", "", Cut::AppMalformed),
        ("/silent", "", "", Cut::TimedOut),
        ("/upload", "Transfer-Encoding: chunked\r\n", "junk\r\n", Cut::RequestBroken),
    ] {
        let mut client = sidecar.client();
        client.send(get(path, headers));
        assert!(client.head().starts_with("HTTP/1.1 200"));
        client.send(then);
        assert!(!client.rest().ends_with(b"0\r\n\r\n"));
        sidecar.await_cut(cut);
    }
    let mut stalled = sidecar.client();
    stalled.send(get("/flood", ""));
    sidecar.await_cut(Cut::ClientStalled);
    let mut gone = sidecar.client();
    gone.send(get("/flood", ""));
    gone.head();
    drop(gone);
    sidecar.await_cut(Cut::ClientGone);
}

#[test]
fn an_app_that_is_not_there_or_talks_nonsense_is_a_bad_gateway() {
    for reply in [
        "",
        "nonsense\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: \x01\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshortX\r\n0\r\n\r\n",
    ] {
        let sidecar = Sidecar::start(App::saying(reply));
        let answer = sidecar.ask(&get("/x", ""));
        assert_eq!(answer.status, 502, "{reply:?}");
        assert_eq!(answer.all("content-type"), ["application/problem+json"]);
    }
    let mut app = App::hello();
    app.port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    assert_eq!(Sidecar::start(app).ask(&get("/x", "")).status, 502);
}

#[test]
fn a_connection_that_the_app_has_closed_meanwhile_is_replaced() {
    let sidecar = Sidecar::start(App::raw(|mut stream, received| {
        if let Some(head) = read_head(&mut stream) {
            received.lock().unwrap().push(crate::harness::Received { head, body: vec![] });
            // Promises to stay, and goes.
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
        }
    }));
    let mut client = sidecar.client();
    for _ in 0..20 {
        client.send(get("/x", ""));
        assert_eq!(client.reply().status, 200);
    }
    assert_eq!(sidecar.app.received().len(), 20);
}

#[test]
fn an_answer_nobody_asked_for_is_not_the_next_ones() {
    let sidecar = Sidecar::start(App::new(|request| {
        if request.path() == "/evil" {
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison".to_vec()
        } else {
            b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine".to_vec()
        }
    }));
    let mut client = sidecar.client();
    client.send(get("/evil", ""));
    assert_eq!(client.reply().text(), "ok");
    client.send(get("/x", ""));
    assert_eq!(client.reply().text(), "fine");
}

#[test]
fn events_arrive_as_they_are_sent() {
    let sidecar = Sidecar::start(App::raw(|mut stream, _| {
        read_head(&mut stream);
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
            .unwrap();
        for _ in 0..3 {
            stream.write_all(b"8\r\ndata: 1\n\r\n").unwrap();
            thread::sleep(Duration::from_millis(50));
        }
        thread::sleep(Duration::from_secs(5));
    }));
    let mut client = sidecar.client();
    client.send(get("/x", ""));
    client.head();
    for _ in 0..3 {
        assert_eq!(client.read(20), b"00000008\r\ndata: 1\n\r\n");
    }
}

#[test]
fn a_slow_reader_slows_the_app_down() {
    const SIZE: usize = 64 << 20;
    let (sender, sent) = std::sync::mpsc::channel();
    let sidecar = Sidecar::start(App::raw(move |mut stream, _| {
        read_head(&mut stream);
        let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n");
        let mut count = 0;
        let chunk = vec![b'x'; 1 << 20];
        while count < SIZE && stream.write_all(&chunk).is_ok() {
            count += chunk.len();
            let _ = sender.send(count);
        }
    }));
    let mut client = sidecar.client();
    client.send(get("/x", ""));
    thread::sleep(Duration::from_millis(500));
    let sent_so_far = sent.try_iter().last().unwrap_or(0);
    assert!(sent_so_far < SIZE / 2, "the sidecar took {sent_so_far} bytes that nobody read");
    let head = client.head();
    assert!(head.contains(&SIZE.to_string()));
    let mut read = 0;
    let mut some = vec![0; 1 << 20];
    while read < SIZE {
        read += client.stream.read(&mut some).unwrap();
    }
}

#[test]
fn many_connections_at_once_do_not_mix() {
    let sidecar = Sidecar::start(App::new(|request| {
        let body = request.path().to_owned();
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
    }));
    let address = sidecar.address;
    let clients: Vec<_> = (0..16)
        .map(|client| {
            thread::spawn(move || {
                let mut connection = Client::connect(address);
                for count in 0..100 {
                    let path = format!("/{client}/{count}");
                    connection.send(get(&path, ""));
                    assert_eq!(connection.reply().text(), path);
                }
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
}

/// Asks for the body, reads it and never answers.
fn eager() -> App {
    App::raw(|mut stream, _| {
        read_head(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
        let mut some = [0; 4096];
        while stream.read(&mut some).is_ok_and(|count| count > 0) {}
    })
}

#[test]
fn after_an_interim_answer_a_client_is_still_told_what_is_wrong() {
    let sidecar = Sidecar::with(eager(), |config| config["limits"]["idle_timeout"] = 1.into());
    let large = format!("10000\r\n{}\r\n", "x".repeat(0x10000)).repeat(17);
    for (body, status) in [(large.as_str(), 413), ("zz\r\n", 400), ("1\r\n", 408)] {
        let mut client = sidecar.client();
        client.send(get("/x", "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n"));
        assert_eq!(client.reply().status, 100);
        client.send(body);
        assert_eq!(client.reply().status, status);
    }
    for broken in ["nonsense\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"] {
        let sidecar = Sidecar::start(App::saying(&format!("HTTP/1.1 103 Early Hints\r\n\r\n{broken}")));
        let mut client = sidecar.client();
        client.send(get("/x", ""));
        assert_eq!(client.reply().status, 103);
        assert_eq!(client.reply().status, 502, "{broken}");
    }
}

#[test]
fn an_answer_that_breaks_off_does_not_look_whole_to_http_1_0_either() {
    for reply in [
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nshort\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nshort\r\nzz\r\n",
    ] {
        let sidecar = Sidecar::start(App::saying(reply));
        let mut client = sidecar.client();
        client.send(get("/x", "").replace("HTTP/1.1", "HTTP/1.0"));
        let mut read = Vec::new();
        match client.stream.read_to_end(&mut read) {
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
            // Noticed in time.
            Ok(_) => assert!(read.starts_with(b"HTTP/1.1 502"), "{:?}", String::from_utf8_lossy(&read)),
        }
    }
}

#[test]
fn a_refusal_to_head_has_no_content() {
    let sidecar = Sidecar::start(App::hello());
    for (request, status) in [
        ("HEAD / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        ("HEAD / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", 400),
        ("HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 401),
    ] {
        let mut client = sidecar.client();
        client.send(request);
        let reply = client.reply_to("HEAD");
        assert_eq!(reply.status, status, "{request:?}");
        assert_ne!(reply.all("content-length"), ["0"]);
        assert!(client.is_closed(), "{request:?}");
    }
}

/// Says this, then nothing more, and tells when its connection ends.
fn silent_after(words: &'static str) -> (App, std::sync::mpsc::Receiver<()>) {
    let (sender, ended) = std::sync::mpsc::channel();
    let app = App::raw(move |mut stream, received| {
        let Some(head) = read_head(&mut stream) else { return };
        received.lock().unwrap().push(crate::harness::Received { head, body: vec![] });
        let _ = stream.write_all(words.as_bytes());
        let _ = stream.read(&mut [0]);
        let _ = sender.send(());
    });
    (app, ended)
}

#[test]
fn an_app_learns_that_its_client_is_gone_while_it_is_silent() {
    const PATIENCE: Duration = Duration::from_secs(10);
    let events = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n";
    for words in ["", events] {
        for (finishes, ahead) in [(false, ""), (true, ""), (false, "GET /ahead HTTP/1.1\r\nHost: a\r\n\r\n")] {
            let (app, ended) = silent_after(words);
            let sidecar = Sidecar::start(app);
            let mut client = sidecar.client();
            client.send(get("/x", "") + ahead);
            if finishes {
                client.finish_sending();
            }
            let end = Instant::now() + PATIENCE;
            while sidecar.app.received().is_empty() && Instant::now() < end {
                thread::sleep(Duration::from_millis(10));
            }
            // Finishing is not going.
            assert!(ended.recv_timeout(Duration::from_millis(600)).is_err(), "{words:?} {finishes}");
            socket2::SockRef::from(&client.stream).set_linger(Some(Duration::ZERO)).unwrap();
            drop(client);
            assert!(ended.recv_timeout(PATIENCE).is_ok(), "{words:?} {finishes} {ahead:?}");
            assert_eq!(sidecar.app.received().len(), 1);
        }
    }
}

#[test]
fn a_question_about_the_way_goes_as_far_as_it_says() {
    let sidecar = Sidecar::start(App::hello());
    let options = |headers: &str| get("/x", headers).replacen("GET", "OPTIONS", 1);
    assert_eq!(sidecar.ask(&options("Max-Forwards: 0\r\n")).text(), "own");
    for headers in ["Max-Forwards: 1\r\nmax-forwards: 1\r\n", "Max-Forwards: -1\r\n", "Max-Forwards: one\r\n"] {
        assert_eq!(sidecar.ask(&options(headers)).status, 400, "{headers}");
    }
    assert!(sidecar.app.received().is_empty());
    for (request, passed_on) in [
        (options("Max-Forwards: 10\r\n"), vec!["9"]),
        (options("Max-Forwards: 1\r\n"), vec!["0"]),
        (options(""), vec![]),
        // Means something to TRACE and OPTIONS only.
        (get("/x", "Max-Forwards: 0\r\n"), vec!["0"]),
    ] {
        assert_eq!(sidecar.ask(&request).status, 200);
        assert_eq!(sidecar.app.received().last().unwrap().all("max-forwards"), passed_on, "{request}");
    }
    let whole = get("http://shop.example.com", "").replacen("GET", "OPTIONS", 1);
    assert_eq!(sidecar.ask(&whole).status, 200);
    assert_eq!(sidecar.app.received().last().unwrap().line(), "OPTIONS * HTTP/1.1");
}

#[test]
fn answers_of_our_own_say_when() {
    let sidecar = Sidecar::start(App::hello());
    for request in [get("/never/x", ""), get("/.cloakroom/x", ""), "GET / HTTP/1.1\r\n\r\n".to_owned()] {
        assert_eq!(sidecar.ask(&request).all("date"), ["Fri, 15 Jan 2027 08:00:00 GMT"], "{request}");
    }
    let message = request("GET", "/never/x").body(Frames::text("")).unwrap();
    let over_http2 = run(async { connect(&sidecar).await.send_request(message).await.unwrap() });
    assert_eq!(over_http2.headers()["date"], "Fri, 15 Jan 2027 08:00:00 GMT");
}

#[test]
fn an_answer_of_an_app_without_a_clock_says_when_too() {
    let (app, dated) = ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n", "Sun, 06 Nov 1994 08:49:37 GMT");
    for (reply, date) in [
        (format!("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n{app}\r\nok"), "Fri, 15 Jan 2027 08:00:00 GMT"),
        (format!("{app}dAtE: {dated}\r\n\r\nok"), dated),
    ] {
        let sidecar = Sidecar::start(App::saying(&reply));
        let mut client = sidecar.client();
        client.send(get("/x", ""));
        let mut answer = client.reply();
        if answer.status == 103 {
            assert!(answer.all("date").is_empty(), "what is no answer yet");
            answer = client.reply();
        }
        assert_eq!(answer.all("date"), [date]);
        let message = request("GET", "/x").body(Frames::text("")).unwrap();
        let over_http2 = run(async { connect(&sidecar).await.send_request(message).await.unwrap() });
        assert_eq!(over_http2.headers().get_all("date").iter().collect::<Vec<_>>(), [date]);
    }
}

#[test]
fn an_app_that_announces_a_body_where_none_may_be_is_asked_nothing_more_on_that_connection() {
    let connections = Arc::new(AtomicUsize::new(0));
    for announced in ["Content-Length: 6", "Transfer-Encoding: chunked"] {
        let opened = Arc::clone(&connections);
        let before = opened.load(Ordering::SeqCst);
        let sidecar = Sidecar::start(App::raw(move |mut stream, _| {
            opened.fetch_add(1, Ordering::SeqCst);
            while read_head(&mut stream).is_some() {
                let reply = format!("HTTP/1.1 204 No Content\r\n{announced}\r\n\r\n");
                if stream.write_all(reply.as_bytes()).is_err() {
                    return;
                }
            }
        }));
        let mut client = sidecar.client();
        for _ in 0..3 {
            client.send(get("/x", ""));
            let answer = client.reply();
            assert_eq!((answer.status, answer.all("content-length")), (204, vec![]));
        }
        assert_eq!(connections.load(Ordering::SeqCst) - before, 3, "{announced}");
    }
}
