//! HTTP and HTTPS probes. Certificates are not verified, as kubelet does not: it asks whether the app lives, not who it is.

use std::fmt::Write as _;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, IpAddr, Ipv4Addr, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::{ProbeError, connect};
use crate::auth_client::endpoint::crypto_provider;

const MAX_HEAD: usize = 32 << 10;
/// As kubelet's HTTP client.
const MAX_REDIRECTS: usize = 10;

pub struct Target<'t> {
    pub port: u16,
    pub tls: bool,
    pub path: &'t str,
    pub headers: &'t [(String, String)],
    pub host: Option<&'t str>,
}

/// 2xx and 3xx are success (Kubernetes, "Configure Liveness, Readiness and Startup Probes"); redirects on the same host are followed.
pub async fn get(target: &Target<'_>) -> Result<(), ProbeError> {
    let mut path = origin_form(target.path);
    for _ in 0..=MAX_REDIRECTS {
        let (status, location) = once(target, &path).await?;
        match location.filter(|_| (300..400).contains(&status)) {
            Some(location) => match same_host(&location, target, &path) {
                Some(next) => path = next,
                None => return Ok(()),
            },
            None if (200..400).contains(&status) => return Ok(()),
            None => return Err(ProbeError::Status(status)),
        }
    }
    Err(ProbeError::Redirects)
}

async fn once(target: &Target<'_>, path: &str) -> Result<(u16, Option<String>), ProbeError> {
    let request = request(target, path)?;
    let tcp = connect(target.port).await?;
    if !target.tls {
        return exchange(tcp, &request).await;
    }
    let name = ServerName::IpAddress(IpAddr::V4(Ipv4Addr::from([127, 0, 0, 1])));
    exchange(tokio_rustls::TlsConnector::from(unverified()?).connect(name, tcp).await?, &request).await
}

fn request(target: &Target<'_>, path: &str) -> Result<String, ProbeError> {
    let mut request = format!("GET {path} HTTP/1.1\r\n");
    let has = |wanted: &str| target.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(wanted));
    if !has("host") {
        let _ = write!(request, "Host: {}\r\n", host(target));
    }
    if !has("user-agent") {
        request.push_str("User-Agent: kube-probe/cloakroom\r\n");
    }
    if !has("accept") {
        request.push_str("Accept: */*\r\n");
    }
    for (name, value) in target.headers {
        let wrong = || ProbeError::Header(name.clone());
        HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
        HeaderValue::from_str(value).map_err(|_| wrong())?;
        let _ = write!(request, "{name}: {value}\r\n");
    }
    request.push_str("Connection: close\r\n\r\n");
    Ok(request)
}

/// The pod's own address with the app's port: what kubelet would have sent.
fn host(target: &Target<'_>) -> String {
    let good =
        |host: &&str| !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.:[]".contains(&b));
    let host = target.host.filter(good).map_or("127.0.0.1", without_port);
    format!("{host}:{}", target.port)
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => name,
        _ => host,
    }
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &str,
) -> Result<(u16, Option<String>), ProbeError> {
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut bytes = Vec::with_capacity(1024);
    loop {
        if stream.read_buf(&mut bytes).await? == 0 || bytes.len() > MAX_HEAD {
            return Err(ProbeError::NotHttp);
        }
        let mut headers = [httparse::EMPTY_HEADER; 128];
        let mut response = httparse::Response::new(&mut headers);
        if response.parse(&bytes).map_err(|_| ProbeError::NotHttp)?.is_complete() {
            let location = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("location"));
            let location = location.map(|header| String::from_utf8_lossy(header.value).into_owned());
            return Ok((response.code.ok_or(ProbeError::NotHttp)?, location));
        }
    }
}

/// Where to go on, if it is still this app. A redirect to elsewhere is success, as for kubelet.
fn same_host(location: &str, target: &Target<'_>, path: &str) -> Option<String> {
    let scheme = if target.tls { "https://" } else { "http://" };
    if let Some(rest) = location.strip_prefix(scheme) {
        let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        return (authority == host(target)).then(|| origin_form(rest));
    }
    if location.contains("://") || location.starts_with("//") {
        return None;
    }
    if location.starts_with('/') {
        return Some(origin_form(location));
    }
    let directory = path.split('?').next().unwrap_or_default().rsplit_once('/').map_or("", |(directory, _)| directory);
    Some(origin_form(&format!("{directory}/{location}")))
}

/// Without its fragment, and with whatever a request line cannot hold percent-encoded.
fn origin_form(path: &str) -> String {
    let path = path.split('#').next().unwrap_or_default();
    let mut out = String::with_capacity(path.len() + 1);
    if !path.starts_with('/') {
        out.push('/');
    }
    for byte in path.bytes() {
        if byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

fn unverified() -> Result<Arc<ClientConfig>, ProbeError> {
    let config = ClientConfig::builder_with_provider(crypto_provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| ProbeError::Io(std::io::Error::other(error)))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        crypto_provider().signature_verification_algorithms.supported_schemes()
    }
}
