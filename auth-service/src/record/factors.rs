//! A person's second factors. Fields: `t` the TOTP seed, sealed; `l` the last time step that was used; `r` hashes of the recovery codes
//! that are left, `k:` and its id a passkey.

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

#[derive(Clone, Debug)]
pub struct Passkey {
    /// The credential's id, base64url.
    pub id: String,
    pub kept: KeptPasskey,
    /// As stored, for compare-and-set.
    raw: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeptPasskey {
    pub name: String,
    /// `SubjectPublicKeyInfo`, base64url.
    pub public_key: String,
    /// COSE.
    pub algorithm: i64,
    /// The authenticator's signature counter; 0 where it has none.
    pub count: u32,
    /// Whether it is kept in more than one place.
    pub backed_up: bool,
    /// Unix seconds.
    pub created: u64,
    pub last_used: u64,
}

impl Passkey {
    pub fn new(id: String, kept: KeptPasskey) -> Self {
        Self { id, raw: to_json(&kept), kept }
    }

    fn field(id: &str) -> String {
        format!("k:{id}")
    }
}

#[derive(Clone, Debug, Default)]
pub struct Factors {
    pub totp: Option<Totp>,
    /// The oldest first.
    pub passkeys: Vec<Passkey>,
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
        self.totp.is_some() || !self.passkeys.is_empty()
    }
}

pub async fn load(store: &dyn Store, sub: &str) -> Result<Factors, StoreError> {
    let Some(mut fields) = store.read_all(&key(sub)).await? else { return Ok(Factors::default()) };
    let raw = Raw { totp: fields.remove("t"), last_step: fields.remove("l"), recovery: fields.remove("r") };
    let passkeys = fields.into_iter().filter_map(|(name, raw)| Some((name.strip_prefix("k:")?.to_owned(), raw)));
    let passkeys = passkeys.map(|(id, raw)| Ok(Passkey { id, kept: from_json("passkey", &raw)?, raw }));
    let mut passkeys = passkeys.collect::<Result<Vec<_>, StoreError>>()?;
    passkeys.sort_by(|one, other| (one.kept.created, &one.id).cmp(&(other.kept.created, &other.id)));
    Ok(Factors {
        passkeys,
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

pub async fn remove_totp(store: &dyn Store, sub: &str, factors: &Factors) -> Result<(), StoreError> {
    let mut unset = ["t", "l"].map(str::to_owned).to_vec();
    // Codes without a factor that they stand in for are none.
    unset.extend(factors.passkeys.is_empty().then(|| "r".to_owned()));
    store.update(&key(sub), Update { unset, ..Update::default() }).await.map(drop)
}

pub async fn add_passkey(store: &dyn Store, sub: &str, passkey: &Passkey) -> Result<(), StoreError> {
    let set = vec![(Passkey::field(&passkey.id), to_json(&passkey.kept))];
    store.upsert(&key(sub), Update { set, ..Update::default() }).await.map(drop)
}

/// Remembers a use; `false`: the passkey was used or removed at the same time.
pub async fn use_passkey(
    store: &dyn Store,
    sub: &str,
    passkey: &Passkey,
    count: u32,
    now: u64,
) -> Result<bool, StoreError> {
    let field = Passkey::field(&passkey.id);
    let used = KeptPasskey { count, last_used: now, ..passkey.kept.clone() };
    let update = Update {
        require: vec![(field.clone(), Some(passkey.raw.clone()))],
        set: vec![(field, to_json(&used))],
        ..Update::default()
    };
    Ok(store.update(&key(sub), update).await? == Updated::Yes)
}

pub async fn remove_passkey(store: &dyn Store, sub: &str, factors: &Factors, id: &str) -> Result<(), StoreError> {
    let mut unset = vec![Passkey::field(id)];
    let last = factors.totp.is_none() && factors.passkeys.iter().all(|passkey| passkey.id == id);
    unset.extend(last.then(|| "r".to_owned()));
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
