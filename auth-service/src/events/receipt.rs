//! The receipt of a revocation: who has acted on its event, over all replicas.

use std::sync::Arc;
use std::time::Duration;

use cloakroom_protocol::events::LEASE_SECONDS;
use cloakroom_protocol::revocation::Receipt;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::Hub;
use super::sidecars::{Mark, STRAY};
use crate::clock::Clock;
use crate::store::{EventId, Store, StoreError, from_json, to_json};

/// A replica that published nothing for longer is gone, and the leases of its sidecars with it.
const MARK_AGE: Duration = Duration::from_secs(LEASE_SECONDS + 1);
/// Acknowledgements that arrive together are published together.
const GATHER: Duration = Duration::from_millis(10);
/// How often acknowledgements are looked for that reached another replica.
const STRAYS: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(25);
/// How far everybody is, is looked up this often at most, however many wait for receipts.
const FRESH: Duration = Duration::from_millis(10);

/// The marks of all replicas, as they were a moment ago.
#[derive(Default)]
pub struct Overview(Mutex<Option<Seen>>);

struct Seen {
    at: Instant,
    marks: Result<Arc<[Mark]>, StoreError>,
}

/// Publishes this replica's mark soon after each change; with each heartbeat it is published anyway.
pub async fn publish_changes(hub: &Hub, store: &dyn Store, replica: &str, clock: &Clock) {
    let mut gathered = Instant::now();
    let mut changes = hub.sidecars.changes();
    loop {
        if tokio::time::timeout(STRAYS, changes.changed()).await.is_ok() {
            tokio::time::sleep(GATHER).await;
            if let Err(error) = publish_mark(hub, store, replica, clock).await {
                tracing::debug!(%error, "acknowledgements are published with the next heartbeat");
            }
        }
        if gathered.elapsed() >= STRAYS {
            gathered = Instant::now();
            if hub.sidecars.connected() > 0 {
                gather_strays(hub, store).await;
            }
        }
    }
}

pub async fn publish_mark(hub: &Hub, store: &dyn Store, replica: &str, clock: &Clock) -> Result<(), StoreError> {
    store.set_mark(replica, &to_json(&hub.sidecars.mark(clock.millis()))).await
}

/// Acknowledgements that reached other replicas.
async fn gather_strays(hub: &Hub, store: &dyn Store) {
    for (name, mark) in store.marks(MARK_AGE).await.unwrap_or_default() {
        if let (Some(sidecar), Ok(last)) = (name.strip_prefix(STRAY), mark.parse()) {
            hub.sidecars.acknowledge(sidecar, last);
        }
    }
}

/// Waits until every sidecar that was connected has acted on `event`, lost its lease, or `wait` is over.
pub async fn collect(
    hub: &Hub,
    store: &dyn Store,
    replica: &str,
    clock: &Clock,
    event: EventId,
    wait: Duration,
) -> Result<Receipt, StoreError> {
    let deadline = Instant::now() + wait;
    let mut changes = hub.sidecars.changes();
    let connected = progress(hub, store, replica, clock, event).await?.total;
    loop {
        let Progress { total, reached } = progress(hub, store, replica, clock, event).await?;
        let pending = total - reached;
        if pending == 0 || Instant::now() >= deadline {
            // Sidecars that connected since have nothing cached, and prove nothing.
            let acknowledged = reached.min(connected.saturating_sub(pending));
            let lost_lease = connected.saturating_sub(acknowledged + pending);
            return Ok(Receipt {
                event_id: Some(event.to_string()),
                connected,
                acknowledged,
                lost_lease,
                store_replicas: None,
            });
        }
        // Of our own sidecars we hear at once; the other replicas publish how far theirs are.
        let left = deadline.saturating_duration_since(Instant::now());
        if tokio::time::timeout(POLL.min(left), changes.changed()).await.is_ok() {
            tokio::time::sleep(FRESH.min(left)).await;
        }
    }
}

struct Progress {
    total: u64,
    reached: u64,
}

/// As of a moment ago. A mark from before the event has reached nobody.
async fn progress(
    hub: &Hub,
    store: &dyn Store,
    replica: &str,
    clock: &Clock,
    event: EventId,
) -> Result<Progress, StoreError> {
    let mut seen = hub.overview.0.lock().await;
    let marks = match &*seen {
        Some(seen) if seen.at.elapsed() < FRESH => seen.marks.clone(),
        _ => {
            let at = Instant::now();
            let marks = marks(hub, store, replica, clock).await;
            *seen = Some(Seen { at, marks: marks.clone() });
            marks
        }
    };
    drop(seen);
    let marks = marks?;
    let sum = |figure: &dyn Fn(&Mark) -> u64| marks.iter().map(figure).sum();
    Ok(Progress { total: sum(&Mark::total), reached: sum(&|mark| mark.reached(event)) })
}

/// Our own as it is now, the others' as published.
async fn marks(hub: &Hub, store: &dyn Store, replica: &str, clock: &Clock) -> Result<Arc<[Mark]>, StoreError> {
    let others = store.marks(MARK_AGE).await?;
    let others = others.iter().filter(|(name, _)| *name != replica && !name.starts_with(STRAY));
    let own = std::iter::once(Ok(hub.sidecars.mark(clock.millis())));
    own.chain(others.map(|(_, mark)| from_json("mark", mark))).collect()
}
