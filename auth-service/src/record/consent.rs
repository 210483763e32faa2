//! What people have allowed third-party applications, remembered per person: client → scopes and audiences.

use serde::{Deserialize, Serialize};

use crate::store::{Key, Store, StoreError, Update, from_json, to_json};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consent {
    pub scopes: Vec<String>,
    pub audiences: Vec<String>,
}

impl Consent {
    pub fn covers(&self, scope: &str, audiences: &[String]) -> bool {
        scope.split(' ').filter(|one| !one.is_empty()).all(|one| self.scopes.iter().any(|given| given == one))
            && audiences.iter().all(|one| self.audiences.contains(one))
    }

    fn extend(&mut self, scope: &str, audiences: &[String]) {
        for one in scope.split(' ').filter(|one| !one.is_empty()) {
            if !self.scopes.iter().any(|given| given == one) {
                self.scopes.push(one.to_owned());
            }
        }
        for one in audiences {
            if !self.audiences.contains(one) {
                self.audiences.push(one.clone());
            }
        }
    }
}

fn key(sub: &str) -> Key {
    Key::new("consents", sub)
}

pub async fn load(store: &dyn Store, sub: &str, client: &str) -> Result<Consent, StoreError> {
    let values = store.read(&key(sub), &[client]).await?;
    let json = values.and_then(|mut values| values.pop().flatten());
    json.map_or(Ok(Consent::default()), |json| from_json("consent", &json))
}

pub async fn add(
    store: &dyn Store,
    sub: &str,
    client: &str,
    scope: &str,
    audiences: &[String],
) -> Result<(), StoreError> {
    let mut consent = load(store, sub, client).await?;
    consent.extend(scope, audiences);
    let update = Update { set: vec![(client.to_owned(), to_json(&consent))], ..Update::default() };
    store.upsert(&key(sub), update).await.map(drop)
}

/// Everything that a person has allowed, by client.
pub async fn list(store: &dyn Store, sub: &str) -> Result<Vec<(String, Consent)>, StoreError> {
    let fields = store.read_all(&key(sub)).await?.unwrap_or_default();
    let mut all = fields
        .into_iter()
        .map(|(client, json)| Ok((client, from_json("consent", &json)?)))
        .collect::<Result<Vec<(String, Consent)>, StoreError>>()?;
    all.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(all)
}

pub async fn forget(store: &dyn Store, sub: &str, client: &str) -> Result<(), StoreError> {
    store.update(&key(sub), Update { unset: vec![client.to_owned()], ..Update::default() }).await.map(drop)
}

pub async fn forget_all(store: &dyn Store, sub: &str) -> Result<(), StoreError> {
    store.take(&key(sub)).await.map(drop)
}
