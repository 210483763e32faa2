//! Clients that a session has signed its person in at, so that they can be told of its end.
//!
//! Each with the session id that its ID token named: a session that takes another's place, because the person signed in anew, answers for both.

use std::time::Duration;

use cloakroom_protocol::token::TokenId;

use crate::store::{Key, Store, StoreError};

fn key(sid: TokenId) -> Key {
    Key::new("signed-in-at", sid)
}

/// Notes a client, for as long as the session may live.
pub async fn add(store: &dyn Store, sid: TokenId, client_id: &str, life: Duration) -> Result<(), StoreError> {
    store.index_add(&key(sid), &format!("{sid}:{client_id}"), Some(life), None).await.map(drop)
}

/// Client and session id; each once.
pub async fn take_all(store: &dyn Store, sid: TokenId) -> Result<Vec<(String, TokenId)>, StoreError> {
    let mut clients = Vec::new();
    for member in store.index_list(&key(sid), 0, usize::MAX).await? {
        store.index_remove(&key(sid), &member).await?;
        if let Some((named, client)) = member.split_once(':')
            && let Ok(named) = named.parse()
        {
            clients.push((client.to_owned(), named));
        }
    }
    Ok(clients)
}

/// The same person goes on in another session: nobody has signed out.
pub async fn inherit(store: &dyn Store, old: TokenId, new: TokenId, life: Duration) -> Result<(), StoreError> {
    for member in store.index_list(&key(old), 0, usize::MAX).await? {
        store.index_add(&key(new), &member, Some(life), None).await?;
        store.index_remove(&key(old), &member).await?;
    }
    Ok(())
}
