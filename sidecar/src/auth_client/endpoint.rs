//! Where the auth service is, and how it proves to be that.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use cloakroom_protocol::sidecar_config::AuthService;
use http::Uri;
use http::uri::{Authority, Parts, PathAndQuery, Scheme};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

#[derive(Clone)]
pub struct Endpoint {
    /// `Host`, as the internal URL has it.
    pub authority: Authority,
    /// Never empty; tried in turn.
    pub addresses: Vec<SocketAddr>,
    /// Absent with plain http, which is for loopback only.
    pub tls: Option<Tls>,
    ca: Option<String>,
}

#[derive(Clone)]
pub struct Tls {
    pub config: Arc<ClientConfig>,
    pub server_name: ServerName<'static>,
}

#[derive(Debug, thiserror::Error)]
pub enum InvalidEndpoint {
    #[error("internal_url {0:?} is not https://host[:port]")]
    Url(String),
    #[error("no addresses, and the URL's host is a name, which is not looked up")]
    NoAddress,
    #[error("plain http is for loopback addresses only")]
    PlainHttp,
    #[error("https needs the CA that signed the auth service's certificate")]
    NoCa,
    #[error("CA: {0}")]
    Ca(String),
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

impl Endpoint {
    pub fn parse(config: &AuthService) -> Result<Self, InvalidEndpoint> {
        let wrong = || InvalidEndpoint::Url(config.internal_url.clone());
        let uri: Uri = config.internal_url.parse().map_err(|_| wrong())?;
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@')).ok_or_else(wrong)?;
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(wrong());
        }
        let secure = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(wrong()),
        };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let addresses = addresses(config, host, authority.port_u16().unwrap_or(if secure { 443 } else { 80 }))?;
        let tls = if secure {
            let server_name = ServerName::try_from(host.to_owned()).map_err(|_| wrong())?;
            let ca = config.ca.as_deref().ok_or(InvalidEndpoint::NoCa)?;
            Some(Tls { config: Arc::new(client_config(ca)?), server_name })
        } else {
            let local = addresses.iter().all(|address| address.ip().is_loopback());
            if !local {
                return Err(InvalidEndpoint::PlainHttp);
            }
            None
        };
        Ok(Self { authority: authority.clone(), addresses, tls, ca: config.ca.clone() })
    }

    /// Without parsing anything again.
    pub fn uri(&self, path: PathAndQuery) -> Option<Uri> {
        let scheme = if self.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
        let mut parts = Parts::default();
        (parts.scheme, parts.authority, parts.path_and_query) =
            (Some(scheme), Some(self.authority.clone()), Some(path));
        Uri::from_parts(parts).ok()
    }

    fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// Whether connections to `other` are as good as to this one.
    pub fn same_target(&self, other: &Self) -> bool {
        self.same_service(other) && self.addresses == other.addresses
    }

    /// Whether it is the same auth service, wherever its replicas are now.
    pub fn same_service(&self, other: &Self) -> bool {
        self.authority == other.authority && self.scheme() == other.scheme() && self.ca == other.ca
    }
}

fn addresses(config: &AuthService, host: &str, port: u16) -> Result<Vec<SocketAddr>, InvalidEndpoint> {
    if !config.addresses.is_empty() {
        return Ok(config.addresses.clone());
    }
    let ip: IpAddr = host.parse().map_err(|_| InvalidEndpoint::NoAddress)?;
    Ok(vec![SocketAddr::new(ip, port)])
}

fn client_config(ca: &str) -> Result<ClientConfig, InvalidEndpoint> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        let certificate = certificate.map_err(|error| InvalidEndpoint::Ca(error.to_string()))?;
        roots.add(certificate)?;
    }
    if roots.is_empty() {
        return Err(InvalidEndpoint::Ca("no certificate in it".to_owned()));
    }
    let mut config = ClientConfig::builder_with_provider(crypto_provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// The process's provider if it chose one (local mode runs the auth service in the same process), else ring.
pub fn crypto_provider() -> Arc<rustls::crypto::CryptoProvider> {
    rustls::crypto::CryptoProvider::get_default()
        .cloned()
        .unwrap_or_else(|| Arc::new(rustls::crypto::ring::default_provider()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(url: &str, addresses: &[&str], ca: Option<&str>) -> AuthService {
        AuthService {
            internal_url: url.into(),
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
            ca: ca.map(Into::into),
            issuer: "https://auth.example.com".into(),
        }
    }

    #[test]
    fn plain_http_is_for_loopback_only() {
        assert!(Endpoint::parse(&service("http://127.0.0.1:9443", &[], None)).is_ok());
        assert!(Endpoint::parse(&service("http://[::1]:9443", &[], None)).is_ok());
        for (url, addresses) in [
            ("http://10.0.0.1:9443", &[][..]),
            ("http://127.0.0.1:9443", &["10.0.0.1:9443"][..]),
            ("http://auth:9443", &["127.0.0.1:1", "10.0.0.1:1"][..]),
        ] {
            assert!(
                matches!(Endpoint::parse(&service(url, addresses, None)), Err(InvalidEndpoint::PlainHttp)),
                "{url}"
            );
        }
    }

    #[test]
    fn https_needs_a_ca_and_an_address() {
        let address = ["10.0.0.1:9443"];
        assert!(matches!(Endpoint::parse(&service("https://auth:9443", &address, None)), Err(InvalidEndpoint::NoCa)));
        assert!(matches!(
            Endpoint::parse(&service("https://auth:9443", &[], Some(""))),
            Err(InvalidEndpoint::NoAddress)
        ));
        for ca in ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert!(Endpoint::parse(&service("https://auth:9443", &address, Some(ca))).is_err(), "{ca}");
        }
    }

    #[test]
    fn a_url_is_scheme_host_and_port() {
        for url in
            ["", "auth:9443", "ftp://127.0.0.1", "http://127.0.0.1/x", "http://127.0.0.1/?a", "http://u@127.0.0.1/"]
        {
            assert!(Endpoint::parse(&service(url, &[], None)).is_err(), "{url}");
        }
    }
}
