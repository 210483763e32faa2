//! Replicas of the auth service and real sidecars' clients in this process, with gates between them that can be shut.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use cloakroom_auth_service::clock::Clock;
use cloakroom_auth_service::keys::ring::KeyRing;
use cloakroom_auth_service::keys::seal::Sealer;
use cloakroom_auth_service::keys::signer::JwtType;
use cloakroom_auth_service::keys::{Algorithm, Schedule};
use cloakroom_auth_service::random::Random;
use cloakroom_auth_service::store::Store;
use cloakroom_auth_service::store::memory::MemoryStore;
use cloakroom_auth_service::{Config, Parts, Running, start_with};
use cloakroom_protocol::sidecar_config::Outage;
use cloakroom_protocol::token::OpaqueToken;
use cloakroom_sidecar::auth_client::workload_token::TokenSource;
use cloakroom_sidecar::auth_client::{AuthClient, Setup};
use cloakroom_sidecar::authority::Exchanged;
use cloakroom_sidecar::config::{CurrentPolicy, Policy};
use cloakroom_sidecar::token_cache::Bounds;
use serde_json::{Value, json};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

const ADMIN: &str = "admin-token-of-the-tests";

/// A store that all replicas share, and who may ask them.
pub struct Deployment {
    pub store: Arc<dyn Store>,
    ring: KeyRing,
    key_file: tempfile::NamedTempFile,
    http: reqwest::Client,
}

impl Deployment {
    pub async fn new() -> Result<Self> {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new(Clock::system()));
        Self::with_store(store).await
    }

    pub async fn with_store(store: Arc<dyn Store>) -> Result<Self> {
        // Another test of the process may have done so.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let key_file = tempfile::NamedTempFile::new()?;
        std::fs::write(&key_file, [7; 32])?;
        let schedule = Schedule { rotation: u64::MAX / 2, lead: 1, keep: 1 };
        let ring =
            KeyRing::new(Sealer::new(&[vec![9; 32]])?, Algorithm::ES256, schedule, Clock::system(), Random::seeded(9));
        ring.refresh(&MemoryStore::new(Clock::system())).await?;
        Ok(Self { store, ring, key_file, http: reqwest::Client::new() })
    }

    /// One more replica; `skew` moves its clock.
    pub async fn replica(&self, skew: Skew) -> Result<Replica> {
        let jwks: Value = serde_json::from_str(&self.ring.jwks()?)?;
        let config = json!({
            "issuer": "http://localhost:8001",
            "public": {"listen": "127.0.0.1:0"},
            "internal": {"listen": "127.0.0.1:0"},
            "metrics": "127.0.0.1:0",
            "workload_issuers": [{"issuer": "https://kubernetes.test", "jwks": {"inline": jwks}}],
            "admin": {"token": ADMIN},
            "passwords": {"memory_kib": 64, "iterations": 1},
            "signing": {"encryption_key_files": [self.key_file.path()]},
        });
        let config = Config::parse(&config.to_string(), "test", std::iter::empty())?;
        let parts = Parts { clock: skew.clock(), random: Random::system()?, store: Some(Arc::clone(&self.store)) };
        let running = start_with(config, parts).await?;
        running.ready().await;
        Ok(Replica { running, http: self.http.clone() })
    }

    /// What a pod of namespace `shop` authenticates with.
    pub fn workload(&self, pod: &str) -> Result<String> {
        let now = unix_now().as_secs();
        let claims = json!({
            "iss": "https://kubernetes.test", "sub": "system:serviceaccount:shop:app", "aud": ["cloakroom"],
            "exp": now + 3600, "iat": now - 600, "nbf": now - 600,
            "kubernetes.io": {
                "namespace": "shop",
                "serviceaccount": {"name": "app", "uid": "1"},
                "pod": {"name": pod, "uid": pod},
            },
        });
        Ok(self.ring.sign(JwtType::Plain, &claims)?)
    }

    /// For a sidecar that reaches replicas at these addresses only.
    pub(crate) fn sidecar_config(addresses: &[SocketAddr]) -> Result<Value> {
        Ok(json!({
            "format": 1, "revision": "r1", "policy": "shop/web",
            "auth_service": {
                "internal_url": format!("http://{}", addresses.first().context("no address")?),
                "addresses": addresses, "issuer": "http://localhost:8001",
            },
            "mode": "Enforce", "origins": [], "trusted_proxies": [],
            "token_sources": [{"header": {"name": "Authorization", "scheme": "Bearer"}}],
            "unauthenticated": "Deny", "writable": [],
            "jwt": {"header": "Authorization", "audience": "shop/web", "claim_headers": {}},
            "outage": "Deny", "rules": [],
            "limits": {"request_headers": 32768, "request_body": 1_000_000_000, "idle_timeout": 60},
        }))
    }

    /// The client of a real sidecar, which reaches replicas at these addresses only.
    pub fn sidecar(&self, pod: &str, addresses: &[SocketAddr]) -> Result<Sidecar> {
        let config = Self::sidecar_config(addresses)?;
        let policy = Arc::new(Policy::parse(config.to_string().as_bytes())?);
        let current = Arc::new(CurrentPolicy::from(Some(Arc::clone(&policy))));
        let client = AuthClient::start(Setup {
            policy: Arc::clone(&current),
            metrics: Arc::default(),
            workload: TokenSource::Fixed(self.workload(pod)?),
            sidecar: pod.to_owned(),
            runtime: tokio::runtime::Handle::current(),
            bounds: Bounds::default(),
        });
        client.policy_changed(None, &policy);
        Ok(Sidecar { client })
    }
}

pub struct Replica {
    pub running: Running,
    http: reqwest::Client,
}

impl Replica {
    pub fn address(&self) -> SocketAddr {
        self.running.internal_addr
    }

    async fn call(&self, method: reqwest::Method, path: &str, body: &Value) -> Result<Value> {
        let url = format!("http://{}{path}", self.address());
        let answer = self.http.request(method, url).bearer_auth(ADMIN).json(body).send().await?.error_for_status()?;
        Ok(serde_json::from_slice(&answer.bytes().await?).unwrap_or_default())
    }

    pub async fn register_policy(&self) -> Result<()> {
        let policy = json!({
            "policy": "shop/web", "revision": "1", "audience": "shop/web", "origins": ["https://shop.example.com"],
            "session": {"idle_seconds": 1800, "absolute_seconds": 43200},
            "jwt": {"lifetime_seconds": 60, "claims": []}, "writable": [],
        });
        self.call(reqwest::Method::PUT, "/internal/v1/policies/shop/web", &policy).await.map(drop)
    }

    /// A token that counts at the policy.
    pub async fn api_key(&self) -> Result<OpaqueToken> {
        let body = json!({"service": "bench", "name": "bench", "audiences": ["shop/web"]});
        let made = self.call(reqwest::Method::POST, "/admin/v1/api-keys", &body).await?;
        let text = made["api_key"].as_str().context("no key")?;
        Ok(OpaqueToken::parse(text.as_bytes())?)
    }

    /// Returns the receipt.
    pub async fn revoke(&self, token: &OpaqueToken, wait: Duration) -> Result<Value> {
        let path = format!("/internal/v1/revoke?wait={}", wait.as_millis());
        self.call(reqwest::Method::POST, &path, &json!({"id": token.id()})).await
    }
}

/// The client of a real sidecar, as its data plane sees it.
pub struct Sidecar {
    pub client: Arc<AuthClient>,
}

impl Sidecar {
    /// Without asking: what the next request would be answered by.
    pub fn honours(&self, token: &OpaqueToken) -> bool {
        self.client.cached(&token.clone().into()).is_some()
    }

    /// `None`: nobody can tell.
    pub async fn asks(&self, token: &OpaqueToken) -> Option<bool> {
        let answer = self.client.exchange(&token.clone().into(), Outage::Deny).await.ok()?;
        Some(matches!(answer, Exchanged::Active(_)))
    }

    /// With a lease, and the token cached under it.
    pub async fn holds(&self, token: &OpaqueToken) -> Result<()> {
        within(Duration::from_secs(20), "a lease and an answer", async || {
            self.asks(token).await == Some(true) && self.honours(token)
        })
        .await
        .map(drop)
    }
}

/// Returns how long it took until `reached`.
pub async fn within(limit: Duration, what: &str, mut reached: impl AsyncFnMut() -> bool) -> Result<Duration> {
    let started = Instant::now();
    while !reached().await {
        anyhow::ensure!(started.elapsed() < limit, "{what}: not within {limit:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(started.elapsed())
}

/// A way to a replica that can be shut: what is under way stays there, and nobody is told.
pub struct Gate {
    pub address: SocketAddr,
    open: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl Gate {
    pub async fn to(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (open, opened) = watch::channel(true);
        let serving = tokio::spawn(async move {
            while let Ok((inside, _)) = listener.accept().await {
                tokio::spawn(pass(inside, target, opened.clone()));
            }
        });
        Ok(Self { address, open, serving })
    }

    pub fn shut(&self) {
        self.open.send_replace(false);
    }

    pub fn open(&self) {
        self.open.send_replace(true);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Bytes pass while the gate is open. When it shuts, both ends stay connected to somebody who says nothing any more.
async fn pass(mut inside: TcpStream, target: SocketAddr, mut open: watch::Receiver<bool>) {
    if open.wait_for(|open| *open).await.is_err() {
        return;
    }
    let Ok(mut outside) = TcpStream::connect(target).await else { return };
    loop {
        tokio::select! {
            _ = copy_bidirectional(&mut inside, &mut outside) => return,
            shut = open.wait_for(|open| !*open) => if shut.is_err() { return },
        }
        if open.wait_for(|open| *open).await.is_err() {
            return;
        }
    }
}

/// How far a replica's clock is off, in milliseconds; may change while it runs.
#[derive(Clone, Default)]
pub struct Skew(Arc<AtomicI64>);

impl Skew {
    pub fn set(&self, off: i64) {
        self.0.store(off, Ordering::Relaxed);
    }

    fn clock(&self) -> Clock {
        let skew = Arc::clone(&self.0);
        Clock::new(move || {
            let now = i64::try_from(unix_now().as_millis()).unwrap_or(i64::MAX);
            let shown = u64::try_from(now + skew.load(Ordering::Relaxed)).unwrap_or_default();
            Duration::from_millis(shown)
        })
    }
}

#[expect(clippy::disallowed_methods, reason = "tests run by the real clock")]
fn unix_now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
