//! Another OpenID provider, as good or as bad as a test wants it: its person signs in by [`Provider::authorize`], without pages.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::extract::{RawForm, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use cloakroom_auth_service::clock::Clock;
use cloakroom_auth_service::keys::ring::KeyRing;
use cloakroom_auth_service::keys::seal::Sealer;
use cloakroom_auth_service::keys::signer::JwtType;
use cloakroom_auth_service::keys::{Algorithm, Schedule};
use cloakroom_auth_service::random::Random;
use cloakroom_auth_service::store::memory::MemoryStore;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::harness::{Answer, Browser, Service, encode};

pub(crate) const CLIENT: &str = "cloakroom";
const SECRET: &str = "the secret: between & us";

/// Changes an ID token's claims before it is signed.
type Edit = Arc<dyn Fn(&mut Value) + Send + Sync>;
/// Makes something else of the signed token.
type Forge = Arc<dyn Fn(String) -> String + Send + Sync>;

#[derive(Default)]
struct Mood {
    codes: HashMap<String, Pending>,
    edit: Option<Edit>,
    forge: Option<Forge>,
    metadata: Option<Edit>,
    userinfo: Option<Value>,
    last_sub: Value,
    down: bool,
    huge: bool,
    discoveries: usize,
}

struct Pending {
    nonce: String,
    challenge: String,
    claims: Value,
}

#[derive(Clone)]
pub(crate) struct Provider {
    pub(crate) issuer: String,
    id: String,
    ring: Arc<KeyRing>,
    clock: Arc<Mutex<Clock>>,
    mood: Arc<Mutex<Mood>>,
    secret_file: Arc<SecretFile>,
}

struct SecretFile(PathBuf);

impl Drop for SecretFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Provider {
    pub(crate) async fn start(id: &str, clock: Clock) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let schedule = Schedule { rotation: u64::MAX / 2, lead: 1, keep: 1 };
        let sealer = Sealer::new(&[vec![port.to_le_bytes()[0]; 32]]).unwrap();
        let random = Random::seeded(u64::from(port));
        let ring = KeyRing::new(sealer, Algorithm::ES256, schedule, Clock::system(), random);
        ring.refresh(&MemoryStore::new(Clock::system())).await.unwrap();
        let secret_file = std::env::temp_dir().join(format!("cloakroom-provider-{}-{port}", std::process::id()));
        std::fs::write(&secret_file, format!("{SECRET}\n")).unwrap();
        let provider = Self {
            issuer: format!("http://127.0.0.1:{port}"),
            id: id.to_owned(),
            ring: Arc::new(ring),
            clock: Arc::new(Mutex::new(clock)),
            mood: Arc::default(),
            secret_file: Arc::new(SecretFile(secret_file)),
        };
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/jwks", get(jwks))
            .route("/token", post(token))
            .route("/userinfo", get(userinfo))
            .with_state(provider.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        provider
    }

    /// The same provider, living by the service's clock.
    pub(crate) fn with_clock(self, clock: Clock) -> Self {
        *self.clock.lock().unwrap() = clock;
        self
    }

    /// What the auth service is told of it.
    pub(crate) fn settings(&self, change: Value) -> Value {
        let mut settings = json!({
            "id": self.id, "name": "Example Corp", "issuer": self.issuer, "client_id": CLIENT,
            "client_secret_file": self.secret_file.0, "create": true,
        });
        let Value::Object(change) = change else { panic!("an object") };
        settings.as_object_mut().unwrap().extend(change);
        settings
    }

    fn mood(&self) -> std::sync::MutexGuard<'_, Mood> {
        self.mood.lock().unwrap()
    }

    pub(crate) fn edit(&self, edit: impl Fn(&mut Value) + Send + Sync + 'static) {
        self.mood().edit = Some(Arc::new(edit));
    }

    pub(crate) fn forge(&self, forge: impl Fn(String) -> String + Send + Sync + 'static) {
        self.mood().forge = Some(Arc::new(forge));
    }

    pub(crate) fn metadata(&self, edit: impl Fn(&mut Value) + Send + Sync + 'static) {
        self.mood().metadata = Some(Arc::new(edit));
    }

    pub(crate) fn userinfo(&self, claims: Value) {
        self.mood().userinfo = Some(claims);
    }

    pub(crate) fn down(&self, down: bool) {
        self.mood().down = down;
    }

    pub(crate) fn huge(&self, huge: bool) {
        self.mood().huge = huge;
    }

    pub(crate) fn discoveries(&self) -> usize {
        self.mood().discoveries
    }

    pub(crate) fn behave(&self) {
        let mut mood = self.mood();
        let codes = std::mem::take(&mut mood.codes);
        *mood = Mood { codes, ..Mood::default() };
    }

    /// Its person signs in: the address that the browser is sent back to, on our side.
    #[track_caller]
    pub(crate) fn authorize(&self, to_provider: &Answer, claims: Value) -> String {
        assert_eq!(to_provider.status, 303, "{}", to_provider.body);
        let location = to_provider.location();
        assert!(location.starts_with(&format!("{}/authorize?", self.issuer)), "{location}");
        let parameter =
            |name: &str| to_provider.location_parameter(name).unwrap_or_else(|| panic!("{name}: {location}"));
        assert_eq!((parameter("client_id").as_str(), parameter("code_challenge_method").as_str()), (CLIENT, "S256"));
        let code = format!("code-{}", self.mood().codes.len());
        let pending = Pending { nonce: parameter("nonce"), challenge: parameter("code_challenge"), claims };
        self.mood().codes.insert(code.clone(), pending);
        let back = parameter("redirect_uri").strip_prefix("http://localhost:8001").unwrap().to_owned();
        format!("{back}?{}", encode(&[("code", &code), ("state", &parameter("state")), ("iss", &self.issuer)]))
    }

    /// From a sign-in page to the provider's.
    pub(crate) async fn go(&self, service: &Service, browser: &mut Browser, page: &Answer) -> Answer {
        let (_, rest) = page.body.split_once(&format!("href=\"/sign-in/with/{}?flow=", self.id)).expect(&page.body);
        let flow = rest.split_once('"').unwrap().0.to_owned();
        browser.get(service, &format!("/sign-in/with/{}?flow={flow}", self.id)).await
    }

    /// All the way from the account page.
    pub(crate) async fn sign_in(&self, service: &Service, browser: &mut Browser, claims: Value) -> Answer {
        let to_page = browser.get(service, "/account").await.expect(303);
        let page = browser.get(service, to_page.location()).await.expect(200);
        let away = self.go(service, browser, &page).await;
        let back = self.authorize(&away, claims);
        browser.get(service, &back).await
    }

    fn now(&self) -> u64 {
        self.clock.lock().unwrap().seconds()
    }

    pub(crate) fn logout_token(&self, change: &[(&str, Value)]) -> String {
        self.ring.sign(JwtType::Logout, &self.logout_claims(change)).unwrap()
    }

    pub(crate) fn logout_claims(&self, change: &[(&str, Value)]) -> Value {
        let mut claims = json!({
            "iss": self.issuer, "aud": CLIENT, "iat": self.now(), "exp": self.now() + 120,
            "jti": format!("{:?}", std::time::Instant::now()),
            "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
        });
        for (name, value) in change {
            if value.is_null() {
                claims.as_object_mut().unwrap().remove(*name);
            } else {
                claims[*name] = value.clone();
            }
        }
        claims
    }

    pub(crate) fn sign_as(&self, typ: JwtType, claims: &Value) -> String {
        self.ring.sign(typ, claims).unwrap()
    }

    pub(crate) fn public_key(&self) -> Value {
        serde_json::from_str::<Value>(&self.ring.jwks().unwrap()).unwrap()["keys"][0].clone()
    }
}

async fn discovery(State(provider): State<Provider>) -> Response {
    provider.mood().discoveries += 1;
    let issuer = &provider.issuer;
    let mut document = json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "userinfo_endpoint": format!("{issuer}/userinfo"),
        "jwks_uri": format!("{issuer}/jwks"),
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256", "ES256"],
        "authorization_response_iss_parameter_supported": true,
    });
    let mood = provider.mood();
    if let Some(edit) = &mood.metadata {
        edit(&mut document);
    }
    answer(&mood, document)
}

fn answer(mood: &Mood, mut document: Value) -> Response {
    if mood.down {
        return StatusCode::BAD_GATEWAY.into_response();
    }
    if mood.huge {
        document["padding"] = Value::from("x".repeat(2 << 20));
    }
    Json(document).into_response()
}

async fn jwks(State(provider): State<Provider>) -> Response {
    Json(serde_json::from_str::<Value>(&provider.ring.jwks().unwrap()).unwrap()).into_response()
}

/// Looks at everything that a real one would: the client's secret, the code, the verifier, the address.
async fn token(State(provider): State<Provider>, headers: HeaderMap, RawForm(body): RawForm) -> Response {
    let form: HashMap<String, String> = url::form_urlencoded::parse(&body).into_owned().collect();
    let invalid = |error: &str| (StatusCode::BAD_REQUEST, Json(json!({"error": error}))).into_response();
    let authorization = headers["authorization"].to_str().unwrap().strip_prefix("Basic ").unwrap().to_owned();
    let escaped = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    // RFC 6749 §2.3.1
    if authorization != STANDARD.encode(format!("{}:{}", escaped(CLIENT), escaped(SECRET))) {
        return invalid("invalid_client");
    }
    let mut mood = provider.mood();
    let Some(pending) = mood.codes.remove(&form["code"]) else { return invalid("invalid_grant") };
    if URL_SAFE_NO_PAD.encode(Sha256::digest(&form["code_verifier"])) != pending.challenge {
        return invalid("invalid_grant");
    }
    assert_eq!(form["redirect_uri"], format!("http://localhost:8001/sign-in/from/{}", provider.id));
    let now = provider.now();
    let mut claims = json!({
        "iss": provider.issuer, "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": pending.nonce, "auth_time": now,
    });
    claims.as_object_mut().unwrap().extend(pending.claims.as_object().unwrap().clone());
    mood.last_sub = claims["sub"].clone();
    if let Some(edit) = &mood.edit {
        edit(&mut claims);
    }
    let mut id_token = provider.ring.sign(JwtType::Plain, &claims).unwrap();
    if let Some(forge) = &mood.forge {
        id_token = forge(id_token);
    }
    answer(&mood, json!({"access_token": "at", "token_type": "Bearer", "expires_in": 60, "id_token": id_token}))
}

async fn userinfo(State(provider): State<Provider>, headers: HeaderMap) -> Response {
    assert_eq!(headers["authorization"], "Bearer at");
    let mood = provider.mood();
    Json(mood.userinfo.clone().unwrap_or_else(|| json!({"sub": mood.last_sub}))).into_response()
}
