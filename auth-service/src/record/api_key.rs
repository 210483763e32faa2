//! API keys: long-lived, scoped; only the hash of the secret is kept, and of the one before it while a rotation overlaps.
//!
//! Fields: `k` facts, `p` the owner's profile, `u` last use.

use std::time::Duration;

use cloakroom_protocol::credential::CredentialRef;
use cloakroom_protocol::token::TokenId;
use serde::{Deserialize, Serialize};

use super::hash::{Before, StoredHash};
use super::profile::Profile;
use super::{RecordError, page, records_of};
use crate::store::{Created, Guard, Key, Store, StoreError, Update, Updated, from_json, to_json};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    pub sub: String,
    /// The `ApiKey` resource that says what it may do; such a key counts in that resource's namespace only. Absent: an administrator made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<CredentialRef>,
    pub name: String,
    pub scope: String,
    pub aud: Vec<String>,
    pub secret: StoredHash,
    /// The secret before the last rotation, for as long as both are good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Before>,
    /// Unix seconds.
    pub created: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<u64>,
}

#[derive(Clone, Debug)]
pub struct ApiKey {
    pub id: TokenId,
    pub facts: Facts,
    pub profile: Profile,
    pub last_used: Option<u64>,
    /// Facts as stored, for compare-and-set.
    raw: Option<String>,
}

/// A hundred years.
const LONG: Duration = Duration::from_secs(3_155_760_000);

impl ApiKey {
    pub fn new(id: TokenId, facts: Facts, profile: Profile) -> Self {
        Self { id, facts, profile, last_used: None, raw: None }
    }

    /// When a secret ends, Unix seconds; `None` if it is not one of this key's. A key without an end has `forever`.
    pub fn end_of(&self, secret: &StoredHash, forever: u64) -> Option<u64> {
        let end = self.facts.end.unwrap_or(forever);
        // Both are compared, so that time does not tell which one it was.
        let current = self.facts.secret.matches(secret);
        let before = self.facts.before.as_ref().filter(|before| before.secret.matches(secret));
        if current { Some(end) } else { before.map(|before| before.until.min(end)) }
    }
}

pub fn key(id: TokenId) -> Key {
    Key::new("api-key", id)
}

fn all() -> Key {
    Key::new("api-keys", "all")
}

pub async fn create(store: &dyn Store, api_key: &ApiKey, epoch: Option<u64>, now: u64) -> Result<(), RecordError> {
    let facts = &api_key.facts;
    let ttl = life(facts.end, now);
    enlist(store, api_key, epoch, ttl).await?;
    let fields = vec![("k".to_owned(), to_json(facts)), ("p".to_owned(), to_json(&api_key.profile))];
    match store.create_durably(&key(api_key.id), fields, ttl).await? {
        Created::Yes => Ok(()),
        Created::Exists | Created::Dead => Err(RecordError::Revoked),
    }
}

/// How long a record is kept that ends then.
fn life(end: Option<u64>, now: u64) -> Option<Duration> {
    end.map(|end| Duration::from_secs(end.saturating_sub(now) + 1))
}

/// The same, for a document that may have had an end: its life can be set, not taken away.
pub fn lasting(end: Option<u64>, now: u64) -> Duration {
    life(end, now).unwrap_or(LONG)
}

async fn enlist(
    store: &dyn Store,
    api_key: &ApiKey,
    epoch: Option<u64>,
    ttl: Option<Duration>,
) -> Result<(), RecordError> {
    let (sub, member) = (&api_key.facts.sub, format!("api-key:{}", api_key.id));
    let guard =
        epoch.map(|epoch| Guard { key: super::user::key(sub), field: "e".to_owned(), value: epoch.to_string() });
    if !store.index_add(&records_of(sub), &member, ttl, guard).await? {
        return Err(RecordError::SubjectChanged);
    }
    store.index_add(&all(), &api_key.id.to_string(), ttl, None).await?;
    Ok(())
}

pub async fn load(store: &dyn Store, id: TokenId) -> Result<Option<ApiKey>, StoreError> {
    let Some(values) = store.read(&key(id), &["k", "p", "u"]).await? else { return Ok(None) };
    let mut values = values.into_iter();
    let mut next = || values.next().flatten();
    let (Some(facts), profile, last_used) = (next(), next(), next()) else { return Ok(None) };
    Ok(Some(ApiKey {
        id,
        facts: from_json("API key", &facts)?,
        raw: Some(facts.clone()),
        profile: profile.as_deref().map_or(Ok(Profile::default()), |json| from_json("API key profile", json))?,
        last_used: last_used.as_deref().map(|json| from_json("API key use", json)).transpose()?,
    }))
}

/// Writes what a rotation changed, unless somebody else changed the key meanwhile.
pub async fn save(store: &dyn Store, api_key: &ApiKey) -> Result<Updated, StoreError> {
    let update = Update {
        require: vec![("k".to_owned(), api_key.raw.clone())],
        set: vec![("k".to_owned(), to_json(&api_key.facts))],
        ..Update::default()
    };
    store.update_durably(&key(api_key.id), update).await
}

/// As [`save`], where the end may have moved, too.
pub async fn amend(store: &dyn Store, api_key: &ApiKey, now: u64) -> Result<Updated, RecordError> {
    let ttl = lasting(api_key.facts.end, now);
    enlist(store, api_key, None, Some(ttl)).await?;
    let update = Update {
        require: vec![("k".to_owned(), api_key.raw.clone())],
        set: vec![("k".to_owned(), to_json(&api_key.facts))],
        ttl: Some(ttl),
        ..Update::default()
    };
    Ok(store.update_durably(&key(api_key.id), update).await?)
}

/// Keys, and how many entries of the index they are.
pub async fn list(store: &dyn Store, offset: usize, limit: usize) -> Result<(Vec<ApiKey>, usize), StoreError> {
    page(store, &all(), offset, limit, |id| load(store, id)).await
}

pub async fn unlist(store: &dyn Store, id: TokenId) -> Result<(), StoreError> {
    store.index_remove(&all(), id.as_str()).await
}

pub async fn touch(store: &dyn Store, api_key: &ApiKey, used: u64) -> Result<(), StoreError> {
    let update = Update {
        require: vec![("u".to_owned(), api_key.last_used.map(|at| at.to_string()))],
        set: vec![("u".to_owned(), used.to_string())],
        ..Update::default()
    };
    store.update_durably(&key(api_key.id), update).await.map(drop)
}

pub async fn set_profile(store: &dyn Store, id: TokenId, profile: &Profile) -> Result<(), StoreError> {
    let update = Update { set: vec![("p".to_owned(), to_json(profile))], ..Update::default() };
    store.update(&key(id), update).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_secrets_are_good_while_a_rotation_overlaps() {
        let secret = StoredHash::of_secret;
        let facts = Facts {
            sub: "service:x".into(),
            of: None,
            name: String::new(),
            scope: String::new(),
            aud: Vec::new(),
            secret: secret("new"),
            before: Some(Before { secret: secret("old"), until: 100 }),
            created: 0,
            end: Some(1000),
        };
        let id = "0123456789ABCDEFGHIJKL".parse().unwrap();
        let mut key = ApiKey::new(id, facts, Profile::default());
        assert_eq!(key.end_of(&secret("new"), 0), Some(1000));
        assert_eq!(key.end_of(&secret("old"), 0), Some(100));
        assert_eq!(key.end_of(&secret("other"), 0), None);
        key.facts.end = Some(50);
        assert_eq!(key.end_of(&secret("old"), 0), Some(50), "no longer than the key");
    }
}
