//! What strangers try where clients may register themselves.

use http::Method;
use serde_json::{Value, json};

use crate::harness::{Browser, Service};
use crate::registration::{
    APP, authorize, consent_page, decide, initial_token, manage, metadata, register, sign_in, start, start_with, text,
};

#[tokio::test]
async fn where_it_is_off_there_is_nothing() {
    let service = Service::start().await;
    register(&service, &[], &metadata(json!({}))).await.expect(404);
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        let url = service.public("/oauth2/register/client-1");
        service.send(method, &url, &[("authorization", "Bearer x")], "{}").await.expect(404);
    }
    for path in ["/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"] {
        let document = service.send(Method::GET, &service.public(path), &[], "").await.expect(200);
        assert!(!document.body.contains("registration_endpoint"), "{path}");
    }
}

#[tokio::test]
async fn what_cannot_be_registered_is_refused_in_the_rfcs_words_and_leaves_nothing() {
    let service = start("open").await;
    let uris = |uris: &[&str]| json!({"redirect_uris": uris});
    let many: Vec<String> = (0..101).map(|at| format!("https://app.example.com/{at}")).collect();
    let (uri, data) = ("invalid_redirect_uri", "invalid_client_metadata");
    let cases: Vec<(Value, &str)> = vec![
        (uris(&[]), uri),
        (json!({"redirect_uris": null}), uri),
        (uris(&["javascript:alert(1)"]), uri),
        (uris(&["javascript://app.example.com/%0aalert(1)"]), uri),
        (uris(&["data:text/html,x"]), uri),
        (uris(&["http://app.example.com/cb"]), uri),
        (uris(&["https://u:p@app.example.com/cb"]), uri),
        (uris(&["https://app.example.com/cb#x"]), uri),
        (uris(&["https://*.example.com/cb"]), uri),
        (uris(&["myapp:/cb"]), uri),
        (uris(&[APP, "file:///etc/passwd"]), uri),
        (uris(&["http://localhost:8001/oauth2/logout"]), uri),
        (json!({"redirect_uris": many}), data),
        (json!({"redirect_uris": "https://app.example.com/cb"}), data),
        (json!({"redirect_uris": [1]}), data),
        (json!({"client_name": "x".repeat(10_000)}), data),
        (json!({"client_name": "Your Bank\u{202e}"}), data),
        (json!({"client_name": ["x"]}), data),
        (json!({"token_endpoint_auth_method": "private_key_jwt"}), data),
        (json!({"token_endpoint_auth_method": "NONE"}), data),
        (json!({"grant_types": ["client_credentials"]}), data),
        (json!({"grant_types": ["urn:ietf:params:oauth:grant-type:token-exchange"]}), data),
        (json!({"response_types": ["token"]}), data),
        (json!({"scope": "admin"}), data),
        (json!({"backchannel_logout_uri": "https://app.example.com/"}), data),
        (json!({"backchannel_logout_uri": "http://127.0.0.1:9090/"}), data),
        (json!({"post_logout_redirect_uris": ["https://app.example.com/"]}), data),
        (json!({"software_statement": "e30.e30."}), "unapproved_software_statement"),
    ];
    for (changes, error) in cases {
        let answer = register(&service, &[], &metadata(changes.clone())).await.expect(400);
        assert_eq!(text(&answer.json(), "error"), error, "{changes}: {}", answer.body);
        assert!(!text(&answer.json(), "error_description").is_empty());
        assert_eq!((answer.header("content-type"), answer.header("cache-control")), ("application/json", "no-store"));
    }
    let good = metadata(json!({})).to_string();
    let deep = format!("{{\"jwks\":{}", "[".repeat(50_000));
    let large = metadata(json!({"unknown": "x".repeat(64 << 10)})).to_string();
    for (kind, body, status) in [
        ("application/json", String::new(), 400),
        ("application/json", "[]".into(), 400),
        ("application/json", good[..good.len() - 1].into(), 400),
        ("application/json", "{\"client_name\":\"a\",\"client_name\":\"b\"}".into(), 400),
        ("application/json", "{\"client_name\":\"\\ud800\"}".into(), 400),
        ("application/json", deep, 400),
        ("application/json", large, 413),
        ("text/plain", good.clone(), 400),
        ("application/x-www-form-urlencoded", good.clone(), 400),
    ] {
        let answer =
            service.send(Method::POST, &service.public("/oauth2/register"), &[("content-type", kind)], body).await;
        assert_eq!(text(&answer.expect(status).json(), "error"), data, "{kind}");
    }
    let list = service.admin(Method::GET, "/clients", &json!({})).await.expect(200).json();
    assert_eq!(list["items"], json!([]));
}

#[tokio::test]
async fn nobody_gets_more_by_registering_than_is_listed() {
    let service = start("open").await;
    let taken = json!({"client_id": "app", "first_party": true});
    service.admin(Method::POST, "/clients", &taken).await.expect(201);
    let greedy = json!({
        "client_id": "app", "client_secret": "chosen", "first_party": true, "introspects": ["shop/web"], "require_mfa": false,
        "audiences": ["bank/web"], "scopes": ["admin"], "public": true, "registered": null, "secret": "x",
        "grant_types": ["authorization_code", "client_credentials", "urn:ietf:params:oauth:grant-type:device_code"],
        "scope": "orders admin", "token_endpoint_auth_method": "client_secret_post",
    });
    let client = register(&service, &[], &metadata(greedy)).await.expect(201).json();
    let id = text(&client, "client_id");
    assert!(id.starts_with("client-") && text(&client, "client_secret") != "chosen");
    let known = service.admin(Method::GET, &format!("/clients/{id}"), &json!({})).await.expect(200).json();
    assert_eq!(
        (&known["first_party"], &known["introspects"], &known["public"]),
        (&json!(false), &json!([]), &json!(false))
    );
    assert_eq!((&known["audiences"], &known["scopes"]), (&json!(["shop/web"]), &json!(["orders"])));
    assert_eq!(known["grant_types"], json!(["authorization_code"]));
    let url = authorize(id, &[("scope", "admin")]);
    Browser::default().get(&service, &url).await.expect(400);
    let url = authorize(id, &[("scope", "orders"), ("resource", "https://bank.example.com")]);
    Browser::default().get(&service, &url).await.expect(400);
    // Not even by an administrator's mistake.
    for raise in [
        json!({"first_party": true}),
        json!({"introspects": ["shop/web"]}),
        json!({"grant_types": ["client_credentials"]}),
    ] {
        let mut wanted = known.clone();
        wanted.as_object_mut().unwrap().extend(raise.as_object().unwrap().clone());
        service.admin(Method::PUT, &format!("/clients/{id}"), &wanted).await.expect(422);
    }
}

#[tokio::test]
async fn a_client_cannot_raise_itself_by_changing_its_registration() {
    let service = start("open").await;
    let client = register(&service, &[], &metadata(json!({"scope": "openid"}))).await.expect(201).json();
    let (id, access) = (text(&client, "client_id"), text(&client, "registration_access_token"));
    let path = format!("/clients/{id}");
    let mut strict = service.admin(Method::GET, &path, &json!({})).await.expect(200).json();
    strict["require_mfa"] = true.into();
    strict["dpop_bound_access_tokens"] = true.into();
    strict["audiences"] = json!([]);
    service.admin(Method::PUT, &path, &strict).await.expect(200);
    let raise = metadata(json!({
        "client_id": id, "scope": "openid orders offline_access", "audiences": ["shop/web"], "first_party": true,
        "require_mfa": false, "dpop_bound_access_tokens": false, "introspects": ["shop/web"],
    }));
    let changed = manage(&service, Method::PUT, &client, access, &raise).await.expect(200).json();
    assert_eq!(text(&changed, "scope"), "openid");
    let after = service.admin(Method::GET, &path, &json!({})).await.expect(200).json();
    assert_eq!(after, strict);
    for bad in [
        json!({"client_id": "other"}),
        json!({"client_id": null}),
        json!({"client_id": id, "client_secret": "chosen"}),
        json!({"client_id": id, "registration_access_token": access}),
        json!({"client_id": id, "client_id_issued_at": 0}),
        json!({"client_id": id, "token_endpoint_auth_method": "client_secret_basic"}),
        json!({"client_id": id, "backchannel_logout_uri": "https://app.example.com/"}),
    ] {
        let answer = manage(&service, Method::PUT, &client, access, &metadata(bad.clone())).await.expect(400);
        assert_eq!(text(&answer.json(), "error"), "invalid_client_metadata", "{bad}");
    }
    let bad = metadata(json!({"client_id": id, "redirect_uris": ["javascript:alert(1)"]}));
    manage(&service, Method::PUT, &client, access, &bad).await.expect(400);
    assert_eq!(service.admin(Method::GET, &path, &json!({})).await.expect(200).json(), strict);
}

#[tokio::test]
async fn the_token_of_one_registration_opens_no_other_and_all_refusals_are_alike() {
    let service = start("open").await;
    let one = register(&service, &[], &metadata(json!({}))).await.expect(201).json();
    let other = register(&service, &[], &metadata(json!({}))).await.expect(201).json();
    service.admin(Method::POST, "/clients", &json!({"client_id": "made"})).await.expect(201);
    let token = initial_token(&service, &json!({"label": "x"})).await;
    let (own, stranger) = (text(&one, "registration_access_token"), text(&other, "registration_access_token"));
    let with_uri =
        |id: &str| json!({"registration_client_uri": format!("{}/oauth2/register/{id}", crate::harness::ISSUER)});
    let mut refusals = Vec::new();
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        let body = metadata(json!({"client_id": one["client_id"]}));
        for bad in [stranger, text(&token, "token"), "", &own[1..], &format!("{own}x"), &own.to_lowercase()] {
            refusals.push(manage(&service, method.clone(), &one, bad, &body).await);
        }
        for id in ["made", "client-0123456789ABCDEFGHIJKL", "%00", "%7B%7D"] {
            refusals.push(manage(&service, method.clone(), &with_uri(id), own, &body).await);
        }
        let uri = service.public(&format!("/oauth2/register/{}", text(&one, "client_id")));
        let twice = format!("Bearer {own}");
        let headers = [("authorization", twice.as_str()), ("authorization", twice.as_str())];
        refusals.push(service.send(method, &uri, &headers, "").await);
    }
    let said = refusals[0].json();
    for refusal in refusals {
        assert_eq!((refusal.status.as_u16(), refusal.json()), (401, said.clone()));
        assert_eq!(refusal.header("www-authenticate"), "Bearer error=\"invalid_token\"");
    }
    manage(&service, Method::GET, &one, own, &json!({})).await.expect(200);
    // Nor does it register anything, or say who somebody is.
    let bearer = format!("Bearer {own}");
    register(&service, &[("authorization", &bearer)], &metadata(json!({}))).await.expect(401);
    service.send(Method::GET, &service.public("/oauth2/userinfo"), &[("authorization", &bearer)], "").await.expect(401);
}

#[tokio::test]
async fn mass_registration_ends_at_its_limits_and_keeps_nobody_out() {
    let service = start_with("open", json!({"per_address": 3, "max_open": 4})).await;
    let from = async |address: &str| {
        let headers = [("x-forwarded-for", address)];
        register(&service, &headers, &metadata(json!({}))).await
    };
    let first = from("203.0.113.1").await.expect(201).json();
    for _ in 0..2 {
        from("203.0.113.1").await.expect(201);
    }
    let slowed = from("203.0.113.1").await.expect(429);
    assert_eq!((slowed.header("retry-after"), text(&slowed.json(), "error")), ("86400", "temporarily_unavailable"));
    let used = from("198.51.100.1").await.expect(201).json();
    sign_in(&service, &mut Browser::default(), &used).await;
    // All places are taken by clients that somebody may be signing in to just now.
    assert!(from("203.0.113.2").await.expect(503).header("retry-after").parse::<u64>().unwrap() > 0);
    service.clock.pass(601);
    from("203.0.113.3").await.expect(201);
    let ids = async || {
        let list = service.admin(Method::GET, "/clients?registered=open", &json!({})).await.expect(200).json();
        let items = list["items"].as_array().unwrap().iter();
        items.map(|client| text(client, "client_id").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ids().await.len(), 4);
    for host in 4..20 {
        from(&format!("203.0.113.{host}")).await;
    }
    let left = ids().await;
    assert!(left.len() == 4 && left.contains(&text(&used, "client_id").to_owned()), "{left:?}");
    assert!(!left.contains(&text(&first, "client_id").to_owned()));
    // Who has a token is not held up by those who have none.
    let token = initial_token(&service, &json!({"label": "partner", "uses": 2})).await;
    let bearer = format!("Bearer {}", text(&token, "token"));
    let headers = [("authorization", bearer.as_str()), ("x-forwarded-for", "203.0.113.1")];
    for _ in 0..2 {
        register(&service, &headers, &metadata(json!({}))).await.expect(201);
    }
}

#[tokio::test]
async fn no_browser_is_sent_to_a_strangers_address_before_its_person_has_agreed() {
    let service = start("open").await;
    let client = register(&service, &[], &metadata(json!({}))).await.expect(201).json();
    let id = text(&client, "client_id");
    for change in [
        ("scope", "admin"),
        ("response_type", "token"),
        ("response_mode", "fragment"),
        ("resource", "https://evil.example"),
        ("code_challenge_method", "plain"),
        ("prompt", "none"),
        ("prompt", "teleport"),
        ("max_age", "x"),
        ("request", "e30.e30."),
        ("id_token_hint", "x"),
    ] {
        let answer = Browser::default().get(&service, &authorize(id, &[change])).await.expect(400);
        assert_eq!(answer.location(), "", "{change:?}");
        assert!(!answer.body.contains("app.example.com"), "{change:?}: {}", answer.body);
    }
    let leave = format!("/oauth2/logout?client_id={id}&post_logout_redirect_uri=https%3A%2F%2Fapp.example.com%2Fcb");
    assert_eq!(Browser::default().get(&service, &leave).await.expect(400).location(), "");
    // Who says no, says so to the application.
    let mut browser = Browser::default();
    let page = consent_page(&service, &mut browser, &authorize(id, &[])).await;
    let back = decide(&service, &mut browser, &page, "deny").await;
    assert_eq!(back.location_parameter("error").as_deref(), Some("access_denied"));
}

#[tokio::test]
async fn the_consent_page_shows_no_host_that_the_browser_does_not_go_to() {
    let service = start("open").await;
    let mut browser = Browser::default();
    for uri in ["com.evil.app://www.bank.example/cb", "http://127.0.0.1:7777/www.bank.example"] {
        let body = metadata(json!({"redirect_uris": [uri], "client_name": "<b>Bank</b> (www.bank.com)"}));
        let client = register(&service, &[], &body).await.expect(201).json();
        let url = authorize(text(&client, "client_id"), &[("redirect_uri", uri)]);
        let page = consent_page(&service, &mut browser, &url).await;
        let said = page.body.replace(uri, "");
        assert!(!said.contains("bank.example") && said.contains("an application on this device"), "{said}");
        assert!(!said.contains("<b>Bank"), "{said}");
    }
}
