//! The only shared state, behind one trait: documents with fields, indexes, counters, and the event stream.
//!
//! A document lives under a [`Key`]; all keys with the same tag share one Redis Cluster slot, so that one script may change them at
//! once. What the documents mean is the business of [`record`](crate::record).

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

pub mod event_id;
pub mod memory;
pub mod redis;

#[cfg(test)]
mod contract;

pub use event_id::EventId;

/// Names a document, an index or a counter. Keys of one tag are changed atomically together.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key {
    tag: String,
    kind: String,
}

impl Key {
    /// `kind` is a word of ours; `tag` may come from outside: what would move the slot is written otherwise, and no two tags alike.
    pub fn new(kind: &str, tag: impl fmt::Display) -> Self {
        let mut tag = tag.to_string();
        if tag.is_empty() {
            "%".clone_into(&mut tag);
        } else if tag.contains(['%', '{', '}']) {
            tag = tag.replace('%', "%25").replace('{', "%7B").replace('}', "%7D");
        }
        Self { tag, kind: kind.to_owned() }
    }

    pub fn kind(&self) -> &str {
        &self.kind
    }

    fn render(&self, prefix: &str) -> String {
        format!("{prefix}{{{}}}:{}", self.tag, self.kind)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.tag)
    }
}

/// Audit lines kept, about.
pub const TRAIL_LENGTH: usize = 10_000;

pub type Fields = HashMap<String, String>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    Yes,
    Exists,
    /// It was revoked before: a late write must not bring it back.
    Dead,
}

/// A change to an existing document, applied whole or not at all.
#[derive(Clone, Debug, Default)]
pub struct Update {
    /// Field → the value it must have (`None`: absent) for the change to apply.
    pub require: Vec<(String, Option<String>)>,
    pub set: Vec<(String, String)>,
    pub unset: Vec<String>,
    /// Time to live from now; absent: as it was.
    pub ttl: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Updated {
    Yes,
    /// A required field has another value.
    Conflict,
    /// There is no such document, or no longer.
    Missing,
}

/// A condition on a document of the same tag as the index.
#[derive(Clone, Debug)]
pub struct Guard {
    pub key: Key,
    pub field: String,
    pub value: String,
}

/// What goes onto the event stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub name: String,
    pub data: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamEntry {
    pub id: EventId,
    pub entry: Entry,
}

/// What a revocation did.
#[derive(Clone, Debug)]
pub struct Revocation {
    /// The documents as they were, in the order asked for; `None` where there was none.
    pub removed: Vec<Option<Fields>>,
    pub event: EventId,
    /// Store replicas that are known to hold it; absent where the store has none.
    pub replicas: Option<u64>,
}

/// Where a reader that has seen everything up to some id stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backlog {
    /// Everything since.
    Entries(Vec<StreamEntry>),
    /// Something may be missing: trimmed, or lost with the store.
    Gap { tail: EventId },
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    #[error("the store does not answer: {0}")]
    Unavailable(String),
    #[error("no replica of the store confirmed the write in time")]
    NotReplicated,
    #[error("the store holds what this version cannot read: {0}")]
    Corrupt(String),
}

#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Writes a new document, unless it exists or has a tombstone.
    async fn create(
        &self,
        key: &Key,
        fields: Vec<(String, String)>,
        ttl: Option<Duration>,
    ) -> Result<Created, StoreError>;

    /// As [`Store::create`], but acknowledged only once a replica holds it: what a person or an application was told must survive a failover.
    async fn create_durably(
        &self,
        key: &Key,
        fields: Vec<(String, String)>,
        ttl: Option<Duration>,
    ) -> Result<Created, StoreError> {
        self.create(key, fields, ttl).await
    }

    /// The named fields, in order; `None` if there is no such document, or none of the fields in it.
    async fn read(&self, key: &Key, fields: &[&str]) -> Result<Option<Vec<Option<String>>>, StoreError>;

    async fn read_all(&self, key: &Key) -> Result<Option<Fields>, StoreError>;

    /// Changes a document that exists.
    async fn update(&self, key: &Key, update: Update) -> Result<Updated, StoreError>;

    /// As [`Store::update`], but acknowledged only once a replica holds it.
    async fn update_durably(&self, key: &Key, update: Update) -> Result<Updated, StoreError> {
        self.update(key, update).await
    }

    /// Changes a document, or makes it; `require` holds all the same (an absent document has no fields).
    async fn upsert(&self, key: &Key, update: Update) -> Result<Updated, StoreError>;

    /// Removes and returns a document; of several callers one gets it.
    async fn take(&self, key: &Key) -> Result<Option<Fields>, StoreError>;

    /// Removes documents for good, then puts `event` on the stream; both are replicated before this returns.
    ///
    /// Tombstones keep the documents from being created or changed for `tombstone`, whether they existed or not. A call that fails
    /// half-way is finished by [`Store::recover`].
    async fn revoke(&self, keys: &[Key], tombstone: Duration, event: &Entry) -> Result<Revocation, StoreError>;

    /// Finishes revocations that another process began and left; returns how many.
    async fn recover(&self) -> Result<usize, StoreError>;

    /// Whether a tombstone stands there.
    async fn is_dead(&self, key: &Key) -> Result<bool, StoreError>;

    /// Puts a member into an index, durably, until it expires there (never, if `None`); with a guard, only while that holds.
    async fn index_add(
        &self,
        index: &Key,
        member: &str,
        ttl: Option<Duration>,
        guard: Option<Guard>,
    ) -> Result<bool, StoreError>;

    /// Members that have not expired, in order of expiry, then of name.
    async fn index_list(&self, index: &Key, offset: usize, limit: usize) -> Result<Vec<String>, StoreError>;

    async fn index_remove(&self, index: &Key, member: &str) -> Result<(), StoreError>;

    /// Counts one more within a window that starts with the first; returns the count.
    async fn hit(&self, counter: &Key, window: Duration) -> Result<u64, StoreError>;

    async fn forget_hits(&self, counter: &Key) -> Result<(), StoreError>;

    async fn publish(&self, entry: &Entry) -> Result<EventId, StoreError>;

    /// Id of the newest entry; makes sure that there is one.
    async fn tail(&self) -> Result<EventId, StoreError>;

    /// Waits up to `block` for entries after `last`; empty if none came. Answering at all proves touch with the store.
    async fn next_entries(&self, last: EventId, block: Duration) -> Result<Vec<StreamEntry>, StoreError>;

    /// What a reader at `last` has missed.
    async fn backlog(&self, last: EventId) -> Result<Backlog, StoreError>;

    /// Publishes how far the sidecars of one replica of this service are.
    async fn set_mark(&self, replica: &str, mark: &str) -> Result<(), StoreError>;

    /// The marks of all replicas that set theirs within `max_age`, by replica.
    async fn marks(&self, max_age: Duration) -> Result<Fields, StoreError>;

    /// Keeps lines of the audit trail, of which the last [`TRAIL_LENGTH`] or so stay.
    async fn trail_add(&self, lines: &[String]) -> Result<(), StoreError>;

    /// Lines before one, the latest first.
    async fn trail(&self, before: Option<EventId>, limit: usize) -> Result<Vec<(EventId, String)>, StoreError>;

    /// What the person who operates the store should change, one sentence each.
    async fn advice(&self) -> Result<Vec<String>, StoreError>;
}

/// Everything that is written as a field's value.
pub fn to_json<T: Serialize>(value: &T) -> String {
    // Our records are plain structs with string keys: serialization has nothing to fail on.
    serde_json::to_string(value).unwrap_or_default()
}

pub fn from_json<'a, T: Deserialize<'a>>(what: &str, json: &'a str) -> Result<T, StoreError> {
    serde_json::from_str(json).map_err(|error| StoreError::Corrupt(format!("{what}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_tag_can_leave_its_braces_or_pass_for_another() {
        let tags = ["", "%", "a", "{a}", "%7Ba%7D", "a}b{c", "{"];
        let rendered: std::collections::BTreeSet<String> =
            tags.iter().map(|tag| Key::new("k", tag).render("p:")).collect();
        assert_eq!(rendered.len(), tags.len());
        assert!(rendered.iter().all(|key| key.matches(['{', '}']).count() == 2 && !key.contains("{}")));
    }
}
