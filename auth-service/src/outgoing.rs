//! Requests that this service makes: bounded in time and size, redirects not followed.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use crate::clock::Clock;
use crate::tls::TlsError;

const WITHIN: Duration = Duration::from_secs(5);
const MAX_BODY: usize = 1 << 20;

/// With certificates as old as this, connections are made anew: a CA changes while we run.
const CLIENT_SECONDS: u64 = 300;

type Https = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Sends a request and reads the whole answer. The CA is read each time: it changes while we run. Without one, the system's roots.
pub async fn send(request: Request<Full<Bytes>>, ca_file: Option<&Path>) -> Result<Response<Bytes>, String> {
    let client = client(ca_file).map_err(|error| format!("{}: {error}", request.uri()))?;
    exchange(&client, request, MAX_BODY).await
}

/// Kept open to one server that is asked often.
pub struct Connections {
    ca_file: Option<PathBuf>,
    max_body: usize,
    clock: Clock,
    /// And when it was made, Unix seconds.
    client: Mutex<Option<(Https, u64)>>,
}

impl Connections {
    pub fn new(ca_file: Option<PathBuf>, max_body: usize, clock: Clock) -> Self {
        Self { ca_file, max_body, clock, client: Mutex::default() }
    }

    pub async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, String> {
        let client = self.client().map_err(|error| format!("{}: {error}", request.uri()))?;
        exchange(&client, request, self.max_body).await
    }

    fn client(&self) -> Result<Https, TlsError> {
        let now = self.clock.seconds();
        let mut held = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((client, made)) = &*held
            && now < made + CLIENT_SECONDS
        {
            return Ok(client.clone());
        }
        let client = client(self.ca_file.as_deref())?;
        *held = Some((client.clone(), now));
        Ok(client)
    }
}

fn client(ca_file: Option<&Path>) -> Result<Https, TlsError> {
    let tls = crate::tls::client_config(ca_file)?;
    let connector =
        hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
    Ok(Client::builder(TokioExecutor::new()).build(connector))
}

async fn exchange(client: &Https, request: Request<Full<Bytes>>, max_body: usize) -> Result<Response<Bytes>, String> {
    let url = request.uri().clone();
    let failed = |what: &dyn std::fmt::Display| format!("{url}: {what}");
    let answer = async {
        let response = client.request(request).await.map_err(|error| failed(&error))?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, max_body).collect().await.map_err(|error| failed(&error))?;
        Ok(Response::from_parts(parts, body.to_bytes()))
    };
    tokio::time::timeout(WITHIN, answer).await.map_err(|_| failed(&"no answer in time"))?
}

/// `Bearer …` from a file, read again each time: kubelet rotates it.
pub async fn bearer_of(file: &Path) -> Result<String, String> {
    let token = tokio::fs::read_to_string(file).await.map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(format!("Bearer {}", token.trim()))
}
