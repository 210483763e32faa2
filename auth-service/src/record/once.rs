//! What counts once.

use std::time::Duration;

use super::hash::StoredHash;
use crate::store::{Created, Key, Store, StoreError, to_json};

/// `false`: it was there before, and is remembered for the life that it had then. Names are hashed, so that Redis' key names tell nothing.
pub async fn is_first(store: &dyn Store, kind: &'static str, name: &str, life: Duration) -> Result<bool, StoreError> {
    let hash = to_json(&StoredHash::of_secret(name));
    let seen = vec![("seen".to_owned(), "1".to_owned())];
    Ok(store.create(&Key::new(kind, hash.trim_matches('"')), seen, Some(life)).await? == Created::Yes)
}
