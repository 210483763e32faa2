//! Registered OAuth clients: third-party applications, gateways, services. Policies are clients too, but live in the registry.

pub mod of_resource;
pub mod redirect_uri;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::hash::{Before, StoredHash};
use super::registered::{self, Registered, Way};
use crate::jwks::KeySet;
use crate::keys::Algorithm;
use crate::store::{Created, Key, Store, StoreError, Update, Updated, from_json, to_json};
use of_resource::OfResource;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Client {
    pub client_id: String,
    /// Shown to people who are asked for consent.
    #[serde(default)]
    pub name: String,
    /// Absent: it has keys, or is a public client (RFC 6749 §2.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<StoredHash>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Before>,
    /// The public keys that it authenticates by, as a JWK set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks: Option<Value>,
    #[serde(default)]
    pub redirect_uris: Vec<String>,
    #[serde(default)]
    pub post_logout_redirect_uris: Vec<String>,
    /// Where it wants to be told that somebody has signed out (OpenID Connect Back-Channel Logout §2.2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backchannel_logout_uri: Option<String>,
    #[serde(default)]
    pub grant_types: Vec<GrantType>,
    /// Scopes it may ask for.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// Audiences its tokens may be for.
    #[serde(default)]
    pub audiences: Vec<String>,
    /// Audiences it answers for, whose tokens it may introspect: a gateway or resource server.
    #[serde(default)]
    pub introspects: Vec<String>,
    /// Every access token is bound to a key of the client's (RFC 9449 §5.2).
    #[serde(default)]
    pub dpop_bound_access_tokens: bool,
    /// The organisation's own: no consent page.
    #[serde(default)]
    pub first_party: bool,
    /// People sign in to it with two factors, whatever it asks for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub require_mfa: bool,
    /// What its ID tokens are signed with; absent: what everything is (OpenID Connect Registration §2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id_token_signed_response_alg: Option<Algorithm>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registered: Option<Registered>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<OfResource>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GrantType {
    AuthorizationCode,
    RefreshToken,
    ClientCredentials,
    #[serde(rename = "urn:ietf:params:oauth:grant-type:device_code", alias = "device_code")]
    DeviceCode,
    #[serde(rename = "urn:ietf:params:oauth:grant-type:token-exchange", alias = "token_exchange")]
    TokenExchange,
}

impl GrantType {
    pub const ALL: [Self; 5] =
        [Self::AuthorizationCode, Self::RefreshToken, Self::ClientCredentials, Self::DeviceCode, Self::TokenExchange];

    /// Those of clients that registered themselves. A device's page has no address to show, so that a name that nobody has checked would be
    /// all that people could judge by; the others are for programs that somebody trusts.
    pub const REGISTERED: [Self; 2] = [Self::AuthorizationCode, Self::RefreshToken];

    /// `grant_type` at the token endpoint.
    pub fn name(self) -> &'static str {
        match self {
            Self::AuthorizationCode => "authorization_code",
            Self::RefreshToken => "refresh_token",
            Self::ClientCredentials => "client_credentials",
            Self::DeviceCode => "urn:ietf:params:oauth:grant-type:device_code",
            Self::TokenExchange => "urn:ietf:params:oauth:grant-type:token-exchange",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }
}

const MAX_NAME: usize = 256;
const MAX_LIST: usize = 100;
const MAX_KEYS: usize = 10;
/// Bytes of all of a client's keys.
const MAX_JWKS: usize = 16 << 10;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidClient {
    #[error("a client id is 1 to 128 of A-Z a-z 0-9 . _ ~ - and neither a policy's name nor an id of ours")]
    Id,
    #[error(
        "redirect URI {0:?}: absolute, without fragment; https, or http on a loopback address, or a scheme of your own with a dot in it"
    )]
    RedirectUri(String),
    #[error("backchannel_logout_uri {0:?}: https, or http on a loopback address, without fragment")]
    BackchannelLogoutUri(String),
    #[error("{0:?} is not a scope (RFC 6749 §3.3)")]
    Scope(String),
    #[error("a public client can use neither client_credentials nor token exchange")]
    PublicClientCredentials,
    #[error("authorization_code needs a redirect URI")]
    NoRedirectUri,
    #[error(
        "jwks: 1 to {MAX_KEYS} public keys (RSA, P-256, P-384, Ed25519), with a kid if there are several, none of them private; instead of a secret"
    )]
    Keys,
    #[error("name: at most {MAX_NAME} characters, none of them a control character")]
    Name,
    #[error(
        "a client that registered itself is a third party: no first_party, no introspects, no grants but authorization_code and refresh_token"
    )]
    Registered,
    #[error("lists: at most {MAX_LIST} of each, none of them empty, over-long or with a space in it")]
    List,
}

impl Client {
    pub fn is_public(&self) -> bool {
        self.secret.is_none() && self.jwks.is_none()
    }

    pub fn allows(&self, grant: GrantType) -> bool {
        self.grant_types.contains(&grant)
    }

    /// Whoever made it is not an administrator: what it says of itself, and its addresses, may be other ones tomorrow.
    pub fn is_strangers(&self) -> bool {
        self.registered.is_some() || self.of.is_some()
    }

    /// Whether a secret is the client's: the present one, or the one before while a rotation overlaps.
    pub fn is_secret(&self, given: &StoredHash, now: u64) -> bool {
        // Both are compared, so that time does not tell which one it was.
        let present = self.secret.as_ref().is_some_and(|secret| secret.matches(given));
        let before = self.before.as_ref().is_some_and(|before| before.secret.matches(given) && now < before.until);
        present || before
    }

    /// What was asked for, if all of it is allowed; nothing, if nothing was named: a token can do no more than somebody meant it to.
    pub fn scope_for(&self, asked: Option<&str>) -> Option<String> {
        narrow(&self.scopes, asked)
    }

    pub fn validate(&self) -> Result<(), InvalidClient> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._~-".contains(&b);
        let id = &self.client_id;
        // A subject of 22 letters and digits is a person; a client must not pass for one (RFC 9068 §5).
        let like_a_person = id.len() == 22 && id.bytes().all(|b| b.is_ascii_alphanumeric());
        let named = match &self.of {
            Some(of) => *id == of.resource.client_id(),
            None => id.bytes().all(plain),
        };
        if id.is_empty() || id.len() > 128 || !named || like_a_person {
            return Err(InvalidClient::Id);
        }
        if self.name.chars().count() > MAX_NAME || self.name.chars().any(char::is_control) {
            return Err(InvalidClient::Name);
        }
        let lists =
            [&self.redirect_uris, &self.post_logout_redirect_uris, &self.scopes, &self.audiences, &self.introspects];
        if self.grant_types.len() > 10 || !lists.into_iter().all(|list| is_list(list)) {
            return Err(InvalidClient::List);
        }
        for uri in self.redirect_uris.iter().chain(&self.post_logout_redirect_uris) {
            if !redirect_uri::is_acceptable(uri) {
                return Err(InvalidClient::RedirectUri(uri.clone()));
            }
        }
        if let Some(uri) = self.backchannel_logout_uri.as_ref()
            && !(uri.starts_with("http") && redirect_uri::is_acceptable(uri))
        {
            return Err(InvalidClient::BackchannelLogoutUri(uri.clone()));
        }
        if let Some(scope) = self.scopes.iter().find(|scope| !is_scope(scope)) {
            return Err(InvalidClient::Scope(scope.clone()));
        }
        let by_itself = self.allows(GrantType::ClientCredentials) || self.allows(GrantType::TokenExchange);
        if self.is_public() && by_itself {
            return Err(InvalidClient::PublicClientCredentials);
        }
        if self.allows(GrantType::AuthorizationCode) && self.redirect_uris.is_empty() {
            return Err(InvalidClient::NoRedirectUri);
        }
        if self.jwks.as_ref().is_some_and(|jwks| self.secret.is_some() || !are_keys(jwks)) {
            return Err(InvalidClient::Keys);
        }
        let third_party = !self.first_party
            && self.introspects.is_empty()
            && self.grant_types.iter().all(|grant| GrantType::REGISTERED.contains(grant));
        if self.registered.is_some() && !third_party {
            return Err(InvalidClient::Registered);
        }
        Ok(())
    }

    /// Whether the given URI is registered.
    pub fn may_redirect_to(&self, uri: &str) -> bool {
        redirect_uri::is_registered(&self.redirect_uris, uri)
    }

    /// The same for the address after signing out.
    pub fn may_leave_to(&self, uri: &str) -> bool {
        redirect_uri::is_registered(&self.post_logout_redirect_uris, uri)
    }
}

fn are_keys(jwks: &Value) -> bool {
    let few = jwks["keys"].as_array().is_some_and(|keys| keys.len() <= MAX_KEYS);
    few && to_json(jwks).len() <= MAX_JWKS && KeySet::of_client(jwks).is_some()
}

/// Bounded in number and length. An audience has no spaces: lists of them are space separated elsewhere.
fn is_list(list: &[String]) -> bool {
    list.len() <= MAX_LIST && list.iter().all(|one| !one.is_empty() && one.len() <= 2048 && !one.contains([' ', '\0']))
}

/// Space separated scopes, each of them allowed, each once.
fn narrow(allowed: &[String], asked: Option<&str>) -> Option<String> {
    let Some(asked) = asked.filter(|asked| !asked.is_empty()) else { return Some(String::new()) };
    let mut scopes: Vec<&str> = Vec::new();
    for scope in asked.split(' ') {
        if !allowed.iter().any(|one| one == scope) {
            return None;
        }
        if !scopes.contains(&scope) {
            scopes.push(scope);
        }
    }
    Some(scopes.join(" "))
}

pub fn is_scope(text: &str) -> bool {
    !text.is_empty() && text.len() <= 128 && text.bytes().all(|b| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
}

/// What people know a client by: without a name, or when it is gone, its id.
pub fn shown_name(client: Option<&Client>, id: &str) -> String {
    client.map(|client| client.name.as_str()).filter(|name| !name.is_empty()).unwrap_or(id).to_owned()
}

pub fn key(id: &str) -> Key {
    Key::new("client", id)
}

fn all() -> Key {
    Key::new("clients", "all")
}

/// With a life, it is forgotten at its end.
pub async fn create(store: &dyn Store, client: &Client, life: Option<Duration>) -> Result<bool, StoreError> {
    let fields = vec![("d".to_owned(), to_json(client))];
    if store.create_durably(&key(&client.client_id), fields, life).await? != Created::Yes {
        return Ok(false);
    }
    enlist(store, client, life).await?;
    Ok(true)
}

/// Puts it where it is found by whoever lists clients.
pub async fn enlist(store: &dyn Store, client: &Client, life: Option<Duration>) -> Result<(), StoreError> {
    let of_its_way = client.registered.as_ref().map(|registered| registered::index(registered.way()));
    for index in of_its_way.into_iter().chain([all()]) {
        store.index_add(&index, &client.client_id, life, None).await?;
    }
    Ok(())
}

pub async fn load(store: &dyn Store, id: &str) -> Result<Option<Client>, StoreError> {
    Ok(load_with_text(store, id).await?.map(|(client, _)| client))
}

/// And as it is stored, for [`replace`].
pub async fn load_with_text(store: &dyn Store, id: &str) -> Result<Option<(Client, String)>, StoreError> {
    let Some(values) = store.read(&key(id), &["d", "u"]).await? else { return Ok(None) };
    let mut values = values.into_iter();
    let (Some(text), last_used) = (values.next().flatten(), values.next().flatten()) else { return Ok(None) };
    let mut client: Client = from_json("client", &text)?;
    if let Some(registered) = &mut client.registered {
        registered.last_used = last_used.as_deref().map(|json| from_json("client use", json)).transpose()?;
    }
    Ok(Some((client, text)))
}

/// Unless somebody else has changed it since it was loaded, or removed it.
pub async fn replace(store: &dyn Store, client: &Client, before: String) -> Result<Updated, StoreError> {
    let update = Update {
        require: vec![("d".to_owned(), Some(before))],
        set: vec![("d".to_owned(), to_json(client))],
        ..Update::default()
    };
    store.update_durably(&key(&client.client_id), update).await
}

/// Clients, and how many entries of the index they are; all, or those that registered themselves in one way.
pub async fn list(
    store: &dyn Store,
    way: Option<Way>,
    offset: usize,
    limit: usize,
) -> Result<(Vec<Client>, usize), StoreError> {
    let index = way.map_or_else(all, registered::index);
    let ids = store.index_list(&index, offset, limit).await?;
    let clients = futures::future::try_join_all(ids.iter().map(|id| load(store, id))).await?;
    Ok((clients.into_iter().flatten().collect(), ids.len()))
}

pub async fn remove(store: &dyn Store, id: &str) -> Result<bool, StoreError> {
    let existed = store.take(&key(id)).await?.is_some();
    for index in [all(), registered::index(Way::Open), registered::index(Way::Token)] {
        store.index_remove(&index, id).await?;
    }
    Ok(existed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(uris: &[&str]) -> Client {
        Client {
            client_id: "demo".into(),
            redirect_uris: uris.iter().map(|uri| (*uri).to_owned()).collect(),
            grant_types: vec![GrantType::AuthorizationCode],
            scopes: vec!["orders".into(), "openid".into()],
            audiences: vec!["shop/web".into()],
            ..Client::default()
        }
    }

    #[test]
    fn a_client_gets_no_scope_that_it_is_not_allowed() {
        let client = client(&["https://x.example/cb"]);
        assert_eq!(client.scope_for(None).as_deref(), Some(""), "least privilege");
        assert_eq!(client.scope_for(Some("orders orders")).as_deref(), Some("orders"));
        assert_eq!(client.scope_for(Some("orders admin")), None);
        assert_eq!(client.scope_for(Some(" ")), None);
    }

    #[test]
    fn a_client_cannot_pass_for_a_person_a_policy_or_a_namespace_s_client() {
        for id in ["", "shop/web", "0123456789ABCDEFGHIJKL", "a b", "a\u{e9}", "web@shop"] {
            let bad = Client { client_id: id.into(), ..client(&["https://x.example/cb"]) };
            assert_eq!(bad.validate(), Err(InvalidClient::Id), "{id}");
        }
        let of = OfResource { resource: "shop/web".parse().unwrap(), uid: "1".into() };
        for (id, is_right) in [("web@shop", true), ("other@shop", false), ("web@bank", false), ("web", false)] {
            let one = Client { client_id: id.into(), of: Some(of.clone()), ..client(&["https://x.example/cb"]) };
            assert_eq!(one.validate().is_ok(), is_right, "{id}");
        }
    }

    #[test]
    fn two_secrets_are_good_while_a_rotation_overlaps() {
        let secret = StoredHash::of_secret;
        let mut client = client(&["https://x.example/cb"]);
        assert!(!client.is_secret(&secret(""), 0), "a public client has none");
        client.secret = Some(secret("new"));
        client.before = Some(Before { secret: secret("old"), until: 100 });
        for (given, now, is_right) in [("new", 1000, true), ("old", 99, true), ("old", 100, false), ("other", 0, false)]
        {
            assert_eq!(client.is_secret(&secret(given), now), is_right, "{given} at {now}");
        }
    }
}
