//! Slows down whoever keeps failing to authenticate as a client: secrets cannot be guessed, but each try costs the store a look-up and the
//! trail a line.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, StatusCode, header};
use quick_cache::sync::Cache;
use serde_json::json;

use crate::app::Shared;
use crate::peer::ClientAddress;
use crate::throttle::{self, Verdict, network};

const REMEMBERED: usize = 10_000;

/// Who has failed too often, until when (Unix seconds). Here and not in the store, so that whoever authenticates pays nothing for it.
pub struct Refusals(Cache<(String, String), u64>);

impl Default for Refusals {
    fn default() -> Self {
        Self(Cache::new(REMEMBERED))
    }
}

impl Refusals {
    fn wait(&self, who: &(String, String), now: u64) -> Option<u64> {
        self.0.get(who)?.checked_sub(now).filter(|seconds| *seconds > 0)
    }
}

pub async fn limit(
    State(app): State<Shared>,
    ClientAddress(address): ClientAddress,
    request: Request,
    next: Next,
) -> Response {
    let client = claimed_client(request.headers());
    let who = (client, network(address));
    if let Some(seconds) = app.refusals.wait(&who, app.now()) {
        let body =
            json!({"error": "temporarily_unavailable", "error_description": "too many failures to authenticate"});
        let headers = [(header::RETRY_AFTER, seconds.to_string()), (header::CACHE_CONTROL, "no-store".to_owned())];
        return (StatusCode::TOO_MANY_REQUESTS, headers, axum::Json(body)).into_response();
    }
    let response = next.run(request).await;
    if response.status() == StatusCode::UNAUTHORIZED {
        count(&app, who, address).await;
    }
    response
}

async fn count(app: &Shared, who: (String, String), address: IpAddr) {
    match throttle::refused(app.store(), &app.config.limits, &who.0, address).await {
        Ok(Verdict::Go) => {}
        Ok(Verdict::Wait(seconds)) => {
            crate::audit::record("client.throttled", address, &who.0, "too many failures to authenticate");
            app.refusals.0.insert(who, app.now() + seconds);
        }
        // The answer is a refusal already; that it was not counted changes nothing for anybody else.
        Err(error) => tracing::debug!(%error, "a refusal was not counted"),
    }
}

/// The id in a Basic header; whoever names none there is told apart by address alone.
fn claimed_client(headers: &HeaderMap) -> String {
    let basic = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.split_once(' '));
    let decoded = basic.and_then(|(_, encoded)| STANDARD.decode(encoded.trim()).ok());
    let text = decoded.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
    text.split_once(':').map(|(id, _)| id.chars().take(128).collect()).unwrap_or_default()
}
