//! How a client came that registered itself (RFC 7591), and when it is forgotten.
//!
//! Those that came without a token end by themselves: record and index entries have a life, renewed by use. Once a day is enough, so that
//! a client which refreshes its tokens every hour costs no write.

use std::time::Duration;

use cloakroom_protocol::token::TokenId;
use serde::{Deserialize, Serialize};

use super::client::{self, Client};
use super::hash::StoredHash;
use crate::config::registration::Registration;
use crate::store::{Key, Store, StoreError, Update, Updated};

const DAY: u64 = 86_400;
/// Somebody may be signing in to a client that registered so many seconds ago.
pub const IN_USE: u64 = 600;
/// Clients among which one is looked for that was never used.
const LOOKED_AT: usize = 20;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    pub by: By,
    /// Unix seconds.
    pub at: u64,
    /// Of the registration access token (RFC 7592 §1.2).
    pub access: StoredHash,
    pub auth_method: AuthMethod,
    #[serde(default)]
    pub about: About,
    /// Unix seconds, to the day. In a field of its own.
    #[serde(skip)]
    pub last_used: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// Anybody.
    Open,
    /// Who had an initial access token.
    Token { id: TokenId, label: String },
}

impl std::fmt::Display for By {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Open => f.write_str("open"),
            Self::Token { label, .. } => write!(f, "token:{label}"),
        }
    }
}

/// What is registered; whichever way a secret comes, the token endpoint takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthMethod {
    None,
    ClientSecretBasic,
    ClientSecretPost,
}

/// What it says about itself besides, for administrators to read: nobody has checked a word of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = RegisteredSoftware)]
#[serde(default)]
pub struct About {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub application_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub software_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub software_version: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub contacts: Vec<String>,
}

/// Which clients of those that registered themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    Open,
    Token,
}

pub fn index(way: Way) -> Key {
    Key::new(
        "clients",
        match way {
            Way::Open => "open",
            Way::Token => "token",
        },
    )
}

impl Registered {
    pub fn way(&self) -> Way {
        match self.by {
            By::Open => Way::Open,
            By::Token { .. } => Way::Token,
        }
    }

    /// Nobody answers for it.
    pub fn is_open(&self) -> bool {
        self.way() == Way::Open
    }

    /// Of a client that nobody has used yet.
    pub fn first_life(&self, config: &Registration) -> Option<Duration> {
        self.is_open().then(|| Duration::from_secs(config.unused_seconds))
    }
}

/// Makes sure that one more fits among those without a token; `false`: it does not. The place of one that was never used is taken, the
/// oldest first, so that whoever fills all places keeps nobody out for long.
pub async fn make_room(store: &dyn Store, config: &Registration, now: u64) -> Result<bool, StoreError> {
    let index = index(Way::Open);
    // As many replicas may each have added one too many at the same time.
    for _ in 0..8 {
        if store.index_list(&index, config.max_open - 1, 1).await?.is_empty() {
            return Ok(true);
        }
        let Some(unused) = unused(store, now).await? else { return Ok(false) };
        client::remove(store, &unused).await?;
        crate::audit::record("client.forgotten", "registration", &unused, "never used, and its place was needed");
    }
    Ok(false)
}

/// In order of expiry, whoever was never used stands before all but those whose idle time ends soon.
async fn unused(store: &dyn Store, now: u64) -> Result<Option<String>, StoreError> {
    for id in store.index_list(&index(Way::Open), 0, LOOKED_AT).await? {
        let registered = client::load(store, &id).await?.and_then(|client| client.registered);
        if registered.is_none_or(|one| one.last_used.is_none() && one.at.saturating_add(IN_USE) <= now) {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

/// Notes that a client got a token.
pub async fn used(store: &dyn Store, client: &Client, config: &Registration, now: u64) -> Result<(), StoreError> {
    let Some(registered) = &client.registered else { return Ok(()) };
    if registered.last_used.is_some_and(|at| now < at.saturating_add(DAY)) {
        return Ok(());
    }
    let life = registered.is_open().then(|| Duration::from_secs(config.idle_seconds));
    let update = Update { set: vec![("u".to_owned(), now.to_string())], ttl: life, ..Update::default() };
    if store.update_durably(&client::key(&client.client_id), update).await? == Updated::Yes {
        client::enlist(store, client, life).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::store::memory::MemoryStore;

    fn client(id: &str, at: u64) -> Client {
        let about = About::default();
        let access = StoredHash::of_secret("x");
        let registered = Registered { by: By::Open, at, access, auth_method: AuthMethod::None, about, last_used: None };
        Client { client_id: id.to_owned(), registered: Some(registered), ..Client::default() }
    }

    #[tokio::test]
    async fn the_oldest_that_was_never_used_makes_room_and_no_other() {
        let store = MemoryStore::new(Clock::system());
        let config = Registration { max_open: 2, ..Registration::default() };
        let life = |client: &Client| client.registered.as_ref().and_then(|one| one.first_life(&config));
        let (used_one, idle) = (client("a-used", 0), client("b-idle", 0));
        for one in [&used_one, &idle] {
            assert!(make_room(&store, &config, 0).await.unwrap());
            client::create(&store, one, life(one)).await.unwrap();
        }
        used(&store, &used_one, &config, 5).await.unwrap();
        assert!(!make_room(&store, &config, IN_USE - 1).await.unwrap(), "somebody may be signing in to it");
        assert!(make_room(&store, &config, IN_USE).await.unwrap());
        assert!(client::load(&store, "b-idle").await.unwrap().is_none());
        let kept = client::load(&store, "a-used").await.unwrap().unwrap();
        assert_eq!(kept.registered.unwrap().last_used, Some(5));
        let newest = client("c", IN_USE);
        client::create(&store, &newest, life(&newest)).await.unwrap();
        used(&store, &newest, &config, IN_USE).await.unwrap();
        assert!(!make_room(&store, &config, u64::MAX).await.unwrap(), "all are in use");
    }
}
