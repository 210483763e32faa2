//! The ports of this process, all on loopback.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Context, Result, bail};

/// Where everything listens
#[derive(clap::Args)]
pub(crate) struct PortArguments {
    /// Port of the protected app; 0 takes any free one
    #[arg(long = "app-port", env = "CLOAKROOM_APP_PORT", default_value_t = 8000, value_name = "PORT")]
    app: u16,
    /// Port of the auth service's pages and OAuth endpoints
    #[arg(long = "auth-port", env = "CLOAKROOM_AUTH_PORT", default_value_t = 8001, value_name = "PORT")]
    auth: u16,
    /// Port of the auth service's internal and admin API
    #[arg(long = "internal-port", env = "CLOAKROOM_INTERNAL_PORT", default_value_t = 8002, value_name = "PORT")]
    internal: u16,
    /// Port of the sidecar's health, metrics and JWKS
    #[arg(long = "health-port", env = "CLOAKROOM_HEALTH_PORT", default_value_t = 0, value_name = "PORT")]
    health: u16,
}

#[derive(Clone, Copy)]
pub(crate) struct Ports {
    pub(crate) app: SocketAddr,
    pub(crate) auth: SocketAddr,
    pub(crate) internal: SocketAddr,
    pub(crate) health: SocketAddr,
}

impl PortArguments {
    /// Finds out which are free before anything is started: listeners that share their port with others would not notice.
    pub(crate) fn settle(&self) -> Result<Ports> {
        let wanted = [
            ("--app-port", self.app),
            ("--auth-port", self.auth),
            ("--internal-port", self.internal),
            ("--health-port", self.health),
        ];
        // Held until all are known, so that no two get the same.
        let held = wanted.into_iter().map(|(flag, port)| hold(flag, port)).collect::<Result<Vec<_>>>()?;
        let mut addresses = held.iter().map(TcpListener::local_addr);
        let mut next = || addresses.next().context("as many addresses as listeners")?.map_err(anyhow::Error::from);
        Ok(Ports { app: next()?, auth: next()?, internal: next()?, health: next()? })
    }
}

fn hold(flag: &str, port: u16) -> Result<TcpListener> {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            bail!("port {port} is in use: choose another with {flag}, where 0 takes any free one")
        }
        Err(error) => Err(error).with_context(|| format!("{flag} {port}")),
    }
}
