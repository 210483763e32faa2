//! Bytes in, bytes out: for what no HTTP library would send.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use url::Url;

const PATIENCE: Duration = Duration::from_secs(10);

/// Sends a request that asks for the connection's end, and returns everything that comes back.
pub async fn exchange(url: &str, request: &str) -> Result<String> {
    let url: Url = url.parse()?;
    let (host, port) = (url.host_str().context("no host")?, url.port_or_known_default().context("no port")?);
    let mut stream = TcpStream::connect((host, port)).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    // Some answers end in a reset: what came before it counts.
    if let Err(elapsed) = read {
        return Err(elapsed).context(format!("no end after {:?}", String::from_utf8_lossy(&answer)));
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
