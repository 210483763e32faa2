//! Which tokens belong to whom, in what order they came, and whose streams are open.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use cloakroom_protocol::events::Revoked;
use cloakroom_protocol::interest::Key;
use cloakroom_protocol::introspection::ActiveToken;
use cloakroom_protocol::token::TokenId;
use tokio::time::Instant;

use super::coverage::{Coverage, Declaration};
use super::recent::Recent;
use super::{Bounds, Fingerprint};
use crate::open_streams::Life;

/// Uses of evicted entries that wait for the next report.
const UNREPORTED: usize = 4096;

pub struct Index {
    bounds: Bounds,
    pub recent: Recent,
    pub coverage: Coverage,
    /// Every token that is cached or has something open.
    records: HashMap<Fingerprint, Record>,
    by_id: HashMap<TokenId, Vec<Fingerprint>>,
    by_sub: HashMap<String, Vec<Fingerprint>>,
    /// Oldest first, with the use that was known when it was queued. May name what is gone.
    queue: VecDeque<(Fingerprint, u64)>,
    entries: usize,
    bytes: usize,
    evictions: u64,
    unreported: Vec<(TokenId, u64)>,
}

struct Record {
    life: Arc<Life>,
    id: TokenId,
    sid: Option<TokenId>,
    sub: String,
    client_id: String,
    until: Instant,
    cached: bool,
}

impl Index {
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            recent: Recent::default(),
            coverage: Coverage::default(),
            records: HashMap::new(),
            by_id: HashMap::new(),
            by_sub: HashMap::new(),
            queue: VecDeque::new(),
            entries: 0,
            bytes: 0,
            evictions: 0,
            unreported: Vec::new(),
        }
    }

    /// The token's life: the one it has, if it still lives.
    pub fn life(&mut self, fingerprint: Fingerprint, active: &ActiveToken, until: Instant) -> Arc<Life> {
        if let Some(record) = self.records.get_mut(&fingerprint)
            && !record.life.is_over()
        {
            record.until = until;
            return record.life.clone();
        }
        self.forget(&fingerprint);
        let life = Arc::<Life>::default();
        for id in std::iter::once(active.id).chain(active.sid.filter(|sid| *sid != active.id)) {
            self.by_id.entry(id).or_default().push(fingerprint);
        }
        self.by_sub.entry(active.sub.clone()).or_default().push(fingerprint);
        self.records.insert(
            fingerprint,
            Record {
                life: life.clone(),
                id: active.id,
                sid: active.sid,
                sub: active.sub.clone(),
                client_id: active.client_id.clone(),
                until,
                cached: false,
            },
        );
        life
    }

    /// Every token that a revocation names.
    pub fn matching(&self, revoked: &Revoked) -> Vec<Fingerprint> {
        match revoked {
            Revoked::Id { id } => self.select(self.by_id.get(id), |record| record.id == *id),
            Revoked::Subject { sub, except } => self.select(self.by_sub.get(sub), |record| Some(record.id) != *except),
            // Rare: a client is removed, or its secret leaked.
            Revoked::Client { client_id } => {
                let records = self.records.iter();
                records.filter(|(_, record)| record.client_id == *client_id).map(|(found, _)| *found).collect()
            }
        }
    }

    /// Every token of a record, and those that came with that session.
    pub fn with_id(&self, id: TokenId) -> Vec<Fingerprint> {
        self.by_id.get(&id).cloned().unwrap_or_default()
    }

    /// What is held, for the auth service, if it is time to say so.
    pub fn declare(&mut self, now: Instant) -> Option<Declaration> {
        let records = &self.records;
        let keys = |record: &Record| {
            Key::of_token(&record.id, record.sid.as_ref(), &record.sub, &record.client_id).collect::<Vec<_>>()
        };
        let held = || {
            let mut held: Vec<Key> = records.values().flat_map(keys).collect();
            held.sort_unstable();
            held.dedup();
            held
        };
        self.coverage.declare(held, &mut self.recent, now)
    }

    pub fn expired(&self, now: Instant) -> Vec<Fingerprint> {
        self.records.iter().filter(|(_, record)| record.until <= now).map(|(found, _)| *found).collect()
    }

    /// Takes the token off the lists; what to do about its life is up to the caller.
    pub fn forget(&mut self, fingerprint: &Fingerprint) -> Option<Arc<Life>> {
        let record = self.records.remove(fingerprint)?;
        for id in std::iter::once(record.id).chain(record.sid) {
            drop_from(&mut self.by_id, &id, fingerprint);
        }
        drop_from(&mut self.by_sub, &record.sub, fingerprint);
        Some(record.life)
    }

    pub fn forget_all(&mut self) -> Vec<Arc<Life>> {
        self.by_id = HashMap::new();
        self.by_sub = HashMap::new();
        std::mem::take(&mut self.records).into_values().map(|record| record.life).collect()
    }

    /// Tokens that are neither cached nor held by anything open.
    pub fn forget_unused(&mut self) {
        let unused = |record: &Record| !record.cached && Arc::strong_count(&record.life) == 1;
        let gone: Vec<Fingerprint> =
            self.records.iter().filter(|(_, record)| unused(record)).map(|(found, _)| *found).collect();
        for fingerprint in gone {
            self.forget(&fingerprint);
        }
    }

    pub fn insert(&mut self, fingerprint: Fingerprint, weight: usize, used: u64) {
        if let Some(record) = self.records.get_mut(&fingerprint) {
            record.cached = true;
        }
        self.queue.push_back((fingerprint, used));
        self.entries += 1;
        self.bytes += weight;
    }

    pub fn removed(&mut self, fingerprint: &Fingerprint, weight: usize) {
        if let Some(record) = self.records.get_mut(fingerprint) {
            record.cached = false;
        }
        self.entries -= 1;
        self.bytes -= weight;
        self.trim_queue();
    }

    pub fn removed_all(&mut self) {
        for record in self.records.values_mut() {
            record.cached = false;
        }
        self.queue = VecDeque::new();
        self.entries = 0;
        self.bytes = 0;
    }

    /// While there is too much: the oldest in the queue.
    pub fn next_victim(&mut self) -> Option<(Fingerprint, u64)> {
        let full = self.entries > self.bounds.entries || self.bytes > self.bounds.bytes;
        if full { self.queue.pop_front() } else { None }
    }

    pub fn spare(&mut self, fingerprint: Fingerprint, used: u64) {
        self.queue.push_back((fingerprint, used));
    }

    pub fn evicted(&mut self, unreported: Option<(TokenId, u64)>) {
        self.evictions += 1;
        if self.unreported.len() < UNREPORTED {
            self.unreported.extend(unreported);
        }
    }

    pub fn take_unreported(&mut self) -> Vec<(TokenId, u64)> {
        std::mem::take(&mut self.unreported)
    }

    pub fn entries(&self) -> usize {
        self.entries
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn evictions(&self) -> u64 {
        self.evictions
    }

    /// Tokens on the lists, cached or not.
    #[cfg(test)]
    pub fn known(&self) -> usize {
        self.records.len()
    }

    fn select(&self, among: Option<&Vec<Fingerprint>>, wanted: impl Fn(&Record) -> bool) -> Vec<Fingerprint> {
        let among = among.into_iter().flatten();
        among.filter(|found| self.records.get(*found).is_some_and(&wanted)).copied().collect()
    }

    /// The queue may name what is gone; not for much longer than what is there.
    fn trim_queue(&mut self) {
        if self.queue.len() > 64 + 2 * self.entries {
            let records = &self.records;
            let mut seen = std::collections::HashSet::new();
            // From the back, so that of a token queued twice the later one stays.
            let mut kept: VecDeque<_> = VecDeque::with_capacity(self.entries);
            for (fingerprint, used) in self.queue.drain(..).rev() {
                if records.get(&fingerprint).is_some_and(|record| record.cached) && seen.insert(fingerprint) {
                    kept.push_front((fingerprint, used));
                }
            }
            self.queue = kept;
        }
    }
}

fn drop_from<K: std::hash::Hash + Eq>(lists: &mut HashMap<K, Vec<Fingerprint>>, key: &K, fingerprint: &Fingerprint) {
    if let Some(list) = lists.get_mut(key) {
        list.retain(|other| other != fingerprint);
        if list.is_empty() {
            lists.remove(key);
        }
    }
}
