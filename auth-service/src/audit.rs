//! The audit trail: one line for every security event, never with a secret in it.
//!
//! Lines go to the log with target `audit`; with the JSON log format each is one JSON object, and the log is the trail that counts. The last
//! few thousand are in the store as well, for the admin API to show.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::store::{Store, to_json};

/// Lines on their way to the store; more at once are in the log only.
const ON_THE_WAY: usize = 1000;
/// Lines in one write.
const BATCH: usize = 100;
/// A line's fields are cut at so many characters: some come from people who are not signed in.
const MAX_FIELD: usize = 300;

tokio::task_local! {
    /// Set by [`within`] for all that is done for one request.
    static REQUEST: Request;
}

/// The request that events happen in.
#[derive(Clone)]
pub struct Request {
    /// Quoted to whoever asked, in the `cloakroom-decision` header and in every error.
    pub decision: Arc<str>,
    pub trail: Trail,
}

/// What the store keeps of an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = AuditEvent)]
pub struct Line {
    /// Unix milliseconds.
    pub time: u64,
    pub event: String,
    /// Who did it: an account, an address, a subject.
    pub actor: String,
    /// To whom or what.
    pub subject: String,
    pub reason: String,
    /// Of the request it happened in; the answer had it, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<String>,
}

/// `event`: what happened; `actor`: who did it; `subject`: to whom; `reason`: why, or what of it.
pub fn record(event: &'static str, actor: impl Display, subject: impl Display, reason: impl Display) {
    let request = REQUEST.try_with(Clone::clone).ok();
    let decision = request.as_ref().map_or("", |request| &*request.decision);
    tracing::info!(target: "audit", event, actor = %actor, subject = %subject, reason = %reason, decision, "audit");
    if let Some(Request { decision, trail }) = &request {
        let cut = |field: &dyn Display| field.to_string().chars().take(MAX_FIELD).collect();
        trail.send(Line {
            time: trail.clock.millis(),
            event: event.to_owned(),
            actor: cut(&actor),
            subject: cut(&subject),
            reason: cut(&reason),
            decision: Some((**decision).to_owned()),
        });
    }
}

/// The id of the request under way.
pub fn decision() -> Option<Arc<str>> {
    REQUEST.try_with(|request| Arc::clone(&request.decision)).ok()
}

/// Runs what is done for a request, so that events in it are told apart from others'.
pub async fn within<T>(request: Request, work: impl Future<Output = T>) -> T {
    REQUEST.scope(request, work).await
}

/// Where lines go on their way to the store.
#[derive(Clone)]
pub struct Trail {
    sender: mpsc::Sender<Line>,
    clock: crate::clock::Clock,
}

/// The other end of a [`Trail`].
pub struct TrailWriter(mpsc::Receiver<Line>);

impl Trail {
    pub fn new(clock: crate::clock::Clock) -> (Self, TrailWriter) {
        let (sender, receiver) = mpsc::channel(ON_THE_WAY);
        (Self { sender, clock }, TrailWriter(receiver))
    }

    /// Nobody waits for the trail, and an outage of the store fills no memory: the log has the line already.
    fn send(&self, line: Line) {
        let _ = self.sender.try_send(line);
    }
}

impl TrailWriter {
    pub async fn run(mut self, store: &dyn Store) {
        let mut lines = Vec::new();
        while self.0.recv_many(&mut lines, BATCH).await > 0 {
            let batch: Vec<String> = lines.drain(..).map(|line| to_json(&line)).collect();
            for pause in [Duration::from_millis(200), Duration::from_secs(2), Duration::ZERO] {
                match store.trail_add(&batch).await {
                    Ok(()) => break,
                    Err(error) if pause.is_zero() => {
                        tracing::warn!(%error, lines = batch.len(), "audit lines are in the log only");
                    }
                    // Perhaps written all the same: a line twice is better than none.
                    Err(_) => tokio::time::sleep(pause).await,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::store::memory::MemoryStore;

    #[tokio::test]
    async fn what_happens_in_a_request_is_kept_with_its_id_and_cut_to_size() {
        let store = MemoryStore::new(Clock::system());
        let (trail, writer) = Trail::new(Clock::system());
        let request = Request { decision: "d1".into(), trail };
        within(request, async {
            record("sign-in.failed", "192.0.2.1", "é".repeat(5000), "wrong name or password");
        })
        .await;
        record("elsewhere", "", "", "in no request: in the log only");
        writer.run(&store).await;
        let kept = store.trail(None, 10).await.unwrap();
        let line: Line = serde_json::from_str(&kept[0].1).unwrap();
        assert_eq!((kept.len(), line.decision.as_deref(), line.subject.chars().count()), (1, Some("d1"), MAX_FIELD));
    }
}
