//! TLS to Redis, with a CA of its own and client certificates.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use super::*;
use crate::config::TlsFiles;

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Of the same name as what it issues, it would pass for a certificate that signed itself.
        params.distinguished_name.push(DnType::CommonName, "CA of the tests");
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Writes `<name>.crt` and `<name>.key`.
    fn issue(&self, folder: &std::path::Path, name: &str) -> TlsFiles {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let files = TlsFiles { cert: folder.join(format!("{name}.crt")), key: folder.join(format!("{name}.key")) };
        std::fs::write(&files.cert, certificate.pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }
}

#[tokio::test]
async fn redis_is_spoken_to_over_tls_by_its_own_ca_and_with_a_client_certificate() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let folder = std::env::temp_dir().join(format!("cloakroom-redis-tls-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (authority, stranger) = (Authority::new(), Authority::new());
    let ca_file = folder.join("ca.crt");
    std::fs::write(&ca_file, authority.0.pem()).unwrap();
    let strange_ca = folder.join("strange-ca.crt");
    std::fs::write(&strange_ca, stranger.0.pem()).unwrap();
    let (server, client) = (authority.issue(&folder, "server"), authority.issue(&folder, "client"));
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let path = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let (cert, key, ca) = (path(&server.cert), path(&server.key), path(&ca_file));
    let arguments = ["--tls-port", &port, "--tls-cert-file", &cert, "--tls-key-file", &key, "--tls-ca-cert-file", &ca];
    let Some(redis) = Server::start(&arguments) else { return };
    redis.until_up().await;
    let with = |ca_file: &std::path::Path, client_tls: Option<TlsFiles>| RedisConfig {
        ca_file: Some(ca_file.to_owned()),
        client_tls,
        ..config(vec![format!("rediss://127.0.0.1:{port}")], Topology::Single)
    };
    let works = async |config: RedisConfig| {
        let store = RedisStore::new(&config).unwrap();
        store.create(&Key::new("session", Instant::now().elapsed().as_nanos()), fields(), None).await.is_ok()
    };
    assert!(works(with(&ca_file, Some(client.clone()))).await);
    assert!(!works(with(&strange_ca, Some(client))).await, "a server that our CA does not know");
    assert!(!works(with(&ca_file, None)).await, "no client certificate");
    assert!(!works(with(&ca_file, Some(stranger.issue(&folder, "stranger")))).await, "a stranger's certificate");
    std::fs::remove_dir_all(&folder).unwrap();
}
