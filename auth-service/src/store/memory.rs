//! The store of one process: tests and local mode.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;

use super::{
    Backlog, Created, Entry, EventId, Fields, Guard, Key, Revocation, Store, StoreError, StreamEntry, TRAIL_LENGTH,
    Update, Updated,
};
use crate::clock::Clock;

/// As many events as the Redis stream keeps, so that resuming behaves alike.
const STREAM_LENGTH: usize = 100_000;

/// Expired entries are looked for after this many writes.
const SWEEP_EVERY: u32 = 1024;

pub struct MemoryStore {
    clock: Clock,
    state: Mutex<State>,
    arrived: Notify,
}

#[derive(Default)]
struct State {
    documents: HashMap<Key, Document>,
    /// Key → when the tombstone falls, Unix milliseconds.
    tombstones: HashMap<Key, u64>,
    indexes: HashMap<Key, BTreeMap<String, Option<u64>>>,
    counters: HashMap<Key, (u64, u64)>,
    stream: VecDeque<StreamEntry>,
    last_id: EventId,
    trimmed: EventId,
    marks: HashMap<String, (String, u64)>,
    trail: VecDeque<(EventId, String)>,
    writes: u32,
}

struct Document {
    fields: Fields,
    expires: Option<u64>,
}

impl MemoryStore {
    pub fn new(clock: Clock) -> Self {
        Self { clock, state: Mutex::default(), arrived: Notify::new() }
    }

    fn lock(&self) -> (MutexGuard<'_, State>, u64) {
        let now = self.clock.millis();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.writes += 1;
        if state.writes >= SWEEP_EVERY {
            state.writes = 0;
            state.sweep(now);
        }
        (state, now)
    }

    fn change(&self, key: &Key, update: Update, make: bool) -> Updated {
        let (mut state, now) = self.lock();
        if state.is_dead(key, now) || (!make && state.document(key, now).is_none()) {
            return Updated::Missing;
        }
        let current = state.document(key, now).map(|document| &document.fields);
        let holds = update.require.iter().all(|(field, wanted)| current.and_then(|f| f.get(field)) == wanted.as_ref());
        if !holds {
            return Updated::Conflict;
        }
        if state.document(key, now).is_none() {
            state.documents.remove(key);
        }
        let document =
            state.documents.entry(key.clone()).or_insert_with(|| Document { fields: Fields::new(), expires: None });
        document.fields.extend(update.set);
        for field in &update.unset {
            document.fields.remove(field);
        }
        if let Some(ttl) = update.ttl {
            document.expires = Some(after(now, ttl));
        }
        Updated::Yes
    }

    fn append(&self, state: &mut State, now: u64, entry: &Entry) -> EventId {
        let id = if now > state.last_id.millis {
            EventId { millis: now, sequence: 0 }
        } else {
            EventId { millis: state.last_id.millis, sequence: state.last_id.sequence + 1 }
        };
        state.last_id = id;
        state.stream.push_back(StreamEntry { id, entry: entry.clone() });
        if state.stream.len() > STREAM_LENGTH
            && let Some(dropped) = state.stream.pop_front()
        {
            state.trimmed = dropped.id;
        }
        self.arrived.notify_waiters();
        id
    }
}

impl State {
    fn document(&self, key: &Key, now: u64) -> Option<&Document> {
        self.documents.get(key).filter(|document| document.expires.is_none_or(|expires| expires > now))
    }

    fn is_dead(&self, key: &Key, now: u64) -> bool {
        self.tombstones.get(key).is_some_and(|until| *until > now)
    }

    fn sweep(&mut self, now: u64) {
        self.documents.retain(|_, document| document.expires.is_none_or(|expires| expires > now));
        self.tombstones.retain(|_, until| *until > now);
        self.counters.retain(|_, (_, until)| *until > now);
        for members in self.indexes.values_mut() {
            members.retain(|_, until| until.is_none_or(|until| until > now));
        }
        self.indexes.retain(|_, members| !members.is_empty());
    }
}

fn after(now: u64, ttl: Duration) -> u64 {
    now.saturating_add(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX))
}

#[async_trait]
impl Store for MemoryStore {
    async fn create(
        &self,
        key: &Key,
        fields: Vec<(String, String)>,
        ttl: Option<Duration>,
    ) -> Result<Created, StoreError> {
        let (mut state, now) = self.lock();
        if state.is_dead(key, now) {
            return Ok(Created::Dead);
        }
        if state.document(key, now).is_some() {
            return Ok(Created::Exists);
        }
        let document = Document { fields: fields.into_iter().collect(), expires: ttl.map(|ttl| after(now, ttl)) };
        state.documents.insert(key.clone(), document);
        Ok(Created::Yes)
    }

    async fn read(&self, key: &Key, fields: &[&str]) -> Result<Option<Vec<Option<String>>>, StoreError> {
        let (state, now) = self.lock();
        let Some(document) = state.document(key, now) else { return Ok(None) };
        let values: Vec<_> = fields.iter().map(|field| document.fields.get(*field).cloned()).collect();
        Ok(values.iter().any(Option::is_some).then_some(values))
    }

    async fn read_all(&self, key: &Key) -> Result<Option<Fields>, StoreError> {
        let (state, now) = self.lock();
        Ok(state.document(key, now).map(|document| document.fields.clone()))
    }

    async fn update(&self, key: &Key, update: Update) -> Result<Updated, StoreError> {
        Ok(self.change(key, update, false))
    }

    async fn upsert(&self, key: &Key, update: Update) -> Result<Updated, StoreError> {
        Ok(self.change(key, update, true))
    }

    async fn take(&self, key: &Key) -> Result<Option<Fields>, StoreError> {
        let (mut state, now) = self.lock();
        let live = state.document(key, now).is_some();
        Ok(state.documents.remove(key).filter(|_| live).map(|document| document.fields))
    }

    async fn revoke(&self, keys: &[Key], tombstone: Duration, event: &Entry) -> Result<Revocation, StoreError> {
        let (mut state, now) = self.lock();
        let mut removed = Vec::with_capacity(keys.len());
        for key in keys {
            let live = state.document(key, now).is_some();
            removed.push(state.documents.remove(key).filter(|_| live).map(|document| document.fields));
            state.tombstones.insert(key.clone(), after(now, tombstone));
        }
        let event = self.append(&mut state, now, event);
        Ok(Revocation { removed, event, replicas: None })
    }

    async fn recover(&self) -> Result<usize, StoreError> {
        Ok(0)
    }

    async fn is_dead(&self, key: &Key) -> Result<bool, StoreError> {
        let (state, now) = self.lock();
        Ok(state.is_dead(key, now))
    }

    async fn index_add(
        &self,
        index: &Key,
        member: &str,
        ttl: Option<Duration>,
        guard: Option<Guard>,
    ) -> Result<bool, StoreError> {
        let (mut state, now) = self.lock();
        let holds = guard.is_none_or(|guard| {
            state.document(&guard.key, now).and_then(|document| document.fields.get(&guard.field)) == Some(&guard.value)
        });
        if holds {
            let until = ttl.map(|ttl| after(now, ttl));
            state.indexes.entry(index.clone()).or_default().insert(member.to_owned(), until);
        }
        Ok(holds)
    }

    async fn index_list(&self, index: &Key, offset: usize, limit: usize) -> Result<Vec<String>, StoreError> {
        let (state, now) = self.lock();
        let mut members: Vec<(u64, &String)> = state
            .indexes
            .get(index)
            .into_iter()
            .flatten()
            .filter(|(_, until)| until.is_none_or(|until| until > now))
            .map(|(member, until)| (until.unwrap_or(u64::MAX), member))
            .collect();
        members.sort_unstable();
        Ok(members.into_iter().skip(offset).take(limit).map(|(_, member)| member.clone()).collect())
    }

    async fn index_remove(&self, index: &Key, member: &str) -> Result<(), StoreError> {
        let (mut state, _) = self.lock();
        if let Some(members) = state.indexes.get_mut(index) {
            members.remove(member);
        }
        Ok(())
    }

    async fn hit(&self, counter: &Key, window: Duration) -> Result<u64, StoreError> {
        let (mut state, now) = self.lock();
        let entry = state.counters.entry(counter.clone()).or_insert((0, 0));
        if entry.1 <= now {
            *entry = (0, after(now, window));
        }
        entry.0 += 1;
        Ok(entry.0)
    }

    async fn forget_hits(&self, counter: &Key) -> Result<(), StoreError> {
        let (mut state, _) = self.lock();
        state.counters.remove(counter);
        Ok(())
    }

    async fn publish(&self, entry: &Entry) -> Result<EventId, StoreError> {
        let (mut state, now) = self.lock();
        Ok(self.append(&mut state, now, entry))
    }

    async fn tail(&self) -> Result<EventId, StoreError> {
        let (mut state, now) = self.lock();
        if state.stream.is_empty() {
            return Ok(self.append(&mut state, now, &Entry { name: "start".into(), data: "{}".into() }));
        }
        Ok(state.last_id)
    }

    async fn next_entries(&self, last: EventId, block: Duration) -> Result<Vec<StreamEntry>, StoreError> {
        let deadline = tokio::time::Instant::now() + block;
        loop {
            let arrived = self.arrived.notified();
            tokio::pin!(arrived);
            arrived.as_mut().enable();
            {
                let (state, _) = self.lock();
                let from = state.stream.partition_point(|entry| entry.id <= last);
                if from < state.stream.len() {
                    return Ok(state.stream.range(from..).cloned().collect());
                }
            }
            if tokio::time::timeout_at(deadline, arrived).await.is_err() {
                return Ok(Vec::new());
            }
        }
    }

    async fn backlog(&self, last: EventId) -> Result<Backlog, StoreError> {
        let (state, _) = self.lock();
        if last <= state.trimmed || last > state.last_id || state.stream.front().is_none_or(|first| last < first.id) {
            return Ok(Backlog::Gap { tail: state.last_id });
        }
        let from = state.stream.partition_point(|entry| entry.id <= last);
        Ok(Backlog::Entries(state.stream.range(from..).cloned().collect()))
    }

    async fn set_mark(&self, replica: &str, mark: &str) -> Result<(), StoreError> {
        let (mut state, now) = self.lock();
        state.marks.insert(replica.to_owned(), (mark.to_owned(), now));
        Ok(())
    }

    async fn marks(&self, max_age: Duration) -> Result<Fields, StoreError> {
        let (mut state, now) = self.lock();
        state.marks.retain(|_, (_, at)| after(*at, max_age) > now);
        Ok(state.marks.iter().map(|(replica, (mark, _))| (replica.clone(), mark.clone())).collect())
    }

    async fn trail_add(&self, lines: &[String]) -> Result<(), StoreError> {
        let (mut state, now) = self.lock();
        for line in lines {
            let last = state.trail.back().map_or(EventId::default(), |(id, _)| *id);
            let id = if now > last.millis {
                EventId { millis: now, sequence: 0 }
            } else {
                EventId { sequence: last.sequence + 1, ..last }
            };
            state.trail.push_back((id, line.clone()));
            if state.trail.len() > TRAIL_LENGTH {
                state.trail.pop_front();
            }
        }
        Ok(())
    }

    async fn trail(&self, before: Option<EventId>, limit: usize) -> Result<Vec<(EventId, String)>, StoreError> {
        let (state, _) = self.lock();
        let end = before.map_or(state.trail.len(), |before| state.trail.partition_point(|(id, _)| *id < before));
        Ok(state.trail.range(..end).rev().take(limit).cloned().collect())
    }

    async fn advice(&self) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }
}
