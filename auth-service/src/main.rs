//! `cloakroom-auth-service --config <file>`

use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use cloakroom_auth_service::messages::Messages;
use cloakroom_auth_service::{Config, start};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Sign-in, sessions, OAuth 2.1, introspection and revocation for Cloakroom.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// YAML or JSON; `CLOAKROOM_AUTH__SECTION__FIELD` in the environment wins over it.
    #[arg(long, env = "CLOAKROOM_AUTH_CONFIG", default_value = "/etc/cloakroom/auth/config.yaml")]
    config: PathBuf,
    /// Reads the configuration, says what is wrong with it, and exits.
    #[arg(long)]
    check: bool,
    /// As in `RUST_LOG`.
    #[arg(long, env = "CLOAKROOM_AUTH_LOG", default_value = "info")]
    log: String,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_new(&arguments.log).context("--log")?;
    tracing_subscriber::fmt().json().flatten_event(true).with_env_filter(filter).with_writer(std::io::stdout).init();
    let config = Config::load(&arguments.config, std::env::vars()).context("configuration")?;
    if arguments.check {
        Messages::load(config.messages.folder.as_deref(), &config.scopes).context("messages")?;
        return Ok(());
    }
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run(config))
}

async fn run(config: Config) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let running = start(config).await?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    running.stop().await;
    Ok(())
}
