//! What `cloakroom-sidecar` tells the sidecar that runs in the same pod, over its port 15020: in an image with nothing else in it, nothing
//! else could.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::log::Level;

const TIMEOUT: Duration = Duration::from_secs(2);

/// `leave`: the sidecar's preStop hook runs it as soon as its pod is deleted. Blocks, like all of these.
pub fn leave(admin: &[SocketAddr]) -> io::Result<()> {
    ask(admin, "PUT /leave", "").map(drop)
}

/// `log-level`: changes it, if there is one to change to; what it is then, and a line's end.
pub fn log_level(admin: &[SocketAddr], level: Option<Level>) -> io::Result<String> {
    match level {
        Some(level) => ask(admin, "PUT /log-level", &level.to_string()),
        None => ask(admin, "GET /log-level", ""),
    }
}

/// The body of what is answered at the first address that takes the connection.
fn ask(admin: &[SocketAddr], what: &str, body: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(admin)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let length = body.len();
    write!(stream, "{what} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}")?;
    let mut answer = String::new();
    stream.take(4096).read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200 ") => Ok(body.to_owned()),
        _ => Err(io::Error::other(format!("it answered {:?}", answer.lines().next().unwrap_or_default()))),
    }
}
