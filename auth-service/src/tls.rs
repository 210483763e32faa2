//! Certificates: the server's own, read again when the files change, and the roots that clients trust.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::TlsFiles;

/// How soon a renewed certificate is in use.
const LOOK_EVERY: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{file}: {error}")]
    File { file: String, error: String },
    #[error("TLS: {0}")]
    Setup(String),
}

/// The certificate in force.
#[derive(Debug)]
pub struct Certificate {
    files: TlsFiles,
    current: ArcSwap<CertifiedKey>,
}

impl Certificate {
    pub fn load(files: &TlsFiles) -> Result<Arc<Self>, TlsError> {
        let (_, key) = read(files)?;
        Ok(Arc::new(Self { files: files.clone(), current: ArcSwap::from_pointee(key) }))
    }

    /// Looks for changes for ever. A pair that does not fit together, as while the files are being replaced, leaves the old one in force.
    pub async fn watch(self: Arc<Self>) {
        let mut seen = None;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let files = self.files.clone();
            let Ok(result) = tokio::task::spawn_blocking(move || read(&files)).await else { continue };
            match result {
                Ok((pem, _)) if seen.as_ref() == Some(&pem) => {}
                Ok((pem, key)) => {
                    if seen.is_some() {
                        tracing::info!(file = %self.files.cert.display(), "certificate renewed");
                    }
                    seen = Some(pem);
                    self.current.store(Arc::new(key));
                }
                Err(error) => tracing::warn!(%error, "certificate not renewed; the old one stays in force"),
            }
        }
    }

    /// HTTP/2 and HTTP/1.1.
    pub fn server_config(self: &Arc<Self>) -> ServerConfig {
        let resolver = Arc::clone(self) as Arc<dyn ResolvesServerCert>;
        let mut config = ServerConfig::builder().with_no_client_auth().with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

fn read(files: &TlsFiles) -> Result<(Vec<u8>, CertifiedKey), TlsError> {
    let failed = |path: &Path, error: &dyn std::fmt::Display| TlsError::File {
        file: path.display().to_string(),
        error: error.to_string(),
    };
    let mut pem = std::fs::read(&files.cert).map_err(|error| failed(&files.cert, &error))?;
    let chain = certificates(&pem).map_err(|error| failed(&files.cert, &error))?;
    let key_pem = std::fs::read(&files.key).map_err(|error| failed(&files.key, &error))?;
    let key = PrivateKeyDer::from_pem_slice(&key_pem).map_err(|error| failed(&files.key, &error))?;
    let provider = CryptoProvider::get_default().ok_or_else(|| TlsError::Setup("no crypto provider".to_owned()))?;
    let certified = CertifiedKey::from_der(chain, key, provider).map_err(|error| failed(&files.cert, &error))?;
    pem.extend(key_pem);
    Ok((pem, certified))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|error| error.to_string())?;
    if chain.is_empty() { Err("no certificate in it".to_owned()) } else { Ok(chain) }
}

/// What we trust when we call others: the given CA, or the system's roots.
pub fn client_config(ca_file: Option<&Path>) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = ca_file {
        let failed = |error: &dyn std::fmt::Display| TlsError::File {
            file: path.display().to_string(),
            error: error.to_string(),
        };
        let pem = std::fs::read(path).map_err(|error| failed(&error))?;
        for certificate in certificates(&pem).map_err(|error| failed(&error))? {
            roots.add(certificate).map_err(|error| failed(&error))?;
        }
    } else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    Ok(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}
