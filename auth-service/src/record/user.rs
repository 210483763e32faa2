//! People. Fields: `d` what is known about them, `h` the password's argon2id hash, `e` the epoch, which changes with anything that must
//! end or stop a sign-in under way, `s` whether the account is disabled.

use serde::{Deserialize, Serialize};

use super::hash::StoredHash;
use super::profile::Profile;
use super::{RecordError, group, records_of};
use crate::store::{Created, Fields, Key, Store, StoreError, Update, Updated, from_json, to_json};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Details {
    pub username: String,
    #[serde(flatten)]
    pub profile: ProfileDetails,
    /// Unix seconds.
    pub created: u64,
    #[serde(default)]
    pub disabled: bool,
}

/// What an administrator sets; the user name is kept beside it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ProfileDetails {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    #[serde(default)]
    pub email_verified: bool,
    #[serde(default)]
    pub roles: Vec<String>,
    #[serde(default)]
    pub groups: Vec<String>,
    #[serde(default)]
    pub scopes: Vec<String>,
    #[serde(default)]
    #[schema(value_type = Object)]
    pub claims: serde_json::Map<String, serde_json::Value>,
}

/// Bytes: it goes into every session and JWT.
const MAX_PROFILE: usize = 4 << 10;

pub fn is_small(profile: &ProfileDetails) -> bool {
    to_json(profile).len() <= MAX_PROFILE
}

#[derive(Clone, Debug)]
pub struct User {
    /// `sub` of everything that is theirs; random, never reused.
    pub id: String,
    pub details: Details,
    pub epoch: u64,
    /// PHC string; absent: cannot sign in with a password.
    pub password: Option<PasswordHash>,
}

#[derive(Clone)]
pub struct PasswordHash(pub String);

impl std::fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

/// What changes at once.
#[derive(Default)]
pub struct Change {
    pub details: Option<Details>,
    pub password: Option<PasswordHash>,
}

pub fn key(id: &str) -> Key {
    Key::new("user", id)
}

/// User names are compared without regard to case or surrounding space; the key holds a hash, so that Redis' key names tell nothing.
fn name_key(username: &str) -> Key {
    let hash = to_json(&StoredHash::of_secret(&normalize(username)));
    Key::new("username", hash.trim_matches('"'))
}

pub fn normalize(username: &str) -> String {
    username.trim().to_lowercase()
}

fn everyone() -> Key {
    Key::new("users", "all")
}

impl User {
    pub fn profile(&self) -> Profile {
        let details = &self.details.profile;
        Profile {
            username: Some(self.details.username.clone()),
            name: details.name.clone(),
            email: details.email.clone(),
            email_verified: details.email_verified,
            roles: details.roles.clone(),
            groups: details.groups.clone(),
            scopes: details.scopes.clone(),
            claims: details.claims.clone(),
        }
    }

    fn parse(id: &str, mut fields: Fields) -> Result<Self, StoreError> {
        Ok(Self {
            id: id.to_owned(),
            details: from_json("user", fields.get("d").map_or("", String::as_str))?,
            epoch: from_json("user epoch", fields.get("e").map_or("", String::as_str))?,
            password: fields.remove("h").map(PasswordHash),
        })
    }
}

/// `false`: the user name is taken.
pub async fn create(store: &dyn Store, user: &User) -> Result<bool, StoreError> {
    let name = vec![("id".to_owned(), user.id.clone())];
    let name_key = name_key(&user.details.username);
    if store.create(&name_key, name.clone(), None).await? != Created::Yes {
        // A name without its user was left by a process that died in between.
        let held = store.read(&name_key, &["id"]).await?.and_then(|mut values| values.pop().flatten());
        if let Some(id) = &held
            && load(store, id).await?.is_some()
        {
            return Ok(false);
        }
        let update = Update { require: vec![("id".to_owned(), held)], set: name, ..Update::default() };
        if store.upsert(&name_key, update).await? != Updated::Yes {
            return Ok(false);
        }
    }
    group::enter(store, &user.id, &user.details.profile.groups).await?;
    let mut fields = vec![("d".to_owned(), to_json(&user.details)), ("e".to_owned(), user.epoch.to_string())];
    fields.extend(user.password.clone().map(|hash| ("h".to_owned(), hash.0)));
    store.create_durably(&key(&user.id), fields, None).await?;
    store.index_add(&everyone(), &user.id, None, None).await?;
    Ok(true)
}

pub async fn load(store: &dyn Store, id: &str) -> Result<Option<User>, StoreError> {
    store.read_all(&key(id)).await?.map(|fields| User::parse(id, fields)).transpose()
}

/// Asks the store as often whether there is such a user or not: the time it takes does not tell.
pub async fn find(store: &dyn Store, username: &str) -> Result<Option<User>, StoreError> {
    let fields = store.read_all(&name_key(username)).await?.unwrap_or_default();
    load(store, fields.get("id").map_or("nobody", String::as_str)).await
}

/// Users, and how many entries of the index they are.
pub async fn list(store: &dyn Store, offset: usize, limit: usize) -> Result<(Vec<User>, usize), StoreError> {
    let ids = store.index_list(&everyone(), offset, limit).await?;
    let users = futures::future::try_join_all(ids.iter().map(|id| load(store, id))).await?;
    Ok((users.into_iter().flatten().collect(), ids.len()))
}

/// Changes a user and moves the epoch on, so that a sign-in under way with what was true before fails.
pub async fn change(store: &dyn Store, user: &User, change: Change) -> Result<u64, RecordError> {
    let epoch = user.epoch + 1;
    let (entered, left) = change.details.as_ref().map(|details| group_changes(user, details)).unwrap_or_default();
    group::enter(store, &user.id, &entered).await?;
    let mut set = vec![("e".to_owned(), epoch.to_string())];
    set.extend(change.details.map(|details| ("d".to_owned(), to_json(&details))));
    set.extend(change.password.map(|hash| ("h".to_owned(), hash.0)));
    let update = Update { require: vec![("e".to_owned(), Some(user.epoch.to_string()))], set, ..Update::default() };
    match store.update_durably(&key(&user.id), update).await? {
        Updated::Yes => {
            group::leave(store, &user.id, &left).await?;
            Ok(epoch)
        }
        Updated::Conflict => Err(RecordError::Contention),
        Updated::Missing => Err(RecordError::SubjectChanged),
    }
}

/// Groups entered, and groups left.
fn group_changes(before: &User, after: &Details) -> (Vec<String>, Vec<String>) {
    let without = |one: &[String], other: &[String]| one.iter().filter(|name| !other.contains(name)).cloned().collect();
    let (before, after) = (&before.details.profile.groups, &after.profile.groups);
    (without(after, before), without(before, after))
}

pub async fn remove(store: &dyn Store, user: &User) -> Result<(), StoreError> {
    store.take(&key(&user.id)).await?;
    group::leave(store, &user.id, &user.details.profile.groups).await?;
    store.take(&name_key(&user.details.username)).await?;
    store.index_remove(&everyone(), &user.id).await
}

/// A record in a holder's index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub kind: String,
    pub id: cloakroom_protocol::token::TokenId,
}

/// Everything that is alive for a subject or client.
pub async fn held(store: &dyn Store, holder: &str) -> Result<Vec<Held>, StoreError> {
    let members = store.index_list(&records_of(holder), 0, usize::MAX).await?;
    let parse = |member: &String| {
        let (kind, id) = member.split_once(':')?;
        Some(Held { kind: kind.to_owned(), id: id.parse().ok()? })
    };
    Ok(members.iter().filter_map(parse).collect())
}
