//! Requests to a provider: bounded in time and size, redirects not followed, and never in the clear.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use openidconnect::{AsyncHttpClient, HttpRequest, HttpResponse};

use crate::clock::Clock;
use crate::config::is_confidential;
use crate::outgoing::Connections;

/// Of an answer: keys and claims are far smaller.
const MAX_BODY: usize = 1 << 20;

#[derive(Clone)]
pub(super) struct Wire {
    /// Only for an issuer on this machine.
    plain: bool,
    connections: Arc<Connections>,
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct WireError(String);

impl Wire {
    pub(super) fn new(issuer: &str, ca_file: Option<PathBuf>, clock: Clock) -> Self {
        let connections = Arc::new(Connections::new(ca_file, MAX_BODY, clock));
        Self { plain: issuer.starts_with("http://"), connections }
    }

    /// Whether an address that the provider names may be used: a discovery document must not lead off TLS.
    pub(super) fn may_call(&self, url: &str) -> bool {
        is_confidential(url) && (self.plain || url.starts_with("https://"))
    }

    pub(super) async fn send(&self, request: HttpRequest) -> Result<Response<Bytes>, WireError> {
        let url = request.uri().to_string();
        if !self.may_call(&url) {
            return Err(WireError(format!("{url}: https is needed")));
        }
        let request = request.map(|body| Full::new(Bytes::from(body)));
        let answer = self.connections.send(request).await.map_err(WireError)?;
        if answer.status().is_server_error() {
            return Err(WireError(format!("{url}: {}", answer.status())));
        }
        Ok(answer)
    }
}

impl<'c> AsyncHttpClient<'c> for Wire {
    type Error = WireError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, WireError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(async move { Ok(self.send(request).await?.map(|body| body.to_vec())) })
    }
}
