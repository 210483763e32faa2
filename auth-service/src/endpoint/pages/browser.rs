//! What a browser brings and takes away, in cookies: one that proves that a form came from our page, one that is the sign-in; one by which
//! it is trusted with a password only, and one that says whose it was before.

use std::net::IpAddr;
use std::sync::Arc;

use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use cloakroom_protocol::token::{OpaqueToken, TokenId, TokenKind};
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderValue, header};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::error::PageError;
use crate::app::App;
use crate::form::Parameters;
use crate::keys::seal::Sealed;
use crate::messages::{Language, say};
use crate::random::SECRET_LEN;
use crate::record::hash::StoredHash;
use crate::record::session::{self, Session, Terms};

/// Bound to this host by its prefix (RFC 6265bis §4.1.3): no neighbour can set it.
pub const SSO_COOKIE: &str = "__Host-cloakroom-sso";
pub const BROWSER_COOKIE: &str = "__Host-cloakroom-browser";
const DEVICE_COOKIE: &str = "__Host-cloakroom-device";
const KNOWN_COOKIE: &str = "__Host-cloakroom-known";

const ATTRIBUTES: &str = "Path=/; Secure; HttpOnly; SameSite=Lax";
const KNOWN: &str = "known browser";
/// The longest that browsers keep a cookie (RFC 6265bis §5.6.2), 400 days.
const LONGEST: u64 = 34_560_000;
const MAX_USER_AGENT: usize = 256;
const TOKEN_ID_LEN: usize = 22;

pub struct Browser {
    sso: Option<OpaqueToken>,
    /// Random, this browser's own.
    secret: String,
    device: Option<String>,
    known: Option<String>,
    address: IpAddr,
    user_agent: String,
    language: Arc<Language>,
    set: Vec<String>,
}

impl Browser {
    pub fn of(app: &App, headers: &HeaderMap, address: IpAddr) -> Self {
        let sso = cookie(headers, SSO_COOKIE).and_then(|text| OpaqueToken::parse(text.as_bytes()).ok());
        let known = cookie(headers, BROWSER_COOKIE)
            .filter(|secret| secret.len() == SECRET_LEN && secret.bytes().all(|b| b.is_ascii_alphanumeric()));
        let mut set = Vec::new();
        let secret = known.map_or_else(
            || {
                let secret = app.random.secret();
                set.push(format!("{BROWSER_COOKIE}={secret}; {ATTRIBUTES}"));
                secret
            },
            str::to_owned,
        );
        let user_agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        Self {
            sso: sso.filter(|token| token.kind() == TokenKind::Session),
            secret,
            device: cookie(headers, DEVICE_COOKIE).map(str::to_owned),
            known: cookie(headers, KNOWN_COOKIE).map(str::to_owned),
            address,
            user_agent: user_agent.chars().take(MAX_USER_AGENT).collect(),
            language: language(app, headers),
            set,
        }
    }

    /// A form that this browser sent from a page of ours: `purpose` says what the page's token was made for.
    pub fn form(
        app: &App,
        headers: &HeaderMap,
        address: IpAddr,
        body: &Bytes,
        purpose: impl FnOnce(&Parameters) -> String,
    ) -> Result<(Self, Parameters), PageError> {
        let form = Parameters::parse(body).map_err(|error| PageError::Malformed(error.to_string()))?;
        let browser = Self::of(app, headers, address);
        if !is_from_us(app, headers) || !browser.proves(&purpose(&form), form.get("csrf")) {
            return Err(PageError::BadRequest(say::sorry_form_not_ours()));
        }
        Ok((browser, form))
    }

    pub fn address(&self) -> IpAddr {
        self.address
    }

    pub fn user_agent(&self) -> &str {
        &self.user_agent
    }

    /// What its person reads.
    pub fn language(&self) -> &Arc<Language> {
        &self.language
    }

    /// By which record this browser may be trusted: an id, and the hash of its secret.
    pub fn device(&self) -> Option<(TokenId, StoredHash)> {
        let text = self.device.as_deref().filter(|text| text.len() == TOKEN_ID_LEN + SECRET_LEN && text.is_ascii())?;
        let (id, secret) = text.split_at(TOKEN_ID_LEN);
        Some((id.parse().ok()?, StoredHash::of_secret(secret)))
    }

    /// Which browser of this person's it is, if the person has signed in with it before. Sealed by us: nobody makes one up.
    pub fn known_to(&self, app: &App, sub: &str) -> Option<String> {
        let sealed = URL_SAFE_NO_PAD.decode(self.known.as_deref()?).ok()?;
        let sealed: Sealed = serde_json::from_slice(&sealed).ok()?;
        let plain = app.ring.sealer().open(KNOWN, &sealed).ok()?;
        let (whose, which) = std::str::from_utf8(&plain).ok()?.split_once(' ')?;
        (whose == sub).then(|| which.to_owned())
    }

    /// The session that this browser is signed in with.
    pub async fn session(&self, app: &App) -> Result<Option<Session>, PageError> {
        let Some(token) = &self.sso else { return Ok(None) };
        let session = session::load(app.store(), token.id()).await?;
        let hash = StoredHash::from(token.secret_hash());
        let config = &app.config.session;
        let now = app.now();
        Ok(session.filter(|session| {
            // Idle time as the longest of the apps in use allows; each app applies its own again.
            let terms = Terms { idle: config.idle_seconds.max(session.longest_idle), absolute: u64::MAX };
            session.facts.sso.matches(&hash) && session.is_within(terms, now)
        }))
    }

    pub fn hash(&self) -> StoredHash {
        StoredHash::of_secret(&self.secret)
    }

    /// CSRF token of a form: only a page that this browser got can have it.
    pub fn form_token(&self, purpose: &str) -> String {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.secret.as_bytes()) else {
            unreachable!("HMAC takes keys of any length (RFC 2104 §2)")
        };
        mac.update(purpose.as_bytes());
        URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
    }

    pub fn proves(&self, purpose: &str, token: Option<&str>) -> bool {
        token.is_some_and(|token| self.form_token(purpose).as_bytes().ct_eq(token.as_bytes()).into())
    }

    /// Signed in: the browser's secret changes too, so that nothing from before the sign-in is worth anything after it.
    pub fn signed_in(mut self, app: &App, sub: &str, token: &OpaqueToken) -> Result<Self, PageError> {
        let known_before = self.known_to(app, sub).is_some();
        self.secret = app.random.secret();
        self.sso = Some(token.clone());
        self.set.retain(|cookie| !cookie.starts_with(BROWSER_COOKIE));
        self.set.push(format!("{SSO_COOKIE}={}; {ATTRIBUTES}", token.expose()));
        self.set.push(format!("{BROWSER_COOKIE}={}; {ATTRIBUTES}", self.secret));
        if !known_before {
            let plain = format!("{sub} {}", app.random.secret());
            let sealed = app.ring.sealer().seal(KNOWN, plain.as_bytes(), &app.random);
            let sealed = sealed.map_err(|error| PageError::Internal(error.to_string()))?;
            let text = URL_SAFE_NO_PAD.encode(crate::store::to_json(&sealed));
            self.set.push(format!("{KNOWN_COOKIE}={text}; {ATTRIBUTES}; Max-Age={LONGEST}"));
        }
        Ok(self)
    }

    /// From now on this browser is trusted by that record.
    pub fn trust(&mut self, id: TokenId, secret: &str, seconds: u64) {
        self.set.push(format!("{DEVICE_COOKIE}={id}{secret}; {ATTRIBUTES}; Max-Age={}", seconds.min(LONGEST)));
    }

    #[must_use]
    pub fn forget_session(mut self) -> Self {
        self.sso = None;
        self.set.push(format!("{SSO_COOKIE}=; {ATTRIBUTES}; Max-Age=0"));
        self
    }

    /// Puts the cookies onto a response.
    pub fn answer(self, mut response: Response) -> Response {
        for cookie in self.set {
            if let Ok(value) = HeaderValue::from_str(&cookie) {
                response.headers_mut().append(header::SET_COOKIE, value);
            }
        }
        response
    }
}

/// The cookie, if there is just one of that name: two could be somebody's attempt to have his own believed.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut found = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(given, _)| *given == name)
        .map(|(_, value)| value);
    let first = found.next()?;
    if found.next().is_some() { None } else { Some(first) }
}

/// The language that a browser asks for.
pub fn language(app: &App, headers: &HeaderMap) -> Arc<Language> {
    app.messages.accepted(headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok()))
}

/// A form that another site sent is refused even if it had the token. Browsers without these headers are judged by the token alone.
fn is_from_us(app: &App, headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).map(HeaderValue::as_bytes);
    text("origin").is_none_or(|origin| origin == app.config.issuer.as_bytes())
        && text("sec-fetch-site").is_none_or(|site| matches!(site, b"same-origin" | b"none"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_cookies_of_one_name_none_is_believed() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("a=1; __Host-cloakroom-sso=x"));
        assert_eq!(cookie(&headers, SSO_COOKIE), Some("x"));
        headers.append(header::COOKIE, HeaderValue::from_static("__Host-cloakroom-sso=y"));
        assert_eq!(cookie(&headers, SSO_COOKIE), None);
        assert_eq!(cookie(&headers, "cloakroom-sso"), None);
    }
}
