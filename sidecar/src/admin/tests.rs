use cloakroom_protocol::injected::parse_probes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::runtime::Handle;

use super::*;
use crate::auth_client::Setup;
use crate::auth_client::fake::FakeAuth;
use crate::auth_client::workload_token::TokenSource;
use crate::config::Policy;
use crate::tls::pair::Pair;
use crate::tls::pair::tests::localhost;
use crate::token_cache::Bounds;

struct Fixture {
    address: SocketAddr,
    policy: Arc<CurrentPolicy>,
    refused: Arc<Refused>,
    phase: watch::Sender<Phase>,
    admin: Arc<Admin>,
    fake: FakeAuth,
    client: Arc<AuthClient>,
}

impl Fixture {
    async fn new(probes: &str) -> Self {
        Self::presenting(None, probes).await
    }

    async fn presenting(certificates: Option<Arc<Certificates>>, probes: &str) -> Self {
        let fake = FakeAuth::start().await;
        let (policy, metrics, refused) =
            (Arc::new(CurrentPolicy::empty()), Arc::<Metrics>::default(), Arc::new(Refused::empty()));
        let client = AuthClient::start(Setup {
            policy: policy.clone(),
            metrics: metrics.clone(),
            workload: TokenSource::Fixed("workload".into()),
            sidecar: "pod-1".into(),
            runtime: Handle::current(),
            bounds: Bounds::default(),
        });
        let (phase, _) = watch::channel(Phase::Serving);
        let admin = Admin {
            client: client.clone(),
            policy: policy.clone(),
            metrics,
            refused: refused.clone(),
            certificates,
            phase: phase.clone(),
            probes: parse_probes(probes).unwrap(),
            pod_uid: "pod-1".into(),
        };
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let address = socket.local_addr().unwrap();
        let admin = Arc::new(admin);
        tokio::spawn(serve(socket, admin.clone()));
        Self { address, policy, refused, phase, admin, fake, client }
    }

    fn configure(&self) {
        let config = crate::config::tests::config(&format!("http://{}", self.fake.address));
        let policy = Arc::new(Policy::parse(config.to_string().as_bytes()).unwrap());
        self.policy.store(Some(policy.clone()));
        self.client.policy_changed(None, &policy);
    }

    async fn raw(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await;
        answer
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let answer = self.raw(format!("GET {path} HTTP/1.1\r\nHost: 10.0.0.7:15020\r\n\r\n").as_bytes()).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), body.to_owned())
    }
}

#[tokio::test]
async fn it_is_ready_once_it_has_a_config_auth_service_or_not() {
    let mut f = Fixture::new("").await;
    assert_eq!(f.get("/ready").await.0, 503);
    assert_eq!(f.get("/healthz").await.0, 200);
    f.refused.store(Some(Arc::new("format 9".into())));
    assert!(f.get("/ready").await.1.contains("format 9"));
    f.fake.stop();
    f.configure();
    assert_eq!(f.get("/ready").await.0, 200);
    f.phase.send_replace(Phase::Draining);
    assert_eq!(f.get("/ready").await.0, 503);
}

#[tokio::test]
async fn where_tls_is_spoken_it_is_ready_once_there_is_a_certificate_too() {
    let certificates = Arc::<Certificates>::default();
    let f = Fixture::presenting(Some(certificates.clone()), "").await;
    f.configure();
    certificates.found(Pair::parse(b"", b"").map_err(Into::into), &f.admin.metrics);
    let (status, why) = f.get("/ready").await;
    assert!(status == 503 && why.contains("no certificate") && why.contains("spec.tls"), "{why}");
    assert!(f.get("/").await.1.contains("connections are closed"));
    let (certificate, key) = localhost();
    certificates.found(Pair::parse(certificate.as_bytes(), key.as_bytes()).map_err(Into::into), &f.admin.metrics);
    assert_eq!(f.get("/ready").await.0, 200);
    certificates.found(Pair::parse(b"", b"").map_err(Into::into), &f.admin.metrics);
    assert_eq!(f.get("/ready").await.0, 200, "the one before stays");
    let page = f.get("/").await.1;
    assert!(page.contains("ends 2035-06-07") && page.contains("a newer one is refused"), "{page}");
    let metrics = f.get("/metrics").await.1;
    assert!(metrics.contains("cloakroom_tls_certificate_not_after_seconds 2064787200\n"), "{metrics}");
    assert!(metrics.contains("cloakroom_tls_refusals_total 2\n"));
}

#[tokio::test]
async fn apps_find_the_signing_keys_here_even_when_the_auth_service_is_gone() {
    let mut f = Fixture::new("").await;
    assert_eq!(f.get("/jwks.json").await.0, 503);
    f.configure();
    while f.client.jwks().is_none() {
        tokio::task::yield_now().await;
    }
    f.fake.stop();
    assert_eq!(f.get("/jwks.json").await, (200, r#"{"keys":[{"kty":"EC"}]}"#.to_owned()));
}

#[tokio::test]
async fn metrics_and_the_page_show_what_is_going_on() {
    let f = Fixture::new("").await;
    f.configure();
    let (status, metrics) = f.get("/metrics").await;
    assert!(status == 200 && metrics.contains("# TYPE cloakroom_requests_total counter"));
    f.refused.store(Some(Arc::new("<script>".into())));
    let (status, page) = f.get("/").await;
    assert!(status == 200 && page.contains("shop/web") && page.contains("&lt;script&gt;"), "{page}");
    for row in ["Mode</th><td>Enforce", "Log level</th><td>error", "Last heartbeat late by</th><td>0.000 s"] {
        assert!(f.get("/").await.1.contains(row), "{row}");
    }
    let to_head = f.raw(b"HEAD / HTTP/1.1\r\n\r\n").await;
    let (head, body) = to_head.split_once("\r\n\r\n").unwrap();
    assert!(body.is_empty() && head.starts_with("HTTP/1.1 200") && !head.contains("content-length: 0\r"), "{to_head}");
}

#[tokio::test]
async fn only_declared_probes_are_replayed() {
    let app = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = app.local_addr().unwrap().port();
    let seen = tokio::spawn(async move {
        let (mut stream, _) = app.accept().await.unwrap();
        let mut head = vec![0; 1024];
        let length = stream.read(&mut head).await.unwrap();
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        String::from_utf8(head[..length].to_vec()).unwrap()
    });
    let f = Fixture::new(&format!("web/readiness HTTP {port} 1 \"/healthz\"")).await;
    for other in [
        "/probe/web/liveness",
        "/probe/web/readiness/x",
        "/probe/other/readiness",
        "/probe/",
        "/probe/web",
        "/probe/web%2Freadiness",
    ] {
        assert_eq!(f.get(other).await.0, 404, "{other}");
    }
    assert_eq!(f.get("/probe/web/readiness?port=22").await.0, 200);
    let seen = seen.await.unwrap();
    assert!(
        seen.starts_with("GET /healthz HTTP/1.1\r\n") && seen.contains(&format!("\r\nHost: 10.0.0.7:{port}\r\n")),
        "{seen}"
    );
    assert_eq!(f.get("/probe/web/readiness").await.0, 503, "the app is gone");
}

#[tokio::test]
async fn a_pod_is_told_to_leave_from_inside_and_only_once() {
    let f = Fixture::new("").await;
    f.configure();
    let request = AdminRequest { method: "PUT".into(), path: "/leave".into(), host: None, body: String::new() };
    for outside in ["10.0.0.1:1", "[::ffff:10.0.0.1]:1", "[fd00::1]:1"] {
        assert_eq!(f.admin.answer(&request, outside.parse().unwrap()).await.status, StatusCode::FORBIDDEN, "{outside}");
    }
    assert_eq!(*f.phase.borrow(), Phase::Serving);
    let address = f.address;
    let tell = move || crate::from_inside::leave(&[address]);
    tokio::task::spawn_blocking(tell).await.unwrap().unwrap();
    assert_eq!(*f.phase.borrow(), Phase::Leaving);
    assert_eq!(f.get("/ready").await.0, 503, "it takes no part in its Services any more");
    f.phase.send_replace(Phase::Draining);
    tokio::task::spawn_blocking(tell).await.unwrap().unwrap();
    assert_eq!(*f.phase.borrow(), Phase::Draining, "there is no way back");
}

#[tokio::test]
async fn the_log_level_is_set_from_inside() {
    let f = Fixture::new("").await;
    let put = |body: &str| format!("PUT /log-level HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    assert!(f.raw(put("error").as_bytes()).await.starts_with("HTTP/1.1 200"));
    assert!(f.raw(put("loud").as_bytes()).await.starts_with("HTTP/1.1 400"));
    assert_eq!(f.get("/log-level").await, (200, "error\n".to_owned()));
    let address = f.address;
    let ask = move || {
        let told = crate::from_inside::log_level(&[address], Some(log::Level::Error))?;
        Ok::<_, std::io::Error>((told, crate::from_inside::log_level(&[address], None)?))
    };
    let told = tokio::task::spawn_blocking(ask).await.unwrap().unwrap();
    assert_eq!(told, ("error\n".to_owned(), "error\n".to_owned()));
    let request = AdminRequest { method: "PUT".into(), path: "/log-level".into(), host: None, body: "debug".into() };
    for outside in ["10.0.0.1:1", "[::ffff:10.0.0.1]:1", "[fd00::1]:1"] {
        assert_eq!(set_log_level(&request, outside.parse().unwrap()).status, StatusCode::FORBIDDEN, "{outside}");
    }
}

#[tokio::test]
async fn odd_requests_get_an_answer_and_no_more() {
    let f = Fixture::new("").await;
    let huge = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(10_000));
    for (request, status) in [
        ("POST /ready HTTP/1.1\r\n\r\n", "405"),
        ("GET /nothing HTTP/1.1\r\n\r\n", "404"),
        ("\x16\x03\x01\r\n\r\n", "400"),
        ("PUT /log-level HTTP/1.1\r\nContent-Length: 100000\r\n\r\n", "413"),
        ("PUT /log-level HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "400"),
        ("PUT /log-level HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "501"),
        (huge.as_str(), "431"),
    ] {
        let answer = f.raw(request.as_bytes()).await;
        assert!(answer.is_empty() || answer.starts_with(&format!("HTTP/1.1 {status}")), "{request:.40?}: {answer}");
    }
}

#[test]
fn nobody_can_take_all_the_places() {
    let guests = Arc::<Guests>::default();
    let address = |last: u8| IpAddr::from([10, 0, 0, last]);
    let mut held: Vec<_> = (0..20).filter_map(|_| guests.clone().admit(address(1))).collect();
    assert_eq!(held.len(), 16);
    held.extend(guests.clone().admit(address(2)));
    assert_eq!(held.len(), 17, "kubelet gets in");
    held.remove(0);
    assert!(guests.clone().admit(address(1)).is_some(), "whoever leaves makes room");
    let many: Vec<_> =
        (0..=255).flat_map(|last| [last; 16]).filter_map(|last| guests.clone().admit(address(last))).collect();
    assert_eq!(many.len() + held.len(), 512);
    drop((held, many));
    assert!(guests.0.lock().unwrap().is_empty());
}
