//! Authorization codes: good once, for one client, one redirect URI and one PKCE verifier (RFC 6749 §4.1.2, RFC 7636).
//!
//! A spent code is remembered until it would have expired, together with what it gave, so that a replay can take that back.

use std::time::Duration;

use cloakroom_protocol::token::TokenId;
use serde::{Deserialize, Serialize};

use super::flow::AuthorizationRequest;
use super::hash::StoredHash;
use super::id_and_secret;
use crate::store::{Created, Key, Store, StoreError, Update, Updated, from_json, to_json};

/// RFC 6749 §4.1.2 allows ten minutes; a browser needs seconds.
pub const CODE_LIFETIME: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Code {
    pub secret: StoredHash,
    pub request: AuthorizationRequest,
    pub sid: TokenId,
    pub sub: String,
    /// Of the user when the code was given.
    pub epoch: u64,
}

/// What a code became: a grant, or a seat in a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spent {
    Grant(TokenId),
    Seat { sid: TokenId, client: String },
}

#[derive(Debug)]
pub struct Found {
    pub code: Code,
    /// What it gave before, if it was used.
    pub spent: Option<Spent>,
}

fn key(id: &str) -> Key {
    Key::new("code", id)
}

/// Writes a code and returns its text: a public id, then the secret.
pub async fn create(
    store: &dyn Store,
    (id, secret): (TokenId, String),
    code: impl FnOnce(StoredHash) -> Code,
) -> Result<String, StoreError> {
    let code = code(StoredHash::of_secret(&secret));
    let fields = vec![("d".to_owned(), to_json(&code))];
    match store.create(&key(id.as_str()), fields, Some(CODE_LIFETIME)).await? {
        Created::Yes => Ok(format!("{id}{secret}")),
        Created::Exists | Created::Dead => Err(StoreError::Corrupt("a random code was there before".to_owned())),
    }
}

/// The code behind the text, if its secret is right.
pub async fn find(store: &dyn Store, text: &str) -> Result<Option<Found>, StoreError> {
    let Some((id, secret)) = id_and_secret(text) else { return Ok(None) };
    let Some(values) = store.read(&key(id), &["d", "spent"]).await? else { return Ok(None) };
    let mut values = values.into_iter();
    let (Some(json), spent) = (values.next().flatten(), values.next().flatten()) else { return Ok(None) };
    let code: Code = from_json("code", &json)?;
    if !code.secret.matches(&StoredHash::of_secret(secret)) {
        return Ok(None);
    }
    let spent = spent.map(|json| from_json("spent code", &json)).transpose()?;
    Ok(Some(Found { code, spent }))
}

/// `false`: somebody was faster, or it has expired.
pub async fn spend(store: &dyn Store, text: &str, spent: &Spent) -> Result<bool, StoreError> {
    let Some((id, _)) = id_and_secret(text) else { return Ok(false) };
    let update = Update {
        require: vec![("spent".to_owned(), None)],
        set: vec![("spent".to_owned(), to_json(spent))],
        ..Update::default()
    };
    Ok(store.update(&key(id), update).await? == Updated::Yes)
}
