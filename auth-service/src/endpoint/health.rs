//! The metrics port: `/healthz`, `/readyz`, `/metrics`.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use crate::app::Shared;

/// The process serves.
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// Able to answer, if only with 503: an outage of Redis must not take the replicas out of their Service, or sidecars could not even be told.
/// Not ready only while stopping.
pub async fn readyz(State(app): State<Shared>) -> Response {
    if *app.stopping.borrow() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response();
    }
    let since = app.clock.millis().saturating_sub(app.hub.last_touch());
    let store = if since < 3000 { "store ok\n" } else { "store away\n" };
    (StatusCode::OK, format!("ready\n{store}")).into_response()
}

pub async fn metrics(State(app): State<Shared>) -> Response {
    let content_type = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    ([(header::CONTENT_TYPE, content_type)], app.metrics.render()).into_response()
}
