//! What the app received, told back.

use axum::Json;
use axum::extract::Request;
use axum::http::{StatusCode, Version};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use serde::Serialize;

#[derive(Serialize)]
struct Echo {
    method: String,
    target: String,
    /// In the order of arrival; fields of one name stand together.
    headers: Vec<(String, String)>,
    body_length: u64,
}

pub(super) async fn echo(request: Request) -> Response {
    let (head, body) = request.into_parts();
    let mut body_length = 0;
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        match chunk {
            Ok(chunk) => body_length += chunk.len() as u64,
            Err(error) => return (StatusCode::BAD_REQUEST, format!("the body broke off: {error}\n")).into_response(),
        }
    }
    let target = match head.uri.path_and_query() {
        Some(path) if head.version == Version::HTTP_2 => path.to_string(),
        _ => head.uri.to_string(),
    };
    let authority = head.uri.authority().filter(|_| head.version == Version::HTTP_2);
    let headers = authority
        .map(|authority| (":authority".to_owned(), authority.to_string()))
        .into_iter()
        .chain(head.headers.iter().map(|(name, value)| (name.to_string(), latin1(value.as_bytes()))))
        .collect();
    Json(Echo { method: head.method.to_string(), target, headers, body_length }).into_response()
}

/// Every byte becomes the character of the same number, so that nothing is lost.
fn latin1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}
