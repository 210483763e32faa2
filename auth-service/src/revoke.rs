//! Ending records, so that nobody can use them from the moment the event is out.
//!
//! Order matters: the record goes first, then the event (an introspection that starts after the event cannot find the record), and what
//! hangs on the record is looked up after that (nothing new can hang on it any more).

use cloakroom_protocol::events::{Event, Revoked};
use cloakroom_protocol::token::TokenId;

use crate::app::App;
use crate::record::user::{Change, Held, User, held};
use crate::record::{RecordError, TOMBSTONE, api_key, device, grant, origin, session, user};
use crate::store::{Entry, EventId, Key, Revocation, StoreError};

/// Nothing to revoke is no error.
#[derive(Debug, Default)]
pub struct Ended {
    /// The last event that says so.
    pub event: Option<EventId>,
    pub replicas: Option<u64>,
    pub records: usize,
}

/// Tries against a user that others keep changing.
const TRIES: usize = 5;

fn entry(revoked: Revoked) -> Entry {
    let event = Event::Revoked(revoked);
    Entry { name: event.name().to_owned(), data: event.data() }
}

fn key_of(held: &Held) -> Option<Key> {
    match held.kind.as_str() {
        "session" => Some(session::key(held.id)),
        "grant" => Some(grant::key(held.id)),
        "api-key" => Some(api_key::key(held.id)),
        _ => None,
    }
}

impl Ended {
    fn add(&mut self, revocation: &Revocation) {
        self.event = self.event.max(Some(revocation.event));
        self.replicas = match (self.replicas, revocation.replicas) {
            (Some(before), Some(now)) => Some(before.min(now)),
            (before, now) => before.or(now),
        };
        self.records += revocation.removed.iter().flatten().count();
    }
}

/// Ends a session, grant or API key and what hangs on it. An id that is dead already is announced again: the caller of a revocation that
/// failed half-way repeats it.
pub async fn record(app: &App, id: TokenId) -> Result<Ended, StoreError> {
    let store = app.store();
    let mut ended = Ended::default();
    for key in [session::key(id), grant::key(id), api_key::key(id)] {
        let (found, dead) = tokio::try_join!(store.read_all(&key), store.is_dead(&key))?;
        let Some(fields) = found.or_else(|| dead.then(Default::default)) else { continue };
        let revocation = store.revoke(std::slice::from_ref(&key), TOMBSTONE, &entry(Revoked::Id { id })).await?;
        ended.add(&revocation);
        grants_below(app, id, &mut ended).await?;
        if key.kind() == session::key(id).kind()
            && let Some(facts) = facts_of(&fields)
        {
            tell_clients(app, id, &facts.sub).await;
            if let Some(origin) = &facts.origin {
                origin::forget(store, origin, id).await?;
            }
        }
        tidy_index(app, &key, id, &fields).await?;
    }
    if ended.event.is_some() {
        app.metrics.revocations.inc();
    }
    Ok(ended)
}

/// Ends a session, or keeps it from being written if it is not there yet.
pub async fn session(app: &App, id: TokenId) -> Result<Ended, StoreError> {
    let mut ended = record(app, id).await?;
    if ended.event.is_none() {
        ended.add(&app.store().revoke(&[session::key(id)], TOMBSTONE, &entry(Revoked::Id { id })).await?);
    }
    Ok(ended)
}

/// Ends a grant, or keeps it from being written if it is not there yet.
pub async fn grant(app: &App, id: TokenId) -> Result<(), StoreError> {
    app.store().revoke(&[grant::key(id)], TOMBSTONE, &entry(Revoked::Id { id })).await?;
    grants_below(app, id, &mut Ended::default()).await?;
    app.metrics.revocations.inc();
    Ok(())
}

/// What was granted in a session, what was exchanged for tokens of that, and so on. Chains are short: each link names its actor.
async fn grants_below(app: &App, id: TokenId, ended: &mut Ended) -> Result<(), StoreError> {
    let mut above = vec![id];
    while let Some(id) = above.pop() {
        let index = grant::below(id);
        for member in app.store().index_list(&index, 0, usize::MAX).await? {
            let Some(id) = member.strip_prefix("grant:").and_then(|id| id.parse().ok()) else { continue };
            let revocation = app.store().revoke(&[grant::key(id)], TOMBSTONE, &entry(Revoked::Id { id })).await?;
            ended.add(&revocation);
            app.store().index_remove(&index, &member).await?;
            above.push(id);
        }
    }
    Ok(())
}

fn facts_of(session: &crate::store::Fields) -> Option<session::Facts> {
    serde_json::from_str(session.get("s")?).ok()
}

/// Whoever cannot be told does not keep anybody signed in.
async fn tell_clients(app: &App, sid: TokenId, sub: &str) {
    if let Err(error) = crate::backchannel::session_ended(app, sid, sub).await {
        tracing::warn!(%error, %sid, "clients are not told of a sign-out");
    }
}

/// The holder's index would forget the record at its end anyway; sooner keeps lists short.
async fn tidy_index(app: &App, key: &Key, id: TokenId, fields: &crate::store::Fields) -> Result<(), StoreError> {
    #[derive(serde::Deserialize)]
    struct Holder {
        sub: String,
        #[serde(default)]
        client_id: Option<String>,
    }
    let facts = ["s", "g", "k"].iter().find_map(|name| fields.get(*name));
    let Some(holder) = facts.and_then(|json| serde_json::from_str::<Holder>(json).ok()) else { return Ok(()) };
    let member = format!("{}:{id}", key.kind());
    app.store().index_remove(&crate::record::records_of(&holder.sub), &member).await?;
    if let Some(client) = holder.client_id {
        app.store().index_remove(&crate::record::records_of(&client), &member).await?;
    }
    if key.kind() == "api-key" {
        api_key::unlist(app.store(), id).await?;
    }
    Ok(())
}

/// What of a subject ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Sessions and grants: signed out everywhere.
    SignedIn,
    /// API keys too: the account is disabled or gone.
    Everything,
}

/// Ends what a subject has, trust in browsers included. The epoch moves on first, so that no sign-in under way escapes.
pub async fn subject(app: &App, sub: &str, except: Option<TokenId>, extent: Extent) -> Result<Ended, RecordError> {
    move_epoch(app, sub).await?;
    device::forget_all(app.store(), sub).await?;
    let all = held(app.store(), sub).await?;
    let kept = |one: &Held| {
        (one.kind == "session" && Some(one.id) == except) || (one.kind == "api-key" && extent == Extent::SignedIn)
    };
    let ending: Vec<&Held> = all.iter().filter(|one| !kept(one)).collect();
    let keys: Vec<Key> = ending.iter().filter_map(|one| key_of(one)).collect();
    let event = entry(Revoked::Subject { sub: sub.to_owned(), except });
    let mut ended = Ended::default();
    ended.add(&app.store().revoke(&keys, TOMBSTONE, &event).await?);
    let index = crate::record::records_of(sub);
    for one in &ending {
        app.store().index_remove(&index, &format!("{}:{}", one.kind, one.id)).await?;
        if one.kind == "api-key" {
            api_key::unlist(app.store(), one.id).await?;
        }
        if one.kind == "session" {
            tell_clients(app, one.id, sub).await;
        }
    }
    app.metrics.revocations.inc();
    Ok(ended)
}

async fn move_epoch(app: &App, sub: &str) -> Result<(), RecordError> {
    for _ in 0..TRIES {
        let Some(user) = user::load(app.store(), sub).await? else { return Ok(()) };
        match user::change(app.store(), &user, Change::default()).await {
            Err(RecordError::Contention) => {}
            other => return other.map(drop),
        }
    }
    Err(RecordError::Contention)
}

/// Ends everything issued to a client.
pub async fn client(app: &App, client_id: &str) -> Result<Ended, StoreError> {
    let all = held(app.store(), client_id).await?;
    let keys: Vec<Key> = all.iter().filter_map(key_of).collect();
    let event = entry(Revoked::Client { client_id: client_id.to_owned() });
    let mut ended = Ended::default();
    ended.add(&app.store().revoke(&keys, TOMBSTONE, &event).await?);
    let index = crate::record::records_of(client_id);
    for one in &all {
        app.store().index_remove(&index, &format!("{}:{}", one.kind, one.id)).await?;
        grants_below(app, one.id, &mut ended).await?;
    }
    app.metrics.revocations.inc();
    Ok(ended)
}

/// A user's profile was changed: every record of the user says so from now on, and sidecars ask again.
pub async fn refresh_profile(app: &App, user: &User) -> Result<(), StoreError> {
    let profile = user.profile();
    for one in held(app.store(), &user.id).await? {
        match one.kind.as_str() {
            "session" => session::set_profile(app.store(), one.id, &profile).await?,
            "grant" => grant::set_profile(app.store(), one.id, &profile).await?,
            "api-key" => api_key::set_profile(app.store(), one.id, &profile).await?,
            _ => continue,
        }
        updated(app, one.id).await?;
    }
    Ok(())
}

/// Tells sidecars to ask again about a record.
pub async fn updated(app: &App, id: TokenId) -> Result<EventId, StoreError> {
    let event = Event::Updated { id };
    app.store().publish(&Entry { name: event.name().to_owned(), data: event.data() }).await
}
