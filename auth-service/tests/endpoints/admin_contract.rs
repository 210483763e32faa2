//! What the admin API does with mistakes, and whether it is what its document says.

use http::Method;
use serde_json::{Value, json};

use crate::harness::{ADMIN, Answer, Service};

async fn ask(service: &Service, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let bearer = format!("Bearer {ADMIN}");
    let mut all = vec![("authorization", bearer.as_str())];
    all.extend(headers);
    service.send(method, &service.internal(&format!("/admin/v1{path}")), &all, body.to_owned()).await
}

/// RFC 9457, with the id that the header and the log have.
#[track_caller]
fn is_problem(answer: &Answer, status: u16, what: &str) {
    assert_eq!(answer.status.as_u16(), status, "{what}: {}", answer.body);
    assert_eq!(answer.header("content-type"), "application/problem+json", "{what}");
    let problem = answer.json();
    assert_eq!(
        (problem["status"].as_u64(), problem["type"].as_str()),
        (Some(status.into()), Some("about:blank")),
        "{what}"
    );
    assert_eq!(problem["decision_id"].as_str(), Some(answer.header("cloakroom-decision")), "{what}");
}

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];

/// What is wrong, method, path, headers, body, and the status that is due.
type Mistake = (&'static str, Method, String, &'static [(&'static str, &'static str)], String, u16);

#[tokio::test]
async fn every_mistake_is_a_problem_that_names_it() {
    let service = Service::start().await;
    let id = service.create_user("ann").await;
    let long = "x".repeat(2 << 20);
    let deep = "[".repeat(100_000);
    let cases: Vec<Mistake> = vec![
        ("no such path", Method::GET, "/nothing".into(), &[], String::new(), 404),
        ("no such user", Method::GET, "/users/nobody".into(), &[], String::new(), 404),
        ("no id", Method::GET, "/sessions/not-an-id".into(), &[], String::new(), 400),
        ("an id of NULs", Method::GET, "/sessions/%00%00".into(), &[], String::new(), 400),
        ("an id that is not UTF-8", Method::GET, "/users/%ff%fe".into(), &[], String::new(), 400),
        ("a long id", Method::GET, format!("/users/{}", "x".repeat(8000)), &[], String::new(), 404),
        ("a negative offset", Method::GET, "/users?offset=-1".into(), &[], String::new(), 400),
        ("an offset beyond any", Method::GET, "/users?offset=18446744073709551615".into(), &[], String::new(), 400),
        ("no limit", Method::GET, "/users?limit=0".into(), &[], String::new(), 400),
        ("a limit beyond any", Method::GET, "/clients?limit=501".into(), &[], String::new(), 400),
        ("a limit twice", Method::GET, "/clients?limit=1&limit=2".into(), &[], String::new(), 400),
        ("an unknown parameter", Method::GET, "/clients?limt=5".into(), &[], String::new(), 400),
        ("a place that is none", Method::GET, "/audit?before=yesterday".into(), &[], String::new(), 400),
        ("a wait without end", Method::DELETE, format!("/users/{id}?wait=30001"), &[], String::new(), 400),
        ("no content type", Method::POST, "/users".into(), &[], "{}".into(), 415),
        (
            "a form",
            Method::POST,
            "/users".into(),
            &[("content-type", "application/x-www-form-urlencoded")],
            "username=bob".into(),
            415,
        ),
        (
            "text",
            Method::POST,
            "/users".into(),
            &[("content-type", "text/plain")],
            "{\"username\":\"bob\"}".into(),
            415,
        ),
        ("no body", Method::POST, "/users".into(), JSON, String::new(), 400),
        ("half a body", Method::POST, "/users".into(), JSON, "{\"username\":".into(), 400),
        ("no object", Method::POST, "/users".into(), JSON, "[]".into(), 400),
        ("a field twice", Method::POST, "/users".into(), JSON, "{\"username\":\"a\",\"username\":\"b\"}".into(), 400),
        ("a number for text", Method::POST, "/users".into(), JSON, "{\"username\":7}".into(), 400),
        ("half a character", Method::POST, "/users".into(), JSON, "{\"username\":\"\\ud800\"}".into(), 400),
        ("endless depth", Method::POST, "/users".into(), JSON, deep, 400),
        ("endless length", Method::POST, "/users".into(), JSON, format!("{{\"username\":\"{long}\"}}"), 413),
        (
            "a name too long",
            Method::POST,
            "/users".into(),
            JSON,
            format!("{{\"username\":\"{}\"}}", "x".repeat(257)),
            422,
        ),
        (
            "a life without end",
            Method::POST,
            "/api-keys".into(),
            JSON,
            json!({"service": "x", "audiences": ["a/b"], "expires_in": u64::MAX}).to_string(),
            422,
        ),
        (
            "a life without beginning",
            Method::POST,
            "/api-keys".into(),
            JSON,
            json!({"service": "x", "audiences": ["a/b"], "expires_in": 0}).to_string(),
            422,
        ),
        (
            "a client's name too long",
            Method::POST,
            "/clients".into(),
            JSON,
            json!({"name": "x".repeat(257)}).to_string(),
            422,
        ),
        (
            "too many audiences",
            Method::POST,
            "/clients".into(),
            JSON,
            json!({"audiences": vec!["a/b"; 101]}).to_string(),
            422,
        ),
        ("a group without a name", Method::PUT, format!("/groups/%0a/members/{id}"), &[], String::new(), 422),
    ];
    for (what, method, path, headers, body, status) in cases {
        is_problem(&ask(&service, method, &path, headers, &body).await, status, what);
    }
    for token in ["", "Bearer ", "Bearer wrong", "Basic YTpi"] {
        let answer =
            service.send(Method::GET, &service.internal("/admin/v1/users"), &[("authorization", token)], "").await;
        is_problem(&answer, 401, token);
        assert_eq!(answer.header("www-authenticate"), "Bearer");
    }
}

#[tokio::test]
async fn a_wrong_method_is_told_the_right_ones() {
    let service = Service::start().await;
    for (method, path, right) in [
        (Method::PUT, "/users", vec!["GET", "HEAD", "POST"]),
        (Method::DELETE, "/users/x/password", vec!["PUT"]),
        (Method::PATCH, "/audit", vec!["GET", "HEAD"]),
        (Method::PATCH, "/keys/rotate", vec!["POST"]),
    ] {
        let answer = ask(&service, method.clone(), path, &[], "").await;
        is_problem(&answer, 405, path);
        let mut allowed: Vec<&str> = answer.header("allow").split(',').map(str::trim).collect();
        allowed.sort_unstable();
        assert_eq!(allowed, right, "{method} {path}");
    }
}

#[tokio::test]
async fn the_document_is_the_one_in_the_documentation() {
    let service = Service::start().await;
    let url = service.internal("/admin/v1/openapi.json");
    let served = service.send(Method::GET, &url, &[], "").await.expect(200);
    assert_eq!(served.header("content-type"), "application/json");
    assert_eq!(served.json()["openapi"], "3.1.0");
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/admin-api.json");
    let documented = std::fs::read_to_string(file).unwrap_or_default();
    if documented != served.body {
        std::fs::write(file, &served.body).unwrap();
        panic!("docs/admin-api.json was not what the handlers say; it is now: commit it");
    }
}

#[tokio::test]
async fn every_operation_of_the_document_wants_a_token() {
    let service = Service::start().await;
    let document: Value = service.send(Method::GET, &service.internal("/admin/v1/openapi.json"), &[], "").await.json();
    let mut asked = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            let path = path.replace("{id}", "0123456789ABCDEFGHIJKL").replace("{name}", "staff");
            let method: Method = method.to_uppercase().parse().unwrap();
            let answer = service.send(method.clone(), &service.internal(&format!("/admin/v1{path}")), JSON, "{}").await;
            is_problem(&answer, 401, &format!("{method} {path}"));
            asked += 1;
        }
    }
    assert!(asked > 25, "{asked}");
}
