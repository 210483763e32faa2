//! The sidecar, in this process: the same proxy with the same client of the auth service as in a pod.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use cloakroom_protocol::sidecar_config::SidecarConfig;
use cloakroom_sidecar::auth_client::workload_token::TokenSource;
use cloakroom_sidecar::listen::Listen;
use cloakroom_sidecar::start::{ConfigSource, Options, Running};
use cloakroom_sidecar::tls::files::TlsFiles;

use super::ports::Ports;

/// What is under way when it ends may take so long.
const GRACE: Duration = Duration::from_secs(1);

pub(crate) const POD: &str = "local-0";

pub(crate) struct Sidecar(Running);

impl Sidecar {
    pub(crate) fn start(
        config: SidecarConfig,
        ports: &Ports,
        app_port: u16,
        workload_token: String,
        tls: Option<TlsFiles>,
    ) -> Result<Self> {
        cloakroom_sidecar::limits::raise_open_files();
        let running = cloakroom_sidecar::start::Sidecar::start(Options {
            config: ConfigSource::InMemory(Box::new(config)),
            listens: vec![Listen { address: ports.app, app_port }],
            admin: Some(ports.health),
            workload_token: TokenSource::Fixed(workload_token),
            // No operator asks for a proof here.
            proof_key_file: PathBuf::from("/nonexistent"),
            tls,
            pod_uid: POD.to_owned(),
            probes: Vec::new(),
            workers: cloakroom_sidecar::limits::workers(),
            memory: cloakroom_sidecar::limits::memory(),
        })?;
        Ok(Self(running))
    }

    pub(crate) fn put_in_force(&self, config: SidecarConfig) -> Result<()> {
        Ok(self.0.set_config(config)?)
    }

    /// Whether revocations arrive, so that answers may be cached.
    pub(crate) fn is_connected(&self) -> bool {
        self.0.status().lease_live
    }

    pub(crate) async fn stop(self) {
        let _ = tokio::task::spawn_blocking(|| self.0.stop(GRACE)).await;
    }
}
