//! Which tokens belong to whom, in what order they came, and whose streams are open.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use cloakroom_protocol::events::Revoked;
use cloakroom_protocol::interest::Key;
use cloakroom_protocol::presented::ForeignToken;
use cloakroom_protocol::token::TokenId;
use tokio::time::Instant;

use super::coverage::{Coverage, Declaration};
use super::holders::Holders;
use super::recent::Recent;
use super::{Bounds, Fingerprint, Fresh};
use crate::open_streams::{End, Life};

/// Uses of evicted entries that wait for the next report.
const UNREPORTED: usize = 4096;
/// What is open outlives another issuer's last word by this at most: as long as it outlives the lease, for the same reason.
const UNASKED_GRACE: Duration = Duration::from_secs(60);
/// A question about it that failed is tried again after this.
const ASK_AGAIN: Duration = Duration::from_secs(2);

pub struct Index {
    bounds: Bounds,
    pub recent: Recent,
    pub coverage: Coverage,
    /// Every token that is cached or has something open.
    records: HashMap<Fingerprint, Record>,
    /// By their records, sessions and subjects.
    holders: Holders,
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
    hearsay: Option<Hearsay>,
    cached: bool,
}

/// Another issuer's word: no event tells of its end, so it must be asked for again.
struct Hearsay {
    token: ForeignToken,
    again: Instant,
    /// Without an answer until then, what is open ends.
    lapses: Instant,
}

impl Record {
    fn keys(&self) -> impl Iterator<Item = Key> {
        let sid = self.sid.filter(|sid| *sid != self.id);
        [Key::record(&self.id), Key::subject(&self.sub)].into_iter().chain(sid.map(|sid| Key::record(&sid)))
    }
}

impl Index {
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            recent: Recent::default(),
            coverage: Coverage::default(),
            records: HashMap::new(),
            holders: Holders::default(),
            queue: VecDeque::new(),
            entries: 0,
            bytes: 0,
            evictions: 0,
            unreported: Vec::new(),
        }
    }

    /// The token's life: the one it has, if it still lives.
    pub fn life(&mut self, fingerprint: Fingerprint, fresh: &Fresh, now: Instant) -> Arc<Life> {
        let Fresh { active, .. } = fresh;
        let until = now + fresh.token_left;
        let hearsay = fresh.foreign.clone().zip(fresh.believed).map(|(token, believed)| {
            let again = fresh.asked + believed;
            Hearsay { token, again, lapses: again + UNASKED_GRACE }
        });
        if let Some(record) = self.records.get_mut(&fingerprint)
            && record.life.revive()
        {
            (record.until, record.hearsay) = (until, hearsay);
            return record.life.clone();
        }
        self.forget(&fingerprint);
        let life = Arc::<Life>::default();
        let record = Record {
            life: life.clone(),
            id: active.id,
            sid: active.sid,
            sub: active.sub.clone(),
            client_id: active.client_id.clone(),
            until,
            hearsay,
            cached: false,
        };
        for key in record.keys() {
            self.holders.add(key, fingerprint);
        }
        self.records.insert(fingerprint, record);
        life
    }

    /// Every token that a revocation names.
    pub fn matching(&self, revoked: &Revoked) -> Vec<Fingerprint> {
        match revoked {
            Revoked::Id { id } => self.select(Key::record(id), |record| record.id == *id),
            Revoked::Subject { sub, except } => {
                self.select(Key::subject(sub), |record| record.sub == *sub && Some(record.id) != *except)
            }
            // Rare: a client is removed, or its secret leaked.
            Revoked::Client { client_id } => {
                let records = self.records.iter();
                records.filter(|(_, record)| record.client_id == *client_id).map(|(found, _)| *found).collect()
            }
        }
    }

    /// Every token of a record, and those that came with that session.
    pub fn with_id(&self, id: TokenId) -> Vec<Fingerprint> {
        self.select(Key::record(&id), |record| record.id == id || record.sid == Some(id))
    }

    /// What is held, for the auth service, if it is time to say so.
    pub fn declare(&mut self, now: Instant) -> Option<Declaration> {
        let held = || {
            let mut held: Vec<Key> = self.holders.keys().collect();
            let clients: HashSet<&str> = self.records.values().map(|record| &*record.client_id).collect();
            held.extend(clients.into_iter().map(Key::client));
            held
        };
        self.coverage.declare(held, &mut self.recent, now)
    }

    /// Tokens that have come to their end, and those of other issuers who have not answered for them for too long.
    pub fn expired(&self, now: Instant) -> Vec<(Fingerprint, End)> {
        let end = |record: &Record| {
            let lapsed = record.hearsay.as_ref().is_some_and(|hearsay| hearsay.lapses <= now);
            if record.until <= now { Some(End::Expired) } else { lapsed.then_some(End::Unheard) }
        };
        self.records.iter().filter_map(|(found, record)| Some((*found, end(record)?))).collect()
    }

    /// It stays on the lists while something is under way with it: a revocation still has to find that.
    pub fn expire(&self, fingerprint: &Fingerprint) {
        if let Some(record) = self.records.get(fingerprint) {
            record.life.expire();
        }
    }

    /// Whether it is known to come to its own end by then.
    pub fn ends_by(&self, fingerprint: &Fingerprint, then: Instant) -> bool {
        self.records.get(fingerprint).is_some_and(|record| record.until <= then)
    }

    /// Cached answers that hold no longer, though their tokens may still be good.
    pub fn no_longer_believed(&self, now: Instant) -> Vec<Fingerprint> {
        let stale = |record: &Record| record.cached && record.hearsay.as_ref().is_some_and(|h| h.again <= now);
        self.records.iter().filter(|(_, record)| stale(record)).map(|(found, _)| *found).collect()
    }

    /// Those that nothing but what is open still holds.
    pub fn due(&mut self, now: Instant) -> Vec<(Fingerprint, ForeignToken)> {
        let mut due = Vec::new();
        for (fingerprint, record) in &mut self.records {
            let open = Arc::strong_count(&record.life) > 1;
            if let Some(hearsay) = &mut record.hearsay
                && open
                && hearsay.again <= now
                && now < record.until
            {
                hearsay.again = now + ASK_AGAIN;
                due.push((*fingerprint, hearsay.token.clone()));
            }
        }
        due
    }

    /// Takes the token off the lists; what to do about its life is up to the caller.
    pub fn forget(&mut self, fingerprint: &Fingerprint) -> Option<Arc<Life>> {
        let record = self.records.remove(fingerprint)?;
        for key in record.keys() {
            self.holders.remove(key, fingerprint);
        }
        Some(record.life)
    }

    pub fn forget_all(&mut self) -> Vec<Arc<Life>> {
        self.holders.clear();
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

    /// Keys are hashes: what has the same is not always what is meant.
    fn select(&self, key: Key, wanted: impl Fn(&Record) -> bool) -> Vec<Fingerprint> {
        let found = self.holders.of(key).copied();
        found.filter(|fingerprint| self.records.get(fingerprint).is_some_and(&wanted)).collect()
    }

    /// The queue may name what is gone; not for much longer than what is there.
    fn trim_queue(&mut self) {
        if self.queue.len() > 64 + 2 * self.entries {
            let records = &self.records;
            let mut seen = HashSet::new();
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
