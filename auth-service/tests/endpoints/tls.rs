//! HTTPS on both ports: HTTP/1.1 and HTTP/2, and a certificate that is renewed while we run.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;

use crate::harness::Service;

struct Files {
    directory: PathBuf,
}

impl Files {
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("cloakroom-tls-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn write(&self, issuer: &Issuer) {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, issuer).unwrap();
        std::fs::write(self.path("cert"), certificate.pem()).unwrap();
        std::fs::write(self.path("key"), key.serialize_pem()).unwrap();
    }

    fn config(&self) -> Value {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        json!({"listen": "127.0.0.1:0", "tls": {"cert": text(&self.path("cert")), "key": text(&self.path("key"))}})
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn issuer() -> Issuer {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// The protocol agreed on, the certificate shown and what `GET /` answers.
async fn ask(
    address: std::net::SocketAddr,
    root: &CertificateDer<'static>,
    alpn: &[u8],
) -> std::io::Result<(CertificateDer<'static>, String)> {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    let stream = tokio::net::TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    let mut tls = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    let (_, session) = tls.get_ref();
    assert_eq!(session.alpn_protocol(), Some(alpn));
    let certificate = session.peer_certificates().unwrap()[0].clone().into_owned();
    if alpn == b"h2" {
        tls.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await?;
        let mut settings = [0; 9];
        tls.read_exact(&mut settings).await?;
        return Ok((certificate, format!("frame type {}", settings[3])));
    }
    tls.write_all(b"GET /internal/v1/jwks HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
    let mut answer = Vec::new();
    let _ = tls.read_to_end(&mut answer).await;
    Ok((certificate, String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned()))
}

#[tokio::test]
async fn both_versions_of_http_are_spoken_and_a_renewed_certificate_is_shown_without_a_restart() {
    let (files, issuer) = (Files::new("renewal"), issuer());
    files.write(&issuer);
    let service = Service::start_as(|config| config["internal"] = files.config(), None).await;
    let (address, root) = (service.running.internal_addr, issuer.der().clone());
    let (before, answer) = ask(address, &root, b"http/1.1").await.unwrap();
    assert_eq!(answer, "HTTP/1.1 200 OK");
    let (_, frame) = ask(address, &root, b"h2").await.unwrap();
    assert_eq!(frame, "frame type 4", "SETTINGS");

    // Half-way through a renewal: the pair does not fit, the old one stays.
    std::fs::write(files.path("key"), "not a key").unwrap();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(ask(address, &root, b"http/1.1").await.unwrap().0, before);
    files.write(&issuer);
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_ne!(ask(address, &root, b"http/1.1").await.unwrap().0, before);
}

#[tokio::test]
async fn without_tls_the_internal_port_is_for_this_machine_only() {
    let config = json!({"issuer": "http://localhost:1", "internal": {"listen": "0.0.0.0:0"}}).to_string();
    let refused = cloakroom_auth_service::Config::parse(&config, "test", std::iter::empty());
    assert!(refused.unwrap_err().to_string().contains("internal.tls"));
}
