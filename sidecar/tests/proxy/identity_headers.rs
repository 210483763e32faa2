//! Nobody but the sidecar says who the caller is.

use crate::harness::{App, JWT, Sidecar, admin_token, get, token};

const FORGED: [&str; 14] = [
    "X-User-Email",
    "x_user_email",
    "X.User.Email",
    "X-USER_EMAIL",
    "Cloakroom-User",
    "cloakroom_user",
    "Forwarded",
    "X-Forwarded-For",
    "X_Forwarded_For",
    "X-Forwarded-Host",
    "X-Forwarded-User",
    "X-Real-IP",
    "X-Original-URL",
    "X-Rewrite-Url",
];

#[test]
fn forged_headers_never_arrive_signed_in_or_not() {
    let sidecar = Sidecar::start(App::hello());
    for name in FORGED {
        for request in [
            get("/x", &format!("{name}: forged\r\n")),
            get("/x", &format!("Connection: {name}\r\n{name}: forged\r\n")),
            format!("GET /open/x HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {JWT}\r\n{name}: forged\r\n\r\n"),
        ] {
            assert_eq!(sidecar.ask(&request).status, 200, "{request}");
            let received = sidecar.app.received().pop().unwrap();
            assert!(!received.head.contains("forged"), "{name}: {}", received.head);
        }
    }
}

#[test]
fn ours_cannot_be_nominated_away() {
    let sidecar = Sidecar::start(App::hello());
    for connection in ["Authorization", "close, authorization, x-user-email", "X-Forwarded-For, X-User-Email"] {
        let request = get("/x", &format!("Connection: {connection}\r\n"));
        assert_eq!(sidecar.ask(&request).status, 200);
        let received = sidecar.app.received().pop().unwrap();
        assert_eq!(received.all("authorization"), [format!("Bearer {JWT}")]);
        assert_eq!(received.all("x-user-email"), ["ann@example.com"]);
        assert_eq!(received.all("x-forwarded-for"), ["127.0.0.1"]);
    }
}

#[test]
fn an_anonymous_request_carries_no_credential_to_the_app() {
    let sidecar = Sidecar::start(App::hello());
    let cookie = format!("a=1; __Host-cloakroom={}; b=2; __Host-cloakroom-flow-x=y", token());
    for path in ["/open/x", "/maybe/x"] {
        sidecar.ask(&format!("GET {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {JWT}\r\n\r\n"));
        let received = sidecar.app.received().pop().unwrap();
        assert!(received.all("authorization").is_empty());
        assert!(received.all("x-user-email").is_empty());
    }
    sidecar.ask(&format!("GET /open/x HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n"));
    let received = sidecar.app.received().pop().unwrap();
    assert_eq!(received.all("cookie"), ["a=1; b=2"]);
    assert!(received.all("authorization").is_empty());
}

#[test]
fn an_optional_rule_honours_a_good_token_and_overlooks_a_bad_one() {
    let sidecar = Sidecar::start(App::hello());
    sidecar.ask(&get("/maybe/x", ""));
    assert_eq!(sidecar.app.only().all("authorization"), [format!("Bearer {JWT}")]);
    for bad in [crate::harness::unknown_token(), "junk".into()] {
        let reply = sidecar.ask(&get("/maybe/x", "").replace(&token(), &bad));
        assert_eq!(reply.status, 200);
        assert!(sidecar.app.received().pop().unwrap().all("authorization").is_empty());
    }
}

#[test]
fn only_trusted_proxies_are_believed() {
    let claims = "X-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: shop.example.com\r\nX-Forwarded-Prefix: /p\r\nForwarded: for=9.9.9.9\r\n";
    let sidecar = Sidecar::start(App::hello());
    sidecar.ask(&get("/x", claims));
    let received = sidecar.app.only();
    assert_eq!(received.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(received.all("x-forwarded-proto"), ["http"]);
    assert!(received.all("x-forwarded-prefix").is_empty());
    let sidecar = Sidecar::with(App::hello(), |config| config["trusted_proxies"] = serde_json::json!(["127.0.0.0/8"]));
    sidecar.ask(&get("/x", claims));
    let received = sidecar.app.only();
    assert_eq!(received.all("x-forwarded-for"), ["9.9.9.9, 127.0.0.1"]);
    assert_eq!(received.all("x-forwarded-proto"), ["https"]);
    assert_eq!(received.all("x-forwarded-host"), ["shop.example.com"]);
    assert_eq!(received.all("x-forwarded-prefix"), ["/p"]);
    assert_eq!(received.all("forwarded"), ["for=9.9.9.9, for=127.0.0.1;host=\"shop.example.com\";proto=https"]);
}

#[test]
fn a_forwarded_header_decides_nothing_whoever_sends_it() {
    let sidecar = Sidecar::with(App::hello(), |config| config["trusted_proxies"] = serde_json::json!(["127.0.0.0/8"]));
    sidecar.ask(&get("/x", "Forwarded: for=9.9.9.9;proto=https;host=evil.example\r\n"));
    let received = sidecar.app.only();
    assert_eq!(received.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(received.all("x-forwarded-proto"), ["http"]);
    assert_eq!(received.all("x-forwarded-host"), ["shop.example.com"]);
}

#[test]
fn a_quotation_without_an_end_does_not_swallow_what_we_say() {
    for (sent, kept) in [
        ("for=\"evil", ""),
        ("for=\"evil\\\"", ""),
        ("for=\"[::1]\";host=\"a\\\"b\"", "for=\"[::1]\";host=\"a\\\"b\", "),
    ] {
        let sidecar =
            Sidecar::with(App::hello(), |config| config["trusted_proxies"] = serde_json::json!(["127.0.0.0/8"]));
        sidecar.ask(&get("/x", &format!("Forwarded: {sent}\r\n")));
        let ours = "for=127.0.0.1;host=\"shop.example.com\";proto=http";
        assert_eq!(sidecar.app.only().all("forwarded"), [format!("{kept}{ours}")]);
    }
}

#[test]
fn the_answer_is_the_same_from_the_cache_and_from_an_introspection() {
    let sidecar = Sidecar::start(App::hello());
    let request = get("/admin/x", "").replace(&token(), &admin_token());
    assert_eq!(sidecar.ask(&request).status, 200);
    assert_eq!(sidecar.app.only().all("authorization"), [format!("Bearer {JWT}")]);
}
