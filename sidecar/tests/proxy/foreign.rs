//! Tokens of other issuers, where the policy takes them.

use serde_json::json;

use crate::harness::{App, FOREIGN, JWT, Sidecar, token};

fn takes_foreign(app: App) -> Sidecar {
    Sidecar::with(app, |config| config["token_issuers"] = json!(["sso"]))
}

fn request(headers: &str) -> String {
    format!("GET /x HTTP/1.1\r\nHost: shop.example.com\r\n{headers}\r\n")
}

fn asked(sidecar: &Sidecar) -> Vec<String> {
    sidecar.authority.asked.lock().unwrap().clone()
}

#[test]
fn the_app_gets_our_jwt_for_another_issuers_token_and_never_the_token() {
    let sidecar = takes_foreign(App::hello());
    let reply = sidecar.ask(&request(&format!("Authorization: Bearer {FOREIGN}\r\n")));
    assert_eq!(reply.status, 200);
    let received = sidecar.app.only();
    assert_eq!(received.all("authorization"), [format!("Bearer {JWT}")]);
    assert!(!received.head.contains(FOREIGN));
}

#[test]
fn elsewhere_it_is_junk_that_costs_no_question() {
    let sidecar = Sidecar::start(App::hello());
    assert_eq!(sidecar.ask(&request(&format!("Authorization: Bearer {FOREIGN}\r\n"))).status, 401);
    assert!(asked(&sidecar).is_empty());
}

#[test]
fn in_a_cookie_it_is_junk_everywhere() {
    let sidecar = takes_foreign(App::hello());
    for headers in [
        format!("Cookie: __Host-cloakroom={FOREIGN}\r\n"),
        format!("Cookie: __Host-cloakroom={FOREIGN}\r\nAuthorization: Bearer {FOREIGN}\r\n"),
    ] {
        assert_eq!(sidecar.ask(&request(&headers)).status, 401, "{headers}");
    }
    let two = format!("Cookie: __Host-cloakroom={}\r\nAuthorization: Bearer {FOREIGN}\r\n", token());
    assert!(sidecar.ask(&request(&two)).status >= 400, "two tokens are an error");
    assert!(asked(&sidecar).is_empty() && sidecar.app.received().is_empty());
}

#[test]
fn what_cannot_be_a_token_costs_no_question_either() {
    let sidecar = takes_foreign(App::hello());
    for junk in ["x".to_owned(), "y".repeat(8_193), token()[..70].to_owned(), "a,b,c,d,e,f,g,h,i,j,k".into()] {
        let reply = sidecar.ask(&request(&format!("Authorization: Bearer {junk}\r\n")));
        assert!([401, 431].contains(&reply.status), "{}", reply.status);
    }
    assert!(asked(&sidecar).is_empty());
    assert_eq!(sidecar.ask(&request("Authorization: Bearer well-formed-but-nobody-knows-it\r\n")).status, 401);
    assert_eq!(asked(&sidecar).len(), 1);
}

#[test]
fn an_app_can_neither_write_nor_end_what_is_another_issuers() {
    for wish in ["Cloakroom-Logout: session", "Cloakroom-Session: eyJjYXJ0IjoxfQ"] {
        let sidecar = takes_foreign(App::saying(&format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{wish}\r\n\r\n")));
        let reply = sidecar.ask(&request(&format!("Authorization: Bearer {FOREIGN}\r\n")));
        assert_eq!(reply.status, 409, "nobody is told to be signed out who is not: {wish}");
        assert!(sidecar.authority.signed_out.lock().unwrap().is_empty());
        assert!(sidecar.authority.committed.lock().unwrap().is_empty());
    }
}

#[test]
fn where_an_app_gives_our_jwt_away_nothing_stands_in_its_place() {
    let sidecar =
        takes_foreign(App::saying(&format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-T: a {JWT} b\r\n\r\n")));
    let reply = sidecar.ask(&request(&format!("Authorization: Bearer {FOREIGN}\r\n")));
    assert_eq!(reply.all("x-t"), ["a  b"]);
}
