//! A whole sidecar in one value: the binary runs one, tests and local mode run one beside others in their process.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use cloakroom_protocol::injected::Probe;
use cloakroom_protocol::sidecar_config::SidecarConfig;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use crate::admin::{self, Admin};
use crate::auth_client::workload_token::TokenSource;
use crate::auth_client::{AuthClient, Setup, Status};
use crate::config::file::{self, ConfigFileError};
use crate::config::{CurrentPolicy, InvalidConfig, Policy};
use crate::control::Control;
use crate::listen::{self, Listen, Phase, Workers};
use crate::log;
use crate::metrics::Metrics;
use crate::tls::Certificates;
use crate::tls::files::{self, TlsFiles};
use crate::worker::Runtime;
use crate::{clock, limits};

pub struct Options {
    pub config: ConfigSource,
    pub listens: Vec<Listen>,
    /// Health, metrics, probes, JWKS.
    pub admin: Option<SocketAddr>,
    pub workload_token: TokenSource,
    pub proof_key_file: PathBuf,
    /// What the protected ports present; absent: they speak plain HTTP.
    pub tls: Option<TlsFiles>,
    /// Names this sidecar to the operator (proof) and to the auth service (receipts).
    pub pod_uid: String,
    pub probes: Vec<Probe>,
    pub workers: usize,
    /// Bytes that the process may take.
    pub memory: usize,
}

pub enum ConfigSource {
    /// Followed as it changes; until there is a valid one, everything is denied.
    File(PathBuf),
    InMemory(Box<SidecarConfig>),
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{0}")]
    Config(#[from] InvalidConfig),
    #[error("cannot listen on {address}: {error}")]
    Admin { address: SocketAddr, error: io::Error },
    #[error("cannot listen on the protected ports: {0}")]
    Listen(io::Error),
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
    #[error("no randomness: {0}")]
    Randomness(String),
}

/// Requests in flight get this long when the process has to end; Kubernetes gives 30 s by default.
pub const GRACE: Duration = Duration::from_secs(25);

pub struct Sidecar;

/// Ends when dropped, without grace; [`Running::stop`] is kinder.
pub struct Running {
    phase: watch::Sender<Phase>,
    workers: Option<Workers>,
    control: Option<JoinHandle<()>>,
    client: Arc<AuthClient>,
    policy: Arc<CurrentPolicy>,
    runtime: Handle,
    end: Option<oneshot::Sender<()>>,
    admin: Option<SocketAddr>,
}

/// Why no newer config is in force, if that is so.
pub type Refused = ArcSwapOption<String>;

impl Sidecar {
    /// Returns once every port is bound.
    pub fn start(options: Options) -> Result<Running, StartError> {
        let mut rng =
            StdRng::try_from_rng(&mut rand::rngs::SysRng).map_err(|e| StartError::Randomness(e.to_string()))?;
        let seed = rng.random();
        let policy = Arc::new(CurrentPolicy::empty());
        let metrics = Arc::<Metrics>::default();
        let refused = Arc::new(Refused::empty());
        let (phase, phases) = watch::channel(Phase::Serving);
        let (end, ended) = oneshot::channel();
        let admin_socket = options.admin.map(bind_admin).transpose()?;
        let admin = admin_socket.as_ref().and_then(|socket| socket.local_addr().ok());
        let (runtime, control) = control_thread(ended)?;
        let client = AuthClient::start(Setup {
            policy: policy.clone(),
            metrics: metrics.clone(),
            workload: options.workload_token,
            sidecar: options.pod_uid.clone(),
            runtime: runtime.clone(),
            bounds: limits::cache_bounds(options.memory),
        });
        let mut running = Running {
            phase,
            workers: None,
            control: Some(control),
            client: client.clone(),
            policy: policy.clone(),
            runtime: runtime.clone(),
            end: Some(end),
            admin,
        };
        let keeper = ConfigKeeper {
            policy: policy.clone(),
            client: client.clone(),
            metrics: metrics.clone(),
            refused: refused.clone(),
        };
        match options.config {
            ConfigSource::InMemory(config) => keeper.put_in_force(Policy::compile(*config)?),
            ConfigSource::File(path) => {
                // What is there already is in force before the first request.
                let mut follower = file::Follower::new(path);
                if let Some(found) = follower.look() {
                    keeper.found(found);
                }
                runtime.spawn(follower.follow(move |found| keeper.found(found)));
            }
        }
        let certificates = options.tls.map(|files| follow_certificates(files, &metrics, &runtime));
        if let Some(socket) = admin_socket {
            let admin = Admin {
                client: client.clone(),
                policy: policy.clone(),
                metrics: metrics.clone(),
                refused,
                certificates: certificates.clone(),
                phase: running.phase.clone(),
                probes: options.probes,
                pod_uid: options.pod_uid.clone(),
            };
            runtime.spawn(admin::serve(socket, Arc::new(admin)));
        }
        let authority =
            Control::new(client, policy.clone(), metrics.clone(), options.proof_key_file, options.pod_uid, rng);
        let serving = Runtime {
            policy,
            authority: Arc::new(authority),
            metrics,
            clock: || clock::unix_now().as_secs(),
            room: limits::room(options.memory, options.workers, certificates.is_some()),
            certificates,
        };
        let workers =
            listen::serve(&options.listens, options.workers, &serving, &phases, seed).map_err(StartError::Listen)?;
        running.workers = Some(workers);
        Ok(running)
    }
}

impl Running {
    /// Where port 15020's contents are.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Connection, event stream and cache.
    pub fn status(&self) -> Status {
        self.client.status()
    }

    /// In place of the one in memory.
    pub fn set_config(&self, config: SidecarConfig) -> Result<(), InvalidConfig> {
        swap(&self.policy, &self.client, Policy::compile(config)?);
        Ok(())
    }

    /// Takes no more connections, lets requests end for as long as `grace`, then returns. Blocks.
    pub fn stop(mut self, grace: Duration) {
        self.phase.send_replace(Phase::Draining);
        if let Some(workers) = self.workers.take() {
            let phase = self.phase.clone();
            let deadline = Instant::now() + grace;
            self.runtime.spawn(async move {
                tokio::time::sleep_until(deadline.into()).await;
                phase.send_replace(Phase::Ending);
            });
            workers.join();
        }
        let client = self.client.clone();
        let (reported, wait) = std::sync::mpsc::channel();
        self.runtime.spawn(async move {
            client.report_last_usage().await;
            // Whoever waited may have gone.
            let _ = reported.send(());
        });
        let _ = wait.recv_timeout(Duration::from_secs(1));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.phase.send_replace(Phase::Ending);
        if let Some(workers) = self.workers.take() {
            workers.join();
        }
        if let Some(end) = self.end.take() {
            // It may have ended by itself.
            let _ = end.send(());
        }
        if let Some(control) = self.control.take() {
            let _ = control.join();
        }
    }
}

struct ConfigKeeper {
    policy: Arc<CurrentPolicy>,
    client: Arc<AuthClient>,
    metrics: Arc<Metrics>,
    refused: Arc<Refused>,
}

impl ConfigKeeper {
    fn found(&self, found: Result<Policy, ConfigFileError>) {
        match found {
            Ok(policy) => self.put_in_force(policy),
            Err(error) => {
                self.metrics.config_refusals.inc();
                let before = self.policy.load();
                let in_force = before.as_ref().map_or("none: everything is denied", |policy| policy.revision.as_str());
                log::error("config refused", &[("error", &error), ("in_force", &in_force)]);
                self.refused.store(Some(Arc::new(error.to_string())));
            }
        }
    }

    fn put_in_force(&self, policy: Policy) {
        self.refused.store(None);
        let policy = swap(&self.policy, &self.client, policy);
        self.metrics.config_loads.inc();
        log::info("config in force", &[("policy", &policy.policy), ("revision", &policy.revision)]);
    }
}

/// What is there already is presented from the first connection on.
fn follow_certificates(files: TlsFiles, metrics: &Arc<Metrics>, runtime: &Handle) -> Arc<Certificates> {
    let certificates = Arc::<Certificates>::default();
    let mut follower = files::Follower::new(files);
    if let Some(found) = follower.look() {
        certificates.found(found, metrics);
    }
    let (kept, metrics) = (certificates.clone(), metrics.clone());
    runtime.spawn(follower.follow(move |found| kept.found(found, &metrics)));
    certificates
}

/// One thread for everything that is not a request's way; it runs what workers hand over, too.
fn control_thread(ended: oneshot::Receiver<()>) -> io::Result<(Handle, JoinHandle<()>)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let thread = thread::Builder::new().name("control".to_owned()).spawn(move || {
        // Dropped without a word means the same.
        let _ = runtime.block_on(ended);
        runtime.shutdown_background();
    })?;
    Ok((handle, thread))
}

fn bind_admin(address: SocketAddr) -> Result<TcpListener, StartError> {
    let bind = || {
        let socket = TcpListener::bind(address)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    };
    bind().map_err(|error| StartError::Admin { address, error })
}

/// Puts a policy in the place of the one in force.
fn swap(current: &CurrentPolicy, client: &AuthClient, mut policy: Policy) -> Arc<Policy> {
    if let Some(before) = &*current.load() {
        policy.continue_counts(before);
    }
    let policy = Arc::new(policy);
    let before = current.swap(Some(policy.clone()));
    client.policy_changed(before.as_deref(), &policy);
    policy
}

#[cfg(test)]
mod tests;
