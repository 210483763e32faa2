//! Clients that authenticate by a key of theirs: `private_key_jwt` (RFC 7523, OpenID Connect Core §9).

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use cloakroom_auth_service::keys::signer::JwtType;
use http::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Cluster, ISSUER, Service, encode};

const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// A client of that name, with the keys of whoever signs for it.
async fn start(id: &str) -> (Service, Cluster) {
    let (service, keys) = (Service::start().await, Cluster::new(3).await);
    register(&service, id, &keys).await.expect(201);
    (service, keys)
}

async fn register(service: &Service, id: &str, keys: &Cluster) -> Answer {
    let client = json!({
        "client_id": id, "grant_types": ["client_credentials"], "audiences": ["shop/web"], "introspects": ["shop/web"],
        "jwks": keys.jwks(),
    });
    service.admin(Method::POST, "/clients", &client).await
}

/// As it should be, but for what is given; `null` takes a claim away.
fn claims(service: &Service, jti: &str, changes: Value) -> Value {
    let now = service.now();
    let mut claims = json!({"iss": "robot", "sub": "robot", "aud": ISSUER, "exp": now + 60, "iat": now, "jti": jti});
    let Value::Object(changes) = changes else { panic!("no object") };
    let claims_of = claims.as_object_mut().unwrap();
    claims_of.extend(changes);
    claims_of.retain(|_, value| !value.is_null());
    claims
}

async fn ask(service: &Service, assertion: &str, change: &[(&str, &str)]) -> Answer {
    let mut form =
        vec![("grant_type", "client_credentials"), ("client_assertion_type", TYPE), ("client_assertion", assertion)];
    for (name, value) in change {
        form.retain(|(given, _)| given != name);
        if !value.is_empty() {
            form.push((name, value));
        }
    }
    service.send(Method::POST, &service.public("/oauth2/token"), &[], encode(&form)).await
}

#[tokio::test]
async fn a_signature_is_as_good_as_a_secret_wherever_clients_authenticate() {
    let (service, keys) = start("robot").await;
    let good = |jti: &str| keys.sign(&claims(&service, jti, json!({})));
    let token = ask(&service, &good("1"), &[]).await.expect(200).json()["access_token"].as_str().unwrap().to_owned();
    ask(&service, &good("2"), &[("client_id", "robot")]).await.expect(200);
    for (path, jti) in [("/oauth2/introspect", "3"), ("/oauth2/revoke", "4"), ("/oauth2/introspect", "5")] {
        let assertion = good(jti);
        let form = [("token", token.as_str()), ("client_assertion_type", TYPE), ("client_assertion", &assertion)];
        let answer = service.send(Method::POST, &service.public(path), &[], encode(&form)).await.expect(200);
        if path.ends_with("introspect") {
            assert_eq!(answer.json()["active"], jti == "3");
        }
    }
    let url = service.public("/.well-known/oauth-authorization-server");
    let document = service.send(Method::GET, &url, &[], "").await.expect(200).json();
    for endpoint in ["token", "introspection", "revocation"] {
        let methods = document[format!("{endpoint}_endpoint_auth_methods_supported")].as_array().unwrap();
        assert!(methods.contains(&json!("private_key_jwt")), "{endpoint}");
        let algorithms = document[format!("{endpoint}_endpoint_auth_signing_alg_values_supported")].as_array().unwrap();
        assert!(algorithms.contains(&json!("ES256")) && !algorithms.contains(&json!("HS256")), "{endpoint}");
    }
}

#[tokio::test]
async fn an_assertion_is_for_us_now_and_once() {
    let (service, keys) = start("robot").await;
    let now = service.now();
    for (at, changes) in [
        json!({"aud": format!("{ISSUER}/oauth2/token")}),
        json!({"aud": [ISSUER]}),
        json!({"aud": [ISSUER, "https://evil.example"]}),
        json!({"aud": "https://evil.example"}),
        json!({"aud": null}),
        json!({"iss": "other"}),
        json!({"iss": null}),
        json!({"sub": "other"}),
        json!({"sub": null}),
        json!({"exp": now - 31}),
        json!({"exp": now + 3600}),
        json!({"exp": u64::MAX}),
        json!({"exp": null}),
        json!({"exp": "soon"}),
        json!({"nbf": now + 120}),
        json!({"iat": now + 120}),
        json!({"jti": null}),
        json!({"jti": ""}),
        json!({"jti": "x".repeat(257)}),
    ]
    .into_iter()
    .enumerate()
    {
        let assertion = keys.sign(&claims(&service, &format!("bad-{at}"), changes.clone()));
        let answer = ask(&service, &assertion, &[]).await.expect(401);
        assert_eq!(answer.json()["error"], "invalid_client", "{changes}");
    }
    let once = keys.sign(&claims(&service, "once", json!({})));
    let answers = futures::future::join_all((0..5).map(|_| ask(&service, &once, &[]))).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
    service.clock.pass(60);
    ask(&service, &once, &[]).await.expect(401);
    let again = keys.sign(&claims(&service, "once", json!({})));
    ask(&service, &again, &[]).await.expect(401);
}

#[tokio::test]
async fn nobody_passes_for_a_client_that_has_keys() {
    let (service, keys) = start("robot").await;
    let (stranger, other) = (Cluster::new(4).await, Cluster::new(5).await);
    register(&service, "other", &other).await.expect(201);
    let good = claims(&service, "a", json!({}));
    for forged in [stranger.sign(&good), other.sign(&good), keys.sign(&claims(&service, "b", json!({"sub": "nobody"})))]
    {
        ask(&service, &forged, &[]).await.expect(401);
    }
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = keys.sign(&claims(&service, "c", json!({})));
    let kid = keys.jwks()["keys"][0]["kid"].clone();
    for forged in [
        format!("{}.{}.", part(&json!({"alg": "none"})), part(&good)),
        format!("{}.{}.c2ln", part(&json!({"alg": "HS256", "kid": kid})), part(&good)),
        format!("{}.{}.c2ln", part(&json!({"alg": "ES256", "kid": "unknown"})), part(&good)),
        format!("{signed}x"),
        signed[..signed.len() - 2].to_owned(),
        "x".repeat(9000),
        String::from("..."),
        keys.sign_as(JwtType::Logout, &claims(&service, "d", json!({}))),
    ] {
        ask(&service, &forged, &[]).await.expect(401);
    }
    // Its name alone, or a secret, is nothing; nor is another way beside a good one.
    let without = [("client_assertion", ""), ("client_assertion_type", ""), ("client_id", "robot")];
    ask(&service, "", &without).await.expect(401);
    ask(&service, "", &[&without[..], &[("client_secret", "")]].concat()).await.expect(401);
    ask(&service, "", &[&without[..], &[("client_secret", "guess")]].concat()).await.expect(401);
    ask(&service, &signed, &[("client_secret", "guess")]).await.expect(400);
    ask(&service, &signed, &[("client_id", "other")]).await.expect(401);
    ask(&service, &signed, &[("client_assertion_type", "")]).await.expect(401);
    ask(&service, &signed, &[("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:saml2-bearer")])
        .await
        .expect(401);
    let basic = format!("Basic {}", STANDARD.encode("robot:x"));
    let form =
        encode(&[("grant_type", "client_credentials"), ("client_assertion_type", TYPE), ("client_assertion", &signed)]);
    service.send(Method::POST, &service.public("/oauth2/token"), &[("authorization", &basic)], form).await.expect(400);
    ask(&service, &signed, &[]).await.expect(200);
}

#[tokio::test]
async fn an_administrator_sets_keys_and_never_sees_a_private_one() {
    let (service, keys) = start("robot").await;
    let shown = service.admin(Method::GET, "/clients/robot", &json!({})).await.expect(200).json();
    assert_eq!((&shown["public"], &shown["jwks"], shown.get("client_secret")), (&json!(false), &keys.jwks(), None));
    let next = Cluster::new(6).await;
    let mut rotated = shown.clone();
    rotated["jwks"] = next.jwks();
    service.admin(Method::PUT, "/clients/robot", &rotated).await.expect(200);
    ask(&service, &keys.sign(&claims(&service, "1", json!({}))), &[]).await.expect(401);
    ask(&service, &next.sign(&claims(&service, "2", json!({}))), &[]).await.expect(200);
    let mut without = shown.clone();
    without.as_object_mut().unwrap().remove("jwks");
    service.admin(Method::PUT, "/clients/robot", &without).await.expect(409);
    service.admin(Method::POST, "/clients/robot/secret", &json!({})).await.expect(409);

    let good = keys.jwks()["keys"][0].clone();
    let with = |name: &str, value: Value| {
        let mut key = good.clone();
        key[name] = value;
        json!({"keys": [key]})
    };
    let mut nameless = good.clone();
    nameless.as_object_mut().unwrap().remove("kid");
    for bad in [
        json!({}),
        json!({"keys": []}),
        json!({"keys": [good.clone(), {"kty": "oct", "k": "c2VjcmV0"}]}),
        with("d", json!("c2VjcmV0")),
        with("kty", json!("other")),
        with("use", json!("enc")),
        json!({"keys": vec![good.clone(); 11]}),
        json!({"keys": [good.clone(), nameless.clone()]}),
    ] {
        let client = json!({"client_id": "x", "grant_types": ["client_credentials"], "jwks": bad});
        service.admin(Method::POST, "/clients", &client).await.expect(422);
    }
    let both = json!({"client_id": "x", "public": true, "jwks": {"keys": [good]}});
    service.admin(Method::POST, "/clients", &both).await.expect(422);
    service.admin(Method::POST, "/clients", &json!({"client_id": "x", "jwks": {"keys": [nameless]}})).await.expect(201);
}
