//! An OAuth grant: what one client may do, for a person or for itself, and every access and refresh token of it.
//!
//! Fields: `alive`, `g` facts, `p` profile, `a` hashes of live access tokens, `r` the refresh token's state.

use std::time::Duration;

use cloakroom_protocol::token::TokenId;
use serde::{Deserialize, Serialize};

use super::act::Actor;
use super::hash::StoredHash;
use super::profile::Profile;
use super::{RecordError, records_of};
use crate::store::{Created, Guard, Key, Store, StoreError, Update, Updated, from_json, to_json};

/// Access tokens of one grant that are valid at once; the oldest goes first.
const MAX_ACCESS: usize = 8;
/// Rotated refresh tokens that are remembered, so that their reuse is told from a made-up secret.
const MAX_SPENT: usize = 16;
/// Answers to a repeated refresh within its grace.
const MAX_CURRENT: usize = 4;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    pub client_id: String,
    pub sub: String,
    /// The session of the person who consented, with which the grant ends; absent for client credentials and offline access.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<TokenId>,
    /// The session in which it was given, if it does not end with that (offline access).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given_in: Option<TokenId>,
    /// The grant whose token was exchanged for this one's (RFC 8693); it ends with that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<TokenId>,
    pub scope: String,
    pub aud: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_time: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acr: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub amr: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    /// Who acts for the subject, if not the subject itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub act: Option<Actor>,
    /// Thumbprint of the key that a public client's refresh tokens are bound to (RFC 9449 §5).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jkt: Option<String>,
    /// Unix seconds.
    pub created: u64,
    pub end: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Access {
    pub hash: StoredHash,
    pub iat: u64,
    pub exp: u64,
    /// Less than the grant's, where the client asked for less (RFC 6749 §6).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Thumbprint of the key that it is bound to (RFC 9449 §6).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jkt: Option<String>,
}

/// RFC 9700 §4.14: refresh tokens are rotated, and reuse of a spent one ends the grant. A client that never got the answer may ask again
/// with the same token for a short while.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Refresh {
    pub current: Vec<StoredHash>,
    pub spent: Vec<StoredHash>,
    /// Of `spent`, this many of the last may still be repeated, until then.
    pub graceful: usize,
    pub grace_until: u64,
}

#[derive(Clone, Debug)]
pub struct Grant {
    pub id: TokenId,
    pub facts: Facts,
    pub profile: Profile,
    pub access: Vec<Access>,
    pub refresh: Option<Refresh>,
    /// As stored, for compare-and-set.
    raw: (Option<String>, Option<String>),
}

/// What presenting a refresh token means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presented {
    Current,
    /// Spent, but so recently that the answer may have been lost.
    Repeated,
    /// Spent before: stolen, or its successor was.
    Reused,
    Unknown,
}

pub fn key(id: TokenId) -> Key {
    Key::new("grant", id)
}

impl Refresh {
    pub fn judge(&self, hash: &StoredHash, now: u64) -> Presented {
        // Every hash is compared, so that time does not tell which one matched.
        let position = |hashes: &[StoredHash]| {
            hashes.iter().enumerate().fold(None, |found, (at, one)| if one.matches(hash) { Some(at) } else { found })
        };
        match (position(&self.current), position(&self.spent)) {
            (Some(_), _) => Presented::Current,
            (None, Some(at)) if at + self.graceful >= self.spent.len() && now < self.grace_until => Presented::Repeated,
            (None, Some(_)) => Presented::Reused,
            (None, None) => Presented::Unknown,
        }
    }

    /// The state after `next` was handed out for a token that was judged [`Presented::Current`] or [`Presented::Repeated`].
    #[must_use]
    pub fn rotated(mut self, judged: Presented, next: StoredHash, now: u64, grace: u64) -> Self {
        if judged == Presented::Repeated {
            self.current.push(next);
            let surplus = self.current.len().saturating_sub(MAX_CURRENT);
            self.current.drain(..surplus);
            return self;
        }
        self.graceful = self.current.len();
        self.grace_until = now + grace;
        self.spent.append(&mut self.current);
        let surplus = self.spent.len().saturating_sub(MAX_SPENT);
        self.spent.drain(..surplus);
        self.current.push(next);
        self
    }
}

impl Grant {
    pub fn new(id: TokenId, facts: Facts, profile: Profile) -> Self {
        Self { id, facts, profile, access: Vec::new(), refresh: None, raw: (None, None) }
    }

    /// The access token with this hash, if it is alive.
    pub fn live_access(&self, hash: &StoredHash, now: u64) -> Option<&Access> {
        let found = self.access.iter().fold(None, |found, one| if one.hash.matches(hash) { Some(one) } else { found });
        found.filter(|access| now < access.exp && now < self.facts.end)
    }

    pub fn add_access(&mut self, access: Access, now: u64) {
        self.access.retain(|one| one.exp > now);
        self.access.push(access);
        let surplus = self.access.len().saturating_sub(MAX_ACCESS);
        self.access.drain(..surplus);
    }

    fn ttl(&self, now: u64) -> Duration {
        Duration::from_secs(self.facts.end.saturating_sub(now) + 1)
    }
}

/// Writes a new grant, in its holder's index (and its session's) before it exists.
pub async fn create(store: &dyn Store, grant: &Grant, epoch: Option<u64>, now: u64) -> Result<(), RecordError> {
    let facts = &grant.facts;
    let member = format!("grant:{}", grant.id);
    let guard =
        epoch.map(|epoch| Guard { key: super::user::key(&facts.sub), field: "e".to_owned(), value: epoch.to_string() });
    let ttl = Some(grant.ttl(now));
    if !store.index_add(&records_of(&facts.sub), &member, ttl, guard).await? {
        return Err(RecordError::SubjectChanged);
    }
    if facts.client_id != facts.sub {
        store.index_add(&records_of(&facts.client_id), &member, ttl, None).await?;
    }
    let session = facts.sid.map(|sid| (sid, super::session::key(sid)));
    let parent = facts.parent.map(|id| (id, key(id)));
    for (above, document) in session.into_iter().chain(parent) {
        // It must still be there: its end ends what came of it.
        let guard = Guard { key: document, field: "alive".to_owned(), value: "1".to_owned() };
        if !store.index_add(&below(above), &member, ttl, Some(guard)).await? {
            return Err(RecordError::SubjectChanged);
        }
    }
    let mut fields = vec![
        ("alive".to_owned(), "1".to_owned()),
        ("g".to_owned(), to_json(facts)),
        ("p".to_owned(), to_json(&grant.profile)),
        ("a".to_owned(), to_json(&grant.access)),
    ];
    if let Some(refresh) = &grant.refresh {
        fields.push(("r".to_owned(), to_json(refresh)));
    }
    match store.create_durably(&key(grant.id), fields, Some(grant.ttl(now))).await? {
        Created::Yes => Ok(()),
        Created::Exists | Created::Dead => Err(RecordError::Revoked),
    }
}

/// Grants that end with a session, or with another grant.
pub fn below(id: TokenId) -> Key {
    Key::new("session-grants", id)
}

pub async fn load(store: &dyn Store, id: TokenId) -> Result<Option<Grant>, StoreError> {
    let Some(values) = store.read(&key(id), &["g", "p", "a", "r"]).await? else { return Ok(None) };
    let mut values = values.into_iter();
    let mut next = || values.next().flatten();
    let (Some(facts), profile, access, refresh) = (next(), next(), next(), next()) else { return Ok(None) };
    Ok(Some(Grant {
        id,
        facts: from_json("grant", &facts)?,
        profile: profile.as_deref().map_or(Ok(Profile::default()), |json| from_json("grant profile", json))?,
        access: access.as_deref().map_or(Ok(Vec::new()), |json| from_json("access tokens", json))?,
        refresh: refresh.as_deref().map(|json| from_json("refresh token", json)).transpose()?,
        raw: (access, refresh),
    }))
}

/// Writes tokens changed since [`load`], unless somebody else changed them meanwhile.
pub async fn save_tokens(store: &dyn Store, grant: &Grant, now: u64) -> Result<Updated, StoreError> {
    let (access, refresh) = &grant.raw;
    let mut set = vec![("a".to_owned(), to_json(&grant.access))];
    set.extend(grant.refresh.as_ref().map(|refresh| ("r".to_owned(), to_json(refresh))));
    let update = Update {
        require: vec![("a".to_owned(), access.clone()), ("r".to_owned(), refresh.clone())],
        set,
        ttl: Some(grant.ttl(now)),
        ..Update::default()
    };
    store.update_durably(&key(grant.id), update).await
}

pub async fn set_profile(store: &dyn Store, id: TokenId, profile: &Profile) -> Result<(), StoreError> {
    let update = Update { set: vec![("p".to_owned(), to_json(profile))], ..Update::default() };
    store.update(&key(id), update).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(name: &str) -> StoredHash {
        StoredHash::of_secret(name)
    }

    #[test]
    fn a_refresh_token_is_good_once_and_its_reuse_is_noticed() {
        let first = Refresh { current: vec![hash("a")], ..Refresh::default() };
        let second = first.rotated(Presented::Current, hash("b"), 100, 10);
        assert_eq!(second.judge(&hash("b"), 105), Presented::Current);
        assert_eq!(second.judge(&hash("a"), 105), Presented::Repeated, "the answer may have been lost");
        assert_eq!(second.judge(&hash("a"), 110), Presented::Reused);
        assert_eq!(second.judge(&hash("x"), 105), Presented::Unknown);
        let third = second.rotated(Presented::Current, hash("c"), 106, 10);
        assert_eq!(third.judge(&hash("a"), 107), Presented::Reused, "grace is for the last rotation only");
    }

    #[test]
    fn a_repeated_refresh_leaves_both_answers_usable() {
        let rotated = Refresh { current: vec![hash("a")], ..Refresh::default() }
            .rotated(Presented::Current, hash("b"), 100, 10)
            .rotated(Presented::Repeated, hash("c"), 101, 10);
        assert_eq!(rotated.judge(&hash("b"), 102), Presented::Current);
        assert_eq!(rotated.judge(&hash("c"), 102), Presented::Current);
        let next = rotated.rotated(Presented::Current, hash("d"), 103, 10);
        assert_eq!(next.judge(&hash("b"), 104), Presented::Repeated);
        assert_eq!(next.judge(&hash("c"), 114), Presented::Reused);
    }

    #[test]
    fn what_is_remembered_stays_bounded() {
        let mut refresh = Refresh { current: vec![hash("0")], ..Refresh::default() };
        for round in 1..100 {
            refresh = refresh.rotated(Presented::Current, hash(&round.to_string()), round, 10);
        }
        assert!(refresh.spent.len() <= MAX_SPENT && refresh.current.len() == 1);
        for _ in 0..100 {
            refresh = refresh.rotated(Presented::Repeated, hash("again"), 100, 10);
        }
        assert!(refresh.current.len() <= MAX_CURRENT);
    }
}
