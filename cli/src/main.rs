//! `cloakroom`, and `kubectl cloakroom` where it is found under the name `kubectl-cloakroom`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod sample_app;
mod shutdown;

/// Opaque tokens outside, short-lived JWTs inside
#[derive(Parser)]
#[command(name = "cloakroom", version, propagate_version = true)]
struct Cloakroom {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run only the sample app, with nothing in front of it
    SampleApp(sample_app::SampleApp),
}

fn main() -> ExitCode {
    let command = Cloakroom::parse().command;
    let ran = tokio::runtime::Runtime::new().map_err(Into::into).and_then(|runtime| {
        let ran = runtime.block_on(run(command));
        // Connections that are still open must not hold up the end.
        runtime.shutdown_background();
        ran
    });
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::SampleApp(app) => app.run(shutdown::requested()?).await,
    }
}
