//! The sidecar, in this process: the same proxy with the same client of the auth service as in a pod.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use cloakroom_protocol::sidecar_config::SidecarConfig;
use cloakroom_sidecar::auth_client::workload_token::TokenSource;
use cloakroom_sidecar::auth_client::{AuthClient, Setup};
use cloakroom_sidecar::clock::unix_now;
use cloakroom_sidecar::config::{CurrentPolicy, Policy};
use cloakroom_sidecar::control::Control;
use cloakroom_sidecar::listen::{self, Listen, Phase, Workers};
use cloakroom_sidecar::metrics::Metrics;
use cloakroom_sidecar::token_cache::Bounds;
use cloakroom_sidecar::worker::Runtime;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::runtime::Handle;
use tokio::sync::watch;

/// What is under way when it ends may take so long.
const GRACE: Duration = Duration::from_secs(1);

pub(crate) const POD: &str = "local-0";

pub(crate) struct Sidecar {
    policy: Arc<CurrentPolicy>,
    client: Arc<AuthClient>,
    phase: watch::Sender<Phase>,
    workers: Workers,
}

impl Sidecar {
    pub(crate) fn start(
        config: SidecarConfig,
        listen: SocketAddr,
        app_port: u16,
        workload_token: String,
        rng: &mut StdRng,
    ) -> Result<Self> {
        let policy = Arc::new(CurrentPolicy::empty());
        let metrics = Arc::<Metrics>::default();
        let client = AuthClient::start(Setup {
            policy: Arc::clone(&policy),
            metrics: Arc::clone(&metrics),
            workload: TokenSource::Fixed(workload_token),
            sidecar: POD.to_owned(),
            runtime: Handle::current(),
            bounds: Bounds::default(),
        });
        let control = Control::new(
            Arc::clone(&client),
            Arc::clone(&policy),
            Arc::clone(&metrics),
            // No operator asks for a proof here.
            PathBuf::from("/nonexistent"),
            POD.to_owned(),
            StdRng::from_rng(rng),
        );
        let runtime = Runtime {
            policy: Arc::clone(&policy),
            authority: Arc::new(control),
            metrics,
            clock: || unix_now().as_secs(),
        };
        let (phase, phases) = watch::channel(Phase::Serving);
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let listens = [Listen { address: listen, app_port }];
        let workers = listen::serve(&listens, workers, &runtime, &phases, rng.random())
            .with_context(|| format!("the sidecar on {listen}"))?;
        let sidecar = Self { policy, client, phase, workers };
        sidecar.put_in_force(config)?;
        Ok(sidecar)
    }

    pub(crate) fn put_in_force(&self, config: SidecarConfig) -> Result<()> {
        let new = Arc::new(Policy::compile(config)?);
        let old = self.policy.swap(Some(Arc::clone(&new)));
        self.client.policy_changed(old.as_deref(), &new);
        Ok(())
    }

    /// Whether revocations arrive, so that answers may be cached.
    pub(crate) fn is_connected(&self) -> bool {
        self.client.status().lease_live
    }

    pub(crate) async fn stop(self) {
        self.phase.send_replace(Phase::Draining);
        let joined = tokio::task::spawn_blocking(|| self.workers.join());
        tokio::pin!(joined);
        if tokio::time::timeout(GRACE, &mut joined).await.is_err() {
            self.phase.send_replace(Phase::Ending);
            let _ = tokio::time::timeout(GRACE, joined).await;
        }
    }
}
