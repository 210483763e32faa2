//! CORS preflights: a browser's question without credentials, and whatever would pass for one.

use serde_json::json;

use crate::harness::{App, JWT, Sidecar, get, token};

const QUESTION: &str = "Origin: https://www.example.com\r\nAccess-Control-Request-Method: PUT\r\n";

fn passing() -> Sidecar {
    Sidecar::with(App::hello(), |config| config["preflight"] = json!("Pass"))
}

fn ask(sidecar: &Sidecar, method: &str, path: &str, headers: &str) -> u16 {
    sidecar.ask(&format!("{method} {path} HTTP/1.1\r\nHost: a.example\r\n{headers}\r\n")).status
}

#[test]
fn without_the_policys_word_a_preflight_needs_a_token_like_anything_else() {
    let sidecar = Sidecar::start(App::hello());
    assert_eq!(ask(&sidecar, "OPTIONS", "/x", QUESTION), 401);
    assert!(sidecar.app.received().is_empty());
}

#[test]
fn the_app_sees_the_question_and_nothing_else() {
    let sidecar = passing();
    let more = format!(
        "{QUESTION}Access-Control-Request-Headers: x-a\r\nUser-Agent: u\r\nCookie: a=1; __Host-cloakroom={}\r\n\
         Authorization: Bearer {}\r\nX-HTTP-Method-Override: DELETE\r\nX-User-Email: forged\r\nX-Anything: 1\r\n",
        token(),
        token()
    );
    assert_eq!(ask(&sidecar, "OPTIONS", "/x", &more), 200);
    let request = sidecar.app.only();
    assert_eq!(request.line(), "OPTIONS /x HTTP/1.1");
    assert_eq!(request.all("origin"), ["https://www.example.com"]);
    assert_eq!(request.all("access-control-request-method"), ["PUT"]);
    assert_eq!((request.all("access-control-request-headers"), request.all("user-agent")), (vec!["x-a"], vec!["u"]));
    for name in ["cookie", "authorization", "x-http-method-override", "x-user-email", "x-anything"] {
        assert!(request.all(name).is_empty(), "{name}");
    }
}

#[test]
fn nothing_else_passes_for_one() {
    let sidecar = passing();
    for (method, headers) in [
        ("GET", QUESTION.to_owned()),
        ("OPTIONS", String::new()),
        ("OPTIONS", "Origin: https://www.example.com\r\n".to_owned()),
        ("OPTIONS", "Access-Control-Request-Method: PUT\r\n".to_owned()),
        ("OPTIONS", format!("{QUESTION}Access-Control-Request-Method: GET\r\n")),
        ("OPTIONS", format!("{QUESTION}Content-Length: 1\r\n\r\nx")),
        ("OPTIONS", format!("{QUESTION}Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n")),
        ("OPTIONS", format!("{QUESTION}Connection: upgrade\r\nUpgrade: websocket\r\n")),
        (
            "OPTIONS",
            format!("{QUESTION}Connection: Access-Control-Request-Method, Origin\r\nContent-Length: 3\r\n\r\nabc"),
        ),
    ] {
        let status = ask(&sidecar, method, "/x", &headers);
        assert!(matches!(status, 401 | 403), "{method} {headers}: {status}");
    }
    assert_eq!(ask(&sidecar, "OPTIONS", "/never/x", QUESTION), 403, "a rule denies it to everybody");
    assert!(sidecar.app.received().is_empty());
}

#[test]
fn a_trace_goes_on_as_it_came_and_none_begins() {
    let sidecar = Sidecar::start(App::hello());
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    let state = "tracestate: vendor=1\r\n";
    for (headers, continues) in [
        (format!("Traceparent: {parent}\r\n{state}"), true),
        (state.to_owned(), false),
        (format!("traceparent: {parent}\r\ntraceparent: {parent}\r\n{state}"), false),
        (format!("traceparent: {}\r\n{state}", parent.to_uppercase()), false),
        (format!("traceparent: {parent}\r\nConnection: traceparent\r\n{state}"), false),
    ] {
        sidecar.ask(&get("/x", &headers));
        let request = sidecar.app.received().pop().unwrap();
        let goes_on: &[&str] = if continues { &[parent] } else { &[] };
        assert_eq!(request.all("traceparent"), goes_on, "{headers}");
        assert_eq!(request.all("tracestate").len(), usize::from(continues), "{headers}");
        assert!(request.all("authorization")[0].ends_with(JWT));
    }
}

const ALLOWED: [&str; 2] = ["access-control-allow-origin", "access-control-allow-credentials"];

#[test]
fn a_page_that_may_ask_may_also_read_that_it_was_refused() {
    let other = "Origin: https://partner.example\r\n";
    let named = "Origin: https://shop.example.com\r\n";
    let ask = |preflight: &str, path: &str, fields: &str| {
        let sidecar = Sidecar::with(App::saying(""), |config| config["preflight"] = preflight.into());
        let reply = sidecar.ask(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        if reply.all(ALLOWED[0]).is_empty() {
            assert!(reply.all("access-control-expose-headers").is_empty() && reply.all("vary").is_empty());
        } else {
            assert_eq!(reply.all("vary"), ["origin"]);
            assert!(reply.all("access-control-expose-headers")[0].contains("www-authenticate"));
        }
        (reply.status, ALLOWED.map(|name| reply.all(name).concat()))
    };
    let nobody = [String::new(), String::new()];
    let anybody = ["*".to_owned(), String::new()];
    let shop = ["https://shop.example.com".to_owned(), "true".to_owned()];
    assert_eq!(ask("Pass", "/x", other), (401, anybody.clone()));
    assert_eq!(ask("Pass", "/never/x", other), (403, anybody.clone()));
    assert_eq!(ask("Pass", "/x", ""), (401, nobody.clone()));
    assert_eq!(ask("AsRules", "/x", other), (401, nobody.clone()));
    assert_eq!(ask("AsRules", "/x", "Origin: https://shop.example.com.evil.example\r\n"), (401, nobody.clone()));
    assert_eq!(ask("AsRules", "/x", "Origin: null\r\n"), (401, nobody.clone()));
    for preflight in ["Pass", "AsRules"] {
        assert_eq!(ask(preflight, "/x", named), (401, shop.clone()));
        assert_eq!(ask(preflight, "/open/x", named), (502, shop.clone()), "admitted, and not answered by the app");
    }
    assert_eq!(ask("Pass", "/open/x", other), (502, anybody));
    assert_eq!(ask("AsRules", "/open/x", other), (502, nobody));
}
