//! The operator's calls to the auth service: which policies there are, and which credentials.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cloakroom_protocol::internal_api::{POLICIES, Problem};
use cloakroom_protocol::policy_ref::PolicyRef;
use cloakroom_protocol::registration::PolicyRegistration;
use cloakroom_protocol::sidecar_config;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde::Serialize;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const TIMEOUT: Duration = Duration::from_secs(4);
const MAX_ANSWER: usize = 64 << 10;

/// How the operator shows the auth service who it is.
pub struct AuthService {
    pub token_file: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum RegistrationError {
    /// It never will be, as it is: an audience or origin that another namespace holds, or a value that is not acceptable.
    #[error("{0}")]
    Refused(String),
    /// It was revoked, and does not come back.
    #[error("{0}")]
    Gone(String),
    #[error("the auth service does not answer: {0}")]
    Unreachable(String),
    #[error("the auth service answered {status}: {detail}")]
    Failed { status: u16, detail: String },
}

impl AuthService {
    /// Idempotent.
    pub async fn register(
        &self,
        target: &sidecar_config::AuthService,
        registration: &PolicyRegistration,
    ) -> Result<(), RegistrationError> {
        self.put(target, &path_of(&registration.policy), registration).await
    }

    /// Idempotent: what is not there counts as removed.
    pub async fn remove(
        &self,
        target: &sidecar_config::AuthService,
        policy: &PolicyRef,
    ) -> Result<(), RegistrationError> {
        self.delete(target, &path_of(policy)).await
    }

    /// Registers something as it should be. Idempotent.
    pub(crate) async fn put(
        &self,
        target: &sidecar_config::AuthService,
        path: &str,
        wanted: &impl Serialize,
    ) -> Result<(), RegistrationError> {
        // A struct of strings and numbers: nothing in it can fail to serialise.
        let body = serde_json::to_vec(wanted).unwrap_or_default();
        let (status, detail) = self.call(target, Method::PUT, path, body).await?;
        match status {
            StatusCode::CONFLICT | StatusCode::UNPROCESSABLE_ENTITY => Err(RegistrationError::Refused(detail)),
            StatusCode::GONE => Err(RegistrationError::Gone(detail)),
            status if status.is_success() => Ok(()),
            status => Err(RegistrationError::Failed { status: status.as_u16(), detail }),
        }
    }

    /// Idempotent: what is not there counts as removed.
    pub(crate) async fn delete(
        &self,
        target: &sidecar_config::AuthService,
        path: &str,
    ) -> Result<(), RegistrationError> {
        let (status, detail) = self.call(target, Method::DELETE, path, Vec::new()).await?;
        if status.is_success() || status == StatusCode::NOT_FOUND {
            return Ok(());
        }
        Err(RegistrationError::Failed { status: status.as_u16(), detail })
    }

    async fn call(
        &self,
        target: &sidecar_config::AuthService,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<(StatusCode, String), RegistrationError> {
        let call = self.exchange(target, method, path, body);
        match tokio::time::timeout(TIMEOUT, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(RegistrationError::Unreachable(error.to_string())),
            Err(_) => Err(RegistrationError::Unreachable(format!("nothing within {} s", TIMEOUT.as_secs()))),
        }
    }

    async fn exchange(
        &self,
        target: &sidecar_config::AuthService,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> anyhow::Result<(StatusCode, String)> {
        let host = target.internal_url.trim_start_matches("https://").to_owned();
        let name = host.split(':').next().unwrap_or_default().to_owned();
        // kubelet renews the file: it is read for each call.
        let token = tokio::fs::read_to_string(&self.token_file).await?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", host)
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {}", token.trim()))
            .body(Full::new(Bytes::from(body)))?;
        let tcp = connect(&target.addresses).await?;
        let tls = TlsConnector::from(tls_config(target.ca.as_deref().unwrap_or_default())?);
        let stream = tls.connect(ServerName::try_from(name)?, tcp).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let response = sender.send_request(request).await?;
        let status = response.status();
        let answer =
            Limited::new(response.into_body(), MAX_ANSWER).collect().await.map(http_body_util::Collected::to_bytes);
        connection.abort();
        let answer = answer.unwrap_or_default();
        let problem: Option<Problem> = serde_json::from_slice(&answer).ok();
        let detail = problem.map(|problem| problem.detail.unwrap_or(problem.title));
        Ok((status, detail.unwrap_or_else(|| status.to_string())))
    }
}

fn path_of(policy: &PolicyRef) -> String {
    format!("{POLICIES}/{}/{}", policy.namespace(), policy.name())
}

/// The first address that answers.
async fn connect(addresses: &[SocketAddr]) -> anyhow::Result<TcpStream> {
    let mut last = anyhow::anyhow!("its Service has no address yet");
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = anyhow::anyhow!("{address}: {error}"),
        }
    }
    Err(last)
}

fn tls_config(ca: &str) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        roots.add(certificate?)?;
    }
    Ok(Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()))
}
