//! `cloakroom-operator`.

use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use anyhow::Context as _;
use clap::Parser;
use cloakroom_operator::args::Args;
use cloakroom_operator::context::{Context, Memory};
use cloakroom_operator::registration::AuthService;
use cloakroom_operator::{leader, telemetry};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::runtime::events::{Recorder, Reporter};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    telemetry::init_logs(&args.log);
    match run(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "ended");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> anyhow::Result<()> {
    // A workspace build unifies features, so that rustls may have two providers and choose none.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        anyhow::bail!("a TLS provider was installed before ours");
    }
    let client = Client::try_default().await.context("no way to the API server")?;
    let metrics = telemetry::Metrics::default();
    let reporter = Reporter { controller: "cloakroom-operator".into(), instance: Some(args.pod_name.clone()) };
    let context = Arc::new(Context {
        recorder: Recorder::new(client.clone(), reporter),
        client,
        auth_service: AuthService { token_file: args.token_file.clone() },
        metrics: metrics.clone(),
        clock: Timestamp::now,
        random: Mutex::new(rand::make_rng()),
        memory: Mutex::new(Memory::default()),
        args: args.clone(),
    });
    let (stop, stopped) = watch::channel(false);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let leader = leader::lead(context, stopped);
    tokio::pin!(leader);
    loop {
        tokio::select! {
            ended = &mut leader => return ended,
            served = telemetry::serve(args.listen, metrics.clone()) => served.context("health and metrics")?,
            _ = terminate.recv() => drop(stop.send_replace(true)),
            _ = interrupt.recv() => drop(stop.send_replace(true)),
        }
    }
}
