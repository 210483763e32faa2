//! A link by which somebody sets a new password or a first passkey: one of each per person, good once and not for long. Only the secret's
//! hash is kept.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::hash::StoredHash;
use super::id_and_secret;
use crate::store::{Key, Store, StoreError, Update, from_json, to_json};

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Reset {
    secret: StoredHash,
    /// Of the user when the link was made: whatever changes the account makes the link worthless.
    epoch: u64,
}

/// What a link is good for; for nothing else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    #[default]
    Password,
    Passkey,
}

/// Whose link it is, and what proves it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ticket {
    #[serde(default)]
    pub purpose: Purpose,
    pub sub: String,
    pub secret: StoredHash,
}

fn key(purpose: Purpose, sub: &str) -> Key {
    match purpose {
        Purpose::Password => Key::new("password-reset", sub),
        Purpose::Passkey => Key::new("passkey-link", sub),
    }
}

/// The text of a link that replaces any earlier one.
pub async fn create(
    store: &dyn Store,
    purpose: Purpose,
    (sub, epoch): (&str, u64),
    secret: &str,
    life: Duration,
) -> Result<String, StoreError> {
    let reset = Reset { secret: StoredHash::of_secret(secret), epoch };
    let update = Update { set: vec![("d".to_owned(), to_json(&reset))], ttl: Some(life), ..Update::default() };
    store.upsert(&key(purpose, sub), update).await?;
    Ok(format!("{sub}{secret}"))
}

pub fn parse(purpose: Purpose, text: &str) -> Option<Ticket> {
    let (sub, secret) = id_and_secret(text)?;
    Some(Ticket { purpose, sub: sub.to_owned(), secret: StoredHash::of_secret(secret) })
}

/// The user's epoch when the link was made, if the link is good.
pub async fn check(store: &dyn Store, ticket: &Ticket) -> Result<Option<u64>, StoreError> {
    let Some(values) = store.read(&key(ticket.purpose, &ticket.sub), &["d"]).await? else { return Ok(None) };
    judge(values.into_iter().next().flatten().as_deref(), ticket)
}

/// Of several who use a link at once, one gets an answer.
pub async fn take(store: &dyn Store, ticket: &Ticket) -> Result<Option<u64>, StoreError> {
    if check(store, ticket).await?.is_none() {
        return Ok(None);
    }
    let fields = store.take(&key(ticket.purpose, &ticket.sub)).await?.unwrap_or_default();
    judge(fields.get("d").map(String::as_str), ticket)
}

fn judge(json: Option<&str>, ticket: &Ticket) -> Result<Option<u64>, StoreError> {
    let Some(json) = json else { return Ok(None) };
    let reset: Reset = from_json("password reset", json)?;
    Ok(reset.secret.matches(&ticket.secret).then_some(reset.epoch))
}
