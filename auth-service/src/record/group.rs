//! Groups of people. The user's record says which groups they are in; the indexes here only find them.

use super::user::{self, User};
use crate::store::{Key, Store, StoreError};

fn all() -> Key {
    Key::new("groups", "all")
}

fn members_of(group: &str) -> Key {
    Key::new("members", group)
}

pub fn is_name(name: &str) -> bool {
    (1..=128).contains(&name.chars().count()) && !name.chars().any(char::is_control)
}

/// Before the user's record says so, so that no member can be missed.
pub async fn enter(store: &dyn Store, user: &str, groups: &[String]) -> Result<(), StoreError> {
    for group in groups {
        store.index_add(&members_of(group), user, None, None).await?;
        store.index_add(&all(), group, None, None).await?;
    }
    Ok(())
}

/// After the user's record no longer says so.
pub async fn leave(store: &dyn Store, user: &str, groups: &[String]) -> Result<(), StoreError> {
    for group in groups {
        store.index_remove(&members_of(group), user).await?;
        if store.index_list(&members_of(group), 0, 1).await?.is_empty() {
            store.index_remove(&all(), group).await?;
            // Somebody may have come in between.
            if !store.index_list(&members_of(group), 0, 1).await?.is_empty() {
                store.index_add(&all(), group, None, None).await?;
            }
        }
    }
    Ok(())
}

/// Names, and how many entries of the index they are.
pub async fn list(store: &dyn Store, offset: usize, limit: usize) -> Result<(Vec<String>, usize), StoreError> {
    let names = store.index_list(&all(), offset, limit).await?;
    let held = names.len();
    Ok((names, held))
}

/// Members, and how many entries of the index they are.
pub async fn members(
    store: &dyn Store,
    group: &str,
    offset: usize,
    limit: usize,
) -> Result<(Vec<User>, usize), StoreError> {
    let ids = store.index_list(&members_of(group), offset, limit).await?;
    let users = futures::future::try_join_all(ids.iter().map(|id| user::load(store, id))).await?;
    let is_member = |user: &User| user.details.profile.groups.iter().any(|name| name == group);
    Ok((users.into_iter().flatten().filter(is_member).collect(), ids.len()))
}
