//! The stylesheet, the one script, the logo; everything else is in the page.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};

use crate::app::Shared;

const PASSKEYS: &str = include_str!("../../../templates/passkeys.js");

pub async fn style(State(app): State<Shared>) -> Response {
    asset("text/css; charset=utf-8", app.look.css.clone())
}

pub async fn passkeys() -> Response {
    asset("text/javascript; charset=utf-8", Bytes::from_static(PASSKEYS.as_bytes()))
}

pub async fn logo(State(app): State<Shared>) -> Response {
    match &app.look.logo {
        // An SVG that is opened by itself runs nothing: the header that every answer has forbids it.
        Some(logo) => asset(logo.content_type, logo.bytes.clone()),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn asset(content_type: &'static str, body: Bytes) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=300")),
    ];
    (headers, body).into_response()
}
