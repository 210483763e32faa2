use std::process::ExitCode;

use cloakroom_sidecar::args::{self, Command, USAGE};
use cloakroom_sidecar::from_inside;
use cloakroom_sidecar::intercept::intercept;
use cloakroom_sidecar::start::{GRACE, Options, Sidecar, StartError};
use cloakroom_sidecar::{limits, log};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    // Another default would be one that a workspace-wide build brought along.
    let _ = rustls::crypto::ring::default_provider().install_default();
    limits::raise_open_files();
    let environment = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    // A kernel without IPv6 refuses the address family itself.
    let ipv6 = std::net::UdpSocket::bind("[::]:0").is_ok();
    let failed = match args::parse(std::env::args().skip(1), &environment, ipv6) {
        Ok(Command::Serve { options, level }) => {
            log::set_level(level);
            serve(*options).map_err(|error| error.to_string())
        }
        Ok(Command::Intercept(ports)) => intercept(&ports).map_err(|error| error.to_string()),
        Ok(Command::Leave(admin)) => {
            from_inside::leave(&admin).map_err(|error| format!("the sidecar was not told to leave: {error}"))
        }
        Ok(Command::LogLevel(admin, level)) => {
            let answer = from_inside::log_level(&admin, level);
            answer.map_err(|error| format!("the sidecar's log level: {error}")).and_then(|level| print(&level))
        }
        Ok(Command::Version) => print(concat!("cloakroom-sidecar ", env!("CARGO_PKG_VERSION"), "\n")),
        Ok(Command::Help) => print(USAGE),
        Err(error) => {
            eprintln!("cloakroom-sidecar: {error}");
            return ExitCode::from(2);
        }
    };
    match failed {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cloakroom-sidecar: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(options: Options) -> Result<(), StartError> {
    let running = Sidecar::start(options)?;
    let waiting = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let name = waiting.block_on(wait())?;
    drop(waiting);
    log::info("draining", &[("signal", &name)]);
    running.stop(GRACE);
    log::info("ended", &[]);
    Ok(())
}

/// SIGHUP means nothing here: the config is followed by itself.
async fn wait() -> std::io::Result<&'static str> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok("SIGTERM"),
            _ = interrupt.recv() => return Ok("SIGINT"),
            _ = hangup.recv() => {}
        }
    }
}

fn print(text: &str) -> Result<(), String> {
    use std::io::Write as _;
    std::io::stdout().write_all(text.as_bytes()).map_err(|error| error.to_string())
}
