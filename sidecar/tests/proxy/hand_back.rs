//! What the app says to the sidecar, and what must not get past it.

use std::sync::atomic::Ordering;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cloakroom_protocol::revocation::RevokeScope;
use cloakroom_sidecar::authority::CommitError;

use crate::harness::{App, JWT, Sidecar, access_token, admin_token, api_key, get, token};
use crate::http2::{Frames, connect, request, run};

fn saying(headers: &str) -> Sidecar {
    Sidecar::start(App::saying(&format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{headers}\r\nok")))
}

#[test]
fn a_patch_is_committed_before_the_answer_goes_on() {
    let patch = URL_SAFE_NO_PAD.encode(r#"{"cart":[1,2]}"#);
    let sidecar = saying(&format!("Cloakroom-Session: {patch}\r\nX-Other: 1\r\n"));
    let mut client = sidecar.client();
    for _ in 0..2 {
        client.send(get("/x", ""));
        let reply = client.reply();
        assert_eq!((reply.status, reply.text().as_str(), reply.all("x-other")), (200, "ok", vec!["1"]));
        assert!(!reply.head.to_lowercase().contains("cloakroom-session"));
    }
    assert_eq!(*sidecar.authority.committed.lock().unwrap(), vec![serde_json::json!({"cart": [1, 2]}); 2]);
}

#[test]
fn a_patch_that_is_not_committed_is_an_error_and_the_answer_is_not_sent() {
    let patch = URL_SAFE_NO_PAD.encode(r#"{"cart":1}"#);
    for (error, status) in [
        (CommitError::Conflict, 409),
        (CommitError::Gone, 409),
        (CommitError::Unavailable, 503),
        (CommitError::NotWritable, 502),
        (CommitError::TooLarge, 502),
        (CommitError::NotASession, 409),
    ] {
        let sidecar = saying(&format!("Cloakroom-Session: {patch}\r\n"));
        *sidecar.authority.commit.lock().unwrap() = Err(error);
        let reply = sidecar.ask(&get("/x", ""));
        assert_eq!(reply.status, status, "{error}");
        assert_ne!(reply.text(), "ok");
    }
    let sidecar = saying("Cloakroom-Session: %%%\r\n");
    assert_eq!(sidecar.ask(&get("/x", "")).status, 502);
    let sidecar = saying(&format!("Cloakroom-Session: {patch}\r\n"));
    let reply = sidecar.ask("GET /open/x HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(reply.status, 409);
    assert!(!reply.text().contains("gain"), "it would never be another: {}", reply.text());
}

#[test]
fn a_logout_ends_the_session_and_its_cookie_and_is_still_answered() {
    let sidecar = saying("Cloakroom-Logout: everywhere\r\n");
    let reply = sidecar.ask(&get("/x", ""));
    assert_eq!((reply.status, reply.text().as_str()), (200, "ok"));
    assert!(reply.all("set-cookie")[0].starts_with("__Host-cloakroom=; Max-Age=0;"));
    assert!(reply.all("cloakroom-logout").is_empty());
    assert_eq!(*sidecar.authority.signed_out.lock().unwrap(), [RevokeScope::Everywhere]);
    assert_eq!(sidecar.ask(&get("/x", "")).status, 401);
}

#[test]
fn a_logout_counts_where_the_rule_asks_for_no_token() {
    let cookie = format!("Cookie: __Host-cloakroom={}\r\n", token());
    let ask = |sidecar: &Sidecar, fields: &str| {
        let reply = sidecar.ask(&format!("GET /open/bye HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        assert!(reply.all("cloakroom-logout").is_empty());
        (reply.status, reply.all("set-cookie").concat().starts_with("__Host-cloakroom=; Max-Age=0;"))
    };
    let sidecar = saying("Cloakroom-Logout: session\r\n");
    assert_eq!(ask(&sidecar, &cookie), (200, true));
    assert!(sidecar.app.only().all("authorization").is_empty(), "nobody told the app who");
    assert_eq!(*sidecar.authority.signed_out.lock().unwrap(), [RevokeScope::Session]);
    assert_eq!(sidecar.ask(&get("/x", "")).status, 401, "it is out of reach");

    let sidecar = saying("Cloakroom-Logout: session\r\n");
    assert_eq!(ask(&sidecar, ""), (200, true), "done already");
    assert_eq!(ask(&sidecar, "Cookie: __Host-cloakroom=junk\r\n"), (200, true));
    let two = format!("{cookie}Authorization: Bearer {}\r\n", admin_token());
    assert_eq!(ask(&sidecar, &two), (409, false), "whose?");
    assert!(sidecar.authority.signed_out.lock().unwrap().is_empty());
    sidecar.authority.down.store(true, Ordering::SeqCst);
    assert_eq!(ask(&sidecar, &cookie), (503, false), "nobody is told to be signed out who is not");
}

#[test]
fn a_logout_in_a_trailer_is_no_wish() {
    let sidecar = Sidecar::start(App::saying(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nCloakroom-Logout: session\r\nX-A: 1\r\n\r\n",
    ));
    let reply = sidecar.ask(&get("/x", ""));
    assert!(reply.text().contains("X-A: 1") && !reply.text().contains("Cloakroom"), "{}", reply.text());
    assert!(sidecar.authority.signed_out.lock().unwrap().is_empty());
}

#[test]
fn an_app_ends_neither_an_api_key_nor_more_than_a_grant() {
    let ask = |token: &str, scope: &str| {
        let sidecar = saying(&format!("Cloakroom-Logout: {scope}\r\n"));
        let reply = sidecar.ask(&format!("GET /x HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n"));
        (reply.status, sidecar.authority.signed_out.lock().unwrap().clone())
    };
    for (token, scope) in [(api_key(), "session"), (api_key(), "everywhere"), (access_token(), "everywhere")] {
        assert_eq!(ask(&token, scope), (409, vec![]), "{scope}");
    }
    assert_eq!(ask(&access_token(), "session"), (200, vec![RevokeScope::Session]));
}

#[test]
fn the_jwt_does_not_leave_in_any_header_or_trailer() {
    let encoded = JWT.replace('.', "%2E");
    let sidecar = Sidecar::start(App::saying(&format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nAuthorization: Bearer {JWT}\r\nSet-Cookie: t={JWT}; Path=/\r\n\
         Location: /next?token={encoded}\r\nX-Fine: eyJhbGciOiJFUzI1NiJ9\r\n\r\n2\r\nok\r\n0\r\nX-Token: {JWT}\r\n\r\n"
    )));
    let reply = sidecar.ask(&get("/x", ""));
    let all = format!("{}{}", reply.head, reply.text());
    let payload = JWT.split('.').nth(1).unwrap();
    assert!(!all.contains(payload), "{all}");
    assert_eq!(reply.all("authorization"), [format!("Bearer {}", token())]);
    assert_eq!(reply.all("set-cookie"), [format!("t={}; Path=/", token())]);
    assert_eq!(reply.all("location"), [format!("/next?token={}", token())]);
    assert_eq!(reply.all("x-fine"), ["eyJhbGciOiJFUzI1NiJ9"]);
    assert!(sidecar.metrics.jwt_leaks.get() > 0);
    // Under which the log has it.
    let ids = reply.all("cloakroom-decision");
    assert_eq!((ids.len(), ids[0].len()), (1, 12), "{}", reply.head);
    assert!(reply.text().contains(&format!("\r\nCloakroom-Decision: {}\r\n", ids[0])), "{}", reply.text());
}

#[test]
fn the_app_cannot_set_our_cookies_or_name_our_headers() {
    let sidecar = saying(
        "Set-Cookie: __Host-cloakroom=evil; Path=/\r\nSet-Cookie: a=1\r\nCloakroom-Decision: x\r\ncloakroom_x: y\r\n",
    );
    let reply = sidecar.ask(&get("/x", ""));
    assert_eq!(reply.all("set-cookie"), ["a=1"]);
    assert!(!reply.head.to_lowercase().contains("cloakroom"));
}

#[test]
fn hop_by_hop_headers_of_the_app_stay_with_it() {
    let sidecar = saying(
        "Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\nUpgrade: h2c\r\n",
    );
    let reply = sidecar.ask(&get("/x", ""));
    for name in ["x-hop", "keep-alive", "proxy-authenticate", "upgrade", "connection"] {
        assert!(reply.all(name).is_empty(), "{name}: {}", reply.head);
    }
}

#[test]
fn an_app_that_contradicts_itself_is_not_believed_and_nothing_is_done() {
    let patch = URL_SAFE_NO_PAD.encode(r#"{"cart":1}"#);
    let list = URL_SAFE_NO_PAD.encode("[1]");
    let open = URL_SAFE_NO_PAD.encode(r#"{"cart":1"#);
    for headers in [
        format!("Cloakroom-Session: {patch}\r\ncloakroom_session: {patch}\r\n"),
        format!("Cloakroom-Session: {patch}, {patch}\r\n"),
        format!("Cloakroom-Session: {patch}!\r\n"),
        format!("Cloakroom-Session: {list}\r\n"),
        format!("Cloakroom-Session: {open}\r\n"),
        "Cloakroom-Session:\r\n".to_owned(),
        "Cloakroom-Logout: session\r\nCLOAKROOM.LOGOUT: everywhere\r\n".to_owned(),
        "Cloakroom-Logout: Session\r\n".to_owned(),
        "Cloakroom-Logout: session, everywhere\r\n".to_owned(),
        format!("Cloakroom-Session: {patch}\r\nCloakroom-Logout: never\r\n"),
    ] {
        let sidecar = saying(&headers);
        let reply = sidecar.ask(&get("/x", ""));
        assert_eq!(reply.status, 502, "{headers}");
        assert!(sidecar.authority.committed.lock().unwrap().is_empty(), "{headers}");
        assert!(sidecar.authority.signed_out.lock().unwrap().is_empty(), "{headers}");
        assert_eq!(sidecar.ask(&get("/x", "")).status, 502, "still signed in: {headers}");
    }
}

#[test]
fn a_patch_that_is_too_long_for_a_head_is_an_error_and_not_cut_off() {
    let patch = URL_SAFE_NO_PAD.encode(format!(r#"{{"cart":"{}"}}"#, "x".repeat(200 << 10)));
    let sidecar = saying(&format!("Cloakroom-Session: {patch}\r\n"));
    assert_eq!(sidecar.ask(&get("/x", "")).status, 502);
    assert!(sidecar.authority.committed.lock().unwrap().is_empty());
}

#[test]
fn the_jwt_does_not_leave_encoded_or_several_times() {
    use base64::engine::general_purpose::STANDARD;

    let payload = JWT.split('.').nth(1).unwrap();
    let twice = format!("{JWT} {JWT}, {JWT}");
    let wrapped = STANDARD.encode(format!(r#"{{"token":"{JWT}"}}"#));
    let in_url = URL_SAFE_NO_PAD.encode(format!("x{JWT}"));
    let double = JWT.replace('.', "%252E").replace('J', "%254a");
    let headers = format!(
        "X-Twice: {twice}\r\nSet-Cookie: state={wrapped}; Path=/\r\nLocation: https://a.example/?next={in_url}&x=1\r\n\
         X-Double: {double}\r\nSet-Cookie: p={payload}\r\nX-Json: {{\"a\":\"{JWT}\"}}\r\n"
    );
    let reply = saying(&headers).ask(&get("/x", ""));
    assert_eq!(reply.status, 200);
    let token = token();
    assert_eq!(reply.all("x-twice"), [format!("{token} {token}, {token}")]);
    assert_eq!(reply.all("set-cookie"), ["state=; Path=/".to_owned(), format!("p={token}")]);
    assert_eq!(reply.all("location"), ["https://a.example/?next=&x=1"]);
    assert_eq!(reply.all("x-double"), [&*token]);
    assert_eq!(reply.all("x-json"), [format!("{{\"a\":\"{token}\"}}")]);
}

#[test]
fn an_interim_answer_asks_for_nothing_and_does_not_stand_in_the_final_ones_way() {
    let patch = URL_SAFE_NO_PAD.encode(r#"{"cart":1}"#);
    for hints in ["Cloakroom-Session: %%%", "Cloakroom-Logout: session", "Link: </a>"] {
        let sidecar = Sidecar::start(App::saying(&format!(
            "HTTP/1.1 103 Early Hints\r\n{hints}\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\nCloakroom-Session: {patch}\r\n\r\nok"
        )));
        let mut client = sidecar.client();
        client.send(get("/x", ""));
        let interim = client.reply();
        assert!(interim.status == 103 && !interim.head.to_lowercase().contains("cloakroom"), "{}", interim.head);
        assert_eq!(client.reply().text(), "ok", "{hints}");
        let message = request("GET", "/x").body(Frames::text("")).unwrap();
        let over_http2 = run(async { connect(&sidecar).await.send_request(message).await.unwrap().status() });
        assert_eq!(over_http2, 200, "{hints}");
        assert_eq!(sidecar.authority.committed.lock().unwrap().len(), 2, "{hints}");
        assert!(sidecar.authority.signed_out.lock().unwrap().is_empty());
    }
}

#[test]
fn an_answer_that_is_not_passed_on_does_nothing() {
    let sidecar = Sidecar::start(App::saying("HTTP/1.1 101 Switching Protocols\r\nCloakroom-Logout: session\r\n\r\n"));
    assert_eq!(sidecar.ask(&get("/x", "")).status, 502);
    assert!(sidecar.authority.signed_out.lock().unwrap().is_empty());
    assert_eq!(sidecar.ask(&get("/x", "")).status, 502, "still signed in");
}

#[test]
fn the_jwt_does_not_leave_where_no_value_stands() {
    let payload = JWT.split('.').nth(1).unwrap();
    let sidecar = Sidecar::start(App::saying(&format!(
        "HTTP/1.1 299 {JWT}\r\nContent-Length: 2\r\nX-{JWT}: 1\r\nX-Fine: 1\r\n\r\nok"
    )));
    let reply = sidecar.ask(&get("/x", ""));
    assert_eq!((reply.status, reply.all("x-fine")), (299, vec!["1"]));
    assert!(!reply.head.contains(payload), "{}", reply.head);
    assert!(sidecar.metrics.jwt_leaks.get() > 0);

    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    for status in ["101 Switching Protocols", "426 Upgrade Required"] {
        let sidecar = Sidecar::start(App::saying(&format!(
            "HTTP/1.1 {status}\r\nConnection: Upgrade\r\nUpgrade: {JWT}\r\nContent-Length: 0\r\n\r\n"
        )));
        let head = sidecar.ask(&get("/x", upgrade)).head;
        assert!(head.contains(&token()) && !head.contains(payload), "{head}");
        assert!(sidecar.metrics.jwt_leaks.get() > 0);
    }
}

#[test]
fn whoever_has_to_upgrade_learns_to_what() {
    for (offered, told) in [
        ("Upgrade: websocket", vec!["websocket"]),
        ("Upgrade: h2c, foo/1\r\nUpgrade: HTTP/2.0,bar", vec!["foo/1, bar"]),
        ("Upgrade: h2c", vec![]),
        ("X: y", vec![]),
    ] {
        let sidecar = Sidecar::start(App::saying(&format!(
            "HTTP/1.1 426 Upgrade Required\r\nConnection: upgrade\r\n{offered}\r\nContent-Length: 2\r\n\r\nno"
        )));
        let reply = sidecar.ask(&get("/x", ""));
        assert_eq!((reply.status, reply.text().as_str(), reply.all("upgrade")), (426, "no", told.clone()), "{offered}");
        assert_eq!(reply.all("connection").len(), told.len());
        let message = request("GET", "/x").body(Frames::text("")).unwrap();
        let over_http2 = run(async { connect(&sidecar).await.send_request(message).await.unwrap() });
        assert!(over_http2.status() == 426 && !over_http2.headers().contains_key("upgrade"));
    }
}

#[test]
fn what_is_for_one_person_alone_is_kept_from_shared_caches() {
    let with_cookie = |method: &str, path: &str| {
        format!("{method} {path} HTTP/1.1\r\nHost: shop.example.com\r\nCookie: __Host-cloakroom={}\r\n\r\n", token())
    };
    for (said, by_cookie, by_header) in [
        ("", &["private"][..], &[][..]),
        ("Cache-Control: max-age=60\r\n", &["max-age=60", "private"], &["max-age=60"]),
        ("cache-control: Public, max-age=60\r\n", &["Public, max-age=60"], &["Public, max-age=60"]),
        ("Cache-Control: no-store\r\n", &["no-store"], &["no-store"]),
    ] {
        let sidecar = saying(said);
        // RFC 9111 §3.5: with `Authorization` a cache knows by itself.
        assert_eq!(sidecar.ask(&get("/x", "")).all("cache-control"), by_header, "{said}");
        assert_eq!(sidecar.ask(&with_cookie("GET", "/x")).all("cache-control"), by_cookie, "{said}");
        assert_eq!(sidecar.ask(&with_cookie("POST", "/x")).all("cache-control"), by_header, "{said}");
        assert_eq!(sidecar.ask(&with_cookie("GET", "/open/x")).all("cache-control"), by_header, "for anybody: {said}");
        let mut message = request("GET", "/x").body(Frames::text("")).unwrap();
        message.headers_mut().remove("authorization");
        let cookie = format!("__Host-cloakroom={}", token());
        message.headers_mut().insert("cookie", cookie.parse().unwrap());
        let over_http2 = run(async { connect(&sidecar).await.send_request(message).await.unwrap() });
        let values: Vec<_> = over_http2.headers().get_all("cache-control").iter().collect();
        assert_eq!(values, by_cookie, "{said}");
    }
}
