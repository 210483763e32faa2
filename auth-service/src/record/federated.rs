//! People's identities at other providers. One document says whose an issuer's subject is, another which identities an account has: only what
//! both say is so. Either may be left over by a process that died in between, and then says nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::hash::StoredHash;
use crate::store::{Created, Key, Store, StoreError, Update, Updated, from_json, to_json};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub issuer: String,
    pub sub: String,
    /// Whether the account was made for it, so that the provider says who this is.
    pub made: bool,
    /// For people to know it by: a name or an address there.
    pub shown: String,
    /// Unix seconds.
    pub since: u64,
    pub used: u64,
    /// What of the account's groups and roles comes from there; the others are the administrator's.
    #[serde(default)]
    pub groups: Vec<String>,
    #[serde(default)]
    pub roles: Vec<String>,
}

/// An identity as an account has it.
#[derive(Clone, Debug)]
pub struct Held {
    pub identity: Identity,
    /// As stored, for compare-and-set.
    raw: String,
}

/// By the provider's id in our configuration.
pub type Identities = BTreeMap<String, Held>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connected {
    Yes,
    /// It is somebody else's.
    Taken,
    /// The account has another one of that provider.
    Occupied,
}

fn owner_key(issuer: &str, sub: &str) -> Key {
    let hash = to_json(&StoredHash::of_secret(&format!("{issuer}\0{sub}")));
    Key::new("identity", hash.trim_matches('"'))
}

fn key(user: &str) -> Key {
    Key::new("identities", user)
}

pub async fn of_account(store: &dyn Store, user: &str) -> Result<Identities, StoreError> {
    let fields = store.read_all(&key(user)).await?.unwrap_or_default();
    let parse =
        |(provider, raw): (String, String)| Ok((provider, Held { identity: from_json("identity", &raw)?, raw }));
    fields.into_iter().map(parse).collect()
}

/// Which account an issuer's subject signs in to.
pub async fn owner(
    store: &dyn Store,
    provider: &str,
    issuer: &str,
    sub: &str,
) -> Result<Option<(String, Held)>, StoreError> {
    let Some(user) = claimed_by(store, issuer, sub).await? else { return Ok(None) };
    let held = of_account(store, &user).await?.remove(provider);
    let held = held.filter(|held| held.identity.issuer == issuer && held.identity.sub == sub);
    Ok(held.map(|held| (user, held)))
}

async fn claimed_by(store: &dyn Store, issuer: &str, sub: &str) -> Result<Option<String>, StoreError> {
    let values = store.read(&owner_key(issuer, sub), &["u"]).await?;
    Ok(values.and_then(|mut values| values.pop().flatten()))
}

/// Of several who connect one identity at once, one gets it: each says first that it is the account's, so that whoever then claims it has it
/// whole.
pub async fn connect(
    store: &dyn Store,
    user: &str,
    provider: &str,
    identity: &Identity,
) -> Result<Connected, StoreError> {
    let Some(written) = write(store, user, provider, identity).await? else { return Ok(Connected::Occupied) };
    if claim(store, user, provider, identity).await? {
        return Ok(Connected::Yes);
    }
    let require = vec![(provider.to_owned(), Some(written))];
    let undo = Update { require, unset: vec![provider.to_owned()], ..Update::default() };
    store.update(&key(user), undo).await?;
    Ok(Connected::Taken)
}

/// As stored; `None`: the account has another one of that provider.
async fn write(
    store: &dyn Store,
    user: &str,
    provider: &str,
    identity: &Identity,
) -> Result<Option<String>, StoreError> {
    let raw = to_json(identity);
    let field = vec![(provider.to_owned(), raw.clone())];
    if store.create_durably(&key(user), field.clone(), None).await? == Created::Yes {
        return Ok(Some(raw));
    }
    let update = Update { require: vec![(provider.to_owned(), None)], set: field, ..Update::default() };
    if store.update_durably(&key(user), update).await? == Updated::Yes {
        return Ok(Some(raw));
    }
    let held = of_account(store, user).await?.remove(provider);
    let same = |held: &Held| held.identity.issuer == identity.issuer && held.identity.sub == identity.sub;
    Ok(held.filter(same).map(|held| held.raw))
}

/// `false`: it is somebody else's.
async fn claim(store: &dyn Store, user: &str, provider: &str, identity: &Identity) -> Result<bool, StoreError> {
    let key = owner_key(&identity.issuer, &identity.sub);
    let whose = vec![("u".to_owned(), user.to_owned())];
    if store.create_durably(&key, whose.clone(), None).await? == Created::Yes {
        return Ok(true);
    }
    let claimed = claimed_by(store, &identity.issuer, &identity.sub).await?;
    if claimed.as_deref() == Some(user) {
        return Ok(true);
    }
    if owner(store, provider, &identity.issuer, &identity.sub).await?.is_some() {
        return Ok(false);
    }
    let update = Update { require: vec![("u".to_owned(), claimed)], set: whose, ..Update::default() };
    Ok(store.update_durably(&key, update).await? == Updated::Yes)
}

/// Remembers what a sign-in has told; `None`: the identity was disconnected or used meanwhile.
pub async fn renew(
    store: &dyn Store,
    user: &str,
    provider: &str,
    held: &Held,
    identity: &Identity,
) -> Result<Option<Held>, StoreError> {
    let new = Held { identity: identity.clone(), raw: to_json(identity) };
    let update = Update {
        require: vec![(provider.to_owned(), Some(held.raw.clone()))],
        set: vec![(provider.to_owned(), new.raw.clone())],
        ..Update::default()
    };
    Ok((store.update(&key(user), update).await? == Updated::Yes).then_some(new))
}

/// Takes an identity off an account. `spare`: another one that must still be there when it goes, because it is the only way in that is left.
/// `false`: something has changed meanwhile.
pub async fn disconnect(
    store: &dyn Store,
    user: &str,
    provider: &str,
    held: &Held,
    spare: Option<(&str, &Held)>,
) -> Result<bool, StoreError> {
    let mut require = vec![(provider.to_owned(), Some(held.raw.clone()))];
    require.extend(spare.map(|(other, held)| (other.to_owned(), Some(held.raw.clone()))));
    let update = Update { require, unset: vec![provider.to_owned()], ..Update::default() };
    if store.update_durably(&key(user), update).await? != Updated::Yes {
        return Ok(false);
    }
    disclaim(store, user, &held.identity).await?;
    Ok(true)
}

/// Somebody else may have connected it already.
async fn disclaim(store: &dyn Store, user: &str, identity: &Identity) -> Result<(), StoreError> {
    let whose = ("u".to_owned(), Some(user.to_owned()));
    let update = Update { require: vec![whose], unset: vec!["u".to_owned()], ..Update::default() };
    store.update(&owner_key(&identity.issuer, &identity.sub), update).await.map(drop)
}

/// With the account.
pub async fn forget_all(store: &dyn Store, user: &str) -> Result<(), StoreError> {
    for held in of_account(store, user).await?.into_values() {
        disclaim(store, user, &held.identity).await?;
    }
    store.take(&key(user)).await.map(drop)
}
