//! Another issuer: signs, publishes keys, answers introspection as it was told, and counts what it is asked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

pub(crate) struct Issuer {
    pub(crate) url: String,
    pub(crate) key: Key,
    pub(crate) told: Arc<Mutex<Told>>,
    secret: tempfile::NamedTempFile,
}

#[derive(Default)]
pub(crate) struct Told {
    pub(crate) keys: Vec<Value>,
    /// What the metadata say of themselves.
    pub(crate) issuer: String,
    pub(crate) tokens: HashMap<String, Value>,
    /// Answers everything with this.
    pub(crate) status: Option<StatusCode>,
    pub(crate) hangs: bool,
    /// Tokens that it was asked about.
    pub(crate) introspected: Vec<String>,
    pub(crate) authorization: Vec<String>,
    pub(crate) keys_asked: usize,
    /// Anything else that was fetched.
    pub(crate) strays: usize,
}

pub(crate) struct Key {
    pub(crate) kid: String,
    pair: rcgen::KeyPair,
}

impl Key {
    pub(crate) fn new(kid: &str) -> Self {
        Self { kid: kid.to_owned(), pair: rcgen::KeyPair::generate().unwrap() }
    }

    pub(crate) fn jwk(&self) -> Value {
        let point = self.pair.public_key_raw();
        let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..65]));
        json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": self.kid, "x": x, "y": y})
    }

    /// Header and claims as they are given, in text: what no library would write can be written too.
    pub(crate) fn sign_text(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let key = EncodingKey::from_ec_der(&self.pair.serialize_der());
        let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &key, Algorithm::ES256).unwrap();
        format!("{signed}.{signature}")
    }

    pub(crate) fn header(&self) -> Value {
        json!({"alg": "ES256", "typ": "at+jwt", "kid": self.kid})
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        self.sign_text(&self.header().to_string(), &claims.to_string())
    }
}

impl Issuer {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let key = Key::new("k1");
        let told = Told { keys: vec![key.jwk()], issuer: url.clone(), ..Told::default() };
        let told = Arc::new(Mutex::new(told));
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(metadata))
            .route("/keys", get(keys))
            .route("/introspect", post(introspect))
            .fallback(stray)
            .with_state(Arc::clone(&told));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let secret = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(secret.path(), "s3cret:with/odd+characters\n").unwrap();
        Self { url, key, told, secret }
    }

    /// An entry of `token_issuers`, with keys by discovery.
    pub(crate) fn config(&self, id: &str) -> Value {
        json!({"id": id, "issuer": self.url, "policies": ["shop/*"], "audiences": ["orders-api"], "jwks": {}})
    }

    pub(crate) fn introspection(&self) -> Value {
        json!({"url": format!("{}/introspect", self.url), "client_id": "cloakroom", "client_secret_file": self.secret.path()})
    }

    /// One that only answers questions.
    pub(crate) fn asked_config(&self, id: &str) -> Value {
        let mut config = self.config(id);
        config["jwks"] = Value::Null;
        config["introspection"] = self.introspection();
        config
    }

    pub(crate) fn claims(&self, now: u64) -> Value {
        json!({
            "iss": self.url, "sub": "ann", "aud": "orders-api", "exp": now + 600, "iat": now, "jti": "1",
            "client_id": "web", "scope": "orders",
        })
    }

    /// Makes an opaque token good.
    pub(crate) fn issue(&self, token: &str, now: u64) {
        let mut answer = self.claims(now);
        answer["active"] = json!(true);
        answer["token_type"] = json!("Bearer");
        self.with(|told| told.tokens.insert(token.to_owned(), answer));
    }

    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut Told) -> T) -> T {
        look(&mut self.told.lock().unwrap())
    }

    pub(crate) fn introspected(&self) -> usize {
        self.with(|told| told.introspected.len())
    }
}

type Shared = State<Arc<Mutex<Told>>>;

async fn trouble(told: &Mutex<Told>) -> Option<Response> {
    let (status, hangs) = {
        let told = told.lock().unwrap();
        (told.status, told.hangs)
    };
    if hangs {
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    status.map(IntoResponse::into_response)
}

async fn metadata(State(told): Shared) -> Response {
    if let Some(trouble) = trouble(&told).await {
        return trouble;
    }
    let told = told.lock().unwrap();
    Json(json!({"issuer": told.issuer, "jwks_uri": format!("{}/keys", told.issuer)})).into_response()
}

async fn keys(State(told): Shared) -> Response {
    told.lock().unwrap().keys_asked += 1;
    if let Some(trouble) = trouble(&told).await {
        return trouble;
    }
    Json(json!({"keys": told.lock().unwrap().keys})).into_response()
}

async fn introspect(State(told): Shared, headers: HeaderMap, body: Bytes) -> Response {
    let token = url::form_urlencoded::parse(&body).find(|(name, _)| name == "token").unwrap().1.into_owned();
    {
        let mut told = told.lock().unwrap();
        told.introspected.push(token.clone());
        told.authorization.push(headers["authorization"].to_str().unwrap().to_owned());
    }
    if let Some(trouble) = trouble(&told).await {
        return trouble;
    }
    let answer = told.lock().unwrap().tokens.get(&token).cloned();
    Json(answer.unwrap_or_else(|| json!({"active": false}))).into_response()
}

async fn stray(State(told): Shared) -> StatusCode {
    told.lock().unwrap().strays += 1;
    StatusCode::NOT_FOUND
}
