//! Long answers: they come as they are made, and end with the session.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cloakroom_protocol::token::OpaqueToken;
use cloakroom_tests::browser::Browser;
use cloakroom_tests::local::{Local, Options};
use cloakroom_tests::raw;
use futures::{SinkExt, StreamExt};
use reqwest::Method;
use serde_json::json;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{Error, Message};

type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

async fn web_socket(local: &Local, headers: &[(&'static str, &str)]) -> Result<Socket, Error> {
    let mut request = local.app("/ws").replacen("http", "ws", 1).into_client_request()?;
    for (name, value) in headers {
        request.headers_mut().insert(*name, HeaderValue::from_str(value)?);
    }
    Ok(tokio_tungstenite::connect_async(request).await?.0)
}

/// Whether the connection ends within a second.
async fn ends(mut socket: Socket) -> Result<Duration> {
    let start = Instant::now();
    loop {
        match tokio::time::timeout(Duration::from_secs(1), socket.next()).await.context("open after a second")? {
            None | Some(Err(_) | Ok(Message::Close(_))) => return Ok(start.elapsed()),
            Some(Ok(_)) => {}
        }
    }
}

#[tokio::test]
async fn events_arrive_as_they_are_made_and_end_with_the_token() -> Result<()> {
    let local = Local::start().await?;
    let token = local.access_token(None).await?;
    let start = Instant::now();
    let mut events =
        local.http.get(local.app("/sse")).bearer_auth(&token).send().await?.error_for_status()?.bytes_stream();
    let mut text = String::new();
    while !text.contains("data: 2") {
        text += &String::from_utf8_lossy(&events.next().await.context("ended")??);
    }
    assert!((Duration::from_millis(900)..Duration::from_secs(3)).contains(&start.elapsed()), "{:?}", start.elapsed());
    local.revoke(&token).await?;
    let revoked = Instant::now();
    while let Some(Ok(_)) = events.next().await {
        ensure!(revoked.elapsed() < Duration::from_secs(1), "events a second after the revocation");
    }
    assert!(revoked.elapsed() < Duration::from_secs(1), "{:?}", revoked.elapsed());
    Ok(())
}

#[tokio::test]
async fn a_web_socket_echoes_and_ends_with_the_token() -> Result<()> {
    let local = Local::start().await?;
    let token = local.access_token(None).await?;
    let mut socket = web_socket(&local, &[("authorization", &format!("Bearer {token}"))]).await?;
    for message in [Message::text("hello"), Message::binary(vec![7; 70_000])] {
        socket.send(message.clone()).await?;
        assert_eq!(socket.next().await.context("ended")??, message);
    }
    local.revoke(&token).await?;
    println!("from the revocation's answer to the end: {:?}", ends(socket).await?);
    Ok(())
}

#[tokio::test]
async fn a_web_socket_ends_when_its_person_signs_out() -> Result<()> {
    let local = Local::start().await?;
    let mut browser = Browser::new()?;
    browser.sign_in(&local, "/").await?;
    let cookie = format!("__Host-cloakroom={}", browser.cookie("__Host-cloakroom").context("no session")?);
    let origin = local.ready.app_url.clone();
    let mut socket = web_socket(&local, &[("cookie", &cookie), ("origin", &origin)]).await?;
    socket.send(Message::text("here")).await?;
    socket.next().await.context("ended")??;
    browser.send(Method::POST, local.app("/.cloakroom/logout").parse()?, Some(&[])).await?;
    ends(socket).await?;
    Ok(())
}

#[tokio::test]
async fn a_web_socket_of_nobody_or_of_another_site_is_refused() -> Result<()> {
    let local = Local::start().await?;
    let Err(Error::Http(answer)) = web_socket(&local, &[]).await else { anyhow::bail!("opened without a token") };
    assert_eq!(answer.status(), 401);

    let mut browser = Browser::new()?;
    browser.sign_in(&local, "/").await?;
    let cookie = format!("__Host-cloakroom={}", browser.cookie("__Host-cloakroom").context("no session")?);
    for origin in ["https://evil.example", "null"] {
        let refused = web_socket(&local, &[("cookie", &cookie), ("origin", origin)]).await;
        let Err(Error::Http(answer)) = refused else { anyhow::bail!("opened for {origin}") };
        assert_eq!(answer.status(), 403, "{origin}");
    }
    Ok(())
}

/// Where the auth service is, and what the app asks of it before it answers.
type Question = Arc<OnceLock<(String, String)>>;

/// An app that signs out whoever asks for `/bye` by the auth service's own API, and answers nothing else.
fn app_that_waits(question: &Question) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let (address, question) = (listener.local_addr()?, Arc::clone(question));
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let question = Arc::clone(&question);
            thread::spawn(move || wait_or_sign_out(stream, &question));
        }
    });
    Ok(address)
}

fn wait_or_sign_out(mut stream: TcpStream, question: &Question) -> Option<()> {
    let lines = BufReader::new(stream.try_clone().ok()?).lines().map_while(Result::ok);
    let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    if !head.first()?.starts_with("GET /bye ") {
        return io::copy(&mut stream, &mut io::sink()).map(drop).ok();
    }
    let (address, request) = question.get()?;
    let mut service = TcpStream::connect(address).ok()?;
    service.write_all(request.as_bytes()).ok()?;
    let mut receipt = String::new();
    service.read_to_string(&mut receipt).ok()?;
    let status = if receipt.contains("\"acknowledged\":1") { "200 OK" } else { "500 No" };
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbye").ok()
}

#[tokio::test]
async fn what_waits_ends_with_the_token_and_who_ended_it_is_answered() -> Result<()> {
    let question = Question::default();
    let arguments = vec!["--upstream".to_owned(), app_that_waits(&question)?.to_string()];
    let local = Local::start_with(Options { arguments, ..Options::default() }).await?;
    let token = local.access_token(None).await?;
    let service = local.ready.internal_url.trim_start_matches("http://").to_owned();
    let body = json!({"id": token.parse::<OpaqueToken>()?.id()}).to_string();
    let request = format!(
        "POST /internal/v1/revoke?wait=5000 HTTP/1.1\r\nHost: {service}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        local.ready.admin_token,
        body.len()
    );
    question.set((service, request)).ok().context("set twice")?;

    let waiting =
        [("GET /poll", "", ""), ("POST /upload", "Content-Length: 1000\r\n", "x")].map(|(line, field, body)| {
            let head = format!("{line} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n{field}\r\n{body}");
            let url = local.ready.app_url.clone();
            tokio::spawn(async move { raw::exchange(&url, &head).await })
        });
    tokio::time::sleep(Duration::from_millis(500)).await;
    let started = Instant::now();
    let bye = async || local.http.get(local.app("/bye")).bearer_auth(&token).send().await;
    let answer = bye().await?;
    assert_eq!((answer.status().as_u16(), &*answer.text().await?), (200, "bye"));
    for answer in waiting {
        let answer = answer.await??;
        assert!(answer.starts_with("HTTP/1.1 401 ") && answer.contains("error=\"invalid_token\""), "{answer}");
    }
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    assert_eq!(bye().await?.status(), 401);
    Ok(())
}
