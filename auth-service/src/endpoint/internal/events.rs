//! `GET /internal/v1/events?sidecar=<id>`: the revocation stream as server-sent events, resumed by `Last-Event-ID` on any replica.

use axum::body::Body;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use cloakroom_protocol::interest::STREAM_HEADER;
use futures::stream;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde::Deserialize;
use tokio::sync::{mpsc, watch};

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
    let sidecar = sidecar_name(&caller, &sidecar)?;
    let resume = last_event_id(&headers);
    // Listed before the backlog is read: what arrives meanwhile comes twice and is sent once.
    let (presence, signals) = Presence::new(&app, &sidecar, resume);
    let Opening { text, position, missed } = opening(&app, &sidecar, resume).await?;
    app.hub.sidecars.told(&sidecar, missed);
    // Before the first byte: whoever has heard from us is counted in every receipt from now on, at whatever replica.
    receipt::publish_mark(&app.hub, app.store(), &app.replica, &app.clock).await?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (HeaderName::from_static(STREAM_HEADER), stream_name(&presence.stream)?),
    ];
    let stopping = app.stopping.clone();
    let connection = Connection { stopping, _presence: presence, signals, position, opening: Some(text) };
    let body = Body::from_stream(stream::unfold(connection, |mut connection| async move {
        let frame = connection.next().await?;
        Some((Ok::<_, std::convert::Infallible>(Bytes::from(frame)), connection))
    }));
    Ok((headers, body).into_response())
}

/// A sidecar can only speak for itself: its name is within what its token says.
pub fn sidecar_name(caller: &Caller, sidecar: &str) -> Result<String, ApiError> {
    let fits = !sidecar.is_empty() && sidecar.len() <= 128 && sidecar.bytes().all(|b| b.is_ascii_graphic());
    if !fits {
        return Err(wrong_name());
    }
    Ok(match caller {
        Caller::Workload(workload) | Caller::Operator(workload) => {
            format!("{}/{}/{sidecar}", workload.subject, workload.pod.as_deref().unwrap_or_default())
        }
        Caller::Admin(_) => format!("admin//{sidecar}"),
    })
}

fn stream_name(stream: &str) -> Result<HeaderValue, ApiError> {
    HeaderValue::from_str(stream).map_err(|error| ApiError::Internal(format!("a stream's name: {error}")))
}

fn wrong_name() -> ApiError {
    ApiError::BadRequest("sidecar: 1 to 128 visible ASCII characters".to_owned())
}

/// Absent, or not an id of ours, is a start from here.
fn last_event_id(headers: &HeaderMap) -> Option<EventId> {
    headers.get("last-event-id")?.to_str().ok()?.parse().ok()
}

/// What a connection hears first, up to where that is, and which events in it are to be acted on.
struct Opening {
    text: String,
    position: EventId,
    missed: Vec<EventId>,
}

async fn opening(app: &Shared, sidecar: &str, resume: Option<EventId>) -> Result<Opening, ApiError> {
    let everything_since = |from: EventId, tail: EventId| (from < tail).then(|| from.next().min(tail));
    let Some(last) = resume else {
        let tail = app.store().tail().await?;
        // What it may have held before, it says that it has dropped.
        let missed = app.hub.sidecars.deaf_after(sidecar).and_then(|from| everything_since(from, tail));
        let text = heartbeat_frame(app.clock.millis(), tail);
        return Ok(Opening { text, position: tail, missed: missed.into_iter().collect() });
    };
    match app.store().backlog(last).await? {
        Backlog::Gap { tail } => {
            let missed = everything_since(last, tail).unwrap_or(tail);
            Ok(Opening { text: reset_frame(tail), position: tail, missed: vec![missed] })
        }
        Backlog::Entries(entries) => {
            let mut opening = Opening { text: String::new(), position: last, missed: Vec::new() };
            for entry in entries {
                opening.position = entry.id;
                if is_for_sidecars(&entry) {
                    opening.text.push_str(&frame(entry.id, &entry.entry.name, &entry.entry.data));
                }
                if entry.entry.name == "revoked" {
                    opening.missed.push(entry.id);
                }
            }
            opening.text.push_str(&heartbeat_frame(app.clock.millis(), opening.position));
            Ok(opening)
        }
    }
}

struct Connection {
    opening: Option<String>,
    signals: mpsc::Receiver<Signal>,
    /// Everything up to here has been sent.
    position: EventId,
    stopping: watch::Receiver<bool>,
    _presence: Presence,
}

/// Keeps the stream listed, and the sidecar connected, for as long as it lives.
struct Presence {
    app: Shared,
    sidecar: String,
    stream: String,
}

impl Presence {
    fn new(app: &Shared, sidecar: &str, resume: Option<EventId>) -> (Self, mpsc::Receiver<Signal>) {
        app.hub.sidecars.connect(sidecar, resume);
        app.count_sidecars();
        // Whoever knows the name may widen what is sent, so it cannot be guessed.
        let stream = app.random.reference();
        let signals = app.hub.streams.open(stream.clone(), sidecar.to_owned());
        (Self { app: Shared::clone(app), sidecar: sidecar.to_owned(), stream }, signals)
    }
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
            // Without another signal it was too slow: the connection ends, and the sidecar resumes where it was.
            match signal? {
                Signal::Entry(entry) if entry.id > self.position => {
                    self.position = entry.id;
                    return Some(frame(entry.id, &entry.entry.name, &entry.entry.data));
                }
                Signal::Entry(_) => {}
                // A beat that was queued before the backlog was read would move the sidecar back.
                Signal::Heartbeat { at, last } => return Some(heartbeat_frame(at, last.max(self.position))),
                Signal::Reset { tail } => {
                    self.position = tail;
                    return Some(reset_frame(tail));
                }
            }
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.app.hub.streams.close(&self.stream);
        self.app.hub.sidecars.disconnect(&self.sidecar, self.app.clock.millis());
        self.app.count_sidecars();
    }
}
