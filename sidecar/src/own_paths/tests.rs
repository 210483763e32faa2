use cloakroom_protocol::internal_api;
use cloakroom_protocol::revocation::{RevokeRequest, RevokeScope};
use cloakroom_protocol::token::{OpaqueToken, TokenKind};
use http::header::{CACHE_CONTROL, LOCATION, RETRY_AFTER};
use serde_json::Value;

use super::*;
use crate::auth_client::fake::respond;
use crate::control::tests::{Fixture, cookies, head, text};

async fn ask(
    f: &Fixture,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    token: Option<&OpaqueToken>,
) -> LocalResponse {
    answer(&f.control, &head(method, path, headers), 8080, token.cloned().map(Presented::from)).await
}

fn value(response: &LocalResponse) -> Value {
    serde_json::from_slice(&response.body).unwrap()
}

fn revoked(f: &Fixture) -> Vec<RevokeRequest> {
    let bodies = f.fake.with(|told| told.bodies.clone());
    let revocations = bodies.iter().filter(|(path, _)| path == internal_api::REVOKE);
    revocations.map(|(_, body)| serde_json::from_str(body).unwrap()).collect()
}

#[tokio::test]
async fn unknown_paths_and_methods_are_refused() {
    let f = Fixture::new().await;
    for path in ["/.cloakroom", "/.cloakroom/", "/.cloakroom/admin", "/.cloakroom/Session", "/.cloakroom/session/"] {
        assert_eq!(ask(&f, "GET", path, &[], None).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    for (method, path, allow) in [
        ("POST", "/.cloakroom/callback", "GET"),
        ("DELETE", "/.cloakroom/logout", "GET, HEAD, POST"),
        ("POST", "/.cloakroom/session", "GET, HEAD"),
        ("POST", "/.cloakroom/proof", "GET, HEAD"),
    ] {
        let response = ask(&f, method, path, &[], None).await;
        assert_eq!(
            (response.status, response.headers[ALLOW].to_str().unwrap()),
            (StatusCode::METHOD_NOT_ALLOWED, allow)
        );
    }
}

#[tokio::test]
async fn a_page_learns_about_its_own_session_and_never_gets_a_token() {
    let f = Fixture::new().await;
    let token = f.session();
    let response = ask(&f, "GET", "/.cloakroom/session", &[("sec-fetch-site", "same-origin")], Some(&token)).await;
    let session = value(&response);
    assert_eq!(
        (session["active"].as_bool(), session["sub"].as_str(), session["username"].as_str()),
        (Some(true), Some("ann"), Some("ann"))
    );
    assert_eq!(session["session"]["cart"], 1);
    assert_eq!(response.headers[CACHE_CONTROL], "no-store");
    assert!(!text(&response).contains("eyJ") && !text(&response).contains(token.expose()));
    let none = ask(&f, "GET", "/.cloakroom/session", &[], None).await;
    assert_eq!(text(&none), r#"{"active":false}"#);
}

#[tokio::test]
async fn other_sites_learn_nothing() {
    let f = Fixture::new().await;
    let token = f.session();
    for headers in [
        &[("sec-fetch-site", "cross-site")][..],
        &[("sec-fetch-site", "same-site")],
        &[("origin", "https://evil.example")],
        &[("origin", "null")],
        &[("origin", "https://shop.example.com.evil.example")],
        &[("sec-fetch-site", "same-origin"), ("origin", "https://evil.example")],
    ] {
        for (method, path) in [("GET", "/.cloakroom/session"), ("POST", "/.cloakroom/logout")] {
            assert_eq!(
                ask(&f, method, path, headers, Some(&token)).await.status,
                StatusCode::FORBIDDEN,
                "{method} {headers:?}"
            );
        }
    }
    assert!(revoked(&f).is_empty());
}

#[tokio::test]
async fn a_link_signs_nobody_out() {
    let f = Fixture::new().await;
    let token = f.session();
    let response = ask(&f, "GET", "/.cloakroom/logout", &[], Some(&token)).await;
    assert_eq!(response.status, StatusCode::OK);
    assert!(text(&response).contains("<form method=\"post\""));
    assert!(revoked(&f).is_empty() && cookies(&response).is_empty());
}

#[tokio::test]
async fn a_button_does_here_or_everywhere() {
    let f = Fixture::new().await;
    let token = f.session();
    let browser =
        [("origin", "https://shop.example.com"), ("sec-fetch-site", "same-origin"), ("sec-fetch-mode", "navigate")];
    for (path, scope) in
        [("/.cloakroom/logout", RevokeScope::Session), ("/.cloakroom/logout?scope=everywhere", RevokeScope::Everywhere)]
    {
        let response = ask(&f, "POST", path, &browser, Some(&token)).await;
        assert_eq!((response.status, response.headers[LOCATION].to_str().unwrap()), (StatusCode::SEE_OTHER, "/"));
        assert_eq!(cookies(&response), ["__Host-cloakroom=; Max-Age=0; Path=/; HttpOnly; Secure; SameSite=Lax"]);
        let last = revoked(&f).pop().unwrap();
        assert_eq!((last.token.as_deref(), last.scope), (Some(token.expose()), scope));
    }
    let program = ask(&f, "POST", "/.cloakroom/logout", &[("accept", "application/json")], Some(&token)).await;
    assert_eq!((program.status, text(&program)), (StatusCode::OK, r#"{"active":false}"#));
    for wrong in ["/.cloakroom/logout?scope=all", "/.cloakroom/logout?scope=session&scope=everywhere"] {
        assert_eq!(ask(&f, "POST", wrong, &[], Some(&token)).await.status, StatusCode::BAD_REQUEST);
    }
    assert_eq!(revoked(&f).len(), 3);
    assert_eq!(
        ask(&f, "POST", "/.cloakroom/logout", &browser, None).await.status,
        StatusCode::SEE_OTHER,
        "signed out is signed out"
    );
}

#[tokio::test]
async fn an_api_key_or_an_applications_token_signs_nobody_out() {
    let f = Fixture::new().await;
    let [key, access] =
        [TokenKind::ApiKey, TokenKind::Access].map(|kind| f.control.with_rng(|rng| OpaqueToken::generate(kind, rng)));
    for (path, token) in [
        ("/.cloakroom/logout", &key),
        ("/.cloakroom/logout?scope=everywhere", &key),
        ("/.cloakroom/logout?scope=everywhere", &access),
    ] {
        let response = ask(&f, "POST", path, &[], Some(token)).await;
        assert_eq!((response.status, cookies(&response)), (StatusCode::CONFLICT, vec![]), "{path}");
    }
    assert!(revoked(&f).is_empty());
    assert_eq!(ask(&f, "POST", "/.cloakroom/logout", &[], Some(&access)).await.status, StatusCode::OK);
    assert_eq!(revoked(&f).len(), 1, "its own grant");
}

#[tokio::test]
async fn behind_a_proxy_that_ends_tls_the_policys_origin_counts() {
    let f = Fixture::new().await;
    let mut head = head("POST", "/.cloakroom/logout", &[("origin", "https://shop.example.com")]);
    head.origin = "http://shop.example.com".into();
    assert_eq!(answer(&f.control, &head, 8080, None).await.status, StatusCode::OK);
    head.origin = "http://other.example.com".into();
    assert_eq!(answer(&f.control, &head, 8080, None).await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn nobody_is_told_to_be_signed_out_who_is_not() {
    let f = Fixture::new().await;
    let token = f.session();
    f.fake.with(|told| told.script = Some(Box::new(|_, _| Some(respond(StatusCode::SERVICE_UNAVAILABLE, "")))));
    let response = ask(&f, "POST", "/.cloakroom/logout", &[], Some(&token)).await;
    assert_eq!(response.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(response.headers.contains_key(RETRY_AFTER) && cookies(&response).is_empty(), "the cookie stays");
    // A second token beside the cookie's: the data plane finds none, since it cannot tell which counts.
    let both = format!("a=b; __Host-cloakroom={}", token.expose());
    let response = ask(&f, "POST", "/.cloakroom/logout", &[("cookie", &both)], None).await;
    assert_eq!(response.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_proof_is_made_with_the_mounted_key_and_only_for_a_proper_nonce() {
    let f = Fixture::new().await;
    let nonce = "0123456789abcdefABCDEF";
    let path = format!("/.cloakroom/proof?nonce={nonce}");
    assert_eq!(ask(&f, "GET", &path, &[], None).await.status, StatusCode::SERVICE_UNAVAILABLE, "no key");
    std::fs::write(f.control.proof_key_file(), b"short").unwrap();
    assert_eq!(ask(&f, "GET", &path, &[], None).await.status, StatusCode::SERVICE_UNAVAILABLE, "no key to speak of");
    let key = b"0123456789abcdef0123456789abcdef";
    std::fs::write(f.control.proof_key_file(), key).unwrap();
    let proof: Proof = serde_json::from_value(value(&ask(&f, "GET", &path, &[], None).await)).unwrap();
    assert!(proof.verify(key, nonce, "pod-1", 8080));
    assert_eq!(proof.revision, "r1");
    for wrong in [
        "",
        "?nonce=",
        "?nonce=short",
        "?nonce=0123456789abcdefABCDE%00",
        "?nonce=0123456789abcdefABCDEF&nonce=0123456789abcdefABCDEF",
    ] {
        let response = ask(&f, "GET", &format!("/.cloakroom/proof{wrong}"), &[], None).await;
        assert_eq!(response.status, StatusCode::BAD_REQUEST, "{wrong}");
    }
    std::fs::remove_file(f.control.proof_key_file()).unwrap();
}

#[tokio::test]
async fn programs_learn_where_tokens_come_from() {
    let f = Fixture::new().await;
    let metadata = value(&ask(&f, "GET", RESOURCE_METADATA_PATH, &[], None).await);
    assert_eq!(metadata["resource"], "https://shop.example.com");
    assert_eq!(metadata["authorization_servers"][0], "https://auth.example.com");
    assert_eq!(metadata["bearer_methods_supported"], json!(["header"]));
    assert!(metadata.get("scopes_supported").is_none());
    let mut behind_a_proxy = head("GET", RESOURCE_METADATA_PATH, &[]);
    behind_a_proxy.origin = "http://shop.example.com".into();
    assert_eq!(value(&answer(&f.control, &behind_a_proxy, 8080, None).await), metadata, "the policy knows better");
    let f = Fixture::with_config(|config| {
        config["token_sources"] = json!([{"cookie": {"name": "a"}}, {"header": {"name": "X-Api-Key"}}]);
    })
    .await;
    let metadata = value(&ask(&f, "GET", RESOURCE_METADATA_PATH, &[], None).await);
    assert_eq!(metadata["bearer_methods_supported"], json!([]));
}

#[tokio::test]
async fn programs_learn_which_scopes_the_rules_ask_for() {
    let f = Fixture::with_config(|config| {
        let rule = |access: &str, scopes: &[&str]| {
            json!({"matches": [{"path": "/**"}], "access": access, "require": {"scopes": scopes}})
        };
        config["rules"] = json!([
            rule("Authenticated", &["write", "read"]),
            rule("Anonymous", &["open"]),
            rule("Deny", &["never"]),
            rule("Authenticated", &["read", "admin"]),
            rule("Authenticated", &[]),
        ]);
    })
    .await;
    let metadata = value(&ask(&f, "GET", RESOURCE_METADATA_PATH, &[], None).await);
    assert_eq!(metadata["scopes_supported"], json!(["admin", "read", "write"]));
}

#[tokio::test]
async fn another_issuers_token_is_not_said_to_have_ended() {
    let f = Fixture::new().await;
    let token = cloakroom_protocol::presented::ForeignToken::parse(b"opaque-token-of-another-issuer").unwrap();
    let post = head("POST", "/.cloakroom/logout", &[("sec-fetch-site", "same-origin")]);
    let response = answer(&f.control, &post, 8080, Some(token.clone().into())).await;
    assert_eq!((response.status, cookies(&response)), (StatusCode::CONFLICT, vec![]));
    assert!(revoked(&f).is_empty());
    let mut active = crate::identity::tests::active(&token.clone().into(), "sso:ann");
    active.believe_ms = Some(10_000);
    f.fake.with(|told| told.active.insert(token.expose().to_owned(), active));
    let get = head("GET", "/.cloakroom/session", &[]);
    let session = value(&answer(&f.control, &get, 8080, Some(token.into())).await);
    assert_eq!((&session["active"], &session["sub"]), (&json!(true), &json!("sso:ann")));
}

#[tokio::test]
async fn a_question_that_goes_no_further_is_answered_for_the_app() {
    let f = Fixture::new().await;
    for path in ["/x", "*"] {
        let response = ask(&f, "OPTIONS", path, &[("max-forwards", "0")], None).await;
        assert_eq!((response.status, response.body.len()), (StatusCode::NO_CONTENT, 0));
        assert!(response.headers[ALLOW].to_str().unwrap().contains("DELETE"), "{response:?}");
    }
    assert_eq!(ask(&f, "OPTIONS", "/.cloakroom/x", &[], None).await.status, StatusCode::NOT_FOUND);
}
