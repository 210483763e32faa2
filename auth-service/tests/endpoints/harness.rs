//! Starts the service and talks to it; keeps the plumbing out of the tests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use cloakroom_auth_service::clock::Clock;
use cloakroom_auth_service::keys::ring::KeyRing;
use cloakroom_auth_service::keys::seal::Sealer;
use cloakroom_auth_service::keys::signer::JwtType;
use cloakroom_auth_service::keys::{Algorithm, Schedule};
use cloakroom_auth_service::random::Random;
use cloakroom_auth_service::store::Store;
use cloakroom_auth_service::store::memory::MemoryStore;
use cloakroom_auth_service::{Config, Parts, Running, start_with};
use http::{HeaderMap, Method, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub(crate) const ADMIN: &str = "admin-token-of-the-tests";
pub(crate) const ISSUER: &str = "http://localhost:8001";
pub(crate) const PASSWORD: &str = "correct horse battery";
pub(crate) const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

pub(crate) fn challenge() -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(VERIFIER))
}

/// Issues service-account tokens as a cluster does.
pub(crate) struct Cluster {
    ring: KeyRing,
}

impl Cluster {
    pub(crate) async fn new(seed: u8) -> Self {
        let schedule = Schedule { rotation: u64::MAX / 2, lead: 1, keep: 1 };
        let sealer = Sealer::new(&[vec![seed; 32]]).unwrap();
        let ring = KeyRing::new(sealer, Algorithm::ES256, schedule, Clock::system(), Random::seeded(u64::from(seed)));
        ring.refresh(&MemoryStore::new(Clock::system())).await.unwrap();
        Self { ring }
    }

    pub(crate) fn jwks(&self) -> Value {
        serde_json::from_str(&self.ring.jwks().unwrap()).unwrap()
    }

    pub(crate) fn claims(namespace: &str, account: &str, now: u64) -> Value {
        json!({
            "iss": "https://kubernetes.test",
            "sub": format!("system:serviceaccount:{namespace}:{account}"),
            "aud": ["cloakroom"],
            "exp": now + 3600,
            "iat": now,
            "nbf": now,
            "kubernetes.io": {
                "namespace": namespace,
                "serviceaccount": {"name": account, "uid": "1"},
                "pod": {"name": format!("{account}-0"), "uid": "2"},
            },
        })
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        self.sign_as(JwtType::Plain, claims)
    }

    pub(crate) fn sign_as(&self, kind: JwtType, claims: &Value) -> String {
        self.ring.sign(kind, claims).unwrap()
    }
}

/// A clock that runs, and can be put forward.
#[derive(Clone)]
pub(crate) struct TestClock(Arc<AtomicU64>);

impl TestClock {
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    pub(crate) fn clock(&self) -> Clock {
        let (system, ahead) = (Clock::system(), Arc::clone(&self.0));
        Clock::new(move || Duration::from_millis(system.millis() + ahead.load(Ordering::Relaxed) * 1000))
    }

    pub(crate) fn pass(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::Relaxed);
    }
}

pub(crate) struct Service {
    pub(crate) running: Running,
    pub(crate) cluster: Cluster,
    pub(crate) clock: TestClock,
    client: Client<HttpConnector, Full<Bytes>>,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {} {}", self.status, self.body))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn location(&self) -> &str {
        self.header("location")
    }

    /// A parameter of the address that this redirects to.
    pub(crate) fn location_parameter(&self, name: &str) -> Option<String> {
        let url = url::Url::parse(ISSUER).unwrap().join(self.location()).ok()?;
        url.query_pairs().find(|(given, _)| given == name).map(|(_, value)| value.into_owned())
    }

    /// The value of a hidden field.
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        let (_, rest) = self.body.split_once(&format!("name=\"{name}\" value=\""))?;
        rest.split_once('"').map(|(value, _)| value.to_owned())
    }

    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", self.body);
        self
    }
}

pub(crate) fn config(jwks: &Value) -> Value {
    json!({
        "issuer": ISSUER,
        "public": {"listen": "127.0.0.1:0"},
        "internal": {"listen": "127.0.0.1:0"},
        "metrics": "127.0.0.1:0",
        "workload_issuers": [{"issuer": "https://kubernetes.test", "jwks": {"inline": jwks}}],
        "operators": ["system:serviceaccount:cloakroom-system:operator"],
        "admin": {"token": ADMIN, "subjects": ["system:serviceaccount:ops:admin"]},
        "passwords": {"memory_kib": 64, "iterations": 1},
        "trusted_proxies": ["127.0.0.0/8"],
    })
}

impl Service {
    pub(crate) async fn start() -> Self {
        Self::start_as(|_| {}, None).await
    }

    pub(crate) async fn start_as(adjust: impl FnOnce(&mut Value), store: Option<Arc<dyn Store>>) -> Self {
        let clock = TestClock::new();
        let store = store.unwrap_or_else(|| Arc::new(MemoryStore::new(clock.clock())));
        let service = Self::replica(adjust, store, clock, 7).await;
        service.running.ready().await;
        service
    }

    /// One of several that share a store.
    pub(crate) async fn replica(
        adjust: impl FnOnce(&mut Value),
        store: Arc<dyn Store>,
        clock: TestClock,
        seed: u64,
    ) -> Self {
        let cluster = Cluster::new(9).await;
        let mut config = config(&cluster.jwks());
        adjust(&mut config);
        let config = Config::parse(&config.to_string(), "test", std::iter::empty()).unwrap();
        let parts = Parts { clock: clock.clock(), random: Random::seeded(seed), store: Some(store) };
        let running = start_with(config, parts).await.unwrap();
        Self { running, cluster, clock, client: Client::builder(TokioExecutor::new()).build_http() }
    }

    pub(crate) fn now(&self) -> u64 {
        self.clock.clock().seconds()
    }

    pub(crate) fn public(&self, path: &str) -> String {
        format!("http://{}{path}", self.running.public_addr)
    }

    pub(crate) fn internal(&self, path: &str) -> String {
        format!("http://{}{path}", self.running.internal_addr)
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let response = self.open(method, url, headers, body).await;
        let (parts, body) = response.into_parts();
        let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub(crate) async fn open(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Response<hyper::body::Incoming> {
        let mut request = http::Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.client.request(request.body(Full::new(body.into())).unwrap()).await.unwrap()
    }

    pub(crate) fn workload(&self, namespace: &str) -> String {
        format!("Bearer {}", self.cluster.sign(&Cluster::claims(namespace, "app", self.now())))
    }

    pub(crate) fn operator(&self) -> String {
        format!("Bearer {}", self.cluster.sign(&Cluster::claims("cloakroom-system", "operator", self.now())))
    }

    pub(crate) async fn internal_json(&self, method: Method, path: &str, authorization: &str, body: &Value) -> Answer {
        let headers = [("authorization", authorization), ("content-type", "application/json")];
        self.send(method, &self.internal(path), &headers, body.to_string()).await
    }

    pub(crate) async fn admin(&self, method: Method, path: &str, body: &Value) -> Answer {
        self.internal_json(method, &format!("/admin/v1{path}"), &format!("Bearer {ADMIN}"), body).await
    }

    pub(crate) async fn internal_form(&self, path: &str, authorization: &str, form: &[(&str, &str)]) -> Answer {
        let headers = [("authorization", authorization), ("content-type", "application/x-www-form-urlencoded")];
        self.send(Method::POST, &self.internal(path), &headers, encode(form)).await
    }

    pub(crate) async fn introspect(&self, token: &str, policy: &str) -> Value {
        let namespace = policy.split_once('/').unwrap().0;
        let form = [("token", token), ("policy", policy)];
        self.internal_form("/internal/v1/introspect", &self.workload(namespace), &form).await.expect(200).json()
    }

    pub(crate) async fn register_policy(&self, policy: &str, origin: &str) -> Answer {
        self.register(&policy_body(policy, origin)).await
    }

    pub(crate) async fn register(&self, body: &Value) -> Answer {
        let path = format!("/internal/v1/policies/{}", body["policy"].as_str().unwrap());
        self.internal_json(Method::PUT, &path, &self.operator(), body).await
    }

    /// A user with [`PASSWORD`]; returns the id.
    pub(crate) async fn create_user(&self, username: &str) -> String {
        let body = json!({
            "username": username, "password": PASSWORD, "name": "Ann Example", "email": "ann@example.com",
            "roles": ["buyer"], "groups": ["staff"], "scopes": ["orders"],
        });
        self.admin(Method::POST, "/users", &body).await.expect(201).json()["id"].as_str().unwrap().to_owned()
    }

    /// Pushes a request as the policy's sidecar does, and returns the address for the browser.
    pub(crate) async fn push(&self, policy: &str, origin: &str, extra: &[(&str, &str)]) -> String {
        let namespace = policy.split_once('/').unwrap().0;
        let challenge = challenge();
        let redirect_uri = format!("{origin}/.cloakroom/callback");
        let mut form = vec![
            ("client_id", policy),
            ("response_type", "code"),
            ("redirect_uri", &redirect_uri),
            ("state", "the-state"),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
            ("return_to", "/orders?id=1"),
        ];
        form.extend(extra);
        let answer = self.internal_form("/internal/v1/par", &self.workload(namespace), &form).await.expect(201).json();
        let request_uri = answer["request_uri"].as_str().unwrap();
        self.public(&format!("/oauth2/authorize?{}", encode(&[("client_id", policy), ("request_uri", request_uri)])))
    }

    pub(crate) async fn exchange(&self, policy: &str, origin: &str, code: &str) -> Answer {
        let namespace = policy.split_once('/').unwrap().0;
        let redirect_uri = format!("{origin}/.cloakroom/callback");
        let form = [
            ("grant_type", "authorization_code"),
            ("client_id", policy),
            ("code", code),
            ("redirect_uri", &redirect_uri),
            ("code_verifier", VERIFIER),
        ];
        self.internal_form("/internal/v1/token", &self.workload(namespace), &form).await
    }

    /// The whole way from a sidecar's push to a session token.
    pub(crate) async fn sign_in_at(&self, browser: &mut Browser, policy: &str, origin: &str, username: &str) -> String {
        let url = self.push(policy, origin, &[]).await;
        let mut answer = browser.get(self, &url).await;
        if answer.location().starts_with("/sign-in") {
            answer = browser.sign_in(self, &answer, username, PASSWORD).await;
        }
        assert_eq!(answer.status, 303, "{}", answer.body);
        let code = answer.location_parameter("code").unwrap_or_else(|| panic!("{}", answer.location()));
        let answer = self.exchange(policy, origin, &code).await.expect(200).json();
        answer["session_token"].as_str().unwrap().to_owned()
    }
}

pub(crate) fn policy_body(policy: &str, origin: &str) -> Value {
    json!({
        "policy": policy, "revision": "1", "audience": policy, "origins": [origin],
        "session": {"idle_seconds": 1800, "absolute_seconds": 43200},
        "jwt": {"lifetime_seconds": 60, "claims": ["email"]},
        "writable": ["cart", "locale"],
    })
}

pub(crate) fn encode(form: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish()
}

/// Keeps cookies; follows nothing by itself.
#[derive(Clone, Default)]
pub(crate) struct Browser {
    pub(crate) cookies: BTreeMap<String, String>,
    /// What its person reads: `Accept-Language`.
    pub(crate) languages: Option<&'static str>,
}

impl Browser {
    pub(crate) fn cookie_header(&self) -> String {
        self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
    }

    pub(crate) async fn request(&mut self, service: &Service, method: Method, url: &str, body: String) -> Answer {
        self.request_with(service, method, url, &[], body).await
    }

    pub(crate) async fn request_with(
        &mut self,
        service: &Service,
        method: Method,
        url: &str,
        extra: &[(&str, &str)],
        body: String,
    ) -> Answer {
        let url = if url.starts_with('/') { service.public(url) } else { url.to_owned() };
        let cookies = self.cookie_header();
        let mut headers = vec![("content-type", "application/x-www-form-urlencoded"), ("cookie", cookies.as_str())];
        headers.extend(self.languages.map(|languages| ("accept-language", languages)));
        headers.extend(extra);
        let answer = service.send(method, &url, &headers, body).await;
        for cookie in answer.headers.get_all("set-cookie") {
            let cookie = cookie.to_str().unwrap();
            let (pair, attributes) = cookie.split_once(';').unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            assert!(name.starts_with("__Host-") && attributes.contains("HttpOnly") && attributes.contains("Secure"));
            assert!(
                attributes.contains("Path=/") && attributes.contains("SameSite=Lax") && !attributes.contains("Domain")
            );
            if attributes.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        answer
    }

    pub(crate) async fn get(&mut self, service: &Service, url: &str) -> Answer {
        self.request(service, Method::GET, url, String::new()).await
    }

    pub(crate) async fn post(&mut self, service: &Service, url: &str, form: &[(&str, &str)]) -> Answer {
        self.request(service, Method::POST, url, encode(form)).await
    }

    /// From a redirect to the sign-in page: opens it and sends the form.
    pub(crate) async fn sign_in(
        &mut self,
        service: &Service,
        to_page: &Answer,
        username: &str,
        password: &str,
    ) -> Answer {
        let page = self.get(service, to_page.location()).await;
        let (flow, csrf) = (page.field("flow").expect(&page.body), page.field("csrf").unwrap());
        let form = [("flow", flow.as_str()), ("csrf", &csrf), ("username", username), ("password", password)];
        self.post(service, "/sign-in", &form).await
    }
}

/// What an app does: verifies a JWT with the published keys.
pub(crate) async fn verify(service: &Service, jwt: &str, audience: &str) -> Value {
    let set = service.send(Method::GET, &service.public("/oauth2/jwks.json"), &[], "").await.expect(200);
    let set: jsonwebtoken::jwk::JwkSet = serde_json::from_str(&set.body).unwrap();
    let header = jsonwebtoken::decode_header(jwt).unwrap();
    let jwk = set.find(header.kid.as_deref().unwrap()).unwrap();
    let mut validation = jsonwebtoken::Validation::new(header.alg);
    validation.set_audience(&[audience]);
    validation.set_issuer(&[ISSUER]);
    validation.validate_exp = false;
    let key = jsonwebtoken::DecodingKey::from_jwk(jwk).unwrap();
    jsonwebtoken::decode::<Value>(jwt, &key, &validation).unwrap().claims
}
