//! Requests that this service makes: bounded in time and size, redirects not followed.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

const WITHIN: Duration = Duration::from_secs(5);
const MAX_BODY: usize = 1 << 20;

/// Sends a request and reads the whole answer. The CA is read each time: it changes while we run. Without one, the system's roots.
pub async fn send(request: Request<Full<Bytes>>, ca_file: Option<&Path>) -> Result<Response<Bytes>, String> {
    let url = request.uri().clone();
    let failed = |what: &dyn std::fmt::Display| format!("{url}: {what}");
    let tls = crate::tls::client_config(ca_file).map_err(|error| failed(&error))?;
    let connector =
        hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
    let client = Client::builder(TokioExecutor::new()).build(connector);
    let answer = async {
        let response = client.request(request).await.map_err(|error| failed(&error))?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, MAX_BODY).collect().await.map_err(|error| failed(&error))?;
        Ok(Response::from_parts(parts, body.to_bytes()))
    };
    tokio::time::timeout(WITHIN, answer).await.map_err(|_| failed(&"no answer in time"))?
}

/// `Bearer …` from a file, read again each time: kubelet rotates it.
pub async fn bearer_of(file: &Path) -> Result<String, String> {
    let token = tokio::fs::read_to_string(file).await.map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(format!("Bearer {}", token.trim()))
}
