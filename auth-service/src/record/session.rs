//! A person's session: one record for every policy the person visits, with a secret of its own for each.
//!
//! Fields: `s` what never changes, `u` last use, `i` longest idle time, `e` absolute end, `p` profile, `alive`; and for each client `c:` its seat,
//! `d:` its data, `v:` the data's version.

use std::collections::BTreeMap;
use std::time::Duration;

use cloakroom_protocol::token::{OpaqueToken, TokenId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::hash::StoredHash;
use super::origin::{self, Origin};
use super::profile::Profile;
use super::user::User;
use super::{RecordError, records_of};
use crate::store::{Created, Fields, Guard, Key, Store, StoreError, Update, Updated, from_json, to_json};

/// How long a session may stay unused and how long it may live at all, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    pub idle: u64,
    pub absolute: u64,
}

/// What was true at sign-in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Facts {
    pub sub: String,
    /// Unix seconds, of the last authentication; re-authenticating makes a new session.
    pub auth_time: u64,
    pub acr: String,
    pub amr: Vec<String>,
    /// Of the sign-in cookie.
    pub sso: StoredHash,
    #[serde(default)]
    pub user_agent: String,
    #[serde(default)]
    pub address: String,
    /// The other provider's sign-in that it began with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

#[derive(Clone, Debug)]
pub struct Session {
    pub id: TokenId,
    pub facts: Facts,
    pub last_used: u64,
    pub longest_idle: u64,
    pub end: u64,
    pub profile: Profile,
}

/// A client's place in a session.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Seat {
    pub secret: StoredHash,
    /// Unix seconds.
    pub issued: u64,
}

/// A session as one client sees it.
#[derive(Clone, Debug)]
pub struct SeatedSession {
    pub session: Session,
    pub seat: Seat,
    pub data: Map<String, Value>,
    pub version: u64,
}

pub fn key(id: TokenId) -> Key {
    Key::new("session", id)
}

impl Session {
    /// Whether the session is neither idle for too long nor too old under these terms.
    pub fn is_within(&self, terms: Terms, now: u64) -> bool {
        now < self.end_under(terms) && now < self.last_used.saturating_add(terms.idle)
    }

    /// Absolute end under a policy's terms, Unix seconds.
    pub fn end_under(&self, terms: Terms) -> u64 {
        self.end.min(self.facts.auth_time.saturating_add(terms.absolute))
    }

    fn ttl(&self, now: u64) -> Duration {
        let idle_end = self.last_used.saturating_add(self.longest_idle);
        // One second more: the terms decide, and must still find the record when they do.
        Duration::from_secs(self.end.min(idle_end).saturating_sub(now) + 1)
    }

    fn parse(id: TokenId, mut field: impl FnMut(&str) -> Option<String>) -> Result<Option<Self>, StoreError> {
        let Some(facts) = field("s") else { return Ok(None) };
        let mut number = |name: &str| from_json("session", &field(name).unwrap_or_default());
        let (last_used, longest_idle, end) = (number("u")?, number("i")?, number("e")?);
        Ok(Some(Self {
            id,
            facts: from_json("session facts", &facts)?,
            last_used,
            longest_idle,
            end,
            profile: from_json("session profile", &field("p").unwrap_or_default())?,
        }))
    }
}

/// Begins a session for `user`, in its index before it exists.
pub async fn create(store: &dyn Store, user: &User, session: &Session, now: u64) -> Result<(), RecordError> {
    let ttl = session.ttl(now);
    index(store, user, session, now).await?;
    if let Some(origin) = &session.facts.origin
        && origin::has_ended(store, origin).await?
    {
        return Err(RecordError::Revoked);
    }
    let fields = vec![
        // A grant checks for this as it is written, so that it cannot outlive the session unseen.
        ("alive".to_owned(), "1".to_owned()),
        ("s".to_owned(), to_json(&session.facts)),
        ("u".to_owned(), session.last_used.to_string()),
        ("i".to_owned(), session.longest_idle.to_string()),
        ("e".to_owned(), session.end.to_string()),
        ("p".to_owned(), to_json(&session.profile)),
    ];
    match store.create_durably(&key(session.id), fields, Some(ttl)).await? {
        Created::Yes => Ok(()),
        Created::Exists | Created::Dead => Err(RecordError::Revoked),
    }
}

/// The guard refuses a session that was begun with what the user no longer is (password changed, disabled, signed out everywhere).
async fn index(store: &dyn Store, user: &User, session: &Session, now: u64) -> Result<(), RecordError> {
    let guard = Guard { key: super::user::key(&user.id), field: "e".to_owned(), value: user.epoch.to_string() };
    let ttl = Duration::from_secs(session.end.saturating_sub(now) + 1);
    let member = format!("session:{}", session.id);
    if let Some(origin) = &session.facts.origin {
        origin::index(store, origin, session.id, ttl).await?;
    }
    if store.index_add(&records_of(&user.id), &member, Some(ttl), Some(guard)).await? {
        Ok(())
    } else {
        Err(RecordError::SubjectChanged)
    }
}

pub async fn load(store: &dyn Store, id: TokenId) -> Result<Option<Session>, StoreError> {
    const FIELDS: [&str; 5] = ["s", "u", "i", "e", "p"];
    let Some(mut values) = store.read(&key(id), &FIELDS).await? else { return Ok(None) };
    Session::parse(id, |name| FIELDS.iter().position(|field| *field == name).and_then(|at| values[at].take()))
}

/// One client's view, in one round trip. `None`: no such session, or the client has no seat in it.
pub async fn load_seat(store: &dyn Store, id: TokenId, client: &str) -> Result<Option<SeatedSession>, StoreError> {
    let names = [format!("c:{client}"), format!("d:{client}"), format!("v:{client}")];
    let fields = ["s", "u", "i", "e", "p", &names[0], &names[1], &names[2]];
    let Some(mut values) = store.read(&key(id), &fields).await? else { return Ok(None) };
    let mut take = |name: &str| fields.iter().position(|field| *field == name).and_then(|at| values[at].take());
    let Some(session) = Session::parse(id, &mut take)? else { return Ok(None) };
    let Some(seat) = take(&names[0]) else { return Ok(None) };
    let data = take(&names[1]).map_or(Ok(Map::new()), |json| from_json("session data", &json))?;
    let version = take(&names[2]).map_or(Ok(0), |json| from_json("session version", &json))?;
    Ok(Some(SeatedSession { session, seat: from_json("seat", &seat)?, data, version }))
}

/// A session, and the clients that have a seat in it.
pub async fn load_with_clients(store: &dyn Store, id: TokenId) -> Result<Option<(Session, Vec<String>)>, StoreError> {
    let Some(fields) = store.read_all(&key(id)).await? else { return Ok(None) };
    let mut clients: Vec<String> = clients(&fields).map(str::to_owned).collect();
    clients.sort();
    Ok(Session::parse(id, |name| fields.get(name).cloned())?.map(|session| (session, clients)))
}

/// Every client's data, with its version.
pub async fn load_data(
    store: &dyn Store,
    id: TokenId,
) -> Result<Option<BTreeMap<String, (u64, Map<String, Value>)>>, StoreError> {
    let Some(fields) = store.read_all(&key(id)).await? else { return Ok(None) };
    let mut all = BTreeMap::new();
    for client in clients(&fields) {
        let data = fields.get(&format!("d:{client}")).map_or(Ok(Map::new()), |json| from_json("data", json))?;
        let version = fields.get(&format!("v:{client}")).map_or(Ok(0), |json| from_json("version", json))?;
        all.insert(client.to_owned(), (version, data));
    }
    Ok(Some(all))
}

/// Whose seat the token's secret belongs to: for administrators, who ask without naming a policy.
pub async fn find_seat(store: &dyn Store, token: &OpaqueToken) -> Result<Option<(String, SeatedSession)>, StoreError> {
    let Some(fields) = store.read_all(&key(token.id())).await? else { return Ok(None) };
    let hash = StoredHash::from(token.secret_hash());
    let clients: Vec<String> = clients(&fields).map(str::to_owned).collect();
    for client in clients {
        let Some(json) = fields.get(&format!("c:{client}")) else { continue };
        let seat: Seat = from_json("seat", json)?;
        if seat.secret.matches(&hash) {
            let Some(session) = Session::parse(token.id(), |name| fields.get(name).cloned())? else { return Ok(None) };
            let data = fields.get(&format!("d:{client}")).map_or(Ok(Map::new()), |json| from_json("data", json))?;
            let version = fields.get(&format!("v:{client}")).map_or(Ok(0), |json| from_json("version", json))?;
            return Ok(Some((client, SeatedSession { session, seat, data, version })));
        }
    }
    Ok(None)
}

/// Ids of the clients that have a seat.
fn clients(fields: &Fields) -> impl Iterator<Item = &str> {
    fields.keys().filter_map(|name| name.strip_prefix("c:"))
}

/// Gives a client a seat, and the session the client's terms where they reach further. An earlier secret of the client ends here.
pub async fn seat(
    store: &dyn Store,
    user: &User,
    session: &mut Session,
    (client, seat): (&str, &Seat),
    terms: Terms,
    now: u64,
) -> Result<(), RecordError> {
    session.longest_idle = session.longest_idle.max(terms.idle);
    session.last_used = now;
    let end = session.facts.auth_time.saturating_add(terms.absolute);
    if end > session.end {
        session.end = end;
        index(store, user, session, now).await?;
    }
    let fields = vec![
        (format!("c:{client}"), to_json(seat)),
        ("u".to_owned(), now.to_string()),
        ("i".to_owned(), session.longest_idle.to_string()),
        ("e".to_owned(), session.end.to_string()),
    ];
    let update = Update { set: fields, ttl: Some(session.ttl(now)), ..Update::default() };
    match store.update_durably(&key(session.id), update).await? {
        Updated::Yes => Ok(()),
        Updated::Conflict | Updated::Missing => Err(RecordError::Revoked),
    }
}

/// Takes a client's seat away: its token is refused from now on.
pub async fn unseat(store: &dyn Store, id: TokenId, client: &str) -> Result<(), StoreError> {
    let update = Update { unset: vec![format!("c:{client}")], ..Update::default() };
    store.update(&key(id), update).await.map(drop)
}

/// Remembers a use. Applied only if nobody did so meanwhile: a later use must not be overwritten by an earlier one.
pub async fn touch(store: &dyn Store, session: &Session, used: u64, now: u64) -> Result<(), StoreError> {
    if used <= session.last_used {
        return Ok(());
    }
    let touched = Session { last_used: used, ..session.clone() };
    let update = Update {
        require: vec![("u".to_owned(), Some(session.last_used.to_string()))],
        set: vec![("u".to_owned(), used.to_string())],
        ttl: Some(touched.ttl(now)),
        ..Update::default()
    };
    store.update(&key(session.id), update).await.map(drop)
}

/// Replaces a client's data if it still has `version`.
pub async fn write_data(
    store: &dyn Store,
    id: TokenId,
    client: &str,
    version: u64,
    data: &Map<String, Value>,
) -> Result<Updated, StoreError> {
    let (data_field, version_field) = (format!("d:{client}"), format!("v:{client}"));
    let before = (version != 0).then(|| version.to_string());
    let update = Update {
        require: vec![(version_field.clone(), before)],
        set: vec![(data_field, to_json(data)), (version_field, (version + 1).to_string())],
        ..Update::default()
    };
    store.update_durably(&key(id), update).await
}

/// Copies what the apps of the same browser stored from the session that a new one replaces.
pub async fn inherit(store: &dyn Store, old: TokenId, new: TokenId) -> Result<(), StoreError> {
    let Some(fields) = store.read_all(&key(old)).await? else { return Ok(()) };
    let set: Vec<_> = fields.into_iter().filter(|(name, _)| name.starts_with("d:") || name.starts_with("v:")).collect();
    if set.is_empty() {
        return Ok(());
    }
    store.update(&key(new), Update { set, ..Update::default() }).await.map(drop)
}

/// Writes a changed profile into an existing session.
pub async fn set_profile(store: &dyn Store, id: TokenId, profile: &Profile) -> Result<(), StoreError> {
    let update = Update { set: vec![("p".to_owned(), to_json(profile))], ..Update::default() };
    store.update(&key(id), update).await.map(drop)
}
