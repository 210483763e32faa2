use std::convert::Infallible;

use ::http::{HeaderMap, Request, Response};
use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::auth_client::fake::Pki;

/// Answers each connection with the next of these, and tells what was asked.
async fn app(answers: Vec<String>) -> (u16, tokio::task::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = tokio::spawn(async move {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = vec![0; 4096];
            let length = stream.read(&mut head).await.unwrap();
            asked.push(String::from_utf8(head[..length].to_vec()).unwrap());
            stream.write_all(answer.replace("PORT", &port.to_string()).as_bytes()).await.unwrap();
        }
        asked
    });
    (port, serving)
}

fn http_probe(port: u16, path: &str, headers: &[(&str, &str)]) -> Probe {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    probe(port, ProbeAction::Http { tls: false, path: path.into(), headers })
}

fn probe(port: u16, action: ProbeAction) -> Probe {
    Probe { container: "web".into(), kind: "readiness".into(), port, timeout_seconds: 1, action }
}

fn status(status: u16) -> String {
    format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n")
}

#[tokio::test]
async fn success_is_what_kubelet_calls_success() {
    for (code, good) in
        [(200, true), (204, true), (304, true), (399, true), (400, false), (404, false), (500, false), (503, false)]
    {
        let (port, _serving) = app(vec![status(code)]).await;
        assert_eq!(replay(&http_probe(port, "/", &[]), None).await.is_ok(), good, "{code}");
    }
    let (port, _serving) = app(vec!["SSH-2.0-OpenSSH\r\n".into()]).await;
    assert!(replay(&http_probe(port, "/", &[]), None).await.is_err());
}

#[tokio::test]
async fn the_probe_arrives_as_it_was_declared() {
    let (port, serving) = app(vec![status(200)]).await;
    let probe = http_probe(port, "/a b?c=d#e", &[("X-Token", "t"), ("User-Agent", "mine")]);
    replay(&probe, Some("[fd00::7]:15020")).await.unwrap();
    let asked = serving.await.unwrap().remove(0);
    assert!(asked.starts_with("GET /a%20b?c=d HTTP/1.1\r\n"), "{asked}");
    assert!(asked.contains(&format!("\r\nHost: [fd00::7]:{port}\r\n")) && asked.contains("\r\nX-Token: t\r\n"));
    assert!(asked.contains("User-Agent: mine") && !asked.contains("kube-probe"));
}

#[tokio::test]
async fn a_declared_host_wins_and_no_header_can_bring_another() {
    let (port, serving) = app(vec![status(200)]).await;
    replay(&http_probe(port, "/", &[("host", "shop.example.com")]), Some("x\r\ny: z")).await.unwrap();
    let asked = serving.await.unwrap().remove(0);
    assert!(
        asked.contains("\r\nhost: shop.example.com\r\n") && !asked.contains("127.0.0.1") && !asked.contains("y: z"),
        "{asked}"
    );
    for (name, value) in [("X", "a\r\nY: b"), ("X Y", "a"), ("", "a")] {
        assert!(
            matches!(replay(&http_probe(port, "/", &[(name, value)]), None).await, Err(ProbeError::Header(_))),
            "{name}"
        );
    }
}

#[tokio::test]
async fn redirects_on_the_same_host_are_followed_and_others_are_success() {
    let to = |location: &str| format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\n\r\n");
    for location in ["/b", "b", "http://127.0.0.1:PORT/b"] {
        let (port, serving) = app(vec![to(location), status(500)]).await;
        assert!(matches!(replay(&http_probe(port, "/a", &[]), None).await, Err(ProbeError::Status(500))), "{location}");
        assert!(serving.await.unwrap()[1].starts_with("GET /b HTTP/1.1\r\n"));
    }
    for location in ["http://elsewhere.example/b", "//elsewhere.example/b", "https://127.0.0.1/b"] {
        let (port, _serving) = app(vec![to(location)]).await;
        assert!(replay(&http_probe(port, "/a", &[]), None).await.is_ok(), "{location}");
    }
    let (port, _serving) = app(vec![to("/a"); 11]).await;
    assert!(matches!(replay(&http_probe(port, "/a", &[]), None).await, Err(ProbeError::Redirects)));
}

#[tokio::test]
async fn an_app_that_does_not_answer_fails_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    assert!(matches!(replay(&http_probe(port, "/", &[]), None).await, Err(ProbeError::Timeout(1))));
    assert!(replay(&probe(port, ProbeAction::Tcp), None).await.is_ok());
    drop(listener);
    assert!(matches!(replay(&probe(port, ProbeAction::Tcp), None).await, Err(ProbeError::Connect(_))));
}

#[tokio::test]
async fn an_app_on_ipv6_only_is_probed_too() {
    let Ok(listener) = TcpListener::bind("[::1]:0").await else { return };
    let port = listener.local_addr().unwrap().port();
    assert!(replay(&probe(port, ProbeAction::Tcp), None).await.is_ok());
}

/// A health service that answers so.
async fn grpc_app(body: &'static [u8], grpc_status: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        let service = service_fn(move |request: Request<Incoming>| async move {
            assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
            let asked = request.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(asked, &[0, 0, 0, 0, 5, 10, 3, b's', b'v', b'c'][..]);
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", grpc_status.parse().unwrap());
            let body: BoxBody<Bytes, Infallible> =
                Full::new(Bytes::from_static(body)).with_trailers(async move { Some(Ok(trailers)) }).boxed();
            Ok::<_, Infallible>(Response::new(body))
        });
        let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(tcp), service)
            .await;
    });
    port
}

#[tokio::test]
async fn a_grpc_app_says_whether_it_serves() {
    for (body, grpc_status, good) in [
        (&[0, 0, 0, 0, 2, 8, 1][..], "0", true),
        (&[0, 0, 0, 0, 2, 8, 2], "0", false),
        (&[0, 0, 0, 0, 0], "0", false),
        (&[], "0", false),
        (&[0, 0, 0, 0, 2, 8, 1], "12", false),
    ] {
        let port = grpc_app(body, grpc_status).await;
        let result = replay(&probe(port, ProbeAction::Grpc { service: "svc".into() }), None).await;
        assert_eq!(result.is_ok(), good, "{body:?} {grpc_status}: {result:?}");
    }
}

#[tokio::test]
async fn an_https_app_is_probed_whatever_its_certificate_says() {
    let pki = Pki::new("anybody.example");
    let config = rustls::ServerConfig::builder_with_provider(crate::auth_client::endpoint::crypto_provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![pki.certificate], pki.key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
        let (tcp, _) = listener.accept().await.unwrap();
        let mut stream = acceptor.accept(tcp).await.unwrap();
        let _ = stream.read(&mut [0; 1024]).await.unwrap();
        stream.write_all(status(200).as_bytes()).await.unwrap();
    });
    let action = ProbeAction::Http { tls: true, path: "/".into(), headers: Vec::new() };
    assert!(replay(&probe(port, action), None).await.is_ok());
}
