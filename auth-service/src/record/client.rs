//! Registered OAuth clients: third-party applications, gateways, services. Policies are clients too, but live in the registry.

use serde::{Deserialize, Serialize};
use url::Url;

use super::hash::StoredHash;
use crate::store::{Created, Key, Store, StoreError, Update, Updated, from_json, to_json};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Client {
    pub client_id: String,
    /// Shown to people who are asked for consent.
    #[serde(default)]
    pub name: String,
    /// Absent: a public client (RFC 6749 §2.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<StoredHash>,
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
    #[error("name: at most {MAX_NAME} characters, none of them a control character")]
    Name,
    #[error("lists: at most {MAX_LIST} of each, none of them empty, over-long or with a space in it")]
    List,
}

impl Client {
    pub fn is_public(&self) -> bool {
        self.secret.is_none()
    }

    pub fn allows(&self, grant: GrantType) -> bool {
        self.grant_types.contains(&grant)
    }

    /// What was asked for, if all of it is allowed; nothing, if nothing was named: a token can do no more than somebody meant it to.
    pub fn scope_for(&self, asked: Option<&str>) -> Option<String> {
        narrow(&self.scopes, asked)
    }

    pub fn audiences_for(&self, asked: &[String]) -> Option<Vec<String>> {
        if asked.is_empty() {
            return Some(self.audiences.clone());
        }
        asked.iter().all(|one| self.audiences.contains(one)).then(|| asked.to_vec())
    }

    pub fn validate(&self) -> Result<(), InvalidClient> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._~-".contains(&b);
        let id = &self.client_id;
        // A subject of 22 letters and digits is a person; a client must not pass for one (RFC 9068 §5).
        let like_a_person = id.len() == 22 && id.bytes().all(|b| b.is_ascii_alphanumeric());
        if id.is_empty() || id.len() > 128 || !id.bytes().all(plain) || like_a_person {
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
            if !is_redirect_uri(uri) {
                return Err(InvalidClient::RedirectUri(uri.clone()));
            }
        }
        if let Some(uri) = self.backchannel_logout_uri.as_ref()
            && !(uri.starts_with("http") && is_redirect_uri(uri))
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
        Ok(())
    }

    /// Whether the given URI is registered: character by character (RFC 9700 §2.1), but for the port of a loopback address, which a native
    /// application learns only when it starts (RFC 8252 §7.3).
    pub fn may_redirect_to(&self, uri: &str) -> bool {
        is_registered(&self.redirect_uris, uri)
    }

    /// The same for the address after signing out.
    pub fn may_leave_to(&self, uri: &str) -> bool {
        is_registered(&self.post_logout_redirect_uris, uri)
    }
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

fn is_redirect_uri(text: &str) -> bool {
    if text.len() > 2048 || !text.bytes().all(|b| b.is_ascii_graphic()) || text.contains(['#', '\\', '*']) {
        return false;
    }
    let Ok(uri) = Url::parse(text) else { return false };
    match uri.scheme() {
        "https" => uri.host().is_some() && uri.username().is_empty() && uri.password().is_none(),
        "http" => is_loopback(&uri) && uri.username().is_empty() && uri.password().is_none(),
        // RFC 8252 §7.1: a reversed domain name. Schemes that browsers act on have no dot.
        scheme => scheme.contains('.'),
    }
}

fn is_loopback(uri: &Url) -> bool {
    match uri.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(domain)) => domain == "localhost",
        None => false,
    }
}

fn is_registered(registered: &[String], uri: &str) -> bool {
    registered.iter().any(|one| one == uri || same_but_for_loopback_port(one, uri))
}

fn same_but_for_loopback_port(registered: &str, given: &str) -> bool {
    let (Some(registered), Some(given)) = (LoopbackUri::split(registered), LoopbackUri::split(given)) else {
        return false;
    };
    registered == given
}

/// A loopback URI without its port, split as text: what two parsers could read differently does not match at all.
#[derive(PartialEq, Eq)]
struct LoopbackUri<'a> {
    host: &'a str,
    rest: &'a str,
}

impl<'a> LoopbackUri<'a> {
    fn split(uri: &'a str) -> Option<Self> {
        // RFC 8252 §7.3 speaks of address literals; a name could be resolved to somewhere else (§8.3).
        let rest = uri.strip_prefix("http://")?;
        let host = ["127.0.0.1", "[::1]"].into_iter().find(|host| rest.starts_with(host))?;
        let rest = &rest[host.len()..];
        let rest = match rest.strip_prefix(':') {
            Some(port_and_rest) => {
                let digits = port_and_rest.bytes().take_while(u8::is_ascii_digit).count();
                port_and_rest[..digits].parse::<u16>().ok().filter(|port| *port != 0)?;
                &port_and_rest[digits..]
            }
            None => rest,
        };
        (rest.is_empty() || rest.starts_with('/')).then_some(Self { host, rest })
    }
}

pub fn key(id: &str) -> Key {
    Key::new("client", id)
}

fn all() -> Key {
    Key::new("clients", "all")
}

pub async fn create(store: &dyn Store, client: &Client) -> Result<bool, StoreError> {
    let fields = vec![("d".to_owned(), to_json(client))];
    if store.create_durably(&key(&client.client_id), fields, None).await? != Created::Yes {
        return Ok(false);
    }
    store.index_add(&all(), &client.client_id, None, None).await?;
    Ok(true)
}

pub async fn load(store: &dyn Store, id: &str) -> Result<Option<Client>, StoreError> {
    let Some(values) = store.read(&key(id), &["d"]).await? else { return Ok(None) };
    values.into_iter().next().flatten().map(|json| from_json("client", &json)).transpose()
}

pub async fn replace(store: &dyn Store, client: &Client) -> Result<bool, StoreError> {
    let update = Update { set: vec![("d".to_owned(), to_json(client))], ..Update::default() };
    Ok(store.update_durably(&key(&client.client_id), update).await? == Updated::Yes)
}

/// Clients, and how many entries of the index they are.
pub async fn list(store: &dyn Store, offset: usize, limit: usize) -> Result<(Vec<Client>, usize), StoreError> {
    let ids = store.index_list(&all(), offset, limit).await?;
    let clients = futures::future::try_join_all(ids.iter().map(|id| load(store, id))).await?;
    Ok((clients.into_iter().flatten().collect(), ids.len()))
}

pub async fn remove(store: &dyn Store, id: &str) -> Result<bool, StoreError> {
    let existed = store.take(&key(id)).await?.is_some();
    store.index_remove(&all(), id).await?;
    Ok(existed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(uris: &[&str]) -> Client {
        Client {
            client_id: "demo".into(),
            name: String::new(),
            secret: None,
            redirect_uris: uris.iter().map(|uri| (*uri).to_owned()).collect(),
            post_logout_redirect_uris: Vec::new(),
            backchannel_logout_uri: None,
            grant_types: vec![GrantType::AuthorizationCode],
            scopes: vec!["orders".into(), "openid".into()],
            audiences: vec!["shop/web".into()],
            introspects: Vec::new(),
            dpop_bound_access_tokens: false,
            first_party: false,
            require_mfa: false,
        }
    }

    #[test]
    fn redirect_uris_match_character_by_character() {
        let client = client(&["https://app.example.com/callback"]);
        assert!(client.may_redirect_to("https://app.example.com/callback"));
        for other in [
            "https://app.example.com/callback/",
            "https://app.example.com/callback?x=1",
            "https://app.example.com/callback#x",
            "https://app.example.com:443/callback",
            "https://APP.example.com/callback",
            "https://app.example.com/callback/../evil",
            "https://app.example.com.evil.example/callback",
            "https://app.example.com@evil.example/callback",
            "https://evil.example/https://app.example.com/callback",
            "http://app.example.com/callback",
            "//app.example.com/callback",
            "https:/app.example.com/callback",
            "https://app.example.com\\callback",
            " https://app.example.com/callback",
            "https://app.example.com/%63allback",
            "javascript:alert(1)//https://app.example.com/callback",
            "",
        ] {
            assert!(!client.may_redirect_to(other), "{other}");
        }
    }

    #[test]
    fn a_loopback_uri_matches_on_any_port_and_nothing_else() {
        let client = client(&["http://127.0.0.1/callback", "http://[::1]:9/x"]);
        for good in ["http://127.0.0.1:1/callback", "http://127.0.0.1:65535/callback", "http://127.0.0.1/callback"] {
            assert!(client.may_redirect_to(good), "{good}");
        }
        assert!(client.may_redirect_to("http://[::1]:8080/x"));
        for bad in [
            "http://127.0.0.1:0/callback",
            "http://127.0.0.1:65536/callback",
            "http://127.0.0.1:/callback",
            "http://127.0.0.1:80x/callback",
            "http://127.0.0.1:80@evil.example/callback",
            "http://127.0.0.1.evil.example/callback",
            "http://127.0.0.1@evil.example/callback",
            "http://127.0.0.1:1/other",
            "http://127.0.0.1:1/callback?x",
            "http://127.0.0.2:1/callback",
            "http://localhost:1/callback",
            "http://localhost/callback",
            "https://127.0.0.1:1/callback",
            "http://127.1:1/callback",
        ] {
            assert!(!client.may_redirect_to(bad), "{bad}");
        }
    }

    #[test]
    fn a_registered_https_uri_gets_no_leeway_for_its_port() {
        assert!(!client(&["https://app.example.com/cb"]).may_redirect_to("https://app.example.com:8443/cb"));
    }

    #[test]
    fn uris_that_browsers_would_run_or_misread_are_not_registered() {
        for bad in [
            "javascript:alert(1)",
            "data:text/html,x",
            "http://app.example.com/cb",
            "https://u:p@app.example.com/cb",
            "https://app.example.com/cb#x",
            "https://*.example.com/cb",
            "/cb",
            "",
            "https://app.example.com\\@evil",
            "blob:https://x",
            "file:///etc/passwd",
            "https://exa mple.com/",
        ] {
            assert!(client(&[bad]).validate().is_err(), "{bad}");
        }
        for good in ["https://app.example.com/cb?tenant=1", "http://localhost:3000/cb", "com.example.app:/cb"] {
            assert_eq!(client(&[good]).validate(), Ok(()), "{good}");
        }
    }

    #[test]
    fn a_client_gets_no_scope_or_audience_that_it_is_not_allowed() {
        let client = client(&["https://x.example/cb"]);
        assert_eq!(client.scope_for(None).as_deref(), Some(""), "least privilege");
        assert_eq!(client.scope_for(Some("orders orders")).as_deref(), Some("orders"));
        assert_eq!(client.scope_for(Some("orders admin")), None);
        assert_eq!(client.scope_for(Some(" ")), None);
        assert_eq!(client.audiences_for(&["bank/web".into()]), None);
    }

    #[test]
    fn a_client_cannot_pass_for_a_person_or_a_policy() {
        for id in ["", "shop/web", "0123456789ABCDEFGHIJKL", "a b", "a\u{e9}"] {
            let bad = Client { client_id: id.into(), ..client(&["https://x.example/cb"]) };
            assert_eq!(bad.validate(), Err(InvalidClient::Id), "{id}");
        }
    }
}
