//! Every way to have a token taken that the issuer did not make, or did not make for this.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::foreign::{ask, policy, service};
use crate::foreign_issuer::{Issuer, Key};
use crate::harness::{Service, verify};

fn inactive() -> Value {
    json!({"active": false})
}

async fn bench() -> (Issuer, Service) {
    let issuer = Issuer::start().await;
    let service = service(&[issuer.config("sso")]).await;
    let good = issuer.key.sign(&issuer.claims(service.now()));
    assert_eq!(ask(&service, &good).await.expect(200).json()["active"], true, "or nothing below means anything");
    (issuer, service)
}

#[tokio::test]
async fn a_header_chooses_neither_key_nor_algorithm() {
    let (issuer, service) = bench().await;
    let claims = issuer.claims(service.now());
    let good = issuer.key.sign(&claims);
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let payload = signed.split_once('.').unwrap().1;
    let encode = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let header = |change: Value| {
        let mut header = issuer.key.header();
        header.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        header
    };
    let mine = Key::new("mine");
    let by_me = |change: Value| mine.sign_text(&header(change).to_string(), &claims.to_string());
    let by_them = |change: Value| issuer.key.sign_text(&header(change).to_string(), &claims.to_string());
    let hmac = |secret: &str| {
        let signed = format!("{}.{payload}", encode(&header(json!({"alg": "HS256"}))));
        let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
        let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &key, jsonwebtoken::Algorithm::HS256).unwrap();
        format!("{signed}.{signature}")
    };
    let jwk = issuer.key.jwk();
    for (why, token) in [
        ("no signature", format!("{signed}.")),
        ("alg none", format!("{}.{payload}.", encode(&header(json!({"alg": "none"}))))),
        ("alg None", format!("{}.{payload}.{signature}", encode(&header(json!({"alg": "None"}))))),
        ("alg missing", format!("{}.{payload}.{signature}", encode(&json!({"kid": "k1", "typ": "at+jwt"})))),
        ("alg of another kind", format!("{}.{payload}.{signature}", encode(&header(json!({"alg": "RS256"}))))),
        ("alg that is not allowed", format!("{}.{payload}.{signature}", encode(&header(json!({"alg": "ES384"}))))),
        ("HMAC with the public key", hmac(&jwk.to_string())),
        ("HMAC with a coordinate", hmac(jwk["x"].as_str().unwrap())),
        ("HMAC with nothing", hmac("")),
        ("a key of one's own under a known name", by_me(json!({}))),
        ("a key in the header", by_me(json!({"jwk": mine.jwk()}))),
        ("a key in the header, named", by_me(json!({"kid": "mine", "jwk": mine.jwk()}))),
        ("a key elsewhere", by_me(json!({"kid": "mine", "jku": format!("{}/stray", issuer.url)}))),
        ("a certificate elsewhere", by_me(json!({"kid": "mine", "x5u": format!("{}/stray", issuer.url)}))),
        ("a certificate in the header", by_me(json!({"kid": "mine", "x5c": ["AAAA"]}))),
        ("a path for a name", by_me(json!({"kid": "../../../../dev/null"}))),
        ("a query for a name", by_me(json!({"kid": "k1' OR '1'='1"}))),
        ("a URL for a name", by_me(json!({"kid": format!("{}/stray", issuer.url)}))),
        ("no name, of one key", by_me(json!({"kid": null}))),
        ("a name that is no text", by_them(json!({"kid": ["k1"]}))),
        ("critical extensions", by_them(json!({"crit": ["exp"]}))),
        ("an unencoded payload", by_them(json!({"b64": false, "crit": ["b64"]}))),
        ("compressed", by_them(json!({"zip": "DEF"}))),
        ("nested", by_them(json!({"cty": "JWT"}))),
        (
            "two algorithms",
            issuer.key.sign_text(r#"{"alg":"none","alg":"ES256","typ":"at+jwt","kid":"k1"}"#, &claims.to_string()),
        ),
        (
            "another payload",
            good.replace(
                payload,
                &encode(&json!({"iss": issuer.url, "sub": "admin", "aud": "orders-api",
            "exp": service.now() + 60})),
            ),
        ),
        ("padding", format!("{good}==")),
        ("a fourth part", format!("{good}.{signature}")),
        ("an empty header", format!(".{payload}.{signature}")),
    ] {
        let answer = ask(&service, &token).await;
        assert_eq!((answer.status.as_u16(), answer.json()), (200, inactive()), "{why}");
    }
    assert_eq!(issuer.with(|told| told.strays), 0, "nothing that a token names is fetched");
    assert_eq!(
        ask(&service, &by_them(json!({"jku": "https://evil.example"}))).await.json()["active"],
        true,
        "passed over"
    );
}

#[tokio::test]
async fn a_token_for_something_else_is_no_token_here() {
    let (issuer, service) = bench().await;
    let now = service.now();
    let typed = |typ: Value| {
        let mut header = issuer.key.header();
        header["typ"] = typ;
        issuer.key.sign_text(&header.to_string(), &issuer.claims(now).to_string())
    };
    for typ in
        [json!("JWT"), json!("logout+jwt"), json!("dpop+jwt"), json!("secevent+jwt"), json!(""), Value::Null, json!(1)]
    {
        assert_eq!(ask(&service, &typed(typ.clone())).await.json(), inactive(), "{typ}");
    }
    for typ in ["application/at+jwt", "AT+JWT"] {
        assert_eq!(ask(&service, &typed(json!(typ))).await.json()["active"], true, "{typ}");
    }
    let claims = |change: Value| {
        let mut claims = issuer.claims(now);
        claims.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        issuer.key.sign(&claims)
    };
    for change in [
        json!({"aud": "billing-api"}),
        json!({"aud": ["billing-api"]}),
        json!({"aud": null}),
        json!({"iss": "https://evil.example"}),
        json!({"iss": null}),
        json!({"exp": now}),
        json!({"exp": null}),
        json!({"nbf": now + 100}),
        json!({"cnf": {"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}}),
        json!({"at_hash": "x"}),
        json!({"sub": null, "client_id": null}),
    ] {
        assert_eq!(ask(&service, &claims(change.clone())).await.json(), inactive(), "{change}");
    }
    assert_eq!(ask(&service, &claims(json!({"aud": ["x", "orders-api"]}))).await.json()["active"], true);
    let twice = issuer.claims(now).to_string().replacen('{', r#"{"sub":"admin","#, 1);
    assert_eq!(ask(&service, &issuer.key.sign_text(&issuer.key.header().to_string(), &twice)).await.json(), inactive());
}

#[tokio::test]
async fn one_issuer_does_not_speak_for_another() {
    let (one, other) = (Issuer::start().await, Issuer::start().await);
    let service = service(&[one.config("one"), other.config("other")]).await;
    let now = service.now();
    assert_eq!(ask(&service, &one.key.sign(&one.claims(now))).await.json()["sub"], "one:ann");
    assert_eq!(ask(&service, &other.key.sign(&other.claims(now))).await.json()["sub"], "other:ann");
    assert_eq!(ask(&service, &one.key.sign(&other.claims(now))).await.json(), inactive());
    // Even if the policy takes only the one that signed.
    service.register(&policy("shop/web", &json!(["one"]))).await.expect(200);
    assert_eq!(ask(&service, &other.key.sign(&other.claims(now))).await.json(), inactive());
    assert_eq!(ask(&service, &other.key.sign(&one.claims(now))).await.json(), inactive());
}

#[tokio::test]
async fn an_answer_about_somebody_elses_token_is_not_taken() {
    let issuer = Issuer::start().await;
    let service = service(&[issuer.asked_config("sso")]).await;
    for (number, change) in [
        json!({"aud": "billing-api"}),
        json!({"aud": null}),
        json!({"iss": "https://evil.example"}),
        json!({"token_type": null}),
        json!({"token_type": "DPoP", "cnf": {"jkt": "x"}}),
        json!({"token_use": "refresh_token"}),
        json!({"exp": service.now() - 1}),
        json!({"nbf": service.now() + 100}),
        json!({"sub": null, "client_id": null}),
    ]
    .into_iter()
    .enumerate()
    {
        let token = format!("opaque-token-{number:010}");
        issuer.issue(&token, service.now());
        issuer.with(|told| {
            let answer = told.tokens.get_mut(&token).unwrap().as_object_mut().unwrap();
            answer.extend(change.as_object().unwrap().clone());
        });
        assert_eq!(ask(&service, &token).await.expect(200).json(), inactive(), "{change}");
    }
}

#[tokio::test]
async fn what_is_ours_is_never_shown_to_another_issuer() {
    let issuer = Issuer::start().await;
    let service = service(&[issuer.asked_config("sso")]).await;
    issuer.issue("opaque-token-0123456789", service.now());
    let active = ask(&service, "opaque-token-0123456789").await.json();
    let jwt = active["jwt"].as_str().unwrap().to_owned();
    let made = json!({"service": "backup", "audiences": ["shop/web"]});
    let key = service.admin(http::Method::POST, "/api-keys", &made).await.expect(201).json();
    let key = key["api_key"].as_str().unwrap();
    assert_eq!(ask(&service, key).await.json()["sub"], "service:backup");
    let huge = "a".repeat(9000);
    for token in [
        jwt.as_str(),
        &key[..60],
        &key.replace(|c: char| c.is_ascii_digit(), "x"),
        &huge,
        "short",
        "sp ace sp ace sp ace",
    ] {
        assert_eq!(ask(&service, token).await.expect(200).json(), inactive(), "{token}");
    }
    assert_eq!(issuer.introspected(), 1, "the one that is theirs");
}

#[tokio::test]
async fn nobody_of_theirs_can_be_somebody_of_ours() {
    let (issuer, service) = bench().await;
    let ann = service.create_user("ann").await;
    let mut claims = issuer.claims(service.now());
    (claims["sub"], claims["client_id"]) = (json!(ann), json!("shop/web"));
    let active = ask(&service, &issuer.key.sign(&claims)).await.json();
    let ours = verify(&service, active["jwt"].as_str().unwrap(), "shop/web").await;
    assert_eq!((&ours["sub"], &ours["client_id"]), (&json!(format!("sso:{ann}")), &json!("sso:shop/web")));
    // Ending everything of hers ends nothing of theirs, nor the other way round.
    let revoke = json!({"sub": ann});
    service.internal_json(http::Method::POST, "/internal/v1/revoke", &service.operator(), &revoke).await.expect(200);
    assert_eq!(ask(&service, &issuer.key.sign(&claims)).await.json()["active"], true);
}

#[tokio::test]
async fn another_issuers_token_writes_and_ends_nothing_here() {
    let (issuer, service) = bench().await;
    let token = issuer.key.sign(&issuer.claims(service.now()));
    let patch = json!({"token": token, "policy": "shop/web", "version": 0, "patch": {"cart": 1}});
    let answer =
        service.internal_json(http::Method::POST, "/internal/v1/session", &service.workload("shop"), &patch).await;
    assert!(answer.status.is_client_error() || answer.json() == inactive(), "{} {}", answer.status, answer.body);
    let end = json!({"token": token});
    service.internal_json(http::Method::POST, "/internal/v1/revoke", &service.workload("shop"), &end).await;
    assert_eq!(ask(&service, &token).await.json()["active"], true, "only its issuer can");
    for (path, body) in [("/oauth2/introspect", "token"), ("/oauth2/revoke", "token"), ("/oauth2/userinfo", "")] {
        let headers = [("authorization", format!("Bearer {token}"))];
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = service.send(http::Method::POST, &service.public(path), &headers, format!("{body}={token}")).await;
        assert!(answer.status.is_client_error(), "{path}: {} {}", answer.status, answer.body);
    }
}
