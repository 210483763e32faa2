//! Who gets in, and what those are told who do not.

use std::sync::atomic::Ordering;

use cloakroom_sidecar::metrics::Outcome;
use http::StatusCode;

use crate::harness::{App, JWT, Sidecar, get, token, unknown_token};

fn anonymous(method: &str, path: &str, headers: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: shop.example.com\r\n{headers}\r\n")
}

#[test]
fn a_call_without_a_token_is_told_how_to_get_one() {
    let sidecar = Sidecar::start(App::hello());
    let reply = sidecar.ask(&anonymous("GET", "/x", ""));
    assert_eq!(reply.status, 401);
    let metadata = r#"resource_metadata="https://shop.example.com/.well-known/oauth-protected-resource""#;
    assert_eq!(reply.all("www-authenticate"), [format!("Bearer {metadata}")]);
    assert_eq!(reply.all("cache-control"), ["no-store"]);
    assert_eq!(reply.all("content-type"), ["application/problem+json"]);
    assert_eq!(reply.json()["status"], 401);
    assert!(sidecar.app.received().is_empty());
}

#[test]
fn a_page_load_is_sent_to_sign_in() {
    let sidecar = Sidecar::start(App::hello());
    for headers in ["Accept: text/html\r\n", "Sec-Fetch-Mode: navigate\r\n"] {
        let reply = sidecar.ask(&anonymous("GET", "/x/../page?secret=1", headers));
        assert_eq!((reply.status, reply.all("location")), (303, vec!["https://auth.example.com/?to=/page&acr="]));
    }
    assert_eq!(sidecar.ask(&anonymous("GET", "/x", "Accept: text/html\r\nSec-Fetch-Mode: cors\r\n")).status, 401);
}

#[test]
fn junk_and_ended_tokens_are_invalid_and_an_outage_is_not_a_sign_out() {
    let sidecar = Sidecar::start(App::hello());
    for bad in ["junk".to_owned(), unknown_token(), JWT.to_owned()] {
        let reply = sidecar.ask(&get("/x", "").replace(&token(), &bad));
        assert_eq!(reply.status, 401, "{bad}");
        assert!(reply.all("www-authenticate")[0].contains("error=\"invalid_token\""));
    }
    sidecar.authority.down.store(true, Ordering::SeqCst);
    let reply = sidecar.ask(&get("/x", "Accept: text/html\r\n").replace(&token(), &unknown_token()));
    assert_eq!(reply.status, 503);
    assert_eq!(reply.all("retry-after").len(), 1);
    assert!(reply.all("set-cookie").is_empty());
    sidecar.authority.revoke(&token());
    assert_eq!(sidecar.ask(&get("/x", "")).status, 401);
}

#[test]
fn two_tokens_are_refused() {
    let sidecar = Sidecar::start(App::hello());
    let cookie = format!("Cookie: __Host-cloakroom={}\r\n", unknown_token());
    assert_eq!(sidecar.ask(&get("/x", &cookie)).status, 400);
    assert_eq!(sidecar.ask(&get("/x", &format!("authorization: Bearer {}\r\n", token()))).status, 400);
    assert!(sidecar.app.received().is_empty());
}

#[test]
fn another_sites_page_cannot_use_the_cookie() {
    let sidecar = Sidecar::start(App::hello());
    let cookie = format!("Cookie: __Host-cloakroom={}\r\n", token());
    let post = |headers: &str| {
        sidecar.ask(&anonymous("POST", "/x", &format!("{cookie}Content-Length: 0\r\n{headers}"))).status
    };
    assert_eq!(post(""), 200);
    assert_eq!(post("Origin: https://shop.example.com\r\nSec-Fetch-Site: same-origin\r\n"), 200);
    assert_eq!(post("Origin: https://evil.example\r\n"), 403);
    assert_eq!(post("Origin: null\r\n"), 403);
    assert_eq!(post("Sec-Fetch-Site: cross-site\r\n"), 403);
}

#[test]
fn the_sidecars_own_paths_never_reach_the_app() {
    let sidecar = Sidecar::start(App::hello());
    for path in [
        "/.cloakroom/proof",
        "/x/../.cloakroom/session",
        "/%2ecloakroom/x",
        "//.cloakroom//callback",
        "/.well-known/oauth-protected-resource",
    ] {
        assert_eq!(sidecar.ask(&anonymous("GET", path, "")).text(), "own", "{path}");
    }
    assert!(sidecar.app.received().is_empty());
    assert_eq!(sidecar.authority.own.lock().unwrap()[3], "/.cloakroom/callback");
}

#[test]
fn shadow_mode_lets_pass_and_counts() {
    let sidecar = Sidecar::with(App::hello(), |config| config["mode"] = "Shadow".into());
    assert_eq!(sidecar.ask(&anonymous("GET", "/x", "")).status, 200);
    assert_eq!(sidecar.ask(&get("/admin/x", "")).status, 200);
    assert_eq!(sidecar.ask(&get("/x", "")).status, 200);
    let received = sidecar.app.received();
    assert!(received[0].all("authorization").is_empty());
    assert_eq!(received[1].all("authorization"), [format!("Bearer {JWT}")]);
    assert_eq!(sidecar.metrics.shadow_denials.get(), 2);
    assert_eq!(sidecar.ask("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").status, 400);
}

#[test]
fn shadow_mode_leaves_an_apps_own_authentication_alone() {
    let sidecar = Sidecar::with(App::hello(), |config| {
        config["mode"] = "Shadow".into();
        config["token_sources"] = serde_json::json!([
            {"cookie": {"name": "__Host-cloakroom"}}, {"header": {"name": "Authorization", "scheme": "Bearer"}}, {"header": {"name": "X-Api-Key"}},
        ]);
    });
    let ask = |path: &str, fields: &str| {
        assert_eq!(sidecar.ask(&anonymous("GET", path, fields)).status, 200, "{fields}");
        sidecar.app.received().pop().unwrap()
    };
    for path in ["/x", "/open/x", "/maybe/x", "/never/x"] {
        for credential in ["Authorization: Basic YTpi", "Authorization: Bearer of-their-own", "X-Api-Key: their-key"] {
            let received = ask(path, &format!("{credential}\r\n"));
            assert!(received.head.contains(credential), "{path} {credential}: {}", received.head);
        }
    }
    // Of the caller it says no more than under Enforce: identity headers are ours, and so are our tokens.
    for bad in [unknown_token(), token(), format!("x,{}", unknown_token()), format!("\"{}\"", unknown_token())] {
        let received = ask(
            "/never/x",
            &format!("X-User-Email: forged\r\nx_user_email: forged\r\nX_Api_Key: k\r\nAuthorization: Bearer {bad}\r\n"),
        );
        assert!(received.all("authorization").is_empty(), "{bad}: {}", received.head);
        assert!(!received.head.contains("forged") && received.all("X_Api_Key").is_empty(), "{}", received.head);
    }
    let received = ask("/x", "Connection: close, Authorization\r\nAuthorization: Basic YTpi\r\n");
    assert!(received.all("authorization").is_empty(), "of that hop only");
    // Somebody of ours is who they are here, and nobody else.
    let received = ask("/x", &format!("Cookie: __Host-cloakroom={}\r\nAuthorization: Basic YTpi\r\n", token()));
    assert_eq!(received.all("authorization"), [format!("Bearer {JWT}")]);
}

#[test]
fn enforced_rules_take_credentials_from_everybody() {
    let sidecar = Sidecar::start(App::hello());
    for path in ["/open/x", "/maybe/x"] {
        assert_eq!(sidecar.ask(&anonymous("GET", path, "Authorization: Basic YTpi\r\n")).status, 200);
        assert!(sidecar.app.received().pop().unwrap().all("authorization").is_empty(), "{path}");
    }
}

#[test]
fn stepping_up_is_asked_for_in_the_callers_language() {
    let sidecar = Sidecar::with(App::hello(), |config| {
        config["rules"] = serde_json::json!([{"matches": [{"path": "/pay"}], "access": "Authenticated", "require": {"acr": "mfa", "max_age": 60}}]);
    });
    let reply = sidecar.ask(&get("/pay", ""));
    assert_eq!(reply.status, 401);
    let challenge = reply.all("www-authenticate")[0].to_owned();
    assert!(
        challenge.contains(r#"error="insufficient_user_authentication", acr_values="mfa", max_age="60""#),
        "{challenge}"
    );
    let cookie = format!("Cookie: __Host-cloakroom={}\r\nAccept: text/html\r\n", token());
    let reply = sidecar.ask(&anonymous("GET", "/pay", &cookie));
    assert_eq!((reply.status, reply.all("location")), (303, vec!["https://auth.example.com/?to=/pay&acr=mfa"]));
}

#[test]
fn where_nobody_can_sign_in_a_page_load_gets_the_ordinary_401() {
    let changes: [fn(&mut serde_json::Value); 2] = [
        |config| config["origins"] = serde_json::json!([]),
        |config| {
            config["token_sources"] = serde_json::json!([{"header": {"name": "Authorization", "scheme": "Bearer"}}]);
        },
    ];
    for change in changes {
        let sidecar = Sidecar::with(App::hello(), change);
        let reply = sidecar.ask(&anonymous("GET", "/x", "Accept: text/html\r\n"));
        assert_eq!((reply.status, reply.all("content-type")), (401, vec!["text/html; charset=utf-8"]));
        assert!(reply.all("www-authenticate")[0].starts_with("Bearer resource_metadata="), "{}", reply.head);
        assert!(reply.all("content-security-policy")[0].starts_with("default-src 'none'; style-src 'sha256-"));
        assert_eq!((reply.all("x-content-type-options"), reply.all("cloakroom-decision").len()), (vec!["nosniff"], 1));
        assert!(reply.text().contains(reply.all("cloakroom-decision")[0]));
        assert_eq!(sidecar.metrics.requests.of(Outcome::Unauthenticated).get(), 1);
        assert_eq!(sidecar.metrics.requests.of(Outcome::SentToSignIn).get(), 0);
    }
}

#[test]
fn what_a_sign_in_comes_to_is_what_is_counted() {
    let sidecar = Sidecar::start(App::hello());
    for (status, outcome) in [
        (StatusCode::SEE_OTHER, Outcome::SentToSignIn),
        (StatusCode::MISDIRECTED_REQUEST, Outcome::Refused),
        (StatusCode::FORBIDDEN, Outcome::Forbidden),
    ] {
        *sidecar.authority.sign_in.lock().unwrap() = status;
        assert_eq!(sidecar.ask(&anonymous("GET", "/x", "Accept: text/html\r\n")).status, status.as_u16());
        assert_eq!(sidecar.metrics.requests.of(outcome).get(), 1, "{status}");
    }
}

#[test]
fn a_token_in_a_header_is_never_sent_to_sign_in() {
    let policy = |unauthenticated: &str| {
        let unauthenticated = unauthenticated.to_owned();
        Sidecar::with(App::hello(), move |config| {
            config["unauthenticated"] = unauthenticated.into();
            config["rules"] = serde_json::json!([{"matches": [{"path": "/pay"}], "access": "Authenticated", "require": {"max_age": 60}}]);
        })
    };
    for (unauthenticated, accepts) in [("Auto", "Accept: text/html\r\n"), ("Redirect", "")] {
        let sidecar = policy(unauthenticated);
        let (bearer, unknown) = (get("/pay", accepts), get("/x", accepts).replace(&token(), &unknown_token()));
        let junk = get("/x", accepts).replace(&token(), "junk");
        for (request, error) in
            [(bearer, "insufficient_user_authentication"), (unknown, "invalid_token"), (junk, "invalid_token")]
        {
            let reply = sidecar.ask(&request);
            assert_eq!(reply.status, 401, "{unauthenticated}: {request}");
            assert!(reply.all("www-authenticate")[0].contains(&format!("error=\"{error}\"")), "{}", reply.head);
        }
        for cookie in [format!("__Host-cloakroom={}", unknown_token()), "__Host-cloakroom=junk".into(), "a=b".into()] {
            let reply = sidecar.ask(&anonymous("GET", "/x", &format!("Cookie: {cookie}\r\n{accepts}")));
            assert_eq!(reply.status, 303, "{unauthenticated}: {cookie}");
        }
    }
}
