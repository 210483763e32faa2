//! `cloakroom local`: auth service, sidecar and sample app in one process, under one AuthPolicy, without a cluster.

mod auth_service;
mod demo;
mod policy;
mod ports;
mod ready;
mod sidecar;
mod tls;
mod workload_issuer;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use cloakroom_auth_service::random::Random;
use cloakroom_operator::policy::Compiled;
use cloakroom_protocol::internal_api;
use cloakroom_protocol::registration::Registered;
use cloakroom_sidecar::clock::unix_now;
use cloakroom_sidecar::tls::files::TlsFiles;
use rand::SeedableRng;
use rand::rngs::StdRng;
use reqwest::Method;
use tokio::net::{TcpListener, TcpStream};

use crate::admin_api::AdminApi;
use crate::sample_app;
use auth_service::AuthService;
use ports::{PortArguments, Ports};
use ready::Ready;
use sidecar::Sidecar;
use tls::TlsArguments;
use workload_issuer::WorkloadIssuer;

/// An editor's save is noticed within it.
const POLL: Duration = Duration::from_millis(200);

#[derive(clap::Args)]
pub(crate) struct Local {
    /// The policy's YAML file, followed while this runs; without it, a policy with one rule of each kind
    #[arg(short, long = "filename", value_name = "FILE")]
    file: Option<PathBuf>,
    /// The app to protect, on this machine; without it, a sample app
    #[arg(long, env = "CLOAKROOM_UPSTREAM", value_name = "127.0.0.1:PORT")]
    upstream: Option<String>,
    /// Keep sessions in this Redis, e.g. <redis://127.0.0.1:6379>, instead of in memory
    #[arg(long, env = "CLOAKROOM_REDIS", hide_env_values = true, value_name = "URL")]
    redis: Option<String>,
    /// More of the auth service's configuration, as YAML: providers, theme, limits and so on
    #[arg(long, env = "CLOAKROOM_LOCAL_AUTH_CONFIG", value_name = "FILE")]
    auth_config: Option<PathBuf>,
    /// Write addresses and credentials there, as JSON, once everything answers
    #[arg(long, env = "CLOAKROOM_READY_FILE", value_name = "FILE")]
    ready_file: Option<PathBuf>,
    #[command(flatten)]
    tls: TlsArguments,
    #[command(flatten)]
    ports: PortArguments,
}

impl Local {
    pub(crate) async fn run(self, shutdown: impl Future<Output = ()>) -> Result<()> {
        tokio::pin!(shutdown);
        let ports = self.ports.settle()?;
        let upstream = self.upstream.as_deref().map(upstream_port).transpose()?;
        let compiled = policy::load(self.file.as_deref(), &ports)?;
        let tls = self.tls.settle(&compiled)?;
        if let Some(file) = &self.ready_file {
            // Of an earlier run: whoever waits for the file must not read that.
            ready::forget(file)?;
        }

        let starting = self.start(&ports, upstream, &compiled, tls);
        let (auth_service, sidecar) = tokio::select! {
            started = starting => started?,
            () = &mut shutdown => return Ok(()),
        };
        tokio::select! {
            () = follow(self.file.as_deref(), &ports, &compiled, &auth_service.operator, &sidecar) => {}
            () = shutdown => {}
        }
        sidecar.stop().await;
        auth_service.stop().await;
        Ok(())
    }

    async fn start(
        &self,
        ports: &Ports,
        upstream: Option<u16>,
        compiled: &Compiled,
        tls: Option<TlsFiles>,
    ) -> Result<(AuthService, Sidecar)> {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let random = Random::system()?;
        let mut rng = random.with(StdRng::from_rng);
        let issuer = WorkloadIssuer::generate()?;
        let http = reqwest::Client::builder().no_proxy().build()?;
        let auth_service =
            AuthService::start(ports, self.redis.as_deref(), self.auth_config.as_deref(), &issuer, &random, &http)
                .await?;
        register(&auth_service.operator, compiled).await?;
        let scopes = policy::scopes(compiled);
        let demo = demo::set_up(&auth_service, &compiled.registration.audience, &scopes, &mut rng).await?;

        let app_port = match upstream {
            Some(port) => port,
            None => start_sample_app().await?,
        };
        let namespace = compiled.config.policy.namespace();
        let workload = issuer.token(namespace, "default", sidecar::POD, unix_now().as_secs())?;
        let sidecar = Sidecar::start(compiled.config.clone(), ports, app_port, workload, tls)?;

        let ready = Ready {
            app_url: format!("{scheme}://{}", ports.app),
            auth_url: ports.issuer(),
            internal_url: format!("http://{}", ports.internal),
            admin_token: auth_service.admin_token.clone(),
            username: demo.username,
            password: demo.password,
            passkey_link: demo.passkey_link,
            client_id: demo.client_id,
            client_secret: demo.client_secret,
            api_key: demo.api_key,
            policy: compiled.config.policy.to_string(),
        };
        ready::answers(&http, &format!("{}/.well-known/openid-configuration", ready.auth_url)).await?;
        ready::until("the sidecar's connection to the auth service", || sidecar.is_connected()).await?;
        TcpStream::connect(ports.app).await.context("the protected port")?;
        ready.print(&format!("http://{}", ports.health), self.upstream.as_deref());
        if let Some(file) = &self.ready_file {
            ready.write(file)?;
        }
        Ok((auth_service, sidecar))
    }
}

/// The sidecar forwards to this machine only, here as in a pod.
fn upstream_port(text: &str) -> Result<u16> {
    let text = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    let (host, port) =
        text.rsplit_once(':').with_context(|| format!("--upstream {text}: expected 127.0.0.1:<port>"))?;
    ensure!(matches!(host, "127.0.0.1" | "localhost"), "--upstream {text}: the app must be on 127.0.0.1, as in a pod");
    port.parse().ok().filter(|port| *port != 0).with_context(|| format!("--upstream {text}: {port:?} is not a port"))
}

async fn start_sample_app() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").await.context("the sample app")?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        if let Err(error) = sample_app::serve(listener).await {
            complain!("the sample app ended: {error}");
        }
    });
    Ok(port)
}

async fn register(operator: &AdminApi, compiled: &Compiled) -> Result<()> {
    let policy = &compiled.config.policy;
    let path = format!("{}/{policy}", internal_api::POLICIES);
    let registered = operator.send::<Registered>(Method::PUT, &path, &compiled.registration).await;
    registered.with_context(|| format!("registering {policy}"))?;
    Ok(())
}

/// Puts the policy file's changes in force, and says what is wrong with those that are not.
async fn follow(file: Option<&Path>, ports: &Ports, first: &Compiled, operator: &AdminApi, sidecar: &Sidecar) {
    let Some(file) = file.filter(|file| *file != Path::new("-")) else {
        return std::future::pending().await;
    };
    let mut seen = std::fs::read(file).ok();
    loop {
        tokio::time::sleep(POLL).await;
        // An editor may have taken the file away for a moment.
        let Ok(now) = std::fs::read(file) else { continue };
        if seen.as_ref() == Some(&now) {
            continue;
        }
        seen = Some(now);
        match change(file, ports, first, operator, sidecar).await {
            Ok(()) => say!("{} is in force", file.display()),
            Err(error) => complain!("not in force, the policy stays as it was: {}", crate::sentence(&error)),
        }
    }
}

async fn change(file: &Path, ports: &Ports, first: &Compiled, operator: &AdminApi, sidecar: &Sidecar) -> Result<()> {
    let compiled = policy::load(Some(file), ports)?;
    let (old, new) = (&first.registration, &compiled.registration);
    if (&old.policy, &old.audience) != (&new.policy, &new.audience) {
        bail!("name and audience stay as they were at the start, since user, client and key were made for them");
    }
    if first.policy.tls.is_some() != compiled.policy.tls.is_some() {
        bail!("`tls` stays as it was at the start: start anew to change it");
    }
    register(operator, &compiled).await?;
    sidecar.put_in_force(compiled.config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_is_a_port_of_this_machine() {
        assert_eq!(upstream_port("127.0.0.1:3000").unwrap(), 3000);
        assert_eq!(upstream_port("http://localhost:3000/").unwrap(), 3000);
        for wrong in ["3000", "10.0.0.1:80", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:99999", "https://127.0.0.1:1"] {
            assert!(upstream_port(wrong).is_err(), "{wrong}");
        }
    }
}
