//! A certificate with its key, ready to speak TLS with.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring::Ticketer;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;

use super::not_after::not_after;
use crate::auth_client::endpoint::crypto_provider;

pub const ALPN_HTTP2: &[u8] = b"h2";
pub const ALPN_HTTP1: &[u8] = b"http/1.1";

pub struct Pair {
    pub server: Arc<ServerConfig>,
    /// Unix seconds.
    pub not_after: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum InvalidPair {
    #[error("the certificate is not PEM: {0}")]
    Certificate(pem::Error),
    #[error("there is no certificate")]
    NoCertificate,
    #[error("the certificate does not say when it ends")]
    NotAfter,
    // Not a word of what is in there.
    #[error("there is no private key in PEM, which is PKCS #8, PKCS #1 or SEC 1 without a password")]
    Key,
    #[error("certificate and key: {0}")]
    Refused(#[from] rustls::Error),
}

impl Pair {
    /// PEM, as in a Secret of type `kubernetes.io/tls`: the server's own certificate first, then those that vouch for it.
    pub fn parse(certificates: &[u8], key: &[u8]) -> Result<Self, InvalidPair> {
        let chain = CertificateDer::pem_slice_iter(certificates).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(InvalidPair::Certificate)?;
        let not_after = not_after(chain.first().ok_or(InvalidPair::NoCertificate)?).ok_or(InvalidPair::NotAfter)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| InvalidPair::Key)?;
        // TLS 1.3 and 1.2; a key that is not the certificate's is refused here.
        let mut server = ServerConfig::builder_with_provider(crypto_provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        server.alpn_protocols = vec![ALPN_HTTP2.to_vec(), ALPN_HTTP1.to_vec()];
        // Whoever comes back brings the session along: none is kept here, whoever left.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.ticketer = Ticketer::new()?;
        // Data before the handshake's end could be sent again by anybody who saw them (RFC 8470).
        server.max_early_data_size = 0;
        Ok(Self { server: Arc::new(server), not_after })
    }
}

#[cfg(test)]
pub mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    /// Certificate and key for `localhost`, ending 2035-06-07.
    pub fn localhost() -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2035, 6, 7);
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    #[test]
    fn a_pair_is_ready_for_both_versions_of_http_and_says_when_it_ends() {
        let (certificate, key) = localhost();
        let pair = Pair::parse(certificate.as_bytes(), key.as_bytes()).unwrap();
        assert_eq!(pair.ends(), "2035-06-07T00:00:00.000Z");
        assert_eq!(pair.server.alpn_protocols, [ALPN_HTTP2, ALPN_HTTP1]);
    }

    #[test]
    fn what_is_no_pair_is_refused_without_a_word_of_the_key() {
        let (certificate, key) = localhost();
        let (_, other_key) = localhost();
        let refused = |certificate: &str, key: &str| {
            Pair::parse(certificate.as_bytes(), key.as_bytes()).err().expect("refused").to_string()
        };
        assert!(refused(&certificate, &other_key).contains("certificate and key"));
        assert!(refused("", &key).contains("no certificate"));
        assert!(refused(&key, &key).contains("no certificate"));
        let junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(refused(junk, &key).contains("when it ends"));
        assert!(refused(&certificate[..certificate.len() - 30], &key).contains("not PEM"));
        for broken in [&key[..key.len() - 30], "", &key.replace('M', "!"), &certificate] {
            let sentence = refused(&certificate, broken);
            assert!(sentence.contains("no private key") && !sentence.contains("BEGIN"), "{sentence}");
        }
    }
}
