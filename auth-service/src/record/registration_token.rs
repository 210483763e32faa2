//! Initial access tokens (RFC 7591 §1.2): who has one may register clients. Opaque, expiring, good for so many; only the secret's hash is kept.
//!
//! Fields: `t` facts, `n` how many clients were registered with it.

use std::time::Duration;

use cloakroom_protocol::token::TokenId;
use serde::{Deserialize, Serialize};

use super::hash::StoredHash;
use super::{id_and_secret, page};
use crate::store::{Created, Key, Store, StoreError, Update, Updated, from_json, to_json};

/// Against others who register with the same token.
const TRIES: usize = 8;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Facts {
    /// Whom it was given to, or what for.
    pub label: String,
    pub secret: StoredHash,
    /// Unix seconds.
    pub created: u64,
    pub end: u64,
    /// Clients that may be registered with it.
    pub uses: u64,
}

#[derive(Clone, Debug)]
pub struct RegistrationToken {
    pub id: TokenId,
    pub facts: Facts,
    pub used: u64,
}

impl RegistrationToken {
    pub fn is_good(&self, now: u64) -> bool {
        now < self.facts.end && self.used < self.facts.uses
    }
}

fn key(id: TokenId) -> Key {
    Key::new("registration-token", id)
}

fn all() -> Key {
    Key::new("registration-tokens", "all")
}

pub async fn create(store: &dyn Store, token: &RegistrationToken) -> Result<(), StoreError> {
    let facts = &token.facts;
    let life = Some(Duration::from_secs(facts.end.saturating_sub(facts.created)));
    let fields = vec![("t".to_owned(), to_json(facts)), ("n".to_owned(), "0".to_owned())];
    if store.create_durably(&key(token.id), fields, life).await? != Created::Yes {
        return Err(StoreError::Corrupt("a random registration token was there before".to_owned()));
    }
    store.index_add(&all(), token.id.as_str(), life, None).await.map(drop)
}

pub async fn load(store: &dyn Store, id: TokenId) -> Result<Option<RegistrationToken>, StoreError> {
    let Some(values) = store.read(&key(id), &["t", "n"]).await? else { return Ok(None) };
    let mut values = values.into_iter();
    let (Some(facts), Some(used)) = (values.next().flatten(), values.next().flatten()) else { return Ok(None) };
    let corrupt = |_| StoreError::Corrupt("registration token: uses".to_owned());
    let facts = from_json("registration token", &facts)?;
    Ok(Some(RegistrationToken { id, facts, used: used.parse().map_err(corrupt)? }))
}

/// What the text of a token stands for, if its secret is right and it can be used.
pub async fn find(store: &dyn Store, text: &str, now: u64) -> Result<Option<RegistrationToken>, StoreError> {
    let Some((id, secret)) = id_and_secret(text) else { return Ok(None) };
    let Ok(id) = id.parse() else { return Ok(None) };
    let secret = StoredHash::of_secret(secret);
    let token = load(store, id).await?;
    Ok(token.filter(|token| token.facts.secret.matches(&secret) && token.is_good(now)))
}

/// Takes one use; `false`: there is none left, or it was revoked meanwhile.
pub async fn spend(store: &dyn Store, id: TokenId, now: u64) -> Result<bool, StoreError> {
    for _ in 0..TRIES {
        let Some(token) = load(store, id).await?.filter(|token| token.is_good(now)) else { return Ok(false) };
        let update = Update {
            require: vec![("n".to_owned(), Some(token.used.to_string()))],
            set: vec![("n".to_owned(), (token.used + 1).to_string())],
            ..Update::default()
        };
        match store.update_durably(&key(id), update).await? {
            Updated::Yes => return Ok(true),
            Updated::Missing => return Ok(false),
            Updated::Conflict => {}
        }
    }
    Err(StoreError::Unavailable("many register with the same token at once".to_owned()))
}

/// Tokens, and how many entries of the index they are.
pub async fn list(
    store: &dyn Store,
    offset: usize,
    limit: usize,
) -> Result<(Vec<RegistrationToken>, usize), StoreError> {
    page(store, &all(), offset, limit, |id| load(store, id)).await
}

/// `false`: there was none.
pub async fn remove(store: &dyn Store, id: TokenId) -> Result<bool, StoreError> {
    let existed = store.take(&key(id)).await?.is_some();
    store.index_remove(&all(), id.as_str()).await?;
    Ok(existed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::random::SECRET_LEN;
    use crate::store::memory::MemoryStore;

    #[tokio::test]
    async fn it_is_good_for_so_many_until_it_ends_with_its_own_secret_only() {
        let store = MemoryStore::new(Clock::system());
        let (id, secret): (TokenId, String) = ("0123456789ABCDEFGHIJKL".parse().unwrap(), "s".repeat(SECRET_LEN));
        let facts =
            Facts { label: "partner".into(), secret: StoredHash::of_secret(&secret), created: 0, end: 100, uses: 3 };
        create(&store, &RegistrationToken { id, facts, used: 0 }).await.unwrap();
        let good = format!("{id}{secret}");
        assert!(find(&store, &good, 99).await.unwrap().is_some());
        assert!(find(&store, &good, 100).await.unwrap().is_none());
        for bad in [format!("{id}{}", "t".repeat(SECRET_LEN)), format!("{}{secret}", "Z".repeat(22)), String::new()] {
            assert!(find(&store, &bad, 0).await.unwrap().is_none(), "{bad}");
        }
        let spent = futures::future::join_all((0..6).map(|_| spend(&store, id, 0))).await;
        assert_eq!(spent.into_iter().filter(|spent| matches!(spent, Ok(true))).count(), 3);
        assert!(find(&store, &good, 0).await.unwrap().is_none(), "used up");
        assert!(remove(&store, id).await.unwrap() && !remove(&store, id).await.unwrap());
    }
}
