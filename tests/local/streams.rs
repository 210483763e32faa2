//! Long answers: they come as they are made, and end with the session.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cloakroom_tests::browser::Browser;
use cloakroom_tests::local::Local;
use futures::{SinkExt, StreamExt};
use reqwest::Method;
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
