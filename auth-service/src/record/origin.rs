//! Sessions that began with a sign-in at another provider, found again by its subject and its session, so that they end when it says so.
//!
//! What has ended there is remembered for as long as a sign-in may take: one that is still on its way must not come out as a session.

use std::time::Duration;

use cloakroom_protocol::token::TokenId;
use serde::{Deserialize, Serialize};

use super::flow::FLOW_LIFETIME;
use super::hash::StoredHash;
use crate::store::{Created, Key, Store, StoreError, Update, to_json};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    pub issuer: String,
    pub sub: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
    /// Unix seconds: when the provider said so.
    pub at: u64,
}

/// What a provider says has ended.
pub struct Departure<'a> {
    pub issuer: &'a str,
    pub sub: Option<&'a str>,
    pub sid: Option<&'a str>,
    /// Unix seconds.
    pub at: u64,
}

/// Names are hashed, so that Redis' key names tell nothing.
fn key(kind: &str, issuer: &str, name: &str) -> Key {
    let hash = to_json(&StoredHash::of_secret(&format!("{issuer}\0{name}")));
    Key::new(kind, hash.trim_matches('"'))
}

fn by_sub(issuer: &str, sub: &str) -> Key {
    key("came-as", issuer, sub)
}

fn by_sid(issuer: &str, sid: &str) -> Key {
    key("came-in", issuer, sid)
}

/// Notes a session, before there is one, for as long as it may live.
pub async fn index(store: &dyn Store, origin: &Origin, session: TokenId, life: Duration) -> Result<(), StoreError> {
    // Told apart from a session that the provider has named: a sign-out of one of its sessions is no word on another.
    let nameless = if origin.sid.is_none() { "?" } else { "" };
    let member = format!("{nameless}{session}");
    store.index_add(&by_sub(&origin.issuer, &origin.sub), &member, Some(life), None).await?;
    if let Some(sid) = &origin.sid {
        store.index_add(&by_sid(&origin.issuer, sid), session.as_str(), Some(life), None).await?;
    }
    Ok(())
}

/// Whether that sign-in has been ended by the provider since.
pub async fn has_ended(store: &dyn Store, origin: &Origin) -> Result<bool, StoreError> {
    if let Some(sid) = &origin.sid
        && store.read(&key("gone-in", &origin.issuer, sid), &["at"]).await?.is_some()
    {
        return Ok(true);
    }
    let values = store.read(&key("gone-as", &origin.issuer, &origin.sub), &["at"]).await?;
    let at = values.and_then(|mut values| values.pop().flatten()).and_then(|at| at.parse::<u64>().ok());
    Ok(at.is_some_and(|at| origin.at <= at))
}

/// Remembers a departure, then says which sessions it ends. With a `sid`: that session of the provider's, and those of the subject that it
/// gave no name.
pub async fn depart(store: &dyn Store, departure: &Departure<'_>) -> Result<Vec<TokenId>, StoreError> {
    let &Departure { issuer, sub, sid, at } = departure;
    let gone = match (sid, sub) {
        (Some(sid), _) => key("gone-in", issuer, sid),
        (None, Some(sub)) => key("gone-as", issuer, sub),
        (None, None) => return Ok(Vec::new()),
    };
    let update = Update { set: vec![("at".to_owned(), at.to_string())], ttl: Some(FLOW_LIFETIME), ..Update::default() };
    store.upsert(&gone, update).await?;
    let mut sessions = Vec::new();
    if let Some(sid) = sid {
        sessions = store.index_list(&by_sid(issuer, sid), 0, usize::MAX).await?;
    }
    if let Some(sub) = sub {
        let all = store.index_list(&by_sub(issuer, sub), 0, usize::MAX).await?;
        sessions.extend(all.into_iter().filter(|member| sid.is_none() || member.starts_with('?')));
    }
    Ok(sessions.iter().filter_map(|member| member.trim_start_matches('?').parse().ok()).collect())
}

/// A session is no more.
pub async fn forget(store: &dyn Store, origin: &Origin, session: TokenId) -> Result<(), StoreError> {
    let nameless = if origin.sid.is_none() { "?" } else { "" };
    store.index_remove(&by_sub(&origin.issuer, &origin.sub), &format!("{nameless}{session}")).await?;
    match &origin.sid {
        Some(sid) => store.index_remove(&by_sid(&origin.issuer, sid), session.as_str()).await,
        None => Ok(()),
    }
}

/// Takes note of a logout token; `false`: it was used before.
pub async fn first_use(store: &dyn Store, issuer: &str, jti: &str, life: Duration) -> Result<bool, StoreError> {
    let fields = vec![("d".to_owned(), "1".to_owned())];
    Ok(store.create(&key("logout-token", issuer, jti), fields, Some(life)).await? == Created::Yes)
}

/// It did no good: it may come again.
pub async fn not_used(store: &dyn Store, issuer: &str, jti: &str) -> Result<(), StoreError> {
    store.take(&key("logout-token", issuer, jti)).await.map(drop)
}
