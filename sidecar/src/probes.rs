//! Replays an app's declared probe against localhost, with kubelet's rules for what counts as success.

pub mod grpc;
pub mod http;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use cloakroom_protocol::injected::{Probe, ProbeAction};
use tokio::net::TcpStream;
use tokio::time::timeout;

#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error("the app did not answer within {0} s")]
    Timeout(u64),
    #[error("cannot connect to the app: {0}")]
    Connect(io::Error),
    #[error("connection to the app: {0}")]
    Io(#[from] io::Error),
    #[error("the app answered {0}")]
    Status(u16),
    #[error("the app redirects without end")]
    Redirects,
    #[error("the app's answer is not HTTP")]
    NotHttp,
    #[error("the probe's header {0:?} cannot be sent")]
    Header(String),
    #[error("gRPC: {0}")]
    Grpc(String),
}

/// `host`: as whoever probes named us; the app expects its own port there.
pub async fn replay(probe: &Probe, host: Option<&str>) -> Result<(), ProbeError> {
    let seconds = probe.timeout_seconds.max(1);
    let replayed = async {
        match &probe.action {
            ProbeAction::Tcp => connect(probe.port).await.map(drop),
            ProbeAction::Http { tls, path, headers } => {
                http::get(&http::Target { port: probe.port, tls: *tls, path, headers, host }).await
            }
            ProbeAction::Grpc { service } => grpc::check(probe.port, service).await,
        }
    };
    timeout(Duration::from_secs(seconds), replayed).await.map_err(|_| ProbeError::Timeout(seconds))?
}

/// Apps that bind to one family only are probed too.
async fn connect(port: u16) -> Result<TcpStream, ProbeError> {
    let addresses =
        [SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port), SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port)];
    match TcpStream::connect(addresses[0]).await {
        Ok(stream) => Ok(stream),
        Err(error) => TcpStream::connect(addresses[1]).await.map_err(|_| ProbeError::Connect(error)),
    }
}

#[cfg(test)]
mod tests;
