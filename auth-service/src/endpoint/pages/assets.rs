//! The one stylesheet; everything else is in the page.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};

use crate::app::Shared;

const STYLE: &str = include_str!("../../../templates/style.css");

pub async fn style(State(app): State<Shared>) -> Response {
    // The colour was checked when the configuration was read.
    let css = format!(":root{{--accent:{}}}\n{STYLE}", app.config.theme.accent);
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/css; charset=utf-8")),
        (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=300")),
    ];
    (headers, css).into_response()
}
