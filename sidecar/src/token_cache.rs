//! Answers of the auth service, kept while they hold. Bounded; revocations evict; what a revocation overtook is not let in.
//!
//! Reading takes one lock of sixteen for a few nanoseconds. Everything that writes goes through [`Index`].

pub mod coverage;
pub mod holders;
pub mod index;
pub mod recent;
pub mod refused;

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cloakroom_protocol::events::Revoked;
use cloakroom_protocol::introspection::ActiveToken;
use cloakroom_protocol::presented::{ForeignToken, Presented};
use cloakroom_protocol::session::Usage;
use cloakroom_protocol::token::{OpaqueToken, TokenId, TokenKind};
use tokio::time::Instant;

use crate::config::JwtHeader;
use crate::identity::{Identity, InvalidJwt};
use crate::lease::LEASE;
use crate::open_streams::End;
use coverage::{Declaration, Stream, Tag, Uncovered};
use index::Index;
pub use recent::Overtaken;
use recent::Position;
use refused::Refused;

const SHARDS: usize = 16;

/// How much it may hold.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub entries: usize,
    pub bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { entries: 16_384, bytes: 48 << 20 }
    }
}

pub struct TokenCache {
    epoch: Instant,
    shards: [Mutex<HashMap<Fingerprint, Arc<Entry>>>; SHARDS],
    refused: Mutex<Refused>,
    index: Mutex<Index>,
}

/// SHA-256 of kind, id and secret: whoever can name it holds the very token.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fingerprint([u8; 32]);

/// An answer, and when the auth service gave it.
#[derive(Debug)]
pub struct Fresh {
    pub active: ActiveToken,
    /// When the question was asked, by our clock.
    pub asked: Instant,
    /// From now to the token's own end, by the auth service's clock.
    pub token_left: Duration,
    pub jwt_left: Duration,
    /// From the question to when it must be asked again, whatever else holds: another issuer's word.
    pub believed: Option<Duration>,
    /// Whose word that is; kept while something opened with it is open, since nobody else would ask.
    pub foreign: Option<ForeignToken>,
    /// For how long after the lease it may be needed: it is renewed early enough for that.
    pub bridge: Duration,
    /// Bytes of the answer.
    pub size: usize,
    /// The event stream that tells of changes to it, as the auth service says.
    pub stream: Option<Arc<str>>,
}

/// When and under which event stream something is asked.
#[derive(Clone, Debug)]
pub struct Question {
    began: Position,
    tag: Option<Tag>,
}

impl Question {
    /// What the auth service is told of it.
    pub fn stream(&self) -> Option<String> {
        self.tag.as_ref().map(|Tag { stream, generation }| format!("{stream}.{generation}"))
    }
}

struct Entry {
    identity: Arc<Identity>,
    asked: Instant,
    token_until: Instant,
    /// Ahead of the JWT's end, so that the app does not receive one that ends on the way; or when it is believed no longer.
    jwt_until: Instant,
    renew_at: Instant,
    /// Milliseconds after the cache's epoch.
    used: AtomicU64,
    reported: AtomicU64,
    renewing: AtomicU64,
    weight: usize,
}

/// A cached answer.
pub struct Hit {
    pub identity: Arc<Identity>,
    /// Whether the caller is the one to renew it in the background.
    pub renew: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum NotAdmitted {
    /// The answer is given back.
    #[error("{0}")]
    Overtaken(Overtaken, Box<Fresh>),
    #[error(transparent)]
    Jwt(#[from] InvalidJwt),
}

/// A renewal that failed is tried again after this.
const RENEW_AGAIN_MS: u64 = 2_000;
/// By how much the auth service may see a token's end earlier than it is seen here.
const AT_ITS_END: Duration = Duration::from_secs(2);
/// The last part of a JWT's life that is not handed out.
const JWT_MARGIN: Duration = Duration::from_secs(5);

impl TokenCache {
    pub fn new(bounds: Bounds, now: Instant) -> Self {
        Self {
            epoch: now,
            shards: std::array::from_fn(|_| Mutex::default()),
            refused: Mutex::default(),
            index: Mutex::new(Index::new(bounds)),
        }
    }

    /// The answer, if token and JWT are still good. Whether it may be used without asking again is the lease's matter.
    pub fn get(&self, fingerprint: &Fingerprint, now: Instant) -> Option<Hit> {
        let entry = self.entry(fingerprint)?;
        if !entry.holds(now) {
            return None;
        }
        let millis = self.millis(now);
        // Once a second is enough, and spares the other cores the cache line.
        if millis.saturating_sub(entry.used.load(Ordering::Relaxed)) >= 1000 {
            entry.used.store(millis, Ordering::Relaxed);
        }
        let renew = now >= entry.renew_at && entry.claim_renewal(millis);
        Some(Hit { identity: entry.identity.clone(), renew })
    }

    /// The answer with the time of its question, for the outage contract.
    pub fn get_unrenewed(&self, fingerprint: &Fingerprint, now: Instant) -> Option<(Arc<Identity>, Instant)> {
        let entry = self.entry(fingerprint).filter(|entry| entry.holds(now))?;
        Some((entry.identity.clone(), entry.asked))
    }

    /// Whether the token was refused a moment ago.
    pub fn is_refused(&self, fingerprint: &Fingerprint, now: Instant) -> bool {
        lock(&self.refused).contains(fingerprint, self.millis(now))
    }

    /// To be taken before a question is sent: what happens after it may have overtaken the answer.
    pub fn question(&self) -> Question {
        let mut index = lock(&self.index);
        Question { began: index.recent.position(), tag: index.coverage.tag() }
    }

    /// Lets an answer in, unless something overtook it.
    pub fn admit(
        &self,
        fingerprint: Fingerprint,
        question: &Question,
        fresh: Fresh,
        header: &JwtHeader,
        now: Instant,
    ) -> Result<Arc<Identity>, NotAdmitted> {
        let mut index = lock(&self.index);
        let current = match index.recent.check(question.began, &fresh.active) {
            Err(Overtaken::Revoked) => Err(Overtaken::Revoked),
            current => {
                let covered = index.coverage.check(question.tag.as_ref(), fresh.stream.as_deref());
                covered.map_err(|Uncovered| Overtaken::Uncovered).and(current)
            }
        };
        match current {
            Ok(()) => Ok(self.insert(&mut index, fingerprint, fresh, header, now)?),
            Err(overtaken) => Err(NotAdmitted::Overtaken(overtaken, Box::new(fresh))),
        }
    }

    /// An event stream begins; `name` is what the auth service calls it.
    pub fn stream_opened(&self, name: Option<Arc<str>>, now: Instant) -> Stream {
        let index = &mut *lock(&self.index);
        index.coverage.opened(name, &mut index.recent, now)
    }

    pub fn stream_ended(&self, stream: Stream) {
        let index = &mut *lock(&self.index);
        index.coverage.ended(stream, &mut index.recent);
    }

    /// It does not tell all that must be heard: another must be opened, which begins where this one is now. `false`: there is none.
    pub fn abandon_stream(&self) -> bool {
        let index = &mut *lock(&self.index);
        index.coverage.abandon(&mut index.recent)
    }

    /// Whether what this stream says still counts.
    pub fn is_current(&self, stream: Stream) -> bool {
        lock(&self.index).coverage.is_current(stream)
    }

    pub fn is_narrowed(&self) -> bool {
        lock(&self.index).coverage.is_narrowed()
    }

    /// What is held, if it is time to tell the auth service.
    pub fn declare(&self, now: Instant) -> Option<Declaration> {
        lock(&self.index).declare(now)
    }

    pub fn declaration_refused(&self, declaration: &Declaration) {
        lock(&self.index).coverage.refused(declaration);
    }

    pub fn declaration_unanswered(&self, declaration: &Declaration, now: Instant) {
        lock(&self.index).coverage.unanswered(declaration, now);
    }

    /// An identity for this one request, when changes overtake every answer.
    pub fn uncached(
        &self,
        fingerprint: Fingerprint,
        fresh: Fresh,
        header: &JwtHeader,
        now: Instant,
    ) -> Result<Arc<Identity>, InvalidJwt> {
        let mut index = lock(&self.index);
        let life = index.life(fingerprint, &fresh, now);
        Identity::new(fresh.active, header, life).map(Arc::new)
    }

    /// The auth service said no: whatever was known about this token is void.
    pub fn refuse(&self, fingerprint: Fingerprint, now: Instant) {
        let mut index = lock(&self.index);
        // A no to what has come to its own end is no revocation.
        if !index.ends_by(&fingerprint, now + AT_ITS_END)
            && let Some(life) = index.forget(&fingerprint)
        {
            life.end();
        }
        self.remove(&mut index, &fingerprint);
        lock(&self.refused).insert(&fingerprint, self.millis(now));
    }

    /// Evicts, ends what is open, and remembers it for answers that are still under way.
    pub fn revoke(&self, revoked: &Revoked) {
        let mut index = lock(&self.index);
        index.recent.revoked(revoked.clone());
        for fingerprint in index.matching(revoked) {
            if let Some(life) = index.forget(&fingerprint) {
                life.end();
            }
            self.remove(&mut index, &fingerprint);
        }
        // A token that came with a session outlives it only if the auth service says so again.
        if let Revoked::Id { id } = revoked {
            self.evict_id(&mut index, *id);
        }
    }

    /// What a record says has changed.
    pub fn update(&self, id: TokenId) {
        let mut index = lock(&self.index);
        index.recent.updated(id);
        self.evict_id(&mut index, id);
        lock(&self.refused).clear();
    }

    /// Answers were made for a policy that is no longer in force.
    pub fn clear(&self) {
        let mut index = lock(&self.index);
        index.recent.all();
        self.remove_all(&mut index);
    }

    /// Revocations may have been missed: nothing holds, nothing stays open.
    pub fn reset(&self) {
        let mut index = lock(&self.index);
        index.recent.all();
        self.remove_all(&mut index);
        for life in index.forget_all() {
            life.lose();
        }
    }

    /// Ends what outlived its token, drops what nobody uses. To be called about once a second.
    pub fn sweep(&self, now: Instant) {
        let mut index = lock(&self.index);
        for (fingerprint, end) in index.expired(now) {
            if end == End::Expired {
                index.expire(&fingerprint);
            } else if let Some(life) = index.forget(&fingerprint) {
                life.lose();
            }
            self.remove(&mut index, &fingerprint);
        }
        index.forget_unused();
        lock(&self.refused).sweep(self.millis(now));
    }

    /// Tokens of other issuers with which something is open, and that must be asked about again. Each is told of once in a while, until
    /// an answer is admitted.
    pub fn due(&self, now: Instant) -> Vec<(Fingerprint, ForeignToken)> {
        let mut index = lock(&self.index);
        for fingerprint in index.no_longer_believed(now) {
            self.remove(&mut index, &fingerprint);
        }
        index.due(now)
    }

    /// Everything that is open ends; what is cached stays, since only asking again makes it usable.
    pub fn end_streams(&self) {
        let mut index = lock(&self.index);
        self.remove_all(&mut index);
        for life in index.forget_all() {
            life.lose();
        }
    }

    /// Sessions used since this was last asked.
    pub fn take_usage(&self, now: Instant) -> Vec<Usage> {
        let now = self.millis(now);
        let mut used = lock(&self.index).take_unreported();
        for shard in &self.shards {
            for entry in lock(shard).values() {
                used.extend(entry.take_unreported());
            }
        }
        used.into_iter().map(|(id, at)| Usage { id, ago: now.saturating_sub(at) / 1000 }).collect()
    }

    /// Entries and bytes.
    pub fn size(&self) -> (usize, usize) {
        let index = lock(&self.index);
        (index.entries(), index.bytes())
    }

    /// Evicted for want of room, ever.
    pub fn evictions(&self) -> u64 {
        lock(&self.index).evictions()
    }

    fn insert(
        &self,
        index: &mut Index,
        fingerprint: Fingerprint,
        fresh: Fresh,
        header: &JwtHeader,
        now: Instant,
    ) -> Result<Arc<Identity>, InvalidJwt> {
        let life = index.life(fingerprint, &fresh, now);
        let Fresh { active, asked, token_left, jwt_left, believed, foreign, bridge, size, stream: _ } = fresh;
        let held = foreign.map_or(0, |token| token.expose().len());
        let believed_until = believed.map(|believed| asked + believed);
        let usable = jwt_left.saturating_sub(JWT_MARGIN.min(jwt_left / 4));
        let (jwt_until, renew_at) = (now + usable, now + renewal(jwt_left, usable, bridge));
        let identity = Arc::new(Identity::new(active, header, life)?);
        let millis = self.millis(now);
        let entry = Arc::new(Entry {
            identity: identity.clone(),
            asked,
            token_until: now + token_left,
            jwt_until: believed_until.map_or(jwt_until, |until| until.min(jwt_until)),
            renew_at: believed.map_or(renew_at, |believed| renew_at.min(asked + believed / 2)),
            // Asking was the use, and has been counted by who was asked.
            used: AtomicU64::new(millis),
            reported: AtomicU64::new(millis),
            renewing: AtomicU64::new(0),
            // The answer's JSON is about as large as what is kept of it; the rest is the index's, measured.
            weight: 2048 + size + size / 2 + held,
        });
        self.remove(index, &fingerprint);
        index.insert(fingerprint, entry.weight, millis);
        lock(self.shard(&fingerprint)).insert(fingerprint, entry);
        self.make_room(index);
        Ok(identity)
    }

    /// Second chance: what was used since it was queued goes to the back once more.
    fn make_room(&self, index: &mut Index) {
        while let Some((fingerprint, queued)) = index.next_victim() {
            let used = self.entry(&fingerprint).map_or(0, |entry| entry.used.load(Ordering::Relaxed));
            if used > queued {
                index.spare(fingerprint, used);
            } else if let Some(entry) = self.remove(index, &fingerprint) {
                index.evicted(entry.take_unreported());
            }
        }
    }

    fn evict_id(&self, index: &mut Index, id: TokenId) {
        for fingerprint in index.with_id(id) {
            self.remove(index, &fingerprint);
        }
    }

    fn remove(&self, index: &mut Index, fingerprint: &Fingerprint) -> Option<Arc<Entry>> {
        let entry = lock(self.shard(fingerprint)).remove(fingerprint)?;
        index.removed(fingerprint, entry.weight);
        Some(entry)
    }

    fn remove_all(&self, index: &mut Index) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            shard.clear();
            shard.shrink_to_fit();
        }
        index.removed_all();
        lock(&self.refused).clear();
    }

    fn entry(&self, fingerprint: &Fingerprint) -> Option<Arc<Entry>> {
        lock(self.shard(fingerprint)).get(fingerprint).cloned()
    }

    fn shard(&self, fingerprint: &Fingerprint) -> &Mutex<HashMap<Fingerprint, Arc<Entry>>> {
        &self.shards[usize::from(fingerprint.0[31]) % SHARDS]
    }

    fn millis(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.epoch).as_millis()).unwrap_or(u64::MAX)
    }
}

/// After how long: halfway, or as early as it takes for what is used to outlast lease and outage.
fn renewal(jwt_left: Duration, usable: Duration, bridge: Duration) -> Duration {
    let halfway = jwt_left / 2;
    if bridge.is_zero() {
        return halfway;
    }
    // A policy that could not be kept is refused before it comes here; were it not, nobody would be asked without pause.
    usable.saturating_sub(LEASE + bridge).clamp(jwt_left / 8, halfway)
}

impl Entry {
    fn holds(&self, now: Instant) -> bool {
        now < self.jwt_until && now < self.token_until && !self.identity.life.is_over()
    }

    /// True for one caller at a time.
    fn claim_renewal(&self, millis: u64) -> bool {
        let last = self.renewing.load(Ordering::Relaxed);
        let again = last == 0 || millis.saturating_sub(last) >= RENEW_AGAIN_MS;
        again && self.renewing.compare_exchange(last, millis.max(1), Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Only sessions have an idle time-out.
    fn take_unreported(&self) -> Option<(TokenId, u64)> {
        let used = self.used.load(Ordering::Relaxed);
        let reported = self.reported.swap(used, Ordering::Relaxed);
        (used > reported && self.identity.kind == TokenKind::Session).then_some((self.identity.id, used))
    }
}

impl Fingerprint {
    pub fn of(token: &OpaqueToken) -> Self {
        Self(token.fingerprint())
    }

    pub fn of_presented(token: &Presented) -> Self {
        Self(token.fingerprint())
    }
}

impl Hash for Fingerprint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // It is uniformly distributed already; the map's own random keys make its buckets unpredictable to who chooses tokens.
        let (first, _) = self.0.split_first_chunk().unwrap_or((&[0; 8], &[]));
        state.write_u64(u64::from_le_bytes(*first));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds one; if it did, refusing every request from then on would help nobody.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
