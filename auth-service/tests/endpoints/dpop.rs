//! Tokens bound to a key (RFC 9449).

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::harness::{Answer, Browser, ISSUER, Service, VERIFIER, encode};
use crate::oauth::{Bench, CALLBACK, bench};

struct Key(EcdsaKeyPair);

impl Key {
    fn new() -> Self {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        Self(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref()).unwrap())
    }

    fn jwk(&self) -> Value {
        let point = self.0.public_key().as_ref();
        let part = |from: usize| URL_SAFE_NO_PAD.encode(&point[from..from + 32]);
        json!({"kty": "EC", "crv": "P-256", "x": part(1), "y": part(33)})
    }

    /// RFC 7638.
    fn thumbprint(&self) -> String {
        let jwk = self.jwk();
        let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":{},"y":{}}}"#, jwk["x"], jwk["y"]);
        URL_SAFE_NO_PAD.encode(Sha256::digest(canonical))
    }

    fn proof(&self, claims: &Value) -> String {
        self.sign(&json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": self.jwk()}), claims)
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let body =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()));
        let signature = self.0.sign(&SystemRandom::new(), body.as_bytes()).unwrap();
        format!("{body}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }
}

fn claims(service: &Service, jti: &str) -> Value {
    json!({"jti": jti, "htm": "POST", "htu": format!("{ISSUER}/oauth2/token"), "iat": service.now()})
}

async fn public() -> Bench {
    let bench = bench().await;
    let client = json!({"client_id": "spa", "public": true, "redirect_uris": [CALLBACK], "first_party": true,
        "grant_types": ["authorization_code", "refresh_token"], "scopes": ["openid", "orders"], "audiences": ["shop/web"]});
    bench.service.admin(Method::POST, "/clients", &client).await.expect(201);
    bench
}

impl Bench {
    async fn spa_code(&self, extra: &[(&str, &str)]) -> String {
        let change = [&[("client_id", "spa"), ("scope", "openid orders")], extra].concat();
        self.code(&mut Browser::default(), &change).await
    }

    async fn spa(&self, proof: &str, form: &[(&str, &str)]) -> Answer {
        let form = [&[("client_id", "spa"), ("redirect_uri", CALLBACK), ("code_verifier", VERIFIER)], form].concat();
        let headers = [("dpop", proof)];
        let headers = if proof.is_empty() { &[][..] } else { &headers[..] };
        self.service.send(Method::POST, &self.service.public("/oauth2/token"), headers, encode(&form)).await
    }
}

#[track_caller]
fn is_error(answer: &Answer, code: &str, why: &str) {
    assert_eq!((answer.status.as_u16(), answer.json()["error"].as_str()), (400, Some(code)), "{why}: {}", answer.body);
}

#[tokio::test]
async fn a_bound_token_is_worth_nothing_to_whoever_steals_it() {
    let bench = public().await;
    let service = &bench.service;
    let (key, thief) = (Key::new(), Key::new());
    let code = bench.spa_code(&[]).await;
    let redeem = [("grant_type", "authorization_code"), ("code", code.as_str())];
    let tokens = bench.spa(&key.proof(&claims(service, "1")), &redeem).await.expect(200).json();
    assert_eq!(tokens["token_type"], "DPoP");
    let token = tokens["access_token"].as_str().unwrap();
    assert_eq!(service.introspect(token, "shop/web").await, json!({"active": false}), "sidecars see no proof");
    let gateway = json!({"client_id": "gateway", "introspects": ["shop/web"]});
    let gateway = service.admin(Method::POST, "/clients", &gateway).await.expect(201).json();
    let form =
        [("client_id", "gateway"), ("client_secret", gateway["client_secret"].as_str().unwrap()), ("token", token)];
    let url = service.public("/oauth2/introspect");
    let facts = service.send(Method::POST, &url, &[], encode(&form)).await.expect(200).json();
    assert_eq!((&facts["cnf"], &facts["token_type"]), (&json!({"jkt": key.thumbprint()}), &json!("DPoP")));
    let phantom = service.send(Method::POST, &url, &[("accept", "application/jwt")], encode(&form)).await;
    assert_eq!(phantom.status, 204, "no JWT that anybody could bear");

    let ath = URL_SAFE_NO_PAD.encode(Sha256::digest(token));
    let at_userinfo = |key: &Key, jti: &str, ath: &str| {
        let htu = format!("{ISSUER}/oauth2/userinfo");
        key.proof(&json!({"jti": jti, "htm": "GET", "htu": htu, "iat": service.now(), "ath": ath}))
    };
    let (bearer, dpop) = (format!("Bearer {token}"), format!("DPoP {token}"));
    let good = at_userinfo(&key, "2", &ath);
    for (why, scheme, proof, status) in [
        ("as a bearer's", &bearer, String::new(), 401),
        ("as a bearer's, with a proof", &bearer, at_userinfo(&key, "3", &ath), 401),
        ("without a proof", &dpop, String::new(), 401),
        ("with the thief's key", &dpop, at_userinfo(&thief, "4", &ath), 401),
        ("for another token", &dpop, at_userinfo(&key, "5", "x"), 401),
        ("rightly", &dpop, good.clone(), 200),
        ("with a proof that was seen", &dpop, good, 401),
    ] {
        let mut headers = vec![("authorization", scheme.as_str())];
        if !proof.is_empty() {
            headers.push(("dpop", &proof));
        }
        let answer = service.send(Method::GET, &service.public("/oauth2/userinfo"), &headers, "").await;
        assert_eq!(answer.status.as_u16(), status, "{why}: {:?}", answer.headers);
    }

    let refresh = [("grant_type", "refresh_token"), ("refresh_token", tokens["refresh_token"].as_str().unwrap())];
    is_error(&bench.spa("", &refresh).await, "invalid_dpop_proof", "a stolen refresh token without a key");
    is_error(&bench.spa(&thief.proof(&claims(service, "6")), &refresh).await, "invalid_dpop_proof", "with another");
    bench.spa(&key.proof(&claims(service, "7")), &refresh).await.expect(200);
}

#[tokio::test]
async fn a_proof_that_proves_nothing_is_refused() {
    let bench = public().await;
    let service = &bench.service;
    let (key, other) = (Key::new(), Key::new());
    let good = claims(service, "once");
    let with = |change: &[(&str, Value)]| {
        let mut claims = claims(service, &format!("{change:?}"));
        for (name, value) in change {
            claims[*name] = value.clone();
        }
        key.proof(&claims)
    };
    let mut private = key.jwk();
    private["d"] = json!("AAAA");
    let header = |typ: &str, alg: &str, jwk: Value| json!({"typ": typ, "alg": alg, "jwk": jwk});
    let form = [("grant_type", "refresh_token"), ("refresh_token", "x")];
    for (why, proof) in [
        ("junk", "junk".to_owned()),
        ("another method", with(&[("htm", json!("GET"))])),
        ("another URL", with(&[("htu", json!("https://evil.example/oauth2/token"))])),
        ("an old one", with(&[("iat", json!(service.now() - 100))])),
        ("one from the future", with(&[("iat", json!(service.now() + 100))])),
        ("no jti", with(&[("jti", json!(""))])),
        ("another type", key.sign(&header("JWT", "ES256", key.jwk()), &good)),
        ("no algorithm", key.sign(&header("dpop+jwt", "none", key.jwk()), &good)),
        ("another's key named", key.sign(&header("dpop+jwt", "ES256", other.jwk()), &good)),
        ("a private key named", key.sign(&header("dpop+jwt", "ES256", private), &good)),
        ("no key named", key.sign(&json!({"typ": "dpop+jwt", "alg": "ES256"}), &good)),
        ("a symmetric key", key.sign(&header("dpop+jwt", "HS256", json!({"kty": "oct", "k": "AAAA"})), &good)),
    ] {
        is_error(&bench.spa(&proof, &form).await, "invalid_dpop_proof", why);
    }
    let proof = key.proof(&good);
    is_error(&bench.spa(&proof, &form).await, "invalid_grant", "a good one");
    is_error(&bench.spa(&proof, &form).await, "invalid_dpop_proof", "the same again");
}

#[tokio::test]
async fn a_code_can_be_bound_before_it_is_given() {
    let bench = public().await;
    let (key, other) = (Key::new(), Key::new());
    let jkt = key.thumbprint();
    let code = bench.spa_code(&[("dpop_jkt", &jkt)]).await;
    let redeem = [("grant_type", "authorization_code"), ("code", code.as_str())];
    is_error(&bench.spa("", &redeem).await, "invalid_dpop_proof", "no proof");
    let proof = other.proof(&claims(&bench.service, "1"));
    is_error(&bench.spa(&proof, &redeem).await, "invalid_dpop_proof", "another key");
    bench.spa(&key.proof(&claims(&bench.service, "2")), &redeem).await.expect(200);
}

#[tokio::test]
async fn a_client_that_must_be_bound_is_and_nonces_are_demanded_where_configured() {
    let service = Service::start_as(|config| config["dpop"] = json!({"nonce": true}), None).await;
    let client = json!({"client_id": "robot", "grant_types": ["client_credentials"], "dpop_bound_access_tokens": true});
    let client = service.admin(Method::POST, "/clients", &client).await.expect(201).json();
    let secret = client["client_secret"].as_str().unwrap();
    let ask = async |proof: Option<String>| {
        let form = [("grant_type", "client_credentials"), ("client_id", "robot"), ("client_secret", secret)];
        let headers: Vec<(&str, &str)> = proof.iter().map(|proof| ("dpop", proof.as_str())).collect();
        service.send(Method::POST, &service.public("/oauth2/token"), &headers, encode(&form)).await
    };
    is_error(&ask(None).await, "invalid_dpop_proof", "not bound");
    let key = Key::new();
    let first = ask(Some(key.proof(&claims(&service, "1")))).await;
    is_error(&first, "use_dpop_nonce", "no nonce");
    let nonce = first.header("dpop-nonce").to_owned();
    let with = |nonce: &str, jti: &str| {
        let mut claims = claims(&service, jti);
        claims["nonce"] = json!(nonce);
        Some(key.proof(&claims))
    };
    is_error(&ask(with("made-up", "2")).await, "use_dpop_nonce", "a made-up one");
    assert_eq!(ask(with(&nonce, "3")).await.expect(200).json()["token_type"], "DPoP");
    service.clock.pass(180);
    ask(with(&nonce, "4")).await.expect(200);
    service.clock.pass(180);
    is_error(&ask(with(&nonce, "5")).await, "use_dpop_nonce", "an old one");
}
