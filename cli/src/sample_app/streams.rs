//! Answers that take their time: events, WebSocket, long bodies, slow ones.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Query;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::http::header::CONTENT_TYPE;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures::{Stream, stream};
use serde::Deserialize;

const CHUNK: &[u8] = &[b'.'; 16 << 10];

/// Nobody waits longer for an answer, and a timer must not overflow.
const LONGEST_WAIT_MS: u64 = 3_600_000;

/// An event a second, from 1 on.
pub(super) async fn sse() -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    Sse::new(stream::unfold(1_u64, async |count| {
        if count > 1 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Some((Ok(Event::default().id(count.to_string()).data(count.to_string())), count.wrapping_add(1)))
    }))
}

/// Sends every message back (RFC 6455).
pub(super) async fn web_socket(upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(async |mut socket: WebSocket| {
        while let Some(Ok(message)) = socket.recv().await {
            let answer = match message {
                message @ (Message::Text(_) | Message::Binary(_)) => message,
                // Answered by the library.
                Message::Ping(_) | Message::Pong(_) | Message::Close(_) => continue,
            };
            if socket.send(answer).await.is_err() {
                break;
            }
        }
    })
}

#[derive(Deserialize)]
pub(super) struct Length {
    bytes: u64,
}

/// A body of so many bytes, its length not announced.
pub(super) async fn stream(Query(Length { bytes }): Query<Length>) -> Response {
    let chunks = stream::unfold(bytes, async |left| {
        let next = usize::try_from(left).unwrap_or(usize::MAX).min(CHUNK.len());
        (next > 0).then(|| (Ok::<_, Infallible>(Bytes::from_static(&CHUNK[..next])), left - next as u64))
    });
    ([(CONTENT_TYPE, "application/octet-stream")], Body::from_stream(chunks)).into_response()
}

#[derive(Deserialize)]
pub(super) struct Wait {
    ms: u64,
}

/// An answer after so many milliseconds.
pub(super) async fn slow(Query(Wait { ms }): Query<Wait>) -> String {
    let ms = ms.min(LONGEST_WAIT_MS);
    tokio::time::sleep(Duration::from_millis(ms)).await;
    format!("answered after {ms} ms\n")
}
