//! Browsers that somebody asked us to trust: there, the second factor is not asked for each time. A cookie names the record, which is
//! one person's.

use std::time::Duration;

use cloakroom_protocol::token::TokenId;
use serde::{Deserialize, Serialize};

use super::hash::StoredHash;
use super::page;
use crate::store::{Created, Key, Store, StoreError, Update, from_json, to_json};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Device {
    pub sub: String,
    pub secret: StoredHash,
    /// Unix seconds.
    pub created: u64,
    pub user_agent: String,
    pub address: String,
}

#[derive(Clone, Debug)]
pub struct KnownDevice {
    pub id: TokenId,
    pub device: Device,
    /// Unix seconds.
    pub last_used: u64,
}

fn key(id: TokenId) -> Key {
    Key::new("device", id)
}

fn of_person(sub: &str) -> Key {
    Key::new("devices", sub)
}

pub async fn create(store: &dyn Store, id: TokenId, device: &Device, life: Duration) -> Result<(), StoreError> {
    store.index_add(&of_person(&device.sub), id.as_str(), Some(life), None).await?;
    let fields = vec![("d".to_owned(), to_json(device)), ("u".to_owned(), device.created.to_string())];
    match store.create(&key(id), fields, Some(life)).await? {
        Created::Yes => Ok(()),
        Created::Exists | Created::Dead => Err(StoreError::Corrupt("a random device id was there before".to_owned())),
    }
}

pub async fn load(store: &dyn Store, id: TokenId) -> Result<Option<KnownDevice>, StoreError> {
    let Some(values) = store.read(&key(id), &["d", "u"]).await? else { return Ok(None) };
    let mut values = values.into_iter();
    let (Some(device), Some(used)) = (values.next().flatten(), values.next().flatten()) else { return Ok(None) };
    Ok(Some(KnownDevice { id, device: from_json("device", &device)?, last_used: from_json("device use", &used)? }))
}

pub async fn touch(store: &dyn Store, id: TokenId, now: u64) -> Result<(), StoreError> {
    let update = Update { set: vec![("u".to_owned(), now.to_string())], ..Update::default() };
    store.update(&key(id), update).await.map(drop)
}

pub async fn list(store: &dyn Store, sub: &str) -> Result<Vec<KnownDevice>, StoreError> {
    let (devices, _) = page(store, &of_person(sub), 0, usize::MAX, |id| load(store, id)).await?;
    Ok(devices)
}

/// One of this person's; `false`: there is none of that id.
pub async fn forget(store: &dyn Store, sub: &str, id: TokenId) -> Result<bool, StoreError> {
    if load(store, id).await?.is_none_or(|known| known.device.sub != sub) {
        return Ok(false);
    }
    let taken = store.take(&key(id)).await?.is_some();
    store.index_remove(&of_person(sub), id.as_str()).await?;
    Ok(taken)
}

pub async fn forget_all(store: &dyn Store, sub: &str) -> Result<(), StoreError> {
    for known in list(store, sub).await? {
        forget(store, sub, known.id).await?;
    }
    Ok(())
}
