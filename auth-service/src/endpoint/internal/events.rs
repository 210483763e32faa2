//! `GET /internal/v1/events?sidecar=<id>`: the revocation stream as server-sent events, resumed by `Last-Event-ID` on any replica.

use axum::body::Body;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;
use http::{HeaderMap, HeaderValue, header};
use serde::Deserialize;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::sync::watch;

use crate::app::Shared;
use crate::endpoint::problem::ApiError;
use crate::events::{Signal, frame, heartbeat_frame, is_for_sidecars, receipt, reset_frame};
use crate::store::{Backlog, EventId};
use crate::workload::Caller;

#[derive(Deserialize)]
pub struct Parameters {
    sidecar: String,
}

pub async fn events(
    State(app): State<Shared>,
    caller: Caller,
    Query(Parameters { sidecar }): Query<Parameters>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let name = sidecar_name(&caller, &sidecar)?;
    // Subscribed before the backlog is read: what arrives meanwhile comes twice and is sent once.
    let signals = app.hub.subscribe();
    let resume = last_event_id(&headers);
    let (first, position) = opening(&app, resume).await?;
    app.hub.sidecars.connect(&name, resume.map_or(position, |from| from.min(position)));
    app.metrics.sidecars.set(i64::try_from(app.hub.sidecars.connected()).unwrap_or(i64::MAX));
    let connection = Connection {
        stopping: app.stopping.clone(),
        _presence: Presence { app: Shared::clone(&app), name },
        signals,
        position,
        opening: Some(first),
    };
    // Before the first byte: whoever has heard from us is counted in every receipt from now on, at whatever replica.
    receipt::publish_mark(&app.hub, app.store(), &app.replica, &app.clock).await?;
    let body = Body::from_stream(stream::unfold(connection, |mut connection| async move {
        let frame = connection.next().await?;
        Some((Ok::<_, std::convert::Infallible>(Bytes::from(frame)), connection))
    }));
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((headers, body).into_response())
}

/// A sidecar can only speak for itself: its name is within what its token says.
pub fn sidecar_name(caller: &Caller, sidecar: &str) -> Result<String, ApiError> {
    let fits = !sidecar.is_empty() && sidecar.len() <= 128 && sidecar.bytes().all(|b| b.is_ascii_graphic());
    if !fits {
        return Err(ApiError::BadRequest("sidecar: 1 to 128 visible ASCII characters".to_owned()));
    }
    Ok(match caller {
        Caller::Workload(workload) | Caller::Operator(workload) => {
            format!("{}/{}/{sidecar}", workload.subject, workload.pod.as_deref().unwrap_or_default())
        }
        Caller::Admin(_) => format!("admin//{sidecar}"),
    })
}

/// Absent, or not an id of ours, is a start from here.
fn last_event_id(headers: &HeaderMap) -> Option<EventId> {
    headers.get("last-event-id")?.to_str().ok()?.parse().ok()
}

/// What a connection hears first, and up to where that is.
async fn opening(app: &Shared, resume: Option<EventId>) -> Result<(String, EventId), ApiError> {
    let Some(last) = resume else {
        let tail = app.store().tail().await?;
        return Ok((heartbeat_frame(app.clock.millis(), tail), tail));
    };
    match app.store().backlog(last).await? {
        Backlog::Gap { tail } => Ok((reset_frame(tail), tail)),
        Backlog::Entries(entries) => {
            let mut text = String::new();
            let mut position = last;
            for entry in entries {
                position = entry.id;
                if is_for_sidecars(&entry) {
                    text.push_str(&frame(entry.id, &entry.entry.name, &entry.entry.data));
                }
            }
            text.push_str(&heartbeat_frame(app.clock.millis(), position));
            Ok((text, position))
        }
    }
}

struct Connection {
    opening: Option<String>,
    signals: Receiver<Signal>,
    /// Everything up to here has been sent.
    position: EventId,
    stopping: watch::Receiver<bool>,
    _presence: Presence,
}

/// Counts the sidecar as connected for as long as it lives.
struct Presence {
    app: Shared,
    name: String,
}

impl Connection {
    async fn next(&mut self) -> Option<String> {
        if let Some(opening) = self.opening.take() {
            return Some(opening);
        }
        loop {
            let signal = tokio::select! {
                signal = self.signals.recv() => signal,
                _ = self.stopping.wait_for(|stopping| *stopping) => return None,
            };
            match signal {
                Ok(Signal::Entry(entry)) if entry.id > self.position => {
                    self.position = entry.id;
                    if is_for_sidecars(&entry) {
                        return Some(frame(entry.id, &entry.entry.name, &entry.entry.data));
                    }
                }
                Ok(Signal::Entry(_)) => {}
                // A beat that was queued before the backlog was read would move the sidecar back.
                Ok(Signal::Heartbeat { at, last }) => return Some(heartbeat_frame(at, last.max(self.position))),
                Ok(Signal::Reset { tail }) => {
                    self.position = tail;
                    return Some(reset_frame(tail));
                }
                // Too slow: the connection ends, and the sidecar resumes where it was.
                Err(RecvError::Lagged(_) | RecvError::Closed) => return None,
            }
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.app.hub.sidecars.disconnect(&self.name, self.app.clock.millis());
        self.app.metrics.sidecars.set(i64::try_from(self.app.hub.sidecars.connected()).unwrap_or(i64::MAX));
    }
}
