//! A whole sidecar between a client, an app and a fake auth service, all on loopback.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};

use cloakroom_protocol::token::{OpaqueToken, TokenKind};

use super::*;
use crate::auth_client::fake::FakeAuth;
use crate::identity::tests::active;

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn options(config: ConfigSource, app_port: u16) -> (Options, u16) {
    let port = free_port();
    let options = Options {
        config,
        listens: vec![Listen { address: (Ipv4Addr::LOCALHOST, port).into(), app_port }],
        admin: Some((Ipv4Addr::LOCALHOST, 0).into()),
        workload_token: TokenSource::Fixed("workload".into()),
        proof_key_file: PathBuf::from("/nonexistent"),
        tls: None,
        pod_uid: "pod-1".into(),
        probes: Vec::new(),
        workers: 2,
        memory: 64 << 20,
    };
    (options, port)
}

/// One request, one connection; status and body.
fn get(port: u16, headers: &str) -> (u16, String) {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(stream, "GET /orders HTTP/1.1\r\nHost: localhost:8000\r\nConnection: close\r\n{headers}\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    (head[9..12].parse().unwrap(), body.to_owned())
}

/// An app that says which `Authorization` it was sent.
fn app() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            thread::spawn(move || {
                let mut head = vec![0; 8192];
                while let Ok(length @ 1..) = stream.read(&mut head) {
                    let text = String::from_utf8_lossy(&head[..length]).to_ascii_lowercase();
                    let sent =
                        text.lines().find(|line| line.starts_with("authorization:")).unwrap_or("none").to_owned();
                    let _ = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{sent}", sent.len());
                }
            });
        }
    });
    port
}

/// A fake auth service on a runtime of its own, and a token that it knows.
fn auth_service() -> (tokio::runtime::Runtime, FakeAuth, OpaqueToken) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let fake = runtime.block_on(FakeAuth::start());
    let token = OpaqueToken::generate(TokenKind::Access, &mut StdRng::seed_from_u64(3));
    fake.with(|told| told.active.insert(token.expose().to_owned(), active(&token.clone().into(), "ann")));
    (runtime, fake, token)
}

#[test]
fn a_token_goes_in_and_a_jwt_comes_out() {
    let (_runtime, fake, token) = auth_service();
    let config = serde_json::from_value(crate::config::tests::config(&format!("http://{}", fake.address))).unwrap();
    let (options, port) = options(ConfigSource::InMemory(Box::new(config)), app());
    let running = Sidecar::start(options).unwrap();
    assert_eq!(get(port, "").0, 401);
    let bearer = format!("Authorization: Bearer {}\r\n", token.expose());
    let (status, body) = get(port, &bearer);
    // The app's copy is in lower case.
    assert_eq!((status, body.as_str()), (200, "authorization: bearer eyj.eyj.sig"));
    assert!(running.admin().is_some());
    running.stop(Duration::from_secs(5));
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err(), "stopped is stopped");
}

#[test]
fn without_a_config_everything_is_denied_until_there_is_one() {
    let (_runtime, fake, token) = auth_service();
    let file = std::env::temp_dir().join(format!("cloakroom-start-{}.json", std::process::id()));
    let _ = std::fs::remove_file(&file);
    let (options, port) = options(ConfigSource::File(file.clone()), app());
    let running = Sidecar::start(options).unwrap();
    let bearer = format!("Authorization: Bearer {}\r\n", token.expose());
    assert_eq!(get(port, &bearer).0, 503);
    std::fs::write(&file, "{}").unwrap();
    thread::sleep(Duration::from_millis(400));
    assert_eq!(get(port, &bearer).0, 503);
    std::fs::write(&file, crate::config::tests::config(&format!("http://{}", fake.address)).to_string()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    while get(port, &bearer).0 != 200 {
        assert!(Instant::now() < deadline, "never served");
        thread::sleep(Duration::from_millis(20));
    }
    std::fs::write(&file, "broken").unwrap();
    thread::sleep(Duration::from_millis(400));
    assert_eq!(get(port, &bearer).0, 200, "a broken config leaves the one before it in force");
    drop(running);
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn a_port_that_is_taken_is_an_error_and_nothing_goes_on_running() {
    let (options, _) = options(ConfigSource::File("/nonexistent".into()), 1);
    let taken = TcpListener::bind(options.listens[0].address).unwrap();
    assert!(matches!(Sidecar::start(options), Err(StartError::Listen(_))));
    drop(taken);
}
