//! Who this pod is: the projected service-account token, read again as kubelet rotates it.

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::HeaderValue;
use tokio::time::Instant;

/// Kubelet renews at four fifths of a life of at least ten minutes.
const READ_AGAIN: Duration = Duration::from_secs(20);
const MAX_BYTES: u64 = 16 << 10;

#[derive(Clone)]
pub enum TokenSource {
    File(PathBuf),
    /// Without a cluster.
    Fixed(String),
}

pub struct WorkloadToken {
    source: TokenSource,
    read: Mutex<Option<(HeaderValue, Instant)>>,
}

#[derive(Debug, thiserror::Error)]
pub enum NoWorkloadToken {
    #[error("workload token: {0}")]
    Io(#[from] std::io::Error),
    #[error("workload token: not one line of visible ASCII")]
    Malformed,
}

impl WorkloadToken {
    pub fn new(source: TokenSource) -> Self {
        Self { source, read: Mutex::default() }
    }

    /// The `Authorization` header. Not marked sensitive: HPACK may index it, since whoever could measure the compression of this
    /// connection cannot add headers to it (RFC 7541 §7.1), and a kilobyte a request is saved.
    pub fn authorization(&self, now: Instant) -> Result<HeaderValue, NoWorkloadToken> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((value, at)) = &*read
            && now.saturating_duration_since(*at) < READ_AGAIN
        {
            return Ok(value.clone());
        }
        let value = header(&self.text()?)?;
        *read = Some((value.clone(), now));
        Ok(value)
    }

    /// It was refused: perhaps the file has a newer one.
    pub fn read_again(&self) {
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn text(&self) -> Result<String, NoWorkloadToken> {
        match &self.source {
            TokenSource::Fixed(text) => Ok(text.clone()),
            TokenSource::File(path) => {
                let mut text = String::new();
                File::open(path)?.take(MAX_BYTES).read_to_string(&mut text)?;
                Ok(text)
            }
        }
    }
}

fn header(text: &str) -> Result<HeaderValue, NoWorkloadToken> {
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(NoWorkloadToken::Malformed);
    }
    HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| NoWorkloadToken::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotated_file_is_read_again() {
        let path = std::env::temp_dir().join(format!("cloakroom-token-{}", std::process::id()));
        std::fs::write(&path, "first\n").unwrap();
        let token = WorkloadToken::new(TokenSource::File(path.clone()));
        let now = Instant::now();
        assert_eq!(token.authorization(now).unwrap(), "Bearer first");
        std::fs::write(&path, "second").unwrap();
        assert_eq!(token.authorization(now + Duration::from_secs(19)).unwrap(), "Bearer first");
        assert_eq!(token.authorization(now + Duration::from_secs(20)).unwrap(), "Bearer second");
        std::fs::write(&path, "third").unwrap();
        token.read_again();
        assert_eq!(token.authorization(now + Duration::from_secs(21)).unwrap(), "Bearer third");
        std::fs::write(&path, "").unwrap();
        token.read_again();
        assert!(token.authorization(now).is_err());
        std::fs::remove_file(&path).unwrap();
        assert!(token.authorization(now).is_err());
    }
}
