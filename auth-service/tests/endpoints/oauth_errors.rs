//! Every OAuth error by the name that its RFC gives it, as a table.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::json;

use crate::harness::{Answer, Browser, ISSUER, Service, VERIFIER, encode};
use crate::oauth::{Bench, CALLBACK, bench};

/// The bench with a client for each kind of trouble.
async fn troubled() -> Bench {
    let bench = bench().await;
    for client in [
        json!({"client_id": "page", "public": true, "redirect_uris": [CALLBACK], "grant_types": ["authorization_code"]}),
        json!({"client_id": "robot", "grant_types": ["client_credentials"], "scopes": ["orders"], "audiences": ["shop/web"]}),
    ] {
        bench.service.admin(Method::POST, "/clients", &client).await.expect(201);
    }
    bench
}

async fn post(service: &Service, path: &str, headers: &[(&str, &str)], form: &[(&str, &str)]) -> Answer {
    service.send(Method::POST, &service.public(path), headers, encode(form)).await
}

fn basic(pair: &str) -> String {
    format!("Basic {}", STANDARD.encode(pair))
}

#[track_caller]
fn is_error(answer: &Answer, status: u16, code: &str, why: &str) {
    assert_eq!(
        (answer.status.as_u16(), answer.json()["error"].as_str()),
        (status, Some(code)),
        "{why}: {}",
        answer.body
    );
    assert_eq!(answer.header("cache-control"), "no-store", "{why}");
    assert_eq!(answer.header("content-type"), "application/json", "{why}");
    assert_eq!(answer.header("www-authenticate").starts_with("Basic realm="), status == 401, "{why}");
    // RFC 6749 §5.2: the characters of a description.
    let description = answer.json()["error_description"].as_str().unwrap().to_owned();
    assert!(description.chars().all(|c| matches!(c, ' '..='~') && c != '"' && c != '\\'), "{why}: {description}");
}

#[tokio::test]
async fn a_client_that_cannot_prove_itself_is_told_so_alike_everywhere() {
    let bench = troubled().await;
    let right = basic(&format!("app:{}", bench.secret));
    let long = basic(&"x".repeat(5000));
    for path in ["/oauth2/token", "/oauth2/par", "/oauth2/revoke", "/oauth2/introspect"] {
        let ask =
            async |headers: &[(&str, &str)], form: &[(&str, &str)]| post(&bench.service, path, headers, form).await;
        let secret = bench.secret.as_str();
        for (why, headers, form, status, code) in [
            ("nothing at all", vec![], vec![], 401, "invalid_client"),
            ("an unknown client", vec![], vec![("client_id", "nobody")], 401, "invalid_client"),
            ("a secret left out", vec![], vec![("client_id", "app")], 401, "invalid_client"),
            ("a wrong secret", vec![], vec![("client_id", "app"), ("client_secret", "x")], 401, "invalid_client"),
            (
                "a secret for a public client",
                vec![],
                vec![("client_id", "page"), ("client_secret", "x")],
                401,
                "invalid_client",
            ),
            ("a wrong header", vec![("authorization", "Basic YXBwOng=")], vec![], 401, "invalid_client"),
            ("junk in the header", vec![("authorization", "Basic !")], vec![], 401, "invalid_client"),
            ("a header without colon", vec![("authorization", long.as_str())], vec![], 401, "invalid_client"),
            ("another scheme", vec![("authorization", "Bearer x")], vec![], 401, "invalid_client"),
            (
                "two headers",
                vec![("authorization", right.as_str()), ("authorization", right.as_str())],
                vec![],
                401,
                "invalid_client",
            ),
            (
                "header and form",
                vec![("authorization", right.as_str())],
                vec![("client_secret", secret)],
                400,
                "invalid_request",
            ),
            (
                "two identities",
                vec![("authorization", right.as_str())],
                vec![("client_id", "page")],
                400,
                "invalid_request",
            ),
            (
                "a parameter twice",
                vec![("authorization", right.as_str())],
                vec![("client_id", "app"), ("client_id", "app")],
                400,
                "invalid_request",
            ),
            (
                "a strange parameter twice",
                vec![("authorization", right.as_str())],
                vec![("\u{e9}\"\\", "1"), ("\u{e9}\"\\", "2")],
                400,
                "invalid_request",
            ),
            ("JSON", vec![("content-type", "application/json")], vec![("client_id", "app")], 400, "invalid_request"),
        ] {
            is_error(&ask(&headers, &form).await, status, code, &format!("{path}: {why}"));
        }
    }
    let scan = post(&bench.service, "/oauth2/introspect", &[], &[("client_id", "page"), ("token", "x")]).await;
    is_error(&scan, 401, "invalid_client", "a public client cannot introspect");
}

#[tokio::test]
async fn the_token_endpoint_names_what_is_wrong() {
    let bench = troubled().await;
    let code = bench.code(&mut Browser::default(), &[]).await;
    let by_code = |change: &[(&'static str, &'static str)]| {
        let mut form =
            vec![("grant_type", "authorization_code"), ("redirect_uri", CALLBACK), ("code_verifier", VERIFIER)];
        form.retain(|(name, _)| !change.iter().any(|(other, _)| other == name));
        form.extend(change.iter().filter(|(_, value)| !value.is_empty()));
        form
    };
    for (why, form, error) in [
        ("no grant type", vec![], "invalid_request"),
        ("an empty one", vec![("grant_type", "")], "invalid_request"),
        (
            "passwords",
            vec![("grant_type", "password"), ("username", "ann"), ("password", "x")],
            "unsupported_grant_type",
        ),
        ("an unknown one", vec![("grant_type", "urn:example:x")], "unsupported_grant_type"),
        ("one the client may not use", vec![("grant_type", "client_credentials")], "unauthorized_client"),
        ("no code", by_code(&[]), "invalid_request"),
        ("a junk code", by_code(&[("code", "junk")]), "invalid_grant"),
        ("no verifier", [by_code(&[("code_verifier", "")]), vec![("code", &code)]].concat(), "invalid_request"),
        ("no redirect URI", [by_code(&[("redirect_uri", "")]), vec![("code", &code)]].concat(), "invalid_request"),
        (
            "another redirect URI",
            [by_code(&[("redirect_uri", "https://x.example/")]), vec![("code", &code)]].concat(),
            "invalid_grant",
        ),
        ("a short verifier", [by_code(&[("code_verifier", "short")]), vec![("code", &code)]].concat(), "invalid_grant"),
        ("no refresh token", vec![("grant_type", "refresh_token")], "invalid_request"),
        ("a junk refresh token", vec![("grant_type", "refresh_token"), ("refresh_token", "x")], "invalid_grant"),
    ] {
        is_error(&bench.token(&form).await, 400, error, why);
    }
    let tokens = bench.redeem(&code).await.expect(200).json();
    let refresh = tokens["refresh_token"].as_str().unwrap();
    let access = tokens["access_token"].as_str().unwrap();
    for (why, form, error) in [
        ("an access token to refresh with", vec![("refresh_token", access)], "invalid_grant"),
        ("a scope that was not granted", vec![("refresh_token", refresh), ("scope", "profile")], "invalid_scope"),
    ] {
        let form = [vec![("grant_type", "refresh_token")], form].concat();
        is_error(&bench.token(&form).await, 400, error, why);
    }
    bench.refresh(refresh).await.expect(200);
    let get = bench.service.send(Method::GET, &bench.service.public("/oauth2/token?grant_type=x"), &[], "").await;
    assert_eq!((get.status.as_u16(), get.header("allow")), (405, "POST"));
}

#[tokio::test]
async fn the_authorization_endpoint_tells_a_registered_client_what_is_wrong() {
    let bench = troubled().await;
    let long = "x".repeat(3000);
    for (why, change, error) in [
        ("no response type", vec![("response_type", "")], "invalid_request"),
        ("implicit", vec![("response_type", "token")], "unsupported_response_type"),
        ("hybrid", vec![("response_type", "code id_token")], "unsupported_response_type"),
        ("fragment", vec![("response_mode", "fragment")], "invalid_request"),
        ("an unknown scope", vec![("scope", "openid admin")], "invalid_scope"),
        ("a scope that is none", vec![("scope", "openid \u{e9}")], "invalid_scope"),
        ("another's resource", vec![("resource", "https://bank.example")], "invalid_target"),
        ("a request object", vec![("request", "eyJ9.e30.")], "request_not_supported"),
        ("no PKCE", vec![("code_challenge", "")], "invalid_request"),
        ("plain PKCE", vec![("code_challenge_method", "plain")], "invalid_request"),
        ("prompt=none with login", vec![("prompt", "none login")], "invalid_request"),
        ("an unknown prompt", vec![("prompt", "dance")], "invalid_request"),
        ("a max_age that is none", vec![("max_age", "-1")], "invalid_request"),
        ("a nonce that is a novel", vec![("nonce", long.as_str())], "invalid_request"),
        ("nobody signed in", vec![("prompt", "none")], "login_required"),
    ] {
        let answer = Browser::default().get(&bench.service, &Bench::authorize(&change)).await.expect(303);
        assert!(answer.location().starts_with(&format!("{CALLBACK}?")), "{why}: {}", answer.location());
        let parameter = |name| answer.location_parameter(name);
        let (found, state, iss) = (parameter("error"), parameter("state"), parameter("iss"));
        assert_eq!(
            (found.as_deref(), state.as_deref(), iss.as_deref()),
            (Some(error), Some("s1"), Some(ISSUER)),
            "{why}"
        );
        assert_eq!(answer.header("cache-control"), "no-store", "{why}");

        // Pushed, the same error is the answer (RFC 9126 §2.3).
        if error != "login_required" {
            let query = Bench::authorize(&change);
            let (_, query) = query.split_once('?').unwrap();
            let headers = [("authorization", basic(&format!("app:{}", bench.secret)))];
            let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
            let pushed = bench
                .service
                .send(Method::POST, &bench.service.public("/oauth2/par"), &headers, query.to_owned())
                .await;
            is_error(&pushed, 400, error, why);
        }
    }
    let robot = [("client_id", "robot"), ("redirect_uri", "https://robot.example/")];
    let answer = Browser::default().get(&bench.service, &Bench::authorize(&robot)).await;
    assert_eq!((answer.status.as_u16(), answer.location()), (400, ""), "it has no address to be told at");
}

#[tokio::test]
async fn userinfo_challenges_as_rfc_6750_says() {
    let bench = troubled().await;
    let url = bench.service.public("/oauth2/userinfo");
    let robot = json!({"client_id": "robot2", "grant_types": ["client_credentials"], "scopes": ["openid"]});
    let robot = bench.service.admin(Method::POST, "/clients", &robot).await.expect(201).json();
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", "robot2"),
        ("client_secret", robot["client_secret"].as_str().unwrap()),
        ("scope", "openid"),
    ];
    let token = post(&bench.service, "/oauth2/token", &[], &form).await.expect(200).json();
    let no_person = format!("Bearer {}", token["access_token"].as_str().unwrap());
    for (why, headers, status, challenge) in [
        ("nothing", vec![], 401, "Bearer"),
        ("another scheme", vec![("authorization", "Basic YTpi")], 401, "Bearer"),
        ("junk", vec![("authorization", "Bearer x")], 401, "Bearer error=\"invalid_token\""),
        ("no token", vec![("authorization", "Bearer")], 400, "Bearer error=\"invalid_request\""),
        (
            "two",
            vec![("authorization", "Bearer x"), ("authorization", "Bearer y")],
            400,
            "Bearer error=\"invalid_request\"",
        ),
        (
            "no person",
            vec![("authorization", no_person.as_str())],
            403,
            "Bearer error=\"insufficient_scope\", scope=\"openid\"",
        ),
    ] {
        for method in [Method::GET, Method::POST] {
            let answer = bench.service.send(method, &url, &headers, "").await;
            assert_eq!((answer.status.as_u16(), answer.header("www-authenticate")), (status, challenge), "{why}");
        }
    }
    let in_query = format!("{url}?access_token={}", token["access_token"].as_str().unwrap());
    let answer = bench.service.send(Method::GET, &in_query, &[], "").await;
    assert_eq!(answer.status, 401, "a token in a URL is none (OAuth 2.1 §5.1)");
}

#[tokio::test]
async fn revoking_and_introspecting_tell_nothing_about_tokens_of_others() {
    let bench = troubled().await;
    let tokens = bench.redeem(&bench.code(&mut Browser::default(), &[]).await).await.expect(200).json();
    let authorization = basic(&format!("app:{}", bench.secret));
    let headers = [("authorization", authorization.as_str())];
    is_error(&post(&bench.service, "/oauth2/revoke", &headers, &[]).await, 400, "invalid_request", "no token");
    is_error(&post(&bench.service, "/oauth2/introspect", &headers, &[]).await, 400, "invalid_request", "no token");
    for token in ["junk", "ca_junk", tokens["id_token"].as_str().unwrap()] {
        let inactive = post(&bench.service, "/oauth2/introspect", &headers, &[("token", token)]).await.expect(200);
        assert_eq!(inactive.json(), json!({"active": false}));
        post(&bench.service, "/oauth2/revoke", &headers, &[("token", token), ("token_type_hint", "dunno")])
            .await
            .expect(200);
    }
    let access = tokens["access_token"].as_str().unwrap();
    post(&bench.service, "/oauth2/revoke", &[], &[("client_id", "page"), ("token", access)]).await.expect(200);
    assert_eq!(bench.service.introspect(access, "shop/web").await["active"], true, "another client's is not touched");
}

#[tokio::test]
async fn pages_of_public_clients_may_call_and_no_others() {
    let service = Service::start().await;
    let preflight = [
        ("origin", "https://spa.example"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization,dpop"),
    ];
    for path in [
        "/oauth2/token",
        "/oauth2/par",
        "/oauth2/revoke",
        "/oauth2/userinfo",
        "/oauth2/jwks.json",
        "/.well-known/openid-configuration",
        "/.well-known/oauth-authorization-server",
    ] {
        let answer = service.send(Method::OPTIONS, &service.public(path), &preflight, "").await.expect(204);
        assert_eq!(answer.header("access-control-allow-origin"), "*", "{path}");
        assert!(answer.header("access-control-allow-headers").contains("authorization"), "{path}");
        assert_eq!(answer.header("access-control-allow-credentials"), "", "cookies are never let in: {path}");
        let answer = service.send(Method::POST, &service.public(path), &[("origin", "https://spa.example")], "").await;
        assert_eq!(answer.header("access-control-allow-origin"), "*", "errors can be read, too: {path}");
    }
    for path in ["/sign-in", "/consent", "/account", "/oauth2/authorize", "/oauth2/logout", "/oauth2/introspect"] {
        for method in [Method::OPTIONS, Method::GET] {
            let answer = service.send(method, &service.public(path), &preflight, "").await;
            assert_eq!(answer.header("access-control-allow-origin"), "", "{path}");
        }
    }
}
