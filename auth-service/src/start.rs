//! Starting the service in this process, and stopping it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use zeroize::Zeroizing;

use crate::app::{App, Shared};
use crate::audit::{Trail, TrailWriter};
use crate::backchannel::Backchannel;
use crate::clock::Clock;
use crate::config::{Config, Listener, StoreConfig};
use crate::endpoint::oauth::refusals::Refusals;
use crate::events::{Hub, receipt};
use crate::federation::Providers;
use crate::foreign::Issuers;
use crate::jwks::JwksError;
use crate::keys::Schedule;
use crate::keys::ring::KeyRing;
use crate::keys::seal::{SealError, Sealer};
use crate::messages::Messages;
use crate::metrics::Metrics;
use crate::password::{PasswordError, PasswordPool};
use crate::random::{NoEntropy, Random};
use crate::registry::Registry;
use crate::reseal;
use crate::room::Room;
use crate::serve::{GRACE, serve};
use crate::store::Store;
use crate::store::memory::MemoryStore;
use crate::store::redis::{RedisSetupError, RedisStore};
use crate::tls::{Certificate, TlsError};
use crate::workload::Authenticator;
use crate::{config::ConfigError, routes, theme};

/// How often the signing keys and the registry are looked at without an event.
const UPKEEP: Duration = Duration::from_secs(5);
/// Without a store, start-up goes on trying this often.
const EAGER: Duration = Duration::from_millis(250);

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
    #[error("{file}: {error}")]
    File { file: String, error: std::io::Error },
    #[error("signing.encryption_key_files: {0}")]
    Seal(#[from] SealError),
    #[error("passwords: {0}")]
    Password(#[from] PasswordError),
    #[error("workload_issuers: {0}")]
    Issuer(#[from] JwksError),
    #[error("token_issuers: {0}")]
    TokenIssuer(JwksError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("store.redis: {0}")]
    Redis(#[from] RedisSetupError),
    #[error("listening on {address}: {error}")]
    Listen { address: SocketAddr, error: std::io::Error },
}

/// What tests and local mode may bring along.
pub struct Parts {
    pub clock: Clock,
    pub random: Random,
    /// Instead of what the configuration says.
    pub store: Option<Arc<dyn Store>>,
}

impl Parts {
    pub fn system() -> Result<Self, NoEntropy> {
        Ok(Self { clock: Clock::system(), random: Random::system()?, store: None })
    }
}

/// The service at work. [`Running::stop`] ends it in good order, dropping it ends it at once.
pub struct Running {
    pub public_addr: SocketAddr,
    pub internal_addr: SocketAddr,
    pub metrics_addr: Option<SocketAddr>,
    app: Shared,
    stop: watch::Sender<bool>,
    serving: JoinSet<()>,
    upkeep: JoinSet<()>,
}

/// Starts with the system's clock and randomness.
pub async fn start(config: Config) -> Result<Running, StartError> {
    start_with(config, Parts::system()?).await
}

pub async fn start_with(config: Config, parts: Parts) -> Result<Running, StartError> {
    config.validate()?;
    // In local mode another part of the process may have done so.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let (public, public_addr) = bind(&config.public, 8443).await?;
    let (internal, internal_addr) = bind(&config.internal, 9443).await?;
    let metrics = match config.metrics {
        Some(address) => Some(listen(address).await?),
        None => None,
    };
    let certificates =
        [&config.public, &config.internal].map(|listener| listener.tls.as_ref().map(Certificate::load).transpose());
    let [public_certificate, internal_certificate] = certificates;
    let (public_certificate, internal_certificate) = (public_certificate?, internal_certificate?);
    let (stop, stopping) = watch::channel(false);
    let (app, trail) = assemble(config, parts, stopping.clone())?;

    let mut serving = JoinSet::new();
    let acceptor = |certificate: &Option<Arc<Certificate>>| {
        certificate.as_ref().map(|certificate| TlsAcceptor::from(Arc::new(certificate.server_config())))
    };
    serving.spawn(serve(
        public,
        acceptor(&public_certificate),
        routes::public(Arc::clone(&app)),
        Some(Room::of_this_process(app.metrics.turned_away.clone())),
        stopping.clone(),
    ));
    serving.spawn(serve(
        internal,
        acceptor(&internal_certificate),
        routes::internal(Arc::clone(&app)),
        None,
        stopping.clone(),
    ));
    let metrics_addr = metrics.map(|(listener, address)| {
        serving.spawn(serve(listener, None, routes::metrics(Arc::clone(&app)), None, stopping));
        address
    });

    let mut upkeep = JoinSet::new();
    for certificate in [public_certificate, internal_certificate].into_iter().flatten() {
        upkeep.spawn(certificate.watch());
    }
    spawn_upkeep(&mut upkeep, &app, trail);
    tracing::info!(issuer = app.config.issuer, %public_addr, %internal_addr, "auth service started");
    Ok(Running { public_addr, internal_addr, metrics_addr, app, stop, serving, upkeep })
}

fn assemble(
    config: Config,
    parts: Parts,
    stopping: watch::Receiver<bool>,
) -> Result<(Shared, TrailWriter), StartError> {
    let Parts { clock, random, store } = parts;
    let store = match (store, &config.store) {
        (Some(store), _) => store,
        (None, StoreConfig::Memory) => Arc::new(MemoryStore::new(clock.clone())),
        (None, StoreConfig::Redis(redis)) => Arc::new(RedisStore::new(redis)?),
    };
    let mut keys: Vec<Vec<u8>> =
        config.signing.encryption_key_files.iter().map(|file| read(file)).collect::<Result<_, _>>()?;
    if keys.is_empty() {
        // A store in this process dies with it, and so may the key.
        keys.push(random.bytes::<32>().to_vec());
    }
    let schedule = Schedule {
        rotation: config.signing.rotation_seconds,
        lead: config.signing.lead_seconds,
        // ID tokens are among what is signed; a policy's JWT lives an hour at most.
        keep: config.tokens.id_token_seconds.max(config.tokens.gateway_jwt_seconds).max(3600) + 60,
    };
    let ring = KeyRing::new(Sealer::new(&keys)?, config.signing.algorithm, schedule, clock.clone(), random.clone());
    let authenticator = Authenticator::new(&config, admin_token(&config)?, clock.clone())?;
    let foreign = Issuers::new(&config.token_issuers, &clock).map_err(StartError::TokenIssuer)?;
    let passwords = PasswordPool::new(&config.passwords, random.clone())?;
    let providers = Providers::new(&config.providers, &config.issuer, &clock);
    let look = theme::load(&config.theme)?;
    let messages = Messages::load(config.messages.folder.as_deref(), &config.scopes)?;
    let replica = random.reference();
    let (trail, writer) = Trail::new(clock.clone());
    let app = App {
        config,
        store,
        clock,
        random,
        registry: Registry::default(),
        ring,
        authenticator,
        foreign,
        hub: Hub::new(),
        passwords,
        backchannel: Backchannel::new()?,
        providers,
        metrics: Metrics::new(),
        look,
        messages,
        trail,
        refusals: Refusals::default(),
        replica,
        stopping,
    };
    Ok((Arc::new(app), writer))
}

fn admin_token(config: &Config) -> Result<Option<Zeroizing<String>>, StartError> {
    if let Some(token) = &config.admin.token {
        return Ok(Some(Zeroizing::new(token.0.clone())));
    }
    let Some(path) = &config.admin.token_file else { return Ok(None) };
    let text = String::from_utf8_lossy(&read(path)?).trim().to_owned();
    if text.len() < 20 {
        return Err(ConfigError::Invalid("admin.token_file: at least 20 characters".to_owned()).into());
    }
    Ok(Some(Zeroizing::new(text)))
}

fn read(path: &Path) -> Result<Vec<u8>, StartError> {
    std::fs::read(path).map_err(|error| StartError::File { file: path.display().to_string(), error })
}

async fn bind(listener: &Listener, port: u16) -> Result<(TcpListener, SocketAddr), StartError> {
    listen(listener.listen.unwrap_or_else(|| SocketAddr::from(([0u16; 8], port)))).await
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |error| StartError::Listen { address, error };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

fn spawn_upkeep(tasks: &mut JoinSet<()>, app: &Shared, trail: TrailWriter) {
    let trails = Arc::clone(app);
    tasks.spawn(async move { trail.run(trails.store()).await });
    let hub = Arc::clone(app);
    tasks.spawn(async move { hub.hub.run(hub.store(), &hub.registry, &hub.replica, &hub.clock).await });
    let marks = Arc::clone(app);
    tasks.spawn(async move { receipt::publish_changes(&marks.hub, marks.store(), &marks.replica, &marks.clock).await });
    let keys = Arc::clone(app);
    tasks.spawn(async move { keep_keys(&keys).await });
    let seeds = Arc::clone(app);
    tasks.spawn(async move { reseal_seeds(&seeds).await });
    let recovery = Arc::clone(app);
    tasks.spawn(async move { recover(&recovery).await });
}

/// Rotates on time, and follows what other replicas do.
async fn keep_keys(app: &App) {
    let mut changes = app.hub.keys_changes();
    loop {
        if let Err(error) = app.ring.refresh(app.store()).await {
            tracing::warn!(%error, "signing keys");
        }
        let pause = if app.ring.is_loaded() { UPKEEP } else { EAGER };
        let _ = tokio::time::timeout(pause, changes.changed()).await;
    }
}

/// Once, as soon as the store answers: a key is changed by a restart.
async fn reseal_seeds(app: &App) {
    loop {
        match reseal::seeds(app).await {
            Ok(0) => return,
            Ok(count) => return tracing::info!(count, "seeds sealed anew under the current encryption key"),
            Err(error) => tracing::warn!(%error, "seeds could not be sealed anew"),
        }
        tokio::time::sleep(UPKEEP).await;
    }
}

/// Finishes revocations that a replica began and did not live to finish; looks at the registry in case an event was missed.
async fn recover(app: &App) {
    let mut advised = false;
    loop {
        if !advised && let Ok(advice) = app.store().advice().await {
            advised = true;
            for sentence in advice {
                tracing::warn!(advice = sentence, "the store could lose what was acknowledged");
            }
        }
        tokio::time::sleep(UPKEEP).await;
        match app.store().recover().await {
            Ok(0) => {}
            Ok(count) => tracing::warn!(count, "revocations of another process finished"),
            Err(error) => tracing::debug!(%error, "nothing to be finished could be looked for"),
        }
        if let Err(error) = app.registry.reload(app.store()).await {
            tracing::debug!(%error, "the registry could not be read");
        }
    }
}

impl Running {
    /// Everything that endpoints share, for whoever runs in the same process.
    pub fn app(&self) -> &App {
        &self.app
    }

    /// Waits until the service can sign: the store has answered once.
    pub async fn ready(&self) {
        while !self.app.ring.is_loaded() || self.app.hub.last_touch() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Stops accepting, ends event streams, finishes requests.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        let finish = async { while self.serving.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(GRACE + Duration::from_secs(1), finish).await;
        self.upkeep.shutdown().await;
        tracing::info!("auth service stopped");
    }
}
