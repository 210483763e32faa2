//! A person's second factors. Fields: `t` the TOTP seed, sealed; `l` the last time step that was used; `r` hashes of the recovery codes
//! that are left.

use serde::{Deserialize, Serialize};

use super::hash::StoredHash;
use crate::keys::seal::Sealed;
use crate::store::{Key, Store, StoreError, Update, Updated, from_json, to_json};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Totp {
    pub seed: Sealed,
    /// Unix seconds.
    pub created: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Factors {
    pub totp: Option<Totp>,
    /// How many recovery codes are left.
    pub recovery_codes: usize,
    /// As stored, for compare-and-set.
    raw: Raw,
}

#[derive(Clone, Debug, Default)]
struct Raw {
    totp: Option<String>,
    last_step: Option<String>,
    recovery: Option<String>,
}

fn key(sub: &str) -> Key {
    Key::new("factors", sub)
}

/// What a seed is sealed for: one person's does not open as another's.
pub fn purpose(sub: &str) -> String {
    format!("totp seed\0{sub}")
}

impl Factors {
    pub fn is_enrolled(&self) -> bool {
        self.totp.is_some()
    }
}

pub async fn load(store: &dyn Store, sub: &str) -> Result<Factors, StoreError> {
    let Some(values) = store.read(&key(sub), &["t", "l", "r"]).await? else { return Ok(Factors::default()) };
    let mut values = values.into_iter();
    let mut next = || values.next().flatten();
    let raw = Raw { totp: next(), last_step: next(), recovery: next() };
    Ok(Factors {
        totp: raw.totp.as_deref().map(|json| from_json("TOTP", json)).transpose()?,
        recovery_codes: hashes(raw.recovery.as_deref())?.len(),
        raw,
    })
}

fn hashes(json: Option<&str>) -> Result<Vec<StoredHash>, StoreError> {
    json.map_or(Ok(Vec::new()), |json| from_json("recovery codes", json))
}

/// Uses a time step up; `false`: it, or a later one, was used before (RFC 6238 §5.2), here or at another replica. `resealed` replaces the
/// seed where it was sealed under an older key.
pub async fn use_step(
    store: &dyn Store,
    sub: &str,
    factors: &Factors,
    step: u64,
    resealed: Option<&Totp>,
) -> Result<bool, StoreError> {
    let last: Option<u64> = factors.raw.last_step.as_deref().map(|json| from_json("TOTP step", json)).transpose()?;
    if last.is_some_and(|last| step <= last) {
        return Ok(false);
    }
    let mut set = vec![("l".to_owned(), step.to_string())];
    set.extend(resealed.map(|totp| ("t".to_owned(), to_json(totp))));
    let update = Update {
        require: vec![("t".to_owned(), factors.raw.totp.clone()), ("l".to_owned(), factors.raw.last_step.clone())],
        set,
        ..Update::default()
    };
    Ok(store.update(&key(sub), update).await? == Updated::Yes)
}

/// Uses a recovery code up; `false`: there is no such code, or no longer.
pub async fn use_recovery_code(
    store: &dyn Store,
    sub: &str,
    factors: &Factors,
    code: &StoredHash,
) -> Result<bool, StoreError> {
    let mut left = hashes(factors.raw.recovery.as_deref())?;
    let before = left.len();
    left.retain(|one| !one.matches(code));
    if left.len() == before {
        return Ok(false);
    }
    let update = Update {
        require: vec![("r".to_owned(), factors.raw.recovery.clone())],
        set: vec![("r".to_owned(), to_json(&left))],
        ..Update::default()
    };
    Ok(store.update(&key(sub), update).await? == Updated::Yes)
}

/// A new authenticator in the place of any other, whose confirming step counts as used.
pub async fn set_totp(store: &dyn Store, sub: &str, totp: &Totp, step: u64) -> Result<(), StoreError> {
    let set = vec![("t".to_owned(), to_json(totp)), ("l".to_owned(), step.to_string())];
    store.upsert(&key(sub), Update { set, ..Update::default() }).await.map(drop)
}

/// Codes without a factor that they stand in for are none.
pub async fn remove_totp(store: &dyn Store, sub: &str) -> Result<(), StoreError> {
    let unset = ["t", "l", "r"].map(str::to_owned).to_vec();
    store.update(&key(sub), Update { unset, ..Update::default() }).await.map(drop)
}

/// All codes from before are worth nothing any more.
pub async fn set_recovery_codes(store: &dyn Store, sub: &str, codes: &[StoredHash]) -> Result<(), StoreError> {
    let update = Update { set: vec![("r".to_owned(), to_json(&codes))], ..Update::default() };
    store.update(&key(sub), update).await.map(drop)
}

/// Puts a newly sealed seed in the place of the same one; `false`: it was changed meanwhile.
pub async fn reseal(store: &dyn Store, sub: &str, factors: &Factors, totp: &Totp) -> Result<bool, StoreError> {
    let update = Update {
        require: vec![("t".to_owned(), factors.raw.totp.clone())],
        set: vec![("t".to_owned(), to_json(totp))],
        ..Update::default()
    };
    Ok(store.update(&key(sub), update).await? == Updated::Yes)
}

pub async fn forget_all(store: &dyn Store, sub: &str) -> Result<(), StoreError> {
    store.take(&key(sub)).await.map(drop)
}
