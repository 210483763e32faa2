//! Bytes that two parsers could read differently: refused, and none of them reaches the app.

use crate::harness::{App, Sidecar, get, token};

/// Sends the bytes with the token put in; expects this status, a closed connection, and silence at the app.
fn refused(sidecar: &Sidecar, bytes: &[u8], status: u16) {
    let shown = String::from_utf8_lossy(bytes).into_owned();
    let mut client = sidecar.client();
    client.send(bytes);
    client.finish_sending();
    let reply = client.reply();
    assert_eq!(reply.status, status, "{shown:?}");
    let decision = reply.all("cloakroom-decision");
    assert_eq!(decision, [reply.json()["decision_id"].as_str().unwrap()], "{shown:?}");
    assert!(client.is_closed(), "still open after {shown:?}");
    assert!(sidecar.app.received().is_empty(), "{shown:?} reached the app as {:?}", sidecar.app.received());
}

fn with_token(text: &str) -> Vec<u8> {
    text.replace("AUTH", &format!("Authorization: Bearer {}", token())).into_bytes()
}

#[test]
fn ambiguous_heads() {
    let sidecar = Sidecar::start(App::hello());
    for (text, status) in [
        ("GET / HTTP/1.1\nHost: a\nAUTH\n\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nAUTH\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nAUTH\r\nX: b\r\n c\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nAUTH\r\nX: b\rY: c\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nAUTH\r\nX : b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nAUTH\r\n X: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nAUTH\r\nX\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nAUTH\r\nX: \0\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nAUTH\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\nAUTH\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\nAUTH\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a b\r\nAUTH\r\n\r\n", 400),
        ("GET http://b/ HTTP/1.1\r\nHost: a\r\nAUTH\r\n\r\n", 400),
        ("GET //a#/b HTTP/1.1\r\nHost: a\r\nAUTH\r\n\r\n", 400),
        ("GET /?a#b HTTP/1.1\r\nHost: a\r\nAUTH\r\n\r\n", 400),
        ("GET a HTTP/1.1\r\nHost: a\r\nAUTH\r\n\r\n", 400),
        ("GET / HTTP/1.1 HTTP/1.1\r\nHost: a\r\nAUTH\r\n\r\n", 400),
        ("GET / HTTP/1.2\r\nHost: a\r\nAUTH\r\n\r\n", 505),
        ("GET / HTTP/0.9\r\nHost: a\r\nAUTH\r\n\r\n", 505),
        ("get / HTTP/1.1\r\nHost: a\r\nAUTH\r\n\r\n", 400),
        ("TRACE / HTTP/1.1\r\nHost: a\r\nAUTH\r\n\r\n", 405),
        ("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\nAUTH\r\n\r\n", 405),
        ("GET / HTTP/1.1\r\nHost: a\r\nAUTH\r\nConnection: close, host\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nAUTH\r\nExpect: magic\r\nContent-Length: 1\r\n\r\nx", 417),
    ] {
        refused(&sidecar, &with_token(text), status);
    }
    let mut latin = with_token("GET /caf\u{e9} HTTP/1.1\r\nHost: a\r\nAUTH\r\n\r\n");
    refused(&sidecar, &latin, 400);
    latin.retain(|byte| *byte != 0xc3);
    refused(&sidecar, &latin, 400);
}

#[test]
fn ambiguous_bodies() {
    let sidecar = Sidecar::start(App::hello());
    for (headers, body, status) in [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked", "0\r\n\r\nGET /evil HTTP/1.1\r\n\r\n", 400),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5", "0\r\n\r\n", 400),
        ("Content-Length: 5\r\nContent-Length: 6", "abcdef", 400),
        ("Content-Length: 5\r\nContent-Length: 5", "abcde", 400),
        ("Content-Length: 5, 5", "abcde", 400),
        ("Content-Length: +5", "abcde", 400),
        ("Content-Length: 5 ,", "abcde", 400),
        ("Content-Length: 0x5", "abcde", 400),
        ("Content-Length:", "", 400),
        ("Transfer-Encoding: xchunked", "0\r\n\r\n", 400),
        ("Transfer-Encoding: identity", "", 400),
        ("Transfer-Encoding: chunked, identity", "0\r\n\r\n", 400),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", "0\r\n\r\n", 400),
        ("Transfer-Encoding : chunked", "0\r\n\r\n", 400),
        ("Transfer-Encoding: gzip, chunked", "0\r\n\r\n", 501),
    ] {
        let text = format!("POST / HTTP/1.1\r\nHost: a\r\nAUTH\r\n{headers}\r\n\r\n{body}");
        refused(&sidecar, &with_token(&text), status);
    }
    refused(
        &sidecar,
        &with_token("POST / HTTP/1.0\r\nHost: a\r\nAUTH\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        400,
    );
}

#[test]
fn ambiguous_chunks_end_the_request_and_nothing_follows() {
    for body in [
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "5;\nx\r\nhello\r\n0\r\n\r\n",
        "FFFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n",
        "0\r\n X: y\r\n\r\n",
        "0\r\nX : y\r\n\r\n",
        "0\r\n\n",
    ] {
        // The app answers only what it has read whole.
        let sidecar = Sidecar::start(App::hello());
        let text = format!(
            "POST /x HTTP/1.1\r\nHost: a\r\nAUTH\r\nTransfer-Encoding: chunked\r\n\r\n{body}GET /evil HTTP/1.1\r\nHost: a\r\n\r\n"
        );
        refused(&sidecar, &with_token(&text), 400);
    }
}

#[test]
fn paths_that_apps_could_read_differently() {
    let sidecar = Sidecar::start(App::hello());
    for path in [
        "/..",
        "/../admin",
        "/a/../../admin",
        "/%2e%2e/admin",
        "/a%2fadmin",
        "/a%5cadmin",
        "/a\\admin",
        "/admin%00",
        "/a%0d%0ab",
        "/%",
        "/%zz",
        "/%c0%ae%c0%ae/admin",
        "/open/..;/admin",
        "/open/.;/admin",
        "/;/admin",
        "/%ff",
    ] {
        let mut client = sidecar.client();
        client.send(get(path, ""));
        assert_eq!(client.reply().status, 400, "{path}");
    }
    assert!(sidecar.app.received().is_empty());
}

#[test]
fn no_spelling_of_a_path_leads_around_its_rule() {
    let sidecar = Sidecar::start(App::hello());
    for path in [
        "/admin",
        "/admin/",
        "/admin/x",
        "//admin/x",
        "/./admin/x",
        "/x/../admin/x",
        "/%61dmin/x",
        "/admin//x",
        "/admin/x/../y",
        "/open/../admin/x",
        "/admin;x/y",
        "/open/%2e%2e/admin/x",
        "/open/./../admin/x",
    ] {
        assert_eq!(sidecar.ask(&get(path, "")).status, 403, "{path}");
    }
    assert!(sidecar.app.received().is_empty());
    // What is judged is what is forwarded.
    assert_eq!(sidecar.ask("GET /open//a/%2e/b/../%63 HTTP/1.1\r\nHost: a\r\n\r\n").status, 200);
    assert_eq!(sidecar.app.only().line(), "GET /open/a/c HTTP/1.1");
}

#[test]
fn every_byte_inside_a_path_is_refused_or_forwarded_as_it_was_judged() {
    let sidecar = Sidecar::start(App::hello());
    for byte in 1..=255_u8 {
        let sent = sidecar.app.received().len();
        let mut client = sidecar.client();
        client.send(get(&format!("/never%{byte:02x}/x"), ""));
        let status = client.reply().status;
        match sidecar.app.received().get(sent) {
            None => assert!(matches!(status, 400 | 403), "{byte:02x}: {status}"),
            Some(received) => {
                let path = received.path();
                assert!(path.starts_with("/never") && !path.starts_with("/never/"), "{byte:02x}: {path}");
            }
        }
    }
}

#[test]
fn an_upgrade_to_http_2_is_not_one() {
    let sidecar = Sidecar::start(App::hello());
    let reply = sidecar
        .ask(&get("/x", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"));
    assert_eq!(reply.status, 200);
    let received = sidecar.app.only();
    assert!(
        received.all("upgrade").is_empty()
            && received.all("http2-settings").is_empty()
            && received.all("connection").is_empty()
    );
}

#[test]
fn what_names_another_protocol_is_closed_without_a_word() {
    let sidecar = Sidecar::start(App::hello());
    for bytes in ["INVALID CONNECTION PREFACE\r\n\r\n", "GET / RTSP/1.0\r\n\r\n"] {
        let mut client = sidecar.client();
        client.send(bytes);
        assert!(client.is_closed(), "{bytes:?}");
    }
    assert!(sidecar.metrics.render().contains("cloakroom_requests_total{outcome=\"refused\"} 2"));
    assert!(sidecar.app.received().is_empty());
}

#[test]
fn headers_that_apps_read_as_framing_are_refused_in_disguise() {
    let sidecar = Sidecar::start(App::hello());
    for name in ["Content_Length", "content.length", "Transfer_Encoding", "TRANSFER_ENCODING"] {
        let mut client = sidecar.client();
        client.send(get("/x", &format!("{name}: 5\r\n")));
        assert_eq!(client.reply().status, 400, "{name}");
    }
    assert!(sidecar.app.received().is_empty());
    assert_eq!(sidecar.ask(&get("/x", "Proxy: http://evil.example\r\n")).status, 200);
    assert!(sidecar.app.only().all("proxy").is_empty());
}

#[test]
fn a_request_after_a_refused_body_is_not_read_from_it() {
    let sidecar = Sidecar::start(App::hello());
    let mut client = sidecar.client();
    let smuggled = get("/evil", "");
    client.send(format!("POST /never/x HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{smuggled}", smuggled.len()));
    assert_eq!(client.reply().status, 403);
    client.send(get("/good", ""));
    assert_eq!(client.reply().status, 200);
    assert_eq!(sidecar.app.only().path(), "/good");
    let mut client = sidecar.client();
    client.send(format!("POST /never/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{smuggled}"));
    assert_eq!(client.reply().status, 403);
    assert!(client.is_closed());
    assert_eq!(sidecar.app.received().len(), 1);
}

#[test]
fn the_beginning_of_http_2_gets_no_answer_in_http_1() {
    let sidecar = Sidecar::with(App::hello(), |config| config["limits"]["idle_timeout"] = 1.into());
    for bytes in
        ["PRI * HTTP/2.0\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n", "PRI * HT", "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"]
    {
        for finishes in [true, false] {
            let mut client = sidecar.client();
            client.send(bytes);
            if finishes {
                client.finish_sending();
            }
            assert!(client.is_closed(), "{bytes:?}");
        }
    }
    assert!(sidecar.app.received().is_empty());
}
