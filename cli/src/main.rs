//! `cloakroom`, and `kubectl cloakroom` where it is found under the name `kubectl-cloakroom`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

#[macro_use]
mod output;

mod admin_api;
mod check;
mod inject;
mod local;
mod policy_file;
mod sample_app;
mod sessions;
mod shutdown;
mod users;

/// Opaque tokens outside, short-lived JWTs inside
#[derive(Parser)]
#[command(name = "cloakroom", version, propagate_version = true)]
struct Cloakroom {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Try a policy without a cluster: auth service, sidecar and a sample app in one process
    Local(local::Local),
    /// Say what a policy comes to, or why it would be refused
    Check(check::Check),
    /// Print the admission policies by which the API server injects the sidecar
    Inject(inject::Inject),
    /// Create, list and delete users of the auth service
    Users(users::Users),
    /// See and end sessions
    Sessions(sessions::Sessions),
    /// Run only the sample app, with nothing in front of it
    SampleApp(sample_app::SampleApp),
}

fn main() -> ExitCode {
    let command = Cloakroom::parse().command;
    // Features of both providers are compiled in, so that none is the default by itself.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let filter = EnvFilter::try_from_env("CLOAKROOM_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let ran = tokio::runtime::Runtime::new().map_err(Into::into).and_then(|runtime| {
        let ran = runtime.block_on(run(command));
        // Connections that are still open must not hold up the end.
        runtime.shutdown_background();
        ran
    });
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain!("error: {}", sentence(&error));
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Local(local) => local.run(shutdown::requested()?).await,
        Command::Check(check) => check.run(),
        Command::Inject(inject) => inject.run(),
        Command::Users(users) => users.run().await,
        Command::Sessions(sessions) => sessions.run().await,
        Command::SampleApp(app) => app.run(shutdown::requested()?).await,
    }
}

/// The whole chain, without causes that their effect has already told.
fn sentence(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cause_is_told_twice() {
        let error = anyhow::anyhow!("no such file").context("policy.yaml: no such file").context("reading");
        assert_eq!(sentence(&error), "reading: policy.yaml: no such file");
    }
}
