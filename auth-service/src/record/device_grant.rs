//! A device without a browser that waits for a person elsewhere to say yes (RFC 8628).
//!
//! Fields: `d` what the device asked for, `v` the person's verdict, `p` the last poll and the interval that goes with it.

use std::time::Duration;

use cloakroom_protocol::token::TokenId;
use serde::{Deserialize, Serialize};

use super::hash::StoredHash;
use super::id_and_secret;
use crate::store::{Created, Key, Store, StoreError, Update, Updated, from_json, to_json};

/// How long a person has, seconds.
pub const LIFETIME: u64 = 600;
/// Seconds between polls, at first.
pub const INTERVAL: u64 = 5;
/// What `slow_down` adds each time (RFC 8628 §3.5), and how far.
const SLOWER: u64 = 5;
const SLOWEST: u64 = 60;
/// An expired request is still told from a made-up one for a while.
const REMEMBERED: u64 = 600;

/// Without vowels there are no words, and nothing looks like a digit (RFC 8628 §6.1). 20^8: 34 bits.
const ALPHABET: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
const USER_CODE_LEN: usize = 8;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeviceRequest {
    pub secret: StoredHash,
    pub user_code: UserCode,
    pub client_id: String,
    pub scope: String,
    pub aud: Vec<String>,
    /// Unix seconds.
    pub end: u64,
}

/// What the person typed in on another device, as stored: letters only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UserCode(String);

impl UserCode {
    pub fn random(random: &crate::random::Random) -> Self {
        use rand::RngExt;
        random.with(|rng| {
            let letter = |_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())]);
            Self((0..USER_CODE_LEN).map(letter).collect())
        })
    }

    /// As people type: any case, with or without the dash.
    pub fn parse(text: &str) -> Option<Self> {
        let letters: String =
            text.chars().filter(|c| !matches!(c, '-' | ' ')).map(|c| c.to_ascii_uppercase()).collect();
        let fits = letters.len() == USER_CODE_LEN && letters.bytes().all(|b| ALPHABET.contains(&b));
        fits.then_some(Self(letters))
    }
}

impl std::fmt::Display for UserCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (one, other) = self.0.split_at(self.0.len() / 2);
        write!(f, "{one}-{other}")
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Allowed(Box<Allowed>),
    Denied,
}

/// Who said yes, and how that person had signed in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Allowed {
    pub sub: String,
    pub epoch: u64,
    pub auth_time: u64,
    pub acr: String,
    pub amr: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Polled {
    at: u64,
    interval: u64,
}

#[derive(Debug)]
pub struct Found {
    pub request: DeviceRequest,
    pub verdict: Option<Verdict>,
    polled: Option<(Polled, String)>,
}

fn key(id: &str) -> Key {
    Key::new("device-grant", id)
}

fn code_key(code: &UserCode) -> Key {
    Key::new("user-code", &code.0)
}

/// Writes a request and returns its device code; `None`: the user code is in use, take another.
pub async fn create(
    store: &dyn Store,
    (id, secret): (TokenId, &str),
    request: &DeviceRequest,
    now: u64,
) -> Result<Option<String>, StoreError> {
    let life = request.end.saturating_sub(now);
    let by_code = vec![("id".to_owned(), id.to_string())];
    if store.create(&code_key(&request.user_code), by_code, Some(Duration::from_secs(life))).await? != Created::Yes {
        return Ok(None);
    }
    let ttl = Duration::from_secs(life + REMEMBERED);
    match store.create(&key(id.as_str()), vec![("d".to_owned(), to_json(request))], Some(ttl)).await? {
        Created::Yes => Ok(Some(format!("{id}{secret}"))),
        Created::Exists | Created::Dead => Err(StoreError::Corrupt("a random code was there before".to_owned())),
    }
}

/// The request behind a device code, if its secret is right.
pub async fn find(store: &dyn Store, device_code: &str) -> Result<Option<Found>, StoreError> {
    let Some((id, secret)) = id_and_secret(device_code) else { return Ok(None) };
    let found = load(store, id).await?;
    Ok(found.filter(|found| found.request.secret.matches(&StoredHash::of_secret(secret))))
}

async fn load(store: &dyn Store, id: &str) -> Result<Option<Found>, StoreError> {
    let Some(values) = store.read(&key(id), &["d", "v", "p"]).await? else { return Ok(None) };
    let mut values = values.into_iter();
    let mut next = || values.next().flatten();
    let (Some(request), verdict, polled) = (next(), next(), next()) else { return Ok(None) };
    let polled = match polled {
        Some(json) => Some((from_json("poll", &json)?, json)),
        None => None,
    };
    Ok(Some(Found {
        request: from_json("device request", &request)?,
        verdict: verdict.map(|json| from_json("verdict", &json)).transpose()?,
        polled,
    }))
}

/// What waits under a user code for somebody to decide; the id is for [`decide`].
pub async fn waiting(
    store: &dyn Store,
    code: &UserCode,
    now: u64,
) -> Result<Option<(String, DeviceRequest)>, StoreError> {
    let id = store.read(&code_key(code), &["id"]).await?.and_then(|mut values| values.pop().flatten());
    let Some(id) = id else { return Ok(None) };
    let found = load(store, &id).await?;
    Ok(found.filter(|found| found.verdict.is_none() && now < found.request.end).map(|found| (id, found.request)))
}

/// Once; `false`: somebody else did, or it has expired.
pub async fn decide(store: &dyn Store, id: &str, code: &UserCode, verdict: &Verdict) -> Result<bool, StoreError> {
    let update = Update {
        require: vec![("v".to_owned(), None)],
        set: vec![("v".to_owned(), to_json(verdict))],
        ..Update::default()
    };
    let done = store.update(&key(id), update).await? == Updated::Yes;
    store.take(&code_key(code)).await?;
    Ok(done)
}

/// Notes a poll; `false`: too soon after the last one, and the next has to wait longer still.
pub async fn poll(store: &dyn Store, device_code: &str, found: &Found, now: u64) -> Result<bool, StoreError> {
    let Some((id, _)) = id_and_secret(device_code) else { return Ok(false) };
    let (before, raw) = match &found.polled {
        Some((polled, raw)) => (*polled, Some(raw.clone())),
        None => (Polled { at: 0, interval: INTERVAL }, None),
    };
    let in_time = now >= before.at.saturating_add(before.interval);
    let interval = if in_time { before.interval } else { (before.interval + SLOWER).min(SLOWEST) };
    let update = Update {
        require: vec![("p".to_owned(), raw)],
        set: vec![("p".to_owned(), to_json(&Polled { at: now, interval }))],
        ..Update::default()
    };
    // Two polls at the same time are too soon for one of them.
    Ok(store.update(&key(id), update).await? == Updated::Yes && in_time)
}

/// Redeems an allowed request; of several callers one may.
pub async fn take(store: &dyn Store, device_code: &str) -> Result<bool, StoreError> {
    let Some((id, _)) = id_and_secret(device_code) else { return Ok(false) };
    Ok(store.take(&key(id)).await?.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_code_reads_as_people_type_it_and_as_nothing_else() {
        let code = UserCode::random(&crate::random::Random::seeded(1));
        let shown = code.to_string();
        assert!(shown.len() == 9 && shown.as_bytes()[4] == b'-', "{shown}");
        for typed in
            [shown.clone(), shown.to_lowercase(), shown.replace('-', ""), format!(" {} ", shown.replace('-', " "))]
        {
            assert_eq!(UserCode::parse(&typed), Some(code.clone()), "{typed}");
        }
        for junk in ["", "BCDF", "BCDF-GHJA", "BCDF-GHJK-L", "ÄCDF-GHJK", "BCDF_GHJK"] {
            assert_eq!(UserCode::parse(junk), None, "{junk}");
        }
    }
}
