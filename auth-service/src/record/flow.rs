//! A sign-in under way: the authorization request as it was checked, kept here so that no URL a browser holds can change it.

use std::time::Duration;

use cloakroom_protocol::token::TokenId;
use serde::{Deserialize, Serialize};

use super::device_grant::UserCode;
use super::hash::StoredHash;
use super::origin::Origin;
use super::reset::Ticket;
use crate::assurance::Proof;
use crate::store::{Created, Key, Store, StoreError, from_json, to_json};

/// How long people may take to sign in.
pub const FLOW_LIFETIME: Duration = Duration::from_secs(1800);
/// How long a pushed request waits for its browser (RFC 9126 §2.2).
pub const PUSHED_LIFETIME: Duration = Duration::from_secs(300);

/// A checked authorization request; `redirect_uri` is a registered one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AuthorizationRequest {
    pub client_id: String,
    /// Policy (session token) or registered client (grant).
    pub for_policy: bool,
    pub redirect_uri: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    pub scope: String,
    #[serde(default)]
    pub aud: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    pub code_challenge: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acr_values: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<u64>,
    #[serde(default)]
    pub prompt: Prompt,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login_hint: Option<String>,
    /// The languages that the client wants its pages in, most wanted first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ui_locales: Option<String>,
    /// The person whom the client expects (`id_token_hint`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub: Option<String>,
    /// Thumbprint of the key that the code is bound to (RFC 9449 §10).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dpop_jkt: Option<String>,
    /// Where the person wanted to go, at a policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub return_to: Option<String>,
}

/// OpenID Connect Core §3.1.2.1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prompt {
    pub none: bool,
    pub login: bool,
    pub consent: bool,
}

/// What signing in leads to.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    Authorize(Box<AuthorizationRequest>),
    Account,
    /// One of the account's pages that change how somebody signs in.
    Settings(Settings),
    /// To say yes or no to a device without a browser (RFC 8628).
    Device {
        user_code: Option<UserCode>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Settings {
    Authenticator,
    RecoveryCodes,
    Password,
    Passkeys,
    Connections,
}

impl Settings {
    pub fn path(self) -> &'static str {
        match self {
            Self::Authenticator => "/account/authenticator",
            Self::RecoveryCodes => "/account/recovery-codes",
            Self::Password => "/account/password",
            Self::Passkeys => "/account/passkeys",
            Self::Connections => "/account/connections",
        }
    }
}

/// Which page a flow is at. A flow is good for that page only: nobody gets past one by taking its id to another.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    #[default]
    SignIn,
    SecondFactor(Box<Entered>),
    Consent,
    Reset(Ticket),
    NewPasskey,
    /// At another provider, from where it comes back once.
    Away(Away),
    /// Everything was asked for, and the person is to read something before going on.
    SignedIn(TokenId),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Away {
    /// Its id in our configuration.
    pub provider: String,
    /// The account that is to be connected with whoever signs in there; absent: that one signs in here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connects: Option<String>,
}

/// A person who has proved something, but not enough.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entered {
    pub sub: String,
    /// Of the user at that time: whatever changes it ends this, too.
    pub epoch: u64,
    pub proof: Proof,
    /// The session that a second factor is to be added to; absent: there is none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elevates: Option<TokenId>,
    /// Whether a trusted browser would not do.
    #[serde(default)]
    pub demanded: bool,
    /// Where the person was signed in first, if not here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Flow {
    pub goal: Goal,
    /// Hash of the cookie of the browser that began it: nobody else's can go on.
    pub browser: StoredHash,
    /// Unix seconds.
    pub started: u64,
    #[serde(default)]
    pub stage: Stage,
}

fn key(id: &str) -> Key {
    Key::new("flow", id)
}

fn pushed_key(id: &str) -> Key {
    Key::new("pushed", id)
}

/// Ids come from URLs: anything but our own alphabet is no id.
fn is_id(id: &str) -> bool {
    id.len() == crate::random::SECRET_LEN && id.bytes().all(|b| b.is_ascii_alphanumeric())
}

async fn write(store: &dyn Store, key: &Key, json: String, ttl: Duration) -> Result<(), StoreError> {
    match store.create(key, vec![("d".to_owned(), json)], Some(ttl)).await? {
        Created::Yes => Ok(()),
        Created::Exists | Created::Dead => {
            Err(StoreError::Corrupt("an id of 256 random bits was there before".to_owned()))
        }
    }
}

pub async fn create(store: &dyn Store, id: &str, flow: &Flow) -> Result<(), StoreError> {
    write(store, &key(id), to_json(flow), FLOW_LIFETIME).await
}

pub async fn load(store: &dyn Store, id: &str) -> Result<Option<Flow>, StoreError> {
    if !is_id(id) {
        return Ok(None);
    }
    let values = store.read(&key(id), &["d"]).await?;
    values.and_then(|mut values| values.pop().flatten()).map(|json| from_json("flow", &json)).transpose()
}

/// Ends it; `false`: somebody else did before.
pub async fn finish(store: &dyn Store, id: &str) -> Result<bool, StoreError> {
    Ok(is_id(id) && store.take(&key(id)).await?.is_some())
}

pub async fn push(store: &dyn Store, id: &str, request: &AuthorizationRequest) -> Result<(), StoreError> {
    write(store, &pushed_key(id), to_json(request), PUSHED_LIFETIME).await
}

/// One-time use (RFC 9126 §4): taken when the browser brings it.
pub async fn take_pushed(store: &dyn Store, id: &str) -> Result<Option<AuthorizationRequest>, StoreError> {
    if !is_id(id) {
        return Ok(None);
    }
    let Some(mut fields) = store.take(&pushed_key(id)).await? else { return Ok(None) };
    fields.remove("d").map(|json| from_json("pushed request", &json)).transpose()
}
